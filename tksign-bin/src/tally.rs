//! What is summed up until it is written to the audit: remote verifies per client and lineage, and
//! refused requests of a client that has had more of them than get lines of their own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use tkcore::protocol::{AuditActor, AuditEvent, Bucket, ClientKey, Rate};
use tkcore::{LineageId, Timestamp};

use crate::memory::SignerError;
use crate::registry;
use crate::session::lock;
use crate::store::Table;
use crate::writer::{Plan, View};

/// Sums kept between two times of writing. At the limit what is new is added up per client
/// only, so that a service that shows many tokens costs neither memory nor detail of others.
pub(crate) const TALLIES: usize = 4096;
/// Lines written in one change: some 100 KiB, which every store takes while callers wait.
const LINES: usize = 256;

/// Refused requests of one client that get lines of their own: an honest client's mistakes, not the
/// megabytes a second that a thief of its key would fill the disk with.
const REFUSALS: Rate = Rate { per_second: 10, burst: 100 };

/// Sums of one client and lineage; no lineage where the token did not even hold.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    good: u64,
    refused: u64,
    last: Option<Timestamp>,
}

/// What happened since the last time it was written.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    verifies: Mutex<BTreeMap<(ClientKey, Option<LineageId>), Sum>>,
    /// Of each client how many more lines it may have, and how many it did not get.
    refusals: Mutex<BTreeMap<ClientKey, (Bucket<Instant>, u64)>>,
}

impl Tally {
    /// Counts one answer. `lineage` only of a token whose chain held: anything else is a
    /// stranger's claim.
    pub(crate) fn count(&self, client: ClientKey, lineage: Option<LineageId>, good: bool, now: Timestamp) {
        let mut sums = lock(&self.verifies);
        let full = sums.len() >= TALLIES && !sums.contains_key(&(client, lineage));
        let sum = sums.entry((client, lineage.filter(|_| !full))).or_default();
        let count = if good { &mut sum.good } else { &mut sum.refused };
        *count = count.saturating_add(1);
        sum.last = Some(now);
    }

    /// Whether one more refused request of this client gets a line; else it is counted.
    pub(crate) fn has_line(&self, client: ClientKey, now: Instant) -> bool {
        let mut refusals = lock(&self.refusals);
        let (bucket, more) = refusals.entry(client).or_insert_with(|| (Bucket::full(REFUSALS, now), 0));
        let has = bucket.take(REFUSALS, now).is_ok();
        *more = more.saturating_add(u64::from(!has));
        has
    }

    /// An audit line for each sum, and when each registered lineage was last seen; says whether those
    /// were all. What is taken out and then not committed is lost: these lines are statistics, and say so.
    pub(crate) fn drain(&self, view: &View<'_>, plan: &mut Plan) -> Result<bool, SignerError> {
        let taken: Vec<_> = std::iter::from_fn(|| lock(&self.verifies).pop_first()).take(LINES).collect();
        let all = taken.len() < LINES;
        for (client, (_, more)) in lock(&self.refusals).iter_mut().filter(|(_, (_, more))| *more > 0) {
            let event = AuditEvent::new(AuditActor::Client(*client), "refusals");
            plan.events.push(event.with("more", std::mem::take(more)));
        }
        for ((client, lineage), sum) in taken {
            plan.events.push(
                AuditEvent::new(AuditActor::Client(client), "verify")
                    .maybe("lineage", lineage)
                    .with("good", sum.good)
                    .with("refused-tokens", sum.refused)
                    .maybe("last", sum.last),
            );
            if let (Some(lineage), Some(last)) = (lineage, sum.last)
                && view.store.get(Table::Tokens, lineage.as_bytes())?.is_some()
            {
                plan.ops.push(registry::seen(view.memory, lineage, last));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_bounded_and_nothing_is_left_out() {
        let tally = Tally::default();
        let client = ClientKey::from_bytes([1; 32]);
        for n in 0..TALLIES + 10 {
            let lineage = LineageId::new([(n >> 8) as u8; 10], Timestamp::from_millis(n as u64).unwrap());
            tally.count(client, Some(lineage), n % 2 == 0, Timestamp::EPOCH);
        }
        let sums = tally.verifies.lock().unwrap();
        assert_eq!(sums.len(), TALLIES + 1);
        assert_eq!(sums.values().map(|sum| sum.good + sum.refused).sum::<u64>(), TALLIES as u64 + 10);
        assert_eq!(sums[&(client, None)].good, 5);
    }
}
