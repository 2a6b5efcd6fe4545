//! Third-party caveats on our own tokens, from the ticket to the verdict, and every way in which
//! a set of discharges can be wrong (docs/spec/third-party.md).
#![cfg(all(feature = "mint", feature = "third-party"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use std::time::Duration;

use tkcore::danger::NoRevocations;
use tkcore::{
    AuthorityId, AuthorityKeys, AuthoritySecret, Basis, BranchIds, Budget, CaveatKey, ClearedTicket,
    DischargeFault, Error, Identifier, KeyClass, KeyId, LineageFacts, LineageId, Party, Presented, Request,
    RootKey, Row, Scratch, SealTo, SharedKey, Tenant, Ticket, Timestamp, Token, TokenBuf, Vocabulary,
    attenuate, attenuate_third_party, bind, mint, seal_ticket, verify,
};

fn now() -> Timestamp {
    Timestamp::from_rfc3339("2026-11-23T12:00:00Z").unwrap()
}

fn key() -> RootKey {
    RootKey::derive(b"root key")
}

fn authority() -> AuthorityId {
    AuthorityId::from_bytes([0xa1; 16])
}

fn authority_keys() -> AuthorityKeys {
    AuthorityKeys::new(authority())
        .with_shared(SharedKey::from_bytes([0x51; 32]))
        .with_secret(AuthoritySecret::from_bytes([0x52; 32]))
}

fn root() -> TokenBuf {
    let identifier = Identifier {
        caveats_at_mint: 1,
        key: KeyId::from_bytes([1; 8]),
        lineage: LineageId::new([2; 10], now()),
        expiry: None,
        service: None,
        subject: Some("ann"),
    };
    mint(&identifier, &["action in read,write"], &key()).unwrap()
}

/// A ticket to the authority; `seed` makes it another one.
fn ticket(seed: u8, caveats: &[&str]) -> (Vec<u8>, CaveatKey) {
    let caveat_key = CaveatKey::from_bytes([seed; 32]);
    let shared = SharedKey::from_bytes([0x51; 32]);
    let public = AuthoritySecret::from_bytes([0x52; 32]).public();
    let to = if seed.is_multiple_of(2) {
        SealTo::Shared { key: &shared, nonce: &[seed; 24] }
    } else {
        SealTo::Public { key: &public, ephemeral: &[seed; 32] }
    };
    (seal_ticket(authority(), &to, &caveat_key, caveats).unwrap(), caveat_key)
}

fn with_third_party(token: &TokenBuf, seed: u8) -> (TokenBuf, Vec<u8>) {
    let (ticket, caveat_key) = ticket(seed, &["subject = ann"]);
    let at = Some("https://auth.example");
    (attenuate_third_party(&token.as_token(), at, &ticket, &caveat_key, &[seed; 24]).unwrap(), ticket)
}

fn request(at: Timestamp) -> Request<'static> {
    Request::builder("acme", at).action("read").build().unwrap()
}

fn cleared(ticket: &[u8]) -> ClearedTicket {
    let open = Ticket::parse(ticket).unwrap().open(&authority_keys()).unwrap();
    open.clear(&request(now()), Some("ann"), &Vocabulary::native(), &mut Budget::default()).unwrap()
}

fn discharge(ticket: &[u8]) -> TokenBuf {
    cleared(ticket).discharge(Duration::from_secs(60), &[]).unwrap()
}

fn judge(root: &TokenBuf, discharges: &[&TokenBuf], at: Timestamp) -> Result<(), Error> {
    let tokens: Vec<Token<'_>> = discharges.iter().map(|token| token.as_token()).collect();
    let presented = Presented::new(root.as_token(), &tokens)?;
    let facts = LineageFacts {
        tenant: Tenant::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        tenant_row: Row::from_bytes([0; 16]),
        subject_row: Some(Row::from_bytes([1; 16])),
    };
    let (mut scratch, mut budget) = (Scratch::default(), Budget::default());
    let key = key();
    let verified = verify(presented, Basis::Root(&key), &facts, BranchIds::Skip, &mut scratch, &mut budget)?;
    verified.clear(&request(at), &Vocabulary::native(), &NoRevocations, &mut budget).map(|_| ())
}

fn fault(root: &TokenBuf, discharges: &[&TokenBuf]) -> DischargeFault {
    match judge(root, discharges, now()) {
        Err(Error::Discharge(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn bound(root: &TokenBuf, discharge: &TokenBuf) -> TokenBuf {
    bind(&root.as_token(), &discharge.as_token()).unwrap()
}

/// TP-10, TP-20: both forms of ticket, from end to end.
#[test]
fn a_bound_discharge_is_accepted_for_both_forms_of_ticket() {
    for seed in [3, 4] {
        let (token, ticket) = with_third_party(&root(), seed);
        let discharge = bound(&token, &discharge(&ticket));
        assert_eq!(judge(&token, &[&discharge], now()), Ok(()));
    }
}

/// TP-31: a discharge ends by itself, by default ten minutes after the clearing at the latest.
#[test]
fn a_native_discharge_has_a_capped_time_bound() {
    let (token, ticket) = with_third_party(&root(), 3);
    let discharge = cleared(&ticket).discharge(Duration::from_secs(86_400), &[]).unwrap();
    let discharge = bound(&token, &discharge);
    let end = now().saturating_add(Duration::from_secs(600));
    assert_eq!(judge(&token, &[&discharge], end.saturating_sub(Duration::from_secs(1))), Ok(()));
    assert!(matches!(judge(&token, &[&discharge], end), Err(Error::Refused(_))));
    assert!(cleared(&ticket).discharge(Duration::from_millis(999), &[]).is_err());
    let long = cleared(&ticket).discharge_within(Duration::from_secs(1200), Duration::from_secs(900), &[]);
    let long = bound(&token, &long.unwrap());
    let end = now().saturating_add(Duration::from_secs(900));
    assert_eq!(judge(&token, &[&long], end.saturating_sub(Duration::from_secs(1))), Ok(()));
    assert!(judge(&token, &[&long], end).is_err());
}

/// TP-30: what the ticket asks for decides whether there is a discharge.
#[test]
fn a_ticket_that_is_not_cleared_gives_no_discharge() {
    for (caveats, subject) in [
        (&["subject = ann"][..], Some("bob")),
        (&["subject = ann"], None),
        (&["subject = ann", "mood = good"], Some("ann")),
        (&["not a caveat"], Some("ann")),
        (&["time < 2026-11-23T12:00:00Z"], Some("ann")),
    ] {
        let (ticket, _) = ticket(4, caveats);
        let open = Ticket::parse(&ticket).unwrap().open(&authority_keys()).unwrap();
        let result = open.clear(&request(now()), subject, &Vocabulary::native(), &mut Budget::default());
        assert!(matches!(result, Err(Error::Refused(_))), "{caveats:?}");
    }
}

/// TP-32: the authority's own caveats restrict the token as well.
#[test]
fn a_discharge_restricts() {
    let (token, ticket) = with_third_party(&root(), 3);
    let discharge = cleared(&ticket).discharge(Duration::from_secs(60), &["action = write"]).unwrap();
    assert!(matches!(judge(&token, &[&bound(&token, &discharge)], now()), Err(Error::Refused(_))));
}

/// TP-21: says whose discharge is missing and where to ask.
#[test]
fn a_missing_discharge_names_its_party() {
    let (token, ticket) = with_third_party(&root(), 3);
    let expected = Party::of(&ticket, Some(b"https://auth.example"));
    assert_eq!(expected.authority, Some(authority()));
    assert_eq!(fault(&token, &[]), DischargeFault::Missing(expected));
}

/// TP-22, TP-23, TP-24, TP-25: each wrong set has its own reason.
#[test]
fn wrong_sets_are_refused_each_with_its_reason() {
    let (token, ticket) = with_third_party(&root(), 3);
    let (other, other_ticket) = with_third_party(&root(), 5);
    let unbound = discharge(&ticket);
    let good = bound(&token, &unbound);

    let foreign = bound(&token, &discharge(&other_ticket));
    assert_eq!(fault(&token, &[&good, &foreign]), DischargeFault::Unused);
    assert_eq!(fault(&root(), &[&good]), DischargeFault::Unused);
    assert_eq!(fault(&token, &[&good, &good]), DischargeFault::Duplicate);
    assert_eq!(fault(&token, &[&unbound]), DischargeFault::Unbound);
    assert_eq!(fault(&token, &[&bound(&other, &unbound)]), DischargeFault::WronglyBound);
    assert_eq!(fault(&token, &[&bound(&token, &good)]), DischargeFault::WronglyBound);

    // The holder attenuates afterwards: the binding no longer fits.
    let narrower = attenuate(&token.as_token(), &["action = read"]).unwrap();
    assert_eq!(fault(&narrower, &[&good]), DischargeFault::WronglyBound);
    assert_eq!(judge(&narrower, &[&bound(&narrower, &unbound)], now()), Ok(()));

    // One discharge for two caveats.
    let (again, caveat_key) = (ticket.clone(), CaveatKey::from_bytes([3; 32]));
    let twice = attenuate_third_party(&token.as_token(), None, &again, &caveat_key, &[9; 24]).unwrap();
    assert_eq!(fault(&twice, &[&bound(&twice, &unbound)]), DischargeFault::Reused);
}

/// TP-26: a discharge that asks for itself, directly or over another.
#[test]
fn cycles_are_refused() {
    let (token, ticket) = with_third_party(&root(), 3);
    let caveat_key = CaveatKey::from_bytes([3; 32]);
    let asks_itself =
        attenuate_third_party(&discharge(&ticket).as_token(), None, &ticket, &caveat_key, &[9; 24]).unwrap();
    assert_eq!(fault(&token, &[&bound(&token, &asks_itself)]), DischargeFault::Cyclic);

    let (second, second_ticket) = with_third_party(&discharge(&ticket), 5);
    let back =
        attenuate_third_party(&discharge(&second_ticket).as_token(), None, &ticket, &caveat_key, &[9; 24])
            .unwrap();
    assert_eq!(fault(&token, &[&bound(&token, &second), &bound(&token, &back)]), DischargeFault::Cyclic);
}

/// TP-28: nested discharges work to the limit and not one deeper.
#[test]
fn nesting_works_to_the_limit() {
    for depth in 1..=tkcore::limits::DISCHARGE_DEPTH + 1 {
        let (token, mut wanted) = with_third_party(&root(), 3);
        let mut discharges = Vec::new();
        for level in 1..=depth {
            let mut one = discharge(&wanted);
            if level < depth {
                let seed = u8::try_from(level).unwrap() * 2 + 4;
                (one, wanted) = with_third_party(&one, seed);
            }
            discharges.push(bound(&token, &one));
        }
        let references: Vec<&TokenBuf> = discharges.iter().rev().collect();
        let result = judge(&token, &references, now());
        if depth <= tkcore::limits::DISCHARGE_DEPTH {
            assert_eq!(result, Ok(()), "{depth}");
        } else {
            assert_eq!(result, Err(Error::Discharge(DischargeFault::TooDeep)));
        }
    }
}
