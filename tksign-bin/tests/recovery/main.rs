//! What happens after the worst: restores, power losses, full disks, lost machines. Everything
//! here runs the real programs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]

mod clock;
mod faults;
mod full;
mod guide;
mod kills;
mod litestream;
mod power;
mod promotion;
mod restore;
mod scene;
mod times;
#[allow(dead_code, unreachable_pub, reason = "of the other suite's client a part is used here")]
#[path = "../process/wire.rs"]
mod wire;
