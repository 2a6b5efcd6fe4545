//! Finds secrets in bytes: those that are known, and root keys by what they can do.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tkcore::protocol::MintAnswer;

/// Whether `needle` stands anywhere.
pub fn stands(bytes: &[u8], needle: &[u8]) -> bool {
    assert!(needle.len() >= 8, "a short needle is found anywhere");
    let Some(last) = bytes.len().checked_sub(needle.len()) else { return false };
    (0..=last).any(|at| bytes[at] == needle[0] && bytes[at..].starts_with(needle))
}

/// A needle as programs write it: raw, hexadecimal in both cases, base64 at every alignment.
pub fn spellings(needle: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![needle.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    if needle.len() >= 12 {
        all.extend((0..3).flat_map(|skip| ["+/", "-_"].map(|last| base64(&needle[skip..], last))));
    }
    all
}

/// Of whole groups of three bytes only: what follows them depends on the neighbour.
fn base64(bytes: &[u8], last: &str) -> Vec<u8> {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(last.bytes()).collect();
    let group = |three: &[u8]| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift) as usize & 63])
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

/// A minted token, taken apart: its identifier, its caveats and its signature.
pub struct Chain {
    parts: Vec<Vec<u8>>,
    signature: Vec<u8>,
}

impl Chain {
    /// V2: version 2; of each section fields of type, length, bytes, and an end 0.
    pub fn of(token: &MintAnswer) -> Self {
        let bytes = token.token.expose();
        assert_eq!(bytes[0], 2);
        let (mut at, mut parts, mut signature) = (1, Vec::new(), Vec::new());
        while at < bytes.len() {
            let kind = bytes[at];
            at += 1;
            if kind == 0 {
                continue;
            }
            let mut length = usize::from(bytes[at] & 0x7f);
            if bytes[at] & 0x80 != 0 {
                at += 1;
                length |= usize::from(bytes[at]) << 7;
            }
            let value = &bytes[at + 1..at + 1 + length];
            at += 1 + length;
            match kind {
                2 => parts.push(value.to_vec()),
                6 => signature = value.to_vec(),
                other => panic!("field {other}"),
            }
        }
        Self { parts, signature }
    }

    fn holds_under(&self, key: &[u8]) -> bool {
        let mut tail = key.to_vec();
        for part in &self.parts {
            let mut mac = Hmac::<Sha256>::new_from_slice(&tail).unwrap();
            mac.update(part);
            tail = mac.finalize().into_bytes().to_vec();
        }
        tail == self.signature
    }

    /// How often a key under which this token holds stands in `bytes`: its root key, raw.
    pub fn roots_in(&self, bytes: &[u8]) -> usize {
        random_looking(bytes).into_iter().filter(|window| self.holds_under(window)).count()
    }
}

/// The pages that are not all zero: most of a memory image is, and no secret.
pub fn written(image: &[u8]) -> Vec<u8> {
    let pages = image.chunks(4096).filter(|page| *page != &[0; 4096][..page.len()]);
    pages.collect::<Vec<_>>().concat()
}

/// All runs of 32 bytes with at least 24 different ones; of 32 random bytes thirteen in a million
/// have fewer, and most of what is not random has.
pub fn random_looking(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut counts, mut different, mut found) = ([0u8; 256], 0u32, Vec::new());
    for at in 0..bytes.len() {
        let count = &mut counts[usize::from(bytes[at])];
        *count += 1;
        different += u32::from(*count == 1);
        if at >= 32 {
            let count = &mut counts[usize::from(bytes[at - 32])];
            *count -= 1;
            different -= u32::from(*count == 0);
        }
        if at >= 31 && different >= 24 {
            found.push(&bytes[at - 31..=at]);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn finds_what_is_there() {
    let needle: [u8; 33] = core::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ 0x5a);
    for spelled in spellings(&needle) {
        for shift in 0..3 {
            let hay = [&vec![0; shift][..], &spelled, b"after"].concat();
            assert!(stands(&hay, &spelled));
        }
    }
    // Base64 of the needle behind 0, 1 and 2 other bytes holds one of the spellings.
    for before in 0..3 {
        let hay = base64(&[&vec![7; before][..], &needle, &[9; 9]].concat(), "-_");
        assert!(spellings(&needle).iter().any(|spelled| stands(&hay, spelled)), "{before}");
    }
    assert!(!stands(&[0; 100], &needle));
    let hay = [&[0; 50][..], &needle[..32], &[0; 50]].concat();
    assert!(random_looking(&hay).contains(&&needle[..32]));
}
