//! Addresses and networks, each in its one form (CV-32, CV-33, CV-36).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::ParseFault;
use super::word::integer;

/// An IPv4 address, or a network with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct V4 {
    bits: u32,
    len: Option<u8>,
}

/// An IPv6 address, or a network with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct V6 {
    bits: u128,
    len: Option<u8>,
}

impl V4 {
    /// Reads the one form; `None` for anything else.
    #[inline]
    pub(super) fn read(word: &[u8]) -> Option<Self> {
        let mut bits = 0u32;
        let mut octet = 0u32;
        let mut digits = 0u32;
        let mut dots = 0u32;
        let mut len = None;
        for (at, byte) in word.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    // A zero that something follows is a leading one.
                    if digits > 0 && octet == 0 {
                        return None;
                    }
                    octet = octet.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')));
                    digits = digits.wrapping_add(1);
                    if octet > 255 {
                        return None;
                    }
                }
                b'.' if digits > 0 => {
                    bits = (bits << 8) | octet;
                    dots = dots.wrapping_add(1);
                    (octet, digits) = (0, 0);
                }
                b'/' => {
                    len = Some(prefix_len(word.get(at.saturating_add(1)..)?, 32)?);
                    break;
                }
                _ => return None,
            }
        }
        if dots != 3 || digits == 0 {
            return None;
        }
        bits = (bits << 8) | octet;
        (bits & host_bits_v4(len) == 0).then_some(Self { bits, len })
    }

    pub(super) const fn is_net(self) -> bool {
        self.len.is_some()
    }

    /// Whether it is this address or a network that holds it.
    #[inline]
    pub(super) fn covers(self, ip: Ipv4Addr) -> bool {
        (self.bits ^ ip.to_bits()) & !host_bits_v4(self.len) == 0
    }

    fn is_inside(self, outer: Self) -> bool {
        self.len.unwrap_or(32) >= outer.len.unwrap_or(32) && outer.covers(Ipv4Addr::from_bits(self.bits))
    }
}

impl V6 {
    /// Reads the form of RFC 5952; `None` for what no IPv6 reader accepts, which is a text.
    fn read(word: &[u8]) -> Result<Option<Self>, ParseFault> {
        let (host, len) = split_length(word);
        let bits = match shortest(host) {
            Some(bits) => bits,
            None if is_some_v6(host) => return Err(ParseFault::Address),
            None => return Ok(None),
        };
        let len = match len {
            None => None,
            Some(len) => Some(prefix_len(len, 128).ok_or(ParseFault::Address)?),
        };
        if bits & host_bits_v6(len) == 0 { Ok(Some(Self { bits, len })) } else { Err(ParseFault::Address) }
    }

    fn covers(self, ip: Ipv6Addr) -> bool {
        (self.bits ^ ip.to_bits()) & !host_bits_v6(self.len) == 0
    }

    fn is_inside(self, outer: Self) -> bool {
        self.len.unwrap_or(128) >= outer.len.unwrap_or(128) && outer.covers(Ipv6Addr::from_bits(self.bits))
    }
}

/// Reads a word with a colon: whether it is a network, or `None` when it is a text.
///
/// # Errors
/// [`ParseFault::Address`] for an IPv6 address in any form but the one.
pub(super) fn read_v6(word: &[u8]) -> Result<Option<bool>, ParseFault> {
    Ok(V6::read(word)?.map(|address| address.len.is_some()))
}

/// Whether a word looks like an IPv4 address or network, so that it is refused as a bare word when
/// it is none.
pub(super) fn looks_like_v4(bytes: &[u8]) -> bool {
    let host = bytes.split(|byte| *byte == b'/').next().unwrap_or(bytes);
    let mut groups = 0usize;
    for group in host.split(|byte| *byte == b'.') {
        if group.is_empty() {
            return false;
        }
        groups = groups.saturating_add(1);
    }
    groups == 4
}

/// Whether an address word, read before, is this address or a network that holds it.
pub(crate) fn covers(word: &[u8], ip: IpAddr) -> bool {
    // A word of the other family holds no such address: the mapped form is refused in both.
    match ip {
        IpAddr::V4(ip) => V4::read(word).is_some_and(|own| own.covers(ip)),
        IpAddr::V6(ip) => {
            word.contains(&b':') && V6::read(word).ok().flatten().is_some_and(|own| own.covers(ip))
        }
    }
}

/// Of two address words, the one that lies inside the other; `None` when they do not meet.
pub(crate) fn narrower<'w>(a: &'w str, b: &'w str) -> Option<&'w str> {
    let (first, second) = (a.as_bytes(), b.as_bytes());
    let (is_a, is_b) = if let (Some(a), Some(b)) = (V4::read(first), V4::read(second)) {
        (a.is_inside(b), b.is_inside(a))
    } else {
        let (a, b) = (V6::read(first).ok()??, V6::read(second).ok()??);
        (a.is_inside(b), b.is_inside(a))
    };
    if is_a {
        Some(a)
    } else if is_b {
        Some(b)
    } else {
        None
    }
}

/// Whether `ip` is inside the network `net/len`.
#[cfg(any(feature = "lnd", feature = "dcache"))]
pub(crate) fn contains(net: IpAddr, len: u8, ip: IpAddr) -> bool {
    let len = Some(len);
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => V4 { bits: net.to_bits(), len }.covers(ip),
        (IpAddr::V6(net), IpAddr::V6(ip)) => V6 { bits: net.to_bits(), len }.covers(ip),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[inline]
fn host_bits_v4(len: Option<u8>) -> u32 {
    len.map_or(0, |len| u32::MAX.checked_shr(len.into()).unwrap_or(0))
}

#[inline]
fn host_bits_v6(len: Option<u8>) -> u128 {
    len.map_or(0, |len| u128::MAX.checked_shr(len.into()).unwrap_or(0))
}

/// The address and what stands behind the first slash.
fn split_length(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    match word.iter().position(|byte| *byte == b'/') {
        Some(at) => (word.get(..at).unwrap_or(word), word.get(at.saturating_add(1)..)),
        None => (word, None),
    }
}

fn prefix_len(digits: &[u8], most: u8) -> Option<u8> {
    u8::try_from(integer(digits)?).ok().filter(|len| *len <= most)
}

/// Whether the standard library's reader takes it for an address, perhaps with a zone: then it is
/// one in a form that is refused.
#[cold]
fn is_some_v6(host: &[u8]) -> bool {
    let Ok(host) = core::str::from_utf8(host) else { return false };
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// The one text that RFC 5952, section 4, gives an address that is not a mapped one: lower case,
/// no leading zeros, `::` for the longest run of two zero groups or more, the first of equally
/// long ones. `None` for any other text.
fn shortest(text: &[u8]) -> Option<u128> {
    let mut rest = text;
    let (mut front, mut bits) = (0u128, 0u128);
    let mut count = 0u32;
    // Groups before the `::`.
    let mut gap = None;
    if let [b':', b':', after @ ..] = rest {
        (gap, rest) = (Some(0), after);
    }
    while !rest.is_empty() {
        let (group, after) = group(rest)?;
        bits = (bits << 16) | u128::from(group);
        count = count.wrapping_add(1);
        let left = 8u32.checked_sub(count)?;
        rest = match after {
            [] => break,
            [b':', b':', after @ ..] if gap.is_none() => {
                front = bits.checked_shl(left.wrapping_mul(16))?;
                (gap, bits) = (Some(count), 0);
                after
            }
            [b':', after @ ..] if !after.is_empty() => after,
            [..] => return None,
        };
    }
    bits |= front;
    let missing = 8u32.checked_sub(count)?;
    let zeros = match (gap, missing) {
        (None, 0) => (0, 0),
        (Some(before), 2..) => (before, missing),
        (None | Some(_), _) => return None,
    };
    let is_mapped = bits >> 32 == 0xffff;
    (!is_mapped && zeros == longest_zeros(bits)).then_some(bits)
}

/// A group in its fewest lower-case digits, and what follows.
#[inline]
fn group(text: &[u8]) -> Option<(u16, &[u8])> {
    let (mut value, mut len) = (0u16, 0usize);
    for byte in text {
        let digit = match byte {
            b'0'..=b'9' => byte.wrapping_sub(b'0'),
            b'a'..=b'f' => byte.wrapping_sub(b'a').wrapping_add(10),
            _ => break,
        };
        // A zero that something follows is a leading one.
        if len == 4 || (len > 0 && value == 0) {
            return None;
        }
        value = (value << 4) | u16::from(digit);
        len = len.wrapping_add(1);
    }
    if len == 0 { None } else { Some((value, text.get(len..)?)) }
}

/// Where the first of the longest runs of two zero groups or more begins, and its length; zeros
/// when there is none.
#[inline]
fn longest_zeros(bits: u128) -> (u32, u32) {
    let (mut best, mut run) = ((0, 0), 0u32);
    let mut rest = bits;
    for at in 1u32..=8 {
        run = if rest >> 112 == 0 { run.wrapping_add(1) } else { 0 };
        rest <<= 16;
        if run >= 2 && run > best.1 {
            best = (at.wrapping_sub(run), run);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn is_canonical(text: &[u8]) -> bool {
        shortest(text).is_some()
    }

    /// CV-33: the standard library's own writer is the second opinion.
    #[test]
    fn canonical_is_what_the_standard_library_writes() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut seen = 0;
        for round in 0..20_000u32 {
            let mut groups = [0u16; 8];
            for group in &mut groups {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bits = (state >> 33) as u16;
                // Mostly zeros, so that runs of every length and place come up.
                *group = if bits & 3 == 0 { bits >> (bits & 15) } else { 0 };
            }
            let ip = Ipv6Addr::from(groups);
            let text = ip.to_string();
            if ip.to_ipv4_mapped().is_some() {
                assert_eq!(shortest(text.as_bytes()), None);
                continue;
            }
            seen += 1;
            assert_eq!(shortest(text.as_bytes()), Some(ip.to_bits()), "{text}");
            let full = groups.map(|group| std::format!("{group:x}")).join(":");
            assert_eq!(is_canonical(full.as_bytes()), full == text, "{full}");
            // Every text near it is read as the standard library reads it, or not at all.
            let at = round as usize % text.len();
            for byte in *b"0:1aAfg%/." {
                let mut changed = text.clone().into_bytes();
                changed.remove(at);
                check(&changed);
                changed.insert(at, byte);
                check(&changed);
                let mut longer = text.clone().into_bytes();
                longer.insert(at, byte);
                check(&longer);
            }
        }
        assert!(seen > 10_000);
    }

    fn check(text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap();
        let theirs = text.parse::<Ipv6Addr>().ok();
        let expected = theirs.filter(|ip| ip.to_ipv4_mapped().is_none() && ip.to_string() == text);
        assert_eq!(shortest(text.as_bytes()), expected.map(Ipv6Addr::to_bits), "{text}");
    }

    #[test]
    fn a_word_of_one_family_covers_no_address_of_the_other() {
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert!(covers(b"10.0.0.0/8", v4) && covers(b"::/0", v6));
        assert!(!covers(b"0.0.0.0/0", v6) && !covers(b"::/0", v4));
    }

    #[test]
    fn eight_groups_leave_no_room_for_a_gap() {
        for text in [
            "::1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8::",
            "1:2:3:4::5:6:7:8",
            "1:2:3::5:6:7:8",
            ":::",
            "1:",
            ":1",
        ] {
            assert_eq!(shortest(text.as_bytes()), None, "{text}");
        }
        assert_eq!(shortest(b"::"), Some(0));
        assert_eq!(shortest(b"1:2:3:4:5:6:0:8"), Some(0x1_0002_0003_0004_0005_0006_0000_0008));
    }
}
