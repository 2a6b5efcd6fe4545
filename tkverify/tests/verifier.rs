//! What a verifier decides, against the signer and the feed of the testing kit.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and may read the clock"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tkcore::revocation::{Revocation, Rule};
use tkcore::{
    Error, Grant, KeyClass, KeyId, Malformed, NotAuthentic, NotKnowable, Owner, Refusal, RefusalCause,
    RootKey, Tenant, TokenBuf, TokenText, Vocabulary, attenuate, danger,
};
use tkverify::testing::{Kit, Spec};
use tkverify::{
    BuildError, Clock, Diligence, Freshness, GRACE_MAXIMUM, HeldKey, Verifier, WAITING_BYTES_MINIMUM,
    WhenStale,
};

/// A service that takes tokens for the whole tenant, so that a test needs no caveat.
fn wide(kit: &Kit) -> tkverify::Builder {
    kit.builder().vocabulary(danger::admit_tenant_wide(Vocabulary::builder()).build().unwrap())
}

/// Longer than any test waits for something that does happen.
const LONG: Duration = Duration::from_secs(120);

/// Its callers wait as long as a test does, not until a loaded machine has exhausted theirs.
fn patient(kit: &Kit) -> tkverify::Builder {
    kit.builder().patience(LONG)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what}");
        thread::yield_now();
    }
}

fn narrowed(token: &TokenText, caveats: &[&str]) -> TokenText {
    let (_, token) = TokenBuf::from_text(token.as_str()).unwrap();
    attenuate(&token.as_token(), caveats).unwrap().to_text()
}

fn check(verifier: &Verifier, token: &TokenText, action: &str) -> Result<Grant, Error> {
    let request = verifier.request("acme").action(action).build().unwrap();
    verifier.check(format!("Bearer {}", token.as_str()), &request)
}

/// The branch id of every point of the chain, as the signer would answer them.
fn branches(kit: &Kit, token: &TokenText) -> Vec<tkcore::BranchId> {
    use tkverify::Signer as _;
    let (_, token) = TokenBuf::from_text(token.as_str()).unwrap();
    // One more caveat, so that the token's own point is an earlier one.
    let longer = attenuate(&token.as_token(), &["action in read"]).unwrap();
    let presented = tkcore::Presented::new(longer.as_token(), &[]).unwrap();
    kit.signer().verify(&presented, None).unwrap().branches
}

#[test]
fn the_signer_is_asked_once_a_lineage_and_extensions_are_decided_here() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").subject("user:7").caveat("action in read,write"));
    let grant = check(&verifier, &token, "read").unwrap();
    assert_eq!((grant.tenant(), grant.subject()), ("acme", Some("user:7")));
    kit.signer().stop();
    let child = narrowed(&token, &["action in read"]);
    assert!(check(&verifier, &token, "write").is_ok());
    assert!(check(&verifier, &child, "read").is_ok());
    let refused = check(&verifier, &child, "write").unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    assert_eq!(kit.signer().asked(), 1);
    let metrics = verifier.metrics();
    assert_eq!((metrics.memory_misses, metrics.memory_hits, metrics.asks), (1, 3, 1));
    assert_eq!((metrics.granted, metrics.refused_request), (3, 1));
}

#[test]
fn a_parent_seen_after_its_child_is_asked_about_since_no_earlier_tail_is_known() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let parent = kit.mint(&Spec::new("acme").caveat("action in read,write"));
    let child = narrowed(&parent, &["action in read"]);
    assert!(check(&verifier, &child, "read").is_ok());
    assert!(check(&verifier, &parent, "write").is_ok());
    assert_eq!(kit.signer().asked(), 2);
}

#[test]
fn a_known_prefix_with_a_wrong_tail_is_refused_here() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    assert!(check(&verifier, &token, "read").is_ok());
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let mut bytes = buf.as_token().as_v2().to_vec();
    for bit in 0..256 {
        let at = bytes.len() - 1 - bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let forged = TokenBuf::from_v2(bytes.clone()).unwrap().to_text();
        let error = check(&verifier, &forged, "read").unwrap_err();
        assert_eq!(error, NotAuthentic::Signature.into(), "{bit}");
        bytes[at] ^= 1 << (bit % 8);
    }
    // A caveat appended to a tail that does not belong to it.
    bytes.last_mut().unwrap().clone_from(&0);
    assert_eq!(kit.signer().asked(), 1);
}

#[test]
fn a_refusal_is_not_remembered() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let mut bytes = buf.as_token().as_v2().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = TokenBuf::from_v2(bytes).unwrap().to_text();
    assert_eq!(check(&verifier, &forged, "read"), Err(NotAuthentic::Signature.into()));
    assert_eq!(verifier.metrics().memory_lineages, 0);
    // The true token of the same lineage is asked about and granted.
    assert!(check(&verifier, &token, "read").is_ok());
    assert_eq!(kit.signer().asked(), 2);
}

#[test]
fn every_rule_refuses_a_known_lineage() {
    let spec = Spec::new("acme").subject("user:7").caveat("action in read");
    let rule = |revoke: &dyn Fn(&Kit, &Grant, &TokenText)| {
        let kit = Kit::new();
        let verifier = kit.verifier();
        let token = kit.mint(&spec);
        let grant = check(&verifier, &token, "read").unwrap();
        kit.clock().advance(Duration::from_secs(1));
        revoke(&kit, &grant, &token);
        let error = check(&verifier, &token, "read").unwrap_err();
        assert_eq!(error.owner(), Owner::Holder);
        assert_eq!(verifier.metrics().refused_revoked, 1);
        error
    };
    let revoked = |rule| Error::Revoked(rule);
    assert_eq!(rule(&|kit, grant, _| kit.revoke_token(grant.lineage())), revoked(Rule::Token));
    let branch = |kit: &Kit, _: &Grant, token: &TokenText| {
        let branch = *branches(kit, token).last().unwrap();
        kit.revoke(Revocation::Branch { branch });
    };
    assert_eq!(rule(&branch), revoked(Rule::Branch));
    let key = |kit: &Kit, grant: &Grant, _: &TokenText| {
        kit.revoke(Revocation::Key { key: grant.key(), before: None });
    };
    assert_eq!(rule(&key), revoked(Rule::Key));
    let global = |kit: &Kit, _: &Grant, _: &TokenText| {
        kit.revoke(Revocation::Global { before: kit.clock().read().wall });
    };
    assert_eq!(rule(&global), revoked(Rule::Global));
}

#[test]
fn a_child_seen_first_and_its_parents_branch_revoked_afterwards() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let root = kit.mint(&Spec::new("acme").caveat("action in read,write"));
    let parent = narrowed(&root, &["action in read"]);
    let child = narrowed(&parent, &["app in 17"]);
    let sibling = narrowed(&root, &["action in read,write"]);
    let request = verifier.request("acme").action("read").text("app", "17").build().unwrap();
    let check = |token: &TokenText| verifier.check(kit.header(token), &request);
    // Only the child was ever seen: the branch ids of the points before it are the signer's.
    assert!(check(&child).is_ok());
    let branch = *branches(&kit, &parent).last().unwrap();
    kit.publish(Revocation::Branch { branch });
    assert_eq!(check(&child), Err(Error::Revoked(Rule::Branch)));
    let grandchild = narrowed(&child, &["action in read"]);
    assert_eq!(check(&grandchild), Err(Error::Revoked(Rule::Branch)));
    // Nothing else of the lineage is hit.
    assert!(check(&root).is_ok());
    assert!(check(&sibling).is_ok());
}

#[test]
fn a_branch_that_is_rolled_here_is_tested_too() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let root = kit.mint(&Spec::new("acme").caveat("action in read"));
    assert!(check(&verifier, &root, "read").is_ok());
    let child = narrowed(&root, &["action in read"]);
    kit.publish(Revocation::Branch { branch: *branches(&kit, &child).last().unwrap() });
    let asked = kit.signer().asked();
    assert_eq!(check(&verifier, &child, "read"), Err(Error::Revoked(Rule::Branch)));
    assert!(check(&verifier, &root, "read").is_ok());
    assert_eq!(kit.signer().asked(), asked);
}

#[test]
fn a_revocation_that_arrives_while_an_answer_is_in_flight_wins() {
    let kit = Arc::new(Kit::new());
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let lineage = buf.as_token().claimed_identifier().unwrap().lineage;
    let weak = Arc::downgrade(&kit);
    // The signer has decided that the token is good; before its answer is received, the feed
    // brings the revocation.
    kit.signer().while_answering(move |_| {
        weak.upgrade().unwrap().publish(Revocation::Token { lineage });
    });
    assert_eq!(check(&verifier, &token, "read"), Err(Error::Revoked(Rule::Token)));
    // Remembered or not, it stays refused.
    assert_eq!(check(&verifier, &token, "read"), Err(Error::Revoked(Rule::Token)));
}

#[test]
fn identical_presentations_share_one_ask_and_a_refusal_reaches_only_them() {
    const CALLERS: usize = 8;
    let kit = Arc::new(Kit::new());
    let verifier = patient(&kit).build().unwrap();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    // The first answer is held until all others wait for it.
    let (asked, asking) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    kit.signer().while_answering(move |_| {
        asked.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
    });
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| check(&verifier, &token, "read").is_ok())).collect();
        asking.recv().unwrap();
        until("all but one wait", || verifier.metrics().waiting == CALLERS as u64 - 1);
        release.send(()).unwrap();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
    });
    assert_eq!(kit.signer().asked(), 1);
    assert_eq!(verifier.metrics().asks_shared, CALLERS as u64 - 1);
}

#[test]
fn a_waiter_whose_presentation_differs_looks_at_memory_again() {
    let kit = Arc::new(Kit::new());
    let verifier = patient(&kit).asks(1, 16).build().unwrap();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let child = narrowed(&token, &["action in read"]);
    let (asked, asking) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    kit.signer().while_answering(move |_| {
        asked.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
    });
    thread::scope(|scope| {
        let first = scope.spawn(|| check(&verifier, &token, "read").is_ok());
        asking.recv().unwrap();
        let second = scope.spawn(|| check(&verifier, &child, "read").is_ok());
        until("one waits", || verifier.metrics().waiting == 1);
        release.send(()).unwrap();
        assert!(first.join().unwrap() && second.join().unwrap());
    });
    // The parent's answer covers the child: one ask in all.
    assert_eq!(kit.signer().asked(), 1);
    assert_eq!(verifier.metrics().asks_spared, 1);
}

#[test]
fn who_must_have_the_signers_word_shares_no_ask_that_began_before() {
    let kit = Arc::new(Kit::new());
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let lineage = buf.as_token().claimed_identifier().unwrap().lineage;
    let weak = Arc::downgrade(&kit);
    let (asked, asking) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    // The first answer is decided, and held while the token is revoked at the signer.
    let first = AtomicU64::new(0);
    kit.signer().while_answering(move |_| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            weak.upgrade().unwrap().signer().revoke(Revocation::Token { lineage });
            asked.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
    });
    thread::scope(|scope| {
        let usual = scope.spawn(|| check(&verifier, &token, "read").is_ok());
        asking.recv().unwrap();
        let request = verifier.request("acme").action("read").build().unwrap();
        let verdict = verifier.check_with(kit.header(&token), &request, Diligence::AskSigner);
        release.send(()).unwrap();
        assert_eq!(verdict, Err(Error::Revoked(Rule::Token)));
        assert!(usual.join().unwrap());
    });
    assert_eq!(kit.signer().asked(), 2);
}

#[test]
fn a_token_that_becomes_known_while_another_is_asked_about_is_judged() {
    let kit = Arc::new(Kit::new());
    let verifier = kit.verifier();
    let good = kit.mint(&Spec::new("acme").caveat("action in read"));
    let bad = kit.mint(&Spec::new("acme").caveat("action in read"));
    let (_, buf) = TokenBuf::from_text(bad.as_str()).unwrap();
    kit.signer().revoke(Revocation::Token { lineage: buf.as_token().claimed_identifier().unwrap().lineage });
    // While the signer refuses the first, another request has the second vouched for.
    let (other, header) = (verifier.clone(), kit.header(&good));
    let first = AtomicU64::new(0);
    kit.signer().while_answering(move |_| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            let request = other.request("acme").action("read").build().unwrap();
            assert!(other.check(&header, &request).is_ok());
        }
    });
    let request = verifier.request("acme").action("read").build().unwrap();
    let both = format!("Bearer {},{}", bad.as_str(), good.as_str());
    assert!(verifier.check(both, &request).is_ok());
    assert_eq!(kit.signer().asked(), 2);
}

#[test]
fn a_flood_of_strangers_gets_503_and_known_lineages_do_not_notice() {
    let kit = Arc::new(Kit::new());
    let verifier = patient(&kit).asks(4, 4).build().unwrap();
    let known = kit.mint(&Spec::new("acme").caveat("action in read"));
    assert!(check(&verifier, &known, "read").is_ok());
    let gate = Arc::new(Barrier::new(7));
    let entered = Arc::new(AtomicU64::new(0));
    kit.signer().while_answering({
        let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
        move |_| {
            if entered.fetch_add(1, Ordering::SeqCst) < 3 {
                gate.wait();
            }
        }
    });
    let strangers: Vec<_> = (0..20).map(|_| kit.mint(&Spec::new("acme").caveat("action in read"))).collect();
    thread::scope(|scope| {
        // Three ask and are held, three wait: that is all strangers get of a pool of four.
        let held: Vec<_> = strangers[..6]
            .iter()
            .map(|token| {
                let verifier = &verifier;
                scope.spawn(move || check(verifier, token, "read"))
            })
            .collect();
        until("three ask and three wait", || {
            let now = verifier.metrics();
            (now.asking, now.waiting) == (3, 3)
        });
        for token in &strangers[6..] {
            assert_eq!(check(&verifier, token, "read"), Err(NotKnowable::TooManyAsks.into()));
        }
        assert_eq!(verifier.metrics().asks_refused, 14);
        for _ in 0..1000 {
            assert!(check(&verifier, &known, "read").is_ok());
        }
        for _ in 0..4 {
            let gate = Arc::clone(&gate);
            scope.spawn(move || gate.wait());
        }
        assert!(held.into_iter().all(|caller| caller.join().unwrap().is_ok()));
    });
}

/// The guide's lines for Python holders, run by Python.
#[test]
fn a_token_that_pymacaroons_narrowed_is_taken_as_ours() {
    let name = "a_token_that_pymacaroons_narrowed_is_taken_as_ours";
    let Some(python) = testkit::need(name, "python3", ".ci/run install") else { return };
    let there = std::process::Command::new(&python).args(["-c", "import pymacaroons"]).output().unwrap();
    if !there.status.success() {
        return testkit::not_run(name, "pymacaroons is", ".ci/run install");
    }
    let guide = include_str!("../../docs/guides/migrate-macaroon.md");
    let (_, rest) = guide.split_once("```python\n").unwrap();
    let (lines, _) = rest.split_once("```").unwrap();
    let lines = lines.lines().map(|line| format!("{}\n", line.trim())).collect::<String>();
    let script = format!("import sys\ntext = sys.stdin.read()\n{lines}print(text, end='')\n");

    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").subject("user:7").caveat("action in read,write"));
    let narrowed = testkit::process::run(python, ["-c", &script], token.as_str().as_bytes());
    assert_eq!(narrowed.code, Some(0), "{}", narrowed.stderr);
    let request = |action| verifier.request("acme").action(action).build().unwrap();
    let header = format!("Bearer {}", narrowed.stdout);
    assert!(verifier.check(&*header, &request("read")).is_ok(), "{header}");
    assert_eq!(verifier.check(&*header, &request("write")).unwrap_err().code(), "caveat");
    assert!(check(&verifier, &token, "write").is_ok(), "the wider one is what it was");
}

#[test]
fn health_says_why_the_last_ask_brought_nothing() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let [first, second, third] = [(); 3].map(|()| kit.mint(&Spec::new("acme").caveat("action in read")));
    assert!(check(&verifier, &first, "read").is_ok());
    assert!(verifier.health().reasons.is_empty());
    kit.signer().stop();
    assert_eq!(check(&verifier, &second, "read"), Err(NotKnowable::SignerUnreachable.into()));
    let health = verifier.health();
    assert_eq!(health.reasons, ["an ask 0 s ago: the test stopped it"]);
    assert!(health.is_ready() && health.to_string().starts_with("fresh; "), "known lineages are decided");
    // When nobody asks, it is told for some minutes and not for ever.
    kit.clock().advance(Duration::from_secs(100));
    assert!(verifier.health().reasons.contains(&"an ask 100 s ago: the test stopped it".to_owned()));
    kit.clock().advance(Duration::from_secs(300));
    let reasons = verifier.health().reasons;
    assert!(!reasons.iter().any(|reason| reason.contains("ask")), "{reasons:?}");
    kit.heartbeat();
    // A refusal is an answer.
    kit.signer().start();
    kit.signer().revoke(Revocation::Global {
        before: kit.clock().read().wall.saturating_add(Duration::from_secs(9)),
    });
    assert!(check(&verifier, &third, "read").is_err());
    assert!(verifier.health().reasons.is_empty());
}

#[test]
fn stale_refuses_by_default_and_the_policies_of_an_action_are_kept() {
    let kit = Kit::new();
    let token = kit.mint(&Spec::new("acme").life(None).caveat("action in read,list,write"));
    let refusing = kit.verifier();
    let asking = kit.builder().when_stale(WhenStale::Ask).build().unwrap();
    let grace = kit.builder().grace("read", Duration::from_secs(600)).build().unwrap();
    for verifier in [&refusing, &asking, &grace] {
        assert!(check(verifier, &token, "read").is_ok());
        assert_eq!(verifier.health().freshness, Freshness::Fresh);
    }
    kit.clock().advance(Duration::from_secs(120));
    assert_eq!(refusing.health().freshness, Freshness::Aging);
    assert!(check(&refusing, &token, "read").is_ok());
    kit.clock().advance(Duration::from_secs(3600 - 120));
    assert_eq!(refusing.health().freshness, Freshness::Stale);
    assert!(!refusing.health().is_ready());
    assert_eq!(check(&refusing, &token, "read"), Err(NotKnowable::Stale.into()));
    let asked = kit.signer().asked();
    assert!(check(&asking, &token, "read").is_ok());
    assert!(check(&asking, &token, "read").is_ok());
    assert_eq!(kit.signer().asked(), asked + 2);
    assert!(check(&grace, &token, "read").is_ok());
    assert_eq!(check(&grace, &token, "list"), Err(NotKnowable::Stale.into()));
    kit.clock().advance(Duration::from_secs(600));
    assert!(check(&grace, &token, "read").is_ok());
    kit.clock().advance(Duration::from_millis(1));
    assert_eq!(check(&grace, &token, "read"), Err(NotKnowable::Stale.into()));
    assert_eq!(grace.metrics().graced, 2);
    // What the feed has not brought, the asked signer knows.
    kit.signer().stop();
    assert_eq!(check(&asking, &token, "read"), Err(NotKnowable::SignerUnreachable.into()));
    kit.signer().start();
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let lineage = buf.as_token().claimed_identifier().unwrap().lineage;
    kit.signer().revoke(Revocation::Token { lineage });
    assert_eq!(check(&asking, &token, "read"), Err(Error::Revoked(Rule::Token)));
    // Fresh again, and the feed decides.
    kit.revoke_token(lineage);
    assert_eq!(check(&refusing, &token, "read"), Err(Error::Revoked(Rule::Token)));
}

#[test]
fn clocks_that_are_set_thaw_nothing_and_age_what_is_old() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").life(None).caveat("action in read"));
    assert!(check(&verifier, &token, "read").is_ok());
    let start = kit.clock().read().wall;
    kit.clock().advance(Duration::from_secs(3600));
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
    kit.clock().set_wall(start);
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
    kit.clock().set_wall(tkcore::Timestamp::EPOCH);
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
    // A suspended machine: only the wall clock moved.
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").life(None).caveat("action in read"));
    assert!(check(&verifier, &token, "read").is_ok());
    kit.clock().suspend(Duration::from_secs(3600));
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
}

#[test]
fn an_expired_token_is_refused_and_a_clock_set_back_does_not_revive_it() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").life(Some(Duration::from_secs(60))).caveat("action in read"));
    assert!(check(&verifier, &token, "read").is_ok());
    kit.clock().advance(Duration::from_secs(60));
    kit.heartbeat();
    let expired = |error: Error| match error {
        Error::Refused(refusal) => matches!(refusal.cause(), RefusalCause::Expired { .. }),
        _ => false,
    };
    assert!(expired(check(&verifier, &token, "read").unwrap_err()));
    kit.clock().set_wall(tkcore::Timestamp::from_seconds(1_796_083_200).unwrap());
    assert!(expired(check(&verifier, &token, "read").unwrap_err()));
    // Never seen before and expired: the signer says so.
    let other = kit.mint(&Spec::new("acme").life(Some(Duration::from_secs(60))).caveat("action in read"));
    kit.clock().advance(Duration::from_secs(120));
    kit.heartbeat();
    assert!(expired(check(&verifier, &other, "read").unwrap_err()));
}

#[test]
fn several_tokens_in_a_header() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let reads = kit.mint(&Spec::new("acme").caveat("action in read"));
    let writes = kit.mint(&Spec::new("acme").caveat("action in write"));
    let other = kit.mint(&Spec::new("other").caveat("action in read"));
    let request = verifier.request("acme").action("write").build().unwrap();
    let all = format!("Bearer {},{},{}", reads.as_str(), other.as_str(), writes.as_str());
    // One ask a header: each try learns one more, and none keeps another from its turn.
    let mut tries = 0;
    while verifier.check(&all, &request).is_err() {
        tries += 1;
        assert!(tries <= 3);
    }
    let granted = verifier.check(&all, &request).unwrap();
    assert_eq!(granted.tenant(), "acme");
    // Facts are never merged: no one token allows this.
    let both = verifier.request("acme").action("read").action("write").build().unwrap();
    assert!(matches!(verifier.check(&all, &both), Err(Error::Refused(_) | Error::NotKnowable(_))));
    let unknown = format!("Bearer abc_123,{}", writes.as_str());
    assert!(verifier.check(&unknown, &request).is_ok());
    assert_eq!(verifier.metrics().skipped_tokens, 1);
    let malformed = format!("Bearer {},tk1_x", writes.as_str());
    assert!(matches!(verifier.check(&malformed, &request), Err(Error::Malformed(_))));
    let two = [kit.header(&writes), kit.header(&writes)];
    assert!(matches!(verifier.check_headers(&two, &request), Err(Error::Malformed(Malformed::Shape(_)))));
    assert!(verifier.check_headers(&two[..1], &request).is_ok());
    let none: [String; 0] = [];
    assert_eq!(verifier.check_headers(&none, &request), Err(Malformed::Missing.into()));
}

#[test]
fn a_forged_token_in_front_cannot_keep_the_good_one_from_being_asked_about() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let good = kit.mint(&Spec::new("acme").caveat("action in read"));
    let forged = Kit::new().mint(&Spec::new("acme").caveat("action in read"));
    let request = verifier.request("acme").action("read").build().unwrap();
    let both = format!("Bearer {},{}", forged.as_str(), good.as_str());
    let granted = (0..2).any(|_| verifier.check(&both, &request).is_ok());
    assert!(granted);
}

#[test]
fn tenant_wide_tokens_need_an_opt_in() {
    let kit = Kit::new();
    let token = kit.mint(&Spec::new("acme"));
    assert!(matches!(check(&kit.verifier(), &token, "read"), Err(Error::Refused(_))));
    let opted = wide(&kit).build().unwrap();
    assert!(check(&opted, &token, "read").is_ok());
    let child = narrowed(&token, &["action in list"]);
    assert!(matches!(check(&opted, &child, "read"), Err(Error::Refused(_))));
}

#[test]
fn audience_and_tenant_are_compared() {
    let kit = Kit::new();
    let token = kit.mint(&Spec::new("acme").audience("builds").caveat("action in read"));
    let builds = kit.builder().audience("builds").build().unwrap();
    let deploys = kit.builder().audience("deploys").build().unwrap();
    assert!(check(&builds, &token, "read").is_ok());
    assert!(check(&deploys, &token, "read").is_err());
    assert!(check(&kit.verifier(), &token, "read").is_err());
    let request = builds.request("other").action("read").build().unwrap();
    assert!(matches!(builds.check(kit.header(&token), &request), Err(Error::Refused(_))));
}

#[test]
fn the_signer_can_be_asked_in_any_case() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let request = verifier.request("acme").action("read").build().unwrap();
    for n in 1..=3 {
        assert!(verifier.check_with(kit.header(&token), &request, Diligence::AskSigner).is_ok());
        assert_eq!(kit.signer().asked(), n);
    }
    kit.signer().stop();
    let error = verifier.check_with(kit.header(&token), &request, Diligence::AskSigner).unwrap_err();
    assert_eq!(error, NotKnowable::SignerUnreachable.into());
    assert!(verifier.check(kit.header(&token), &request).is_ok());
}

#[test]
fn the_signers_word_of_now_counts_although_the_state_is_stale() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").life(None).caveat("action in read"));
    assert!(check(&verifier, &token, "read").is_ok());
    kit.clock().advance(Duration::from_secs(3600));
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
    let request = verifier.request("acme").action("read").build().unwrap();
    let ask = || verifier.check_with(kit.header(&token), &request, Diligence::AskSigner);
    assert!(ask().is_ok());
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let lineage = buf.as_token().claimed_identifier().unwrap().lineage;
    kit.signer().revoke(Revocation::Token { lineage });
    assert_eq!(ask(), Err(Error::Revoked(Rule::Token)));
    kit.signer().stop();
    assert_eq!(ask(), Err(NotKnowable::SignerUnreachable.into()));
}

#[test]
fn where_each_token_must_be_asked_about_a_header_of_two_has_its_turn_every_other_time() {
    let kit = Kit::new();
    let asking = kit.builder().when_stale(WhenStale::Ask).build().unwrap();
    let good = kit.mint(&Spec::new("acme").life(None).caveat("action in read"));
    let other = kit.mint(&Spec::new("acme").life(None).caveat("action in list"));
    let both = format!("Bearer {},{}", other.as_str(), good.as_str());
    let four_times = |diligence: Diligence| -> Vec<Result<(), Error>> {
        let request = asking.request("acme").action("read").build().unwrap();
        (0..4).map(|_| asking.check_with(&both, &request, diligence).map(drop)).collect()
    };
    let in_turn = [Err(NotKnowable::TooManyAsks.into()), Ok(())];
    let in_turn = [in_turn.clone(), in_turn].concat();
    assert_eq!(four_times(Diligence::AskSigner), in_turn);
    kit.clock().advance(Duration::from_secs(3600));
    assert_eq!(four_times(Diligence::Usual), in_turn);
    // Known and fresh, the header is decided whole.
    kit.heartbeat();
    assert!(four_times(Diligence::Usual).iter().all(Result::is_ok));
}

#[test]
fn checking_without_blocking_tells_what_it_would_have_to_ask() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let request = verifier.request("acme").action("read").build().unwrap();
    assert!(verifier.check_known(kit.header(&token), &request).is_none());
    assert_eq!(kit.signer().asked(), 0);
    assert!(verifier.check(kit.header(&token), &request).is_ok());
    assert!(verifier.check_known(kit.header(&token), &request).unwrap().is_ok());
    assert!(verifier.check_known("Bearer tk1_", &request).unwrap().is_err());
}

#[test]
fn a_request_made_with_another_clock_is_a_bug_and_not_a_grant() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read"));
    let request = verifier.request("acme").action("read").build().unwrap();
    kit.clock().advance(Duration::from_secs(60));
    kit.heartbeat();
    assert!(verifier.check(kit.header(&token), &request).is_ok());
    kit.clock().advance(Duration::from_millis(1));
    kit.heartbeat();
    assert!(matches!(verifier.check(kit.header(&token), &request), Err(Error::Bug(_))));
}

#[test]
fn own_keys_need_no_signer() {
    let kit = Kit::new();
    let rows = tkcore::revocation::TenantKey::from_bytes([7; 32]);
    let root = RootKey::derive(b"a key of this service's own");
    let id = KeyId::from_bytes([1; 8]);
    let identifier = tkcore::Identifier {
        caveats_at_mint: 1,
        key: id,
        lineage: tkcore::LineageId::new([3; 10], kit.clock().read().wall),
        expiry: None,
        service: None,
        subject: Some("user:7"),
    };
    let token = tkcore::mint(&identifier, &["action in read"], &root).unwrap().to_text();
    let key = || {
        let root = RootKey::derive(b"a key of this service's own");
        let rows = tkcore::revocation::TenantKey::from_bytes([7; 32]);
        HeldKey::new(root, Tenant::new("acme").unwrap(), None, KeyClass::Ordinary, rows)
    };
    let subject = rows.subject_row(&tkcore::Subject::new("user:7").unwrap());
    let verifier = kit.builder().own_key(id, key()).build().unwrap();
    assert!(check(&verifier, &token, "read").is_ok());
    assert_eq!((verifier.metrics().key_hits, kit.signer().asked()), (1, 0));
    kit.clock().advance(Duration::from_secs(1));
    kit.publish(Revocation::Subject { row: subject, before: kit.clock().read().wall });
    assert_eq!(check(&verifier, &token, "read"), Err(Error::Revoked(Rule::Subject)));
    // Alone: without a signer and, by a named choice, without revocation.
    let clock = tkverify::testing::TestClock::default();
    let alone =
        tkverify::danger::without_revocation(Verifier::builder().own_key(id, key()).clock(Arc::new(clock)));
    let alone = alone.build().unwrap();
    assert!(check(&alone, &token, "read").is_ok());
    let foreign = kit.mint(&Spec::new("acme").caveat("action in read"));
    assert_eq!(check(&alone, &foreign, "read"), Err(NotAuthentic::UnknownKey.into()));
}

#[test]
fn a_verifier_without_a_way_to_verify_is_not_built() {
    assert_eq!(Verifier::builder().build().err(), Some(BuildError::NoWay));
    assert_eq!(Verifier::builder().delegated_keys().build().err(), Some(BuildError::NoClientKey));
    let kit = Kit::new();
    assert!(matches!(kit.builder().asks(0, 1).build().err(), Some(BuildError::Bound(_))));
    assert!(matches!(kit.builder().stale_after(Duration::ZERO).build().err(), Some(BuildError::Bound(_))));
    assert!(matches!(kit.builder().audience("").build().err(), Some(BuildError::Audience(_))));
    assert!(kit.builder().grace("read", GRACE_MAXIMUM).build().is_ok());
    for endless in [GRACE_MAXIMUM + Duration::from_nanos(1), Duration::MAX] {
        let built = kit.builder().grace("list", Duration::ZERO).grace("read", endless).build();
        assert!(matches!(built.err(), Some(BuildError::Bound(_))));
    }
    assert!(kit.builder().waiting_bytes(WAITING_BYTES_MINIMUM).build().is_ok());
    let too_few = kit.builder().waiting_bytes(WAITING_BYTES_MINIMUM - 1);
    assert!(matches!(too_few.build().err(), Some(BuildError::Bound(_))));
    assert!(kit.builder().waiting_bytes(0).waiting_tasks(0).build().is_ok());
    let _ = Refusal::new(RefusalCause::TenantWide);
}

#[test]
fn an_explanation_is_what_a_check_would_say_line_by_line() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(&Spec::new("acme").caveat("action in read").caveat("app in 17"));
    let request = verifier.request("acme").action("write").text("app", "17").build().unwrap();
    let explained = verifier.explain(kit.header(&token), &request).unwrap();
    let text = explained[0].as_ref().unwrap().to_string();
    assert!(text.contains("action in read") && text.contains("app in 17"), "{text}");
    assert!(matches!(verifier.check(kit.header(&token), &request), Err(Error::Refused(_))));
    assert_eq!(kit.signer().asked(), 1);
    assert!(verifier.explain("Bearer tk1_", &request).is_err());
}
