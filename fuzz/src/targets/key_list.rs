//! Key lists: only one form is read, and nothing that no pinned key signed is believed.

use std::sync::OnceLock;

use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft};
use tkcore::revocation::{FeedKey, KeyList, RootKeys};
use tkcore::FeedId;

fn roots() -> &'static RootKeys {
    static ROOTS: OnceLock<RootKeys> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let keys: Vec<FeedKey> = [1u8, 2, 3]
            .map(|seed| FeedSigningKey::from_seed(&[seed; 32]).expect("a seed").public())
            .to_vec();
        RootKeys::new(2, &keys).expect("two of three")
    })
}

/// One input is one key list, or a draft of one.
pub fn run(data: &[u8]) {
    let feed = FeedId::from_bytes(core::array::from_fn(|i| 0xf0 + i as u8));
    if let Ok(list) = KeyList::verify(data, feed, roots()) {
        assert!(list.version > 0 && list.epoch > 0 && !list.keys.is_empty());
    }
    if let Ok((draft, list)) = KeyListDraft::from_bytes(data) {
        let again = KeyListDraft::new(&list, draft.signers()).expect("what was read can be written");
        // Flags that may be ignored are the only bytes that reading loses.
        assert_eq!(again.to_bytes()[8..], data[8..], "a draft has one form");
    }
}
