//! Base64 with padding (RFC 4648, section 4), as etcd's JSON gateway has keys and values. Public
//! bytes and sealed ones only, so tables are no leak.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        let [a, b, c] = three.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for at in 0..4usize {
            let six = bits >> [18, 12, 6, 0].get(at).copied().unwrap_or(0) & 63;
            let letter = usize::try_from(six).ok().and_then(|six| ALPHABET.get(six)).copied();
            text.push(if at <= chunk.len() { char::from(letter.unwrap_or(b'=')) } else { '=' });
        }
    }
    text
}

/// The bytes of a text; `None` when it is not what [`encode`] writes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let (chunks, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(text.len());
    for (at, chunk) in chunks.iter().enumerate() {
        let padding = chunk.iter().filter(|letter| **letter == b'=').count();
        let bits = chunk.iter().enumerate().try_fold(0u32, |bits, (at, letter)| {
            let six = match letter {
                b'A'..=b'Z' => letter.checked_sub(b'A')?,
                b'a'..=b'z' => letter.checked_sub(b'a')?.checked_add(26)?,
                b'0'..=b'9' => letter.checked_sub(b'0')?.checked_add(52)?,
                b'+' => 62,
                b'/' => 63,
                b'=' if at.checked_add(padding)? >= 4 => 0,
                _ => return None,
            };
            Some(bits << 6 | u32::from(six))
        })?;
        let [_, three @ ..] = bits.to_be_bytes();
        if padding > 2 || (padding > 0 && at.checked_add(1)? != chunks.len()) {
            return None;
        }
        bytes.extend(three.iter().take(3usize.checked_sub(padding)?));
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
        for wrong in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9-", "Zm9v\n", "=m9v"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
