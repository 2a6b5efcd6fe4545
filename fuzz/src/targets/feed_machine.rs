//! The feed's client under sequences of answers, restarts, failing writes and clock jumps: it never rolls
//! back, not even by a restart, never loses its state, never takes a state that nobody made, never takes
//! two states for one position, and within an epoch never forgets a row whose day is not over.
//!
//! An input is a program: an operation, then its argument. Objects are drawn from two histories, so
//! that the fuzzer finds orders rather than signatures: the honest one over two epochs, and a fork of its
//! first epoch under the same key, by somebody who drops days too early, jumps to snapshots that lack
//! rows, and counts to the last sequence there is. Both have merged deltas. Answers can be cut and flipped.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tkcore::revocation::feed::{
    Config, Effect, Fetch, Floor, Machine, Moment, Next, Response, Stored, restore_plan,
};
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft, Publisher, Stamp};
use tkcore::revocation::{
    Audit, DAY_MILLIS, ExpiryDay, FeedPath, Head, KeyList, Position, PublicationKey, Revocation, RevocationSet,
    RootKeys, Snapshot,
};
use tkcore::{BranchId, FeedDigest, FeedId, KeyId, LineageId, Row, Timestamp};

const START: u64 = 1_795_000_000_000;
const FEED: FeedId = FeedId::from_bytes([7; 16]);
/// Between two steps, so that days end within a history.
const STEP: u64 = 2 * 3_600_000;

/// Steps of the first epoch.
const FIRST_EPOCH: u8 = 40;

/// What a server has.
#[derive(Default)]
struct Book {
    files: Vec<(FeedPath, Vec<u8>)>,
    heads: Vec<Vec<u8>>,
}

struct History {
    roots: RootKeys,
    honest: Book,
    fork: Book,
    states: Vec<(Position, FeedDigest, FeedDigest)>,
}

/// A publisher, what it has served, and its clock.
struct Writer {
    publisher: Publisher,
    steps: BTreeMap<FeedPathKey, Vec<u8>>,
    list: u64,
    now: u64,
}

/// Paths of single steps, by epoch and sequence.
type FeedPathKey = (u64, u64);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).expect("within the calendar")
}

fn day(after: u64) -> ExpiryDay {
    ExpiryDay::of(Some(at(START + after * DAY_MILLIS)))
}

/// The rows of step `n`: of every kind in turn, for days that end within the history and for good.
fn row(n: u8) -> (Revocation, ExpiryDay) {
    let id = [n.wrapping_mul(11); 16];
    let before = at(START - u64::from(n) * 1000);
    let revocation = match n % 8 {
        0 => Revocation::Branch { branch: BranchId::from_bytes(id) },
        1 => Revocation::Key { key: KeyId::from_bytes([n % 16; 8]), before: Some(before) },
        2 => Revocation::Subject { row: Row::from_bytes(id), before },
        3 => Revocation::Tenant { row: Row::from_bytes(id), before },
        4 => Revocation::Global { before: at(START - 100_000 + u64::from(n)) },
        _ => Revocation::Token { lineage: LineageId::from_bytes(id) },
    };
    let days = [day(0), day(1), day(2), ExpiryDay::UNKNOWN];
    (revocation, days[usize::from(n / 2) % 4])
}

impl Writer {
    fn step(&mut self, rows: &[(Revocation, ExpiryDay)], drop: Option<ExpiryDay>, book: &mut Book) {
        self.now += STEP;
        let Some(step) = self.publisher.prepare(rows, drop).expect("room") else { return };
        self.steps.insert((step.position.epoch, step.position.sequence), step.delta.clone());
        book.files.push((step.path(), step.delta.clone()));
        self.publisher.advance(step);
        let merged = self.publisher.merged_now(|path| match path {
            FeedPath::Delta { epoch, number, .. } => self.steps.get(&(*epoch, *number)).cloned(),
            _ => None,
        });
        book.files.extend(merged);
    }

    fn rebase(&mut self, book: &mut Book) {
        let snapshot = self.publisher.snapshot();
        self.publisher.rebase(&snapshot);
        book.files.push((self.publisher.base_path(), snapshot.to_bytes()));
    }

    fn head(&self) -> Head {
        self.publisher.head(&Stamp {
            key_list: self.list,
            issued_at: at(self.now),
            validity: Duration::from_secs(3 * 3600),
            poll_after: Duration::from_secs(10),
            audit: Audit { lines: self.now, digest: FeedDigest::from_bytes([1; 32]) },
        })
    }

    fn sign(&self, key: &FeedSigningKey, book: &mut Book, states: &mut Vec<(Position, FeedDigest, FeedDigest)>) {
        let head = self.head();
        states.push((head.position, head.state, head.chain));
        book.heads.push(head.sign(&[key]).expect("a good head"));
    }

    /// Another set, at any sequence, as its own base.
    fn jump(&mut self, set: RevocationSet, sequence: u64, book: &mut Book) {
        let position = Position { sequence, ..self.publisher.position() };
        let chain = FeedDigest::from_bytes([9; 32]);
        let snapshot = Snapshot::new(FEED, position, chain, set.clone());
        let delta_bytes = self.head().delta_bytes;
        self.publisher = Publisher::begin(FEED, position.epoch, set.clone());
        let mut head = self.head();
        (head.position, head.chain, head.delta_bytes) = (position, chain, delta_bytes);
        head.base.sequence = sequence;
        head.base.digest = snapshot.digest;
        head.base.length = snapshot.length();
        head.base.delta_bytes = delta_bytes;
        head.oldest_delta = sequence.saturating_add(1);
        self.publisher = Publisher::resume(&head, set).expect("its own state");
        book.files.push((self.publisher.base_path(), snapshot.to_bytes()));
    }
}

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let key = |seed| FeedSigningKey::from_seed(&[seed; 32]).expect("a seed");
        let root = key(1);
        let roots = RootKeys::new(1, &[root.public()]).expect("one of one");
        let (mut honest, mut fork, mut states) = (Book::default(), Book::default(), Vec::new());
        let mut now = START;
        for (epoch, steps) in [(1u64, FIRST_EPOCH), (2, 20)] {
            let key = key(9 + epoch as u8);
            let window =
                PublicationKey { key: key.public(), not_before: at(START - 1), not_after: at(START + 80 * DAY_MILLIS) };
            let list = KeyList { feed: FEED, version: epoch, epoch, keys: vec![window] };
            let list = KeyListDraft::sign_all(&list, &[&root], &roots).expect("a good list");
            honest.files.push((FeedPath::KeyList { version: epoch }, list));
            // Enough of them that steps are less to fetch than a snapshot.
            let first = (0..60).map(|n| Revocation::Token { lineage: LineageId::from_bytes([n * 4 + 3; 16]) });
            let first = RevocationSet::build(first.map(|row| (row, ExpiryDay::UNKNOWN))).expect("room");
            let publisher = Publisher::begin(FEED, epoch, first);
            let mut writer = Writer { publisher, steps: BTreeMap::new(), list: epoch, now };
            writer.rebase(&mut honest);
            writer.sign(&key, &mut honest, &mut states);
            for n in 1..=steps {
                let drop = writer.publisher.due_drop(at(writer.now));
                writer.step(&[row(n)], drop, &mut honest);
                if n % 12 == 0 {
                    writer.rebase(&mut honest);
                }
                writer.sign(&key, &mut honest, &mut states);
                if epoch == 1 && n == 10 {
                    let forked = Writer { publisher: writer.publisher.clone(), steps: writer.steps.clone(), ..writer };
                    forge(forked, &key, &mut fork, &mut states);
                }
            }
            now = writer.now + STEP;
        }
        History { roots, honest, fork, states }
    })
}

/// The other history of the first epoch.
fn forge(
    mut writer: Writer,
    key: &FeedSigningKey,
    book: &mut Book,
    states: &mut Vec<(Position, FeedDigest, FeedDigest)>,
) {
    let mut all = RevocationSet::empty();
    for n in 100..110u8 {
        // On the fourth step a day that lasts.
        let drop = (n == 103).then(|| day(2));
        if drop.is_some() {
            all = writer.publisher.set().clone();
        }
        writer.step(&[row(n)], drop, book);
        writer.sign(key, book, states);
    }
    writer.rebase(book);
    writer.sign(key, book, states);
    let fewer = RevocationSet::build([row(3), row(5)]).expect("room");
    writer.jump(fewer, writer.publisher.position().sequence + 2, book);
    writer.sign(key, book, states);
    for far in [30, u64::MAX - 1] {
        writer.jump(all.clone(), far, book);
        writer.sign(key, book, states);
        writer.step(&[row(120)], None, book);
        writer.sign(key, book, states);
    }
}

impl Book {
    fn get(&self, path: FeedPath, head: u8) -> Response {
        let bytes = match path {
            FeedPath::Head | FeedPath::Wait { .. } => self.heads.get(usize::from(head) % self.heads.len()),
            _ => self.files.iter().find(|(own, _)| *own == path).map(|(_, bytes)| bytes),
        };
        bytes.map_or(Response::NotFound, |bytes| Response::Body(bytes.clone()))
    }

    fn any(&self, index: usize) -> Vec<u8> {
        let heads = self.heads.iter();
        let all = self.files.iter().map(|(_, bytes)| bytes).chain(heads);
        all.cycle().nth(index).cloned().unwrap_or_default()
    }
}

/// What was in force.
struct Believed {
    head: Head,
    set: RevocationSet,
}

/// A state was made by somebody, and follows from the one before.
fn follows(before: Option<&Believed>, head: &Head, set: &RevocationSet, skew: Duration) {
    assert_eq!(set.digest(), head.state);
    let is_made = history().states.contains(&(head.position, head.state, head.chain));
    assert!(is_made, "{} was never made", head.position);
    let Some(old) = before.filter(|old| old.head.position.epoch == head.position.epoch) else { return };
    let is_same = (old.head.state, old.head.chain) == (head.state, head.chain);
    assert!(old.head.position < head.position || is_same, "two histories");
    assert!(old.head.issued_at <= head.issued_at, "signed earlier, taken later");
    assert!(old.set.global_floor() <= set.global_floor(), "a lower global floor");
    old.set.for_each(|row, day| {
        let is_kept = set.has(&row, day) || day.is_over(head.issued_at, skew);
        assert!(is_kept, "{row:?} was forgotten at {}", head.position);
    });
}

struct Client {
    machine: Machine,
    config: Config,
    moment: Moment,
    folder: BTreeMap<String, Arc<Vec<u8>>>,
    writes_left: Option<u8>,
    believed: Option<Believed>,
    /// The position that a restart must find.
    durable: Option<Position>,
    restarts: u8,
}

impl Client {
    fn apply(&mut self, effects: Vec<Effect>) {
        let mut is_broken = false;
        for effect in effects {
            match effect {
                Effect::Write { file, bytes } => {
                    if let Some(left) = &mut self.writes_left {
                        is_broken |= *left == 0;
                        *left = left.saturating_sub(1);
                    }
                    if !is_broken {
                        self.folder.insert(file.to_string(), bytes);
                    }
                }
                Effect::Keep(keep) if !is_broken => {
                    let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
                    self.folder.retain(|name, _| {
                        let is_data = name.contains("/delta") || name.contains("/snapshot/");
                        !is_data || keep.contains(name)
                    });
                }
                Effect::Keep(_) | Effect::Swap { .. } | Effect::Renew(_) | Effect::Report(_) => {}
            }
        }
        if is_broken {
            self.machine.write_failed();
        }
        self.look();
    }

    fn floor(&self) -> Option<Floor> {
        self.folder.get("floor").and_then(|bytes| Floor::from_bytes(bytes).ok())
    }

    fn look(&mut self) {
        let before = self.believed.as_ref().map(|believed| believed.head.position);
        let position = self.machine.position();
        assert!(position >= before, "rolled back from {before:?} to {position:?}");
        if let (Some(bytes), Some(set)) = (self.machine.head_bytes(), self.machine.set()) {
            let head = Head::parse_unverified(bytes).expect("it was believed");
            if self.believed.as_ref().is_none_or(|old| old.head != head) {
                follows(self.believed.as_ref(), &head, set, self.config.skew);
                self.believed = Some(Believed { head, set: set.clone() });
            }
        }
        if !self.folder.contains_key("head") {
            self.durable = None;
        } else if let Some(floor) = self.floor().filter(|floor| position == Some(floor.position)) {
            self.durable = Some(floor.position);
        }
    }

    fn stored(&self) -> Stored {
        let bytes = |name: &str| self.folder.get(name).map(|bytes| bytes.to_vec());
        let lists = self.folder.iter().filter(|(name, _)| name.starts_with("keys/"));
        let mut stored = Stored {
            floor: bytes("floor"),
            head: bytes("head"),
            key_lists: lists.map(|(_, bytes)| bytes.to_vec()).collect(),
            ..Stored::default()
        };
        let names = self.folder.keys().map(String::as_str);
        let head = stored.head.clone().unwrap_or_default();
        if let Ok(Some(plan)) = restore_plan(&head, names, self.machine.position()) {
            stored.snapshot = plan.snapshot.map(|path| Arc::clone(&self.folder[&path.to_string()]));
            stored.deltas = plan
                .deltas
                .iter()
                .filter_map(|path| match path {
                    FeedPath::Delta { span, .. } => Some((*span, self.folder[&path.to_string()].to_vec())),
                    _ => None,
                })
                .collect();
        }
        stored
    }

    fn restart(&mut self) {
        // What a restart costs in memory is no matter of the input's length.
        if self.restarts == 12 {
            return;
        }
        self.restarts += 1;
        let durable = self.durable;
        self.machine = Machine::new(self.config.clone());
        self.believed = None;
        self.writes_left = None;
        self.moment.monotonic = Duration::from_secs(1);
        let stored = self.stored();
        let effects = self.machine.load(stored, self.moment);
        self.apply(effects);
        assert!(self.machine.position() >= durable, "a restart lost {durable:?}");
    }

    /// Up to so many fetches, beginning with a head. Key lists are the honest signer's alone, and the second
    /// one comes with the heads of its epoch.
    fn follow(&mut self, book: &Book, head: u8, fetches: u8, change: impl Fn(Response) -> Response) {
        let honest = &history().honest;
        let is_second = usize::from(head) % honest.heads.len() > usize::from(FIRST_EPOCH);
        self.machine.poll_now();
        for _ in 0..=fetches {
            let Next::Fetch(fetch) = self.machine.next(self.moment) else { return };
            let response = match fetch.path {
                FeedPath::KeyList { version } if version > 1 && !is_second => Response::NotFound,
                FeedPath::KeyList { .. } => honest.get(fetch.path, head),
                path => match book.get(path, head) {
                    Response::NotFound => honest.get(path, head),
                    found => found,
                },
            };
            self.receive(&fetch, change(response), u64::from(head) << 56);
        }
    }

    fn receive(&mut self, fetch: &Fetch, response: Response, random: u64) {
        let effects = self.machine.receive(fetch, response, self.moment, random);
        self.apply(effects);
    }
}

/// One input is one program.
pub fn run(data: &[u8]) {
    let history = history();
    let mut config = Config::new(FEED, history.roots.clone());
    config.mirrors = 2;
    let mut client = Client {
        machine: Machine::new(config.clone()),
        config,
        moment: Moment { wall: at(START), monotonic: Duration::from_secs(1) },
        folder: BTreeMap::new(),
        writes_left: None,
        believed: None,
        durable: None,
        restarts: 0,
    };
    for op in data.chunks_exact(2).take(100) {
        let (code, argument) = (op[0] % 16, op[1]);
        let more = op[0] / 16;
        let wide = u64::from(argument);
        match code {
            0 => {
                client.moment.monotonic += Duration::from_secs(wide << more);
                client.moment.wall = client.moment.wall.saturating_add(Duration::from_secs(wide << more));
            }
            1 => client.moment.wall = at(START + wide * STEP / 2),
            2 => client.moment.wall = at(START - wide * 100_000),
            3 => client.moment.monotonic += Duration::from_secs(wide * 60),
            4 => client.writes_left = Some(argument).filter(|left| *left < 128),
            5 => client.machine.clear_alarm(),
            6 => client.restart(),
            7 => {
                let has_keys = argument % 2 == 0;
                client.folder.retain(|name, _| name == "floor" || (has_keys && name.starts_with("keys/")));
                client.durable = None;
                client.restart();
            }
            8 | 9 => client.follow(&history.honest, argument, more, |response| response),
            10 | 11 => client.follow(&history.fork, argument, more, |response| response),
            12 => client.follow(&history.honest, argument, more, |response| match response {
                Response::Body(mut body) if !body.is_empty() => {
                    let bit = usize::from(argument) * 97 % (body.len() * 8);
                    body[bit / 8] ^= 1 << (bit % 8);
                    Response::Body(body)
                }
                other => other,
            }),
            13 => client.follow(&history.fork, argument, 1, |response| match response {
                Response::Body(mut body) => {
                    body.truncate(usize::from(more) * 20);
                    Response::Body(body)
                }
                other => other,
            }),
            _ => {
                client.machine.poll_now();
                let Next::Fetch(fetch) = client.machine.next(client.moment) else { continue };
                let index = usize::from(more) * 256 + usize::from(argument);
                let response = match index {
                    0 => Response::NotFound,
                    1 => Response::NotModified,
                    2 => Response::Failed,
                    3 => Response::TooLarge,
                    4 => Response::Refused { retry_after: Some(Duration::from_secs(9)) },
                    5 => Response::Body(b"<html>".to_vec()),
                    6 => Response::Body(Vec::new()),
                    index if code == 14 => Response::Body(history.honest.any(index)),
                    index => Response::Body(history.fork.any(index)),
                };
                client.receive(&fetch, response, wide << 56);
            }
        }
    }
}
