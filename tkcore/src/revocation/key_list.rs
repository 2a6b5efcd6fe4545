use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::codec::Reader;
use crate::ids::{FeedId, FeedKeyId};
use crate::revocation::object::{self, ObjectError};
use crate::revocation::signature::{self, FeedKey, Signatures};
use crate::time::Timestamp;

pub(crate) const MAGIC: [u8; 4] = *b"tkK1";

/// Longest key list, in bytes. 16 keys and 16 signatures are 1,962.
pub const KEY_LIST_BYTES: usize = 2048;

/// Most publication keys in a list: two generations of four signers, and room.
pub const PUBLICATION_KEYS: usize = 16;

/// Most root keys that a client pins, and so most signatures under a list.
pub const ROOT_KEYS: usize = 16;

/// Longest window of a publication key: a stolen one is worth nothing after a quarter.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(90 * 86_400);

/// The root keys that a client pins, of which `threshold` must sign every key list. They are
/// kept offline; nothing but a key list is ever signed with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKeys {
    threshold: u8,
    keys: Vec<FeedKey>,
}

/// The pinned keys and the threshold do not fit each other: not `1 ≤ k ≤ n ≤ 16`, or a key
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootKeysError;

impl fmt::Display for RootKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("root keys: need 1 ≤ threshold ≤ number of different keys ≤ 16")
    }
}

impl core::error::Error for RootKeysError {}

impl RootKeys {
    /// Any `threshold` of `keys`.
    ///
    /// # Errors
    /// [`RootKeysError`].
    pub fn new(threshold: u8, keys: &[FeedKey]) -> Result<Self, RootKeysError> {
        let mut ids: Vec<FeedKeyId> = keys.iter().map(FeedKey::id).collect();
        ids.sort_unstable();
        ids.dedup();
        let fits = threshold > 0 && usize::from(threshold) <= keys.len() && keys.len() <= ROOT_KEYS;
        if fits && ids.len() == keys.len() {
            Ok(Self { threshold, keys: keys.to_vec() })
        } else {
            Err(RootKeysError)
        }
    }

    /// How many of them must sign.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The keys, in the order given.
    #[must_use]
    pub fn keys(&self) -> &[FeedKey] {
        &self.keys
    }

    /// Who is asked to sign a new key list: as many as must, in the order given.
    #[must_use]
    pub fn signers(&self) -> Vec<FeedKeyId> {
        self.keys.iter().map(FeedKey::id).take(usize::from(self.threshold)).collect()
    }
}

/// A publication key with the window in which it may sign heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationKey {
    /// The key.
    pub key: FeedKey,
    /// From this time on.
    pub not_before: Timestamp,
    /// Not at this time or later; at most 90 days after `not_before`.
    pub not_after: Timestamp,
}

impl PublicationKey {
    /// Whether `at` lies in the window.
    #[must_use]
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        self.not_before <= at && at < self.not_after
    }
}

/// Which keys may sign heads, and which epoch the feed is in. Read only as far as its
/// signatures hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyList {
    /// Whose feed.
    pub feed: FeedId,
    /// Counts lists; only grows.
    pub version: u64,
    /// Only a key list raises it.
    pub epoch: u64,
    /// By key bytes.
    pub keys: Vec<PublicationKey>,
}

/// Why a key list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyListError {
    /// The bytes are no key list of this feed.
    Object(ObjectError),
    /// A signature under this pinned key does not hold: the whole list is refused.
    BadSignature(FeedKeyId),
    /// Fewer good signatures under pinned keys than the threshold.
    TooFewSignatures {
        /// How many hold.
        good: usize,
        /// How many must.
        needed: u8,
    },
}

impl fmt::Display for KeyListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(what) => write!(f, "key list: {what}"),
            Self::BadSignature(id) => write!(f, "key list: bad signature under root key {id}"),
            Self::TooFewSignatures { good, needed } => {
                write!(f, "key list: {good} good root signatures, {needed} needed")
            }
        }
    }
}

impl core::error::Error for KeyListError {}

impl From<ObjectError> for KeyListError {
    fn from(what: ObjectError) -> Self {
        Self::Object(what)
    }
}

impl KeyList {
    /// Reads a list and checks its signatures (RV-40).
    ///
    /// # Errors
    /// [`KeyListError`] says what refuses it.
    pub fn verify(bytes: &[u8], feed: FeedId, roots: &RootKeys) -> Result<Self, KeyListError> {
        let (list, signatures) = read(bytes)?;
        if list.feed != feed {
            return Err(ObjectError::OtherFeed.into());
        }
        let signed = bytes.len().saturating_sub(signatures.len());
        let signed = bytes.get(..signed).ok_or(ObjectError::Truncated)?;
        let known = |id| roots.keys.iter().find(|key| key.id() == id).copied();
        let good =
            signatures.verify(signature::KEY_LIST, signed, known).map_err(KeyListError::BadSignature)?;
        if good.len() < usize::from(roots.threshold) {
            return Err(KeyListError::TooFewSignatures { good: good.len(), needed: roots.threshold });
        }
        Ok(list)
    }

    /// The key that a head's signature names, if it is listed.
    #[must_use]
    pub fn find(&self, id: FeedKeyId) -> Option<&PublicationKey> {
        self.keys.iter().find(|listed| listed.key.id() == id)
    }
}

fn read(bytes: &[u8]) -> Result<(KeyList, Signatures), ObjectError> {
    if bytes.len() > KEY_LIST_BYTES {
        return Err(ObjectError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    object::preamble(&mut reader, MAGIC)?;
    let feed = object::feed(&mut reader)?;
    let (version, epoch) = (reader.u64()?, reader.u64()?);
    if version == 0 || epoch == 0 {
        return Err(ObjectError::Shape("versions and epochs count from one"));
    }
    let count = usize::from(reader.u8()?);
    if count == 0 || count > PUBLICATION_KEYS {
        return Err(ObjectError::Shape("number of publication keys"));
    }
    let mut keys: Vec<PublicationKey> = Vec::new();
    for _ in 0..count {
        let key = FeedKey::from_bytes(&reader.array()?).ok_or(ObjectError::Shape("publication key"))?;
        let time = |millis| Timestamp::from_millis(millis).ok_or(ObjectError::Shape("window"));
        let (not_before, not_after) = (time(reader.u64()?)?, time(reader.u64()?)?);
        if not_before >= not_after || not_after.saturating_since(not_before) > LONGEST_WINDOW {
            return Err(ObjectError::Shape("window empty or longer than 90 days"));
        }
        if keys.last().is_some_and(|last| last.key.as_bytes() >= key.as_bytes()) {
            return Err(ObjectError::Shape("publication keys out of order"));
        }
        keys.push(PublicationKey { key, not_before, not_after });
    }
    let most = u8::try_from(ROOT_KEYS).unwrap_or(u8::MAX);
    let signatures = Signatures::read(&mut reader, most)?;
    object::end(&reader)?;
    Ok((KeyList { feed, version, epoch, keys }, signatures))
}

impl KeyList {
    /// Reads a list whose `count` signatures are not looked at.
    #[cfg(feature = "publish")]
    pub(crate) fn read_draft(bytes: &[u8], count: usize) -> Option<(Self, Vec<FeedKeyId>)> {
        let (list, signatures) = read(bytes).ok()?;
        let ids = signatures.ids();
        if ids.len() == count { Some((list, ids)) } else { None }
    }

    /// The bytes that the root keys `signers` sign, without the tag: everything up to the
    /// signatures, their number and key ids included. `None` when a field breaks its rule.
    #[cfg(feature = "publish")]
    pub(crate) fn body(&self, signers: &[FeedKeyId]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(KEY_LIST_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&0u32.to_be_bytes());
        bytes.extend_from_slice(self.feed.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.push(u8::try_from(self.keys.len()).ok()?);
        let mut keys = self.keys.clone();
        keys.sort_unstable_by_key(|listed| *listed.key.as_bytes());
        for listed in &keys {
            bytes.extend_from_slice(listed.key.as_bytes());
            bytes.extend_from_slice(&listed.not_before.millis().to_be_bytes());
            bytes.extend_from_slice(&listed.not_after.millis().to_be_bytes());
        }
        bytes.push(u8::try_from(signers.len()).ok()?);
        for id in signers {
            bytes.extend_from_slice(id.as_bytes());
        }
        let mut whole = bytes.clone();
        whole.resize(bytes.len().saturating_add(signers.len().saturating_mul(64)), 0);
        read(&whole).ok().map(|_| bytes)
    }
}
