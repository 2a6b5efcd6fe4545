//! Heads: what parses is signed again with the same fields.

use std::sync::OnceLock;

use tkcore::revocation::Head;
use tkcore::revocation::publish::FeedSigningKey;

/// One input is one head.
pub fn run(data: &[u8]) {
    static KEY: OnceLock<FeedSigningKey> = OnceLock::new();
    let Ok(head) = Head::parse_unverified(data) else { return };
    let key = KEY.get_or_init(|| FeedSigningKey::from_seed(&[10; 32]).expect("a seed"));
    let written = head.sign(&[key]).expect("what was read can be written");
    assert_eq!(Head::parse_unverified(&written), Ok(head));
    // Everything between the flags and the signatures has one form.
    assert_eq!(written[8..252], data[8..252]);
}
