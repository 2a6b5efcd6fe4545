//! A signer and a client's driver in memory, for the tests of the feed.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod plain;

use std::collections::BTreeMap;
use std::time::Duration;

use tkcore::revocation::feed::{
    Config, Effect, Event, Fetch, Freshness, Machine, Moment, Next, Refusal, Response, Stored, Validity,
    restore_plan,
};
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft, Publisher, Stamp};
use tkcore::revocation::{
    Audit, ExpiryDay, FeedPath, Head, KeyList, PublicationKey, Query, Revocation, RevocationSet, Revocations,
    RootKeys, Status,
};
use tkcore::{FeedDigest, FeedId, KeyId, LineageId, Timestamp};

pub(crate) const START: u64 = 1_795_000_000_000;
pub(crate) const FEED: FeedId = FeedId::from_bytes([0xfe; 16]);

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn key(seed: u8) -> FeedSigningKey {
    FeedSigningKey::from_seed(&[seed; 32]).unwrap()
}

/// SplitMix64: repeats from its seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    pub(crate) fn lineage(&mut self, minted: u64) -> LineageId {
        LineageId::new(self.bytes(), at(minted))
    }
}

/// The signer: publisher, keys and everything it ever served.
pub(crate) struct Signer {
    pub(crate) publisher: Publisher,
    pub(crate) root: FeedSigningKey,
    pub(crate) keys: Vec<FeedSigningKey>,
    pub(crate) list: KeyList,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) steps: BTreeMap<(u64, u64), Vec<u8>>,
    pub(crate) audit: u64,
    pub(crate) validity: Duration,
    pub(crate) poll_after: Duration,
}

impl Signer {
    pub(crate) fn new(now: u64) -> Self {
        let publisher = Publisher::begin(FEED, 1, RevocationSet::empty());
        let mut signer = Self {
            publisher,
            root: key(1),
            keys: vec![key(10)],
            list: KeyList { feed: FEED, version: 0, epoch: 1, keys: vec![] },
            files: BTreeMap::new(),
            steps: BTreeMap::new(),
            audit: 0,
            validity: Duration::from_secs(3600),
            poll_after: Duration::from_secs(10),
        };
        signer.publish_keys(1, now);
        signer.publish_base();
        signer.publish_head(now);
        signer
    }

    pub(crate) fn roots(&self) -> RootKeys {
        RootKeys::new(1, &[self.root.public()]).unwrap()
    }

    pub(crate) fn put(&mut self, path: FeedPath, bytes: Vec<u8>) {
        self.files.insert(path.to_string(), bytes);
    }

    pub(crate) fn publish_keys(&mut self, epoch: u64, now: u64) {
        self.list = KeyList {
            feed: FEED,
            version: self.list.version + 1,
            epoch,
            keys: self
                .keys
                .iter()
                .map(|key| PublicationKey {
                    key: key.public(),
                    not_before: at(now - 3_600_000),
                    not_after: at(now + 80 * 86_400_000),
                })
                .collect(),
        };
        let bytes = KeyListDraft::sign_all(&self.list, &[&self.root], &self.roots()).unwrap();
        self.put(FeedPath::KeyList { version: self.list.version }, bytes);
    }

    pub(crate) fn publish_base(&mut self) {
        let snapshot = self.publisher.snapshot();
        assert!(self.publisher.rebase(&snapshot));
        self.put(self.publisher.base_path(), snapshot.to_bytes());
    }

    pub(crate) fn revoke(&mut self, rows: &[(Revocation, ExpiryDay)], drop: Option<ExpiryDay>) -> bool {
        let Some(step) = self.publisher.prepare(rows, drop).unwrap() else { return false };
        self.put(step.path(), step.delta.clone());
        self.steps.insert((step.position.epoch, step.position.sequence), step.delta.clone());
        assert!(self.publisher.advance(step));
        let completed: Vec<_> = self.publisher.completed().collect();
        for (span, number) in completed {
            let epoch = self.publisher.position().epoch;
            let first = span.first(number).unwrap();
            let parts: Vec<&[u8]> =
                (first..first + span.steps()).map(|n| self.steps[&(epoch, n)].as_slice()).collect();
            let bytes = self.publisher.merged(span, number, parts).unwrap();
            self.put(FeedPath::Delta { epoch, span, number }, bytes);
        }
        true
    }

    pub(crate) fn head_of(&self, publisher: &Publisher, now: u64) -> Head {
        publisher.head(&Stamp {
            key_list: self.list.version,
            issued_at: at(now),
            validity: self.validity,
            poll_after: self.poll_after,
            audit: Audit { lines: self.audit, digest: FeedDigest::from_bytes([self.audit as u8; 32]) },
        })
    }

    pub(crate) fn head(&self, now: u64) -> Vec<u8> {
        self.sign(&self.head_of(&self.publisher, now))
    }

    pub(crate) fn sign(&self, head: &Head) -> Vec<u8> {
        head.sign(&[&self.keys[0]]).unwrap()
    }

    pub(crate) fn publish_head(&mut self, now: u64) {
        let head = self.head(now);
        self.put(FeedPath::Head, head);
    }

    /// What an honest server answers.
    pub(crate) fn get(&self, path: FeedPath) -> Response {
        let name = match path {
            FeedPath::Wait { .. } => "head".to_owned(),
            other => other.to_string(),
        };
        self.files.get(&name).map_or(Response::NotFound, |bytes| Response::Body(bytes.clone()))
    }

    pub(crate) fn raise_epoch(&mut self, now: u64) {
        let epoch = self.list.epoch + 1;
        self.publish_keys(epoch, now);
        self.publisher = Publisher::begin(FEED, epoch, self.publisher.set().clone());
        self.publish_base();
        self.publish_head(now);
    }
}

/// A client: machine, folder, clocks, and what it decides by.
pub(crate) struct Client {
    pub(crate) machine: Machine,
    pub(crate) config: Config,
    pub(crate) folder: BTreeMap<String, Vec<u8>>,
    pub(crate) moment: Moment,
    pub(crate) set: Option<(RevocationSet, Validity)>,
    pub(crate) events: Vec<Event>,
    pub(crate) random: Random,
    /// Writes still to succeed before the process dies.
    pub(crate) writes_left: Option<usize>,
}

impl Client {
    pub(crate) fn new(config: Config, now: u64) -> Self {
        Self {
            machine: Machine::new(config.clone()),
            config,
            folder: BTreeMap::new(),
            moment: Moment { wall: at(now), monotonic: Duration::from_secs(5) },
            set: None,
            events: vec![],
            random: Random(7),
            writes_left: None,
        }
    }

    pub(crate) fn of(signer: &Signer, now: u64) -> Self {
        Self::new(Config::new(FEED, signer.roots()), now)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.moment.wall = self.moment.wall.saturating_add(time);
        self.moment.monotonic += time;
    }

    pub(crate) fn apply(&mut self, effects: Vec<Effect>) {
        let mut is_broken = false;
        for effect in effects {
            match effect {
                Effect::Write { file, bytes } => {
                    if let Some(left) = &mut self.writes_left {
                        if *left == 0 {
                            is_broken = true;
                        } else {
                            *left -= 1;
                        }
                    }
                    if !is_broken {
                        self.folder.insert(file.to_string(), bytes.to_vec());
                    }
                }
                Effect::Keep(keep) => {
                    if !is_broken {
                        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
                        self.folder.retain(|name, _| {
                            let is_data = name.contains("/delta") || name.contains("/snapshot/");
                            !is_data || keep.contains(name)
                        });
                    }
                }
                Effect::Swap { set, validity } => self.set = Some((set, validity)),
                Effect::Renew(validity) => {
                    if let Some((_, old)) = &mut self.set {
                        *old = validity;
                    }
                }
                Effect::Report(event) => self.events.push(event),
            }
        }
        if is_broken {
            self.machine.write_failed();
        }
    }

    pub(crate) fn receive(&mut self, fetch: &Fetch, response: Response) {
        let random = self.random.next();
        let effects = self.machine.receive(fetch, response, self.moment, random);
        self.apply(effects);
    }

    /// Runs until there is nothing to fetch, at this one moment.
    pub(crate) fn poll(&mut self, serve: &mut dyn FnMut(&Fetch) -> Response) {
        self.machine.poll_now();
        let mut heads = 0;
        for _ in 0..2000 {
            let Next::Fetch(fetch) = self.machine.next(self.moment) else { return };
            if matches!(fetch.path, FeedPath::Head | FeedPath::Wait { .. }) {
                heads += 1;
                if heads > 2 {
                    return;
                }
            }
            let response = serve(&fetch);
            self.receive(&fetch, response);
        }
        panic!("the machine never rests");
    }

    pub(crate) fn sync(&mut self, signer: &Signer) {
        self.poll(&mut |fetch| signer.get(fetch.path));
    }

    /// Hands it a head, as a poll would, and whatever it then wants from `serve`.
    pub(crate) fn offer(&mut self, head: &[u8], serve: &mut dyn FnMut(&Fetch) -> Response) {
        let mut is_given = false;
        self.poll(&mut |fetch| match fetch.path {
            FeedPath::Head | FeedPath::Wait { .. } if !is_given => {
                is_given = true;
                Response::Body(head.to_vec())
            }
            FeedPath::Head | FeedPath::Wait { .. } => Response::NotModified,
            _ => serve(fetch),
        });
    }

    pub(crate) fn restart(&mut self) {
        self.machine = Machine::new(self.config.clone());
        self.set = None;
        self.writes_left = None;
        self.moment.monotonic = Duration::from_secs(1);
        self.load();
    }

    pub(crate) fn load(&mut self) {
        let stored = self.stored();
        let effects = self.machine.load(stored, self.moment);
        self.apply(effects);
    }

    pub(crate) fn stored(&self) -> Stored {
        let mut stored = Stored {
            floor: self.folder.get("floor").cloned(),
            head: self.folder.get("head").cloned(),
            ..Stored::default()
        };
        let lists = self.folder.iter().filter(|(name, _)| name.starts_with("keys/"));
        stored.key_lists = lists.map(|(_, bytes)| bytes.clone()).collect();
        let names = self.folder.keys().map(String::as_str);
        let head = stored.head.clone().unwrap_or_default();
        if let Ok(Some(plan)) = restore_plan(&head, names, self.machine.position()) {
            stored.snapshot = plan.snapshot.map(|path| self.folder[&path.to_string()].clone().into());
            stored.deltas = plan
                .deltas
                .into_iter()
                .map(|path| match path {
                    FeedPath::Delta { span, .. } => (span, self.folder[&path.to_string()].clone()),
                    _ => unreachable!(),
                })
                .collect();
        }
        stored
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.machine.health(self.moment).freshness
    }

    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Refused(refusal) | Event::StoreRefused(refusal) => Some(*refusal),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn is_revoked(&self, lineage: LineageId) -> bool {
        let query =
            Query { key: Some(KeyId::from_bytes([0; 8])), ..Query::foreign(lineage, lineage.minted(), &[]) };
        match self.machine.set().unwrap().status(&query) {
            Status::Revoked(_) => true,
            Status::Live | Status::Unknown(_) => false,
        }
    }

    pub(crate) fn evidence(&self) -> usize {
        self.folder.keys().filter(|name| name.starts_with("evidence/")).count()
    }
}

pub(crate) fn token(lineage: LineageId) -> (Revocation, ExpiryDay) {
    (Revocation::Token { lineage }, ExpiryDay::UNKNOWN)
}
