//! A cluster of real processes: three members of etcd and three signers, under load, while
//! processes and networks fail. Every client writes down what it called and was answered, and
//! [`testkit::history`] says whether that keeps what is promised.
//!
//! `TK_CLUSTER_SECONDS=600 cargo test -p tksign-bin --features etcd --test cluster faults -- --nocapture`
//! runs for longer; the seed that is printed replays the order of faults with `TK_SEED`.
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod faults;
mod load;
mod migrate;
mod moment;
mod rolling;
mod skew;
mod world;
