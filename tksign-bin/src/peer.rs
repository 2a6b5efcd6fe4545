use std::net::{IpAddr, SocketAddr};

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over TCP, from there.
    Tcp(SocketAddr),
    /// Over a Unix socket that services of this machine use.
    Unix,
    /// Over the control socket in the signer's own folder, which only its owner can open.
    Control,
}

impl Peer {
    /// What per-address caps count under: an IPv4 address, the /64 of an IPv6 one (a host has
    /// that many addresses to itself), or the socket.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => Origin::V4(ip.octets()),
                IpAddr::V6(ip) => Origin::V6(ip.octets().first_chunk().copied().unwrap_or_default()),
            },
            Self::Unix => Origin::Unix,
            Self::Control => Origin::Control,
        }
    }
}

/// Who shares one cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// One IPv4 address.
    V4([u8; 4]),
    /// One IPv6 /64.
    V6([u8; 8]),
    /// All of the Unix socket.
    Unix,
    /// All of the control socket.
    Control,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_cap_and_strangers_do_not() {
        let origin = |text: &str| Peer::Tcp(text.parse().unwrap()).origin();
        assert_eq!(origin("192.0.2.1:1"), origin("192.0.2.1:2"));
        assert_ne!(origin("192.0.2.1:1"), origin("192.0.2.2:1"));
        assert_eq!(origin("[::ffff:192.0.2.1]:1"), origin("192.0.2.1:2"));
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff]:2"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_ne!(Peer::Unix.origin(), Peer::Control.origin());
    }
}
