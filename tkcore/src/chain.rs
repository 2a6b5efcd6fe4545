//! The MAC chain: every tag is computed here, so a review of it is one file.
//!
//! HMAC-SHA256 (RFC 2104, FIPS 198-1) written over `sha2`'s block function, because the chain
//! keys each link with the tag before it: the general type pays for a buffer, a copy of the
//! key and a finalisation on every link (docs/benchmarks.md). Tests hold it against the
//! `hmac` crate for every message length up to four blocks.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;
use zeroize::Zeroize as _;

use crate::ids::BranchId;
use crate::key::{RootKey, Tail};

const BLOCK: usize = 64;
/// Message bytes that fit the last block beside the 0x80 mark and the 64-bit length.
const LAST: usize = BLOCK - 9;

/// FIPS 180-4, section 5.3.3.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// An HMAC key as the two states that its padded forms lead to.
pub(crate) struct HmacKey {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

impl HmacKey {
    /// A key of exactly 32 bytes, which is every key of the chain.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut block = [0x36u8; BLOCK];
        for (to, from) in block.iter_mut().zip(key) {
            *to ^= *from;
        }
        let mut inner = START;
        absorb(&mut inner, &block);
        for byte in &mut block {
            *byte ^= 0x36 ^ 0x5c;
        }
        let mut outer = START;
        absorb(&mut outer, &block);
        block.zeroize();
        Self { inner, outer }
    }

    /// The tag of `message`.
    pub(crate) fn tag(&self, message: &[u8]) -> [u8; 32] {
        let mut state = self.inner;
        finish(&mut state, message, BLOCK);
        let digest = bytes(&state);
        let mut state = self.outer;
        finish(&mut state, &digest, BLOCK);
        bytes(&state)
    }
}

/// `HMAC-SHA256(key, message)` for a 32-byte key.
pub(crate) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    HmacKey::new(key).tag(message)
}

/// What macaroon libraries do to a root key before its first use.
pub(crate) fn derive(key: &[u8]) -> [u8; 32] {
    let mut generator = [0u8; 32];
    for (to, from) in generator.iter_mut().zip(b"macaroons-key-generator") {
        *to = *from;
    }
    hmac(&generator, key)
}

/// The chain's first tag.
pub(crate) fn start(key: &RootKey, identifier: &[u8]) -> Tail {
    Tail::from_bytes(key.0.tag(identifier))
}

/// The tag after a first-party caveat.
pub(crate) fn first_party(tail: &Tail, cid: &[u8]) -> Tail {
    Tail::from_bytes(hmac(tail.expose(), cid))
}

/// The tag after a third-party caveat.
pub(crate) fn third_party(tail: &Tail, vid: &[u8], cid: &[u8]) -> Tail {
    Tail::from_bytes(pair(&HmacKey::new(tail.expose()), vid, cid))
}

/// The tag that a discharge must carry when it is presented beside this root.
pub(crate) fn bind(root: &Tail, discharge: &Tail) -> Tail {
    Tail::from_bytes(pair(&HmacKey::new(&[0; 32]), root.expose(), discharge.expose()))
}

/// The public name of this point of the chain.
pub(crate) fn branch(tail: &Tail) -> BranchId {
    let mut message = [0u8; 44];
    for (to, from) in message.iter_mut().zip(b"tk-branch-v1".iter().chain(tail.expose())) {
        *to = *from;
    }
    let mut state = START;
    finish(&mut state, &message, 0);
    message.zeroize();
    let mut id = [0u8; 16];
    for (to, from) in id.iter_mut().zip(bytes(&state)) {
        *to = from;
    }
    BranchId::from_bytes(id)
}

fn pair(key: &HmacKey, first: &[u8], second: &[u8]) -> [u8; 32] {
    let mut message = [0u8; 64];
    for (to, from) in message.iter_mut().zip(key.tag(first).into_iter().chain(key.tag(second))) {
        *to = from;
    }
    key.tag(&message)
}

/// Absorbs what is left of a message and the padding; `before` bytes are in the state already.
#[inline]
fn finish(state: &mut [u32; 8], message: &[u8], before: usize) {
    let (blocks, last) = message.as_chunks::<BLOCK>();
    for block in blocks {
        absorb(state, block);
    }
    let bits = u64::try_from(before.saturating_add(message.len())).unwrap_or(u64::MAX).saturating_mul(8);
    let mut block = [0u8; BLOCK];
    for (to, from) in block.iter_mut().zip(last.iter().chain(&[0x80])) {
        *to = *from;
    }
    if last.len() > LAST {
        absorb(state, &block);
        block = [0u8; BLOCK];
    }
    if let Some(length) = block.last_chunk_mut::<8>() {
        *length = bits.to_be_bytes();
    }
    absorb(state, &block);
}

#[inline]
fn absorb(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    compress256(state, core::slice::from_ref(GenericArray::from_slice(block)));
}

#[inline]
fn bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    out
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, Mac as _};
    use sha2::{Digest as _, Sha256};
    use std::vec::Vec;

    use super::*;

    fn reference(key: &[u8], message: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    #[test]
    fn agrees_with_the_hmac_crate_at_every_length() {
        let key: [u8; 32] = core::array::from_fn(|i| i as u8 ^ 0xa5);
        for len in 0..=260 {
            let message: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(hmac(&key, &message), reference(&key, &message), "{len}");
        }
    }

    #[test]
    fn derivation_is_hmac_under_the_fixed_key() {
        assert_eq!(derive(b"secret"), reference(b"macaroons-key-generator", b"secret"));
    }

    #[test]
    fn a_branch_id_is_the_cut_hash_of_tag_and_tail() {
        let tail = Tail::from_bytes([9; 32]);
        let mut hash = Sha256::new();
        hash.update(b"tk-branch-v1");
        hash.update(tail.expose());
        assert_eq!(branch(&tail).as_bytes()[..], hash.finalize()[..16]);
    }

    #[test]
    fn third_party_and_binding_are_the_libraries_own() {
        let tail = Tail::from_bytes([3; 32]);
        let mut message = reference(&[3; 32], b"vid").to_vec();
        message.extend(reference(&[3; 32], b"cid"));
        assert_eq!(third_party(&tail, b"vid", b"cid").expose(), &reference(&[3; 32], &message));

        let other = Tail::from_bytes([4; 32]);
        let mut message = reference(&[0; 32], &[3; 32]).to_vec();
        message.extend(reference(&[0; 32], &[4; 32]));
        assert_eq!(bind(&tail, &other).expose(), &reference(&[0; 32], &message));
    }
}
