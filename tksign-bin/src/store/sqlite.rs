use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params, params_from_iter};
use rustix::fs::{FlockOperation, flock};

use super::schema::{self, APPLICATION_ID};
use super::{Change, Expect, Op, Order, Refusal, Row, Scan, Store, StoreError, Table};

/// Name of the database in the signer's folder.
pub(crate) const DATABASE: &str = "tksign.db";
/// Held with `flock` while a process uses the store. A file of its own, because replication
/// and backup programs must be able to open the database beside us, and another signer not.
const LOCK: &str = "tksign.lock";

/// The embedded store: SQLite with a write-ahead log, every commit synced before it returns.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    _lock: File,
}

impl Sqlite {
    /// Makes a new store in `folder`, which is created with mode 0700 when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one; [`StoreError::Io`] when the folder cannot be
    /// written.
    pub fn create(folder: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| StoreError::Io(folder.to_owned(), error))?;
        let lock = lock(folder)?;
        let path = folder.join(DATABASE);
        // Created by us, so that its mode is right before a byte is in it.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Self::connect(&path, lock),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::Exists(folder.to_owned()))
            }
            Err(error) => Err(StoreError::Io(path, error)),
        }
    }

    /// Opens the store in `folder`, brings its schema up to date, and checks it.
    ///
    /// # Errors
    /// Each way in which it cannot be used has its own [`StoreError`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(DATABASE);
        match path.try_exists() {
            Ok(true) => Self::connect(&path, lock(folder)?),
            Ok(false) => Err(StoreError::Missing(folder.to_owned())),
            Err(error) => Err(StoreError::Io(path, error)),
        }
    }

    fn connect(path: &Path, lock: File) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let foreign = || StoreError::Foreign(path.to_owned());
        let (application, version, is_fresh) = match identify(&connection) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => return Err(foreign()),
            identified => identified.map_err(failed)?,
        };
        if application != APPLICATION_ID && !is_fresh {
            return Err(foreign());
        }
        if version > schema::newest() {
            return Err(StoreError::Newer(version, schema::newest()));
        }
        configure(&connection).map_err(failed)?;
        schema::migrate(&mut connection, version).map_err(failed)?;
        for table in [Table::Meta, Table::Revocations, Table::Keys, Table::Clients] {
            healthy(&connection, &format!("PRAGMA quick_check({})", table.name()))?;
        }
        Ok(Self { connection, _lock: lock })
    }

    fn write(&self, change: &Change) -> Result<bool, rusqlite::Error> {
        for Expect { table, key, value } in &change.expects {
            if self.value(*table, key)? != *value {
                return Ok(false);
            }
        }
        let run =
            |sql: &str, row: &[&[u8]]| self.connection.prepare_cached(sql)?.execute(params_from_iter(row));
        for op in &change.ops {
            match op {
                Op::Create(table, key, value) => {
                    let sql = format!("INSERT OR IGNORE INTO {} (key, value) VALUES (?1, ?2)", table.name());
                    if run(&sql, &[key, value])? == 0 {
                        return Ok(false);
                    }
                }
                Op::Put(table, key, value) => {
                    let change = "ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                    run(
                        &format!("INSERT INTO {} (key, value) VALUES (?1, ?2) {change}", table.name()),
                        &[key, value],
                    )?;
                }
                Op::Delete(table, key) => {
                    run(&format!("DELETE FROM {} WHERE key = ?1", table.name()), &[key])?;
                }
            }
        }
        Ok(true)
    }

    fn value(&self, table: Table, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = format!("SELECT value FROM {} WHERE key = ?1", table.name());
        self.connection.prepare_cached(&sql)?.query_row(params![key], |row| row.get(0)).optional()
    }

    fn give_up(&mut self) {
        if !self.connection.is_autocommit() {
            // Fails only when the transaction is gone already, which is what is wanted.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

impl Store for Sqlite {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.value(table, key).map_err(failed)
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, StoreError> {
        let (mut low, mut high) = bounds(scan.prefix);
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
        // It starts at the cursor, so that a page costs its own length.
        match (scan.order, scan.after) {
            // The first key after another is that one and a zero.
            (Order::Forward, Some(after)) => low = low.max([after, &[0]].concat()),
            (Order::Backward, Some(after)) => {
                high = Some(high.map_or(after.to_vec(), |high| high.min(after.to_vec())));
            }
            (_, None) => {}
        }
        let direction = if scan.order == Order::Forward { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT key, value FROM {} WHERE {BOUNDS} ORDER BY key {direction} LIMIT ?3",
            scan.table.name()
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let rows = statement.query_map(params![low, high, limit], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    fn count(&self, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        let (low, high) = bounds(prefix);
        let sql = format!("SELECT count(*) FROM {} WHERE {BOUNDS}", table.name());
        self.connection.query_row(&sql, params![low, high], |row| row.get(0)).map_err(failed)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.give_up();
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        let refused = |error| Refusal::Failed(failed(error));
        self.connection.execute_batch("SAVEPOINT change").map_err(refused)?;
        match self.write(change) {
            Ok(true) => self.connection.execute_batch("RELEASE change").map_err(refused),
            Ok(false) => {
                self.connection.execute_batch("ROLLBACK TO change; RELEASE change").map_err(refused)?;
                Err(Refusal::Conflict)
            }
            Err(error) => {
                self.give_up();
                Err(refused(error))
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let result = self.connection.execute_batch("COMMIT").map_err(failed);
        if result.is_err() {
            self.give_up();
        }
        result
    }

    fn schema(&self) -> u32 {
        schema::newest()
    }

    fn check(&self) -> Result<(), StoreError> {
        healthy(&self.connection, "PRAGMA integrity_check")
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StoreError::Io(path.clone(), error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Held(folder.to_owned())),
        Err(error) => Err(StoreError::Io(path, error.into())),
    }
}

/// Whose database it is, its schema's version, and whether nothing is in it yet.
fn identify(connection: &Connection) -> rusqlite::Result<(u32, u32, bool)> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let is_empty = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    Ok((application, version, is_empty && application == 0 && version == 0))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // FULL syncs the log at every commit; NORMAL would lose acknowledged rows at power loss.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Rows go to random pages: moved into the database less often, most pages are moved once for
    // many groups. The log takes some 16 MiB.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // No value outside a query's place: rows that are deleted are overwritten with zeroes.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Backup programs take short locks on the log.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn healthy(connection: &Connection, pragma: &str) -> Result<(), StoreError> {
    let verdict: String = connection.query_row(pragma, [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) }
}

/// A NULL bound is no bound.
const BOUNDS: &str = "key >= ?1 AND (?2 IS NULL OR key < ?2)";

/// The half-open range of keys that start with `prefix`; no upper end after 0xff bytes only.
fn bounds(prefix: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut high = prefix.to_vec();
    while let Some(last) = high.pop() {
        if let Some(next) = last.checked_add(1) {
            high.push(next);
            return (prefix.to_vec(), Some(high));
        }
    }
    (prefix.to_vec(), None)
}

fn failed(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged(error.to_string()),
        _ => StoreError::Database(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(bounds(b"ab"), (b"ab".to_vec(), Some(b"ac".to_vec())));
        assert_eq!(bounds(&[1, 0xff]), (vec![1, 0xff], Some(vec![2])));
        assert_eq!(bounds(&[0xff, 0xff]), (vec![0xff, 0xff], None));
        assert_eq!(bounds(b""), (vec![], None));
    }
}
