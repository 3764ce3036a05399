//! What settings give away together with the addresses that the server listens on.

use std::net::{IpAddr, SocketAddr};

use doorward_core::Delivery;
use doorward_http::Settings;

/// Why `cookie_secure` may be off on one machine only.
pub(crate) const IN_THE_CLEAR: &str = "is off, so that browsers send the cookies without TLS too, to whoever is on the way: switch it on \
    (a proxy before the server may do the TLS), or listen on 127.0.0.1 without TLS for a trial";

const OPERATOR: &str = "operator_listen is an address that others may reach: it tells them of health and load, and asks nobody \
    who they are; let it be 127.0.0.1:9080, or keep others away by a firewall";

/// Whether cookies may travel without TLS, beyond a trial on one machine.
pub(crate) fn is_in_the_clear(settings: &Settings, listen: SocketAddr, tls: bool) -> bool {
    let cookies = settings.delivery.contains(&Delivery::Cookie);
    cookies && !settings.cookie_secure && (tls || !listen.ip().is_loopback())
}

/// What may be right but seldom is.
pub(crate) fn advice(operator: Option<SocketAddr>) -> Option<&'static str> {
    let exposed = operator.is_some_and(|address| is_public(address.ip()));
    exposed.then_some(OPERATOR)
}

/// Whether it may be reached from beyond the machine and its private networks.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_private_networks_are_not_public() {
        for (address, public) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("10.1.2.3", false),
            ("192.168.0.7", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("9.9.9.9", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
