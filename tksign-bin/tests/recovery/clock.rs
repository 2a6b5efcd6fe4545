//! A clock that was far ahead, by the real program and its command.

use serde_json::Value;

use crate::scene::Scene;

const MONTH: i64 = 30 * 24 * 60;

/// Nothing is minted until the command was run, and no token of the wrong month is left alive.
#[test]
fn a_clock_that_was_a_month_ahead_is_survived() {
    let Some(mut scene) = Scene::by_own_clock("a_clock_that_was_a_month_ahead_is_survived") else { return };
    scene.key("acme");
    let args = ["--tenant", "acme", "--subject", "user:1", "--expires", "8h", "--unrestricted"];
    let mint = |scene: &Scene| {
        scene.signer.must("mint", &args);
        let tokens = scene.json("tokens list", &["--tenant", "acme"]);
        tokens.last().unwrap()["lineage"].as_str().unwrap().to_owned()
    };
    let revoke = |scene: &Scene, lineage: &str| scene.json("revoke token", &[lineage]).remove(0);
    let dead = mint(&scene);
    let first = revoke(&scene, &dead);
    scene.set_clock(MONTH);
    // The registry forgets the first token before long.
    scene.signer.stop();
    scene.signer.serve();
    let ahead = mint(&scene);
    assert_ne!(ahead, dead);
    scene.signer.stop();
    scene.signer.serve();
    scene.signer.stop();

    scene.set_clock(0);
    scene.signer.serve();
    let late = scene.signer.run("mint", &args, b"");
    assert!(late.stderr.contains("clock"), "{}{}", late.stdout, late.stderr);
    scene.signer.stop();
    let secret = scene.signer.secret();
    let back = ["--secret-file", &secret, "--mint-clock-back"];
    let done: Value = scene.json("restore-check", &back).remove(0);
    assert_eq!(done["minted ahead, revoked"], 1, "{done}");
    assert_eq!(done["revoked before, in force again"], 1, "{done}");
    scene.signer.serve();
    for lineage in [&dead, &ahead] {
        let again = revoke(&scene, lineage);
        assert_ne!(again["effect"], first["effect"], "it is revoked already: {again}");
    }
    scene.mint("acme", "fresh");
}
