use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::ids::FeedKeyId;
use crate::revocation::digest::Tag;
use crate::revocation::head::{HEAD_SIGNATURES, Head};
use crate::revocation::key_list::{KEY_LIST_BYTES, KeyList, KeyListError, RootKeys};
use crate::revocation::signature::{self, FeedKey};

/// The private half of a root key or a publication key. Wiped on drop; `Debug` shows the
/// public half.
pub struct FeedSigningKey {
    key: SigningKey,
    public: FeedKey,
}

/// Why something was not signed or put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// No signing key, more than may sign, or one twice.
    Keys,
    /// A field of what should be signed breaks its rule; readers would refuse it.
    Fields,
    /// A signature or a signer is missing or not one of those the draft names.
    Signatures,
    /// The finished list would be refused.
    KeyList(KeyListError),
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys => f.write_str("wrong number of signing keys, or one twice"),
            Self::Fields => f.write_str("a field breaks its rule; readers would refuse it"),
            Self::Signatures => f.write_str("the signatures are not those of the signers named"),
            Self::KeyList(what) => what.fmt(f),
        }
    }
}

impl core::error::Error for SignError {}

impl FeedSigningKey {
    /// From the 32-byte seed of RFC 8032 (fresh randomness, when the key is new). `None` never
    /// happens for random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let key = SigningKey::from_bytes(seed);
        let public = FeedKey::from_bytes(key.verifying_key().as_bytes())?;
        Some(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> FeedKey {
        self.public
    }

    fn sign(&self, tag: &Tag, body: &[u8]) -> [u8; 64] {
        let mut message = Vec::with_capacity(tag.len().saturating_add(body.len()));
        message.extend_from_slice(tag);
        message.extend_from_slice(body);
        self.key.sign(&message).to_bytes()
    }
}

impl fmt::Debug for FeedSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedSigningKey({})", self.public)
    }
}

impl Head {
    /// The head's bytes, signed by 1 to 4 publication keys.
    ///
    /// # Errors
    /// [`SignError::Keys`] and [`SignError::Fields`].
    pub fn sign(&self, keys: &[&FeedSigningKey]) -> Result<Vec<u8>, SignError> {
        let mut keys: Vec<&FeedSigningKey> = keys.to_vec();
        keys.sort_unstable_by_key(|key| key.public.id());
        let ids: Vec<FeedKeyId> = keys.iter().map(|key| key.public.id()).collect();
        if ids.is_empty() || ids.len() > usize::from(HEAD_SIGNATURES) || has_double(&ids) {
            return Err(SignError::Keys);
        }
        let body = self.body(&ids).ok_or(SignError::Fields)?;
        let mut bytes = body.clone();
        for key in keys {
            bytes.extend_from_slice(&key.sign(signature::HEAD, &body));
        }
        Ok(bytes)
    }
}

/// A key list on its way to the root keys, which are offline and perhaps in several hands:
/// [`KeyListDraft::to_bytes`] is carried to each, [`KeyListDraft::sign`] makes one signature
/// there, [`KeyListDraft::assemble`] puts them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyListDraft {
    body: Vec<u8>,
    signers: Vec<FeedKeyId>,
}

impl KeyListDraft {
    /// A draft that exactly `signers` will sign.
    ///
    /// # Errors
    /// [`SignError::Keys`] and [`SignError::Fields`].
    pub fn new(list: &KeyList, signers: &[FeedKeyId]) -> Result<Self, SignError> {
        let mut signers = signers.to_vec();
        signers.sort_unstable();
        if signers.is_empty() || has_double(&signers) {
            return Err(SignError::Keys);
        }
        let body = list.body(&signers).ok_or(SignError::Fields)?;
        Ok(Self { body, signers })
    }

    /// What is carried to the root keys: the list without its signatures.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Reads a draft that was carried, and the list it holds, so that whoever signs can look
    /// at it first.
    ///
    /// # Errors
    /// [`SignError::Fields`] when it is no draft.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, KeyList), SignError> {
        for count in 1..=crate::revocation::key_list::ROOT_KEYS {
            let mut whole = bytes.to_vec();
            whole.resize(bytes.len().saturating_add(count.saturating_mul(64)), 0);
            if let Some((list, signers)) = KeyList::read_draft(&whole, count) {
                return Ok((Self { body: bytes.to_vec(), signers }, list));
            }
        }
        Err(SignError::Fields)
    }

    /// The ids of the root keys that must sign, ascending.
    #[must_use]
    pub fn signers(&self) -> &[FeedKeyId] {
        &self.signers
    }

    /// One root key's signature.
    ///
    /// # Errors
    /// [`SignError::Keys`] when the draft does not name this key.
    pub fn sign(&self, root: &FeedSigningKey) -> Result<[u8; 64], SignError> {
        if self.signers.contains(&root.public.id()) {
            Ok(root.sign(signature::KEY_LIST, &self.body))
        } else {
            Err(SignError::Keys)
        }
    }

    /// The finished list. It is read back as a client that pins `roots` would, so that nothing
    /// is published that they refuse.
    ///
    /// # Errors
    /// [`SignError::Signatures`] when one is missing; [`SignError::KeyList`] when a client
    /// would refuse the result.
    pub fn assemble(
        &self,
        signatures: &[(FeedKeyId, [u8; 64])],
        roots: &RootKeys,
    ) -> Result<Vec<u8>, SignError> {
        let mut bytes = Vec::with_capacity(KEY_LIST_BYTES);
        bytes.extend_from_slice(&self.body);
        for id in &self.signers {
            let (_, signature) =
                signatures.iter().find(|(signer, _)| signer == id).ok_or(SignError::Signatures)?;
            bytes.extend_from_slice(signature);
        }
        let feed = KeyList::read_draft(&bytes, self.signers.len()).ok_or(SignError::Fields)?.0.feed;
        KeyList::verify(&bytes, feed, roots).map_err(SignError::KeyList)?;
        Ok(bytes)
    }

    /// Draft, signatures and assembly in one, where all root keys are at hand.
    ///
    /// # Errors
    /// As the steps.
    pub fn sign_all(
        list: &KeyList,
        keys: &[&FeedSigningKey],
        roots: &RootKeys,
    ) -> Result<Vec<u8>, SignError> {
        let ids: Vec<FeedKeyId> = keys.iter().map(|key| key.public.id()).collect();
        let draft = Self::new(list, &ids)?;
        let mut signatures = Vec::new();
        for key in keys {
            signatures.push((key.public.id(), draft.sign(key)?));
        }
        draft.assemble(&signatures, roots)
    }
}

fn has_double(sorted: &[FeedKeyId]) -> bool {
    sorted.windows(2).any(|pair| pair.first() == pair.last())
}
