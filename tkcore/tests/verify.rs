//! A token's way: minted, attenuated and verified; nothing allocated on the accepting path.
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

mod common;

use common::{check, facts, identifier, key, minted};
use tkcore::{
    Authorization, Basis, BranchIds, Budget, Error, HeaderBuf, Identifier, Malformed, NotAuthentic, RootKey,
    Scratch, ServiceToken, TextForms, Timestamp, Token, TokenBuf, attenuate, mint, verify,
};

const SIGNATURE: Error = Error::NotAuthentic(NotAuthentic::Signature);

#[global_allocator]
static ALLOCATOR: testkit::alloc::Counting = testkit::alloc::Counting;

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

#[test]
fn what_is_given_back_to_the_allocator_holds_no_token() {
    use testkit::alloc::left_behind;

    let token = minted(&["app in 1,2", "action in read,list"]);
    let narrower = attenuate(&token.as_token(), &["org = 7"]).unwrap();
    let text = narrower.to_text();
    let text_end = *text.as_str().as_bytes().last_chunk().unwrap();
    let signature = |token: &TokenBuf| *token.as_token().as_v2().last_chunk().unwrap();

    // That it can be seen at all.
    assert_eq!(left_behind(text_end, || drop(String::from(text.as_str()))).1, 1);

    assert_eq!(left_behind(text_end, || drop(narrower.to_text())).1, 0);
    let read = || drop(TokenBuf::from_text(text.as_str()).unwrap());
    assert_eq!(left_behind(signature(&narrower), read).1, 0);
    let attenuated = || drop(attenuate(&token.as_token(), &["org = 7"]).unwrap());
    assert_eq!(left_behind(signature(&narrower), attenuated).1, 0);
    let parsed = || {
        let header = format!("Bearer {}", text.as_str());
        let mut buf = HeaderBuf::new();
        assert!(Authorization::parse(header.as_bytes(), TextForms::OursOnly, &mut buf).is_ok());
    };
    assert_eq!(left_behind(signature(&narrower), parsed).1, 0);
}

#[test]
fn the_accepting_path_allocates_nothing_once_it_is_warm() {
    // TK-4: from the header's text to a verified token, with all branch ids.
    assert!(testkit::alloc::installed());
    let token = minted(&["app in 1,2", "action in read,list", "path under /a", "org = 7", "size <= 9"]);
    let value = format!("Bearer {}", token.to_text().as_str());
    let (key, facts) = (key(), facts());
    let (mut buf, mut scratch) = (HeaderBuf::new(), Scratch::new());
    let mut judge = || {
        let read = Authorization::parse(value.as_bytes(), TextForms::OursOnly, &mut buf).unwrap();
        let presented = read.candidates().next().unwrap();
        let mut budget = Budget::default();
        let basis = Basis::Root(&key);
        let verified = verify(presented, basis, &facts, BranchIds::Collect, &mut scratch, &mut budget);
        verified.unwrap().branch_ids().unwrap().len()
    };
    assert_eq!(judge(), 6);
    let (count, cost) = testkit::alloc::measure(judge);
    assert_eq!((count, cost.allocations), (6, 0));
}

#[test]
fn reading_costs_memory_by_what_came_and_never_by_what_was_claimed() {
    // TK-4
    assert!(testkit::alloc::installed());
    let mut claims = vec![2, 2, 1, b'i', 0];
    claims.extend([2, 0xff, 0xff, 0x7f]);
    let (read, cost) = testkit::alloc::measure(|| Token::parse(&claims).map(|_| ()));
    assert_eq!((read, cost.allocations), (Err(Malformed::TooLarge("caveat")), 0));
    let value = format!("Bearer {}", "tk1_AgI,".repeat(6000));
    let mut buf = HeaderBuf::new();
    let (read, cost) = testkit::alloc::measure(|| {
        Authorization::parse(value.as_bytes(), TextForms::Reencoded, &mut buf).map(|_| ())
    });
    assert!(read.is_err() && cost.bytes < 200_000, "{cost:?}");
}

#[test]
fn the_identifier_is_read_as_specified_or_not_at_all() {
    // TK-10, TK-11, TK-12, TK-14
    let parent = identifier(0).lineage;
    let service = Identifier { service: Some(ServiceToken { parent }), ..identifier(1) };
    for id in [identifier(1), service, Identifier { subject: None, expiry: None, ..service }] {
        let token = mint(&id, &["app = 1"], &key()).unwrap();
        assert_eq!(token.as_token().claimed_identifier(), Ok(id));
        let mut bytes = Vec::new();
        id.write(&mut bytes).unwrap();
        assert!(bytes.len() <= Identifier::MAX_BYTES);
        for (at, value) in [(0, 0), (0, 2), (1, 2), (1, 0x80)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(matches!(Identifier::parse(&bytes), Err(Malformed::Identifier(_))));
        }
        let mut late = bytes.clone();
        late[21..27].fill(0xff);
        assert!(Identifier::parse(&late).is_err(), "minted past the year 9999");
        late = bytes;
        late[27..32].fill(0xff);
        assert!(Identifier::parse(&late).is_err(), "expires past the year 9999");
    }
    assert!(mint(&Identifier { subject: Some("a\u{7f}"), ..identifier(0) }, &[], &key()).is_err());
    let fraction = Timestamp::from_millis(1_800_000_000_500);
    assert!(mint(&Identifier { expiry: fraction, ..identifier(0) }, &[], &key()).is_err());
}

#[test]
fn random_tokens_verify_and_random_changes_do_not() {
    // TK-26, TK-60, TK-61: a fixed seed, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let key = key();
    for _ in 0..2_000 {
        let caveats: Vec<String> = (0..random(6))
            .map(|_| (0..random(200)).map(|_| char::from(b' ' + random(95) as u8)).collect())
            .collect();
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let at_mint = random(caveats.len() + 1);
        let token = minted(&caveats[..at_mint]);
        let token = attenuate(&token.as_token(), &caveats[at_mint..]).unwrap();
        let wire = token.as_token().as_v2();
        assert_eq!(check(token.as_token(), &[], Basis::Root(&key)), Ok(()));
        assert_eq!(
            token.as_token().describe_untrusted().caveats().map(|caveat| caveat.id).collect::<Vec<_>>(),
            caveats.iter().map(|caveat| caveat.as_bytes()).collect::<Vec<_>>()
        );
        let mut changed = wire.to_vec();
        match random(4) {
            0 => changed[random(wire.len())] ^= 1 + random(255) as u8,
            1 => drop(changed.remove(random(wire.len()))),
            2 => changed.insert(random(wire.len() + 1), random(256) as u8),
            _ => changed.swap(random(wire.len()), random(wire.len())),
        }
        if changed != wire
            && let Ok(other) = Token::parse(&changed)
        {
            assert!(check(other, &[], Basis::Root(&key)).is_err(), "{wire:02x?}\n{changed:02x?}");
        }
    }
}

#[cfg(feature = "third-party")]
#[test]
fn discharges_allocate_nothing_either() {
    // TK-4, TK-72
    use tkcore::{CaveatKey, Presented, TokenBuf, attenuate_third_party, bind, plain::Macaroon};
    assert!(testkit::alloc::installed());
    let mut root = minted(&["app in 1,2"]);
    let mut plain = Vec::new();
    for ticket in [b"login", b"audit"] {
        let caveat_key = CaveatKey::from_bytes([ticket[0]; 32]);
        root = attenuate_third_party(&root.as_token(), None, ticket, &caveat_key, &[8; 24]).unwrap();
        let macaroon = Macaroon::create(&caveat_key.discharge_key(), ticket, None).unwrap();
        plain.push(TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap());
    }
    let bound: Vec<TokenBuf> =
        plain.iter().rev().map(|token| bind(&root.as_token(), &token.as_token()).unwrap()).collect();
    let discharges: Vec<Token<'_>> = bound.iter().map(TokenBuf::as_token).collect();
    let (key, facts, mut scratch) = (key(), facts(), Scratch::new());
    let mut judge = || {
        let presented = Presented::new(root.as_token(), &discharges).unwrap();
        let mut budget = Budget::default();
        verify(presented, Basis::Root(&key), &facts, BranchIds::Collect, &mut scratch, &mut budget).is_ok()
    };
    assert!(judge());
    let (held, cost) = testkit::alloc::measure(judge);
    assert!(held);
    assert_eq!(cost.allocations, 0);
}
