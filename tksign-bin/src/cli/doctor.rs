use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use clap::{ArgMatches, Command};
use tkcore::Timestamp;
use tkcore::protocol::{Mode, Status, StatusAnswer};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, control, output, values};
use crate::clock::{Clock as _, SystemClock};
use crate::host::NOT;

const EXAMPLE: &str = "\
Example:
  tksign doctor --dir state --secret-file secret

Checks the folder, the key files, the secret (if one is given), the store, the clock, the feed,
the sandbox of a running server.
Exit code 25 when a check fails.";

/// When a publication key's end is near: two weeks are time to fetch the root keys.
const ROTATE: Duration = Duration::from_secs(14 * 86_400);
/// How far the running server's clock and this one may be apart. They are the same machine's.
const APART: Duration = Duration::from_secs(5);

pub(super) fn describe() -> Command {
    reach::args(Command::new("doctor").about("Check the signer and its surroundings").after_help(EXAMPLE))
}

/// What one check found.
enum Found {
    Good(String),
    Warn(String),
    Bad(String),
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    let mut checks = vec![
        ("folder", private(&folder, 0o077)),
        ("operator key", private(&folder.join(control::Speaker::Operator.file()), 0o077)),
        ("store file", private(&folder.join(control::STORE_FILE), 0o077)),
        ("root key", offline(&folder.join("root.key"))),
    ];
    match Reach::open(matches) {
        Err(failure) => checks.push(("signer", Found::Bad(format!("{}; {}", failure.what, failure.next)))),
        Ok(mut reach) => {
            let running =
                if matches!(reach, Reach::Running(_)) { "running" } else { "not running; store opened" };
            checks.push(("signer", Found::Good(running.to_owned())));
            match reach.call(&Status {}) {
                Err(failure) => checks.push(("status", Found::Bad(failure.what))),
                Ok(status) => checks.extend(of_status(&status, SystemClock.now())),
            }
        }
    }
    let failed = checks.iter().any(|(_, found)| matches!(found, Found::Bad(_)));
    let rows = checks.into_iter().map(|(name, found)| {
        let (verdict, detail) = match found {
            Found::Good(detail) => ("ok", detail),
            Found::Warn(detail) => ("warning", detail),
            Found::Bad(detail) => ("FAILED", detail),
        };
        output::Facts::default().with("check", name).with("found", verdict).with("detail", detail)
    });
    output::list(matches, streams, rows.collect())?;
    Ok(if failed { Exit::Unsound } else { Exit::Ok })
}

fn private(path: &Path, others: u32) -> Found {
    match std::fs::metadata(path) {
        Err(error) => Found::Bad(format!("{}: {error}", path.display())),
        Ok(data) if data.mode() & others != 0 => {
            Found::Bad(format!("{} is open to others (mode {:04o})", path.display(), data.mode() & 0o7777))
        }
        Ok(data) => Found::Good(format!("{} mode {:04o}", path.display(), data.mode() & 0o7777)),
    }
}

fn offline(path: &Path) -> Found {
    if path.exists() {
        Found::Warn(format!("{} is still here: carry it away", path.display()))
    } else {
        Found::Good("not in the state folder".to_owned())
    }
}

fn of_status(status: &StatusAnswer, now: Timestamp) -> Vec<(&'static str, Found)> {
    let mode = match status.mode {
        Mode::Serving => Found::Good("serving".to_owned()),
        Mode::ReadOnly => Found::Bad("read-only: the store is behind what was published".to_owned()),
        Mode::Stopping => Found::Warn("stopping".to_owned()),
    };
    let apart = now.saturating_since(status.now).max(status.now.saturating_since(now));
    let clock = if apart > APART {
        Found::Bad(format!("the signer says {}, this machine {now}", status.now))
    } else {
        Found::Good(now.to_string())
    };
    let head = if status.head_valid_until <= now {
        Found::Bad(format!("the last head ended at {}", status.head_valid_until))
    } else {
        Found::Good(format!("issued {}", status.head_issued))
    };
    let publication = if status.publication_until <= now {
        Found::Bad(format!("ended at {}: tksign keys publication prepare", status.publication_until))
    } else if status.publication_until.saturating_since(now) < ROTATE {
        Found::Warn(format!("ends at {}: tksign keys publication prepare", status.publication_until))
    } else {
        Found::Good(format!("until {}", status.publication_until))
    };
    let notice = if status.notice.as_str().is_empty() {
        Found::Good("none".to_owned())
    } else {
        Found::Warn(status.notice.to_string())
    };
    let sandbox = match status.sandbox.as_str() {
        "" => Found::Good("nothing serves".to_owned()),
        report if report.contains(NOT) => Found::Warn(report.to_owned()),
        report => Found::Good(report.to_owned()),
    };
    vec![
        ("mode", mode),
        ("clock", clock),
        ("feed", head),
        ("publication key", publication),
        ("sandbox", sandbox),
        ("notice", notice),
    ]
}
