//! Where records live: one small interface that an embedded database and a cluster can answer.
//!
//! A store keeps opaque values under binary keys in a fixed set of tables, and makes a whole
//! [`Change`] durable or none of it. It knows nothing of what the values mean: sealing, ids
//! and decisions lie above it, in the one writer thread.
//!
//! # How a cluster answers the same interface
//! The interface was cut for etcd's transactions; a store over them needs no change above:
//! - A table is a key prefix, a row one key. [`Change`] is one `Txn`: each [`Expect`] is a
//!   compare on a key's create revision or value, each [`Op`] a put or a delete.
//!   [`Store::begin`] and [`Store::commit`] are empty there, since every transaction is durable
//!   by itself; [`Refusal::Conflict`] tells the writer that another signer was first, upon
//!   which it takes in what changed and decides again.
//! - A revocation is create-only: its row key is the canonical bytes of the rule, a floor's
//!   time included, so the second of two equal ones is a conflict that means "already done".
//! - A step's sequence and the delta's content are fixed by the transaction that closes it: it
//!   expects the head of the step chain (`Table::Feed`, row `chain`) as it was when the delta
//!   was built, and writes delta, rows and chain together. No database counter takes part.
//! - A signed head is written by compare with the head before it (`Table::Feed`, row `head`),
//!   and served only from that row, so a signer that was paused for longer than its lease
//!   cannot publish an older one.
//! - Audit lines are keyed by (signer, number) and created, never put: every signer has a chain
//!   of its own and only its own writer extends it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tkcore::FeedDigest;
use tkcore::protocol::AuditHead;

#[cfg(feature = "etcd")]
pub mod etcd;
mod schema;
mod sqlite;

pub(crate) use sqlite::DATABASE;
pub use sqlite::Sqlite;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// The tables. What stands in a value is said by the module that writes it; *sealed* values
        /// are made by [`crate::Kek`], the others are public or say nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table { $($(#[$doc])* $name,)* }

        impl Table {
            /// Every table, in the order of the schema.
            pub const ALL: [Self; 13] = [$(Self::$name,)*];

            /// The table's name, in SQL, in a cluster's keys and in what a sealed record is bound to.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

tables! {
    /// Named single values: authority and check value in clear, everything else sealed.
    Meta = "meta";
    /// Key records by key id; sealed.
    Keys = "keys";
    /// Publication keys by key id; sealed.
    PublicationKeys = "publication_keys";
    /// Key lists by version; public bytes.
    KeyLists = "key_lists";
    /// Client records by the client's public key; sealed.
    Clients = "clients";
    /// Minted tokens by lineage id; sealed. Never holds a token or a tail.
    Tokens = "tokens";
    /// When a lineage was last seen by a remote verify, by lineage id; sealed.
    Seen = "seen";
    /// Look-ups: one byte of kind, 16 bytes of keyed hash, lineage id; empty values.
    Index = "lookup";
    /// Revocations by their canonical bytes; authenticated, since their content is published.
    Revocations = "revocations";
    /// Deltas by epoch and sequence; public bytes.
    Deltas = "deltas";
    /// The step chain's state and the last signed head; public bytes.
    Feed = "feed";
    /// Kept answers by client and idempotency key; sealed.
    Idempotency = "idempotency";
    /// Audit lines by number; names are keyed hashes.
    Audit = "audit";
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a row that must not exist; the change fails as a whole when it does.
    Create(Table, Vec<u8>, Vec<u8>),
    /// Writes a row, whether it exists or not.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a row, whether it exists or not.
    Delete(Table, Vec<u8>),
}

/// What must hold for a change to be applied: the row has exactly this value, or is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The table.
    pub table: Table,
    /// The row.
    pub key: Vec<u8>,
    /// Its value; `None`: it must not exist.
    pub value: Option<Vec<u8>>,
}

/// Writes that become durable together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What must hold first.
    pub expects: Vec<Expect>,
    /// The writes, in order.
    pub ops: Vec<Op>,
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Which end of a table a scan starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// A part of a table: rows whose key starts with `prefix`, strictly after the key `after` in
/// `order`, at most `limit` of them.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// The table.
    pub table: Table,
    /// Empty for all rows.
    pub prefix: &'a [u8],
    /// The last key of the page before.
    pub after: Option<&'a [u8]>,
    /// Direction.
    pub order: Order,
    /// Most rows in the answer.
    pub limit: usize,
}

/// Why a change was not applied. The group it was part of goes on without it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// An expectation does not hold, or a row to be created exists.
    Conflict,
    /// The store failed; nothing of the open group may be acknowledged.
    Failed(StoreError),
}

/// What is wrong with a store.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store in this folder.
    Missing(PathBuf),
    /// `init` found one already.
    Exists(PathBuf),
    /// Another process holds it.
    Held(PathBuf),
    /// The file is a database of some other program.
    Foreign(PathBuf),
    /// Written by a newer version of this program: (found, known).
    Newer(u32, u32),
    /// A check found it damaged; says where.
    Damaged(String),
    /// Another process of the cluster was first: nothing of the group was kept that a decision
    /// which is made again does not find.
    Raced,
    /// Cut off from the cluster for now: why, and how old what is known is.
    CutOff(String),
    /// More than the store takes in one change: how much, and the way round.
    TooLarge(String),
    /// The disk has no room.
    Full,
    /// The folder or file cannot be read or written.
    Io(PathBuf, io::Error),
    /// The database failed otherwise; its own words, which never hold a value.
    Database(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => {
                write!(f, "no store in {}: make one with `tksign init`", path.display())
            }
            Self::Exists(path) => {
                write!(f, "{} holds a store already; init makes only new ones", path.display())
            }
            Self::Held(path) => write!(
                f,
                "the store in {} is held by another process: use its control socket, or stop it first",
                path.display()
            ),
            Self::Foreign(path) => {
                write!(f, "{} is not a store of tksign; give another folder", path.display())
            }
            Self::Newer(found, known) => {
                write!(f, "the store has schema {found}, this version knows {known}: run the newer tksign")
            }
            Self::Damaged(what) => {
                write!(f, "the store is damaged ({what}): stop, keep a copy, restore from the backup")
            }
            Self::Raced => f.write_str("other signers were first, again and again: ask again"),
            Self::CutOff(why) | Self::TooLarge(why) => f.write_str(why),
            Self::Full => f.write_str("the disk is full: nothing was changed; make room and repeat"),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Database(what) => write!(f, "the database failed: {what}; nothing was acknowledged"),
        }
    }
}

impl StoreError {
    /// The same for clients: without the paths of this machine.
    pub(crate) fn told(&self) -> String {
        if let Self::Io(_, error) = self {
            return error.to_string();
        }
        let is_path = matches!(self, Self::Missing(_) | Self::Exists(_) | Self::Held(_) | Self::Foreign(_));
        if is_path { "the store is not there".to_owned() } else { self.to_string() }
    }
}

impl std::error::Error for StoreError {}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Failed(error) = refusal { error } else { Self::Raced }
    }
}

/// A durable set of tables. Used by one thread; an implementation may block.
///
/// [`Store::begin`] opens a group, [`Store::apply`] adds whole changes to it, and when
/// [`Store::commit`] returns `Ok` all that were applied survive a power loss. When it returns
/// an error none of them is there, and the caller tells every one of its waiters so.
pub trait Store: Send {
    /// One row's value; sees what was applied to the open group.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// A page of rows in key order; sees what was applied to the open group.
    ///
    /// # Errors
    /// The store cannot be read.
    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, StoreError>;

    /// The first row of a table in an order, if it has one.
    ///
    /// # Errors
    /// The store cannot be read.
    fn end(&self, table: Table, order: Order) -> Result<Option<Row>, StoreError> {
        Ok(self.scan(Scan { table, prefix: &[], after: None, order, limit: 1 })?.pop())
    }

    /// How many rows start with `prefix`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn count(&self, table: Table, prefix: &[u8]) -> Result<u64, StoreError>;

    /// Opens a group; a group left open by an error is given up first.
    ///
    /// # Errors
    /// The store cannot be written.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Adds a change to the open group, as a whole or not at all.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] leaves the group as it was.
    fn apply(&mut self, change: &Change) -> Result<(), Refusal>;

    /// Makes the group durable.
    ///
    /// # Errors
    /// Nothing of the group was kept.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// How many rows of the feed one change may write or remove.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// The version of its schema.
    fn schema(&self) -> u32;

    /// Reads the whole store and says what is wrong with it; slow.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] says where.
    fn check(&self) -> Result<(), StoreError>;

    /// This process's name among those that share the store; empty where nobody does.
    fn name(&self) -> &[u8] {
        &[]
    }

    /// What has been written since the last call, in order, whoever did; nothing where only this
    /// process writes.
    fn news(&mut self) -> Vec<Op> {
        Vec::new()
    }

    /// Has this called whenever there is news. Who asks for that is ready to publish; before, this process
    /// takes no turn.
    fn on_news(&mut self, _wake: Box<dyn Fn() + Send + Sync>) {}

    /// `None` while another process publishes; else a number that changes with each new turn.
    fn term(&self) -> Option<u64> {
        Some(0)
    }

    /// Why nothing can be written now, if so.
    fn cut_off(&self) -> Option<String> {
        None
    }

    /// How far the clocks of processes that share this store may be apart.
    fn skew(&self) -> Duration {
        Duration::ZERO
    }

    /// Writes no more, for this reason: what others wrote was not understood.
    fn freeze(&mut self, _why: &str) {}

    /// Where this process's audit chain ends as of [`Store::begin`], if more may be done than was told.
    fn chain(&self) -> Option<AuditHead> {
        None
    }

    /// What a head says of all audit chains, this process's ending here.
    fn audit(&self, own: &AuditHead) -> (u64, FeedDigest) {
        (own.lines, own.digest())
    }
}
