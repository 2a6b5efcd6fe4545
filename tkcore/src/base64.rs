//! Unpadded URL-safe base64 (RFC 4648, section 5) in its one canonical spelling.
//!
//! Arithmetic instead of tables (docs/spec/token.md, TK-41): a token's text is a bearer secret, and no memory address here
//! depends on it; the compiler turns the loop over 16 characters into vector instructions.

use alloc::string::String;

/// Why a text is no canonical base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A character of another alphabet, padding or a space.
    Character,
    /// No whole number of bytes, or bits left over that are not zero: the end is missing.
    /// Everything before it was decoded.
    Ending,
}

/// Characters decoded at a time: one vector register of the smallest x86-64.
const STRIDE: usize = 16;
const STRIDE_BYTES: usize = STRIDE / 4 * 3;

/// Bytes that `characters` of text hold, not counting an unfinished last one.
pub(crate) const fn decoded_len(characters: usize) -> usize {
    (characters / 4).saturating_mul(3).saturating_add((characters % 4).saturating_mul(3) / 4)
}

/// Characters that `bytes` are written with.
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    (bytes / 3).saturating_mul(4).saturating_add((bytes % 3).saturating_mul(4).div_ceil(3))
}

/// Decodes into the front of `to`, which holds at least [`decoded_len`] bytes.
pub(crate) fn decode(text: &[u8], to: &mut [u8]) -> Result<(), Wrong> {
    let (strides, tail) = text.as_chunks::<STRIDE>();
    let mut padded = [b'A'; STRIDE];
    let mut last = [0u8; STRIDE_BYTES];
    let mut bad = [0u8; STRIDE];
    let (whole, rest) =
        to.split_at_mut_checked(strides.len().saturating_mul(STRIDE_BYTES)).ok_or(Wrong::Ending)?;
    for (to, from) in whole.as_chunks_mut().0.iter_mut().zip(strides) {
        decode_stride(from, to, &mut bad);
    }
    for (to, from) in padded.iter_mut().zip(tail) {
        *to = *from;
    }
    decode_stride(&padded, &mut last, &mut bad);
    let (bytes, beyond) = last.split_at_checked(decoded_len(tail.len())).ok_or(Wrong::Ending)?;
    rest.get_mut(..bytes.len()).ok_or(Wrong::Ending)?.copy_from_slice(bytes);
    if bad.iter().fold(0, |all, wrong| all | wrong) != 0 {
        return Err(Wrong::Character);
    }
    // Bits that a last character has beyond its byte land here; what follows is padding.
    let surplus = beyond.first().copied().unwrap_or_default();
    if tail.len() % 4 == 1 || surplus != 0 { Err(Wrong::Ending) } else { Ok(()) }
}

#[inline(always)]
fn decode_stride(from: &[u8; STRIDE], to: &mut [u8; STRIDE_BYTES], bad: &mut [u8; STRIDE]) {
    let mut six = [0u8; STRIDE];
    for ((to, bad), from) in six.iter_mut().zip(bad).zip(from) {
        let (value, wrong) = value(*from);
        *to = value;
        *bad |= wrong;
    }
    for (to, from) in to.as_chunks_mut::<6>().0.iter_mut().zip(six.as_chunks::<8>().0) {
        *to = pack(*from);
    }
}

/// Appends the text of `bytes`.
pub(crate) fn encode(bytes: &[u8], to: &mut String) {
    to.reserve(encoded_len(bytes.len()));
    let (strides, tail) = bytes.as_chunks::<STRIDE_BYTES>();
    for stride in strides {
        push(to, &encode_stride(stride), STRIDE);
    }
    let mut padded = [0u8; STRIDE_BYTES];
    for (to, from) in padded.iter_mut().zip(tail) {
        *to = *from;
    }
    push(to, &encode_stride(&padded), encoded_len(tail.len()));
}

#[inline(always)]
fn encode_stride(bytes: &[u8; STRIDE_BYTES]) -> [u8; STRIDE] {
    let mut six = [0u8; STRIDE];
    for (to, from) in six.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<6>().0) {
        *to = unpack(*from);
    }
    six.map(character)
}

/// The characters are ASCII, which the check finds at once.
#[inline(always)]
fn push(to: &mut String, characters: &[u8; STRIDE], count: usize) {
    let text = core::str::from_utf8(characters).ok().and_then(|text| text.get(..count));
    to.push_str(text.unwrap_or_default());
}

/// The six bits of a character, and a value that is not zero when it is none of the alphabet.
#[inline(always)]
fn value(character: u8) -> (u8, u8) {
    let within = |first: u8, count: u8| {
        let offset = character.wrapping_sub(first);
        (offset, u8::from(offset < count).wrapping_neg())
    };
    let (upper, is_upper) = within(b'A', 26);
    let (lower, is_lower) = within(b'a', 26);
    let (digit, is_digit) = within(b'0', 10);
    let (_, is_dash) = within(b'-', 1);
    let (_, is_line) = within(b'_', 1);
    let value = (upper & is_upper)
        | (lower.wrapping_add(26) & is_lower)
        | (digit.wrapping_add(52) & is_digit)
        | (62 & is_dash)
        | (63 & is_line);
    (value, !(is_upper | is_lower | is_digit | is_dash | is_line))
}

#[inline(always)]
fn character(six: u8) -> u8 {
    let step = |from: u8, by: u8| u8::from(six >= from).wrapping_neg() & by;
    six.wrapping_add(b'A')
        .wrapping_add(step(26, 6))
        .wrapping_sub(step(52, 75))
        .wrapping_sub(step(62, 13))
        .wrapping_add(step(63, 49))
}

/// Eight times six bits into six bytes.
#[inline(always)]
fn pack(six: [u8; 8]) -> [u8; 6] {
    let x = u64::from_be_bytes(six);
    let x = ((x & 0x3f00_3f00_3f00_3f00) >> 2) | (x & 0x003f_003f_003f_003f);
    let x = ((x & 0x0fff_0000_0fff_0000) >> 4) | (x & 0x0000_0fff_0000_0fff);
    let x = ((x & 0x00ff_ffff_0000_0000) << 8) | ((x & 0x0000_0000_00ff_ffff) << 16);
    x.to_be_bytes().first_chunk().copied().unwrap_or_default()
}

/// Eight values of six bits from six bytes: the way of `pack` back.
#[inline(always)]
fn unpack(bytes: [u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = bytes;
    let x = u64::from_be_bytes([0, a, b, c, 0, d, e, f]);
    let x = ((x & 0x00ff_f000_00ff_f000) << 4) | (x & 0x0000_0fff_0000_0fff);
    let x = ((x & 0x0fc0_0fc0_0fc0_0fc0) << 2) | (x & 0x003f_003f_003f_003f);
    x.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn text(bytes: &[u8]) -> String {
        let mut text = String::new();
        encode(bytes, &mut text);
        text
    }

    fn bytes(text: &str) -> Result<Vec<u8>, Wrong> {
        let mut out = vec![0; decoded_len(text.len())];
        decode(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn the_rfc_s_own_examples() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(text(plain.as_bytes()), coded);
            assert_eq!(bytes(coded), Ok(plain.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_length_reads_back_into_a_longer_buffer_too() {
        for len in 0..200usize {
            let plain: Vec<u8> = (0..len).map(|i| (i * 91 + len * 37) as u8).collect();
            let coded = text(&plain);
            assert_eq!(coded.len(), encoded_len(len));
            assert_eq!(decoded_len(coded.len()), len);
            assert_eq!(bytes(&coded), Ok(plain.clone()));
            let mut long = vec![0xaa; len + 50];
            decode(coded.as_bytes(), &mut long).unwrap();
            assert_eq!(long[..len], plain);
            assert!(long[len..].iter().all(|byte| *byte == 0xaa), "wrote past the end at {len}");
        }
    }

    #[test]
    fn exactly_the_alphabet_is_read_at_every_place() {
        // TK-40, TK-41: every byte value goes through the same arithmetic, at every place.
        for at in 0..43 {
            for byte in 0..=255u8 {
                let mut coded = [b'A'; 44];
                coded[at] = byte;
                let mut out = [0; 33];
                let place = ALPHABET.iter().position(|c| *c == byte);
                match place {
                    Some(_) => assert_eq!(decode(&coded, &mut out), Ok(()), "{byte} at {at}"),
                    None => assert_eq!(decode(&coded, &mut out), Err(Wrong::Character), "{byte} at {at}"),
                }
                if let Some(value) = place {
                    assert_eq!(text(&out).as_bytes()[at], byte);
                    let mut expected = [b'A'; 44];
                    expected[at] = ALPHABET[value];
                    assert_eq!(text(&out).as_bytes(), expected);
                }
            }
        }
    }

    #[test]
    fn one_spelling_only() {
        for wrong in ["Z", "Zh", "Zm9", "Zm9vY", "Zm9vYh"] {
            assert_eq!(bytes(wrong), Err(Wrong::Ending), "{wrong}");
        }
        for wrong in ["Zg==", "Zm8=", "Zm9v\n", " Zm9v", "Zm+v", "Zm/v"] {
            assert_eq!(bytes(wrong), Err(Wrong::Character), "{wrong}");
        }
    }
}
