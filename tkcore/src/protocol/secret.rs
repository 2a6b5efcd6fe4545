use alloc::vec::Vec;
use core::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::field::{BadMessage, Field, Fields, Writer};

/// Bytes that are a bearer secret: a token. Up to 65,535 behind a 16-bit length. Wiped on drop,
/// shown by no `Debug`, not `Clone`, compared in constant time only.
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Equality that takes the same time whatever differs, for equal lengths.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

impl Field for SecretBytes {
    fn write(&self, to: &mut Writer) {
        to.put16(&self.0);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Ok(Self(from.0.bytes16()?.to_vec()))
    }
}

/// A secret of 32 bytes. Wiped on drop, shown by no `Debug`, not `Clone`, compared in constant
/// time only.
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality that takes the same time whatever differs.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl Field for SecretKey {
    fn write(&self, to: &mut Writer) {
        to.put(&self.0);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        from.array().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        assert_eq!(format!("{:?}", SecretBytes::from(&b"tk"[..])), "SecretBytes(..)");
        assert_eq!(format!("{:?}", SecretKey::new([7; 32])), "SecretKey(..)");
    }

    #[test]
    fn secrets_compare_by_value() {
        assert!(SecretBytes::from(&b"a"[..]).ct_eq(&SecretBytes::from(&b"a"[..])));
        assert!(!SecretBytes::from(&b"a"[..]).ct_eq(&SecretBytes::from(&b"b"[..])));
        assert!(!SecretKey::new([1; 32]).ct_eq(&SecretKey::new([2; 32])));
    }
}
