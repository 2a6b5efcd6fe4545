//! Base64 (RFC 4648) as macaroons of other makers come in it: both alphabets, padded or not.

use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::base64::{self, Wrong};
use crate::error::Malformed;
use crate::wire::canonical::Reading;

/// What `text` stands for.
///
/// Strict: the URL-safe alphabet, no padding, unused bits zero. Lenient: either alphabet (mixed
/// too, as several decoders map one to the other first), at most the right padding, unused bits
/// ignored.
pub(crate) fn decode(text: &[u8], reading: Reading) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let wrong = |_| Malformed::Base64;
    match reading {
        Reading::Strict => {
            let mut bytes = Zeroizing::new(vec![0; base64::decoded_len(text.len())]);
            base64::decode(text, &mut bytes).map_err(wrong)?;
            Ok(bytes)
        }
        Reading::Lenient => {
            let mut text = Zeroizing::new(unpadded(text)?.to_vec());
            for character in text.iter_mut() {
                *character = match *character {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => other,
                };
            }
            let mut bytes = Zeroizing::new(vec![0; base64::decoded_len(text.len())]);
            match base64::decode(&text, &mut bytes) {
                // All whole bytes are there; only bits behind the last one are not zero.
                Err(Wrong::Ending) if text.len() % 4 != 1 => Ok(bytes),
                result => result.map(|()| bytes).map_err(wrong),
            }
        }
    }
}

fn unpadded(text: &[u8]) -> Result<&[u8], Malformed> {
    let bare = match text {
        [bare @ .., b'=', b'='] | [bare @ .., b'='] => bare,
        bare => return Ok(bare),
    };
    if text.len().is_multiple_of(4) { Ok(bare) } else { Err(Malformed::Base64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_are_for_the_lenient_reader() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("--__", &[0xfb, 0xef, 0xff]),
            ("++//", &[0xfb, 0xef, 0xff]),
            ("+-/_", &[0xfb, 0xef, 0xff]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zh", b"f"),
            ("Zm9", b"fo"),
        ] {
            assert_eq!(decode(text.as_bytes(), Reading::Lenient).unwrap().as_slice(), bytes, "{text}");
            let strict = matches!(text, "" | "--__");
            assert_eq!(decode(text.as_bytes(), Reading::Strict).is_ok(), strict, "{text}");
        }
        for text in ["Z", "Zg=", "Zg===", "Z===", "====", "Zm9v=", "Zg==Zg==", "Z g=", "Zm9vZ", "Zm\n8"] {
            assert_eq!(decode(text.as_bytes(), Reading::Lenient), Err(Malformed::Base64), "{text}");
        }
    }
}
