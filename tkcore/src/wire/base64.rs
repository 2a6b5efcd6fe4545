//! Base64 (RFC 4648) for macaroons of other makers: both alphabets, padded or not, are read;
//! the URL-safe alphabet without padding is written.

use alloc::vec::Vec;

use crate::error::Malformed;
use crate::wire::canonical::Reading;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the URL-safe form without padding.
pub(crate) fn encode(bytes: &[u8], to: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut group = 0u32;
        for byte in chunk {
            group = (group << 8) | u32::from(*byte);
        }
        let missing = 3u32.saturating_sub(u32::try_from(chunk.len()).unwrap_or(3));
        group = group.checked_shl(missing.saturating_mul(8)).unwrap_or(0);
        let characters = chunk.len().saturating_add(1);
        for shift in [18u32, 12, 6, 0].into_iter().take(characters) {
            let index = usize::try_from((group >> shift) & 0x3f).unwrap_or(0);
            to.push(ALPHABET.get(index).copied().unwrap_or(b'A'));
        }
    }
}

/// Appends what `text` stands for.
///
/// Strict: the URL-safe alphabet, no padding, unused bits zero. Lenient: either alphabet (mixed
/// too, as several decoders map one to the other first), at most the right padding, unused bits
/// ignored.
pub(crate) fn decode(text: &[u8], reading: Reading, to: &mut Vec<u8>) -> Result<(), Malformed> {
    let text = match reading {
        Reading::Strict => text,
        Reading::Lenient => unpadded(text)?,
    };
    for chunk in text.chunks(4) {
        let mut group = 0u32;
        for character in chunk {
            group = (group << 6) | u32::from(value(*character, reading).ok_or(Malformed::Base64)?);
        }
        let [_, b0, b1, b2] = match chunk.len() {
            4 => group,
            3 => group << 6,
            2 => group << 12,
            _ => return Err(Malformed::Base64),
        }
        .to_be_bytes();
        let (used, unused) = match chunk.len() {
            4 => ([b0, b1, b2].to_vec(), 0),
            3 => ([b0, b1].to_vec(), b2),
            _ => ([b0].to_vec(), b1),
        };
        if unused != 0 && reading == Reading::Strict {
            return Err(Malformed::Base64);
        }
        to.extend_from_slice(&used);
    }
    Ok(())
}

fn unpadded(text: &[u8]) -> Result<&[u8], Malformed> {
    let bare = match text {
        [bare @ .., b'=', b'='] | [bare @ .., b'='] => bare,
        bare => return Ok(bare),
    };
    if text.len() % 4 == 0 { Ok(bare) } else { Err(Malformed::Base64) }
}

fn value(character: u8, reading: Reading) -> Option<u8> {
    match character {
        b'A'..=b'Z' => character.checked_sub(b'A'),
        b'a'..=b'z' => character.checked_sub(b'a')?.checked_add(26),
        b'0'..=b'9' => character.checked_sub(b'0')?.checked_add(52),
        b'-' => Some(62),
        b'_' => Some(63),
        b'+' if reading == Reading::Lenient => Some(62),
        b'/' if reading == Reading::Lenient => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, reading: Reading) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(text.as_bytes(), reading, &mut out).map(|()| out)
    }

    #[test]
    fn reads_what_it_writes_at_every_length() {
        for len in 0..100u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(151)).collect();
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            let text = std::string::String::from_utf8(text).unwrap();
            assert_eq!(decoded(&text, Reading::Strict), Ok(bytes.clone()));
            assert_eq!(decoded(&text, Reading::Lenient), Ok(bytes));
        }
    }

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn other_spellings_are_for_the_lenient_reader() {
        for (text, bytes) in [
            ("--__", &[0xfb, 0xef, 0xff][..]),
            ("++//", &[0xfb, 0xef, 0xff]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zh", b"f"),
        ] {
            assert_eq!(decoded(text, Reading::Lenient).as_deref(), Ok(bytes), "{text}");
            assert_eq!(decoded(text, Reading::Strict).is_ok(), text == "--__", "{text}");
        }
        for text in ["Z", "Zg=", "Zg===", "Z===", "====", "Zm9v=", "Zg==Zg==", "Z g=", "Zm9vZ", "Zm\n8"] {
            assert_eq!(decoded(text, Reading::Lenient), Err(Malformed::Base64), "{text}");
        }
    }
}
