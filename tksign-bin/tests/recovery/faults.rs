//! A disk that fails at any one write or sync, under the real signer.
//!
//! `TKSIGN_FAULTS=1000 cargo test --release -p tksign-bin --test recovery faults -- --nocapture` is the
//! long run, so many of each kind; `TKSIGN_SEED` repeats its choices.

use std::time::{Duration, Instant};

use testkit::disk::{Disk, Random, Rule};
use testkit::table::{Fault, fault};
use tkcore::LineageId;
use tkcore::protocol::*;

use crate::kills::minting;
use crate::power::{Told, number, seed};
use crate::scene::Scene;
use crate::wire::{Key, Line, PATIENCE};

/// Writes or syncs that succeed before one fails, at most: some five transactions of a signer.
const AFTER: usize = 30;
/// What is asked until the fault is met, at most; a heartbeat may have met it instead.
const ASKED: usize = 12;
/// How many faults are played, at most, for one that a request meets.
const TRIES: usize = 50;
/// Rounds between two looks at the whole store.
const LOOK: usize = 50;

const KINDS: [(Rule, &str); 4] = [
    (Rule::NoSpace, "disk full at any write"),
    (Rule::Short, "a write that is made by half, at any write"),
    (Rule::WritesFail, "I/O error at any write"),
    (Rule::SyncsFail, "I/O error at any sync"),
];

/// A client over a session, which is opened anew when its server has closed it, as after some time.
struct Client {
    key: Key,
    line: Line,
}

impl Client {
    fn new(scene: &Scene, role: &str) -> Self {
        let key = Key::allowed(&scene.signer, &[role]);
        let line = Line::open(&scene.signer, &key).unwrap();
        Self { key, line }
    }

    fn ask<C: Call>(&mut self, scene: &Scene, payload: &[u8]) -> Result<C::Answer, RpcError> {
        let answer = match self.line.try_ask(payload) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                self.line = Line::open(&scene.signer, &self.key).unwrap();
                self.line.ask(payload).unwrap()
            }
        };
        C::read_answer(&answer).unwrap()
    }
}

/// What clients were told.
struct Clients<'a> {
    scene: &'a Scene,
    minter: Client,
    revoker: Client,
    verifier: Client,
    operator: Client,
    alive: Vec<u8>,
    told: Told,
}

/// A request under the id that it keeps.
enum Asked {
    Mint(Vec<u8>),
    Revoke(Vec<u8>, LineageId),
}

impl<'a> Clients<'a> {
    fn new(scene: &'a Scene) -> Self {
        let [mut minter, revoker, verifier, operator] =
            ["mint", "revoke", "verify", "operator"].map(|role| Client::new(scene, role));
        let minted = minter.line.call(&minting()).unwrap();
        let mut told = Told::default();
        told.minted.insert(minted.lineage.to_string());
        let alive = minted.token.expose().to_vec();
        Self { scene, minter, revoker, verifier, operator, alive, told }
    }

    /// What is asked next: a mint, or that what was minted last is revoked.
    fn next(&mut self, minted: Option<LineageId>) -> Asked {
        match minted {
            Some(lineage) => {
                let revoke = Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() };
                Asked::Revoke(revoke.request(self.revoker.line.id(), None).unwrap(), lineage)
            }
            None => Asked::Mint(minting().request(self.minter.line.id(), None).unwrap()),
        }
    }

    /// Asks, and notes what is acknowledged: the lineage of a mint, nothing of a revocation.
    fn ask(&mut self, asked: &Asked) -> Result<Option<LineageId>, RpcError> {
        match asked {
            Asked::Mint(payload) => {
                let minted = self.minter.ask::<Mint>(self.scene, payload)?;
                self.told.minted.insert(minted.lineage.to_string());
                Ok(Some(minted.lineage))
            }
            Asked::Revoke(payload, lineage) => {
                self.revoker.ask::<Revoke>(self.scene, payload)?;
                self.told.revoked.insert(lineage.to_string());
                Ok(None)
            }
        }
    }

    /// One fault; how long it took until what was refused was done, or nothing when nobody met it.
    fn round(&mut self, disk: &Disk, rule: Rule, random: &mut Random) -> Option<Duration> {
        // One that fails, some, or (0) all until it is mended.
        let (after, count) = (random.below(AFTER), random.below(2) * random.below(4));
        disk.rule_after(rule, after, count);
        let (mut minted, mut refused) = (None, None);
        for _ in 0..ASKED {
            let asked = self.next(minted);
            match self.ask(&asked) {
                Ok(lineage) => minted = lineage,
                Err(error) => {
                    assert_eq!(error.code, Code::StoreFailed, "{error}");
                    refused = Some(asked);
                    break;
                }
            }
        }
        // Verifies go on.
        let verify = Verify { root: self.alive.as_slice().into(), discharges: vec![] };
        let verify = verify.request(self.verifier.line.id(), None).unwrap();
        self.verifier.ask::<Verify>(self.scene, &verify).unwrap();
        disk.rule(Rule::Ok);
        let asked = refused?;
        let mended = Instant::now();
        while let Err(error) = self.ask(&asked) {
            assert!(error.code == Code::StoreFailed && mended.elapsed() < PATIENCE, "{error}");
        }
        Some(mended.elapsed())
    }

    fn look(&mut self) {
        let signer = &self.scene.signer;
        assert_eq!(self.told.holds(&signer.state(), &signer.secret()), Ok(()));
        let status = Status {}.request(self.operator.line.id(), None).unwrap();
        let position = self.operator.ask::<Status>(self.scene, &status).unwrap().position.sequence;
        assert!(position >= self.told.sequence, "at {position}, and {} was seen", self.told.sequence);
        self.told.sequence = position;
    }
}

#[test]
fn faults_of_the_disk_at_any_point_lose_nothing_that_was_acknowledged() {
    let (rounds, mut random) = (number("TKSIGN_FAULTS", 6), Random::new(seed()));
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    scene.signer.stop();
    let disk = Disk::new(&scene.signer.dir().join("state"), scene.signer.dir().path());
    // Nothing is cut here, so nothing is recorded.
    let environment = disk.environment().into_iter().filter(|(name, _)| name != "TK_DISK_LOG");
    scene.signer.environment(environment.collect());
    // The library looks at files and makes calls that a signer has no use for.
    scene.signer.with(vec!["--no-sandbox".to_owned()]);
    scene.signer.serve();
    scene.signer.environment(Vec::new());
    let mut clients = Clients::new(&scene);
    for (rule, name) in KINDS {
        let (mut met, mut pause) = (0, Duration::ZERO);
        let mut tries = 0..rounds * TRIES;
        while met < rounds {
            assert!(tries.next().is_some(), "{name}: of {} only {met} were met", rounds * TRIES);
            if let Some(took) = clients.round(&disk, rule, &mut random) {
                (met, pause) = (met + 1, pause.max(took));
                if met % LOOK == 0 {
                    clients.look();
                }
            }
        }
        clients.look();
        fault(&Fault {
            store: "SQLite",
            fault: name,
            times: rounds,
            lost: 0,
            pause: Some(pause),
            clients_saw: "an error, no acknowledgement, the same request done later; verifies go on",
        });
    }
    let told = clients.told;
    scene.signer.kill();
    assert_eq!(told.holds(&scene.signer.state(), &scene.signer.secret()), Ok(()));
}
