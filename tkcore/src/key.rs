use core::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::chain::{self, HmacKey};

/// What keys a token's chain. Whoever holds it can mint, so only the signer does, and a
/// service for a delegated audience key of its own.
///
/// Only the two SHA-256 states that the key leads to are kept, which is all that the chain
/// needs and saves two of its hash blocks on every verification. Wiped on drop; not `Clone`;
/// `Debug` shows nothing of it.
pub struct RootKey(pub(crate) HmacKey);

impl RootKey {
    /// From the key as given to a macaroon library: it is first run through HMAC-SHA256 under
    /// the key `macaroons-key-generator`, as all of them do. Any length; 32 random bytes are
    /// the right choice.
    #[must_use]
    pub fn derive(key: &[u8]) -> Self {
        let mut derived = chain::derive(key);
        let key = Self::from_derived(&derived);
        derived.zeroize();
        key
    }

    /// From a key that has already been derived: used for the chain as it is.
    #[must_use]
    pub fn from_derived(derived: &[u8; 32]) -> Self {
        Self(HmacKey::new(derived))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// A value of the chain: the signature of a token at some point, and the key of what follows.
///
/// A bearer secret: with the identifier and the caveats so far it *is* the token. Never
/// published, logged or returned by the signer. Wiped on drop; compared in constant time only.
pub struct Tail([u8; 32]);

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Tail {
    /// Wraps the 32 bytes of a signature.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, for writing a token.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality that takes the same time whatever differs.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// A second copy of the secret, said aloud.
    #[must_use]
    pub const fn duplicate(&self) -> Self {
        Self(self.0)
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tail(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", RootKey::derive(b"secret")), "RootKey(..)");
        assert_eq!(format!("{:?}", Tail::from_bytes([7; 32])), "Tail(..)");
    }

    #[test]
    fn tails_compare_by_value() {
        assert!(Tail::from_bytes([7; 32]).ct_eq(&Tail::from_bytes([7; 32])));
        let mut other = [7; 32];
        other[31] ^= 1;
        assert!(!Tail::from_bytes([7; 32]).ct_eq(&Tail::from_bytes(other)));
    }
}
