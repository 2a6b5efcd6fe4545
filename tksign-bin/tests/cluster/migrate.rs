//! From the embedded store to a cluster and back.

use testkit::process::run;

use crate::world::{NAMES, TKSIGN, World};

/// There and back: the same rows, one audit chain that verifies, and a source that is closed.
#[test]
fn a_store_moves_to_a_cluster_and_back() {
    let Some(world) = World::start("a_store_moves_to_a_cluster_and_back") else { return };
    world.client("revoke");
    world.migrate();
    let urls = format!("etcd:{}", world.etcd.urls().join(","));
    let state = format!("sqlite:{}", world.state(0));
    let done =
        run(&*TKSIGN, ["status", "--dir", &world.state(0), "--secret-file", &world.text("secret")], b"");
    assert_ne!(done.code, Some(0), "the source can still be opened");
    // The target is complete: a second try finds nothing to do or to undo.
    let done = run(&*TKSIGN, ["migrate", "--from", &state, "--to", &urls, "--signer", NAMES[0]], b"");
    assert_ne!(done.code, Some(0));
    let done = run(&*TKSIGN, ["migrate", "--from", &urls, "--to", &state], b"");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let audit = world.must("audit verify", 0, &[]);
    assert!(!audit.is_empty());
    assert!(world.must("clients list", 0, &[]).contains("revoke"));
    // Cut off after the copy: the target stays closed, and the next try starts over.
    let put = |key: &str, value: &str| assert!(world.etcd.control(&[0], &["put", key, value]).contains("OK"));
    put("half/m/~migrating", "in");
    put("half/m/keys/rest", "rest");
    let args = ["migrate", "--from", &state, "--to", &urls, "--signer", "one", "--etcd-prefix", "half"];
    let done = run(&*TKSIGN, args, b"");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(!world.etcd.control(&[0], &["get", "half/m/keys/rest"]).contains("rest"));
}
