//! From where a request comes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};

/// The header in which reverse proxies tell for whom they ask; each adds an address at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the address that a request comes from; `None` without a connection. What a request says about itself is believed only
/// from proxies that are trusted.
pub(crate) fn address(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let mut address = peer.ip().to_canonical();
    let told = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = told.flat_map(|value| value.split(',')).map(str::trim).collect();
    // From the end: what stands before the address that the last trusted proxy saw, anybody can have written.
    for hop in hops.into_iter().rev() {
        if !trusted.iter().any(|proxy| proxy.to_canonical() == address) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(hop) => address = hop.to_canonical(),
            Err(_) => break,
        }
    }
    Some(address)
}

/// Returns the network that counts as one caller: an address of IPv4, or the 64 bits of IPv6 that one subscriber has.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: Vec<IpAddr> = trusted.iter().map(|address| address.parse().unwrap()).collect();
        address(&extensions, &headers, &trusted).unwrap().to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_says_who_calls() {
        assert_eq!(seen("9.9.9.9", &["1.1.1.1"], &[]), "9.9.9.9");
        assert_eq!(seen("9.9.9.9", &["1.1.1.1"], &["10.0.0.2"]), "9.9.9.9");
        assert_eq!(seen("10.0.0.2", &["1.1.1.1"], &["10.0.0.2"]), "1.1.1.1");
        assert_eq!(seen("::ffff:10.0.0.2", &["1.1.1.1"], &["10.0.0.2"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.2", &["1.1.1.1"], &["::ffff:10.0.0.2"]), "1.1.1.1", "however it is written");
    }

    #[test]
    fn what_a_caller_wrote_before_the_proxy_is_not_believed() {
        assert_eq!(seen("10.0.0.2", &["6.6.6.6, 1.1.1.1"], &["10.0.0.2"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.2", &["6.6.6.6", "1.1.1.1, 10.0.0.3"], &["10.0.0.2", "10.0.0.3"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.2", &["nonsense"], &["10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_caller() {
        let one = network("2001:db8:1:2:3:4:5:6".parse().unwrap());
        assert_eq!(one, network("2001:db8:1:2:ffff::1".parse().unwrap()));
        assert_ne!(one, network("2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(network("1.2.3.4".parse().unwrap()).to_string(), "1.2.3.4");
    }
}
