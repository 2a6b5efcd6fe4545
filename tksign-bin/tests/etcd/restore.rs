use testkit::etcd::Etcd;
use testkit::process::{Finished, run};
use testkit::signer::tkverify;
use tkcore::revocation::Head;

use crate::scene::{Scene, Served, TKSIGN, awaited};

impl Scene {
    fn restore_check(&self, name: &str, more: &[&str]) -> Finished {
        let urls = self.etcd.urls();
        let args = ["--signer", name, "--etcd", &urls[0]];
        self.run(name, "restore-check", &[&args[..], more].concat())
    }

    /// Brings the feed that a signer serves to a folder, as a verifier's machine does.
    pub(crate) fn refresh(&self, from: &Served, folder: &str) {
        let trust = std::fs::read_to_string(format!("{}/trust.json", self.path("one"))).unwrap();
        let mut trust: serde_json::Value = serde_json::from_str(&trust).unwrap();
        trust["feeds"] = vec![from.feed_url()].into();
        self.dir.write("trust", 0o600, trust.to_string());
        let args = ["refresh", "--once", "--trust", &self.path("trust"), "--dir", folder];
        let done = run(tkverify(), args, b"");
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }
}

/// A snapshot of etcd from before a revocation is restored under running signers. They write no
/// more at once; started again they are read-only, by the file that each keeps; a merge with the
/// published feed brings back what the snapshot has forgotten.
#[test]
fn a_restored_snapshot_takes_nothing_back() {
    let Some(etcd) = Etcd::start("a_restored_snapshot_takes_nothing_back", 1) else { return };
    let mut scene = Scene::new(etcd);
    scene.migrated();
    let one = scene.serve("one");
    scene.join("two");
    let two = scene.serve("two");
    scene.revoke("one", &one, "user:1");
    let (snapshot, feed) = (scene.dir.join("snapshot"), scene.path("feed"));
    scene.etcd.save(0, &snapshot);
    let last: Head = scene.revoke("two", &two, "user:2");
    one.await_head("the other's", |head| head.state == last.state);
    scene.refresh(&two, &feed);
    scene.etcd.restore(&snapshot);

    for name in ["one", "two"] {
        let told = awaited(|| {
            let done = scene.run(name, "revoke subject", &["--tenant", "acme", "--subject", "user:3"]);
            done.stderr.contains("older copy").then_some(done)
        });
        assert_ne!(told.expect("it notices").code, Some(0));
    }
    // What they know they go on telling.
    assert_eq!(one.head().unwrap().state, last.state);
    let checked = scene.restore_check("one", &[]);
    assert!(checked.stderr.contains("held"), "{}", checked.stderr);
    drop((one, two));

    for name in ["one", "two"] {
        let mut held = scene.serve(name);
        held.await_output("READ-ONLY: behind");
        let done =
            scene.run(name, "mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"]);
        assert!(done.code != Some(0) && done.stderr.contains("restore-check"), "{}", done.stderr);
        assert!(held.process.terminate().success());
    }
    let checked = scene.restore_check("one", &["--feed-folder", &feed]);
    assert_eq!(checked.code, Some(25), "{}{}", checked.stdout, checked.stderr);
    let (draft, signed) = (scene.path("list.unsigned"), scene.path("list.signed"));
    // The turn to write the feed was one of the signers' that were killed, for some seconds.
    let merge = |more: &[&str]| {
        let done = awaited(|| {
            let done = scene.restore_check("one", &[&["--feed-folder", &feed, "--merge"], more].concat());
            (done.code != Some(12)).then_some(done)
        });
        let done = done.expect("the turn");
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    };
    merge(&["--out", &draft]);
    let root = scene.path("root.key");
    let args = ["keys", "publication", "sign", "--root-key", &root, &draft, "--out", &signed];
    assert_eq!(run(TKSIGN, args, b"").code, Some(0));
    merge(&["--key-list", &signed]);

    let one = scene.serve("one");
    let head = one.await_head("the next epoch", |head| head.position.epoch > last.position.epoch);
    assert_eq!(head.state, last.state, "the snapshot's revocation and the feed's");
    let two = scene.serve("two");
    two.await_head("the same", |head| head.state == last.state);
    assert!(!two.process.output().contains("READ-ONLY"), "{}", two.process.output());
    scene.must("one", "clients list", &[]);
}

/// A signer's file is its own: a folder that was copied says nothing of another signer's chain.
#[test]
fn a_copied_folder_begins_a_file_of_its_own() {
    let Some(etcd) = Etcd::start("a_copied_folder_begins_a_file_of_its_own", 1) else { return };
    let scene = Scene::new(etcd);
    scene.migrated();
    let one = scene.serve("one");
    scene.revoke("one", &one, "user:1");
    scene.join("two");
    let two = scene.serve("two");
    scene.revoke("two", &two, "user:2");
    assert!(scene.dir.join("two/high-water-one").exists() && scene.dir.join("two/high-water-two").exists());
    // Without its file a signer that had one is behind.
    drop(two);
    std::fs::remove_file(scene.dir.join("two/high-water-two")).unwrap();
    let two = scene.serve("two");
    two.await_output("the high-water file is gone");
}
