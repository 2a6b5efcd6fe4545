use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use tkcore::revocation::feed::{Event, Freshness, Next, Refusal};
use tkcore::revocation::{FeedPath, Position};

use super::{Exit, Failure, Streams, Watched, json_flag, trust};
use crate::builder::{AGING, BuildError, Following, Held, LOCAL_MAXIMUM, Source};
use crate::clock::{Clock, SystemClock};
use crate::feed::driver::{Driver, Same};
use crate::feed::{Ages, Feed, Follow};

pub(super) fn describe() -> Command {
    Command::new("refresh")
        .about("Bring a folder's copy of the revocation feed up to date")
        .arg(trust::arg())
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The folder; created when absent"),
        )
        .arg(
            Arg::new("floor")
                .long("floor")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Keep the floor that no older state may undercut in FILE instead of DIR/.floor"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Fetch once and end, for cron; otherwise keep on until stopped"),
        )
        .arg(
            Arg::new("max-age")
                .long("max-age")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..))
                .help("Fail with code 23 when the state in the folder ends up older than this"),
        )
        .arg(json_flag())
        .after_help(
            "Silent when all is well; says on standard error what is wrong and exits with a code per class\n\
             (see `tkverify --help`). Never leaves a worse state than it found. Safe to run twice at once:\n\
             the second waits for what the first brings. Addresses with https need the feature `tls`\n\
             (and an authority of one's own SSL_CERT_FILE=FILE.pem); plain http is as safe: all is signed.\n\n\
             Example, for a crontab:\n  \
             * * * * * tkverify refresh --once --trust /etc/tk/trust.json --dir /var/cache/tk --max-age 600",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let trust = trust::read(matches)?;
    let Some(dir) = matches.get_one::<PathBuf>("dir") else { return Ok(Exit::Usage) };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let feed = Feed::new(Follow::Feed);
    let following = Following {
        trust: &trust,
        folder: Some(dir),
        floor: matches.get_one::<PathBuf>("floor").map(PathBuf::as_path),
        source: Source::Network,
        ages: Ages { aging: AGING, stale: LOCAL_MAXIMUM },
        held: if matches.get_flag("once") { Held::Never } else { Held::Wanted },
    };
    let mut driver = following.driver(&feed, &clock).map_err(config)?;
    let local = |e: std::io::Error| {
        let what = format!("{}: {e}", dir.display());
        Failure::new(Exit::Local, what, "check that the folder can be written by this user")
    };
    let max_age = matches.get_one::<u64>("max-age").copied();
    let mut is_writer = driver.try_write().map_err(local)?;
    let mut run = Run::default();
    run.note(driver.load());
    if !matches.get_flag("once") {
        return forever(driver, is_writer);
    }
    // Somebody else is at it: wait for what it brings, or for its end.
    let start = clock.read();
    while !is_writer && !is_good(&driver, max_age) && clock.read().since(&start) < OTHERS {
        std::thread::sleep(Duration::from_millis(200));
        is_writer = driver.try_write().map_err(local)?;
        run.note(driver.load());
    }
    if is_writer {
        fetch(&mut driver, &mut run, streams);
    }
    let outcome = run.judge(&driver, is_writer, max_age);
    report(&driver, &outcome, &run, is_writer, matches, streams)?;
    Ok(outcome.exit)
}

/// How long a run waits for another one that writes the same folder.
const OTHERS: Duration = Duration::from_secs(30);

fn is_good(driver: &Driver, max_age: Option<u64>) -> bool {
    let health = driver.machine().health(driver.moment());
    health.freshness == Freshness::Fresh
        && max_age.is_none_or(|limit| health.age.is_some_and(|age| age <= Duration::from_secs(limit)))
}

fn config(e: BuildError) -> Failure {
    Failure::new(Exit::Config, e, trust::NEXT)
}

/// What happened in one run.
#[derive(Default)]
struct Run {
    events: Vec<Event>,
    /// A mirror confirmed, or gave, the newest state it has.
    confirmed: bool,
}

struct Outcome {
    exit: Exit,
    what: Option<String>,
    next: &'static str,
}

impl Run {
    fn note(&mut self, events: Vec<Event>) {
        self.events.extend(events);
    }

    fn refusals(&self) -> impl Iterator<Item = Refusal> + '_ {
        self.events.iter().filter_map(|event| match event {
            Event::Refused(refusal) => Some(*refusal),
            _ => None,
        })
    }

    fn judge(&self, driver: &Driver, is_writer: bool, max_age: Option<u64>) -> Outcome {
        let health = driver.machine().health(driver.moment());
        let outcome = |exit, what: String, next| Outcome { exit, what: Some(what), next };
        if let Some(alarm) = health.alarm {
            let what = format!("alarm: {alarm:?}; the last good state is kept");
            return outcome(
                Exit::Alarm,
                what,
                "look at the evidence in the folder and ask the signer's operator",
            );
        }
        if let Some(trouble) = driver.folder_trouble() {
            return outcome(
                Exit::Local,
                trouble.to_owned(),
                "free space on the disk and check the folder's owner",
            );
        }
        // A mirror that lags is normal where there are several.
        let believed = self.refusals().find(|refusal| *refusal != Refusal::Lagging);
        if is_writer && !self.confirmed {
            if let Some(refusal) = believed {
                let next = "compare the trust file, this machine's clock and what the mirror serves";
                return outcome(Exit::FeedRefused, refusal.to_string(), next);
            }
            if self.refusals().next().is_none() {
                let troubles = driver.mirror_troubles().join("; ");
                let next = "check the addresses in the trust file and the network; the folder is as it was";
                return outcome(Exit::Unreachable, format!("no mirror answered: {troubles}"), next);
            }
        }
        let age = health.age;
        if let Some(limit) = max_age
            && age.is_none_or(|age| age > Duration::from_secs(limit))
        {
            let old = age.map_or_else(
                || "there is no state".to_owned(),
                |age| format!("the state is {} s old", age.as_secs()),
            );
            return outcome(
                Exit::TooOld,
                format!("{old}, allowed are {limit} s"),
                "check why the signer publishes no newer head",
            );
        }
        if matches!(health.freshness, Freshness::Stale | Freshness::Empty) {
            return outcome(
                Exit::TooOld,
                "the state is stale".to_owned(),
                "check why the signer publishes no newer head",
            );
        }
        Outcome { exit: Exit::Ok, what: None, next: "" }
    }
}

/// Fetches until the machine has nothing more to ask for, and then the head of each mirror that was
/// not asked for it: a run knows nothing of the ones before, so a first mirror that is behind, and
/// answers well, would hide for good what the others have.
fn fetch(driver: &mut Driver, run: &mut Run, streams: &mut Streams<'_>) {
    let cancel = Arc::new(AtomicBool::new(false));
    let mut unasked: BTreeSet<usize> = (0..driver.mirrors()).collect();
    loop {
        let fetch = match driver.next() {
            Next::Fetch(fetch) => fetch,
            Next::Sleep(_) => match unasked.iter().find_map(|mirror| driver.head_of(*mirror)) {
                Some(fetch) => fetch,
                None => return,
            },
        };
        if fetch.path == FeedPath::Head {
            unasked.remove(&fetch.mirror);
        }
        let job = driver.job(fetch.clone(), &cancel);
        let shown = streams.watched == Watched::Yes && matches!(fetch.path, FeedPath::Snapshot { .. });
        let answer = if shown {
            let mut last = None;
            let stderr = &mut *streams.stderr;
            let answer = job.run(Some(&mut |at, total| {
                let percent = total.and_then(|total| at.saturating_mul(100).checked_div(total));
                if percent != last {
                    last = percent;
                    let _ = write!(stderr, "\rsnapshot: {} KiB, {} %", at / 1024, percent.unwrap_or(0));
                }
            }));
            let _ = writeln!(streams.stderr);
            answer
        } else {
            job.run(None)
        };
        let (events, same) = driver.receive(&fetch, answer);
        let taken = events.iter().any(|e| matches!(e, Event::Advanced { .. } | Event::Heartbeat));
        run.confirmed |= taken || same == Same::Yes;
        run.note(events);
    }
}

/// A mirror that keeps a folder fresh until the process is stopped.
fn forever(driver: Driver, is_writer: bool) -> Result<Exit, Failure> {
    if !is_writer {
        let what = "another process writes this folder";
        return Err(Failure::new(Exit::Local, what, "stop the other one, or use --once"));
    }
    crate::feed::Follower::keep_on(driver);
    Ok(Exit::Ok)
}

fn report(
    driver: &Driver,
    outcome: &Outcome,
    run: &Run,
    is_writer: bool,
    matches: &ArgMatches,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if let Some(what) = &outcome.what {
        writeln!(streams.stderr, "tkverify refresh: {what}\nnext: {}", outcome.next)?;
    }
    if matches.get_flag("json") {
        let health = driver.machine().health(driver.moment());
        let position =
            health.position.map(|Position { epoch, sequence }| json!({"epoch": epoch, "sequence": sequence}));
        let refusals: Vec<&str> = run.refusals().map(|refusal| refusal.name()).collect();
        let value = json!({
            "exit": outcome.exit.code(),
            "confirmed": run.confirmed,
            "wrote": is_writer,
            "position": position,
            "age_seconds": health.age.map(|age| age.as_secs()),
            "key_list": health.key_list,
            "rows": driver.machine().set().map(tkcore::revocation::RevocationSet::len),
            "refusals": refusals,
            "troubles": driver.mirror_troubles(),
            "error": outcome.what,
        });
        writeln!(streams.stdout, "{value}")?;
    }
    Ok(())
}
