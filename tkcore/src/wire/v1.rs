//! Format V1: packets of four lower-case hexadecimal digits (the packet's whole length), a key, a
//! space, the value and a line feed. Lengths count bytes. One loop, no recursion: 100,000 packets
//! cost no more stack than one.

use alloc::vec::Vec;

use super::canonical::{Assembler, Caps, VID_BYTES};
use crate::error::Malformed;
use crate::token::Token;

const DIGITS: usize = 4;
/// The longest packet that four digits can announce.
const PACKET_BYTES: usize = 0xffff;

/// Transcodes V1 bytes into canonical V2 bytes; every field's bytes stay as they are.
///
/// The order is the one all peers write: location, identifier, (cid, vid, cl)*, signature. A
/// location may be missing; an empty one is read as none, since a V1 token always has the packet.
pub(crate) fn read(bytes: &[u8], caps: &Caps) -> Result<Vec<u8>, Malformed> {
    // The smallest caveat is 9 bytes here and 3 in V2, and no other field grows more than that:
    // what is longer than this cannot fit the cap.
    if bytes.len() > caps.token.saturating_mul(4) {
        return Err(Malformed::TooLarge("the token"));
    }
    let mut rest = bytes;
    let mut next = packet(&mut rest)?;
    let mut location = None;
    if next.key == b"location" {
        location = Some(next.value).filter(|value| !value.is_empty());
        next = packet(&mut rest)?;
    }
    if next.key != b"identifier" {
        return Err(Malformed::Shape("no identifier packet where one must be"));
    }
    let mut out = Assembler::start(caps, location, next.value)?;
    next = packet(&mut rest)?;
    while next.key == b"cid" {
        let cid = next.value;
        let mut vid = None;
        let mut location = None;
        next = packet(&mut rest)?;
        if next.key == b"vid" {
            vid = Some(next.value);
            next = packet(&mut rest)?;
        }
        if next.key == b"cl" {
            location = Some(next.value).filter(|value| !value.is_empty());
            next = packet(&mut rest)?;
        }
        out.caveat(cid, vid, location)?;
    }
    if next.key != b"signature" {
        return Err(Malformed::Shape("an unknown or misplaced packet"));
    }
    if !rest.is_empty() {
        // A peer drops what follows and still verifies: a caveat put here would not restrict.
        return Err(Malformed::Shape("a packet after the signature"));
    }
    out.finish(next.value)
}

struct Packet<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

fn packet<'a>(rest: &mut &'a [u8]) -> Result<Packet<'a>, Malformed> {
    let (digits, _) = rest.split_first_chunk::<DIGITS>().ok_or(Malformed::Truncated)?;
    let len = digits.iter().try_fold(0usize, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit.checked_sub(b'0'),
            b'a'..=b'f' => digit.checked_sub(b'a').and_then(|value| value.checked_add(10)),
            _ => None,
        };
        value.map(|value| (sum << 4) | usize::from(value))
    });
    let len = len.ok_or(Malformed::Shape("a packet length that is not hexadecimal"))?;
    let (whole, tail) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
    let [_, _, _, _, body @ .., b'\n'] = whole else {
        return Err(Malformed::Shape("a packet without its line feed"));
    };
    let space =
        body.iter().position(|byte| *byte == b' ').ok_or(Malformed::Shape("a packet without a key"))?;
    let (key, value) = body.split_at_checked(space).unwrap_or((body, &[]));
    let [_, value @ ..] = value else {
        return Err(Malformed::Shape("a packet without a key"));
    };
    *rest = tail;
    Ok(Packet { key, value })
}

/// Writes V1 bytes. A location packet is always there, since one peer cannot read without it.
///
/// # Errors
/// [`Malformed::TooLarge`] when a field does not fit a packet's four digits.
pub(crate) fn write(token: &Token<'_>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    put(&mut out, "location", token.location().unwrap_or_default())?;
    put(&mut out, "identifier", token.identifier_bytes())?;
    for caveat in token.caveats() {
        put(&mut out, "cid", caveat.cid)?;
        if let Some(vid) = caveat.vid.map(<[u8; VID_BYTES]>::as_slice) {
            put(&mut out, "vid", vid)?;
        }
        if caveat.vid.is_some() || caveat.location.is_some() {
            put(&mut out, "cl", caveat.location.unwrap_or_default())?;
        }
    }
    put(&mut out, "signature", token.signature())?;
    Ok(out)
}

fn put(to: &mut Vec<u8>, key: &str, value: &[u8]) -> Result<(), Malformed> {
    let len = DIGITS.saturating_add(key.len()).saturating_add(value.len()).saturating_add(2);
    if len > PACKET_BYTES {
        return Err(Malformed::TooLarge("a V1 packet"));
    }
    for shift in [12u32, 8, 4, 0] {
        let digit = u8::try_from((len >> shift) & 0xf).unwrap_or(0);
        to.push(if digit < 10 {
            b'0'.saturating_add(digit)
        } else {
            b'a'.saturating_add(digit).saturating_sub(10)
        });
    }
    to.extend_from_slice(key.as_bytes());
    to.push(b' ');
    to.extend_from_slice(value);
    to.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(list: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in list {
            put(&mut out, key, value).unwrap();
        }
        out
    }

    fn example() -> Vec<u8> {
        packets(&[
            ("location", b"https://here"),
            ("identifier", b"id with \n and \0"),
            ("cid", b"a = 1"),
            ("cid", b""),
            ("cid", b"ticket"),
            ("vid", &[7; 72]),
            ("cl", b"https://there"),
            ("signature", &[0x0a; 32]),
        ])
    }

    #[test]
    fn reads_and_writes_the_same_bytes() {
        let v2 = read(&example(), &Caps::OWN).unwrap();
        assert_eq!(write(&Token::read(&v2, &Caps::OWN).unwrap()).unwrap(), example());
        assert_eq!(read(&example(), &Caps::FOREIGN).unwrap(), v2);
    }

    #[test]
    fn every_cut_is_truncated() {
        for len in 0..example().len() {
            assert_eq!(read(&example()[..len], &Caps::FOREIGN), Err(Malformed::Truncated), "{len}");
        }
    }

    /// TP-51.
    #[test]
    fn a_caveat_after_the_signature_is_refused() {
        let mut bytes = example();
        put(&mut bytes, "cid", b"time < 2020-01-01T00:00:00Z").unwrap();
        assert_eq!(read(&bytes, &Caps::FOREIGN), Err(Malformed::Shape("a packet after the signature")));
    }

    #[test]
    fn a_missing_signature_is_never_made_up() {
        let bytes = packets(&[("location", b"l"), ("identifier", b"i"), ("cid", b"c")]);
        assert_eq!(read(&bytes, &Caps::FOREIGN), Err(Malformed::Truncated));
        let bytes = packets(&[("identifier", b"i"), ("signature", b"short")]);
        assert_eq!(read(&bytes, &Caps::FOREIGN), Err(Malformed::Shape("a signature that is not 32 bytes")));
    }

    #[test]
    fn lengths_count_bytes_and_not_characters() {
        let v2 = read(&packets(&[("identifier", "ключ".as_bytes()), ("signature", &[1; 32])]), &Caps::OWN)
            .unwrap();
        assert_eq!(Token::read(&v2, &Caps::OWN).unwrap().identifier_bytes(), "ключ".as_bytes());
        let mut written = Vec::new();
        put(&mut written, "cid", "é".as_bytes()).unwrap();
        assert_eq!(&written[..4], b"000b");
    }

    #[test]
    fn wrong_packets_are_refused() {
        let signature = ("signature", &[1u8; 32][..]);
        for list in [
            &[("cid", &b"c"[..]), signature][..],
            &[("identifier", b"i"), ("identifier", b"i"), signature],
            &[("identifier", b"i"), ("location", b"l"), signature],
            &[("identifier", b"i"), ("vid", &[1; 72]), signature],
            &[("identifier", b"i"), ("cid", b"c"), ("cl", b"l"), ("vid", &[1; 72]), signature],
            &[("identifier", b"i"), ("cid", b"c"), ("vid", &[1; 71]), signature],
            &[("identifier", b"i"), ("cid", b"c"), ("vid", &[]), signature],
            &[("identifier", b"i"), ("caveat", b"c"), signature],
        ] {
            assert!(matches!(read(&packets(list), &Caps::FOREIGN), Err(Malformed::Shape(_))), "{list:?}");
        }
        let good = packets(&[("identifier", b"i"), signature]);
        assert!(read(&good, &Caps::OWN).is_ok());
        for (at, byte) in [(2, b'2'), (3, b'F'), (0, b'g'), (16, b'x'), (14, b'_')] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read(&bad, &Caps::FOREIGN).is_err(), "{at}");
        }
        assert!(read(b"0000", &Caps::FOREIGN).is_err());
        assert!(read(b"0005\n", &Caps::FOREIGN).is_err());
    }

    #[test]
    fn a_hundred_thousand_packets_end_at_a_limit() {
        let mut bytes = packets(&[("identifier", b"i")]);
        for _ in 0..100_000 {
            put(&mut bytes, "cid", b"c").unwrap();
        }
        put(&mut bytes, "signature", &[1; 32]).unwrap();
        for caps in [Caps::OWN, Caps::FOREIGN] {
            assert!(matches!(read(&bytes, &caps), Err(Malformed::TooLarge(_))));
        }
    }

    #[test]
    fn the_longest_packet_and_one_past_it() {
        let room = PACKET_BYTES - "0000cid \n".len();
        assert!(put(&mut Vec::new(), "cid", &std::vec![1; room]).is_ok());
        assert!(put(&mut Vec::new(), "cid", &std::vec![1; room + 1]).is_err());
    }
}
