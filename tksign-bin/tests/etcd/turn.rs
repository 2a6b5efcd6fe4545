//! Whose turn it is to publish.

use std::time::Duration;

use testkit::etcd::Etcd;
use testkit::proxy::{Proxy, Way};
use tksign::store::Store as _;
use tksign::store::etcd::{Cluster, Etcd as Store, Space};

use crate::scene::{Scene, awaited};

/// Longer than the lease lives without its keeper.
const LEASE: Duration = Duration::from_secs(7);

/// Longer than one keepalive is waited for.
const SILENCE: Duration = Duration::from_millis(1500);

/// Whoever only looks into the store, as `restore-check` does, or is not yet ready to publish leaves
/// the turn to a signer that is.
#[test]
fn only_who_is_ready_to_publish_takes_the_turn() {
    let Some(etcd) = Etcd::start("only_who_is_ready_to_publish_takes_the_turn", 1) else { return };
    let scene = Scene::new(etcd);
    scene.migrated();
    let cluster = Cluster { urls: scene.etcd.urls(), login: None, tls: None };
    let looks = Store::open(&cluster, Space::new("tksign", "looks").unwrap()).unwrap();
    let one = scene.serve("one");
    scene.revoke("one", &one, "user:1");
    drop(looks);
}

/// A keepalive without an answer is no end of the lease: the publisher goes on.
#[test]
fn a_lost_answer_to_a_keepalive_gives_no_turn_away() {
    // A machine that does nothing else for seconds loses the lease; then all begins anew.
    assert!((0..5).any(|_| keeps_the_turn()), "with the answer the turn is lost");
}

fn keeps_the_turn() -> bool {
    let Some(etcd) = Etcd::start("a_lost_answer_to_a_keepalive_gives_no_turn_away", 1) else { return true };
    let scene = Scene::new(etcd);
    scene.migrated();
    let proxy = Proxy::start(&scene.etcd.address(0));
    let cluster = Cluster { urls: vec![format!("http://{}", proxy.address())], login: None, tls: None };
    let mut store = Store::open(&cluster, Space::new("tksign", "one").unwrap()).unwrap();
    store.on_news(Box::new(|| ()));
    let turn = awaited(|| Some(scene.turn()).filter(|turn| !turn.is_empty())).expect("a turn");
    proxy.lose(b"/v3/lease/keepalive");
    assert!(proxy.lost());
    std::thread::sleep(SILENCE);
    proxy.set(0, Way::Open);
    // Forgotten, it would have ended by now.
    std::thread::sleep(LEASE);
    turn == scene.turn()
}
