//! Addresses and networks as Go's and Java's libraries read them: host bits are allowed and
//! masked off, IPv4-mapped IPv6 means the IPv4 address.

use core::net::IpAddr;

use crate::caveat::address;

/// An address; mapped IPv4 counts as IPv4. No zone.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// A network with its prefix length; host bits do not matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    address: IpAddr,
    len: u8,
}

impl Network {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (address, len) = text.split_once('/')?;
        let address = address.parse::<IpAddr>().ok()?;
        if len.is_empty() || !len.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let len: u8 = len.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if len > most {
            return None;
        }
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if len >= 96 => {
                Some(Self { address: mapped, len: len.saturating_sub(96) })
            }
            _ => Some(Self { address, len }),
        }
    }

    pub(super) fn holds(self, ip: IpAddr) -> bool {
        address::contains(self.address, self.len, ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (net, ip, expected) in [
            ("10.0.0.0/8", "10.1.2.3", Some(true)),
            ("10.9.9.9/8", "10.1.2.3", Some(true)),
            ("10.0.0.0/8", "11.0.0.0", Some(false)),
            ("0.0.0.0/0", "11.0.0.0", Some(true)),
            ("0.0.0.0/0", "::1", Some(false)),
            ("2001:db8::/32", "2001:db8:ffff::1", Some(true)),
            ("::ffff:10.0.0.0/104", "10.1.2.3", Some(true)),
            ("::/0", "10.1.2.3", Some(false)),
            ("10.0.0.0/33", "10.1.2.3", None),
            ("10.0.0.0/", "10.1.2.3", None),
            ("10.0.0.0/+8", "10.1.2.3", None),
            ("10.0.0.0", "10.1.2.3", None),
            ("10.0.0.0/255.0.0.0", "10.1.2.3", None),
            ("fe80::1%eth0/64", "fe80::1", None),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(Network::read(net).map(|net| net.holds(ip)), expected, "{net} {ip}");
        }
    }
}
