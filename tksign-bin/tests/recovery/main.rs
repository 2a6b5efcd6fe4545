//! What happens after the worst: restores, power losses, full disks, lost machines. Everything
//! here runs the real programs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]

mod guide;
mod litestream;
mod power;
mod restore;
mod scene;
mod times;
