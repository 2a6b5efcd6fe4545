use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::ids::{FeedDigest, FeedKeyId};
use crate::revocation::feed::validity::Validity;
use crate::revocation::key_list::KeyListError;
use crate::revocation::object::ObjectError;
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::set::RevocationSet;

/// What the driver does, in the order given. When a write fails, the writes after it in the
/// same list are left out, everything else is done, and
/// [`Machine::write_failed`](crate::revocation::feed::Machine::write_failed) is told.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Write a file: temporary name, `fsync`, rename, `fsync` of the folder. The list has data
    /// first, then the head, then the floor, so that a crash in between leaves a state that
    /// loads.
    Write {
        /// Its name.
        file: StoreFile,
        /// Its bytes.
        bytes: Arc<Vec<u8>>,
    },
    /// These data files are needed; other deltas and snapshots may go, after a pause that lets
    /// other readers of the folder finish.
    Keep(Vec<FeedPath>),
    /// Decide by this set from now on.
    Swap {
        /// The set.
        set: RevocationSet,
        /// For how long.
        validity: Validity,
    },
    /// The set is the same, and good for longer.
    Renew(Validity),
    /// Count it, log it.
    Report(Event),
}

/// A file of the client's folder. `Display` gives its name, with `/` between folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreFile {
    /// An object, under the name it is served by: the folder can be served again.
    Object(FeedPath),
    /// The floor file.
    Floor,
    /// One of two heads that contradict each other, by a digest of its bytes.
    Evidence(FeedDigest),
}

impl fmt::Display for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(path) => path.fmt(f),
            Self::Floor => f.write_str("floor"),
            Self::Evidence(digest) => write!(f, "evidence/{digest}"),
        }
    }
}

/// Something to count and to log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A later state is in force.
    Advanced {
        /// Its position.
        position: Position,
        /// How it was reached.
        link: Link,
    },
    /// The same state, signed again.
    Heartbeat,
    /// A newer key list is in force.
    KeyList {
        /// Its version.
        version: u64,
        /// Its epoch.
        epoch: u64,
    },
    /// Something that came was not believed.
    Refused(Refusal),
    /// A place did not answer, or without what was asked for.
    Unavailable {
        /// Which place.
        mirror: usize,
    },
    /// A merged delta is not there; single ones are fetched.
    NotMerged,
    /// The alarm was raised.
    Alarm(Alarm),
    /// What lay in the folder was not believed; the network must give it again.
    StoreRefused(Refusal),
    /// The audit chains have fewer lines than before. The state is taken nevertheless, since a
    /// revocation matters more; look at the signers' logs.
    AuditShrank {
        /// Before.
        before: u64,
        /// Now.
        now: u64,
    },
}

/// How a later state hangs together with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// Every step between was seen and checked.
    Linked,
    /// By a snapshot: the history between was not seen. Nothing was lost, as far as the rows
    /// tell.
    Jump,
    /// The first state, or the first of an epoch.
    First,
}

/// Why something was not believed. Closed for readers of a health page: every kind is counted
/// by [`Refusal::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are not what they should be.
    Object(ObjectError),
    /// The key list is not signed as it must be.
    KeyList(KeyListError),
    /// A key list of another version than asked for, or with a lower epoch.
    KeyListOrder,
    /// No signature by a listed key within its window.
    NoListedKey,
    /// A listed key's signature does not hold.
    BadSignature(FeedKeyId),
    /// An epoch that no key list began.
    Epoch,
    /// Older than what is in force: normal with several mirrors.
    Lagging,
    /// Signed later than the head in force, with a lower sequence.
    RolledBack,
    /// Two heads for one position that contradict each other.
    Equivocation,
    /// A later sequence, signed earlier.
    IssuedEarlier,
    /// Signed in the future.
    FromTheFuture,
    /// No longer valid: somebody holds newer ones back, or the clock is wrong.
    Expired,
    /// Valid for longer than this service accepts.
    ValidTooLong,
    /// A delta or snapshot that does not lead to the signed state.
    Unlinked(ObjectError),
    /// A step that drops a day before it is over.
    DroppedEarly,
    /// A state that lacks rows of the one in force.
    Unrevokes,
    /// More bytes than allowed.
    TooLarge,
    /// Not served where it should be.
    Missing,
}

impl Refusal {
    /// One stable word, for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Object(_) => "malformed",
            Self::KeyList(_) => "key-list",
            Self::KeyListOrder => "key-list-order",
            Self::NoListedKey => "no-listed-key",
            Self::BadSignature(_) => "bad-signature",
            Self::Epoch => "epoch",
            Self::Lagging => "lagging",
            Self::RolledBack => "rolled-back",
            Self::Equivocation => "equivocation",
            Self::IssuedEarlier => "issued-earlier",
            Self::FromTheFuture => "from-the-future",
            Self::Expired => "expired",
            Self::ValidTooLong => "valid-too-long",
            Self::Unlinked(_) => "unlinked",
            Self::DroppedEarly => "dropped-early",
            Self::Unrevokes => "unrevokes",
            Self::TooLarge => "too-large",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(what) => what.fmt(f),
            Self::KeyList(what) => what.fmt(f),
            Self::KeyListOrder => f.write_str("key list of another version, or with a lower epoch"),
            Self::NoListedKey => f.write_str("head without a signature by a listed key within its window"),
            Self::BadSignature(id) => write!(f, "head with a bad signature under listed key {id}"),
            Self::Epoch => f.write_str("head of an epoch that no key list began"),
            Self::Lagging => f.write_str("head older than the one in force"),
            Self::RolledBack => f.write_str("head signed later than the one in force, with a lower sequence"),
            Self::Equivocation => f.write_str("two heads for one position contradict each other"),
            Self::IssuedEarlier => f.write_str("head with a later sequence that was signed earlier"),
            Self::FromTheFuture => f.write_str("head signed in the future; check this machine's clock"),
            Self::Expired => {
                f.write_str("head that is no longer valid; check the mirror and this machine's clock")
            }
            Self::ValidTooLong => f.write_str("head valid for longer than this service accepts"),
            Self::Unlinked(what) => write!(f, "data that does not lead to the signed state: {what}"),
            Self::DroppedEarly => f.write_str("step that drops a day before it is over"),
            Self::Unrevokes => f.write_str("state that lacks revocations of the one in force"),
            Self::TooLarge => f.write_str("more bytes than allowed"),
            Self::Missing => f.write_str("not served where it should be"),
        }
    }
}

/// Something that no honest set of mirrors does. The last good state stays in force; a person
/// should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alarm {
    /// Only older heads for three times the signed poll interval. Ends with a newer head.
    Lagging,
    /// A head that was signed later carries a lower sequence, or the reverse.
    RolledBack,
    /// Two signed heads contradict each other; both are kept as evidence.
    Equivocation,
    /// A signed state lacks revocations that were in force.
    Unrevokes,
}
