//! Signers that are replaced one by one while the others serve: by a newer program, or by one that
//! has a new secret.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use testkit::not_run;
use tkcore::protocol::{Code, RevokeTarget};

use crate::load::Load;
use crate::world::{NAMES, TKSIGN, World, until};

/// How often a new secret is tried for while others write.
const BUSY: usize = 5;

#[test]
fn an_upgrade_one_by_one_is_not_noticed() {
    let test = "an_upgrade_one_by_one_is_not_noticed";
    let remedy = "TKSIGN_PREVIOUS=$(.ci/previous) in front of the command builds one";
    let previous = match std::env::var("TKSIGN_PREVIOUS") {
        Ok(none) if none == "none" => return eprintln!("NOT RUN: {test}: the older commit is not at hand"),
        Ok(path) => PathBuf::from(path),
        Err(_) => return not_run(test, "the program of an older commit is", remedy),
    };
    let Some(mut world) = World::serving(test, &previous) else { return };
    let load = Load::start(&world);
    load.await_writes(20);
    let older = world.publisher();
    let newer = [(older + 1) % 3, (older + 2) % 3];
    let program = PathBuf::from(&*TKSIGN);
    // Newer ones follow an older publisher, which then follows one of them and is the last to go.
    for (at, program) in [(newer[0], &program), (newer[1], &program), (older, &previous), (older, &program)] {
        let before = world.await_head(older, "before", |_| true).position.sequence;
        world.stop(at);
        let publisher = world.publisher();
        world.signers[at].program.clone_from(program);
        world.serve(at);
        println!(
            "{:.1?}: {} runs {}, {} publishes",
            load.now(),
            NAMES[at],
            program.display(),
            NAMES[publisher]
        );
        load.await_writes(20);
        for at in 0..3 {
            world.await_head(at, "the feed goes on", |head| head.position.sequence > before + 3);
        }
    }
    let outcome = load.end(&world);
    println!("{outcome}");
    assert_eq!(outcome.unanswered, 0, "verification stopped");
}

#[test]
fn a_new_secret_reaches_one_signer_after_the_other() {
    let test = "a_new_secret_reaches_one_signer_after_the_other";
    let Some(mut world) = World::serving(test, Path::new(&*TKSIGN)) else { return };
    let load = Load::start(&world);
    load.await_writes(20);
    let (lineage, token) = until("a mint", || world.mint(0).ok());
    let secret = world.new_secret("secret-2");
    // Only while no other signer writes: under load it may have to be asked again, and then at a
    // quieter hour.
    let tries = Cell::new(0);
    until("a new secret", || {
        tries.set(tries.get() + 1);
        load.rest(tries.get() > BUSY);
        let done = world.run("rewrap", 0, &["--new-secret-file", &secret]);
        (done.code == Some(0)).then_some(())
    });
    load.rest(false);
    println!("a new secret after {} tries", tries.get());
    // The others cannot read what is sealed from now on: they say so, write nothing and verify.
    for at in [1, 2] {
        // Before it learns of it, it may mint: what it seals under the old secret is not written.
        let said = world.await_status(at, "rewrap");
        assert!(said.contains("read-only"), "{said}");
        let told = world.await_refusal("rewrap", || world.mint(at)).to_string();
        assert!(!told.contains("backup"), "{told}");
        assert_eq!(world.verdict(at, &token), None);
    }
    // What is revoked by the one that writes they learn all the same.
    let before = world.await_head(0, "before", |_| true).position.sequence;
    load.await_writes(20);
    let target = || RevokeTarget::Token(lineage);
    until("a revocation", || world.revoke(&[0], target()).ok());
    for at in [1, 2] {
        world.await_head(at, "the feed goes on", |head| head.position.sequence > before + 3);
        until("it is known", || (world.verdict(at, &token) == Some(Code::Revoked)).then_some(()));
    }
    for at in [1, 2, 0] {
        world.stop(at);
        let refused = world.start_fails(at);
        assert!(refused.contains("secret"), "with the one before: {refused}");
        world.signers[at].secret.clone_from(&secret);
        world.serve(at);
        until("a mint", || world.mint(at).ok());
        load.await_writes(20);
    }
    let outcome = load.end(&world);
    println!("{outcome}");
    assert_eq!(outcome.unanswered, 0, "verification stopped");
}
