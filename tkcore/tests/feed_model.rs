//! The client against a server that answers whatever does most harm, and in every second world a
//! thief who holds the listed key as well, beside an oracle that knows the truth: rows of every kind,
//! every history, true time. A slice runs with every test; a long run is
//! `MODEL_STEPS=1000000 MODEL_SEED=7 cargo test --release -p tkcore --features publish --test feed_model -- --ignored --nocapture`
//! (default: a million steps, and a seed from the clock, which is printed).
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a seed of a long run comes from the clock"
)]

#[path = "feed_model/clocks.rs"]
mod clocks;
mod feed_support;
#[path = "feed_model/thief.rs"]
mod thief;
#[path = "feed_model/truth.rs"]
mod truth;
#[path = "feed_model/world.rs"]
mod world;

use std::collections::BTreeMap;

use world::World;

/// Every world is one seed of its own, so one that fails is found again at once.
fn live(seed: u64, steps: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.recover();
    world
}

/// Says which world failed.
struct Failing(u64, u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("feed model: world {} failed: MODEL_SEED={0} MODEL_STEPS={}", self.0, self.1);
        }
    }
}

fn run(seed: u64, steps: u64) -> BTreeMap<String, u64> {
    println!("feed model: seed {seed}, {steps} steps");
    let mut seen = BTreeMap::new();
    let (mut done, mut polls, mut recoveries, mut worlds) = (0, 0, 0, 0);
    while done < steps {
        let part = (steps - done).min(WORLD);
        let _failing = Failing(seed.wrapping_add(worlds), part);
        let world = live(seed.wrapping_add(worlds), part);
        done += part;
        worlds += 1;
        polls += world.polls;
        recoveries += world.recoveries;
        for (what, times) in world.truth.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    println!(
        "feed model: {done} steps in {worlds} worlds, {polls} answers, {recoveries} recoveries, all invariants held"
    );
    println!("feed model: {seen:?}");
    assert!(recoveries >= worlds);
    seen
}

/// Steps of one world.
const WORLD: u64 = 5000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

// RV-7, RV-40, RV-42 to RV-49
#[test]
fn a_slice_of_the_model() {
    let seen = run(20_261_128, 150_000);
    // What a model never meets, it does not show.
    for what in [
        "taken from Signer",
        "taken from Thief",
        "Linked",
        "Jump",
        "First",
        "alarm Lagging",
        "alarm RolledBack",
        "alarm Equivocation",
        "alarm Unrevokes",
        "lagging",
        "rolled-back",
        "equivocation",
        "issued-earlier",
        "from-the-future",
        "expired",
        "valid-too-long",
        "unlinked",
        "dropped-early",
        "unrevokes",
        "no-listed-key",
        "bad-signature",
        "epoch",
        "malformed",
        "missing",
        "judged by clocks that lie",
    ] {
        assert!(seen.contains_key(what), "{what} never happened: {seen:?}");
    }
}

#[test]
#[ignore = "a long run, in release: MODEL_STEPS and MODEL_SEED say which"]
fn a_million_steps_of_the_model() {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs());
    run(setting("MODEL_SEED", seed), setting("MODEL_STEPS", 1_000_000));
}
