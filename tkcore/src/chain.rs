//! The MAC chain: every tag is computed here, so a review of it is one file.
//!
//! HMAC-SHA256 (RFC 2104, FIPS 198-1) written over `sha2`'s block function, because the chain
//! keys each link with the tag before it: the general type pays for a buffer, a copy of the
//! key and a finalisation on every link (docs/benchmarks.md). Tests hold it against the
//! `hmac` crate for every message length up to four blocks.

use sha2::compress256;
use sha2::digest::consts::U64;
use sha2::digest::generic_array::GenericArray;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::ids::BranchId;
use crate::key::{RootKey, Tail};

const BLOCK: usize = 64;
type Block = GenericArray<u8, U64>;
/// The bytes that pad an HMAC key (RFC 2104, section 2).
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;
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
        self.inner.as_mut_slice().zeroize();
        self.outer.as_mut_slice().zeroize();
    }
}

impl HmacKey {
    /// A key of exactly 32 bytes, which is every key of the chain.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut block = Block::from([0; BLOCK]);
        let mut this = Self { inner: START, outer: START };
        set_key(&mut block, key, INNER);
        compress256(&mut this.inner, core::slice::from_ref(&block));
        set_key(&mut block, key, OUTER);
        compress256(&mut this.outer, core::slice::from_ref(&block));
        block.as_mut_slice().zeroize();
        this
    }

    /// The tag of `message`.
    pub(crate) fn tag(&self, message: &[u8]) -> [u8; 32] {
        let mut state = self.inner;
        finish(&mut state, message, BLOCK);
        let mut digest = digest_block();
        put(&mut digest, &state);
        let mut state = self.outer;
        compress256(&mut state, core::slice::from_ref(&digest));
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

/// A chain on its way from one tag to the next.
///
/// A link is two runs of the block function over two blocks each: the padded key and the
/// message, then the padded key and the digest. The blocks are kept from link to link, so that
/// the padding is written once; all are wiped once, on drop, and not at every link. It is handed
/// on by reference where it can be, since every move may leave an unwiped copy on the stack.
pub(crate) struct Roll {
    tag: [u8; 32],
    inner: [Block; 2],
    outer: [Block; 2],
}

impl Drop for Roll {
    fn drop(&mut self) {
        self.tag.as_mut_slice().zeroize();
        for block in self.inner.iter_mut().chain(&mut self.outer) {
            block.as_mut_slice().zeroize();
        }
    }
}

impl Roll {
    /// At the chain's first tag.
    pub(crate) fn start(key: &RootKey, identifier: &[u8]) -> Self {
        Self::at(&key.0.tag(identifier))
    }

    /// At a tag that is known already.
    pub(crate) fn resume(tail: &Tail) -> Self {
        Self::at(tail.expose())
    }

    /// At the signature of a token, to go on from there.
    pub(crate) fn resume_signature(signature: &[u8; 32]) -> Self {
        Self::at(signature)
    }

    fn at(tag: &[u8; 32]) -> Self {
        Self {
            tag: *tag,
            inner: [[INNER; BLOCK].into(), [0; BLOCK].into()],
            outer: [[OUTER; BLOCK].into(), digest_block()],
        }
    }

    /// Goes over a first-party caveat.
    #[inline]
    pub(crate) fn first_party(&mut self, cid: &[u8]) {
        let Self { tag, inner: [inner_key, message], outer: [outer_key, digest] } = self;
        // Behind the key's bytes the padding stands already.
        for ((inner, outer), key) in inner_key.iter_mut().zip(outer_key).zip(&*tag) {
            *inner = key ^ INNER;
            *outer = key ^ OUTER;
        }
        let mut state = START;
        if cid.len() <= LAST {
            fill(message, cid);
            end(message, cid.len(), BLOCK.saturating_add(cid.len()));
            compress256(&mut state, &self.inner);
        } else {
            compress256(&mut state, core::slice::from_ref(inner_key));
            finish(&mut state, cid, BLOCK);
        }
        put(digest, &state);
        let mut state = START;
        compress256(&mut state, &self.outer);
        put(&mut self.tag, &state);
    }

    /// Goes over a third-party caveat.
    pub(crate) fn third_party(&mut self, vid: &[u8; 72], cid: &[u8]) {
        self.tag = pair(&HmacKey::new(&self.tag), vid, cid);
    }

    /// The public name of this point.
    pub(crate) fn branch(&self) -> BranchId {
        branch_of(&self.tag)
    }

    /// The tag here, as a secret of its own.
    pub(crate) const fn tail(&self) -> Tail {
        Tail::from_bytes(self.tag)
    }

    /// Whether `signature` is this tag; takes the same time whatever differs.
    pub(crate) fn signs(&self, signature: &[u8; 32]) -> bool {
        same(&self.tag, signature)
    }

    /// Whether `signature` is this tag, of a discharge, bound to `root`; in the same way.
    pub(crate) fn signs_bound(&self, root: &Self, signature: &[u8; 32]) -> bool {
        let mut bound = bind_tags(&root.tag, &self.tag);
        let verdict = same(&bound, signature);
        bound.as_mut_slice().zeroize();
        verdict
    }
}

/// The tag that a discharge must carry when it is presented beside this root.
pub(crate) fn bind(root: &Tail, discharge: &Tail) -> Tail {
    Tail::from_bytes(bind_tags(root.expose(), discharge.expose()))
}

/// Eight bytes at a time and all of them, whatever differs; one comparison at the end.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let differing = words.fold(0, |all, (a, b)| all | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    differing.ct_eq(&0).into()
}

fn bind_tags(root: &[u8; 32], discharge: &[u8; 32]) -> [u8; 32] {
    pair(&HmacKey::new(&[0; 32]), root, discharge)
}

fn branch_of(tag: &[u8; 32]) -> BranchId {
    const DOMAIN: &[u8; 12] = b"tk-branch-v1";
    const LEN: usize = DOMAIN.len() + 32;
    let mut block = Block::from([0; BLOCK]);
    for (to, from) in block.iter_mut().zip(DOMAIN.iter().chain(tag)) {
        *to = *from;
    }
    end(&mut block, LEN, LEN);
    let mut state = START;
    compress256(&mut state, core::slice::from_ref(&block));
    block.as_mut_slice().zeroize();
    let mut id = [0u8; 16];
    put(&mut id, &state);
    BranchId::from_bytes(id)
}

fn pair(key: &HmacKey, first: &[u8], second: &[u8]) -> [u8; 32] {
    let mut message = [0u8; 64];
    for (to, from) in message.iter_mut().zip(key.tag(first).into_iter().chain(key.tag(second))) {
        *to = from;
    }
    key.tag(&message)
}

/// The last block of a tag, with room for the digest under the inner key at its front.
#[inline]
fn digest_block() -> Block {
    let mut block = Block::from([0; BLOCK]);
    end(&mut block, 32, BLOCK.saturating_add(32));
    block
}

/// Absorbs what is left of a message and the padding; `before` bytes are in the state already.
fn finish(state: &mut [u32; 8], message: &[u8], before: usize) {
    let (blocks, last) = message.as_chunks::<BLOCK>();
    for block in blocks {
        compress256(state, core::slice::from_ref(Block::from_slice(block)));
    }
    let mut block = Block::from([0; BLOCK]);
    let whole = before.saturating_add(message.len());
    fill(&mut block, last);
    if last.len() > LAST {
        mark(&mut block, last.len());
        compress256(state, core::slice::from_ref(&block));
        block.fill(0);
        length(&mut block, whole);
    } else {
        end(&mut block, last.len(), whole);
    }
    compress256(state, core::slice::from_ref(&block));
}

/// The key with its padding.
#[inline]
fn set_key(block: &mut Block, key: &[u8; 32], padding: u8) {
    block.fill(padding);
    for (to, from) in block.iter_mut().zip(key) {
        *to ^= *from;
    }
}

/// The message, at most a block of it, and zeros.
#[inline]
fn fill(block: &mut Block, message: &[u8]) {
    block.fill(0);
    if let Some(to) = block.get_mut(..message.len()) {
        to.copy_from_slice(message);
    }
}

/// The mark after a message of `len` bytes and the length of all that was absorbed, in bits
/// (FIPS 180-4, section 5.1.1).
#[inline]
fn end(block: &mut Block, len: usize, whole: usize) {
    mark(block, len);
    length(block, whole);
}

#[inline]
fn mark(block: &mut Block, at: usize) {
    if let Some(to) = block.get_mut(at) {
        *to = 0x80;
    }
}

#[inline]
fn length(block: &mut Block, whole: usize) {
    let bits = u64::try_from(whole).unwrap_or(u64::MAX).saturating_mul(8);
    if let Some(length) = block.last_chunk_mut::<8>() {
        *length = bits.to_be_bytes();
    }
}

#[inline]
fn put(to: &mut [u8], state: &[u32; 8]) {
    for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
}

#[inline]
fn bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    put(&mut out, state);
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
        let roll = Roll::resume(&tail);
        let mut hash = Sha256::new();
        hash.update(b"tk-branch-v1");
        hash.update(tail.expose());
        assert_eq!(roll.branch().as_bytes()[..], hash.finalize()[..16]);
    }

    #[test]
    fn third_party_and_binding_are_the_libraries_own() {
        let root = Roll::resume(&Tail::from_bytes([3; 32]));
        let mut roll = Roll::resume(&Tail::from_bytes([3; 32]));
        let mut message = reference(&[3; 32], &[8; 72]).to_vec();
        message.extend(reference(&[3; 32], b"cid"));
        roll.third_party(&[8; 72], b"cid");
        assert!(roll.signs(&reference(&[3; 32], &message)));

        let discharge = Roll::resume(&Tail::from_bytes([4; 32]));
        let mut message = reference(&[0; 32], &[3; 32]).to_vec();
        message.extend(reference(&[0; 32], &[4; 32]));
        let bound = reference(&[0; 32], &message);
        assert!(discharge.signs_bound(&root, &bound));
        assert!(!discharge.signs_bound(&roll, &bound));
        assert_eq!(bind(&root.tail(), &discharge.tail()).expose(), &bound);
    }
}
