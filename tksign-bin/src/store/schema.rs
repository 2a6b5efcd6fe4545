//! The schema of the SQLite store and its history.

use rusqlite::Connection;

/// Marks the file as ours (`PRAGMA application_id`): "tksg".
pub(super) const APPLICATION_ID: u32 = 0x746b_7367;

/// One entry a schema version; an entry, once released, never changes.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE publication_keys (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE key_lists (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT;
    CREATE TABLE clients (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE tokens (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE seen (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE lookup (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE revocations (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE deltas (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT;
    CREATE TABLE feed (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE idempotency (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT;
"];

/// The newest schema this program writes.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Brings the schema from `found` to [`newest`], all in one transaction.
pub(super) fn migrate(connection: &mut Connection, found: u32) -> rusqlite::Result<()> {
    let from = usize::try_from(found).unwrap_or(usize::MAX);
    let Some(missing) = MIGRATIONS.get(from..).filter(|missing| !missing.is_empty()) else { return Ok(()) };
    let transaction = connection.transaction()?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest())?;
    transaction.commit()
}
