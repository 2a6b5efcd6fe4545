//! The yardsticks: the bare HMAC-SHA256 chain, nothing else. No parsing, no caveat is looked
//! at, no revocation. `safe_floor` is what every row is divided by: written by hand over
//! `sha2`'s block function with the root key's two states prepared, without `unsafe`.

use hmac::Mac as _;
use hmac_next::{KeyInit as _, Mac as _};
use sha2::digest::generic_array::GenericArray;

const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// One hash block absorbed, by either generation of `sha2`.
pub trait Compress {
    fn compress(state: &mut [u32; 8], block: &[u8; 64]);
}

/// `sha2` 0.10, which the project uses.
pub struct Current;
/// `sha2` 0.11.
pub struct Next;

impl Compress for Current {
    #[inline]
    fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
        sha2::compress256(state, std::slice::from_ref(GenericArray::from_slice(block)));
    }
}

impl Compress for Next {
    #[inline]
    fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
        sha2_next::block_api::compress256(state, std::slice::from_ref(block));
    }
}

/// An HMAC key as its two states.
#[derive(Clone, Copy)]
pub struct Midstates {
    inner: [u32; 8],
    outer: [u32; 8],
}

pub fn midstates<C: Compress>(key: &[u8; 32]) -> Midstates {
    let mut block = [0x36; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to ^= from;
    }
    let mut inner = START;
    C::compress(&mut inner, &block);
    for byte in &mut block {
        *byte ^= 0x36 ^ 0x5c;
    }
    let mut outer = START;
    C::compress(&mut outer, &block);
    Midstates { inner, outer }
}

fn tag<C: Compress>(key: &Midstates, message: &[u8]) -> [u8; 32] {
    let mut state = key.inner;
    let (blocks, rest) = message.as_chunks::<64>();
    for block in blocks {
        C::compress(&mut state, block);
    }
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 0x80;
    if rest.len() > 55 {
        C::compress(&mut state, &block);
        block = [0; 64];
    }
    block[56..].copy_from_slice(&((64 + message.len() as u64) * 8).to_be_bytes());
    C::compress(&mut state, &block);

    let mut block = [0; 64];
    for (to, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    block[32] = 0x80;
    block[56..].copy_from_slice(&(96u64 * 8).to_be_bytes());
    let mut state = key.outer;
    C::compress(&mut state, &block);
    let mut out = [0; 32];
    for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    out
}

/// What macaroon libraries do to a root key before its first use.
pub fn derived(key: &[u8; 32]) -> [u8; 32] {
    const GENERATOR: &[u8] = b"macaroons-key-generator";
    let mut generator = [0; 32];
    generator[..GENERATOR.len()].copy_from_slice(GENERATOR);
    link::<Current>(&generator, key)
}

/// One link of the chain.
pub fn link<C: Compress>(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    tag::<C>(&midstates::<C>(key), message)
}

/// The chain by hand.
pub fn by_hand<C: Compress>(root: &Midstates, identifier: &[u8], caveats: &[Vec<u8>]) -> [u8; 32] {
    let mut tail = tag::<C>(root, identifier);
    for caveat in caveats {
        tail = tag::<C>(&midstates::<C>(&tail), caveat);
    }
    tail
}

/// The chain by the `hmac` crate 0.12 over `sha2` 0.10.
pub fn by_hmac(root: &hmac::Hmac<sha2::Sha256>, identifier: &[u8], caveats: &[Vec<u8>]) -> [u8; 32] {
    let mut tail: [u8; 32] = root.clone().chain_update(identifier).finalize().into_bytes().into();
    for caveat in caveats {
        let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&tail).expect("any key length is right");
        tail = mac.chain_update(caveat).finalize().into_bytes().into();
    }
    tail
}

/// The chain by the `hmac` crate 0.13 over `sha2` 0.11.
pub fn by_hmac_next(
    root: &hmac_next::Hmac<sha2_next::Sha256>,
    identifier: &[u8],
    caveats: &[Vec<u8>],
) -> [u8; 32] {
    let mut tail: [u8; 32] = root.clone().chain_update(identifier).finalize().into_bytes().into();
    for caveat in caveats {
        let mac =
            hmac_next::Hmac::<sha2_next::Sha256>::new_from_slice(&tail).expect("any key length is right");
        tail = mac.chain_update(caveat).finalize().into_bytes().into();
    }
    tail
}

/// Prepared root keys of both `hmac` crates.
pub fn hmac_root(key: &[u8; 32]) -> hmac::Hmac<sha2::Sha256> {
    hmac::Hmac::new_from_slice(key).expect("any key length is right")
}

pub fn hmac_next_root(key: &[u8; 32]) -> hmac_next::Hmac<sha2_next::Sha256> {
    hmac_next::Hmac::new_from_slice(key).expect("any key length is right")
}
