//! Numbers that tell an operator how it goes. Counters only grow; whoever collects them works
//! out rates.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters, as they count.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What the counters said at one moment, and how much is held.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Lineages in memory now.
            pub memory_lineages: u64,
            /// Bytes of them now, as accounted against the bound.
            pub memory_bytes: u64,
            /// Asks under way now.
            pub asking: u64,
            /// Callers waiting for an ask now.
            pub waiting: u64,
        }

        impl Counters {
            pub(crate) fn read(&self) -> Metrics {
                Metrics { $($name: self.$name.get(),)* ..Metrics::default() }
            }
        }

        impl Metrics {
            /// Every number with its name, for whatever collects them.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("memory_lineages", self.memory_lineages),
                    ("memory_bytes", self.memory_bytes),
                    ("asking", self.asking),
                    ("waiting", self.waiting),
                ]
            }
        }
    };
}

counters! {
    /// Requests granted.
    granted,
    /// Requests refused because of the token: malformed, not authentic, expired, revoked.
    refused_token,
    /// Requests refused because the token does not give what they ask.
    refused_request,
    /// Of all refusals, those because the token is revoked.
    refused_revoked,
    /// Requests whose verdict could not be known.
    not_knowable,
    /// Verifications from a remembered prefix.
    memory_hits,
    /// Verifications under a key that this service holds.
    key_hits,
    /// Presentations that needed the signer.
    memory_misses,
    /// Asks that reached for the signer.
    asks,
    /// Presentations that shared another's ask.
    asks_shared,
    /// Asks made needless by a sibling's answer while they waited.
    asks_spared,
    /// Presentations refused because the ask pool was full. A flood of strangers shows here.
    asks_refused,
    /// Asks that the signer did not answer.
    asks_failed,
    /// Tokens that were skipped in headers because their prefix is none of ours.
    skipped_tokens,
    /// Decisions by a state that was stale, within a named action's grace.
    graced,
    /// Requests whose `now` lay outside the tolerance around the verifier's own.
    clock_faults,
}

/// One number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Of all verifications, how many needed no signer; `None` before the first.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let hits = self.memory_hits.saturating_add(self.key_hits);
        let all = hits.saturating_add(self.memory_misses);
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        (all > 0).then(|| hits as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read_under_its_name() {
        let counters = Counters::default();
        counters.asks.one();
        counters.asks.add(2);
        let metrics = counters.read();
        assert_eq!(metrics.asks, 3);
        assert!(metrics.all().contains(&("asks", 3)));
        assert_eq!(metrics.hit_ratio(), None);
        counters.memory_hits.add(3);
        counters.memory_misses.one();
        assert_eq!(counters.read().hit_ratio(), Some(0.75));
    }
}
