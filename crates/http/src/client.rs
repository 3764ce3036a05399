//! Who is on the other side.

use std::net::IpAddr;

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
    let hops = lists
        .iter()
        .rev()
        .flat_map(|list| list.to_str().unwrap_or("?").rsplit(','));
    for hop in hops {
        // What is no address was written by nobody we trust: the hop after it counts.
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            return last;
        };
        last = address.to_canonical();
        if !is_trusted(last) {
            return last;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
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
}
