//! The feed's client under sequences of answers and clock jumps: it never rolls back, never
//! loses its state, and never takes a state that was not signed.
//!
//! An input is a program: an operation, then its argument. Objects are drawn from a small
//! honest history by index, so that the fuzzer finds orders rather than signatures; they can be
//! cut and flipped.

use std::sync::OnceLock;
use std::time::Duration;

use tkcore::revocation::feed::{Config, Effect, Machine, Moment, Next, Response};
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft, Publisher, Stamp};
use tkcore::revocation::{
    Audit, ExpiryDay, KeyList, Position, PublicationKey, Revocation, RevocationSet, RootKeys,
};
use tkcore::{FeedDigest, FeedId, LineageId, Timestamp};

const START: u64 = 1_795_000_000_000;

struct History {
    roots: RootKeys,
    objects: Vec<Vec<u8>>,
    states: Vec<(Position, FeedDigest)>,
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).expect("within the calendar")
}

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let feed = FeedId::from_bytes([7; 16]);
        let root = FeedSigningKey::from_seed(&[1; 32]).expect("a seed");
        let keys = [10u8, 11].map(|seed| FeedSigningKey::from_seed(&[seed; 32]).expect("a seed"));
        let roots = RootKeys::new(1, &[root.public()]).expect("one of one");
        let mut objects = vec![b"<html>".to_vec(), Vec::new()];
        let mut states = Vec::new();
        for epoch in 1..=2u64 {
            let key = &keys[epoch as usize - 1];
            let window =
                PublicationKey { key: key.public(), not_before: at(START - 1), not_after: at(START + 86_400_000) };
            let list = KeyList { feed, version: epoch, epoch, keys: vec![window] };
            objects.push(KeyListDraft::sign_all(&list, &[&root], &roots).expect("a good list"));
            let mut publisher = Publisher::begin(feed, epoch, RevocationSet::empty());
            for n in 0..=20u8 {
                if n % 7 == 0 {
                    let snapshot = publisher.snapshot();
                    publisher.rebase(&snapshot);
                    objects.push(snapshot.to_bytes());
                }
                let stamp = Stamp {
                    key_list: epoch,
                    issued_at: at(START + u64::from(n) * 1000),
                    validity: Duration::from_secs(3600),
                    poll_after: Duration::from_secs(10),
                    audit: Audit { lines: u64::from(n), digest: FeedDigest::from_bytes([n; 32]) },
                };
                objects.push(publisher.head(&stamp).sign(&[key]).expect("a good head"));
                states.push((publisher.position(), publisher.set().digest()));
                let lineage = LineageId::from_bytes([n.wrapping_mul(11); 16]);
                let row = (Revocation::Token { lineage }, ExpiryDay::UNKNOWN);
                if let Some(step) = publisher.prepare(&[row], None).expect("room") {
                    objects.push(step.delta.clone());
                    publisher.advance(step);
                }
            }
        }
        History { roots, objects, states }
    })
}

/// One input is one program.
pub fn run(data: &[u8]) {
    let history = history();
    let mut config = Config::new(FeedId::from_bytes([7; 16]), history.roots.clone());
    config.mirrors = 2;
    let mut machine = Machine::new(config);
    let mut moment = Moment { wall: at(START), monotonic: Duration::from_secs(1) };
    let mut highest = None;
    let mut has_state = false;
    for op in data.chunks_exact(2).take(200) {
        let (code, argument) = (op[0], op[1]);
        match code % 16 {
            0 => moment.monotonic += Duration::from_secs(u64::from(argument)),
            1 => moment.wall = at(START + u64::from(argument) * 100_000),
            2 => moment.wall = at(START - u64::from(argument) * 100_000),
            3 => machine.poll_now(),
            4 => machine.write_failed(),
            5 => machine.clear_alarm(),
            _ => {
                machine.poll_now();
                let Next::Fetch(fetch) = machine.next(moment) else { continue };
                let response = match argument {
                    255 => Response::NotFound,
                    254 => Response::NotModified,
                    253 => Response::Failed,
                    252 => Response::TooLarge,
                    251 => Response::Refused { retry_after: Some(Duration::from_secs(9)) },
                    index => {
                        let mut body =
                            history.objects[usize::from(index) % history.objects.len()].clone();
                        match code % 16 {
                            6 if !body.is_empty() => {
                                let bit = usize::from(code / 16) * 97 % (body.len() * 8);
                                body[bit / 8] ^= 1 << (bit % 8);
                            }
                            7 => body.truncate(usize::from(code / 16) * 20),
                            _ => {}
                        }
                        Response::Body(body)
                    }
                };
                let effects = machine.receive(&fetch, response, moment, u64::from(argument) << 56);
                for effect in &effects {
                    if let Effect::Swap { set, .. } = effect {
                        let position = machine.position().expect("a swap has a position");
                        assert!(history.states.contains(&(position, set.digest())), "{position} was never signed");
                    }
                }
            }
        }
        let position = machine.position();
        assert!(position >= highest, "rolled back");
        assert!(!has_state || position.is_some(), "lost its state");
        highest = position;
        has_state |= position.is_some();
    }
}
