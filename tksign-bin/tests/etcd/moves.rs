use std::process::Command;

use testkit::disk::{Disk, Rule};
use testkit::etcd::Etcd;
use testkit::process::{Finished, Process, run};
use testkit::proxy::{Proxy, Way};

use crate::scene::{Scene, Served, TKSIGN, awaited};

fn mark(scene: &Scene, value: &str) {
    assert!(scene.etcd.control(&[0], &["put", "tksign/m/~migrating", value]).contains("OK"));
}

fn back(scene: &Scene) -> Finished {
    back_by(scene, &scene.etcd.urls()[0])
}

fn back_by(scene: &Scene, url: &str) -> Finished {
    let (from, to) = (format!("etcd:{url}"), format!("sqlite:{}", scene.path("one")));
    run(TKSIGN, ["migrate", "--from", &from, "--to", &to, "--signer", "one"], b"")
}

/// What came back, without a cluster.
fn serve_alone(scene: &Scene) -> Served {
    let args = ["--dir", &scene.path("one"), "--secret-file", &scene.path("secret")];
    let mut served = Command::new(TKSIGN);
    served.arg("serve").args(args).args(["--rpc", "127.0.0.1:0", "--public", "127.0.0.1:0"]);
    scene.served(&mut served)
}

/// What a crash leaves at each point of a move, there and back: neither engine can be served that is
/// not whole, and the same command ends the move.
#[test]
fn a_move_that_was_cut_off_anywhere_is_ended_by_the_same_command() {
    let Some(etcd) = Etcd::start("a_move_that_was_cut_off_anywhere", 1) else { return };
    let scene = Scene::new(etcd);
    let keys = scene.must("one", "keys list", &["--json"]);
    let (database, moved) = (scene.dir.join("one/tksign.db"), scene.dir.join("one/tksign.db.moved"));
    scene.migrated();
    // The copy was compared, its source not yet given up: it is made anew.
    mark(&scene, &"d".repeat(32));
    std::fs::rename(&moved, &database).unwrap();
    assert!(scene.refused("one").contains("migration into it was not finished"));
    scene.migrated();
    assert!(moved.exists() && !database.exists());
    // The source was given up, and that was all but said.
    mark(&scene, &"d".repeat(32));
    assert!(scene.refused("one").contains("migration into it was not finished"));
    scene.migrated();
    let served = scene.serve("one");
    assert_eq!(scene.must("one", "keys list", &["--json"]), keys);
    scene.revoke("one", &served, "user:1");
    let feed = scene.path("feed");
    scene.refresh(&served, &feed);
    drop(served);

    // Back: the cluster is closed, and a part of the copy is there.
    mark(&scene, "out");
    std::fs::create_dir(scene.dir.join("one/.migrating")).unwrap();
    scene.dir.write("one/.migrating/tksign.db", 0o600, b"half of it");
    assert!(scene.refused("one").contains("it has moved"));
    assert_ne!(scene.run("one", "keys list", &[]).code, Some(0), "half a copy is a store");
    let done = back(&scene);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(scene.must("one", "keys list", &["--json"]), keys);
    scene.must("one", "audit verify", &[]);
    let done = scene.run("one", "audit verify", &["--feed-folder", &feed]);
    assert!(done.stderr.contains("from before the cluster was left"), "{}{}", done.stdout, done.stderr);
    assert!(scene.refused("one").contains("it has moved"), "both engines are served");
    // There is one now, and it is not written over.
    assert_ne!(back(&scene).code, Some(0));
}

/// A signer that still runs while the cluster is closed writes until its own name is taken. What it
/// was acknowledged is in the copy.
#[test]
fn what_a_signer_writes_until_it_is_shut_out_moves_as_well() {
    let Some(etcd) = Etcd::start("what_a_signer_writes_until_it_is_shut_out_moves_as_well", 1) else {
        return;
    };
    let scene = Scene::new(etcd);
    scene.migrated();
    scene.join("two");
    let two = scene.serve("two");
    let proxy = Proxy::start(&scene.etcd.address(0));
    let url = format!("http://{}", proxy.address());
    let last = std::thread::scope(|scope| {
        // Everything is read, the key of which is this: twice to close the cluster, twice in the first
        // name. The second name's turn comes after, or the first one's watch.
        proxy.hold(5, b"\"dGtzaWduL20v\"");
        let moved = scope.spawn(|| back_by(&scene, &url));
        assert!(proxy.held());
        let last = scene.revoke("two", &two, "user:1");
        proxy.set(0, Way::Open);
        let moved = moved.join().unwrap();
        // Held for longer than it waits, it says so and is run again.
        assert!(moved.code == Some(0) || moved.stderr.contains("cut off"), "{}", moved.stderr);
        awaited(|| (moved.code == Some(0) || back(&scene).code == Some(0)).then_some(())).expect("a move");
        last
    });
    drop(two);
    let one = serve_alone(&scene);
    one.await_head("what was acknowledged", |head| head.state == last.state);
    scene.revoke("one", &one, "user:2");
}

/// Heads of a cluster count the lines of all its signers, also those that were pruned: what comes out of it
/// has fewer, and is served and checked all the same.
#[test]
fn a_cluster_whose_logs_were_pruned_comes_back_and_serves() {
    let Some(etcd) = Etcd::start("a_cluster_whose_logs_were_pruned_comes_back_and_serves", 1) else { return };
    let scene = Scene::new(etcd);
    let feed = scene.path("feed");
    let verify = || {
        let done = || scene.run("one", "audit verify", &["--feed-folder", &feed]);
        let done = awaited(|| Some(done()).filter(|done| done.code != Some(12))).expect("an answer");
        (done.code, format!("{}{}", done.stdout, done.stderr))
    };
    scene.migrated();
    scene.join("two");
    let (one, two) = (scene.serve("one"), scene.serve("two"));
    for n in 0..12 {
        scene.revoke("two", &two, &format!("user:{n}"));
    }
    scene.must("two", "audit prune", &["--before", "12"]);
    let last = scene.revoke("two", &two, "user:12");
    scene.refresh(&two, &feed);
    let (code, told) = verify();
    assert!(code == Some(2) && told.contains("several logs"), "{told}");
    drop((one, two));
    let done = awaited(|| Some(back(&scene)).filter(|done| done.code == Some(0)));
    assert!(done.is_some(), "{}", back(&scene).stderr);

    let one = serve_alone(&scene);
    let head = one.await_head("the first of the one log", |head| head.position == last.position);
    assert!(head.audit.lines < last.audit.lines, "it counts what was pruned");
    scene.revoke("one", &one, "user:13");
    assert!(!one.process.output().contains("READ-ONLY"), "{}", one.process.output());
    scene.refresh(&one, &feed);
    let (code, told) = verify();
    assert!(code == Some(0) && told.contains("the chain holds"), "{told}");
}

/// A disk that fails while the copy's log is moved into its database: no half of a store is left, and
/// the same command ends the move.
#[test]
fn a_copy_whose_log_cannot_be_moved_into_it_is_no_store() {
    let Some(etcd) = Etcd::start("a_copy_whose_log_cannot_be_moved_into_it_is_no_store", 1) else { return };
    let scene = Scene::new(etcd);
    let keys = scene.must("one", "keys list", &["--json"]);
    scene.migrated();
    let disk = Disk::new(&scene.dir.join("one"), scene.dir.path());
    disk.rule(Rule::PagesFail);
    let to = format!("sqlite:{}", scene.path("one"));
    let from = format!("etcd:{}", scene.etcd.urls()[0]);
    let args = ["migrate", "--from", &from, "--to", &to, "--signer", "one"];
    let done = Command::new(TKSIGN).args(args).envs(disk.environment()).output().unwrap();
    assert!(!done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("I/O"), "{told}");
    assert!(!scene.dir.join("one/tksign.db").exists());
    let done = back(&scene);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(scene.must("one", "keys list", &["--json"]), keys);
    scene.must("one", "audit verify", &[]);
}

/// A supervisor that starts the old signer again at the last moment finds the store held: what it
/// acknowledged there would stay behind.
#[test]
fn a_source_is_held_until_it_is_given_up() {
    let Some(etcd) = Etcd::start("a_source_is_held_until_it_is_given_up", 1) else { return };
    let scene = Scene::new(etcd);
    let disk = Disk::new(&scene.dir.join("one"), scene.dir.path());
    let gate = scene.path("gate");
    std::fs::write(&gate, "").unwrap();
    let (from, to) = (format!("sqlite:{}", scene.path("one")), format!("etcd:{}", scene.etcd.urls()[0]));
    let mut command = Command::new(TKSIGN);
    command.args(["migrate", "--from", &from, "--to", &to, "--signer", "one"]);
    command.envs(disk.environment()).env("TK_DISK_GATE", &gate);
    let mut moving = Process::start(&mut command);
    let is_there = || std::path::Path::new(&format!("{gate}.at")).exists().then_some(());
    assert!(awaited(is_there).is_some(), "{}", moving.output());
    let told = scene.run("one", "keys list", &[]);
    assert!(told.code != Some(0) && told.stderr.contains("held by another process"), "{}", told.stderr);
    std::fs::remove_file(&gate).unwrap();
    assert!(moving.wait().success(), "{}", moving.output());
    let one = scene.serve("one");
    scene.revoke("one", &one, "user:1");
}
