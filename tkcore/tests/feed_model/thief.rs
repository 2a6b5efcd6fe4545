//! Somebody who holds a publication key that is listed, and the network: histories of their own
//! from any fork, days dropped early, snapshots that lack rows, sequences and times far ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use tkcore::FeedDigest;
use tkcore::revocation::publish::{FeedSigningKey, Publisher, Stamp};
use tkcore::revocation::{Audit, ExpiryDay, FeedPath, Head, Position, Revocation, Snapshot};

use super::feed_support::plain::{Plain, random_row};
use super::feed_support::{Client, FEED, Random, Signer, at, key};
use super::truth::{Maker, Truth};

pub(crate) struct Thief {
    key: FeedSigningKey,
    publisher: Publisher,
    rows: Plain,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Thief {
    /// Takes the key that the signer signs with now.
    pub(crate) fn new(seed: u8, signer: &Signer, rows: &Plain) -> Self {
        Self {
            key: key(seed),
            publisher: signer.publisher.clone(),
            rows: rows.clone(),
            files: BTreeMap::new(),
        }
    }

    /// Goes on with a history.
    pub(crate) fn act(
        &mut self,
        random: &mut Random,
        now: u64,
        signer: &Signer,
        rows: &Plain,
        client: &Client,
        truth: &mut Truth,
    ) {
        match random.below(10) {
            0 => {
                self.publisher = signer.publisher.clone();
                self.rows = rows.clone();
            }
            1..=3 => self.follow(client, truth),
            _ => {}
        }
        match random.below(10) {
            0..=2 => {
                let rows: Vec<_> = (0..1 + random.below(3)).map(|_| random_row(random, now, 1)).collect();
                truth.named.extend(rows.iter().map(|(row, _)| *row));
                self.step(&rows, None);
            }
            // A day that is hardly over.
            3 | 4 => {
                let day = self.rows.any_day(random);
                self.step(&[], day);
            }
            5 => {
                // Another set at some place: fewer rows, at this sequence or a little on.
                let sequence = client.machine.position().map_or(0, |at| at.sequence);
                let odds = 2 + random.below(20);
                self.rows.forget(random, odds);
                self.jump(sequence.saturating_add(random.below(3)), random);
            }
            6 if random.one_in(3) => {
                // Everything that the client has, far ahead.
                if let Some(rows) = truth.rows() {
                    self.rows.add_all(rows);
                }
                let far = [1, 40, 1 << 40, u64::MAX - 1, u64::MAX][random.below(5) as usize];
                self.jump(self.publisher.position().sequence.saturating_add(far), random);
            }
            7 => {
                let snapshot = self.publisher.snapshot();
                self.publisher.rebase(&snapshot);
                self.files.insert(self.publisher.base_path().to_string(), snapshot.to_bytes());
                if random.one_in(2) {
                    self.publisher.retire_deltas_before(u64::MAX);
                }
            }
            _ => {}
        }
        truth.made(&self.publisher, &self.rows, Maker::Thief);
    }

    /// Starts from what the client believes, so that one step leads on from there.
    fn follow(&mut self, client: &Client, truth: &Truth) {
        let (Some(head), Some(set), Some(rows)) =
            (client.machine.head_bytes(), client.machine.set(), truth.rows())
        else {
            return;
        };
        let head = Head::parse_unverified(head).unwrap();
        self.publisher = Publisher::resume(&head, set.clone()).unwrap();
        self.rows = rows.clone();
    }

    fn step(&mut self, rows: &[(Revocation, ExpiryDay)], drop: Option<ExpiryDay>) {
        // There is none that changes nothing, and none after the last sequence.
        let Ok(Some(step)) = self.publisher.prepare(rows, drop) else { return };
        if let Some(day) = drop.filter(|day| *day != ExpiryDay::UNKNOWN) {
            self.rows.drop_through(day);
        }
        for (row, day) in rows {
            self.rows.add(row, *day);
        }
        self.files.insert(step.path().to_string(), step.delta.clone());
        assert!(self.publisher.advance(step));
    }

    /// The present rows as the state, and the base, of any sequence.
    fn jump(&mut self, sequence: u64, random: &mut Random) {
        let set = self.rows.to_set();
        let position = Position { sequence, ..self.publisher.position() };
        let chain = FeedDigest::from_bytes(random.bytes());
        let snapshot = Snapshot::new(FEED, position, chain, set.clone());
        let mut head = Publisher::begin(FEED, position.epoch, set.clone()).head(&stamp(1, 1, Duration::ZERO));
        head.position = position;
        head.chain = chain;
        head.state = set.digest();
        head.delta_bytes = self.publisher.head(&stamp(1, 1, Duration::ZERO)).delta_bytes;
        head.base.sequence = sequence;
        head.base.digest = snapshot.digest;
        head.base.length = snapshot.length();
        head.base.delta_bytes = head.delta_bytes;
        head.oldest_delta = sequence.saturating_add(1);
        self.publisher = Publisher::resume(&head, set).unwrap();
        self.files.insert(self.publisher.base_path().to_string(), snapshot.to_bytes());
    }

    /// A head of the history, signed for whatever time serves best.
    pub(crate) fn head(&self, random: &mut Random, now: u64, client: &Client, truth: &mut Truth) -> Vec<u8> {
        let floor = client.machine.floor().issued_at.millis();
        let issued = match random.below(9) {
            // By the client's own clock, however wrong it is.
            8 => client.moment.wall.millis().max(floor) + random.below(60_001),
            0 => now + 60_000 + random.below(100_000),
            1 => now - random.below(120_000),
            2 | 3 => now + random.below(60_001),
            4 | 5 => floor.max(now) + random.below(60_001),
            _ => now,
        };
        let hours = if random.one_in(8) { [0, 2, 24, 25, 100][random.below(5) as usize] } else { 1 };
        let version = client.machine.key_list().map_or(1, |list| list.version);
        let mut stamp =
            stamp(version + u64::from(random.one_in(20)), issued, Duration::from_secs(3600 * hours));
        stamp.audit.lines = random.below(3);
        let mut head = self.publisher.head(&stamp);
        if random.one_in(6) {
            let other = FeedDigest::from_bytes(random.bytes());
            match random.below(5) {
                0 => head.state = other,
                1 => head.chain = other,
                2 => head.base.digest = other,
                3 => head.position.epoch += 1,
                _ => head.delta_bytes = head.delta_bytes.saturating_add(random.below(100)),
            }
        }
        match head.sign(&[&self.key]) {
            Ok(bytes) => truth.signed(bytes, &self.key),
            // Nobody can sign what breaks the shape.
            Err(_) => vec![],
        }
    }

    pub(crate) fn get(&self, path: FeedPath) -> Option<Vec<u8>> {
        self.files.get(&path.to_string()).cloned()
    }
}

fn stamp(key_list: u64, issued: u64, validity: Duration) -> Stamp {
    Stamp {
        key_list,
        issued_at: at(issued),
        validity,
        poll_after: Duration::from_secs(10),
        audit: Audit { lines: 0, digest: FeedDigest::from_bytes([0; 32]) },
    }
}
