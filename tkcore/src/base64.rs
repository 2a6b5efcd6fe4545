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
    let mut good = [u8::MAX; STRIDE];
    let (whole, rest) =
        to.split_at_mut_checked(strides.len().saturating_mul(STRIDE_BYTES)).ok_or(Wrong::Ending)?;
    for (to, from) in whole.as_chunks_mut().0.iter_mut().zip(strides) {
        decode_stride(from, to, &mut good);
    }
    for (to, from) in padded.iter_mut().zip(tail) {
        *to = *from;
    }
    decode_stride(&padded, &mut last, &mut good);
    let (bytes, beyond) = last.split_at_checked(decoded_len(tail.len())).ok_or(Wrong::Ending)?;
    rest.get_mut(..bytes.len()).ok_or(Wrong::Ending)?.copy_from_slice(bytes);
    if good.iter().fold(u8::MAX, |all, good| all & good) != u8::MAX {
        return Err(Wrong::Character);
    }
    // Bits that a last character has beyond its byte land here; what follows is padding.
    let surplus = beyond.first().copied().unwrap_or_default();
    if tail.len() % 4 == 1 || surplus != 0 { Err(Wrong::Ending) } else { Ok(()) }
}

#[inline(always)]
fn decode_stride(from: &[u8; STRIDE], to: &mut [u8; STRIDE_BYTES], good: &mut [u8; STRIDE]) {
    let mut six = [0u8; STRIDE];
    for ((to, good), from) in six.iter_mut().zip(good).zip(from) {
        let (value, is_good) = value(*from);
        *to = value;
        *good &= is_good;
    }
    let mut packed = [0u64; 2];
    for (to, six) in packed.iter_mut().zip(six.as_chunks::<8>().0) {
        *to = pack(*six);
    }
    let [first, second] = packed;
    // Two stores of eight bytes that overlap by four: the first one's last two bytes are zeros.
    if let Some(to) = to.first_chunk_mut() {
        *to = first.to_be_bytes();
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = (first << 32 | second >> 16).to_be_bytes();
    }
}

/// Appends the text of `bytes`.
pub(crate) fn encode(bytes: &[u8], to: &mut String) {
    let mut text = core::mem::take(to).into_bytes();
    text.reserve(encoded_len(bytes.len()));
    let (strides, tail) = bytes.as_chunks::<STRIDE_BYTES>();
    for stride in strides {
        text.extend_from_slice(&encode_stride(stride));
    }
    let mut padded = [0u8; STRIDE_BYTES];
    for (to, from) in padded.iter_mut().zip(tail) {
        *to = *from;
    }
    text.extend(encode_stride(&padded).iter().take(encoded_len(tail.len())));
    // All of it is ASCII.
    *to = String::from_utf8(text).unwrap_or_default();
}

#[inline(always)]
fn encode_stride(bytes: &[u8; STRIDE_BYTES]) -> [u8; STRIDE] {
    let mut six = [0u8; STRIDE];
    let first = bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let second = bytes.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)) << 16;
    for (to, from) in six.as_chunks_mut::<8>().0.iter_mut().zip([first, second]) {
        *to = unpack(from);
    }
    six.map(character)
}

/// The six bits of a character, and whether it is one of the alphabet: all bits or none.
#[inline(always)]
fn value(character: u8) -> (u8, u8) {
    let mask = |is: bool| u8::from(is).wrapping_neg();
    // Both cases at once: the bit between them is set.
    let letter = (character | 0x20).wrapping_sub(b'a');
    let is_letter = mask(letter < 26);
    // Signed, which is one instruction; beyond ASCII nothing is a letter.
    let lower = mask(character.cast_signed() >= b'a'.cast_signed()) & 26;
    let is_digit = mask(character.wrapping_sub(b'0') < 10);
    let is_dash = mask(character == b'-');
    let is_line = mask(character == b'_');
    let value = (letter.wrapping_add(lower) & is_letter)
        | (character.wrapping_add(52 - b'0') & is_digit)
        | (62 & is_dash)
        | (63 & is_line);
    (value, is_letter | is_digit | is_dash | is_line)
}

#[inline(always)]
fn character(six: u8) -> u8 {
    let step = |from: i8, by: u8| u8::from(six.cast_signed() >= from).wrapping_neg() & by;
    six.wrapping_add(b'A')
        .wrapping_add(step(26, 6))
        .wrapping_sub(step(52, 75))
        .wrapping_sub(step(62, 13))
        .wrapping_add(step(63, 49))
}

/// Eight times six bits into the upper six bytes. Little-endian on the way, since vectors have no
/// instruction that turns bytes around.
#[inline(always)]
fn pack(six: [u8; 8]) -> u64 {
    let x = u64::from_le_bytes(six);
    let x = ((x & 0x003f_003f_003f_003f) << 6) | ((x >> 8) & 0x003f_003f_003f_003f);
    let x = ((x & 0x0000_0fff_0000_0fff) << 12) | ((x >> 16) & 0x0000_0fff_0000_0fff);
    (x << 40) | ((x >> 32) << 16)
}

/// Eight times six bits from the upper six bytes: the way of `pack` back.
#[inline(always)]
fn unpack(x: u64) -> [u8; 8] {
    let x = (x >> 40) | ((x << 16) & 0x00ff_ffff_0000_0000);
    let x = ((x >> 12) & 0x0000_0fff_0000_0fff) | ((x & 0x0000_0fff_0000_0fff) << 16);
    let x = ((x >> 6) & 0x003f_003f_003f_003f) | ((x & 0x003f_003f_003f_003f) << 8);
    x.to_le_bytes()
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
