//! What a caveat says to one access (truth tables CV-40 to CV-62).

use core::net::IpAddr;

use super::parse::{self, Watch};
use super::word::{self, Kinds, Resources, Value, Words, same, unquoted};
use super::{About, Caveat, Operand, Operator, ParseError, address, path};
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

    /// Charges the looking up of a name: a fact that is looked past counts as a byte, since names
    /// are told apart by their lengths or first bytes.
    #[inline]
    pub(crate) fn charge_look_up(&self, budget: &mut Budget) -> Result<(), BudgetSpent> {
        budget.spend_bytes(self.access.fact_count().saturating_add(self.request.fact_count()))
    }

    /// What a name stands for in this access. An empty set is an absent fact.
    pub(crate) fn fact(&self, about: About, name: &str) -> Option<Fact<'r>> {
        self.fact_named(about, name.as_bytes())
    }

    #[inline(always)]
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

/// Why there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unjudged {
    /// It is no caveat of the language.
    Unreadable(ParseError),
    /// The budget is used up.
    BudgetSpent,
}

impl From<BudgetSpent> for Unjudged {
    fn from(_: BudgetSpent) -> Self {
        Self::BudgetSpent
    }
}

/// Reads one caveat and judges one access by it, in one pass: what the access states is looked up
/// as soon as the name is read, and looked for in a list while the list is read. Most requests have
/// one access and most facts one value; for those no list is walked twice.
#[inline(always)]
pub(crate) fn read_and_judge(
    text: &[u8],
    asked: &Asked<'_>,
    budget: &mut Budget,
) -> Result<Verdict, Unjudged> {
    asked.charge_look_up(budget)?;
    let finder = Finder { asked, fact: None, found: false };
    let (caveat, Finder { fact, found, .. }) = parse::read(text, finder).map_err(Unjudged::Unreadable)?;
    let found = match fact {
        Some(Fact::Set(elements)) if elements.len() != 1 => None,
        Some(_) | None => Some(found),
    };
    caveat.judge_fact(asked, fact, found, budget).map_err(Unjudged::from)
}

/// Looks what an access states up, and for that in the caveat's list if it is one value.
struct Finder<'q, 'r> {
    asked: &'q Asked<'r>,
    fact: Option<Fact<'r>>,
    found: bool,
}

impl<'a> Watch<'a> for Finder<'_, '_> {
    #[inline(always)]
    fn name(&mut self, about: About, name: &'a [u8]) {
        self.fact = self.asked.fact_named(about, name);
    }

    #[inline(always)]
    fn element(&mut self, word: &'a [u8], value: Value) {
        if !self.found
            && let Some(fact) = self.fact
        {
            self.found = is_element(word, value, fact);
        }
    }
}

impl Caveat<'_> {
    /// What a caveat about `time` says of a moment, which is all it looks at; `None` for any other.
    #[cfg(all(feature = "mint", feature = "third-party"))]
    pub(crate) fn admits_time(self, now: Timestamp) -> Option<bool> {
        let fact = Fact::Time(now);
        (self.about == About::Time).then(|| match self.operand() {
            Operand::One(raw, value) => one(self.operator, raw, value, fact) == Some(true),
            Operand::List(raw, kinds) => {
                list(raw, kinds, fact, self.operator == Operator::NotIn) == Some(true)
            }
            Operand::Resources(..) => false,
        })
    }

    /// Judges one access.
    pub(crate) fn judge(self, asked: &Asked<'_>, budget: &mut Budget) -> Result<Verdict, BudgetSpent> {
        asked.charge_look_up(budget)?;
        self.judge_fact(asked, asked.fact_named(self.about, self.name_bytes()), None, budget)
    }

    /// `found`: whether the fact is in the list, if that is known already. The work is charged
    /// before it is done.
    #[inline(always)]
    fn judge_fact(
        self,
        asked: &Asked<'_>,
        fact: Option<Fact<'_>>,
        found: Option<bool>,
        budget: &mut Budget,
    ) -> Result<Verdict, BudgetSpent> {
        let Some(fact) = fact else {
            return match self.otherwise_bytes() {
                None if self.optional => Ok(Verdict::NotApplicable),
                None => Ok(Verdict::Refuses(Reason::Absent)),
                Some(list) => otherwise(list, asked.access.actions(), budget),
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
                let negated = self.operator == Operator::NotIn;
                match found {
                    Some(found) if kinds.holds(fact.kind()) => Some(found != negated),
                    Some(_) => None,
                    None => list(raw, kinds, fact, negated),
                }
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

#[inline(never)]
fn otherwise(list: &[u8], actions: &[&str], budget: &mut Budget) -> Result<Verdict, BudgetSpent> {
    charge(budget, list, actions.len())?;
    let all = actions.iter().all(|action| lists(list, action));
    Ok(if all { Verdict::Admits } else { Verdict::Refuses(Reason::Otherwise) })
}

/// Whether an element of a list is this one value, or a network that holds it. Whether the list is
/// of the fact's type is known when all of it is read.
#[inline(always)]
fn is_element(word: &[u8], value: Value, fact: Fact<'_>) -> bool {
    match (fact, value) {
        (Fact::Text(fact), _) => word::spells(word, fact),
        // The one element of a set must satisfy as a text must.
        (Fact::Set([element]), _) => word::spells(word, element),
        (Fact::Int(fact), Value::Int(value)) => fact == value,
        (Fact::Time(fact), Value::Time(value)) => fact == value,
        (Fact::Ip(IpAddr::V4(fact)), Value::Ip(Some(own)) | Value::Net(Some(own))) => own.covers(fact),
        (Fact::Ip(ip @ IpAddr::V6(_)), Value::Ip(None) | Value::Net(None)) => address::covers(word, ip),
        (Fact::Path(fact), Value::Path | Value::QuotedPath) => same(unquoted(word), fact.as_str().as_bytes()),
        (Fact::Int(_) | Fact::Time(_) | Fact::Ip(_) | Fact::Path(_) | Fact::Set(_), _) => false,
    }
}

/// A value is compared with each element of a set.
fn charge(budget: &mut Budget, value: &[u8], times: usize) -> Result<(), BudgetSpent> {
    budget.spend_bytes(value.len().saturating_mul(times))
}

/// `None`: the fact is not of the type.
#[inline(always)]
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
#[inline(always)]
fn equal(raw: &[u8], value: Value, fact: Fact<'_>, wanted: bool) -> Option<bool> {
    let is_text = value.kinds().holds(Kinds::TEXT);
    match (fact, value) {
        (Fact::Text(fact), _) if is_text => Some(word::spells(raw, fact) == wanted),
        (Fact::Set(elements), _) if is_text => {
            Some(elements.iter().all(|element| word::spells(raw, element) == wanted))
        }
        (Fact::Int(fact), Value::Int(value)) => Some((fact == value) == wanted),
        (Fact::Time(fact), Value::Time(value)) => Some((fact == value) == wanted),
        (Fact::Ip(fact), Value::Ip(_)) => Some(address::covers(raw, fact) == wanted),
        (Fact::Path(fact), Value::Path | Value::QuotedPath) => {
            Some(same(fact.as_str().as_bytes(), unquoted(raw)) == wanted)
        }
        (Fact::Text(_) | Fact::Int(_) | Fact::Time(_) | Fact::Ip(_) | Fact::Path(_) | Fact::Set(_), _) => {
            None
        }
    }
}

#[inline(always)]
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

#[inline(never)]
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
        Fact::Ip(fact) => Words::new(raw).any(|word| address::covers(word, fact)) != negated,
        Fact::Path(fact) => Words::new(raw).any(|word| unquoted(word) == fact.as_str().as_bytes()) != negated,
    })
}

#[inline(never)]
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
