//! A token's way: minted, attenuated, verified from a key and from a remembered prefix.
#![cfg(feature = "mint")]

mod common;

use common::{check, facts, key, minted};
use tkcore::{
    Basis, BranchId, BranchIds, Budget, Error, NotAuthentic, Prefix, Presented, RootKey, Scratch, attenuate,
    verify,
};

const SIGNATURE: Error = Error::NotAuthentic(NotAuthentic::Signature);

#[test]
fn minted_and_attenuated_tokens_verify_and_no_other_key_does() {
    for count in [0, 1, 5, 20] {
        let caveats: Vec<String> = (0..count).map(|i| format!("app in {i},{}", i + 1)).collect();
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let token = minted(&caveats);
        let narrower = attenuate(&token.as_token(), &["action in read", "ip in 10.0.0.0/8"]).unwrap();
        for token in [token, narrower] {
            assert_eq!(check(token.as_token(), &[], Basis::Root(&key())), Ok(()));
            assert_eq!(check(token.as_token(), &[], Basis::Root(&RootKey::derive(b"other"))), Err(SIGNATURE));
        }
    }
}

/// The branch ids of every chain point, as a verifier with the key sees them.
fn branches(presented: Presented<'_>) -> Vec<BranchId> {
    let (facts, mut scratch) = (facts(), Scratch::new());
    let verified = verify(
        presented,
        Basis::Root(&key()),
        &facts,
        BranchIds::Collect,
        &mut scratch,
        &mut Budget::default(),
    );
    verified.unwrap().branch_ids().unwrap().to_vec()
}

#[test]
fn a_prefix_verifies_what_extends_it_and_sees_every_branch_id() {
    let token = minted(&["app in 1,2", "action in read,list"]);
    let vouched = Presented::new(token.as_token(), &[]).unwrap();
    let all = branches(vouched);
    assert_eq!(all.len(), 3);
    let prefix = Prefix::from_vouched(&vouched, &all[..2]).unwrap();

    let child = attenuate(&token.as_token(), &["app = 1", "ip in 10.0.0.0/8"]).unwrap();
    let presented = Presented::new(child.as_token(), &[]).unwrap();
    assert!(prefix.covers(&presented) && prefix.covers(&vouched));
    let (facts, mut scratch) = (facts(), Scratch::new());
    let verified = verify(
        presented,
        Basis::Prefix(&prefix),
        &facts,
        BranchIds::Collect,
        &mut scratch,
        &mut Budget::default(),
    );
    assert_eq!(verified.unwrap().branch_ids().unwrap(), branches(presented));
    assert_eq!(branches(presented)[..3], all);
}
