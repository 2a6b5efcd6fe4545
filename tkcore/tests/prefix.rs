//! What may be remembered of a token and what it is good for: each sentence of the argument in
//! docs/spec/token.md ("Remembered prefixes") has a test here.
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

mod common;

use common::{check, facts, key, minted};
use tkcore::{
    Basis, BranchId, BranchIds, Budget, Error, NotAuthentic, Prefix, Presented, RootKey, Scratch, Token,
    TokenBuf, attenuate, verify,
};

const SIGNATURE: Error = Error::NotAuthentic(NotAuthentic::Signature);

fn alone(token: &TokenBuf) -> Presented<'_> {
    Presented::new(token.as_token(), &[]).unwrap()
}

/// Every branch id, from the key.
fn branches(presented: Presented<'_>) -> Vec<BranchId> {
    let (facts, mut scratch, mut budget) = (facts(), Scratch::new(), Budget::default());
    let basis = Basis::Root(&key());
    let verified = verify(presented, basis, &facts, BranchIds::Collect, &mut scratch, &mut budget).unwrap();
    verified.branch_ids().unwrap().to_vec()
}

/// What a service remembers once the signer has vouched for it.
fn remember(presented: Presented<'_>) -> Prefix {
    let all = branches(presented);
    Prefix::from_vouched(&presented, &all[..all.len() - 1]).unwrap()
}

/// With another last byte.
fn tampered(token: &TokenBuf) -> TokenBuf {
    let mut bytes = token.as_token().as_v2().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    TokenBuf::from_v2(bytes).unwrap()
}

#[test]
fn it_proves_what_the_signer_said_and_what_extends_it() {
    // Sentence 1; TK-80, TK-62.
    let token = minted(&["app in 1,2", "action in read,list"]);
    let prefix = remember(alone(&token));
    assert_eq!(prefix.caveats(), 2);
    let mut child = TokenBuf::from_v2(token.as_token().as_v2().to_vec()).unwrap();
    for _ in 0..5 {
        assert!(prefix.covers(&alone(&child)));
        assert_eq!(check(child.as_token(), &[], Basis::Prefix(&prefix)), Ok(()));
        child = attenuate(&child.as_token(), &["app = 1"]).unwrap();
    }
}

#[test]
fn it_covers_nothing_but_extensions() {
    // TK-80: not a shorter, another, or a reordered content, however similar.
    let prefix = remember(alone(&minted(&["app in 1,2", "action in read"])));
    let others = [
        minted(&["app in 1,2"]),
        minted(&["action in read", "app in 1,2"]),
        minted(&["app in 1,2", "action in rea"]),
    ];
    let other_id = tkcore::Identifier { subject: Some("user:8"), ..common::identifier(2) };
    let other_id = tkcore::mint(&other_id, &["app in 1,2", "action in read"], &key()).unwrap();
    for other in others.iter().chain([&other_id]) {
        assert!(!prefix.covers(&alone(other)));
        let verdict = check(other.as_token(), &[], Basis::Prefix(&prefix));
        assert!(matches!(verdict, Err(Error::Bug(_))), "used all the same: {verdict:?}");
    }
}

#[test]
fn a_wrong_tail_is_refused_here_and_changes_nothing() {
    // Sentence 3; TK-81.
    let token = minted(&["app in 1,2"]);
    let prefix = remember(alone(&token));
    let child = attenuate(&token.as_token(), &["app = 1"]).unwrap();
    for wrong in
        [tampered(&token), tampered(&child), attenuate(&tampered(&token).as_token(), &["app = 1"]).unwrap()]
    {
        assert!(prefix.covers(&alone(&wrong)));
        assert_eq!(check(wrong.as_token(), &[], Basis::Prefix(&prefix)), Err(SIGNATURE));
    }
    assert_eq!(check(child.as_token(), &[], Basis::Prefix(&prefix)), Ok(()));
}

#[test]
fn it_tells_holders_from_those_who_have_only_seen_an_identifier() {
    let wide = minted(&["app in 1,2"]);
    let token = attenuate(&wide.as_token(), &["action in read"]).unwrap();
    let prefix = remember(alone(&token));
    for held in [&token, &attenuate(&token.as_token(), &["app = 1", "action = read"]).unwrap()] {
        assert!(prefix.is_held_by(&alone(held)) && prefix.begins(&alone(held)));
        let wrong = tampered(held);
        assert!(!prefix.is_held_by(&alone(&wrong)) && prefix.begins(&alone(&wrong)));
    }
    // What it does not begin it says nothing of, but that the identifier is the same.
    let forged = tkcore::mint(&common::identifier(1), &["app in 1,2"], &RootKey::derive(b"another")).unwrap();
    let sibling = attenuate(&wide.as_token(), &["action in list"]).unwrap();
    for other in [&wide, &sibling, &forged] {
        assert!(prefix.has_identifier_of(&alone(other)), "no secret");
        assert!(!prefix.begins(&alone(other)) && !prefix.is_held_by(&alone(other)));
    }
    let subject = tkcore::Identifier { subject: Some("user:8"), ..common::identifier(1) };
    let other = tkcore::mint(&subject, &["app in 1,2"], &key()).unwrap();
    assert!(!prefix.has_identifier_of(&alone(&other)), "another one of the same lineage");
}

#[test]
fn it_does_not_lead_back_to_what_was_before_it() {
    // Sentence 2: a caveat cannot be taken off with what is remembered.
    let wide = minted(&["app in 1,2"]);
    let narrow = attenuate(&wide.as_token(), &["app = 1"]).unwrap();
    let prefix = remember(alone(&narrow));
    assert!(!prefix.covers(&alone(&wide)));
    assert!(!prefix.covers(&alone(&attenuate(&wide.as_token(), &["app = 2"]).unwrap())));
    assert!(!format!("{prefix:?}").contains("app"));
}

#[test]
fn it_hides_no_branch() {
    // Sentence 6; TK-84, TK-63.
    let token = minted(&["app in 1,2", "action in read"]);
    let prefix = remember(alone(&token));
    let child = attenuate(&token.as_token(), &["app = 1", "ip in 10.0.0.0/8"]).unwrap();
    let (facts, mut scratch, mut budget) = (facts(), Scratch::new(), Budget::default());
    for token in [&token, &child] {
        let basis = Basis::Prefix(&prefix);
        let verified =
            verify(alone(token), basis, &facts, BranchIds::Collect, &mut scratch, &mut budget).unwrap();
        assert_eq!(verified.branch_ids().unwrap(), branches(alone(token)));
        let skipped = verify(alone(token), basis, &facts, BranchIds::Skip, &mut scratch, &mut budget);
        assert_eq!(skipped.unwrap().branch_ids(), None);
    }
    assert!(Prefix::from_vouched(&alone(&token), &branches(alone(&token))).is_err(), "one too many");
    assert!(Prefix::from_vouched(&alone(&token), &[]).is_err());
}

#[test]
fn locations_neither_help_nor_hinder() {
    // TK-26: they are signed by nothing.
    let token = minted(&["app in 1,2"]);
    let bytes = token.as_token().as_v2();
    let located = TokenBuf::from_v2([&[2, 1, 3, b'l', b'o', b'c'], &bytes[1..]].concat()).unwrap();
    let plain = remember(alone(&token));
    let elsewhere = remember(alone(&located));
    for prefix in [&plain, &elsewhere] {
        for token in [&token, &located] {
            let child = attenuate(&token.as_token(), &["app = 1"]).unwrap();
            assert_eq!(check(child.as_token(), &[], Basis::Prefix(prefix)), Ok(()));
            assert_eq!(check(tampered(&child).as_token(), &[], Basis::Prefix(prefix)), Err(SIGNATURE));
        }
        let other = minted(&["app in 1,3"]);
        assert!(!prefix.covers(&alone(&other)));
    }
}

#[test]
fn expiry_caveats_and_revocation_are_judged_every_time() {
    // TK-85: the same prefix and token; only the request and the revocations change.
    use tkcore::danger::NoRevocations;
    use tkcore::revocation::{Query, Revocations, Rule, Status};
    use tkcore::{Request, Vocabulary};

    struct Killed;
    impl Revocations for Killed {
        fn has_branches(&self) -> bool {
            false
        }
        fn status(&self, _: &Query<'_>) -> Status {
            Status::Revoked(Rule::Token)
        }
    }

    let token = minted(&["action in read"]);
    let prefix = remember(alone(&token));
    let mut facts = facts();
    facts.audience = None;
    let mut scratch = Scratch::new();
    let mut budget = Budget::default();
    let basis = Basis::Prefix(&prefix);
    let verified = verify(alone(&token), basis, &facts, BranchIds::Skip, &mut scratch, &mut budget).unwrap();
    let vocabulary = Vocabulary::native();
    let request = |action: &'static str, seconds: u64| {
        Request::builder("acme", common::at(seconds * 1000)).action(action).build().unwrap()
    };
    let mut clear = |action, seconds, revoked: bool| {
        let (request, budget) = (request(action, seconds), &mut budget);
        match revoked {
            false => verified.clear(&request, &vocabulary, &NoRevocations, budget).map(|_| ()),
            true => verified.clear(&request, &vocabulary, &Killed, budget).map(|_| ()),
        }
    };
    assert_eq!(clear("read", 1_799_999_999, false), Ok(()));
    assert!(matches!(clear("read", 1_800_000_000, false), Err(Error::Refused(_))));
    assert!(matches!(clear("write", 1_799_999_999, false), Err(Error::Refused(_))));
    assert_eq!(clear("read", 1_799_999_999, true), Err(Error::Revoked(Rule::Token)));
    assert_eq!(clear("read", 1_799_999_999, false), Ok(()));
}

#[test]
fn facts_of_another_lineage_are_not_used() {
    // TK-64
    let token = minted(&[]);
    let (mut facts, mut scratch, mut budget) = (facts(), Scratch::new(), Budget::default());
    facts.subject_row = None;
    let basis = Basis::Root(&key());
    let verdict = verify(alone(&token), basis, &facts, BranchIds::Skip, &mut scratch, &mut budget);
    assert!(matches!(verdict, Err(Error::Bug(_))));
}

#[test]
fn work_is_counted_and_ends() {
    // TK-4
    let token = minted(&["a = 1"; 200]);
    let (facts, mut scratch) = (facts(), Scratch::new());
    let mut judge = |branches, budget: &mut Budget| {
        verify(alone(&token), Basis::Root(&key()), &facts, branches, &mut scratch, budget).map(|_| ())
    };
    let mut budget = Budget::default();
    let before = budget.left();
    assert_eq!(judge(BranchIds::Skip, &mut budget), Ok(()));
    let cost = before - budget.left();
    assert!((800..1000).contains(&cost), "{cost}");
    assert_eq!(judge(BranchIds::Skip, &mut Budget::new(cost)), Ok(()));
    assert_eq!(judge(BranchIds::Skip, &mut Budget::new(cost - 1)), Err(Error::TooMuchWork));
    assert_eq!(judge(BranchIds::Collect, &mut Budget::new(cost)), Err(Error::TooMuchWork));
}

#[cfg(feature = "third-party")]
mod discharges {
    use super::*;
    use tkcore::{CaveatKey, DischargeFault, attenuate_third_party, bind, plain::Macaroon};

    fn with_third_party(token: &TokenBuf, ticket: &[u8]) -> TokenBuf {
        let key = CaveatKey::from_bytes([7; 32]);
        attenuate_third_party(&token.as_token(), Some("https://auth.example"), ticket, &key, &[8; 24])
            .unwrap()
    }

    fn discharge(ticket: &[u8], caveats: &[&str]) -> TokenBuf {
        let key = CaveatKey::from_bytes([7; 32]).discharge_key();
        let mut macaroon = Macaroon::create(&key, ticket, None).unwrap();
        for caveat in caveats {
            macaroon.attenuate(caveat.as_bytes()).unwrap();
        }
        TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap()
    }

    fn bound(root: &TokenBuf, discharge: &TokenBuf) -> TokenBuf {
        bind(&root.as_token(), &discharge.as_token()).unwrap()
    }

    #[test]
    fn one_that_was_due_is_never_skipped() {
        // Sentence 4; TK-82.
        let root = with_third_party(&minted(&["app = 1"]), b"login");
        let good = bound(&root, &discharge(b"login", &["time < 2027-01-01T00:00:00Z"]));
        let good = [good.as_token()];
        let vouched = Presented::new(root.as_token(), &good).unwrap();
        let prefix = remember(vouched);
        assert!(prefix.covers(&vouched));
        assert_eq!(check(root.as_token(), &good, Basis::Prefix(&prefix)), Ok(()));

        let other = bound(&root, &discharge(b"login", &["time < 2028-01-01T00:00:00Z"]));
        let unbound = discharge(b"login", &["time < 2027-01-01T00:00:00Z"]);
        let longer = attenuate(&root.as_token(), &["app = 1"]).unwrap();
        let rebound = bound(&longer, &unbound);
        let wrong = tampered(&root);
        let sets: [(&TokenBuf, Vec<Token<'_>>); 7] = [
            (&root, vec![]),
            (&root, vec![other.as_token()]),
            (&root, vec![unbound.as_token()]),
            (&root, vec![good[0], good[0]]),
            (&longer, good.to_vec()),
            (&longer, vec![rebound.as_token()]),
            (&wrong, good.to_vec()),
        ];
        for (root, discharges) in sets {
            let presented = Presented::new(root.as_token(), &discharges).unwrap();
            assert!(!prefix.covers(&presented));
            let verdict = check(root.as_token(), &discharges, Basis::Prefix(&prefix));
            assert!(matches!(verdict, Err(Error::Bug(_))), "{verdict:?}");
        }
    }

    #[test]
    fn one_that_comes_due_later_is_verified_in_full() {
        // Sentence 5; TK-83, TK-71, TK-72.
        let token = minted(&["app = 1"]);
        let prefix = remember(alone(&token));
        let root = with_third_party(&token, b"login");
        let (plain, strange) = (discharge(b"login", &[]), discharge(b"other", &[]));
        let (good, surplus) = (bound(&root, &plain), bound(&root, &strange));
        let earlier = bound(&token, &plain);
        assert!(prefix.is_held_by(&alone(&root)) && !prefix.is_held_by(&alone(&tampered(&root))));
        let fault = |discharges: &[Token<'_>]| check(root.as_token(), discharges, Basis::Prefix(&prefix));
        assert_eq!(fault(&[good.as_token()]), Ok(()));
        assert!(matches!(fault(&[]), Err(Error::Discharge(DischargeFault::Missing(_)))));
        assert!(matches!(fault(&[surplus.as_token()]), Err(Error::Discharge(DischargeFault::Missing(_)))));
        for (discharges, expected) in [
            (vec![good.as_token(), surplus.as_token()], DischargeFault::Unused),
            (vec![good.as_token(), good.as_token()], DischargeFault::Duplicate),
            (vec![plain.as_token()], DischargeFault::Unbound),
            (vec![earlier.as_token()], DischargeFault::WronglyBound),
            (vec![tampered(&good).as_token()], DischargeFault::WronglyBound),
        ] {
            assert_eq!(fault(&discharges), Err(Error::Discharge(expected)));
        }
        let surplus = [good.as_token()];
        let verdict = check(token.as_token(), &surplus, Basis::Prefix(&prefix));
        assert_eq!(verdict, Err(Error::Discharge(DischargeFault::Unused)), "on a token that needs none");
    }

    #[test]
    fn a_caveat_key_of_another_token_opens_nothing() {
        // TK-70: the section of one token moved, with a good MAC, behind another.
        let donor = with_third_party(&minted(&["app = 1"]), b"login");
        let section = {
            let bytes = donor.as_token().as_v2();
            let at = bytes.windows(5).position(|window| window == b"login").unwrap();
            bytes[at + 5 + 2..][..72].try_into().unwrap()
        };
        let root = splice(&minted(&["app = 2"]), b"login", section);
        let good = bound(&root, &discharge(b"login", &[]));
        let verdict = check(root.as_token(), &[good.as_token()], Basis::Root(&key()));
        assert_eq!(verdict, Err(Error::Discharge(DischargeFault::SealedKey)));
    }

    /// Appends a third-party caveat with a `vid` as given, MACed as any holder could.
    fn splice(token: &TokenBuf, cid: &[u8], vid: [u8; 72]) -> TokenBuf {
        use hmac::{Hmac, Mac as _};
        let hmac = |key: &[u8], message: &[u8]| -> Vec<u8> {
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        };
        let bytes = token.as_token().as_v2();
        let (body, tail) = (&bytes[..bytes.len() - 35], &bytes[bytes.len() - 32..]);
        let both = [hmac(tail, &vid), hmac(tail, cid)].concat();
        let section = [&[2, cid.len() as u8][..], cid, &[4, 72], &vid, &[0]].concat();
        TokenBuf::from_v2([body, &section, &[0, 6, 32], &hmac(tail, &both)].concat()).unwrap()
    }
}

#[test]
fn another_key_is_another_chain() {
    // TK-60
    let token = minted(&["app = 1"]);
    assert_eq!(check(token.as_token(), &[], Basis::Root(&RootKey::derive(b"x"))), Err(SIGNATURE));
}
