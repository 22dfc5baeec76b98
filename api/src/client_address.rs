//! The address of a request's client, also behind proxies.

use std::net::{IpAddr, SocketAddr};

use companion::settings::Network;
use warp::http::HeaderMap;

/// The address at the other end of a request's connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Returns the client's address: the peer's, unless that is a trusted proxy, which names it in `X-Forwarded-For`.
///
/// The header is read from its end, where the nearest proxy writes: the first address that is not itself a trusted proxy is
/// the client's. A client can write anything before that.
pub(crate) fn client_address(peer: Option<Peer>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let mut address = peer?.0.ip().to_canonical();
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut hops = forwarded.iter().rev().flat_map(|value| value.rsplit(','));
    while trusted.iter().any(|network| network.contains(&address)) {
        let Some(hop) = hops.next().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) else { break };
        address = hop.to_canonical();
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network")).into();
        let seen = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().expect("a header"));
            }
            let peer = Some(Peer(SocketAddr::new(peer.parse().expect("an address"), 1)));
            client_address(peer, &headers, &trusted).expect("an address").to_string()
        };
        assert_eq!(seen("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(seen("::ffff:10.0.0.1", &["1.2.3.4, 198.51.100.7, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["1.2.3.4", "198.51.100.7, fd00::2"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7, nonsense"]), "10.0.0.1");
    }
}
