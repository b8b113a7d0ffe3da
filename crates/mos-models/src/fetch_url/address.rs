//! Which hosts and addresses may be asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The internet.
    Public,
    /// This machine or a private network: asked only when it is named.
    Private(&'static str),
    /// Never asked.
    Never(&'static str),
}

/// The address under which Azure's machines find their metadata; it looks public.
const AZURE_METADATA: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Returns what an address leads to.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        _ if address == AZURE_METADATA => Reach::Never("a metadata address"),
        (127, ..) => Reach::Private("an address of this machine"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Reach::Private("an address of a private network"),
        (169, 254, _) => Reach::Never("a link-local or metadata address"),
        (100, 64..=127, _) => Reach::Never("an address that carriers share"),
        (0, ..) => Reach::Never("an unspecified address"),
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) => {
            Reach::Never("an address for special purposes")
        }
        (224..=239, ..) => Reach::Never("a multicast address"),
        (240..=255, ..) => Reach::Never("a reserved address"),
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_loopback() {
        return Reach::Private("an address of this machine");
    }
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // An IPv4 address in another writing, or behind a translator.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // Tunnels into networks that are not known here.
        [0x2002, ..] | [0x2001, 0, ..] => Reach::Never("an address of a tunnel"),
        [0x2001, 0xdb8, ..] => Reach::Never("an address for special purposes"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Reach::Private("an address of a private network"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Reach::Never("a link-local address"),
        [first, ..] if first & 0xff00 == 0xff00 => Reach::Never("a multicast address"),
        [first, ..] if first & 0xe000 == 0x2000 => Reach::Public,
        _ => Reach::Never("a reserved address"),
    }
}

/// An entry of `allow_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRule {
    /// Lower case, without brackets and the dot at the end.
    host: String,
    /// Names below the host, not the host itself.
    is_suffix: bool,
    /// Every port, when there is none.
    port: Option<u16>,
}

impl HostRule {
    /// Reads `example.org`, `*.example.org`, `127.0.0.1:8080`, `[::1]`; `None` for what is none of these.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (is_suffix, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            // More than one colon: an IPv6 address without brackets, which has no port.
            None if rest.parse::<Ipv6Addr>().is_ok() => (rest, None),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        let host = plain_host(host);
        let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':');
        (!host.is_empty() && host.chars().all(is_name)).then_some(Self { host, is_suffix, port })
    }

    /// Whether a host of an address is meant. `host` is plain, see [`plain_host`].
    pub(super) fn allows(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        if self.is_suffix {
            return host.strip_suffix(self.host.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'));
        }
        self.host == host || same_address(&self.host, host)
    }

    /// Whether a private address is named: by itself, or as `localhost` for this machine. A name that merely leads there
    /// names nothing.
    pub(super) fn names(&self, host: &str, address: IpAddr, port: u16) -> bool {
        if self.is_suffix || !self.allows(host, port) {
            return false;
        }
        self.host.parse().is_ok_and(|own: IpAddr| own == address) || (self.host == "localhost" && address.is_loopback())
    }
}

fn same_address(one: &str, other: &str) -> bool {
    matches!((one.parse::<IpAddr>(), other.parse::<IpAddr>()), (Ok(one), Ok(other)) if one == other)
}

/// Returns a host in lower case, without brackets and the dot at its end.
pub(super) fn plain_host(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_public() {
        for public in
            ["93.184.216.34", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
        {
            assert_eq!(reach(public.parse().unwrap()), Reach::Public, "{public}");
        }
        for private in
            ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(matches!(reach(private.parse().unwrap()), Reach::Private(_)), "{private}");
        }
        for never in [
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
        ] {
            assert!(matches!(reach(never.parse().unwrap()), Reach::Never(_)), "{never}");
        }
    }

    #[test]
    fn rules_mean_what_they_say() {
        let rule = |text: &str| HostRule::parse(text).unwrap();
        assert!(rule("Example.org.").allows("example.org", 443) && !rule("example.org").allows("www.example.org", 443));
        assert!(rule("*.example.org").allows("a.b.example.org", 1) && !rule("*.example.org").allows("example.org", 1));
        assert!(!rule("*.example.org").allows("badexample.org", 1));
        assert!(rule("127.0.0.1:80").allows("127.0.0.1", 80) && !rule("127.0.0.1:80").allows("127.0.0.1", 81));
        assert!(rule("[::1]:80").allows("::1", 80) && rule("::1").allows("0:0:0:0:0:0:0:1", 9));
        for odd in ["", "*.", "a b", "http://a", "a:x", "a:99999", "[::1", "[x]"] {
            assert_eq!(HostRule::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn private_addresses_are_named_by_themselves_only() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let names = |rule: &str, host: &str| HostRule::parse(rule).unwrap().names(host, local, 80);
        assert!(
            names("127.0.0.1", "127.0.0.1") && names("127.0.0.1:80", "127.0.0.1") && names("localhost", "localhost")
        );
        assert!(!names("127.0.0.1:81", "127.0.0.1") && !names("example.org", "example.org"));
        assert!(!names("*.localhost", "a.localhost") && !names("127.0.0.1", "example.org"));
    }
}
