//! The oracle: every state and every head that was ever made, by whomever, and what a client may
//! believe after what it believed before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tkcore::revocation::feed::{Alarm, Effect, Event, Floor};
use tkcore::revocation::publish::{FeedSigningKey, Publisher};
use tkcore::revocation::{Head, Position, Revocation, Revocations};
use tkcore::{FeedDigest, FeedKeyId, Timestamp};

use super::feed_support::plain::{Plain, random_query};
use super::feed_support::{Client, Random};

/// Who made a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Maker {
    Signer,
    Thief,
}

struct State {
    digest: FeedDigest,
    chain: FeedDigest,
    rows: Rc<Plain>,
    maker: Maker,
}

/// What the client had in force when it was last looked at.
#[derive(Clone)]
struct Believed {
    head: Head,
    bytes: Vec<u8>,
    rows: Rc<Plain>,
}

pub(crate) struct Truth {
    states: HashMap<Position, Vec<State>>,
    signed: HashMap<Vec<u8>, FeedKeyId>,
    /// Every head, to be replayed.
    pub(crate) heads: Vec<Vec<u8>>,
    /// Everything that anybody ever named.
    pub(crate) named: Vec<Revocation>,
    believed: Option<Believed>,
    was_believed: HashSet<Vec<u8>>,
    /// What a restart must find at least.
    durable: Option<Believed>,
    /// What the floor file names.
    least: Option<(Position, FeedDigest)>,
    lists: (u64, u64),
    alarm: Option<Alarm>,
    pub(crate) seen: BTreeMap<String, u64>,
}

impl Truth {
    pub(crate) fn new() -> Self {
        Self {
            states: HashMap::new(),
            signed: HashMap::new(),
            heads: vec![],
            named: vec![],
            believed: None,
            was_believed: HashSet::new(),
            durable: None,
            least: None,
            lists: (0, 0),
            alarm: None,
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn made(&mut self, publisher: &Publisher, rows: &Plain, maker: Maker) {
        let digest = publisher.set().digest();
        let chain = publisher.snapshot().chain;
        let known = self.states.entry(publisher.position()).or_default();
        if !known.iter().any(|state| state.digest == digest && state.chain == chain) {
            known.push(State { digest, chain, rows: Rc::new(rows.clone()), maker });
        }
    }

    pub(crate) fn signed(&mut self, head: Vec<u8>, key: &FeedSigningKey) -> Vec<u8> {
        self.signed.insert(head.clone(), key.public().id());
        self.heads.push(head.clone());
        head
    }

    /// Of the heads signed lately that have not run out, the oldest that is newer than what a client has.
    pub(crate) fn held_back(&self, client: &Client, now: u64) -> Option<Vec<u8>> {
        let floor = client.machine.floor();
        let lately = self.heads.len().saturating_sub(60);
        let is_held = |head: &&Vec<u8>| {
            let head = Head::parse_unverified(head).unwrap();
            let is_newer = head.issued_at > floor.issued_at && head.position >= floor.position;
            is_newer && head.valid_until.millis() > now
        };
        self.heads[lately..].iter().find(is_held).cloned()
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.believed.as_ref().map(|believed| believed.head.position)
    }

    pub(crate) fn durable(&self) -> Option<Position> {
        self.durable.as_ref().map(|durable| durable.head.position)
    }

    /// The rows of the state in force.
    pub(crate) fn rows(&self) -> Option<&Plain> {
        self.believed.as_ref().map(|believed| &*believed.rows)
    }

    /// After a restart a client remembers what its folder says, and no more.
    pub(crate) fn restarted(&mut self, client: &Client) {
        self.believed = self.durable.clone();
        self.alarm = None;
        self.least = floor_file(client).map(|floor| (floor.position, floor.state));
        self.lists = (floor_file(client).map_or(0, |floor| floor.key_list), 0);
    }

    /// The cache was cleaned, the floor file was not.
    pub(crate) fn cleaned(&mut self, client: &Client) {
        self.durable = None;
        self.restarted(client);
    }

    pub(crate) fn forget_alarm(&mut self) {
        self.alarm = None;
    }

    /// Nothing is announced that is not done, and what is done is what was announced.
    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        let swaps = effects.iter().filter(|effect| matches!(effect, Effect::Swap { .. })).count();
        let renews = effects.iter().filter(|effect| matches!(effect, Effect::Renew(_))).count();
        assert!(swaps + renews <= 1, "one answer, one decision");
        for effect in effects {
            match effect {
                Effect::Report(Event::Refused(refusal) | Event::StoreRefused(refusal)) => {
                    self.count(refusal.name());
                }
                Effect::Report(Event::Alarm(alarm)) => self.count(format!("alarm {alarm:?}")),
                Effect::Report(Event::Advanced { link, .. }) => self.count(format!("{link:?}")),
                _ => {}
            }
        }
    }

    /// Looks at a client after whatever happened to it. `offered` is the head that was handed to
    /// it, `is_whole` whether all writes were done.
    pub(crate) fn look(
        &mut self,
        client: &Client,
        random: &mut Random,
        offered: Option<&[u8]>,
        is_whole: bool,
    ) {
        let machine = &client.machine;
        let position = machine.position();
        assert!(position >= self.position(), "rolled back from {:?} to {position:?}", self.position());
        let lists = machine.key_list().map_or((0, 0), |list| (list.version, list.epoch));
        assert!(lists.0 >= self.lists.0 || lists.0 == 0, "key list {:?} became {lists:?}", self.lists);
        assert!(lists.1 >= self.lists.1 || lists.0 == 0, "key list {:?} became {lists:?}", self.lists);
        self.lists = self.lists.max(lists);
        self.alarms(client, offered, is_whole);
        self.state(client);
        self.remember(client);
        if let (Some(set), Some(believed)) = (machine.set(), &self.believed) {
            let mut branches = vec![];
            let query = random_query(random, &self.named, &mut branches);
            assert_eq!(set.status(&query), believed.rows.status(&query), "{:?} {query:?}", position);
        }
    }

    /// The state in force was made, whole, under a listed key, and follows from the one before.
    fn state(&mut self, client: &Client) {
        let machine = &client.machine;
        let Some(bytes) = machine.head_bytes() else { return };
        if self.believed.as_ref().is_some_and(|believed| believed.bytes == bytes) {
            return;
        }
        let head = Head::parse_unverified(bytes).unwrap();
        let set = machine.set().unwrap();
        let known = self.states.get(&head.position).into_iter().flatten();
        let mut known = known.filter(|state| state.digest == head.state && state.chain == head.chain);
        let Some(state) = known.next() else { panic!("{} was never made", head.position) };
        assert_eq!(set.digest(), head.state);
        let (rows, maker) = (Rc::clone(&state.rows), state.maker);

        let Some(key) = self.signed.get(bytes) else {
            panic!("nobody signed this head of {}", head.position)
        };
        let listed = machine.key_list().and_then(|list| list.find(*key).copied());
        if let Some(list) = machine.key_list() {
            assert!(head.position.epoch <= list.epoch, "an epoch that no list began");
        }
        if let Some(listed) = listed {
            assert!(listed.not_before <= head.issued_at && head.issued_at < listed.not_after, "window");
        } else {
            // Only a start finds a head whose key a later list has dropped: one that it took before.
            assert_eq!(client.folder.get("head").map(Vec::as_slice), Some(bytes), "a key that is not listed");
            assert!(self.was_believed.contains(bytes), "a head under an unlisted key, for the first time");
        }
        if let Some((position, digest)) = self.least {
            assert!(head.position >= position, "below the floor file: {} < {position}", head.position);
            assert!(head.position > position || head.state == digest, "not the floor's state at {position}");
        }
        if let Some(before) = &self.believed {
            let (old, is_same_epoch) = (&before.head, before.head.position.epoch == head.position.epoch);
            if old.position == head.position {
                assert_eq!(
                    (old.state, old.chain),
                    (head.state, head.chain),
                    "two histories at {}",
                    head.position
                );
                assert_eq!(old.global_floor(), head.global_floor());
            }
            if is_same_epoch {
                assert!(old.issued_at <= head.issued_at, "signed earlier, taken later");
                let lost = before.rows.lost_in(&rows, head.issued_at, client.config.skew);
                assert_eq!(lost, None, "un-revoked between {} and {}", old.position, head.position);
            } else {
                assert_eq!(machine.floor().issued_at, head.issued_at, "an epoch begins with its own time");
            }
        }
        if self.position() != Some(head.position) {
            assert_eq!(Plain::of(set), *rows, "the rows of {}", head.position);
            self.count(format!("taken from {maker:?}"));
        }
        self.was_believed.insert(bytes.to_vec());
        self.believed = Some(Believed { head, bytes: bytes.to_vec(), rows });
    }

    /// An alarm stays until an epoch or a person ends it, and its evidence lies in the folder.
    fn alarms(&mut self, client: &Client, offered: Option<&[u8]>, is_whole: bool) {
        let alarm = client.machine.health(client.moment).alarm;
        let is_new_epoch = self.position().map(|at| at.epoch) != client.machine.position().map(|at| at.epoch);
        if let Some(before) = self.alarm.filter(|before| *before != Alarm::Lagging && !is_new_epoch) {
            assert_eq!(alarm, Some(before), "an alarm ended by itself");
        }
        let is_new = alarm != self.alarm && alarm != Some(Alarm::Lagging);
        if let (true, Some(_), true, Some(offered)) = (is_new, alarm, is_whole, offered) {
            let evidence: Vec<_> =
                client.folder.iter().filter(|(name, _)| name.starts_with("evidence/")).collect();
            for head in client.machine.head_bytes().into_iter().chain([offered]) {
                assert!(evidence.iter().any(|(_, bytes)| *bytes == head), "{alarm:?} without its evidence");
            }
        }
        self.alarm = alarm;
    }

    fn remember(&mut self, client: &Client) {
        let Some(floor) = floor_file(client) else { return };
        let names = |believed: &&Believed| {
            (believed.head.position, believed.head.issued_at) == (floor.position, floor.issued_at)
        };
        if !client.folder.contains_key("head") {
            self.durable = None;
        } else if let Some(believed) = self.believed.as_ref().filter(names) {
            self.durable = Some(believed.clone());
        }
        let least = self.least.map(|(position, _)| position);
        assert!(Some(floor.position) >= least, "the floor file fell below {least:?}");
        self.least = Some((floor.position, floor.state));
    }
}

/// How old a head says it is, in milliseconds, at a true time.
pub(crate) fn age(issued_at: Timestamp, now: u64) -> u64 {
    now.saturating_sub(issued_at.millis())
}

pub(crate) fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn floor_file(client: &Client) -> Option<Floor> {
    client.folder.get("floor").and_then(|bytes| Floor::from_bytes(bytes).ok())
}
