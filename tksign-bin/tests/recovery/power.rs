//! Power losses, full and broken disks under the real signer: nothing that was acknowledged is lost,
//! and no store is left that cannot be read.
//!
//! `TKSIGN_CUTS=1000 cargo test -p tksign-bin --test recovery power_loss -- --nocapture` is the long
//! run; `TKSIGN_SEED` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use testkit::TempDir;
use testkit::disk::{Disk, Random, Record, Rule};
use testkit::process::{Finished, run};
use testkit::signer::binary;
use testkit::table::{Fault, fault};
use tkcore::protocol::{Revoke, RevokeTarget, Text};

use crate::kills::minting;
use crate::scene::{Scene, find, text};
use crate::wire::{Key, Line};

/// Tokens between two looks at the record, and such looks at most.
const ROUND: usize = 50;
const MOST: usize = 40;

pub(crate) fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The run's seed, said aloud.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("TKSIGN_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TKSIGN_SEED={seed}");
    seed
}

/// Mints and revokes one after the other until told to stop or `most` are done; says what was
/// acknowledged, after it was.
fn work(scene: &Scene, most: usize, stop: &AtomicBool, acknowledged: impl Fn(String)) {
    for _ in 0..most {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let minted =
            scene.signer.run("mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "a = b"], b"");
        if minted.code != Some(0) {
            continue;
        }
        let lineage = lineage(&minted.stdout);
        acknowledged(format!("minted {lineage}"));
        if scene.signer.run("revoke token", &[&lineage], b"").code == Some(0) {
            acknowledged(format!("revoked {lineage}"));
        }
    }
}

/// The lineage that a token names.
pub(crate) fn lineage(token: &str) -> String {
    let shown = run(testkit::signer::tkverify(), ["inspect", "--json"], token.as_bytes());
    let shown: Value = serde_json::from_str(shown.stdout.lines().next().unwrap()).unwrap();
    find(&shown, "lineage").unwrap()
}

/// What must be so after any loss.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) minted: BTreeSet<String>,
    pub(crate) revoked: BTreeSet<String>,
    /// Clients that were removed.
    gone: BTreeSet<String>,
    /// A position that somebody has seen.
    pub(crate) sequence: u64,
}

impl Told {
    fn take(&mut self, what: &str) {
        match what.split_once(' ') {
            Some(("minted", lineage)) => drop(self.minted.insert(lineage.to_owned())),
            Some(("revoked", lineage)) => drop(self.revoked.insert(lineage.to_owned())),
            Some(("gone", client)) => drop(self.gone.insert(client.to_owned())),
            Some(("sequence", number)) => self.sequence = self.sequence.max(number.parse().unwrap()),
            _ => panic!("{what}"),
        }
    }

    /// Opens the store with the real program, and names the first thing that is not so.
    pub(crate) fn holds(&self, state: &str, secret: &str) -> Result<(), String> {
        let call = |command: &[&str]| -> Result<String, String> {
            let at = ["--dir", state, "--secret-file", secret];
            let done = run(binary(), command.iter().chain(&at), b"");
            if done.code == Some(0) {
                Ok(done.stdout)
            } else {
                Err(format!("{command:?}: {}{}", done.stdout, done.stderr))
            }
        };
        call(&["audit", "verify"])?;
        let status: Value = serde_json::from_str(&call(&["status", "--json"])?).unwrap();
        if status["mode"] != "serving" {
            return Err(format!("{status}"));
        }
        let sequence =
            status["position"].as_str().unwrap().split_once('.').unwrap().1.parse::<u64>().unwrap();
        if sequence < self.sequence {
            return Err(format!("position {sequence}, and {} was seen", self.sequence));
        }
        let clients = call(&["clients", "list", "--json"])?;
        if let Some(client) = self.gone.iter().find(|client| clients.contains(*client)) {
            return Err(format!("{client} was removed and is back"));
        }
        let mut tokens = BTreeMap::new();
        for line in call(&["tokens", "list", "--json"])?.lines() {
            let token: Value = serde_json::from_str(line).unwrap();
            tokens.insert(token["lineage"].as_str().unwrap().to_owned(), !token["revoked by"].is_null());
        }
        let lost = self.minted.iter().find(|lineage| !tokens.contains_key(*lineage));
        let alive = self.revoked.iter().find(|lineage| tokens.get(*lineage) != Some(&true));
        match (lost, alive) {
            (None, None) => Ok(()),
            (Some(lineage), _) => Err(format!("{lineage} was minted and is lost")),
            (None, Some(lineage)) => Err(format!("{lineage} was revoked and lives")),
        }
    }
}

/// A signer over a recorded disk.
fn recorded() -> (Scene, Disk) {
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    scene.signer.stop();
    let disk = Disk::new(&scene.signer.dir().join("state"), scene.signer.dir().path());
    scene.signer.environment(disk.environment());
    // The library looks at files and makes calls that a signer has no use for.
    scene.signer.with(vec!["--no-sandbox".to_owned()]);
    scene.signer.serve();
    // Commands are other programs.
    scene.signer.environment(Vec::new());
    (scene, disk)
}

/// Mints and revokes, adds and removes clients, until the log has been moved into the database: the
/// points at which it was.
fn until_moved(scene: &Scene, disk: &Disk) -> Vec<usize> {
    let key = |role: &str| Key::allowed(&scene.signer, &[role]);
    let line = |role: &str| Line::open(&scene.signer, &key(role)).unwrap();
    let (mut minter, mut revoker) = (line("mint"), line("revoke"));
    for _ in 0..MOST {
        for _ in 0..ROUND {
            let lineage = minter.call(&minting()).unwrap().lineage;
            disk.mark(&format!("minted {lineage}"));
            let target = RevokeTarget::Token(lineage);
            revoker.call(&Revoke { target, reason: Text::default() }).unwrap();
            disk.mark(&format!("revoked {lineage}"));
        }
        let client = key("verify").public.to_string();
        scene.signer.must("clients remove", &[&client]);
        disk.mark(&format!("gone {client}"));
        mark_position(scene, disk);
        let moved = disk.record().writes_to("tksign.db");
        if !moved.is_empty() {
            return moved;
        }
    }
    panic!("the log is never moved into the database");
}

fn mark_position(scene: &Scene, disk: &Disk) {
    let position = scene.json("status", &[])[0]["position"].as_str().unwrap().to_owned();
    disk.mark(&format!("sequence {}", position.split_once('.').unwrap().1));
}

/// Cuts at random points, every third one at one of `some` if there are any; how many cuts lost something, and the first loss.
fn cut(
    scene: &Scene,
    record: &Record,
    some: &[usize],
    cuts: usize,
    random: &mut Random,
) -> (usize, Option<String>) {
    let mut point = |n: usize| match some.get(random.below(some.len())) {
        Some(at) if n.is_multiple_of(3) => (*at, random.next_u64()),
        _ => (random.below(record.len() + 1), random.next_u64()),
    };
    let jobs = Mutex::new((0..cuts).map(&mut point).collect::<Vec<_>>());
    let (losses, first) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    // The lock is let go before the cut is tried.
                    let job = jobs.lock().unwrap().pop();
                    let Some((until, seed)) = job else { break };
                    if let Err(why) = one_cut(scene, record, until, seed) {
                        losses.fetch_add(1, Ordering::SeqCst);
                        first.lock().unwrap().get_or_insert(format!("cut at {until}, seed {seed}: {why}"));
                    }
                }
            });
        }
    });
    (losses.into_inner(), first.into_inner().unwrap())
}

fn one_cut(scene: &Scene, record: &Record, until: usize, seed: u64) -> Result<(), String> {
    let dir = TempDir::new();
    record.cut(until, &mut Random::new(seed), dir.path());
    // The wal-index is memory that is shared, not a file: it is made anew.
    let _ = std::fs::remove_file(dir.join("tksign.db-shm"));
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut told = Told::default();
    record.marks(until).for_each(|what| told.take(what));
    told.holds(&text(dir.path()), &scene.signer.secret())
}

#[test]
fn a_power_loss_at_any_point_loses_nothing_that_was_acknowledged() {
    let (mut scene, disk) = recorded();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| work(&scene, 8, &stop, |what| disk.mark(&what)));
        }
        scope.spawn(|| (0..10).for_each(|_| mark_position(&scene, &disk)));
    });
    // What was written first is cut by itself as well: the rest is much longer.
    let short = disk.record().len();
    let moved = until_moved(&scene, &disk);
    scene.signer.stop();
    let record = disk.record();
    let told = record.marks(record.len()).count();
    assert!(record.syncs() > 50 && told > 40, "{} syncs, {told} acknowledgements", record.syncs());
    let (cuts, seed) = (number("TKSIGN_CUTS", 24), seed());
    let mut random = Random::new(seed);
    let some: Vec<_> = moved.into_iter().chain(0..short).collect();
    let (losses, first) = cut(&scene, &record, &some, cuts, &mut random);
    assert_eq!(losses, 0, "{first:?}");
    fault(&Fault {
        store: "SQLite",
        fault: "power loss at any write or sync",
        times: cuts,
        lost: losses,
        pause: None,
        clients_saw: "what was acknowledged, after the restart",
    });
    // The simulation finds a program that does not sync its log: the test can fail.
    let (losses, _) = cut(&scene, &record.without_syncs_of("-wal"), &[], cuts.min(100), &mut random);
    assert!(
        losses > cuts.min(100) / 5,
        "only {losses} of {} cuts without syncs lost something",
        cuts.min(100)
    );
    println!("{cuts} cuts, 0 losses; without syncs of the log {losses} of {}", cuts.min(100));
}

#[track_caller]
pub(crate) fn fails(done: &Finished, what: &str) {
    assert!(done.code.is_some_and(|code| code != 0), "{}", done.stdout);
    assert!(done.stderr.contains(what), "\"{what}\" is not in: {}", done.stderr);
}

#[test]
fn a_power_full_or_broken_disk_is_told_and_nothing_is_acknowledged() {
    let (mut scene, disk) = recorded();
    let revoked = scene.mint("acme", "revoked");
    disk.mark(&format!("minted {revoked}"));
    scene.client("verifier.key", "verify");
    let feed = scene.path("feed");
    scene.refreshed(&feed);
    for (rule, what, name) in [
        (Rule::Full, "disk is full", "disk full"),
        (Rule::WritesFail, "I/O", "I/O error on write"),
        (Rule::SyncsFail, "I/O", "I/O error on sync"),
    ] {
        let kept = scene.mint("acme", "kept");
        disk.mark(&format!("minted {kept}"));
        disk.rule(rule);
        // A log that is used again needs no room, so some writes may succeed before one fails.
        let mint = ["--tenant", "acme", "--expires", "8h", "--caveat", "a = b"];
        let mut refused = scene.signer.run("mint", &mint, b"");
        for _ in 0..200 {
            if refused.code != Some(0) {
                break;
            }
            disk.mark(&format!("minted {}", lineage(&refused.stdout)));
            refused = scene.signer.run("mint", &mint, b"");
        }
        fails(&refused, what);
        fails(&scene.signer.run("revoke token", &[&kept], b""), what);
        fails(
            &scene.signer.run(
                "clients add",
                &["--key", &"ab".repeat(32), "--role", "verify", "--name", "x"],
                b"",
            ),
            what,
        );
        // Verifies go on, by the signer and by the feed that it serves.
        scene.refreshed(&feed);
        assert_eq!(scene.check("verifier.key", "revoked", "acme", &feed).code, Some(0), "{name}");
        disk.rule(Rule::Ok);
        // By itself, and at once.
        let started = Instant::now();
        scene.signer.must("revoke token", &[&kept]);
        fault(&Fault {
            store: "SQLite",
            fault: name,
            times: 1,
            lost: 0,
            pause: Some(started.elapsed()),
            clients_saw: "an error that names it, no acknowledgement; verifies go on",
        });
        disk.mark(&format!("revoked {kept}"));
        scene.mint("acme", "after");
        mark_position(&scene, &disk);
        scene.signer.must("audit verify", &[]);
    }
    scene.signer.stop();
    // What was acknowledged after a failed sync survives a power loss: nothing relies on what the
    // kernel marked clean.
    let record = disk.record();
    let mut random = Random::new(seed());
    let (losses, first) = cut(&scene, &record, &[], number("TKSIGN_CUTS", 24), &mut random);
    assert_eq!(losses, 0, "{first:?}");
    fault(&Fault {
        store: "SQLite",
        fault: "power loss after I/O errors",
        times: number("TKSIGN_CUTS", 24),
        lost: losses,
        pause: None,
        clients_saw: "what was acknowledged, after the restart",
    });
}
