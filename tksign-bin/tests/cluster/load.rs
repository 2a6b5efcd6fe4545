//! Clients that mint, revoke and verify, and write down what they called and were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::history::{self, Event, NEVER, Summary, What};
use tkcore::protocol::{Code, Floor, Mint, RequestId, RevokeEffect, RevokeTarget};
use tkcore::revocation::{FeedPath, Head, Position};
use tkcore::{LineageId, Name, Presented, Token};
use tkverify::remote::request_id;
use tkverify::{Remote, RemoteError};

use crate::world::{Feed, World, code, mint_params, revoke_params, until};

/// How long one signer is asked before the next one, by clients that know one.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a client that knows them all asks until it counts as unanswered: what it waits is
/// measured, and this an end for a machine that does nothing else.
const ANY: Duration = Duration::from_secs(30);
/// Between two rounds of a client that reads: the cores are for the cluster.
const PACE: Duration = Duration::from_millis(25);
/// Of so many tokens one is never revoked.
const LIVE: u64 = 4;
/// Of so many rounds one sets a floor.
const FLOORS: u64 = 8;
/// Lineages as they stand in a delta.
const LINEAGE: usize = 16;

/// A token of the load.
#[derive(Clone)]
struct Card {
    request: RequestId,
    lineage: LineageId,
    bytes: Vec<u8>,
}

/// What was seen, by every client, in one place.
struct Record {
    start: Instant,
    events: Mutex<Vec<Event>>,
    minted: Mutex<Vec<Card>>,
    /// Acknowledged as revoked, in order.
    revoked: Mutex<Vec<Card>>,
    /// Below a floor of their own subject that was acknowledged.
    floored: Mutex<Vec<Card>>,
    by_lineage: Mutex<BTreeMap<[u8; LINEAGE], history::Token>>,
    /// By signer, what its feed has.
    published: [Mutex<BTreeSet<history::Token>>; 3],
    /// Verifies by a client that knows all signers: answered, not answered, the longest.
    verified: AtomicU64,
    unanswered: AtomicU64,
    slowest: Mutex<Duration>,
    writing: AtomicBool,
    resting: AtomicBool,
    reading: AtomicBool,
}

/// The running load.
pub(crate) struct Load {
    record: Arc<Record>,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

/// What it came to.
pub(crate) struct Outcome {
    pub(crate) summary: Summary,
    pub(crate) verified: u64,
    pub(crate) unanswered: u64,
    pub(crate) slowest: Duration,
    /// When writes were acknowledged, since the start.
    acknowledged: Vec<Duration>,
}

impl Load {
    /// Two clients that write, one that reads at each signer, one that asks any.
    pub(crate) fn start(world: &World) -> Self {
        let record = Arc::new(Record {
            start: Instant::now(),
            events: Mutex::default(),
            minted: Mutex::default(),
            revoked: Mutex::default(),
            floored: Mutex::default(),
            by_lineage: Mutex::default(),
            published: Default::default(),
            verified: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            slowest: Mutex::default(),
            writing: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            reading: AtomicBool::new(true),
        });
        let each = |role: &str| [0, 1, 2].map(|at| world.remote(role, &[at]).with_deadline(ATTEMPT));
        let mut writers = Vec::new();
        for number in 0..2 {
            let (record, mint, revoke) = (Arc::clone(&record), each("mint"), each("revoke"));
            writers.push(thread::spawn(move || record.write(number, &mint, &revoke)));
        }
        let mut readers = Vec::new();
        for (at, verify) in each("verify").into_iter().enumerate() {
            let (record, feed) = (Arc::clone(&record), world.feed(at));
            let from = feed.head().unwrap().position;
            readers.push(thread::spawn(move || record.read(at, &verify, &feed, from)));
        }
        let any = world.remote("verify", &[0, 1, 2]).with_deadline(ANY);
        let asking = Arc::clone(&record);
        let (_, live) = world.mint(0).unwrap();
        readers.push(thread::spawn(move || asking.ask(&any, &live)));
        Self { record, writers, readers }
    }

    /// Now, on the load's clock.
    pub(crate) fn now(&self) -> Duration {
        self.record.start.elapsed()
    }

    /// Has the clients that write wait, or go on.
    pub(crate) fn rest(&self, is_resting: bool) {
        self.record.resting.store(is_resting, Ordering::SeqCst);
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) fn await_writes(&self, more: usize) {
        let count = || self.record.revoked.lock().unwrap().len() + self.record.minted.lock().unwrap().len();
        let wanted = count() + more;
        until("writes go on", || (count() >= wanted).then_some(()));
    }

    /// Ends the load, waits until every signer serves all of it, asks each for what was
    /// acknowledged, and has the whole history checked.
    pub(crate) fn end(self, world: &World) -> Outcome {
        let Self { record, writers, readers } = self;
        record.writing.store(false, Ordering::SeqCst);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // The last ones of each signer: when they are everywhere, all before them are.
        let each = |role: &str| [0, 1, 2].map(|at| world.remote(role, &[at]));
        let (mint, revoke, verify) = (each("mint"), each("revoke"), each("verify"));
        for at in 0..3 {
            let card = record.mint(at, &mint);
            record.revoke(&card, at, &revoke);
            let token = number(card.lineage);
            until("every signer's feed has the last revocation", || {
                record.published.iter().all(|seen| seen.lock().unwrap().contains(&token)).then_some(())
            });
        }
        record.reading.store(false, Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        for (at, verify) in verify.iter().enumerate() {
            until("a head at the end", || record.head(at, &world.feed(at)));
            let revoked = record.revoked.lock().unwrap().clone();
            let floored = record.floored.lock().unwrap().clone();
            let some = revoked.iter().rev().take(300).chain(revoked.iter().step_by(17).take(300));
            for card in some.chain(&floored) {
                let is_live = until("a verdict at the end", || record.verify(at, verify, card));
                assert!(!is_live, "an acknowledged revocation is lost");
            }
        }
        // A request that is repeated, wherever, is answered as it was.
        for card in record.minted.lock().unwrap().clone().iter().rev().take(30) {
            record.mint_as(&mint_params(), card.request, 1, &mint);
        }
        let events = record.events.lock().unwrap();
        let summary = history::check(&events).unwrap_or_else(|broken| {
            let mut story: Vec<_> = events.iter().filter(|event| event.what.is_of(&broken.1)).collect();
            story.sort_by_key(|event| event.from);
            story.iter().for_each(|event| println!("{event:?}"));
            panic!("{broken}")
        });
        let is_write = |event: &&Event| {
            matches!(event.what, What::Minted { .. } | What::Revoked { .. } | What::Floored(_))
        };
        let writes = events.iter().filter(|event| event.to != NEVER).filter(is_write);
        let mut acknowledged: Vec<_> = writes.map(|event| Duration::from_nanos(event.to)).collect();
        acknowledged.sort();
        let slowest = *record.slowest.lock().unwrap();
        Outcome {
            summary,
            verified: record.verified.load(Ordering::SeqCst),
            unanswered: record.unanswered.load(Ordering::SeqCst),
            slowest,
            acknowledged,
        }
    }
}

impl Outcome {
    /// The longest time without an acknowledged write that began or ended in between.
    pub(crate) fn pause(&self, from: Duration, to: Duration) -> Duration {
        let pairs = self.acknowledged.windows(2).map(|pair| (pair[0], pair[1]));
        pairs
            .filter(|(begun, ended)| *begun < to && *ended > from)
            .map(|(a, b)| b - a)
            .max()
            .unwrap_or_default()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Summary { mints, revocations, floors, verifies, places } = self.summary;
        let Self { verified, unanswered, slowest, .. } = self;
        let pause = self.pause(Duration::ZERO, Duration::MAX);
        write!(
            f,
            "{mints} mints, {revocations} revocations and {floors} floors acknowledged, 0 lost; {verifies} verifies at one signer \
             each; {verified} at any, {unanswered} unanswered, the slowest {slowest:.1?}; {places} places in the \
             feed, each with one content; longest pause of writes {pause:.1?}"
        )
    }
}

impl Record {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    fn add(&self, from: u64, to: u64, signer: usize, what: What) {
        self.events.lock().unwrap().push(Event { from, to, signer, what });
    }

    /// Mints and revokes, at one signer after the other; now and then what the other client has
    /// minted and may be revoking at this moment.
    fn write(&self, number: u64, mint: &[Remote; 3], revoke: &[Remote; 3]) {
        let mut round = number;
        while self.writing.load(Ordering::SeqCst) {
            if self.resting.load(Ordering::SeqCst) {
                thread::sleep(PACE);
                continue;
            }
            round += 1;
            let at = usize::try_from(round % 3).unwrap();
            if round.is_multiple_of(FLOORS) {
                self.floor(&format!("floor:{number}:{round}"), at, mint, revoke);
            }
            let card = self.mint(at, mint);
            let last = self.minted.lock().unwrap().iter().rev().nth(1).cloned();
            for card in [Some(card), last.filter(|_| round.is_multiple_of(3))].into_iter().flatten() {
                if !is_live(&card) {
                    self.revoke(&card, (at + 1) % 3, revoke);
                }
            }
        }
    }

    fn mint(&self, at: usize, signers: &[Remote; 3]) -> Card {
        let card = self.mint_as(&mint_params(), request_id().unwrap(), at, signers);
        self.by_lineage.lock().unwrap().insert(*card.lineage.as_bytes(), number_of(card.lineage.as_bytes()));
        self.minted.lock().unwrap().push(card.clone());
        card
    }

    /// Asks one signer after the other under one id: whatever became of the first try counts once.
    fn mint_as(&self, params: &Mint, request: RequestId, at: usize, signers: &[Remote; 3]) -> Card {
        let from = self.now();
        for at in (0..3).cycle().skip(at) {
            match signers[at].mint(params, request) {
                Ok(minted) => {
                    let (lineage, bytes) = (minted.lineage, minted.token.expose().to_vec());
                    let what =
                        What::Minted { request: number_of(request.as_bytes()), token: number(lineage) };
                    self.add(from, self.now(), at, what);
                    return Card { request, lineage, bytes };
                }
                Err(error) => again(&error),
            }
        }
        unreachable!("the signers go round")
    }

    fn revoke(&self, card: &Card, at: usize, signers: &[Remote; 3]) {
        let (from, request) = (self.now(), request_id().unwrap());
        for at in (0..3).cycle().skip(at) {
            match signers[at].revoke(&revoke_params(RevokeTarget::Token(card.lineage)), request) {
                Ok(answer) => {
                    let new = answer.effect == RevokeEffect::New;
                    let after = (answer.after.epoch, answer.after.sequence);
                    let what = What::Revoked { token: number(card.lineage), new, after };
                    self.add(from, self.now(), at, what);
                    self.revoked.lock().unwrap().push(card.clone());
                    return;
                }
                Err(error) => again(&error),
            }
        }
    }

    /// Mints for a subject and sets a floor for it, at one signer after the other until it is answered.
    fn floor(&self, subject: &str, at: usize, mint: &[Remote; 3], revoke: &[Remote; 3]) {
        let subject = Name::new(subject).unwrap();
        let params = Mint { subject: Some(subject.clone()), ..mint_params() };
        let card = self.mint_as(&params, request_id().unwrap(), at, mint);
        let (from, request) = (self.now(), request_id().unwrap());
        for at in (0..3).cycle().skip(at) {
            let target = RevokeTarget::Subject(Name::new("acme").unwrap(), subject.clone(), Floor::Now);
            match revoke[at].revoke(&revoke_params(target), request) {
                Ok(_) => {
                    self.add(from, self.now(), at, What::Floored(number(card.lineage)));
                    return self.floored.lock().unwrap().push(card);
                }
                Err(error) => again(&error),
            }
        }
    }

    /// Reads one signer's feed, and asks it of tokens that were just revoked and of others.
    fn read(&self, at: usize, verify: &Remote, feed: &Feed, from: Position) {
        let mut next = from.sequence + 1;
        let mut turn = at;
        while self.reading.load(Ordering::SeqCst) {
            if let Some(head) = self.head(at, feed) {
                while next <= head.position.sequence
                    && self.step(at, feed, Position { sequence: next, ..head.position })
                {
                    next += 1;
                }
            }
            turn += 1;
            let of = |cards: &Mutex<Vec<Card>>, turn: usize| {
                let cards = cards.lock().unwrap();
                // The last, then one of all.
                if turn.is_multiple_of(2) {
                    cards.last().cloned()
                } else {
                    cards.get(turn * 31 % cards.len().max(1)).cloned()
                }
            };
            let cards = [&self.revoked, &self.minted, &self.floored].map(|cards| of(cards, turn));
            for card in cards.into_iter().flatten() {
                self.verify(at, verify, &card);
            }
            thread::sleep(PACE);
        }
    }

    fn head(&self, at: usize, feed: &Feed) -> Option<Head> {
        let from = self.now();
        let head = feed.head()?;
        let place = (head.position.epoch, head.position.sequence);
        let mut content = DefaultHasher::new();
        (head.state.as_bytes(), head.chain.as_bytes()).hash(&mut content);
        let content = content.finish();
        self.add(from, self.now(), at, What::Head { place, content, issued: head.issued_at.millis() });
        Some(head)
    }

    fn step(&self, at: usize, feed: &Feed, position: Position) -> bool {
        let from = self.now();
        let Some(bytes) = feed.object(&FeedPath::delta(position).to_string()) else { return false };
        let known = self.by_lineage.lock().unwrap();
        let found = bytes.windows(LINEAGE).filter_map(|part| known.get(part).copied());
        let tokens: Vec<_> = found.collect();
        drop(known);
        self.published[at].lock().unwrap().extend(&tokens);
        self.add(from, self.now(), at, What::Step { place: (position.epoch, position.sequence), tokens });
        true
    }

    /// Whether a signer holds a token to be live; `None` when it does not answer.
    fn verify(&self, at: usize, verify: &Remote, card: &Card) -> Option<bool> {
        let (from, token) = (self.now(), number(card.lineage));
        let presented = Token::parse(&card.bytes).unwrap();
        let is_live = match verify.verify(&Presented::new(presented, &[]).unwrap()) {
            Ok(_) => true,
            Err(error) if code(&error) == Some(Code::Revoked) => false,
            Err(error) => {
                again(&error);
                return None;
            }
        };
        self.add(from, self.now(), at, if is_live { What::Live(token) } else { What::Refused(token) });
        Some(is_live)
    }

    /// Verifies a token that lives, at whoever answers.
    fn ask(&self, any: &Remote, live: &[u8]) {
        while self.reading.load(Ordering::SeqCst) {
            let started = Instant::now();
            match any.verify(&Presented::new(Token::parse(live).unwrap(), &[]).unwrap()) {
                Ok(_) => self.verified.fetch_add(1, Ordering::SeqCst),
                Err(error) => {
                    again(&error);
                    self.unanswered.fetch_add(1, Ordering::SeqCst)
                }
            };
            let mut slowest = self.slowest.lock().unwrap();
            *slowest = (*slowest).max(started.elapsed());
            drop(slowest);
            thread::sleep(PACE);
        }
    }
}

/// Only what passes is asked again.
fn again(error: &RemoteError) {
    let passing = [Code::ReadOnly, Code::StoreFailed, Code::Stopping, Code::Busy, Code::Conflict];
    assert!(code(error).is_none_or(|code| passing.contains(&code)), "{error}");
}

fn is_live(card: &Card) -> bool {
    number(card.lineage).is_multiple_of(LIVE)
}

fn number(lineage: LineageId) -> history::Token {
    number_of(lineage.as_bytes())
}

/// Random bytes come first in both kinds of id.
fn number_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk().unwrap())
}
