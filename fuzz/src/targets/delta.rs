//! Deltas: a step from unread bytes changes a set as its rows say, or not at all.

use tkcore::FeedId;
use tkcore::revocation::publish::Publisher;
use tkcore::revocation::{ExpiryDay, RevocationSet};

/// One input is the delta of the first step of an empty feed.
pub fn run(data: &[u8]) {
    let feed = FeedId::from_bytes(core::array::from_fn(|i| 0xf0 + i as u8));
    let mut publisher = Publisher::begin(feed, 1, RevocationSet::empty());
    let before = publisher.clone();
    if publisher.replay(data).is_err() {
        assert_eq!(publisher.position(), before.position());
        assert_eq!(publisher.set().digest(), before.set().digest());
        return;
    }
    let mut rows = Vec::new();
    publisher.set().for_each(|row, day| rows.push((row, day)));
    if let Some(before) = publisher.set().global_floor() {
        rows.push((tkcore::revocation::Revocation::Global { before }, ExpiryDay::UNKNOWN));
    }
    let rebuilt = RevocationSet::build(rows).expect("a few rows");
    assert_eq!(rebuilt.digest(), publisher.set().digest(), "one set has one digest");
}
