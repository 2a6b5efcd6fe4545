//! What a signer over a real etcd meets beside the faults of `cluster`: TLS, a login that ends, a
//! watch whose revision is gone, steps larger than a transaction, a restored snapshot.
#![allow(clippy::disallowed_methods, reason = "an awaited state has a deadline")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod full;
mod gap;
mod large;
mod late;
mod life;
mod login;
mod lost;
mod moves;
mod restore;
mod scene;
mod tls;
mod turn;
