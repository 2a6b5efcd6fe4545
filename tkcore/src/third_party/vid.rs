//! The `vid` of a third-party caveat: the caveat key, sealed under the chain's tag before it with
//! XSalsa20-Poly1305, as every macaroon library does (docs/spec/third-party.md, TP-1 to TP-3).

use crypto_secretbox::aead::AeadInPlace as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, Tag, XSalsa20Poly1305};
use zeroize::{Zeroize as _, Zeroizing};

use crate::chain;
use crate::key::{RootKey, Tail};

/// Nonce 24, authenticator 16, ciphertext 32.
pub(crate) const VID_BYTES: usize = 72;

/// The secret that the maker of a third-party caveat shares with the third party. Wiped on drop;
/// not `Clone`; `Debug` shows nothing of it.
///
/// Like a root key it is run through HMAC under `macaroons-key-generator` before use, by both
/// sides, so that a third party can discharge with any macaroon library.
pub struct CaveatKey([u8; 32]);

impl CaveatKey {
    /// Wraps 32 random bytes: fresh for every caveat, from the system's generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of the discharge's chain.
    #[must_use]
    pub fn discharge_key(&self) -> RootKey {
        RootKey::derive(&self.0)
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for CaveatKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl core::fmt::Debug for CaveatKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CaveatKey(..)")
    }
}

/// Seals the derived caveat key under the tag that stands before the caveat.
///
/// `nonce` must be fresh and random; `None` only if the cipher refuses its input, which 32 bytes
/// never make it do.
pub(crate) fn seal(before: &Tail, nonce: &[u8; 24], key: &CaveatKey) -> Option<[u8; VID_BYTES]> {
    seal_derived(before, nonce, &Zeroizing::new(chain::derive(key.expose())))
}

/// The same for a key that has been derived already.
pub(crate) fn seal_derived(before: &Tail, nonce: &[u8; 24], derived: &[u8; 32]) -> Option<[u8; VID_BYTES]> {
    let mut sealed = Zeroizing::new(*derived);
    let cipher = XSalsa20Poly1305::new(Key::from_slice(before.expose()));
    let tag = cipher.encrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut *sealed);
    let mut vid = [0u8; VID_BYTES];
    let tag = tag.ok()?;
    for (to, from) in vid.iter_mut().zip(nonce.iter().chain(&tag).chain(&*sealed)) {
        *to = *from;
    }
    Some(vid)
}

/// Opens a `vid` with the tag that stands before its caveat: the key of the discharge's chain.
/// `None` when it was not sealed under this tag.
pub(crate) fn open(before: &Tail, vid: &[u8; VID_BYTES]) -> Option<RootKey> {
    open_derived(before, vid).map(|derived| RootKey::from_derived(&derived))
}

/// The same, as the derived key that can be sealed again elsewhere.
pub(crate) fn open_derived(before: &Tail, vid: &[u8; VID_BYTES]) -> Option<Zeroizing<[u8; 32]>> {
    let (nonce, rest) = vid.split_first_chunk::<24>()?;
    let (tag, sealed) = rest.split_first_chunk::<16>()?;
    let mut derived: Zeroizing<[u8; 32]> = Zeroizing::new(sealed.try_into().ok()?);
    let cipher = XSalsa20Poly1305::new(Key::from_slice(before.expose()));
    cipher
        .decrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut *derived, Tag::from_slice(tag))
        .ok()
        .map(|()| derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with libsodium's `crypto_secretbox_easy` through PyNaCl: key `00 01 .. 1f`, nonce
    /// `40 41 .. 57`, message HMAC-SHA256("macaroons-key-generator", "caveat key of 32 bytes exactly!!").
    const LIBSODIUM: &str = "404142434445464748494a4b4c4d4e4f505152535455565782b720973d9d9f7f8084df130f7dbefea48ddb468f3fbfe926499082f94f145427a2e42d65c9dbd5ea3cc6e0e4b2424e";

    fn tail() -> Tail {
        Tail::from_bytes(core::array::from_fn(|i| i as u8))
    }

    /// TP-1.
    #[test]
    fn agrees_with_libsodium() {
        let nonce = core::array::from_fn(|i| 0x40 + i as u8);
        let key = CaveatKey::from_bytes(*b"caveat key of 32 bytes exactly!!");
        let vid = seal(&tail(), &nonce, &key).unwrap();
        let hex: std::string::String = vid.iter().map(|byte| std::format!("{byte:02x}")).collect();
        assert_eq!(hex, LIBSODIUM);
        let opened = open(&tail(), &vid).unwrap();
        let theirs = chain::Roll::start(&key.discharge_key(), b"id").tail();
        assert!(chain::Roll::start(&opened, b"id").signs(theirs.expose()));
    }

    #[test]
    fn no_bit_may_change() {
        let vid = seal(&tail(), &[1; 24], &CaveatKey::from_bytes([2; 32])).unwrap();
        for bit in 0..VID_BYTES * 8 {
            let mut bad = vid;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&tail(), &bad).is_none(), "{bit}");
        }
        assert!(open(&Tail::from_bytes([0; 32]), &vid).is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(std::format!("{:?}", CaveatKey::from_bytes([7; 32])), "CaveatKey(..)");
    }
}
