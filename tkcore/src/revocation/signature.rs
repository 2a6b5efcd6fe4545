//! Ed25519 signatures under the feed's key list and heads (RV-11, RV-13).

use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::codec::Reader;
use crate::ids::FeedKeyId;
use crate::revocation::digest::{Tag, digest};
use crate::revocation::object::ObjectError;

const KEY_ID: &Tag = b"tk-ed25519-v1\0\0\0";
pub(crate) const KEY_LIST: &Tag = b"tk-key-list-v1\0\0";
pub(crate) const HEAD: &Tag = b"tk-head-v1\0\0\0\0\0\0";

/// The public half of an Ed25519 key of the feed: a root key or a publication key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FeedKey {
    key: VerifyingKey,
    id: FeedKeyId,
}

impl FeedKey {
    /// From the 32 bytes of RFC 8032, section 5.1.5. `None` when they are no point of the
    /// curve, or one of the few under which anything verifies.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())?;
        let hash = digest(KEY_ID, &[bytes]);
        let id = FeedKeyId::from_bytes(*hash.as_bytes().first_chunk()?);
        Some(Self { key, id })
    }

    /// From 64 lower-case hexadecimal digits, as a trust file has it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_bytes(crate::ids::FeedDigest::from_hex(text)?.as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// What signatures name it by: the first 8 bytes of a tagged SHA-256 of it.
    #[must_use]
    pub const fn id(&self) -> FeedKeyId {
        self.id
    }

    /// Strict verification: canonical encodings, no small-order point, the equation without
    /// cofactor, so that there is one opinion on every signature.
    pub(crate) fn verifies(&self, tag: &Tag, signed: &[u8], signature: &[u8; 64]) -> bool {
        let mut message = Vec::with_capacity(tag.len().saturating_add(signed.len()));
        message.extend_from_slice(tag);
        message.extend_from_slice(signed);
        self.key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for FeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::ids::FeedDigest::from_bytes(*self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for FeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedKey({self})")
    }
}

/// The signatures under an object. Their number and key ids are part of what is signed, so
/// that none can be taken away, added or renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signatures {
    list: Vec<(FeedKeyId, [u8; 64])>,
}

impl Signatures {
    /// Reads `number 1, ids 8 each, signatures 64 each`; ids strictly ascending.
    pub(crate) fn read(reader: &mut Reader<'_>, most: u8) -> Result<Self, ObjectError> {
        let count = reader.u8()?;
        if count == 0 || count > most {
            return Err(ObjectError::Shape("number of signatures"));
        }
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = FeedKeyId::from_bytes(reader.array()?);
            if ids.last().is_some_and(|last| *last >= id) {
                return Err(ObjectError::Shape("signing keys out of order"));
            }
            ids.push(id);
        }
        let mut list = Vec::new();
        for id in ids {
            list.push((id, reader.array()?));
        }
        Ok(Self { list })
    }

    /// Bytes that the signatures themselves take at the end of the object.
    pub(crate) fn len(&self) -> usize {
        self.list.len().saturating_mul(64)
    }

    /// The key ids named, ascending.
    #[cfg(feature = "publish")]
    pub(crate) fn ids(&self) -> Vec<FeedKeyId> {
        self.list.iter().map(|(id, _)| *id).collect()
    }

    /// The keys of `known` whose signature holds. Signatures under other keys are ignored.
    ///
    /// # Errors
    /// The id of a known key whose signature does not hold: that refuses the object.
    pub(crate) fn verify(
        &self,
        tag: &Tag,
        signed: &[u8],
        known: impl Fn(FeedKeyId) -> Option<FeedKey>,
    ) -> Result<Vec<FeedKey>, FeedKeyId> {
        let mut good = Vec::new();
        for (id, signature) in &self.list {
            if let Some(key) = known(*id) {
                if !key.verifies(tag, signed, signature) {
                    return Err(*id);
                }
                good.push(key);
            }
        }
        Ok(good)
    }
}
