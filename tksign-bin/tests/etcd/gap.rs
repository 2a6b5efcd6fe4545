use testkit::etcd::Etcd;

use crate::scene::{Scene, awaited};

fn revision(etcd: &Etcd) -> u64 {
    let told = etcd.control(&[0], &["get", "tksign/m/feed/head", "--write-out=json"]);
    let (_, revision) = told.split_once("\"revision\":").unwrap();
    revision.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn compact(etcd: &Etcd) {
    let said = etcd.control(&[0], &["compact", &revision(etcd).to_string(), "--physical=true"]);
    assert!(said.contains("compacted revision"), "{said}");
}

/// A signer is stopped; the others go on, etcd forgets what it has not seen, and its connection
/// breaks. When it wakes it reads everything anew, and neither it nor its clients miss a thing.
#[test]
fn a_watch_whose_revision_is_compacted_goes_on_with_everything() {
    let Some(etcd) = Etcd::start("a_watch_whose_revision_is_compacted_goes_on_with_everything", 1) else {
        return;
    };
    let mut scene = Scene::new(etcd);
    scene.migrated();
    let mut one = scene.serve("one");
    scene.join("two");
    let mut two = scene.serve("two");
    let seen = scene.revoke("one", &one, "user:0");
    two.await_head("the first", |head| head.state == seen.state);
    two.signal("-STOP");
    // Its connection is gone, so that nothing of what follows waits for it in a buffer.
    scene.etcd.kill(0);
    scene.etcd.restart(0);
    // And the publisher is another process, with a base of its own for the steps that follow.
    drop(one);
    one = scene.serve("one");
    let head = one.await_head("a base", |head| head.base.sequence == head.position.sequence);
    assert_eq!(head.position, seen.position);
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
    compact(&scene.etcd);
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

/// An older copy whose revisions were raised above all that were seen, as newer etcds restore one:
/// only what the rows hold tells it. A client that was removed since is not let in again.
#[test]
fn a_restored_snapshot_with_raised_revisions_is_an_older_copy() {
    let Some(etcd) = Etcd::start("a_restored_snapshot_with_raised_revisions_is_an_older_copy", 1) else {
        return;
    };
    let mut scene = Scene::new(etcd);
    scene.migrated();
    let one = scene.serve("one");
    scene.join("two");
    let mut two = scene.serve("two");
    let client = "aa".repeat(32);
    scene.must("one", "clients add", &["--key", &client, "--name", "gone", "--role", "revoke"]);
    scene.revoke("one", &one, "user:0");
    let snapshot = scene.dir.join("snapshot");
    scene.etcd.save(0, &snapshot);
    scene.must("one", "clients remove", &[&client]);
    awaited(|| (!scene.must("two", "clients list", &[]).contains("gone")).then_some(())).expect("it is gone");
    two.signal("-STOP");
    drop(one);
    let seen = revision(&scene.etcd);
    scene.etcd.restore(&snapshot);
    while revision(&scene.etcd) < seen + 5 {
        assert!(scene.etcd.control(&[0], &["put", "elsewhere", "raised"]).contains("OK"));
    }
    compact(&scene.etcd);
    two.signal("-CONT");
    two.process.await_line("the gap", |line| line.contains("has compacted").then_some(()));
    let revoke = || scene.run("two", "revoke subject", &["--tenant", "acme", "--subject", "user:1"]);
    let told =
        awaited(|| Some(revoke()).filter(|done| done.code == Some(0) || done.stderr.contains("older copy")));
    let told = told.expect("it notices");
    assert!(told.code != Some(0) && told.stderr.contains("older copy"), "it writes on: {}", told.stdout);
    assert_ne!(revoke().code, Some(0));
    assert!(!scene.must("two", "clients list", &[]).contains("gone"));
}
