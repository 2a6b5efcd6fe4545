//! Judging allocates nothing while it admits (docs/spec/caveats.md, CV-74).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use testkit::alloc::{Counting, installed, measure};
use tkcore::{Access, Budget, Request, Timestamp, Vocabulary, clear_caveats};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn every_operator_admits_without_an_allocation() {
    assert!(installed());
    let now = Timestamp::from_rfc3339("2026-11-23T12:00:00Z").unwrap();
    let request = Request::builder("acme", now)
        .text("host", "build agent 7")
        .int("size", 5)
        .ip("ip", "10.1.2.3".parse().unwrap())
        .ip("six", "2001:db8::7".parse().unwrap())
        .path("path", "/projects/7/a")
        .time("at", now)
        .set("tags", &["17", "42"])
        .access(Access::to("read").int("app", 17))
        .access(Access::to("list").and("read").int("app", 42))
        .build()
        .unwrap();
    let list: Vec<String> = (0..900).map(|n| n.to_string()).collect();
    let long = format!("tags in {}", list.join(","));
    let caveats = [
        "time < 2026-12-01T00:00:00Z",
        "time not-in 2026-12-01T00:00:00Z",
        "action in read,list",
        "app allows 17:read|write,42:read|list",
        "host = \"build agent 7\"",
        "host != other",
        "size <= 1048576",
        "size in 5,6",
        "ip in 10.0.0.0/8,2001:db8::/32",
        "six in 10.0.0.0/8,2001:db8::/32",
        "path under /projects/7",
        "at >= 2026-11-23T12:00:00Z",
        "region? = eu else read,list",
        "tenant = acme",
        &long,
    ];
    let vocabulary = Vocabulary::native();
    for caveat in caveats {
        let (verdict, cost) = measure(|| {
            clear_caveats([caveat.as_bytes()], &request, &vocabulary, &mut Budget::default()).is_ok()
        });
        assert!(verdict, "{caveat}");
        assert_eq!(cost.allocations, 0, "{caveat}");
    }
}
