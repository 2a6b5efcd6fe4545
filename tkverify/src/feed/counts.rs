//! How often what happened on the feed, by a stable name.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tkcore::revocation::feed::{Event, Link};

/// Counters by name. Off the path of requests.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(crate) fn add(&self, name: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn event(&self, event: &Event) {
        self.add(match event {
            Event::Advanced { link: Link::Linked, .. } => "advanced",
            Event::Advanced { link: Link::Jump, .. } => "unlinked-jumps",
            Event::Advanced { .. } => "first-states",
            Event::Heartbeat => "heartbeats",
            Event::KeyList { .. } => "key-lists",
            Event::Refused(refusal) => refusal.name(),
            Event::Unavailable { .. } => "unavailable",
            Event::NotMerged => "not-merged",
            Event::Alarm(_) => "alarms",
            Event::StoreRefused(_) => "folder-refused",
            Event::AuditShrank { .. } => "audit-shrank",
            _ => "other",
        });
    }

    pub(crate) fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
