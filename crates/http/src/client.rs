//! Who is on the other side.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use doorward_core::Caller;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// What the host knows of the other side of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// Its address, by [`client_address`].
    pub address: Option<IpAddr>,
}

impl Client {
    /// What the log of events is told of a request.
    #[must_use]
    pub fn caller(self, headers: &HeaderMap) -> Caller {
        Caller {
            address: self.address,
            agent: agent(headers).map(Into::into),
            ..Caller::default()
        }
    }
}

/// The `User-Agent`, cut off.
pub(crate) fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    agent.map(|agent| String::from_utf8_lossy(agent).chars().take(256).collect())
}

/// The client's address: the peer's, or, if that is a trusted proxy, the last one in
/// `X-Forwarded-For` that is none.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut last = peer;
    let lists: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    // As bytes: what a client wrote before its address must not hide it.
    let hops = lists
        .iter()
        .rev()
        .flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        // What is no address was written by nobody we trust: the hop after it counts.
        let Some(address) = std::str::from_utf8(hop).ok().and_then(address) else {
            return last;
        };
        last = address;
        if !is_trusted(last) {
            return last;
        }
    }
    last
}

/// An address as peers and proxies write it: perhaps with a port (Azure, IIS), an IPv6 one then in
/// brackets, or with a zone, which says nothing beyond its own machine.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_zone = || {
        let (address, zone) = text.split_once('%')?;
        let is_plain = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let address: Ipv6Addr = address.parse().ok().filter(|_| is_plain)?;
        Some(IpAddr::V6(address))
    };
    let found = plain.or_else(with_port).or_else(in_brackets);
    found
        .or_else(with_zone)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            let value = HeaderValue::from_bytes(value.as_bytes());
            headers.append("x-forwarded-for", value.unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(of("9.9.9.9", &["1.2.3.4"], &[]), "9.9.9.9");
        assert_eq!(of("9.9.9.9", &["1.2.3.4"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(of("10.0.0.1", &["1.2.3.4"], &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(
            of("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"], &["10.0.0.0/8"]),
            "1.2.3.4"
        );
        assert_eq!(
            of("10.0.0.1", &["6.6.6.6", "1.2.3.4"], &["10.0.0.0/8"]),
            "1.2.3.4"
        );
        assert_eq!(
            of("10.0.0.1", &["1.2.3.4, nonsense"], &["10.0.0.0/8"]),
            "10.0.0.1"
        );
        assert_eq!(
            of("::ffff:10.0.0.1", &["1.2.3.4"], &["10.0.0.0/8"]),
            "1.2.3.4"
        );
    }

    #[test]
    fn what_a_client_writes_before_its_address_does_not_hide_it() {
        for written in [
            "\u{e9}",
            "\u{ff0c}",
            "1.2.3.4\u{a0}",
            "\t",
            "",
            ",,,",
            "unknown",
        ] {
            let list = format!("{written}, 9.9.9.9");
            assert_eq!(of("10.0.0.1", &[&list], &["10.0.0.0/8"]), "9.9.9.9");
        }
        let many = "6.6.6.6, ".repeat(3000) + "9.9.9.9";
        assert_eq!(of("10.0.0.1", &[&many], &["10.0.0.0/8"]), "9.9.9.9");
        let trusted = vec!["10.0.0.2"; 3000].join(",");
        assert_eq!(of("10.0.0.1", &[&trusted], &["10.0.0.0/8"]), "10.0.0.2");
    }

    #[test]
    fn an_address_may_have_a_port_or_a_zone() {
        for (text, wanted) in [
            ("1.2.3.4", "1.2.3.4"),
            (" 1.2.3.4:567 ", "1.2.3.4"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(address(text), wanted.parse().ok(), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "1.2.3.4%eth0",
            "fe80::1%",
            "fe80::1%a b",
            "for=1.2.3.4",
            "[1.2.3.4",
            "0x7f.1",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
