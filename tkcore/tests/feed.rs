//! The feed between an honest signer and a client: the ordinary ways.
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a long run says how long it took"
)]

mod feed_support;

use std::time::Duration;

use feed_support::{Client, FEED, Random, START, Signer, at, token};
use tkcore::revocation::feed::{Config, Event, Freshness, Link, Next, Response};
use tkcore::revocation::{ExpiryDay, FeedPath, Position, Revocation, RevocationSet, Span};

fn links(client: &Client) -> Vec<Link> {
    client
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Advanced { link, .. } => Some(*link),
            _ => None,
        })
        .collect()
}

#[test]
fn a_revocation_arrives_and_survives_a_restart() {
    let mut random = Random(1);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    assert_eq!(client.freshness(), Freshness::Empty);
    client.sync(&signer);
    assert_eq!(client.freshness(), Freshness::Fresh);

    let lineage = random.lineage(START);
    assert!(!client.is_revoked(lineage));
    assert!(signer.revoke(&[token(lineage)], None));
    assert!(!signer.revoke(&[token(lineage)], None), "nothing new makes no step");
    signer.publish_head(START + 1000);
    client.pass(Duration::from_secs(1));
    client.sync(&signer);
    assert!(client.is_revoked(lineage));
    assert_eq!(links(&client), [Link::First, Link::Linked]);

    client.restart();
    assert!(client.is_revoked(lineage));
    assert_eq!(client.freshness(), Freshness::Fresh);
    assert!(client.refusals().is_empty(), "{:?}", client.refusals());
}

#[test]
fn merged_deltas_bring_a_late_client_up_and_single_ones_do_where_they_are_missing() {
    let mut random = Random(2);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    let mut plain = Client::of(&signer, START);
    plain.sync(&signer);
    // The snapshot is made too large to be the cheaper way.
    let rows: Vec<_> = (0..4000).map(|_| token(random.lineage(START))).collect();
    signer.revoke(&rows, None);
    signer.publish_base();
    signer.publish_head(START + 1);
    client.sync(&signer);
    plain.sync(&signer);
    let lineages: Vec<_> = (0..700).map(|_| random.lineage(START)).collect();
    for lineage in &lineages {
        signer.revoke(&[token(*lineage)], None);
    }
    signer.publish_head(START + 2);
    let mut spans = vec![];
    client.poll(&mut |fetch| {
        if let FeedPath::Delta { span, .. } = fetch.path {
            spans.push(span);
        }
        signer.get(fetch.path)
    });
    assert!(lineages.iter().all(|lineage| client.is_revoked(*lineage)));
    assert!(spans.contains(&Span::TwoHundredFiftySix) && spans.contains(&Span::Sixteen));
    assert!(spans.len() < 60, "{}", spans.len());

    plain.poll(&mut |fetch| match fetch.path {
        FeedPath::Delta { span: Span::Sixteen | Span::TwoHundredFiftySix, .. } => Response::NotFound,
        path => signer.get(path),
    });
    assert!(lineages.iter().all(|lineage| plain.is_revoked(*lineage)));
    for mut client in [client, plain] {
        assert_eq!(links(&client).last(), Some(&Link::Linked));
        client.restart();
        assert!(lineages.iter().all(|lineage| client.is_revoked(*lineage)));
    }
}

#[test]
fn a_heartbeat_renews_and_nothing_else_does() {
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    client.pass(Duration::from_secs(121));
    assert_eq!(client.freshness(), Freshness::Aging);
    client.poll(&mut |_| Response::NotModified);
    assert_eq!(client.freshness(), Freshness::Aging);
    client.sync(&signer);
    assert_eq!(client.freshness(), Freshness::Aging);
    signer.publish_head(START + 121_000);
    client.sync(&signer);
    assert_eq!(client.freshness(), Freshness::Fresh);
    assert!(client.events.contains(&Event::Heartbeat));
    client.pass(Duration::from_secs(3600));
    assert_eq!(client.freshness(), Freshness::Stale);
    signer.publish_head(START + 3_721_000);
    client.sync(&signer);
    assert_eq!(client.freshness(), Freshness::Fresh);
}

#[test]
fn days_are_dropped_when_they_are_over() {
    let mut random = Random(3);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    let today = ExpiryDay::of(Some(at(START)));
    let (short, long) = (random.lineage(START), random.lineage(START));
    signer.revoke(&[(Revocation::Token { lineage: short }, today), token(long)], None);
    signer.publish_head(START + 1);
    client.sync(&signer);
    assert!(client.is_revoked(short) && client.is_revoked(long));
    assert_eq!(signer.publisher.due_drop(at(START)), None);

    let later = (u64::from(today.number()) + 1) * 86_400_000 + 2 * 3_600_000;
    client.pass(Duration::from_millis(later - START));
    let due = signer.publisher.due_drop(at(later));
    assert_eq!(due, Some(today));
    assert!(signer.revoke(&[], due));
    signer.publish_head(later);
    client.sync(&signer);
    assert!(!client.is_revoked(short) && client.is_revoked(long));
    assert!(client.refusals().is_empty(), "{:?}", client.refusals());
}

#[test]
fn a_raised_epoch_replaces_the_set_and_drops_a_key_at_once() {
    let mut random = Random(4);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    let lineage = random.lineage(START);
    signer.revoke(&[token(lineage)], None);
    signer.publish_head(START + 50_000);
    client.pass(Duration::from_secs(50));
    client.sync(&signer);
    assert!(client.is_revoked(lineage));
    // A restore that lost the row, admitted by the root keys.
    signer.keys = vec![feed_support::key(11)];
    signer.publish_keys(2, START);
    signer.publisher = tkcore::revocation::publish::Publisher::begin(FEED, 2, RevocationSet::empty());
    signer.publish_base();
    signer.publish_head(START + 20_000);
    client.sync(&signer);
    assert_eq!(client.machine.position(), Some(Position { epoch: 2, sequence: 0 }));
    assert!(!client.is_revoked(lineage));
    assert_eq!(links(&client).last(), Some(&Link::First));
    client.restart();
    assert_eq!(client.machine.position(), Some(Position { epoch: 2, sequence: 0 }));
}

#[test]
fn the_poll_plan_waits_long_where_that_is_offered_and_polls_elsewhere() {
    let signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    client.pass(Duration::from_secs(13));
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("long poll expected") };
    assert!(matches!(fetch.path, FeedPath::Wait { .. }));
    assert_eq!(fetch.hold, Duration::from_secs(55));
    client.receive(&fetch, Response::NotFound);
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("poll expected") };
    assert_eq!(fetch.path, FeedPath::Head);
    client.receive(&fetch, Response::NotModified);
    let Next::Sleep(sleep) = client.machine.next(client.moment) else { panic!("sleep expected") };
    assert!(sleep >= Duration::from_secs(8) && sleep <= Duration::from_secs(12), "{sleep:?}");
}

/// RV-51: what answered 404 in the place of a server that holds requests may be gone: it is tried again.
#[test]
fn a_held_request_is_tried_again_where_there_was_none() {
    let signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    client.pass(Duration::from_secs(13));
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("long poll expected") };
    assert!(matches!(fetch.path, FeedPath::Wait { .. }));
    client.receive(&fetch, Response::NotFound);
    let until = client.moment.monotonic + Duration::from_secs(300);
    loop {
        match client.machine.next(client.moment) {
            Next::Sleep(sleep) => client.pass(sleep),
            Next::Fetch(fetch) if matches!(fetch.path, FeedPath::Wait { .. }) => break,
            Next::Fetch(fetch) => client.receive(&fetch, signer.get(fetch.path)),
        }
        assert!(client.moment.monotonic <= until + Duration::from_secs(12));
    }
    assert!(client.moment.monotonic >= until, "{:?}", client.moment);
}

/// RV-51: a mirror that asked for patience gets it for key lists and heads alike, and is asked afterwards.
#[test]
fn a_mirror_that_asks_for_patience_is_asked_for_nothing() {
    let signer = Signer::new(START);
    let mut config = Config::new(FEED, signer.roots());
    config.mirrors = 2;
    let mut client = Client::new(config, START);
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("a head is asked for") };
    assert_eq!((fetch.mirror, client.machine.mirror(client.moment)), (0, Some(0)));
    client.receive(&fetch, Response::Refused { retry_after: Some(Duration::from_secs(200)) });
    let until = client.moment.monotonic + Duration::from_secs(200);
    assert_eq!(client.machine.mirror(client.moment), Some(1));
    assert_eq!(client.machine.head_of(0, client.moment), None);
    assert_eq!(client.machine.head_of(1, client.moment).map(|fetch| fetch.path), Some(FeedPath::Head));
    assert_eq!(client.machine.head_of(2, client.moment), None);
    let fetch = loop {
        match client.machine.next(client.moment) {
            Next::Sleep(sleep) => client.pass(sleep),
            Next::Fetch(fetch) if fetch.mirror == 0 => break fetch,
            Next::Fetch(fetch) if matches!(fetch.path, FeedPath::Wait { .. }) => {
                client.receive(&fetch, Response::NotFound);
            }
            Next::Fetch(fetch) => client.receive(&fetch, signer.get(fetch.path)),
        }
    };
    assert_eq!((client.moment.monotonic, fetch.path), (until, FeedPath::KeyList { version: 2 }));
}

#[test]
fn retry_after_is_honoured_within_bounds_and_failures_back_off() {
    let signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!() };
    client.receive(&fetch, Response::Refused { retry_after: Some(Duration::from_secs(100_000)) });
    assert_eq!(client.machine.next(client.moment), Next::Sleep(Duration::from_secs(300)));
    client.pass(Duration::from_secs(300));
    for _ in 0..12 {
        let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!() };
        client.receive(&fetch, Response::Failed);
        let Next::Sleep(sleep) = client.machine.next(client.moment) else { panic!() };
        assert!(sleep <= Duration::from_secs(60));
        client.pass(sleep);
    }
}

#[test]
fn after_a_failure_the_head_is_asked_for_at_once_and_then_held_again() {
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    client.pass(Duration::from_secs(13));
    let Next::Fetch(held) = client.machine.next(client.moment) else { panic!("long poll expected") };
    assert!(matches!(held.path, FeedPath::Wait { .. }));
    client.receive(&held, Response::Failed);
    let Next::Sleep(sleep) = client.machine.next(client.moment) else { panic!("a pause expected") };
    client.pass(sleep);

    // The server is back with a newer head of the same state.
    signer.publish_head(START + 14_000);
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("poll expected") };
    assert_eq!((fetch.path, fetch.hold), (FeedPath::Head, Duration::ZERO));
    let answer = signer.get(fetch.path);
    client.receive(&fetch, answer);
    let Next::Fetch(fetch) = client.machine.next(client.moment) else { panic!("long poll expected") };
    assert!(matches!(fetch.path, FeedPath::Wait { .. }));
}
