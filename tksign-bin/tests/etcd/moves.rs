use testkit::etcd::Etcd;
use testkit::process::{Finished, run};

use crate::scene::{Scene, TKSIGN};

fn mark(scene: &Scene, value: &str) {
    assert!(scene.etcd.control(&[0], &["put", "tksign/m/~migrating", value]).contains("OK"));
}

fn back(scene: &Scene) -> Finished {
    let (from, to) = (format!("etcd:{}", scene.etcd.urls()[0]), format!("sqlite:{}", scene.path("one")));
    run(TKSIGN, ["migrate", "--from", &from, "--to", &to, "--signer", "one"], b"")
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
    assert!(scene.refused("one").contains("it has moved"), "both engines are served");
    // There is one now, and it is not written over.
    assert_ne!(back(&scene).code, Some(0));
}
