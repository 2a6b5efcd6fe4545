//! The accepting path of a whole check, header to grant, allocates nothing once it is warm.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use testkit::alloc::{Counting, installed, measure};
use tkverify::testing::{Kit, Spec};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_known_lineage_is_granted_without_an_allocation() {
    assert!(installed());
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.mint(
        &Spec::new("acme")
            .subject("user:7")
            .caveat("action in read,write")
            .caveat("app in 17,42")
            .caveat("time < 2027-01-01T00:00:00Z")
            .caveat("org = 4711")
            .caveat("path under /projects"),
    );
    let header = kit.header(&token);
    let request = verifier
        .request("acme")
        .action("read")
        .text("app", "17")
        .text("org", "4711")
        .path("path", "/projects/7")
        .build()
        .unwrap();
    // The signer is asked once; buffers grow once.
    for _ in 0..3 {
        verifier.check(&header, &request).unwrap();
    }
    let (grant, cost) = measure(|| verifier.check(&header, &request));
    assert!(grant.is_ok());
    assert_eq!(cost.allocations, 0, "{cost:?}");
    // With a branch revoked somewhere, the branch ids are worked out too.
    kit.revoke(tkcore::revocation::Revocation::Branch { branch: tkcore::BranchId::from_bytes([1; 16]) });
    for _ in 0..3 {
        verifier.check(&header, &request).unwrap();
    }
    let (grant, cost) = measure(|| verifier.check(&header, &request));
    assert!(grant.is_ok());
    assert_eq!(cost.allocations, 0, "{cost:?}");
    // The measure sees what does allocate.
    let (_, cost) = measure(|| header.clone());
    assert!(cost.allocations > 0);
}
