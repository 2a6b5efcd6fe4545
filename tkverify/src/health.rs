//! How a verifier is, with reasons: made for readiness probes, and for the person who is woken.

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use tkcore::Timestamp;

use crate::feed::Freshness;
use crate::verifier::Inner;

/// How long the trouble of an ask is told when no ask follows it.
const TOLD: Duration = Duration::from_secs(300);

/// How a verifier is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether requests are decided by the local state. `Stale` means that each action's policy
    /// applies.
    pub freshness: Freshness,
    /// Whether the feed shows an attack or a serious fault. The last good state is kept and
    /// decided by, until it is stale; a person must look.
    pub alarm: bool,
    /// How long ago the signer vouched for the state; `None` before the first.
    pub age: Option<Duration>,
    /// When the state becomes stale if nothing newer arrives.
    pub stale_at: Option<Timestamp>,
    /// Epoch and sequence of the state.
    pub position: Option<(u64, u64)>,
    /// Whether no lineage is known yet, and no key: until the signer answers, every request is
    /// refused. So it is after a start; with the signer away, it stays so.
    pub cold: bool,
    /// What is not as it should be, most serious first.
    pub reasons: Vec<String>,
}

impl Health {
    /// Whether requests are decided by the local state: it is fresh or aging. `false` does not
    /// mean that all are refused: [`WhenStale::Ask`](crate::WhenStale::Ask) and a grace still
    /// answer, and a service that has them may choose to stay in rotation.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.freshness, Freshness::Fresh | Freshness::Aging)
    }

    /// What anybody may see, for the body of a readiness probe: `fresh`, `aging` or `stale`, and
    /// `; cold` behind it. The reasons belong into the log.
    #[must_use]
    pub const fn summary(&self) -> &'static str {
        match (self.freshness, self.cold) {
            (Freshness::Fresh, false) => "fresh",
            (Freshness::Fresh, true) => "fresh; cold",
            (Freshness::Aging, false) => "aging",
            (Freshness::Aging, true) => "aging; cold",
            (Freshness::Stale, false) => "stale",
            (Freshness::Stale, true) => "stale; cold",
        }
    }

    /// The same for programs: one JSON object with `freshness`, `ready`, `alarm`, `cold`,
    /// `age_seconds`, `stale_at`, `position` and `reasons`. Holds no secret; the reasons name addresses of
    /// mirrors and signers, so show it to operators.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "freshness": self.name(),
            "ready": self.is_ready(),
            "alarm": self.alarm,
            "cold": self.cold,
            "age_seconds": self.age.map(|age| age.as_secs()),
            "stale_at": self.stale_at.map(|at| at.to_string()),
            "position": self.position.map(|(epoch, sequence)| [epoch, sequence]),
            "reasons": self.reasons,
        })
        .to_string()
    }

    const fn name(&self) -> &'static str {
        match self.freshness {
            Freshness::Fresh => "fresh",
            Freshness::Aging => "aging",
            Freshness::Stale => "stale",
        }
    }

    pub(crate) fn of(inner: &Inner) -> Self {
        let mut health = Self::of_feed(inner);
        health.reasons.extend(inner.keys.troubles());
        let ask = inner.ask_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = inner.clock.read().monotonic;
        let ask = ask.map(|(at, why)| (now.saturating_sub(at), why)).filter(|(ago, _)| *ago < TOLD);
        health.reasons.extend(ask.map(|(ago, why)| format!("an ask {} s ago: {why}", ago.as_secs())));
        health.cold = inner.keys.is_empty() && inner.memory.held().lineages == 0;
        health
    }

    fn of_feed(inner: &Inner) -> Self {
        let reading = inner.clock.read();
        let report = inner.feed.report();
        let mut reasons = Vec::new();
        if let Some(alarm) = &report.alarm {
            reasons.push(format!("alarm: {alarm}"));
        }
        let Some(view) = inner.feed.view() else {
            let freshness = if inner.feed.is_none() {
                reasons.push("this verifier was built without a revocation feed".to_owned());
                Freshness::Fresh
            } else {
                reasons.push("no revocation state was loaded yet".to_owned());
                Freshness::Stale
            };
            reasons.extend(report.trouble);
            return Self {
                freshness,
                alarm: report.alarm.is_some(),
                age: None,
                stale_at: None,
                position: None,
                cold: false,
                reasons,
            };
        };
        let freshness = view.freshness(&reading, &inner.ages);
        let age = view.age(&reading);
        match freshness {
            Freshness::Fresh => {}
            Freshness::Aging => reasons.push(format!("the revocation state is {} s old", age.as_secs())),
            Freshness::Stale => {
                reasons.push(format!("the revocation state is stale, {} s old", age.as_secs()));
            }
        }
        reasons.extend(report.trouble);
        Self {
            freshness,
            alarm: report.alarm.is_some(),
            age: Some(age),
            stale_at: Some(view.stale_at(&inner.ages)),
            position: Some((view.position.epoch, view.position.sequence)),
            cold: false,
            reasons,
        }
    }
}

/// With every reason, so for the log and for operators: see [`Health::summary`].
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.summary())?;
        self.reasons.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}
