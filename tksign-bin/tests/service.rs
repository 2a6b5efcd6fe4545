//! The operations over the real store, in one process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::*;
use tkcore::protocol::*;
use tkcore::revocation::Rule;
use tkcore::{KeyClass, Timestamp, Token};
use tksign::{Clock as _, Peer, SignerError, SystemClock};

#[test]
fn a_minted_token_verifies_with_its_facts_and_survives_a_restart() {
    let mut world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    let key = world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    for _ in 0..2 {
        let answer = world.verify(verifier, minted.token.expose()).unwrap();
        assert_eq!(answer.key, key.key);
        assert_eq!(answer.facts.tenant, name("acme"));
        assert_eq!(answer.branches.len(), 1, "one point before the one caveat's tail");
        world.restart();
    }
    let mut forged = minted.token.expose().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(code(world.verify(verifier, &forged)), Code::NotAuthentic);
    assert_eq!(code(world.verify(verifier, &forged[..40])), Code::TokenMalformed);
    world.clock.advance(3_601_000);
    assert_eq!(code(world.verify(verifier, minted.token.expose())), Code::Expired);
    world.clock.set(NOW - 61_000);
    assert_eq!(code(world.verify(verifier, minted.token.expose())), Code::IssuedAhead);
}

#[test]
fn branch_ids_of_the_answer_are_those_before_the_presented_tail() {
    let world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    let child = tkcore::attenuate(&Token::parse(minted.token.expose()).unwrap(), &["action = read"]).unwrap();
    let grandchild = tkcore::attenuate(&child.as_token(), &["app = 7"]).unwrap();
    let parent = world.verify(verifier, minted.token.expose()).unwrap();
    let answer = world.verify(verifier, child.as_token().as_v2()).unwrap();
    assert_eq!(answer.branches[..1], parent.branches[..]);
    let deepest = world.verify(verifier, grandchild.as_token().as_v2()).unwrap();
    assert_eq!(deepest.branches.len(), 3);
    // Revoking the child's branch kills it and what follows, not its parent.
    world.call(revoker, &revoke(RevokeTarget::Branch(deepest.branches[2]))).unwrap();
    world.verify(verifier, minted.token.expose()).unwrap();
    for dead in [&child, &grandchild] {
        let error = world.verify(verifier, dead.as_token().as_v2()).unwrap_err();
        assert_eq!((error.code, error.detail.as_str()), (Code::Revoked, "branch"));
    }
}

/// PR-84, PR-87.
#[test]
fn every_rule_revokes_what_it_names_at_once_and_after_a_restart() {
    type Target = Box<dyn Fn(&MintAnswer) -> RevokeTarget>;
    let targets: Vec<(Target, Rule)> = vec![
        (Box::new(|minted| RevokeTarget::Token(minted.lineage)), Rule::Token),
        (Box::new(|minted| RevokeTarget::Key(minted.key, KeyFloor::All)), Rule::Key),
        (Box::new(|minted| RevokeTarget::Key(minted.key, KeyFloor::Before(Floor::Now))), Rule::Key),
        (Box::new(|_| RevokeTarget::Subject(name("acme"), name("user:1"), Floor::Now)), Rule::Subject),
        (Box::new(|_| RevokeTarget::Tenant(name("acme"), Floor::Now)), Rule::Tenant),
        (Box::new(|_| RevokeTarget::Global(Floor::Now)), Rule::Global),
        (
            Box::new(|minted| RevokeTarget::Presented(minted.token.expose().into(), RevokeScope::Lineage)),
            Rule::Token,
        ),
        (
            Box::new(|minted| RevokeTarget::Presented(minted.token.expose().into(), RevokeScope::Branch)),
            Rule::Branch,
        ),
    ];
    for (target, rule) in targets {
        let mut world = World::new();
        let minter = world.minter();
        let verifier = world.client(3, Role::Verify(None));
        let revoker = world.client(4, Role::Revoke);
        world.key("acme", None, KeyClass::Ordinary);
        world.key("other", None, KeyClass::Ordinary);
        let minted = world.call(minter, &mint("acme")).unwrap();
        let other = world.call(minter, &mint("other")).unwrap();
        world.verify(verifier, minted.token.expose()).unwrap();
        let answer = world.call(revoker, &revoke(target(&minted))).unwrap();
        assert_eq!(answer.effect, RevokeEffect::New);
        for _ in 0..2 {
            let error = world.verify(verifier, minted.token.expose()).unwrap_err();
            assert_eq!((error.code, error.detail.as_str()), (Code::Revoked, rule.as_str()));
            assert_eq!(world.verify(verifier, other.token.expose()).is_err(), rule == Rule::Global);
            world.restart();
        }
        let rows = world.operate(&Status {}).revocations;
        let again = world.call(revoker, &revoke(target(&minted))).unwrap();
        assert_eq!(world.operate(&Status {}).revocations == rows, again.effect == RevokeEffect::Already);
        let timed = again.before.is_some();
        assert_eq!(again.effect == RevokeEffect::Already, !timed || again.before == answer.before);
        // What is minted afterwards lives, unless the key itself is gone.
        let next = world.call(minter, &mint("acme"));
        match (rule, timed) {
            (Rule::Key, false) => assert_eq!(code(next), Code::Conflict),
            _ => drop(world.verify(verifier, next.unwrap().token.expose()).unwrap()),
        }
    }
}

/// PR-80, PR-84.
#[test]
fn a_floor_now_lies_above_every_mint_and_a_mint_never_below_a_floor() {
    let mut world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    world.clock.advance(30_000);
    let ahead = world.call(minter, &mint("acme")).unwrap();
    // The clock is set back, and the signer restarted: neither mint nor floor goes back.
    world.clock.set(NOW);
    world.restart();
    let floor = world.call(revoker, &revoke(RevokeTarget::Tenant(name("acme"), Floor::Now))).unwrap();
    assert_eq!(floor.before, Timestamp::from_millis(NOW + 30_001));
    assert_eq!(code(world.verify(verifier, ahead.token.expose())), Code::Revoked);
    let next = world.call(minter, &mint("acme")).unwrap();
    assert_eq!(next.lineage.minted(), floor.before, "equal times are fine");
    world.verify(verifier, next.token.expose()).unwrap();
    let future = Floor::At(Timestamp::from_millis(NOW + 40_000).unwrap());
    assert_eq!(code(world.call(revoker, &revoke(RevokeTarget::Global(future)))), Code::BadTime);
    // Too far behind its own last mint, the clock is not to be trusted.
    world.clock.set(NOW - 40_000);
    assert_eq!(code(world.call(minter, &mint("acme"))), Code::ClockApart);
}

/// PR-83.
#[test]
fn dangerous_tokens_need_the_word_and_the_power() {
    let world = World::new();
    let minter = world.minter();
    let plain = world.client(
        5,
        Role::Mint(MintPower {
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
            ..full_power()
        }),
    );
    world.key("acme", None, KeyClass::Ordinary);
    let time_only = || vec![MintCaveat::FirstParty(Bytes(b"time < 2030-01-01T00:00:00Z".to_vec()))];
    for caveats in [Vec::new, time_only] {
        let asked = |permit| Mint { caveats: caveats(), unrestricted: permit, ..mint("acme") };
        assert_eq!(code(world.call(minter, &asked(Permit::Withheld))), Code::NeedsPermission);
        assert_eq!(code(world.call(plain, &asked(Permit::Given))), Code::OutsideRole);
        world.call(minter, &asked(Permit::Given)).unwrap();
    }
    let never = |permit| Mint { expiry: Expiry::Never, never_expires: permit, ..mint("acme") };
    assert_eq!(code(world.call(minter, &never(Permit::Withheld))), Code::NeedsPermission);
    assert_eq!(code(world.call(plain, &never(Permit::Given))), Code::OutsideRole);
    assert_eq!(world.call(minter, &never(Permit::Given)).unwrap().expiry, None);
    assert_eq!(code(world.call(minter, &mint("nobody"))), Code::NotFound);
}

/// PR-64, at each bound and one past it; the permissions of the role open none of them.
#[test]
fn a_mint_stays_within_the_narrowing_of_its_client() {
    let world = World::new();
    let ours = |tenants: &[&str]| Some(tenants.iter().map(|tenant| name(tenant)).collect());
    let required = vec![Bytes(b"action in read,list".to_vec())];
    let free = Narrowing::default;
    let bounds = [
        Narrowing { tenants: ours(&["beta", "acme"]), ..free() },
        Narrowing { tenants: ours(&[]), ..free() },
        Narrowing { max_lifetime: Some(3600), ..free() },
        Narrowing { max_lifetime: Some(0), ..free() },
        Narrowing { required_caveats: required.clone(), ..free() },
        Narrowing { tenants: ours(&["acme"]), max_lifetime: Some(3600), required_caveats: required },
    ];
    let clients = bounds.map(|narrowing| {
        let n = 20 + world.operate(&Status {}).clients as u8;
        world.client(n, Role::Mint(MintPower { narrowing, ..full_power() }))
    });
    for tenant in ["acme", "beta", "other"] {
        world.key(tenant, None, KeyClass::Ordinary);
    }
    // Not at the beginning of a second, as no caller is.
    world.clock.advance(1);
    let at = |seconds: u64| Expiry::At(Timestamp::from_millis(NOW + 1000 * seconds).unwrap());
    let good = || mint("acme");
    let never = Mint { expiry: Expiry::Never, never_expires: Permit::Given, ..good() };
    let bare = Mint { caveats: vec![], unrestricted: Permit::Given, ..good() };
    let (tenant, life, caveat) =
        (Some("another tenant"), Some("a longer life"), Some("a required caveat is missing"));
    let table = [
        (good(), [None, tenant, None, life, None, None]),
        (mint("beta"), [None, tenant, None, life, None, tenant]),
        (mint("other"), [tenant, tenant, None, life, None, tenant]),
        (Mint { expiry: Expiry::After(3601), ..good() }, [None, tenant, life, life, None, life]),
        (Mint { expiry: at(3600), ..good() }, [None, tenant, None, life, None, None]),
        (Mint { expiry: at(3602), ..good() }, [None, tenant, life, life, None, life]),
        (never, [None, tenant, life, life, None, life]),
        (bare, [None, tenant, None, life, caveat, caveat]),
    ];
    for (row, (mint, bounds)) in table.into_iter().enumerate() {
        for (column, (client, bound)) in clients.iter().zip(bounds).enumerate() {
            let before = world.operate(&Status {}).tokens;
            let answer = world.call(*client, &mint);
            assert_eq!(answer.is_ok(), bound.is_none(), "{row} {column}");
            if let Err(error) = answer {
                assert_eq!((error.code, Some(error.detail.as_str())), (Code::OutsideRole, bound));
                assert_eq!(world.operate(&Status {}).tokens, before);
            }
        }
    }
}

#[test]
fn audience_keys_are_vouched_for_to_their_audience_only() {
    let world = World::new();
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    world.key("acme", Some("billing"), KeyClass::Ordinary);
    world.key("acme", Some("billing"), KeyClass::Delegable);
    let clients = [
        (world.client(10, Role::Verify(None)), None),
        (world.client(11, Role::Verify(audience("billing"))), audience("billing")),
        (world.client(12, Role::Verify(audience("web"))), audience("web")),
    ];
    for (aud, class) in [
        (None, KeyClass::Ordinary),
        (audience("billing"), KeyClass::Ordinary),
        (audience("billing"), KeyClass::Delegable),
    ] {
        let minted = world.call(minter, &Mint { audience: aud.clone(), class, ..mint("acme") }).unwrap();
        for (client, own) in &clients {
            let allowed = aud.is_none() || aud == *own;
            match world.verify(*client, minted.token.expose()) {
                Ok(answer) => assert!(allowed && answer.facts.class == class),
                Err(error) => assert!(!allowed && error.code == Code::WrongAudience, "{error}"),
            }
        }
    }
}

#[test]
fn delegated_keys_go_to_their_audience_and_forge_for_nobody_else() {
    let world = World::new();
    let billing = world.client(10, Role::Keys(name("billing")));
    let web = world.client(11, Role::Keys(name("web")));
    let web_verifier = world.client(12, Role::Verify(audience("web")));
    let own_verifier = world.client(13, Role::Verify(audience("billing")));
    world.key("acme", Some("billing"), KeyClass::Ordinary);
    let key = world.key("acme", Some("billing"), KeyClass::Delegable);
    assert!(world.call(web, &FetchKeys { from: Cursor::default() }).unwrap().items.is_empty());
    let page = world.call(billing, &FetchKeys { from: Cursor::default() }).unwrap();
    let [delegated] = &page.items[..] else { panic!("ordinary keys never leave") };
    assert_eq!(delegated.key, key.key);
    // The service of that audience can make tokens: only it is told that they hold.
    let identifier = tkcore::Identifier {
        caveats_at_mint: 1,
        key: delegated.key,
        lineage: lineage(9),
        expiry: None,
        service: None,
        subject: None,
    };
    let root = tkcore::RootKey::from_derived(delegated.root.expose());
    let forged = tkcore::mint(&identifier, &["action = admin"], &root).unwrap();
    let forged = forged.as_token().as_v2();
    world.verify(own_verifier, forged).unwrap();
    assert_eq!(code(world.verify(web_verifier, forged)), Code::WrongAudience);
}

#[test]
fn a_repeated_request_gives_the_same_bytes_and_other_parameters_are_refused() {
    let mut world = World::new();
    let minter = world.minter();
    let other = world.client(5, Role::Mint(full_power()));
    world.key("acme", None, KeyClass::Ordinary);
    let id = world.id();
    let first = world.call_as(minter, Peer::Control, id, &mint("acme")).unwrap();
    world.restart();
    let again = world.call_as(minter, Peer::Control, id, &mint("acme")).unwrap();
    assert!(first.token.ct_eq(&again.token));
    let changed = Mint { subject: None, ..mint("acme") };
    assert_eq!(code(world.call_as(minter, Peer::Control, id, &changed)), Code::IdempotencyConflict);
    let theirs = world.call_as(other, Peer::Control, id, &mint("acme")).unwrap();
    assert!(!first.token.ct_eq(&theirs.token), "an id belongs to its client");
    assert_eq!(world.operate(&Status {}).tokens, 2);
}

#[test]
fn removing_a_client_ends_it_with_its_next_request() {
    let world = World::new();
    let revoker = world.client(4, Role::Revoke);
    let target = || revoke(RevokeTarget::Token(lineage(1)));
    world.call(revoker, &target()).unwrap();
    world.operate(&ClientRemove { key: revoker });
    assert_eq!(code(world.call(revoker, &target())), Code::NotAllowed);
    assert_eq!(
        code(world.call(OPERATOR, &ClientRemove { key: OPERATOR })),
        Code::Conflict,
        "the last operator"
    );
}

#[test]
fn a_key_from_the_state_folder_speaks_on_the_control_socket_only() {
    let mut world = World::new();
    let far = Peer::Tcp("192.0.2.1:1".parse().unwrap());
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    for _ in 0..2 {
        for peer in [far, Peer::Unix] {
            assert_eq!(code(world.call_as(OPERATOR, peer, world.id(), &Status {})), Code::NotAllowed);
            world.call_as(minter, peer, world.id(), &mint("acme")).unwrap();
        }
        world.call_as(OPERATOR, Peer::Control, world.id(), &Status {}).unwrap();
        world.restart();
    }
}

#[test]
fn roles_are_looked_up_before_parameters_are_parsed() {
    let world = World::new();
    let verifier = world.client(3, Role::Verify(None));
    for operation in Operation::ALL {
        let mut request = operation.code().to_be_bytes().to_vec();
        request.push(0);
        request.extend_from_slice(world.id().as_bytes());
        request.extend_from_slice(b"\xff\xff garbage");
        let answer = world.raw(verifier, Peer::Control, &request);
        let Ok(Response::Error(error)) = Response::decode(&answer) else { panic!("{operation}") };
        let own = *operation == Operation::Verify;
        assert_eq!(error.code, if own { Code::BadParameters } else { Code::NotAllowed }, "{operation}");
        // A key that is no client's gets one constant answer to anything.
        let stranger = world.raw(ClientKey::from_bytes([99; 32]), Peer::Control, &request);
        assert_eq!(stranger, Response::error(&Code::NotAllowed.error()));
    }
}

/// PR-82, PR-88.
#[test]
fn rotation_overlaps_and_retirement_kills() {
    let mut world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    let first = world.key("acme", None, KeyClass::Ordinary);
    assert_eq!(
        code(
            world.call(
                OPERATOR,
                &KeyCreate { tenant: name("acme"), audience: None, class: KeyClass::Ordinary }
            )
        ),
        Code::AlreadyExists
    );
    let old = world.call(minter, &mint("acme")).unwrap();
    let second = world.operate(&KeyRotate { key: first.key });
    assert_eq!(second.generation, 2);
    let new = world.call(minter, &mint("acme")).unwrap();
    assert_eq!((old.key, new.key), (first.key, second.key));
    world.restart();
    world.verify(verifier, old.token.expose()).unwrap();
    let list = world.operate(&KeyList { tenant: None, from: Cursor::default() });
    let live: Vec<_> =
        list.items.iter().map(|info| (info.generation, info.state, info.live_tokens)).collect();
    assert!(
        live.contains(&(1, KeyState::Verifying, 1)) && live.contains(&(2, KeyState::Current, 1)),
        "{live:?}"
    );
    world.operate(&KeyRetire { key: first.key });
    assert_eq!(world.operate(&KeyRetire { key: first.key }).state, KeyState::Retired);
    assert_eq!(world.operate(&Status {}).revocations, 1, "everybody hears of it by the feed");
    for _ in 0..2 {
        assert_eq!(code(world.verify(verifier, old.token.expose())), Code::UnknownKey);
        world.verify(verifier, new.token.expose()).unwrap();
        world.restart();
    }
}

#[test]
fn rewrap_moves_every_record_and_the_old_secret_is_refused() {
    let mut world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    let next: Vec<u8> = (0..32).map(|i: u8| i ^ 0x5a).collect();
    let rewrap = || Rewrap { secret: SecretBytes::new(next.clone()) };
    let far = Peer::Tcp("192.0.2.1:1".parse().unwrap());
    let remote = world.client(7, Role::Operator);
    assert_eq!(code(world.call_as(remote, far, world.id(), &rewrap())), Code::NotAllowed);
    let answer = world.operate(&rewrap());
    assert!(answer.records >= 8, "{answer:?}");
    assert_eq!(world.operate(&rewrap()).records, 0, "repeating it finds the work done");
    let after = world.call(minter, &mint("acme")).unwrap();
    world.close();
    assert!(matches!(world.try_open(&secret(1)), Err(SignerError::WrongSecret)));
    let next = tksign::Secret::new(next.clone()).unwrap();
    world.signer = Some(world.try_open(&next).unwrap());
    for token in [&minted, &after] {
        world.verify(verifier, token.token.expose()).unwrap();
    }
}

#[test]
fn lists_come_in_pages_and_lose_nothing() {
    let world = World::new();
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    world.key("other", None, KeyClass::Ordinary);
    let mut minted: Vec<_> = (0..1100).map(|_| world.call(minter, &mint("acme")).unwrap().lineage).collect();
    world.call(minter, &mint("other")).unwrap();
    let mut listed = Vec::new();
    let mut from = Cursor::default();
    loop {
        let asked =
            TokenList { tenant: Some(name("acme")), subject: Some(name("user:1")), parent: None, from };
        let page = world.operate(&asked);
        listed.extend(page.items.iter().map(|item| item.lineage));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    minted.sort();
    assert_eq!(listed, minted);
    let mut lines = 0u64;
    let mut from = Cursor::default();
    loop {
        let page = world.operate(&AuditTail { line: 1, from });
        for line in &page.items {
            lines += 1;
            assert_eq!(line.line, lines);
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(lines, world.operate(&Status {}).audit_lines);
}

#[test]
fn last_seen_is_noted_when_the_signer_stops() {
    let mut world = World::new();
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    world.clock.advance(5_000);
    world.verify(verifier, minted.token.expose()).unwrap();
    world.restart();
    let info = world.operate(&TokenShow { lineage: minted.lineage });
    assert_eq!(info.last_seen, Timestamp::from_millis(NOW + 5_000));
    assert_eq!((info.label, info.revoked), (Some(name("a label")), None));
}

/// PR-89. An operator that cannot speak is none to be left with.
#[test]
fn the_last_operator_that_works_stays() {
    let world = World::new();
    let second = ClientKey::from_bytes([9; 32]);
    let expiry = Timestamp::from_millis(NOW + 60_000);
    world.operate(&ClientAdd { key: second, name: name("second"), role: Role::Operator, expiry });
    world.clock.advance(120_000);
    assert_eq!(code(world.call(OPERATOR, &ClientRemove { key: OPERATOR })), Code::Conflict);
    // An ended one may go, and with a working one beside it the first may as well.
    world.operate(&ClientRemove { key: second });
    let third = ClientKey::from_bytes([8; 32]);
    let add = |role| ClientAdd { key: third, name: name("third"), role, expiry: None };
    world.operate(&add(Role::Operator));
    assert_eq!(code(world.call(OPERATOR, &add(Role::Revoke))), Code::AlreadyExists);
    world.operate(&ClientRemove { key: OPERATOR });
}

/// What a clock that was far ahead leaves behind is told, and no head is signed that nobody
/// would believe.
#[test]
fn a_clock_behind_the_last_head_and_the_last_mint_is_told() {
    let mut world = World::new();
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    world.clock.advance(3_600_000);
    world.restart();
    world.call(minter, &mint("acme")).unwrap();
    world.close();
    world.clock.set(NOW + 60_000);
    world.open();
    let status = world.operate(&Status {});
    assert!(status.notice.as_str().contains("behind the last signed head"), "{}", status.notice);
    assert!(status.head_issued.millis() >= NOW + 3_600_000);
    assert_eq!(code(world.call(minter, &mint("acme"))), Code::ClockApart);
    let head = world.signer().feed.get("head");
    assert!(head.is_none(), "nothing new is published, and nothing that lies ahead");
    // The way on that is named: the clock set right.
    world.close();
    world.clock.set(NOW + 3_600_000);
    world.open();
    assert_eq!(world.operate(&Status {}).notice.as_str(), "");
    world.call(minter, &mint("acme")).unwrap();
}

/// The clock was a month ahead: nothing is minted when it is right again, until the command says so;
/// then no token from ahead is left alive, and what ran out by the wrong clock is in force again.
#[test]
fn a_mint_clock_that_was_ahead_is_turned_back_by_a_command() {
    const AHEAD: u64 = 30 * 86_400_000;
    let mut world = World::new();
    let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
    let verifier = world.client(3, Role::Verify(None));
    world.key("acme", None, KeyClass::Ordinary);
    let real = SystemClock.now().millis();
    world.clock.set(real);
    world.restart();
    let kill = |world: &World, lineage| {
        world.call(revoker, &revoke(RevokeTarget::Token(lineage))).unwrap();
    };
    let good = world.call(minter, &Mint { expiry: Expiry::After(90 * 86_400), ..mint("acme") }).unwrap();
    let dead = world.call(minter, &mint("acme")).unwrap();
    kill(&world, dead.lineage);
    world.close();

    world.clock.set(real + AHEAD);
    world.open();
    let ahead = world.call(minter, &mint("acme")).unwrap();
    kill(&world, lineage(9));
    world.close();
    world.open();
    world.close();

    world.clock.set(real);
    world.open();
    assert_eq!(code(world.call(minter, &mint("acme"))), Code::ClockApart);
    let notice = world.operate(&Status {}).notice;
    assert!(notice.as_str().contains("ahead") || notice.as_str().contains("behind"), "{notice}");
    // What the wrong clock did: the revocation has run out, the token has not.
    assert!(world.verify(verifier, dead.token.expose()).is_ok());
    world.close();

    let done = turn_back(&world);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(said["minted ahead, revoked"], 1, "{said}");
    assert!(said["revoked before, in force again"].as_u64().unwrap() >= 1, "{said}");
    let again = turn_back(&world);
    assert_eq!(again.code, Some(10), "{}", again.stderr);
    assert!(again.stderr.contains("not ahead of the clock"), "{}", again.stderr);

    // The command's own clock is the machine's, which is a little later than the test's by now.
    world.clock.set(SystemClock.now().millis());
    world.open();
    world.verify(verifier, good.token.expose()).unwrap();
    assert_eq!(code(world.verify(verifier, dead.token.expose())), Code::Revoked);
    assert_eq!(world.operate(&TokenShow { lineage: ahead.lineage }).revoked, Some(Rule::Token));
    let fresh = world.call(minter, &mint("acme")).unwrap();
    world.verify(verifier, fresh.token.expose()).unwrap();
    let everything = revoke(RevokeTarget::Global(Floor::Now));
    let floor = world.call(revoker, &everything).unwrap().before.unwrap();
    assert!(floor.millis() < real + AHEAD, "a floor lies above the right clock: {floor}");
    // The month goes by: nothing that was minted ahead comes to life, whatever floor there is.
    world.close();
    world.clock.set(real + AHEAD + 1_000);
    world.open();
    assert_eq!(code(world.verify(verifier, ahead.token.expose())), Code::Revoked);
    world.close();
    assert!(tksign::Signer::verify_audit(world.path()).is_ok());
}

/// Heads alone were ahead: nothing waits for the mint time, and what ran out comes back all the same,
/// also when the epoch was raised before.
#[test]
fn what_ran_out_comes_back_although_nothing_was_minted_ahead() {
    let mut world = World::new();
    let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
    let verifier = world.client(3, Role::Verify(None));
    world.key("acme", None, KeyClass::Ordinary);
    let real = SystemClock.now().millis();
    world.clock.set(real);
    world.restart();
    let dead = world.call(minter, &mint("acme")).unwrap();
    world.call(revoker, &revoke(RevokeTarget::Token(dead.lineage))).unwrap();
    world.close();
    // The first head is signed by the wrong clock, the next one drops by it.
    world.clock.set(real + 30 * 86_400_000);
    world.open();
    world.restart();
    world.close();

    world.clock.set(real);
    world.open();
    let notice = world.operate(&Status {}).notice;
    assert!(notice.as_str().contains("--mint-clock-back"), "{notice}");
    assert!(world.verify(verifier, dead.token.expose()).is_ok(), "what the wrong clock did");
    world.close();
    let done = turn_back(&world);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&said["minted ahead, revoked"], &said["revoked before, in force again"]),
        (&0.into(), &1.into())
    );
    assert_eq!(said["last mint was"], said["last mint is"], "it was right");
    world.open();
    assert_eq!(code(world.verify(verifier, dead.token.expose())), Code::Revoked);
    world.close();
    let again = turn_back(&world);
    assert_eq!(again.code, Some(10), "{}", again.stderr);
    assert!(again.stderr.contains("no revocation that the audit log knows is missing"), "{}", again.stderr);
}

/// What was minted ahead is read from lines. When any of them may be pruned nothing is taken back,
/// also when what is left begins after the clock was right again.
#[test]
fn a_mint_clock_is_not_turned_back_over_pruned_lines() {
    let mut world = World::new();
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    let real = SystemClock.now().millis();
    world.clock.set(real + 30 * 86_400_000);
    world.restart();
    world.call(minter, &mint("acme")).unwrap();
    let between = world.operate(&Status {}).audit_lines;
    world.call(minter, &mint("acme")).unwrap();
    world.clock.set(real);
    // One line by the right clock, which is all that is kept at last.
    world.restart();
    world.client(5, Role::Operator);
    let last = world.operate(&Status {}).audit_lines;
    for before in [between + 1, last] {
        world.operate(&AuditPrune { before });
        world.close();
        let done = turn_back(&world);
        assert_eq!(done.code, Some(10), "{} {}", done.stdout, done.stderr);
        assert!(done.stderr.contains("were pruned"), "{}", done.stderr);
        assert!(!done.stderr.contains("backup"), "no row was lost: {}", done.stderr);
        world.open();
        assert_eq!(code(world.call(minter, &mint("acme"))), Code::ClockApart);
    }
}
