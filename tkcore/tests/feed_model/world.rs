//! One client, one signer, perhaps a thief, and whatever comes between them.

use std::time::Duration;

use tkcore::FeedDigest;
use tkcore::revocation::feed::{Config, Effect, Fetch, Freshness, Next, Response};
use tkcore::revocation::{FeedPath, Head};

use super::clocks::Clocks;
use super::feed_support::plain::{Plain, random_row};
use super::feed_support::{Client, FEED, Random, START, Signer, at, key};
use super::thief::Thief;
use super::truth::{Maker, Truth, age, millis};

pub(crate) struct World {
    random: Random,
    signer: Signer,
    /// What the signer has revoked.
    rows: Plain,
    pub(crate) truth: Truth,
    client: Client,
    clocks: Clocks,
    may_lie: bool,
    may_sleep: bool,
    /// How long a process lasts: restarts come one in so many.
    lasting: u64,
    may_steal: bool,
    thief: Option<Thief>,
    /// A key was stolen that is still listed, or was when this epoch's states were made.
    is_tainted: bool,
    /// Seed of the key that the signer signs with.
    signing: u8,
    last_base: u64,
    last_list: u64,
    pub(crate) polls: u64,
    pub(crate) recoveries: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let signer = Signer::new(START);
        let mut config = Config::new(FEED, signer.roots());
        config.mirrors = 1 + random.below(3) as usize;
        let mut world = Self {
            client: Client::new(config, START),
            may_lie: random.one_in(2),
            may_sleep: random.one_in(2),
            lasting: 1 + random.below(6),
            may_steal: random.one_in(2),
            random,
            signer,
            rows: Plain::default(),
            truth: Truth::new(),
            clocks: Clocks::new(START),
            thief: None,
            is_tainted: false,
            signing: 10,
            last_base: START,
            last_list: START,
            polls: 0,
            recoveries: 0,
        };
        world.note_state();
        world.publish_head();
        world
    }

    fn note_state(&mut self) {
        self.truth.made(&self.signer.publisher, &self.rows, Maker::Signer);
    }

    fn pass(&mut self, millis: u64) {
        self.clocks.pass(millis);
        self.client.moment.monotonic += Duration::from_millis(millis);
        self.set_wall();
    }

    fn set_wall(&mut self) {
        self.client.moment.wall = at(self.clocks.now.saturating_add_signed(self.clocks.offset));
    }

    fn new_key(&mut self) {
        self.signing = self.signing.wrapping_add(1) | 0x80;
        self.signer.keys.insert(0, key(self.signing));
        self.last_list = self.clocks.now;
    }

    /// A list without the keys before, and an epoch that ends whatever was made with them.
    fn end_the_theft(&mut self) {
        self.new_key();
        self.signer.keys.truncate(1);
        self.raise_epoch();
        self.is_tainted = false;
    }

    fn raise_epoch(&mut self) {
        self.signer.raise_epoch(self.clocks.now);
        self.last_list = self.clocks.now;
        self.last_base = self.clocks.now;
        self.note_state();
        self.publish_head();
    }

    fn publish_head(&mut self) {
        if self.clocks.now - self.last_list > 40 * 86_400_000 {
            self.new_key();
            self.signer.keys.truncate(2);
            let epoch = self.signer.list.epoch;
            self.signer.publish_keys(epoch, self.clocks.now);
        }
        self.signer.publish_head(self.clocks.now);
        self.truth.signed(self.signer.files["head"].clone(), &self.signer.keys[0]);
    }

    fn sign_something(&mut self) {
        let now = self.clocks.now;
        match self.random.below(20) {
            0..=8 => {
                let count = 1 + self.random.below(4);
                let rows: Vec<_> = (0..count).map(|_| random_row(&mut self.random, now, 1)).collect();
                for (row, day) in &rows {
                    self.truth.named.push(*row);
                    self.rows.add(row, *day);
                }
                self.signer.revoke(&rows, None);
                self.note_state();
            }
            9 => {
                if let Some(day) = self.signer.publisher.due_drop(at(now)) {
                    self.signer.revoke(&[], Some(day));
                    self.rows.drop_through(day);
                    self.note_state();
                }
            }
            10 if self.signer.publisher.needs_rebase(Duration::from_millis(now - self.last_base)) => {
                self.signer.publish_base();
                self.last_base = now;
                if self.random.one_in(3) {
                    let oldest = self.signer.publisher.base().sequence;
                    self.signer.publisher.retire_deltas_before(oldest);
                }
            }
            11 if self.random.one_in(20) => {
                self.new_key();
                self.signer.keys.truncate(1);
                let epoch = self.signer.list.epoch;
                self.signer.publish_keys(epoch, now);
            }
            12 if self.random.one_in(60) => self.raise_epoch(),
            13 if self.is_tainted && self.random.one_in(20) => self.end_the_theft(),
            14 if self.may_steal && self.random.one_in(4) => {
                self.thief = Some(Thief::new(self.signing, &self.signer, &self.rows));
                self.is_tainted = true;
            }
            _ => {}
        }
        self.publish_head();
    }

    fn disturb(&mut self) {
        match self.random.below(13) {
            0..=4 => {
                let millis = self.random.below(20_000);
                self.pass(millis);
            }
            5 => {
                let hours = if self.random.one_in(2) { 1 } else { 4 };
                let millis = self.random.below(hours * 3_600_000);
                self.pass(millis);
            }
            6 if self.random.one_in(8) => {
                let millis = self.random.below(3 * 86_400_000);
                self.pass(millis);
            }
            7 if self.may_sleep => {
                let millis = self.random.below(3_600_000);
                self.clocks.sleep(millis);
                self.set_wall();
            }
            8 if self.may_lie && self.random.one_in(4) => {
                let far = i64::try_from(self.random.below(200_000_000)).unwrap();
                let offset = [0, far, -far, far / 100_000, -far / 100_000];
                self.clocks.set(offset[self.random.below(5) as usize]);
                self.set_wall();
            }
            9 if self.random.one_in(self.lasting) => self.restart(),
            10 if self.random.one_in(4) => {
                let random = &mut self.random;
                self.client
                    .folder
                    .retain(|name, _| name == "floor" || (name.starts_with("keys/") && !random.one_in(2)));
                self.truth.cleaned(&self.client);
                self.start();
            }
            11 => {
                let writes = self.random.below(6) as usize;
                self.client.writes_left = if self.random.one_in(2) { Some(writes) } else { None };
            }
            12 if self.random.one_in(4) => {
                self.client.machine.clear_alarm();
                self.truth.forget_alarm();
            }
            _ => {}
        }
    }

    fn start(&mut self) {
        self.client.events.clear();
        self.client.restart();
        self.client.events.clear();
        // Without its own clock's memory a process has the wall clock and its floor.
        let skew = millis(self.client.config.skew);
        self.clocks.started(self.client.machine.floor().issued_at.millis(), skew);
        self.look(None);
    }

    fn restart(&mut self) {
        let was_writing = self.client.writes_left.is_some();
        let before = self.client.machine.position();
        let durable = self.truth.durable();
        self.truth.restarted(&self.client);
        self.start();
        let after = self.client.machine.position();
        assert!(after >= durable, "restart lost {durable:?}: {:?}", self.client.folder.keys());
        if !was_writing && durable == before {
            assert_eq!(after, before, "the last good state loads");
        }
    }

    fn serve(&mut self, fetch: &Fetch) -> Response {
        let honest = self.signer.get(fetch.path);
        let is_head = matches!(fetch.path, FeedPath::Head | FeedPath::Wait { .. });
        if let Some(mut thief) = self.thief.take() {
            let answer = match (is_head, self.random.below(3)) {
                (true, 0 | 1) => {
                    if self.random.one_in(2) {
                        thief.act(
                            &mut self.random,
                            self.clocks.now,
                            &self.signer,
                            &self.rows,
                            &self.client,
                            &mut self.truth,
                        );
                    }
                    Some(thief.head(&mut self.random, self.clocks.now, &self.client, &mut self.truth))
                }
                (false, 0 | 1) => thief.get(fetch.path),
                _ => None,
            };
            self.thief = Some(thief);
            if let Some(bytes) = answer {
                return Response::Body(bytes);
            }
        }
        match self.random.below(24) {
            0..=11 => honest,
            12 => {
                let index = self.random.below(self.truth.heads.len() as u64) as usize;
                Response::Body(self.truth.heads[index].clone())
            }
            // Held back, each for as long as it can be.
            13 => {
                let held = self.truth.held_back(&self.client, self.clocks.now);
                held.map_or(Response::NotModified, Response::Body)
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
                // A key that was never listed.
                let seed = 0x20 + self.random.below(0x20) as u8;
                let issued = self.clocks.now + self.random.below(100_000);
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
        let offered = match (&fetch.path, &response) {
            (FeedPath::Head | FeedPath::Wait { .. }, Response::Body(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let before = self.client.machine.position();
        let effects = self.client.machine.receive(fetch, response, self.client.moment, random);
        self.truth.effects(&effects);
        let is_taken = effects.iter().any(|effect| matches!(effect, Effect::Swap { .. } | Effect::Renew(_)));
        self.client.apply(effects);
        self.client.events.clear();
        if is_taken {
            let head = Head::parse_unverified(self.client.machine.head_bytes().unwrap()).unwrap();
            let skew = millis(self.client.config.skew);
            let furthest = self.clocks.furthest(skew);
            assert!(
                head.issued_at.millis() <= furthest,
                "signed {} ms ahead, believed {} ms at most",
                head.issued_at.millis() - self.clocks.now,
                furthest - self.clocks.now
            );
            let is_new_epoch = before.map(|at| at.epoch) != Some(head.position.epoch);
            self.clocks.took(head.issued_at.millis(), is_new_epoch);
        }
        self.look(offered.as_deref());
    }

    fn look(&mut self, offered: Option<&[u8]>) {
        let is_whole = self.client.writes_left.is_none();
        self.truth.look(&self.client, &mut self.random, offered, is_whole);
        self.age();
    }

    /// Nothing is decided by that is older, in true time, than its head allows and the clocks hide.
    fn age(&mut self) {
        if self.client.freshness() <= Freshness::Stale {
            return;
        }
        let head = Head::parse_unverified(self.client.machine.head_bytes().unwrap()).unwrap();
        let validity = millis(head.valid_until.saturating_since(head.issued_at));
        assert!(validity <= millis(self.client.config.local_maximum));
        let age = age(head.issued_at, self.clocks.now);
        let hidden = self.clocks.hides();
        assert!(
            age < validity + hidden,
            "decided at an age of {age} ms: valid for {validity}, clocks hide {hidden}, off by {}, {:?}",
            self.clocks.offset,
            self.client.machine.health(self.client.moment)
        );
        if hidden > 0 {
            self.truth.count("judged by clocks that lie");
        }
    }

    /// Everybody behaves again: the client must find the truth, and stay with it.
    pub(crate) fn recover(&mut self) {
        self.clocks.set(0);
        self.set_wall();
        self.client.writes_left = None;
        if self.is_tainted {
            self.end_the_theft();
        }
        let mut rounds = 0;
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
            rounds = if self.is_recovered() { rounds + 1 } else { 0 };
            if rounds == 2 {
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
        self.client.machine.head_bytes() == Some(&self.signer.files["head"])
            && self.client.freshness() == Freshness::Fresh
    }

    pub(crate) fn step(&mut self) {
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
