use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use rusqlite::{Connection, OpenFlags};

use super::{Exit, Failure, Streams, control, output, values};

const EXAMPLE: &str = "\
Example:
  tksign backup --dir /var/lib/tksign /backup/tksign-2026-11-23.db

Copies the database as it is at this moment, while the signer serves. Everything private in it is sealed:
without the secret the copy gives away no key, no name and no token. The high-water file is not in it, and
must not be: after a restore it tells what the copy has forgotten. Keep the secret elsewhere.";

/// How long another program's lock on the database is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) fn describe() -> Command {
    Command::new("backup")
        .about("Copy the database while the signer serves")
        .after_help(EXAMPLE)
        .arg(values::dir_arg())
        .arg(values::json_arg())
        .arg(
            Arg::new("to")
                .value_name("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("A new file"),
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let Some(to) = matches.get_one::<PathBuf>("to") else { return Ok(Exit::Usage) };
    let from = values::dir(matches).join(control::STORE_FILE);
    if !from.exists() {
        return Err(Failure::new(
            Exit::Store,
            format!("there is no store in {}", values::dir(matches).display()),
            "name the state folder with --dir",
        ));
    }
    let local = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Local,
            format!("{}: {error}", path.display()),
            "name a new file on a disk with room",
        )
    };
    // Made by us, so that its mode is right before a byte is in it; written beside and renamed, so
    // that a copy that was cut off never looks like one.
    let part = to.with_extension("part");
    let _ = std::fs::remove_file(&part);
    if to.exists() {
        return Err(local(to, &"it is there already"));
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(|e| local(&part, &e))?;
    let copied = copy(&from, &part).map_err(|error| {
        let _ = std::fs::remove_file(&part);
        local(&part, &error)
    })?;
    let durable = File::open(&part).and_then(|file| file.sync_all());
    durable.and_then(|()| std::fs::rename(&part, to)).map_err(|error| local(to, &error))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| local(folder, &error))?;
    let facts = output::Facts::default().with_text("file", to.display()).with("bytes", copied);
    output::show(matches, streams, facts)?;
    Ok(Exit::Ok)
}

/// One transaction's view of the whole database, checked before it counts as a copy.
pub(super) fn copy(from: &Path, to: &Path) -> Result<u64, String> {
    let text = |error: rusqlite::Error| error.to_string();
    // Read and written where there is a log to read; nothing of it is changed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(text)?;
    source.busy_timeout(PATIENCE).map_err(text)?;
    let path = to.to_str().ok_or("the file's name is not UTF-8")?;
    source.execute("VACUUM INTO ?1", [path]).map_err(text)?;
    let made = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(text)?;
    let verdict: String = made.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(text)?;
    if verdict == "ok" {
        to.metadata().map(|data| data.len()).map_err(|e| e.to_string())
    } else {
        Err(verdict)
    }
}
