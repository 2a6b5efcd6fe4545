use testkit::etcd::Etcd;
use testkit::proxy::{Proxy, Way};
use tksign::store::etcd::{Cluster, Etcd as Store, Space};
use tksign::store::{Change, Op, Store as _, Table};

use crate::scene::{Scene, awaited};

impl Scene {
    fn floor(&self, user: &str) -> testkit::process::Finished {
        self.run("one", "revoke subject", &["--tenant", "acme", "--subject", user])
    }

    /// The lines of the first signer's chain.
    fn lines(&self) -> Vec<String> {
        self.must("one", "audit export", &[]).lines().map(str::to_owned).collect()
    }
}

/// A signer's transaction is done and its answer lost, for longer than it is asked for. What it wrote
/// stays, in the feed and in the audit chain, and the signer goes on after it: first by a head that
/// counts the line, then by a line that follows it.
#[test]
fn a_transaction_whose_answer_was_lost_stays() {
    // On a machine that does nothing else for seconds the turn to publish changes hands, and the
    // transaction that is lost may be a head's: then all begins anew.
    let mut tries = 0..5;
    while !lost_and_stays() {
        assert!(tries.next().is_some(), "the turn never stays with one signer");
    }
}

/// Whether it was played to the end.
fn lost_and_stays() -> bool {
    let Some(etcd) = Etcd::start("a_transaction_whose_answer_was_lost_stays", 1) else { return true };
    let mut scene = Scene::new(etcd);
    scene.migrated();
    scene.join("two");
    let mut two = scene.serve("two");
    let proxy = Proxy::start(&scene.etcd.address(0));
    scene.ways.insert("one".to_owned(), format!("http://{}", proxy.address()));
    let one = scene.serve("one");
    let before = scene.revoke("one", &one, "user:0");
    let lines = scene.lines();
    let turn = scene.turn();

    proxy.lose(b"/v3/kv/txn");
    let told = scene.floor("user:1");
    assert_ne!(told.code, Some(0));
    if scene.turn() != turn || !told.stderr.contains("did not say whether") {
        println!("again: {}", told.stderr);
        return false;
    }
    let last = two.await_head("what was done", |head| head.state != before.state);
    assert_eq!(last.audit.lines, before.audit.lines + 1);

    // The other one ends; this one publishes, on a base of its own, before it writes a line.
    proxy.set(0, Way::Open);
    if scene.turn() != turn {
        return false;
    }
    assert!(last.base.sequence != last.position.sequence && two.process.terminate().success());
    let head = one.await_head("its own", |head| head.base.sequence == head.position.sequence);
    assert_eq!((head.state, head.audit), (last.state, last.audit));

    let done = awaited(|| Some(scene.floor("user:2")).filter(|done| done.code == Some(0)));
    assert!(done.is_some(), "{}", one.process.output());
    let now = scene.lines();
    assert_eq!(now[..lines.len()], lines);
    assert_eq!(now.len(), lines.len() + 2, "{now:#?}");
    scene.must("one", "audit verify", &[]);
    one.await_head("both", |later| later.audit.lines == last.audit.lines + 1 && later.state != last.state);
    // Asked for again, it is there.
    scene.must("one", "revoke subject", &["--tenant", "acme", "--subject", "user:1"]);
    true
}

/// A delta that no head names and that a publisher left behind goes when another one takes its turn.
#[test]
fn what_a_publisher_left_behind_goes_with_the_next_turn() {
    let Some(etcd) = Etcd::start("what_a_publisher_left_behind_goes_with_the_next_turn", 1) else { return };
    let scene = Scene::new(etcd);
    scene.migrated();
    let mut one = scene.serve("one");
    scene.join("two");
    let two = scene.serve("two");
    let before = scene.revoke("one", &one, "user:1");
    two.await_head("the same", |head| head.state == before.state);
    let cluster = Cluster { urls: scene.etcd.urls(), login: None, tls: None };
    let mut store = Store::open(&cluster, Space::new("tksign", "three").unwrap()).unwrap();
    // Of epoch 0, which is over.
    let key = vec![0; 16];
    store.begin().unwrap();
    let ops = vec![Op::Put(Table::Deltas, key.clone(), b"left".to_vec())];
    store.apply(&Change { ops, ..Change::default() }).unwrap();
    store.commit().unwrap();
    // The turn is not this one's to take: it has nobody who publishes.
    assert!(one.process.terminate().success());
    let gone = awaited(|| {
        store.begin().unwrap();
        store.get(Table::Deltas, &key).unwrap().is_none().then_some(())
    });
    assert!(gone.is_some(), "{}", two.process.output());
    scene.revoke("two", &two, "user:2");
}
