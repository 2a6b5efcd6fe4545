//! The integrations as a service uses them: requests in, answers out, no process and no socket.
//! Each integration is tested with its feature alone as well (`.ci/run features`): what one makes of a
//! request must not depend on another one being there.
#![cfg(any(feature = "actix", feature = "metrics", feature = "tower"))]
#![cfg_attr(not(feature = "axum"), allow(dead_code, reason = "each uses a part of what they share"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and may read the clock"
)]

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "metrics")]
mod numbers;
#[cfg(any(feature = "actix", feature = "tower"))]
mod told;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "tower")]
mod tower;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tkcore::TokenText;
use tkverify::testing::{Kit, Spec};
use tkverify::web::{Asked, Facts, Needs};

/// Runs a future on this thread, without any executor.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

pub(crate) fn reader(kit: &Kit) -> TokenText {
    kit.mint(&Spec::new("acme").subject("user:7").caveat("action in read"))
}

/// What the services of these tests need.
pub(crate) fn needs(asked: &Asked<'_>) -> Needs {
    let facts = || {
        let facts = Facts::new("acme").action(asked.usual_action());
        match asked.peer() {
            Some(peer) => facts.ip("ip", peer.ip()),
            None => facts,
        }
    };
    match asked.path() {
        "/healthz" => Needs::Nothing,
        "/page" => facts().if_presented(),
        "/now" => facts().ask_signer().into(),
        path if path.starts_with("/projects/") => facts().path("path", path.to_owned()).into(),
        _ => Needs::Unknown,
    }
}
