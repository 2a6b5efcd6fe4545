//! `tksign migrate`: a store from one engine to the other, whole or not at all.
//!
//! Records stay sealed as they are. The source is closed to every signer first and stays closed;
//! the target can be opened only when it was compared with the source and the source given up.
//! Cut off anywhere, the same command goes on or starts over.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Command};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tkcore::protocol::{AuditActor, AuditEvent, AuditHead};

use super::super::{Exit, Failure, Streams, local, output, values};
use crate::audit;
use crate::clock::{Clock as _, SystemClock, monotonic};
use crate::fence;
use crate::memory::{Memory, SignerError, each};
use crate::store::etcd::{Cluster, Etcd, Space};
use crate::store::{Change, DATABASE, Op, Sqlite, Store, StoreError, Table};

const EXAMPLE: &str = "\
Examples:
  tksign migrate --from sqlite:state --to etcd:http://10.0.0.1:2379,http://10.0.0.2:2379 --signer one
  tksign migrate --from etcd:http://10.0.0.1:2379 --to sqlite:state --signer one

Stop every signer of the source first. It is read only meanwhile, and closed for good afterwards. Cut
off in the middle, run it again. --signer names whose audit chain the lines of SQLite are.";

/// Bytes written at once: below what etcd takes in one transaction.
const BATCH: usize = 400_000;
/// How long the target may not be writable, for want of its lease or of its cluster.
const PATIENCE: Duration = Duration::from_secs(30);
/// The database's name once its rows live elsewhere.
const MOVED: &str = "tksign.db.moved";
/// Folder of a target that is not complete.
const PART: &str = ".migrating";

pub(crate) fn describe() -> Command {
    super::login_args(
        Command::new("migrate").about("Move the store between SQLite and etcd").after_help(EXAMPLE),
    )
    .arg(values::text_arg("from", "ENGINE:PLACE", "sqlite:DIR or etcd:URL[,URL…]").required(true))
    .arg(values::text_arg("to", "ENGINE:PLACE", "etcd:URL[,URL…] or sqlite:DIR").required(true))
    .arg(values::json_arg())
}

pub(crate) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let (from, to) = (values::need(matches, "from")?, values::need(matches, "to")?);
    let place = |urls: &str| super::place(matches, urls.split(',').map(str::to_owned).collect());
    let moved = match (from.split_once(':'), to.split_once(':')) {
        (Some(("sqlite", folder)), Some(("etcd", urls))) => {
            let (cluster, space) = place(urls)?;
            into_etcd(Path::new(folder), &cluster, &space)
        }
        (Some(("etcd", urls)), Some(("sqlite", folder))) => {
            let (cluster, _) = place(urls)?;
            let (prefix, signer) = (values::need(matches, "etcd-prefix")?, values::get(matches, "signer"));
            into_sqlite(&cluster, prefix, signer, Path::new(folder))
        }
        _ => return Err(Failure::usage("--from and --to: sqlite:DIR and etcd:URL, one of each")),
    };
    let (rows, digest) = moved.map_err(|error| local::failure(&error))?;
    let facts = output::Facts::default().with("rows", rows).with_text("digest", values::to_hex(&digest));
    output::show(matches, streams, facts)?;
    Ok(Exit::Ok)
}

fn into_etcd(folder: &Path, cluster: &Cluster, space: &Space) -> Result<(u64, [u8; 32]), SignerError> {
    let (database, moved) = (folder.join(DATABASE), folder.join(MOVED));
    if !database.exists() && moved.exists() {
        // Everything was done but to say so.
        let done = Etcd::imported(cluster, space)?;
        return if done { Ok((0, [0; 32])) } else { Err(StoreError::Missing(folder.to_owned()).into()) };
    }
    let source = Sqlite::open(folder)?;
    settle(&database)?;
    let mut target = Etcd::import(cluster, space.clone())?;
    target.on_news(Box::new(|| ()));
    let mut rows = 0u64;
    for table in Table::ALL {
        rows = rows.saturating_add(copy(&source, &mut target, table)?);
    }
    let digest = compared(&source, &target)?;
    // A line more than any head has counted, as the count of a cluster is made in another way.
    let end = end_of(&target)?;
    append(&mut target, end, &AuditEvent::new(AuditActor::Signer, "migrate").with("to", "etcd"))?;
    target.checked(&digest)?;
    drop(target);
    // Its lock is held until nobody can find it: what a signer wrote there would stay behind.
    rename(&database, &moved)?;
    drop(source);
    if !Etcd::imported(cluster, space)? {
        return Err(StoreError::Damaged("another migration came in between".to_owned()).into());
    }
    Ok((rows, digest))
}

fn into_sqlite(
    cluster: &Cluster,
    prefix: &str,
    signer: Option<&str>,
    folder: &Path,
) -> Result<(u64, [u8; 32]), SignerError> {
    let (database, part): (PathBuf, PathBuf) = (folder.join(DATABASE), folder.join(PART));
    if database.exists() {
        return Err(StoreError::Exists(folder.to_owned()).into());
    }
    let sources = Etcd::export(cluster, prefix)?;
    let first = signer.and_then(|name| sources.get_key_value(name)).or_else(|| sources.first_key_value());
    let (name, first) = first.ok_or_else(|| StoreError::Damaged("no signer has used it".to_owned()))?;
    if part.exists() {
        fs::remove_dir_all(&part).map_err(|error| StoreError::Io(part.clone(), error))?;
    }
    let mut target = Sqlite::create(&part)?;
    let mut rows = 0u64;
    for table in Table::ALL {
        rows = rows.saturating_add(copy(first, &mut target, table)?);
    }
    let digest = compared(first, &target)?;
    // The other signers' chains go on in the one that is left, each line whole: heads have counted
    // them, and their count never goes back.
    let mut end = end_of(&target)?;
    for (other, source) in sources.iter().filter(|(other, _)| *other != name) {
        each(source, Table::Audit, |key, value| {
            let (_, _, line) =
                audit::parse(key, value).ok_or_else(|| StoreError::Damaged("audit".to_owned()))?;
            let event = AuditEvent::new(AuditActor::Signer, "import").with("signer", other);
            end = append(&mut target, end, &event.with("line", String::from_utf8_lossy(line)))?;
            rows = rows.saturating_add(1);
            Ok(())
        })?;
    }
    append(&mut target, end, &AuditEvent::new(AuditActor::Signer, "migrate").with("to", "sqlite"))?;
    // What SQLite's high-water file says is of before the cluster: a new one is begun.
    write(&mut target, vec![Op::Delete(Table::Meta, fence::GUARDED.to_vec())])?;
    let _ = fs::remove_file(folder.join(fence::FILE));
    settle(&part.join(DATABASE))?;
    drop(target);
    rename(&part.join(DATABASE), &database)?;
    let _ = fs::remove_dir_all(&part);
    Ok((rows, digest))
}

/// Has everything in the database's own file, nothing in the log beside it: the file is moved alone.
fn settle(database: &Path) -> Result<(), StoreError> {
    let moved = Connection::open(database)
        .and_then(|log| log.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)));
    let is_held: bool = moved.map_err(|error| StoreError::Database(error.to_string()))?;
    if is_held { Err(StoreError::Held(database.to_owned())) } else { Ok(()) }
}

/// Renames a database for good. A log that is left at the new name is of another one.
fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let (log, folder) = (PathBuf::from(format!("{}-wal", to.display())), to.parent().unwrap_or(to));
    let removed = if log.exists() { fs::remove_file(log) } else { Ok(()) };
    let renamed = removed.and_then(|()| fs::rename(from, to));
    let synced = renamed.and_then(|()| fs::File::open(folder)?.sync_all());
    synced.map_err(|error| StoreError::Io(to.to_owned(), error))
}

/// Copies a table in pieces that any store takes.
fn copy(from: &dyn Store, to: &mut dyn Store, table: Table) -> Result<u64, SignerError> {
    let (mut ops, mut bytes, mut rows) = (Vec::new(), 0usize, 0u64);
    each(from, table, |key, value| {
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len()).saturating_add(100);
        ops.push(Op::Put(table, key.to_vec(), value.to_vec()));
        rows = rows.saturating_add(1);
        if bytes >= BATCH {
            bytes = 0;
            write(to, std::mem::take(&mut ops))?;
        }
        Ok(())
    })?;
    write(to, ops)?;
    Ok(rows)
}

fn write(to: &mut dyn Store, ops: Vec<Op>) -> Result<(), StoreError> {
    let until = monotonic().checked_add(PATIENCE);
    let change = Change { ops, ..Change::default() };
    loop {
        to.begin()?;
        match to.apply(&change).map_err(StoreError::from).and_then(|()| to.commit()) {
            // The feed's rows need the lease, which an attempt before this one may still have.
            Err(StoreError::Raced | StoreError::CutOff(_)) if until > Some(monotonic()) => {
                std::thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

/// The digest of both, when it is one.
fn compared(source: &dyn Store, target: &dyn Store) -> Result<[u8; 32], SignerError> {
    let differs = || StoreError::Damaged("the copy differs from its source".to_owned());
    let (there, here) = (digest(source)?, digest(target)?);
    Ok((there == here).then_some(here).ok_or_else(differs)?)
}

/// SHA-256 over every row of every table, each part with its length.
fn digest(store: &dyn Store) -> Result<[u8; 32], SignerError> {
    let mut hash = Sha256::new();
    for table in Table::ALL {
        hash.update(table.name());
        each(store, table, |key, value| {
            for part in [key, value] {
                hash.update(crate::codec::count(part.len()).to_be_bytes());
                hash.update(part);
            }
            Ok(())
        })?;
        hash.update([0xff; 9]);
    }
    Ok(hash.finalize().into())
}

fn end_of(store: &dyn Store) -> Result<AuditHead, SignerError> {
    Ok(audit::load(store, Memory::authority(store)?)?)
}

fn append(to: &mut dyn Store, end: AuditHead, event: &AuditEvent) -> Result<AuditHead, SignerError> {
    let (op, next) = audit::append(&end, event, SystemClock.now());
    write(to, vec![op])?;
    Ok(next)
}
