use testkit::etcd::Etcd;

use crate::scene::{Scene, awaited};

/// A signer is stopped; the others go on, etcd forgets what it has not seen, and its connection
/// breaks. When it wakes it reads everything anew, and neither it nor its clients miss a thing.
#[test]
fn a_watch_whose_revision_is_compacted_goes_on_with_everything() {
    let Some(etcd) = Etcd::start("a_watch_whose_revision_is_compacted_goes_on_with_everything", 1) else {
        return;
    };
    let mut scene = Scene::new(etcd);
    scene.migrated();
    let one = scene.serve("one");
    scene.join("two");
    let mut two = scene.serve("two");
    let seen = scene.revoke("one", &one, "user:0");
    two.await_head("the first", |head| head.state == seen.state);
    two.signal("-STOP");
    // Its connection is gone, so that nothing of what follows waits for it in a buffer.
    scene.etcd.kill(0);
    scene.etcd.restart(0);
    // Steps, a new key, a client and one that goes: everything that a mirror holds.
    let client = "aa".repeat(32);
    let again = || {
        let done = scene.run("one", "revoke subject", &["--tenant", "acme", "--subject", "user:0"]);
        (done.code == Some(0)).then_some(())
    };
    awaited(again).expect("writes again");
    scene.must("one", "clients add", &["--key", &client, "--name", "gone", "--role", "revoke"]);
    for user in 1..6 {
        scene.revoke("one", &one, &format!("user:{user}"));
    }
    scene.must("one", "keys create", &["--tenant", "later"]);
    scene.must("one", "clients remove", &[&client]);
    let last = scene.revoke("one", &one, "user:6");
    let revision = scene.etcd.control(&[0], &["get", "tksign/m/feed/head", "--write-out=json"]);
    let (_, revision) = revision.split_once("\"revision\":").unwrap();
    let revision = revision.split(|letter: char| !letter.is_ascii_digit()).next().unwrap();
    let said = scene.etcd.control(&[0], &["compact", revision, "--physical=true"]);
    assert!(said.contains("compacted revision"), "{said}");
    two.signal("-CONT");
    two.process.await_line("the gap", |line| line.contains("has compacted").then_some(()));
    let head = two.await_head("all of it", |head| head.position >= last.position);
    assert_eq!(head.state, last.state);
    // It goes on, with the key of a tenant that it has never seen made, and its steps are everybody's.
    scene.must("two", "mint", &["--tenant", "later", "--expires", "8h", "--caveat", "action in read"]);
    assert!(!scene.must("two", "clients list", &[]).contains("gone"));
    let head = scene.revoke("two", &two, "user:7");
    one.await_head("the other's", |other| other.state == head.state);
}
