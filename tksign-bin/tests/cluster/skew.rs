//! Signers whose clocks are apart, by Debian's `faketime`.

use std::path::Path;

use testkit::Clock;
use tkcore::protocol::{Code, Floor, RevokeTarget};
use tkcore::revocation::Head;
use tkcore::{LineageId, Name};
use tkverify::remote::request_id;

use crate::world::{TKSIGN, World, mint_params, until};

/// Gives a signer a clock of its own; `None` when `faketime` is missing.
pub(crate) fn clock(world: &mut World, at: usize, test: &str) -> Option<Clock> {
    // In its own folder, since its sandbox lets it read nothing else.
    let clock = Clock::new(test, Path::new(&world.state(at)).join("clock"))?;
    world.stop(at);
    world.signers[at].environment = clock.environment();
    world.serve(at);
    Some(clock)
}

/// A token of a signer; on a busy machine etcd may be electing a leader.
fn minted(world: &World, at: usize) -> (LineageId, Vec<u8>) {
    until("a mint", || world.mint(at).ok())
}

fn floor() -> RevokeTarget {
    RevokeTarget::Subject(Name::new("acme").unwrap(), Name::new("user:17").unwrap(), Floor::Now)
}

#[test]
fn clocks_a_little_apart_are_borne_and_one_further_off_writes_nothing() {
    let test = "clocks_a_little_apart_are_borne_and_one_further_off_writes_nothing";
    let Some(mut world) = World::serving(test, Path::new(&*TKSIGN)) else { return };
    let Some(clock) = clock(&mut world, 2, test) else { return };
    let mut issued = Vec::new();
    // 3 s either way: a floor at any signer refuses what any other had minted, and nothing that
    // is minted after it.
    for offset in [3, -3] {
        clock.set(offset);
        for (minting, revoking) in [(2, 0), (0, 2), (1, 0), (2, 2)] {
            let (_, before) = minted(&world, minting);
            let told = until("a floor", || world.revoke(&[revoking], floor()).ok());
            assert_eq!(world.verdict(revoking, &before), Some(Code::Revoked));
            for at in 0..3 {
                let (lineage, after) = minted(&world, at);
                assert!(lineage.minted() >= told.before, "{offset}: {lineage} below {told:?}");
                assert_eq!(world.verdict(at, &after), None);
            }
        }
        // Whoever publishes, the times of heads do not go back.
        for _ in 0..2 {
            let publisher = world.publisher();
            let head = world.await_head(publisher, "before", |_| true);
            issued.push(head.issued_at);
            world.stop(publisher);
            let other = (publisher + 1) % 3;
            let (lineage, _) = minted(&world, other);
            until("a revocation", || world.revoke(&[other], RevokeTarget::Token(lineage)).ok());
            let is_later = |next: &Head| next.position > head.position;
            let next = world.await_head(other, "another publishes", is_later);
            issued.push(next.issued_at);
            world.serve(publisher);
            world.await_head(publisher, "it is back", |_| true);
        }
    }
    assert!(issued.is_sorted(), "{issued:?}");
    // Further off, either way, from the moment on at which it jumps: it writes nothing, says why,
    // leads nobody, and verifies.
    let (_, token) = minted(&world, 0);
    for offset in [30, -30] {
        clock.set(offset);
        world.await_refusal("set it right", || world.mint(2));
        world.await_refusal("set it right", || world.revoke(&[2], floor()));
        world.await_status(2, "the clock of this machine is");
        assert_eq!(world.verdict(2, &token), None);
        until("another publishes", || (world.publisher() != 2).then_some(()));
        // Its clients go to another.
        let (either, request) = (world.remote("mint", &[2, 1]), request_id().unwrap());
        until("a mint at another", || either.mint(&mint_params(), request).ok());
        minted(&world, 0);
    }
    clock.set(0);
    minted(&world, 2);
}
