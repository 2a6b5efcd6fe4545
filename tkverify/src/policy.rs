//! What to do when the revocation state is too old to decide by: per service, per action.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a service does with a request while its revocation state is stale. There is no choice
/// that allows without bound, and none that is taken in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenStale {
    /// Refuse: 503 until the state is fresh again.
    #[default]
    Refuse,
    /// Ask the signer about every request. It knows what is revoked; when it does not answer,
    /// the request is refused.
    Ask,
}

/// The policies of one verifier.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staleness {
    otherwise: WhenStale,
    named: BTreeMap<String, Rule>,
}

/// What applies to one action, ordered from loose to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Decide by the old state, as long as it has been stale for no longer than this.
    Grace(std::cmp::Reverse<Duration>),
    Ask,
    Refuse,
}

impl From<WhenStale> for Rule {
    fn from(when: WhenStale) -> Self {
        match when {
            WhenStale::Refuse => Self::Refuse,
            WhenStale::Ask => Self::Ask,
        }
    }
}

impl Staleness {
    pub(crate) const fn set_otherwise(&mut self, when: WhenStale) {
        self.otherwise = when;
    }

    pub(crate) fn set(&mut self, action: &str, rule: Rule) {
        self.named.insert(action.to_owned(), rule);
    }

    /// The longest that any action may go on being decided by an old state.
    pub(crate) fn longest_grace(&self) -> Duration {
        let graces = self.named.values().filter_map(|rule| match rule {
            Rule::Grace(limit) => Some(limit.0),
            Rule::Ask | Rule::Refuse => None,
        });
        graces.max().unwrap_or_default()
    }

    /// The strictest rule of all actions that a request asks for.
    pub(crate) fn rule<'a>(&self, actions: impl IntoIterator<Item = &'a str>) -> Rule {
        let of = |action| self.named.get(action).copied().unwrap_or_else(|| self.otherwise.into());
        actions.into_iter().map(of).max().unwrap_or_else(|| self.otherwise.into())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;

    #[test]
    fn the_strictest_rule_of_all_actions_applies() {
        let mut policy = Staleness::default();
        let (short, long) = (Duration::from_secs(60), Duration::from_secs(600));
        policy.set("read", Rule::Grace(Reverse(long)));
        policy.set("list", Rule::Grace(Reverse(short)));
        policy.set("ask", Rule::Ask);
        assert_eq!(policy.rule(["read"]), Rule::Grace(Reverse(long)));
        assert_eq!(policy.rule(["read", "list"]), Rule::Grace(Reverse(short)));
        assert_eq!(policy.rule(["ask", "list"]), Rule::Ask);
        assert_eq!(policy.rule(["read", "write"]), Rule::Refuse);
        assert_eq!(policy.rule([]), Rule::Refuse);
        policy.set_otherwise(WhenStale::Ask);
        assert_eq!(policy.rule(["read", "write"]), Rule::Ask);
        policy.set("write", Rule::Refuse);
        assert_eq!(policy.rule(["read", "write"]), Rule::Refuse);
    }
}
