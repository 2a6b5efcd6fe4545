//! The revocation feed: fetched, kept in a folder, watched. What is believed is decided by
//! `tkcore`'s state machine; here are the sockets, the files and the thread.

mod counts;
pub(crate) mod driver;
mod fetch;
pub(crate) mod folder;
mod follow;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use fetch::FetchError;
pub use view::Freshness;
pub(crate) use view::{Ages, View};

use counts::Counts;
pub(crate) use follow::Follower;
use view::Slot;

/// The feed that a verifier follows. Clones share everything.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    slot: Slot,
    follow: Follow,
    report: Mutex<Report>,
    counts: Arc<Counts>,
}

/// Whether there is a feed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    Feed,
    /// By a choice that is named in [`crate::danger`].
    Nothing,
}

/// What the follower has to say beside the view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// An attack or a serious fault that the feed shows, until it behaves again.
    pub(crate) alarm: Option<String>,
    /// What goes wrong now, most serious first.
    pub(crate) trouble: Vec<String>,
}

impl Feed {
    pub(crate) fn new(follow: Follow) -> Self {
        Self {
            shared: Arc::new(Shared {
                slot: Slot::default(),
                follow,
                report: Mutex::default(),
                counts: Arc::default(),
            }),
        }
    }

    /// Epoch and sequence of the state in force.
    #[must_use]
    pub fn position(&self) -> Option<(u64, u64)> {
        self.view().map(|view| (view.position.epoch, view.position.sequence))
    }

    /// How often what happened: fetches, heartbeats, refusals by kind, jumps whose history was
    /// not seen. The names are stable; one that never happened is absent.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.shared.counts.read()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.shared.follow == Follow::Nothing
    }

    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.shared.slot.get()
    }

    /// How often the state was renewed: a newer one came, or the signer vouched for it again.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.shared.slot.swaps()
    }

    /// Waits at most `patience` until the state was renewed more often than `seen`, and says how
    /// often. For whoever wants to act when a revocation arrives; requests see it without this.
    pub fn wait_renewed(&self, seen: u64, patience: Duration) -> u64 {
        self.shared.slot.wait(seen, patience)
    }

    pub(crate) fn swap(&self, view: Arc<View>) {
        self.shared.slot.set(view);
    }

    pub(crate) fn report(&self) -> Report {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_report(&self, report: Report) {
        *self.shared.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}
