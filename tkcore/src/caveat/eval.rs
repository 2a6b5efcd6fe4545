//! What a caveat says to one access (truth tables CV-40 to CV-62).

use super::word::{self, Kinds, Resources, Value, Words, unquoted};
use super::{About, Caveat, Operand, Operator, path};
use crate::budget::{Budget, BudgetSpent};
use crate::request::{Access, Fact, Request};
use crate::time::Timestamp;

/// One access of a request, beside what the verified token itself says: what a caveat is judged
/// against.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    pub(crate) request: &'r Request<'r>,
    pub(crate) access: &'r Access<'r>,
    pub(crate) subject: Option<&'r str>,
    pub(crate) audience: Option<&'r str>,
}

/// What one caveat says to one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admits,
    /// The fact is absent and the caveat says `?`.
    NotApplicable,
    Refuses(Reason),
}

/// Why a caveat refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// The request has no such fact, or an empty set.
    Absent,
    /// The fact is of a type that this operator or value is not for.
    WrongType,
    /// The fact is not among what is admitted.
    NotAdmitted,
    /// The fact is absent and the actions are not those after `else`.
    Otherwise,
}

impl<'r> Asked<'r> {
    /// The moment of the request.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.request.now()
    }

    /// The tenant of the request, which is the token's.
    #[must_use]
    pub const fn tenant(&self) -> &'r str {
        self.request.tenant()
    }

    /// The actions of this access, at least one.
    #[must_use]
    pub fn actions(&self) -> &'r [&'r str] {
        self.access.actions()
    }

    /// On whose behalf the token was minted.
    #[must_use]
    pub const fn subject(&self) -> Option<&'r str> {
        self.subject
    }

    /// The audience that the token's key is for.
    #[must_use]
    pub const fn audience(&self) -> Option<&'r str> {
        self.audience
    }

    /// A fact that the service states about this access, or about all of them. `None` when
    /// there is none, and for an empty set.
    #[must_use]
    pub fn stated(&self, name: &str) -> Option<Fact<'r>> {
        self.fact(About::Fact, name)
    }

    /// How many facts a name may have to be looked for among.
    const fn facts(&self) -> usize {
        self.access.fact_count().saturating_add(self.request.fact_count())
    }

    /// What a name stands for in this access. An empty set is an absent fact.
    pub(crate) fn fact(&self, about: About, name: &str) -> Option<Fact<'r>> {
        self.fact_named(about, name.as_bytes())
    }

    #[inline]
    fn fact_named(&self, about: About, name: &[u8]) -> Option<Fact<'r>> {
        match about {
            About::Time => Some(Fact::Time(self.request.now())),
            About::Action => Some(Fact::Set(self.access.actions())),
            About::Tenant => Some(Fact::Text(self.request.tenant())),
            About::Subject => self.subject.map(Fact::Text),
            About::Audience => self.audience.map(Fact::Text),
            About::Fact => self.access.find(name).or_else(|| self.request.find(name)),
        }
        .filter(|fact| !matches!(fact, Fact::Set([])))
    }
}

impl Caveat<'_> {
    /// Judges one access. The work is charged before it is done: a fact that is looked past counts
    /// as a byte, since names are told apart by their lengths or first bytes.
    #[inline]
    pub(crate) fn judge(&self, asked: &Asked<'_>, budget: &mut Budget) -> Result<Verdict, BudgetSpent> {
        budget.spend_bytes(asked.facts())?;
        let Some(fact) = asked.fact_named(self.about, self.name_bytes()) else {
            return match self.otherwise_bytes() {
                None if self.optional => Ok(Verdict::NotApplicable),
                None => Ok(Verdict::Refuses(Reason::Absent)),
                Some(list) => {
                    charge(budget, list, asked.access.actions().len())?;
                    let all = asked.access.actions().iter().all(|action| lists(list, action));
                    Ok(if all { Verdict::Admits } else { Verdict::Refuses(Reason::Otherwise) })
                }
            };
        };
        let satisfied = match self.operand() {
            Operand::One(raw, value) => {
                if let Fact::Set(elements) = fact {
                    charge(budget, raw, elements.len())?;
                }
                one(self.operator, raw, value, fact)
            }
            Operand::List(raw, kinds) => {
                charge(budget, raw, fact.elements())?;
                list(raw, kinds, fact, self.operator == Operator::NotIn)
            }
            Operand::Resources(raw, kinds) => {
                charge(budget, raw, fact.elements().saturating_mul(asked.access.actions().len()))?;
                allows(raw, kinds, fact, asked.access.actions())
            }
        };
        Ok(match satisfied {
            Some(true) => Verdict::Admits,
            Some(false) => Verdict::Refuses(Reason::NotAdmitted),
            None => Verdict::Refuses(Reason::WrongType),
        })
    }
}

/// A value is compared with each element of a set.
fn charge(budget: &mut Budget, value: &[u8], times: usize) -> Result<(), BudgetSpent> {
    budget.spend_bytes(value.len().saturating_mul(times))
}

/// `None`: the fact is not of the type.
#[inline]
fn one(operator: Operator, raw: &[u8], value: Value, fact: Fact<'_>) -> Option<bool> {
    match operator {
        Operator::Equal => equal(raw, value, fact, true),
        Operator::NotEqual => equal(raw, value, fact, false),
        Operator::Less => order(value, fact).map(core::cmp::Ordering::is_lt),
        Operator::AtMost => order(value, fact).map(core::cmp::Ordering::is_le),
        Operator::More => order(value, fact).map(core::cmp::Ordering::is_gt),
        Operator::AtLeast => order(value, fact).map(core::cmp::Ordering::is_ge),
        Operator::Under => match fact {
            Fact::Path(fact) => Some(path::is_under(fact.as_str().as_bytes(), unquoted(raw))),
            Fact::Text(_) | Fact::Int(_) | Fact::Time(_) | Fact::Ip(_) | Fact::Set(_) => None,
        },
        // These never come with one word.
        Operator::In | Operator::NotIn | Operator::Allows => None,
    }
}

/// Whether the fact, or each element of a set, equals the value; or each does not.
#[inline]
fn equal(raw: &[u8], value: Value, fact: Fact<'_>, wanted: bool) -> Option<bool> {
    let is_text = value.kinds().holds(Kinds::TEXT);
    match (fact, value) {
        (Fact::Text(fact), _) if is_text => Some(word::spells(raw, fact) == wanted),
        (Fact::Set(elements), _) if is_text => {
            Some(elements.iter().all(|element| word::spells(raw, element) == wanted))
        }
        (Fact::Int(fact), Value::Int(value)) => Some((fact == value) == wanted),
        (Fact::Time(fact), Value::Time(value)) => Some((fact == value) == wanted),
        (Fact::Ip(fact), Value::Ip) => Some(word::covers(raw, fact) == wanted),
        (Fact::Path(fact), Value::Path | Value::QuotedPath) => {
            Some((fact.as_str().as_bytes() == unquoted(raw)) == wanted)
        }
        (Fact::Text(_) | Fact::Int(_) | Fact::Time(_) | Fact::Ip(_) | Fact::Path(_) | Fact::Set(_), _) => {
            None
        }
    }
}

#[inline]
fn order(value: Value, fact: Fact<'_>) -> Option<core::cmp::Ordering> {
    match (fact, value) {
        (Fact::Int(fact), Value::Int(value)) => Some(fact.cmp(&value)),
        (Fact::Time(fact), Value::Time(value)) => Some(fact.cmp(&value)),
        (Fact::Text(_) | Fact::Int(_) | Fact::Time(_) | Fact::Ip(_) | Fact::Path(_) | Fact::Set(_), _) => {
            None
        }
    }
}

/// Whether a list of words holds this text.
#[inline]
fn lists(list: &[u8], text: &str) -> bool {
    Words::new(list).any(|word| word::spells(word, text))
}

#[inline]
fn list(raw: &[u8], kinds: Kinds, fact: Fact<'_>, negated: bool) -> Option<bool> {
    if !kinds.holds(fact.kind()) {
        return None;
    }
    Some(match fact {
        Fact::Text(fact) => lists(raw, fact) != negated,
        Fact::Set(elements) => elements.iter().all(|element| lists(raw, element) != negated),
        Fact::Int(fact) => Words::new(raw).any(|word| word::integer(word) == Some(fact)) != negated,
        Fact::Time(fact) => {
            Words::new(raw).any(|word| Timestamp::from_rfc3339_bytes(word) == Ok(fact)) != negated
        }
        Fact::Ip(fact) => Words::new(raw).any(|word| word::covers(word, fact)) != negated,
        Fact::Path(fact) => Words::new(raw).any(|word| unquoted(word) == fact.as_str().as_bytes()) != negated,
    })
}

fn allows(raw: &[u8], kinds: Kinds, fact: Fact<'_>, actions: &[&str]) -> Option<bool> {
    if !kinds.holds(fact.kind()) {
        return None;
    }
    let allowed = |is: &dyn Fn(&[u8]) -> bool| {
        Resources::new(raw)
            .find(|(resource, _)| is(resource))
            .is_some_and(|(_, list)| actions.iter().all(|action| lists(list, action)))
    };
    match fact {
        Fact::Text(fact) => Some(allowed(&|resource| word::spells(resource, fact))),
        Fact::Set(elements) => {
            Some(elements.iter().all(|element| allowed(&|resource| word::spells(resource, element))))
        }
        Fact::Int(fact) => Some(allowed(&|resource| word::integer(resource) == Some(fact))),
        Fact::Path(fact) => Some(allowed(&|resource| unquoted(resource) == fact.as_str().as_bytes())),
        Fact::Time(_) | Fact::Ip(_) => None,
    }
}

impl From<Reason> for Verdict {
    fn from(reason: Reason) -> Self {
        Self::Refuses(reason)
    }
}
