//! The signer: the real publisher, its tree of signed files, and when each revocation was made.

use std::collections::BTreeMap;
use std::time::Duration;

use tkcore::revocation::feed::Response;
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft, Publisher, Stamp, kept_day};
use tkcore::revocation::{Audit, FeedPath, KeyList, PublicationKey, Revocation, RevocationSet, RootKeys};
use tkcore::{FeedDigest, FeedId, LineageId, Timestamp};

pub(crate) const FEED: FeedId = FeedId::from_bytes([7; 16]);
const START: u64 = 1_795_000_000_000; // in milliseconds
const MONTH: u64 = 30 * 86_400_000_000;

pub(crate) struct Signer {
    pub(crate) publisher: Publisher,
    /// Of all deltas.
    pub(crate) bytes: u64,
    files: BTreeMap<String, Vec<u8>>,
    key: FeedSigningKey,
    /// When the last head was signed.
    pub(crate) signed: u64,
    /// When the revocations were made that no step holds yet, and those of each step.
    open: Vec<(u64, u64)>,
    pub(crate) steps: Vec<Vec<u64>>,
}

impl Signer {
    pub(crate) fn new() -> (Self, RootKeys) {
        let key = FeedSigningKey::from_seed(&[1; 32]).expect("a key");
        let roots = RootKeys::new(1, &[key.public()]).expect("one key");
        let listed = PublicationKey { key: key.public(), not_before: at(0), not_after: at(MONTH) };
        let list = KeyList { feed: FEED, version: 1, epoch: 1, keys: vec![listed] };
        let list = KeyListDraft::sign_all(&list, &[&key], &roots).expect("a key list");
        let publisher = Publisher::begin(FEED, 1, RevocationSet::empty());
        let (base, set) = (publisher.base_path(), publisher.snapshot().to_bytes());
        let files = [(FeedPath::KeyList { version: 1 }.to_string(), list), (base.to_string(), set)];
        let (open, steps) = (Vec::new(), Vec::new());
        let mut signer = Self { publisher, bytes: 0, files: files.into(), key, signed: 0, open, steps };
        signer.sign(0);
        (signer, roots)
    }

    /// Whether it is the first of a step. Tokens live for 30 days, and are revoked at any age.
    pub(crate) fn revoke(&mut self, now: u64, random: u64) -> bool {
        self.open.push((now, random));
        self.open.len() == 1
    }

    pub(crate) fn close(&mut self, now: u64) {
        let row = |(made, random): &(u64, u64)| {
            let mut id = [0; 10];
            id[..8].copy_from_slice(&random.to_be_bytes());
            let expiry = kept_day(Some(at(made + random % MONTH)), at(now));
            (Revocation::Token { lineage: LineageId::new(id, at(*made)) }, expiry)
        };
        let rows: Vec<_> = self.open.iter().map(row).collect();
        let step = self.publisher.prepare(&rows, None).expect("room").expect("a new row");
        self.bytes += step.delta.len() as u64;
        self.files.insert(step.path().to_string(), step.delta.clone());
        self.publisher.advance(step);
        let merged = self.publisher.merged_now(|path| self.files.get(&path.to_string()));
        self.files.extend(merged.into_iter().map(|(path, bytes)| (path.to_string(), bytes)));
        self.steps.push(self.open.drain(..).map(|(made, _)| made).collect());
        self.sign(now);
    }

    pub(crate) fn sign(&mut self, now: u64) {
        let audit = Audit { lines: 0, digest: FeedDigest::from_bytes([0; 32]) };
        let (validity, poll_after) = (Duration::from_secs(3600), Duration::from_secs(10));
        let stamp = Stamp { key_list: 1, issued_at: at(now), validity, poll_after, audit };
        let head = self.publisher.head(&stamp).sign(&[&self.key]).expect("a head");
        self.files.insert(FeedPath::Head.to_string(), head);
        self.signed = now;
    }

    pub(crate) fn get(&self, path: FeedPath) -> Response {
        let name = if matches!(path, FeedPath::Wait { .. }) { FeedPath::Head } else { path }.to_string();
        self.files.get(&name).map_or(Response::NotFound, |bytes| Response::Body(bytes.clone()))
    }
}

pub(crate) fn at(micros: u64) -> Timestamp {
    Timestamp::from_millis(START + micros / 1000).expect("a time of this century")
}
