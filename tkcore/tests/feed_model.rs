//! The client against a server that answers whatever does most harm, beside an oracle that
//! knows the truth. A slice runs with every test; the long run is
//! `cargo test --release -p tkcore --features publish --test feed_model -- --ignored --nocapture`
//! (`MODEL_STEPS`, default a million, and `MODEL_SEED` change it).
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a long run says how long it took"
)]

mod feed_support;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use feed_support::{Client, Random, START, Signer, at, key};
use tkcore::revocation::feed::{Config, Effect, Fetch, Freshness, Next, Response};
use tkcore::revocation::{
    ExpiryDay, FeedPath, Position, Query, Revocation, RevocationSet, Revocations, Status,
};
use tkcore::{FeedDigest, LineageId};

/// The truth: which rows every state held that was ever made.
struct Oracle {
    rows: HashMap<LineageId, ExpiryDay>,
    states: BTreeMap<Position, (FeedDigest, HashMap<LineageId, ExpiryDay>)>,
}

struct World {
    random: Random,
    signer: Signer,
    oracle: Oracle,
    client: Client,
    /// True time in milliseconds, and how far the client's clock is off.
    now: u64,
    offset: i64,
    /// Both clocks have lied since the last head was taken: no age can be promised.
    is_blind: bool,
    was_suspended: bool,
    heads: Vec<Vec<u8>>,
    highest: Option<Position>,
    durable: Option<Position>,
    minted: Vec<LineageId>,
    steps: u64,
    last_base: u64,
    last_list: u64,
    polls: u64,
    recoveries: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Random(seed);
        let signer = Signer::new(START);
        let mut config = Config::new(feed_support::FEED, signer.roots());
        config.mirrors = 1 + (seed % 3) as usize;
        let client = Client::new(config, START);
        let mut world = Self {
            random,
            signer,
            oracle: Oracle { rows: HashMap::new(), states: BTreeMap::new() },
            client,
            now: START,
            offset: 0,
            is_blind: false,
            was_suspended: false,
            heads: vec![],
            highest: None,
            durable: None,
            minted: vec![],
            steps: 0,
            last_base: START,
            last_list: START,
            polls: 0,
            recoveries: 0,
        };
        world.note_state();
        world.heads.push(world.signer.files["head"].clone());
        world
    }

    fn note_state(&mut self) {
        let publisher = &self.signer.publisher;
        let digest = publisher.set().digest();
        self.oracle.states.insert(publisher.position(), (digest, self.oracle.rows.clone()));
        // Old truths are never asked for: the client does not go back.
        while self.oracle.states.len() > 3000 {
            self.oracle.states.pop_first();
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.client.moment.monotonic += Duration::from_millis(millis);
        self.set_wall();
    }

    fn set_wall(&mut self) {
        self.client.moment.wall = at(self.now.saturating_add_signed(self.offset));
    }

    fn publish_head(&mut self) {
        if self.now - self.last_list > 40 * 86_400_000 {
            self.signer.keys.insert(0, key(self.random.next() as u8 | 0x80));
            self.signer.keys.truncate(2);
            self.signer.keys.dedup_by_key(|key| key.public().id());
            let epoch = self.signer.list.epoch;
            self.signer.publish_keys(epoch, self.now);
            self.last_list = self.now;
        }
        self.signer.publish_head(self.now);
        self.heads.push(self.signer.files["head"].clone());
    }

    fn sign_something(&mut self) {
        match self.random.below(20) {
            0..=8 => {
                let count = 1 + self.random.below(4);
                let mut rows = vec![];
                for _ in 0..count {
                    let lineage = self.random.lineage(self.now);
                    self.minted.push(lineage);
                    let day = match self.random.below(4) {
                        0 => ExpiryDay::UNKNOWN,
                        days => ExpiryDay::of(Some(at(self.now + days * 86_400_000))),
                    };
                    rows.push((Revocation::Token { lineage }, day));
                    self.oracle.rows.insert(lineage, day);
                }
                self.signer.revoke(&rows, None);
                self.note_state();
            }
            9 => {
                if let Some(day) = self.signer.publisher.due_drop(at(self.now)) {
                    self.signer.revoke(&[], Some(day));
                    self.oracle.rows.retain(|_, kept| *kept > day);
                    self.note_state();
                }
            }
            10 if self.signer.publisher.needs_rebase(Duration::from_millis(self.now - self.last_base)) => {
                self.signer.publish_base();
                self.last_base = self.now;
                if self.random.one_in(3) {
                    let oldest = self.signer.publisher.base().sequence;
                    self.signer.publisher.retire_deltas_before(oldest);
                }
            }
            11 if self.random.one_in(20) => {
                let epoch = self.signer.list.epoch;
                self.signer.keys.insert(0, key(self.random.next() as u8 | 0x80));
                self.signer.keys.truncate(1);
                self.signer.publish_keys(epoch, self.now);
                self.last_list = self.now;
            }
            12 if self.random.one_in(60) => {
                self.signer.raise_epoch(self.now);
                self.last_list = self.now;
                self.last_base = self.now;
                self.note_state();
                self.heads.push(self.signer.files["head"].clone());
            }
            _ => {}
        }
        self.publish_head();
    }

    fn disturb(&mut self) {
        match self.random.below(12) {
            0..=4 => {
                let millis = self.random.below(20_000);
                self.pass(millis);
            }
            5 => {
                let millis = self.random.below(4 * 3_600_000);
                self.pass(millis);
            }
            6 if self.random.one_in(8) => {
                let millis = self.random.below(3 * 86_400_000);
                self.pass(millis);
            }
            7 => {
                // Suspended: true time goes on, the monotonic clock does not.
                self.now += self.random.below(3_600_000);
                self.was_suspended = true;
                self.set_wall();
            }
            8 if self.random.one_in(4) => {
                self.offset = match self.random.below(3) {
                    0 => 0,
                    1 => -i64::try_from(self.random.below(200_000_000)).unwrap(),
                    _ => i64::try_from(self.random.below(200_000_000)).unwrap(),
                };
                self.set_wall();
            }
            9 => self.restart(),
            10 if self.random.one_in(4) => {
                self.client.folder.retain(|name, _| name == "floor" || name.starts_with("keys/"));
                self.client.restart();
                self.client.events.clear();
                self.highest = None;
                self.durable = None;
                self.was_suspended = true;
            }
            11 => {
                let writes = self.random.below(6) as usize;
                self.client.writes_left = if self.random.one_in(2) { Some(writes) } else { None };
            }
            _ => {}
        }
        if self.offset < 0 && self.was_suspended {
            self.is_blind = true;
        }
    }

    fn restart(&mut self) {
        let was_writing = self.client.writes_left.is_some();
        let before = self.client.machine.position();
        self.client.events.clear();
        self.client.restart();
        let refusals = self.client.refusals();
        let files: Vec<_> = self.client.folder.keys().cloned().collect();
        self.client.events.clear();
        // Without its own clock's memory a process has the wall clock alone.
        self.was_suspended = true;
        let after = self.client.machine.position();
        assert!(after >= self.durable, "restart lost {:?}: {refusals:?} {files:?}", self.durable);
        if !was_writing && self.durable == before {
            assert_eq!(after, before, "the last good state loads");
        }
        self.highest = after;
        self.is_blind |= self.offset < 0;
        self.check();
    }

    fn serve(&mut self, fetch: &Fetch) -> Response {
        let honest = self.signer.get(fetch.path);
        match self.random.below(24) {
            0..=11 => honest,
            12 | 13 => {
                let index = self.random.below(self.heads.len() as u64) as usize;
                Response::Body(self.heads[index].clone())
            }
            14 => {
                let index = self.random.below(self.signer.files.len() as u64) as usize;
                Response::Body(self.signer.files.values().nth(index).unwrap().clone())
            }
            15 | 16 => match honest {
                Response::Body(mut bytes) if !bytes.is_empty() => {
                    let bit = self.random.below(bytes.len() as u64 * 8) as usize;
                    bytes[bit / 8] ^= 0x80 >> (bit % 8);
                    Response::Body(bytes)
                }
                other => other,
            },
            17 => match honest {
                Response::Body(mut bytes) => {
                    let len = self.random.below(bytes.len() as u64 + 1) as usize;
                    bytes.truncate(len);
                    Response::Body(bytes)
                }
                other => other,
            },
            18 => {
                let seed = self.random.next() as u8 & 0x3f;
                let issued = self.now + self.random.below(100_000);
                let mut head = self.signer.head_of(&self.signer.publisher, issued);
                head.position.sequence += self.random.below(3);
                head.state = FeedDigest::from_bytes(self.random.bytes());
                Response::Body(head.sign(&[&key(seed)]).unwrap())
            }
            19 => Response::Body(b"<html>502</html>".to_vec()),
            20 => Response::NotModified,
            21 => Response::NotFound,
            22 => Response::Refused { retry_after: Some(Duration::from_secs(self.random.below(400))) },
            _ => match self.random.below(3) {
                0 => Response::Failed,
                1 => Response::TooLarge,
                _ => Response::Body(vec![]),
            },
        }
    }

    /// One fetch, if one is due.
    fn poll(&mut self) {
        let Next::Fetch(fetch) = self.client.machine.next(self.client.moment) else {
            if self.random.one_in(3) {
                self.client.machine.poll_now();
            }
            return;
        };
        self.polls += 1;
        let response = self.serve(&fetch);
        self.take(&fetch, response);
    }

    fn take(&mut self, fetch: &Fetch, response: Response) {
        let random = self.random.next();
        let effects = self.client.machine.receive(fetch, response, self.client.moment, random);
        let swaps = effects.iter().filter(|effect| matches!(effect, Effect::Swap { .. })).count();
        assert!(swaps <= 1);
        let renews = effects.iter().filter(|effect| matches!(effect, Effect::Renew(_))).count();
        self.client.apply(effects);
        if swaps + renews > 0 {
            self.was_suspended = false;
            // What a clock that is set back lets in looks younger than it is.
            self.is_blind = self.offset < 0;
        }
        if let Ok(floor) = tkcore::revocation::feed::Floor::from_bytes(
            self.client.folder.get("floor").map_or(&[][..], Vec::as_slice),
        ) {
            if self.client.folder.contains_key("head") && floor.position.epoch > 0 {
                self.durable = Some(floor.position);
            } else {
                self.durable = None;
            }
        }
        self.client.events.clear();
        self.check();
    }

    fn check(&mut self) {
        let position = self.client.machine.position();
        assert!(position >= self.highest, "rolled back from {:?} to {position:?}", self.highest);
        self.highest = position;
        let Some(position) = position else { return };
        let set = self.client.machine.set().unwrap();
        let Some((digest, rows)) = self.oracle.states.get(&position) else {
            panic!("{position} was never signed")
        };
        assert_eq!(set.digest(), *digest, "{position}");
        if let Some(lineage) = self.minted.get(self.random.below(self.minted.len().max(1) as u64) as usize) {
            let query = Query::foreign(*lineage, lineage.minted(), &[]);
            let is_revoked = matches!(set.status(&query), Status::Revoked(_));
            assert_eq!(is_revoked, rows.contains_key(lineage), "{position} {lineage}");
        }
        let freshness = self.client.freshness();
        let issued = self.client.machine.floor().issued_at.millis();
        let age = self.now.saturating_sub(issued);
        if freshness > Freshness::Stale && !self.is_blind {
            // A head may be signed up to the skew ahead of the client's clock.
            assert!(
                age < 3_600_000 + 60_000,
                "{freshness:?} at an age of {age} ms: clock off by {}, suspended {}, {:?}, {:?}",
                self.offset,
                self.was_suspended,
                self.client.machine.health(self.client.moment),
                self.client.machine.validity()
            );
        }
    }

    /// Everybody behaves again: the client must find the truth.
    fn recover(&mut self) {
        self.offset = 0;
        self.client.writes_left = None;
        self.publish_head();
        for _ in 0..40 {
            self.pass(70_000);
            self.publish_head();
            self.client.machine.poll_now();
            for _ in 0..600 {
                let Next::Fetch(fetch) = self.client.machine.next(self.client.moment) else { break };
                let is_head = matches!(fetch.path, FeedPath::Head | FeedPath::Wait { .. });
                let response = self.signer.get(fetch.path);
                self.take(&fetch, response);
                if is_head && self.is_recovered() {
                    break;
                }
            }
            if self.is_recovered() {
                self.recoveries += 1;
                return;
            }
        }
        panic!(
            "no recovery: client {:?}, signer {:?}, {:?}",
            self.client.machine.health(self.client.moment),
            self.signer.publisher.position(),
            self.signer.list.version
        );
    }

    fn is_recovered(&self) -> bool {
        self.client.machine.position() == Some(self.signer.publisher.position())
            && self.client.freshness() == Freshness::Fresh
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(16) {
            0 | 1 => self.sign_something(),
            2..=5 => self.disturb(),
            _ => self.poll(),
        }
        if self.random.one_in(400) {
            self.recover();
        }
    }
}

fn run(seed: u64, steps: u64) {
    println!("feed model: seed {seed}, {steps} steps");
    let mut done = 0;
    let (mut polls, mut recoveries) = (0, 0);
    let mut round = 0;
    while done < steps {
        let mut world = World::new(seed.wrapping_add(round));
        let part = (steps - done).min(5000);
        for _ in 0..part {
            world.step();
        }
        world.recover();
        done += part;
        polls += world.polls;
        recoveries += world.recoveries;
        round += 1;
    }
    println!("feed model: {done} steps, {polls} answers, {recoveries} recoveries, all invariants held");
    assert!(recoveries >= round);
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn a_slice_of_the_model() {
    run(setting("MODEL_SEED", 20_261_123), 6000);
}

#[test]
#[ignore = "minutes; run it with --ignored in release"]
fn a_million_steps_of_the_model() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs());
    run(setting("MODEL_SEED", seed), setting("MODEL_STEPS", 1_000_000));
}

#[test]
fn the_empty_set_is_what_an_oracle_without_rows_says() {
    let set = RevocationSet::empty();
    assert_eq!(set.status(&Query::foreign(LineageId::from_bytes([0; 16]), None, &[])), Status::Live);
}
