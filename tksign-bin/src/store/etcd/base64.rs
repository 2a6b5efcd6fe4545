//! Base64 with padding (RFC 4648, section 4), as etcd's JSON gateway has keys and values. Public
//! bytes and sealed ones only, so tables are no leak.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let quads = bytes.chunks(3).flat_map(|chunk| {
        let bits =
            [0, 1, 2].iter().fold(0u32, |bits, at| bits << 8 | u32::from(*chunk.get(*at).unwrap_or(&0)));
        [18u32, 12, 6, 0].into_iter().zip(0..).map(move |(shift, at)| {
            let letter = usize::try_from(bits >> shift & 63).ok().and_then(|six| ALPHABET.get(six));
            char::from(*letter.filter(|_| at <= chunk.len()).unwrap_or(&b'='))
        })
    });
    quads.collect()
}

/// The bytes of a text; `None` when it is not what [`encode`] writes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::with_capacity(text.len()));
    for letter in body.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter.checked_sub(b'A')?,
            b'a'..=b'z' => letter.checked_sub(b'a')?.checked_add(26)?,
            b'0'..=b'9' => letter.checked_sub(b'0')?.checked_add(52)?,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(six), held.checked_add(6)?);
        if let Some(rest) = held.checked_sub(8) {
            bytes.push(u8::try_from(bits >> rest & 0xff).ok()?);
            held = rest;
        }
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
