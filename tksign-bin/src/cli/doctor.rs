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
use crate::publish::{self, HEARTBEAT};
use crate::store::{Sqlite, Store as _};
use crate::{Signer, SignerError, fence};

const EXAMPLE: &str = "\
Example:
  tksign doctor --dir state --secret-file secret

Checks the folder and every file in it that is nobody else's, the secret (if one is given), the clock, the age of
the feed, the sandbox of a running server; while none runs the whole store and its audit chain, and that the secret
opens it. Exit code 25 when a check fails.";

/// When a publication key's end is near: two weeks are time to fetch the root keys.
const ROTATE: Duration = Duration::from_secs(14 * 86_400);
/// How far the running server's clock and this one may be apart. They are the same machine's.
const APART: Duration = Duration::from_secs(5);
/// A head is signed every half minute: one that is older than three of them is late.
const LATE: Duration = HEARTBEAT.saturating_mul(3);

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
    let mut checks = vec![("folder", private(&folder, &folder))];
    checks.extend(FILES.iter().enumerate().filter_map(|(at, name)| {
        let path = folder.join(name);
        // Some are there only now and then, and keys may lie elsewhere.
        (at < 2 || path.exists()).then(|| (*name, private(&path, &folder)))
    }));
    checks.push(("root key", offline(&folder.join("root.key"))));
    // While none runs, the store is opened with the secret below, which may be read only once.
    let is_served = control::is_served(&folder);
    checks.push(if is_served { ("secret", secret(matches)) } else { ("store", store(&folder)) });
    match Reach::open(matches) {
        Err(failure) => checks.push(("signer", Found::Bad(format!("{}; {}", failure.what, failure.next)))),
        Ok(mut reach) => {
            let running = if is_served { "running" } else { "not running; store opened" };
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

/// What must be the owner's alone. The first two are always there.
const FILES: [&str; 7] =
    ["operator.key", "tksign.db", "mint.key", "revoke.key", "tksign.db-wal", "tksign.db-shm", fence::FILE];

/// Whether nobody but the owner of the folder can do anything with it.
fn private(path: &Path, folder: &Path) -> Found {
    let (data, owner) =
        match std::fs::metadata(path).and_then(|data| Ok((data, std::fs::metadata(folder)?.uid()))) {
            Err(error) => return Found::Bad(format!("{}: {error}", path.display())),
            Ok(found) => found,
        };
    let (path, mode) = (path.display(), data.mode() & 0o7777);
    if mode & 0o077 != 0 {
        Found::Bad(format!("{path} is open to others (mode {mode:04o})"))
    } else if data.uid() != owner {
        Found::Bad(format!("{path} belongs to user {}, the folder to {owner}", data.uid()))
    } else {
        Found::Good(format!("{path} mode {mode:04o}"))
    }
}

/// The secret that the server is started with.
fn secret(matches: &ArgMatches) -> Found {
    let sources = ["secret-file", "secret-fd", "insecure-secret-env"];
    match reach::secret(matches) {
        Ok(_) => Found::Good("it can be read; whether it opens the store is seen while none runs".to_owned()),
        Err(failure) if sources.iter().any(|name| matches.contains_id(name)) => {
            Found::Bad(format!("{}; {}", failure.what, failure.next))
        }
        Err(_) => Found::Good("none is given: not looked at".to_owned()),
    }
}

/// All of a store that no server has.
fn store(folder: &Path) -> Found {
    let whole = Sqlite::open(folder).and_then(|store| store.check()).map_err(SignerError::from);
    match whole.and_then(|()| Signer::verify_audit(folder)) {
        Ok(end) => Found::Good(format!("whole; the audit chain holds to line {}", end.lines)),
        Err(error) => Found::Bad(error.to_string()),
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
    } else if publish::ahead(status.head_issued, now) {
        Found::Bad(format!("{now} is before the last head, which was signed at {}", status.head_issued))
    } else {
        Found::Good(now.to_string())
    };
    let head = if status.head_valid_until <= now {
        Found::Bad(format!("the last head ended at {}", status.head_valid_until))
    } else if now.saturating_since(status.head_issued) > LATE {
        Found::Warn(format!(
            "no head since {}: every {} s there is one",
            status.head_issued,
            HEARTBEAT.as_secs()
        ))
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
    let notice = match status.notice.as_str() {
        "" => Found::Good("none".to_owned()),
        notice => Found::Warn(notice.to_owned()),
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

#[cfg(test)]
mod tests {
    use tkcore::FeedId;
    use tkcore::protocol::{FeedPosition, Text};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000 + seconds).unwrap()
    }

    /// A sound signer at second 100, half a minute after its last head.
    fn sound() -> StatusAnswer {
        StatusAnswer {
            version: Text::default(),
            feed: FeedId::from_bytes([1; 16]),
            static_key: [2; 32],
            static_before: None,
            mode: Mode::Serving,
            started: at(0),
            now: at(100),
            position: FeedPosition { epoch: 1, sequence: 1 },
            head_issued: at(70),
            head_valid_until: at(3670),
            key_list: 1,
            publication_until: at(90 * 86_400),
            keys: 0,
            clients: 1,
            tokens: 0,
            revocations: 0,
            audit_lines: 1,
            audit_hash: [3; 32],
            schema: 1,
            secret: [4; 8],
            sandbox: Text::new("files: Landlock").unwrap(),
            notice: Text::default(),
        }
    }

    #[test]
    fn each_check_of_a_running_signer_at_its_bound_and_past_it() {
        type Change = fn(&mut StatusAnswer);
        let table: [(&str, Change, &str); 17] = [
            ("mode", |_| (), "ok"),
            ("mode", |status| status.mode = Mode::ReadOnly, "FAILED"),
            ("mode", |status| status.mode = Mode::Stopping, "warning"),
            ("clock", |status| status.now = at(105), "ok"),
            ("clock", |status| status.now = at(106), "FAILED"),
            ("clock", |status| status.now = at(94), "FAILED"),
            ("clock", |status| status.head_issued = at(160), "ok"),
            ("clock", |status| status.head_issued = at(161), "FAILED"),
            ("feed", |status| status.head_issued = at(10), "ok"),
            ("feed", |status| status.head_issued = at(9), "warning"),
            ("feed", |status| status.head_valid_until = at(101), "ok"),
            ("feed", |status| status.head_valid_until = at(100), "FAILED"),
            ("publication key", |status| status.publication_until = at(100 + 14 * 86_400), "ok"),
            ("publication key", |status| status.publication_until = at(99 + 14 * 86_400), "warning"),
            ("publication key", |status| status.publication_until = at(100), "FAILED"),
            ("sandbox", |status| status.sandbox = Text::new(&format!("calls: {NOT}")).unwrap(), "warning"),
            ("notice", |status| status.notice = Text::new("look").unwrap(), "warning"),
        ];
        for (row, (check, change, verdict)) in table.into_iter().enumerate() {
            let mut status = sound();
            change(&mut status);
            for (name, found) in of_status(&status, at(100)) {
                let expected = if name == check { verdict } else { "ok" };
                let found = match found {
                    Found::Good(_) => "ok",
                    Found::Warn(_) => "warning",
                    Found::Bad(_) => "FAILED",
                };
                assert_eq!(found, expected, "{row}: {name}");
            }
        }
    }
}
