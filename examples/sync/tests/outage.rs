//! What happens when X is down, measured: the real signer, the real nginx as the host of the feed,
//! the real service under each policy, clocks moved by `faketime`. The table in
//! `docs/guides/outages.md` is this test's: `TK_WRITE=1` writes it, otherwise it is compared.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use harness::example;
use support::{Clocks, World, minutes};
use testkit::signer;

/// The names of the table's rows come with what each service did.
type Rows = Vec<String>;
type Scenario = fn(World) -> Rows;

#[test]
fn the_table_of_outages_is_what_the_service_does() {
    let test = "the_table_of_outages_is_what_the_service_does";
    let _ = (signer::binary(), signer::tkverify()); // built before the clocks start
    let _ = example("delegated-example");
    let scenarios: [(Clocks, Scenario); 7] = [
        (Clocks::All, signer_killed),
        (Clocks::All, signer_hangs),
        (Clocks::All, feed_killed),
        (Clocks::All, both_killed),
        (Clocks::All, restarted),
        (Clocks::All, disk_full),
        (Clocks::OfTheService, clock_moved),
    ];
    let measured: Option<Vec<Rows>> = std::thread::scope(|scope| {
        let running =
            scenarios.map(|(clocks, scenario)| scope.spawn(move || World::start(test, clocks).map(scenario)));
        running.into_iter().map(|scenario| scenario.join().unwrap()).collect()
    });
    let Some(measured) = measured else { return };
    support::compare("docs/guides/outages.md", &measured.concat());
}

fn signer_killed(mut world: World) -> Rows {
    let mut rows = vec![world.row("nothing")];
    world.signer.kill();
    rows.push(world.row("the signer, just now"));
    for (after, what) in [(10, "10 minutes"), (61, "an hour"), (80, "80 minutes")] {
        world.clock.after(minutes(after));
        rows.push(world.row(&format!("the signer, for {what}")));
    }
    world.signer.serve();
    world.until_fresh();
    rows.push(world.row("the signer, until a moment ago"));
    rows
}

fn signer_hangs(mut world: World) -> Rows {
    world.hang_signer(true);
    let mut rows = vec![world.row("the signer hangs, just now")];
    world.clock.after(minutes(61));
    rows.push(world.row("the signer hangs, for an hour"));
    world.hang_signer(false);
    world.until_fresh();
    rows.push(world.row("the signer hung until a moment ago"));
    rows
}

fn feed_killed(mut world: World) -> Rows {
    let mut rows = Vec::new();
    world.feed_host.kill();
    let revoked = world.known_to_all();
    world.revoke(&revoked);
    for (after, what) in
        [(0, "just now"), (10, "for 10 minutes"), (61, "for an hour"), (80, "for 80 minutes")]
    {
        world.clock.after(minutes(after));
        rows.push(world.row(&format!("the feed's host, {what}")));
        rows.push(world.row_of("the same, a token that was revoked since", &revoked));
    }
    world.stir();
    world.feed_host.again();
    world.until_fresh();
    rows.push(world.row_of("the feed's host, until a moment ago; the revoked token", &revoked));
    rows
}

fn both_killed(mut world: World) -> Rows {
    let mut rows = Vec::new();
    world.feed_host.kill();
    world.signer.kill();
    for (after, what) in [(10, "10 minutes"), (61, "an hour"), (80, "80 minutes")] {
        world.clock.after(minutes(after));
        rows.push(world.row(&format!("both, for {what}")));
    }
    world.feed_host.again();
    world.signer.serve();
    world.until_fresh();
    rows.push(world.row("both, until a moment ago"));
    rows
}

fn restarted(mut world: World) -> Rows {
    let mut rows = Vec::new();
    world.feed_host.kill();
    world.restart_services();
    world.until_fresh();
    rows.push(world.row("the feed's host; the service was restarted, its folder is there"));
    world.signer.kill();
    world.restart_services();
    world.until_fresh();
    rows.push(world.row("both; the service was restarted, its folder is there"));
    world.clean_folders();
    world.restart_services();
    rows.push(world.row("both; the service was restarted without its folder"));
    world.feed_host.again();
    world.signer.serve();
    world.until_fresh();
    rows.push(world.row("both, until a moment ago; no restart"));
    world.signer.kill();
    world.restart_services();
    world.until_fresh();
    rows.push(world.row("the signer; the service was restarted, its folder is there"));
    rows
}

fn disk_full(mut world: World) -> Rows {
    let mut rows = Vec::new();
    let revoked = world.known_to_all();
    world.fill_disks();
    world.revoke(&revoked);
    world.until_revoked(&revoked);
    world.until_health_says("folder cannot be written");
    rows.push(world.row("the disk of the folder is full"));
    rows.push(world.row_of("the same, a token that was revoked since", &revoked));
    world.restart_services();
    world.until_fresh();
    rows.push(world.row("the disk is full and the service was restarted"));
    rows.push(world.row_of("the same, the revoked token", &revoked));
    let later = world.known_to_all();
    world.revoke(&later);
    world.until_revoked(&later);
    rows.push(world.row_of("the same, a token that was revoked after the restart", &later));
    rows
}

fn clock_moved(mut world: World) -> Rows {
    let mut rows = Vec::new();
    world.clock.after(minutes(120));
    rows.push(world.row("the service's clock is set two hours ahead"));
    world.clock.after(Duration::ZERO);
    world.until_fresh();
    rows.push(world.row("the clock is right again"));
    world.clock.set(-2 * 3600);
    rows.push(world.row("the service's clock is set two hours back"));
    let revoked = world.known_to_all();
    world.revoke(&revoked);
    world.until_revoked(&revoked);
    rows.push(world.row_of("the same, a token that was revoked since", &revoked));
    world.clean_folders();
    world.restart_services();
    rows.push(world.row("the same, and the service was restarted without its folder"));
    world.clock.set(0);
    world.until_fresh();
    rows.push(world.row("the clock is right again"));
    rows
}
