//! What a request needs, in values of its own, so that it can wait for the signer.

use std::borrow::Cow;
use std::net::IpAddr;

use tkcore::{Access, Fact, Request, RequestBuilder, RequestError, Timestamp};

use crate::manner::{Diligence, Manner};
use crate::verifier::Verifier;

/// What a service says that a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// A token that is granted for this.
    Grant(Facts),
    /// The same if a token is presented at all; without one the request goes on without a grant.
    /// A token that is presented and refused refuses the request.
    GrantIfPresented(Facts),
    /// Nothing: health, static files, a public page. A token is not looked at.
    Nothing,
    /// The service does not know what this asks for: refused, whatever is presented.
    Unknown,
}

impl From<Facts> for Needs {
    fn from(facts: Facts) -> Self {
        Self::Grant(facts)
    }
}

/// `None`: the service does not know what this asks for.
impl From<Option<Facts>> for Needs {
    fn from(facts: Option<Facts>) -> Self {
        facts.map_or(Self::Unknown, Self::Grant)
    }
}

/// A [`Request`] in values of its own: tenant, actions, typed facts, and in what manner it is to be
/// decided. What cannot be stated in a request (a tenant that is no name, a path with
/// `..`) refuses when it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    tenant: Word,
    shared: FactsAccess,
    accesses: Vec<FactsAccess>,
    manner: Manner,
}

/// One of several accesses of a request, each of which must be admitted: actions, and facts about
/// what they touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactsAccess {
    actions: Vec<Word>,
    facts: Vec<(Word, Value)>,
}

type Word = Cow<'static, str>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(Word),
    Int(i64),
    Time(Timestamp),
    Ip(IpAddr),
    Path(Word),
    Set(Vec<String>),
}

impl Facts {
    /// A request about this tenant.
    #[must_use]
    pub fn new(tenant: impl Into<Cow<'static, str>>) -> Self {
        Self {
            tenant: tenant.into(),
            shared: FactsAccess::default(),
            accesses: Vec::new(),
            manner: Manner::default(),
        }
    }

    /// It does this; there must be at least one action.
    #[must_use]
    pub fn action(mut self, action: impl Into<Cow<'static, str>>) -> Self {
        self.shared = self.shared.action(action);
        self
    }

    /// States a text.
    #[must_use]
    pub fn text(self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.fact(name.into(), Value::Text(value.into()))
    }

    /// States an integer.
    #[must_use]
    pub fn int(self, name: impl Into<Cow<'static, str>>, value: i64) -> Self {
        self.fact(name.into(), Value::Int(value))
    }

    /// States a time.
    #[must_use]
    pub fn time(self, name: impl Into<Cow<'static, str>>, value: Timestamp) -> Self {
        self.fact(name.into(), Value::Time(value))
    }

    /// States an address.
    #[must_use]
    pub fn ip(self, name: impl Into<Cow<'static, str>>, value: IpAddr) -> Self {
        self.fact(name.into(), Value::Ip(value))
    }

    /// States a path: absolute, decoded, without `..`, percent signs, doubled or trailing slashes;
    /// any other refuses the request.
    #[must_use]
    pub fn path(self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.fact(name.into(), Value::Path(value.into()))
    }

    /// States a set of texts, each of which must satisfy a caveat. An empty one counts as absent.
    #[must_use]
    pub fn set<V: Into<String>>(
        self,
        name: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.fact(name.into(), Value::Set(values.into_iter().map(Into::into).collect()))
    }

    /// One more access, which must be admitted as well: copying reads one thing and writes another.
    #[must_use]
    pub fn access(mut self, access: FactsAccess) -> Self {
        self.accesses.push(access);
        self
    }

    /// Must have the signer's word of now: see [`Diligence::AskSigner`].
    #[must_use]
    pub const fn ask_signer(mut self) -> Self {
        self.manner = self.manner.diligence(Diligence::AskSigner);
        self
    }

    /// As part of the trace that this value of a `traceparent` field names: see
    /// [`Manner::traceparent`]. For whoever asks the verifier without a guard or a `Bearer`, which
    /// see to it themselves.
    #[must_use]
    pub fn traceparent(mut self, value: &[u8]) -> Self {
        self.manner = self.manner.traceparent(value);
        self
    }

    /// The same, as what suffices when a token is presented at all.
    #[must_use]
    pub const fn if_presented(self) -> Needs {
        Needs::GrantIfPresented(self)
    }

    /// With what diligence it is to be decided.
    #[must_use]
    pub const fn diligence(&self) -> Diligence {
        self.manner.diligence
    }

    pub(crate) const fn manner(&self) -> Manner {
        self.manner
    }

    /// The request of these facts at `verifier`, with its time and audience, handed to `work`.
    ///
    /// # Errors
    /// [`RequestError`] when something cannot be stated. Refuse the request then.
    pub fn with_request<R>(
        &self,
        verifier: &Verifier,
        work: impl FnOnce(&Request<'_>) -> R,
    ) -> Result<R, RequestError> {
        // Sets of borrowed texts, which the request borrows in turn.
        let all = std::iter::once(&self.shared).chain(&self.accesses);
        let sets: Vec<Vec<&str>> = all.flat_map(FactsAccess::sets).collect();
        let mut sets = sets.iter();
        let mut request = self.shared.state(verifier.request(&self.tenant), &mut sets);
        for access in &self.accesses {
            let mut actions = access.actions.iter();
            let first = actions.next().ok_or(RequestError::NoAction)?;
            let stated = actions.fold(Access::to(first), |access, action| access.and(action));
            request = request.access(access.state(stated, &mut sets));
        }
        request.build().map(|request| work(&request))
    }

    fn fact(mut self, name: Word, value: Value) -> Self {
        self.shared.facts.push((name, value));
        self
    }
}

impl FactsAccess {
    /// An access that does `action`.
    #[must_use]
    pub fn to(action: impl Into<Cow<'static, str>>) -> Self {
        Self::default().action(action)
    }

    /// It does this as well.
    #[must_use]
    pub fn action(mut self, action: impl Into<Cow<'static, str>>) -> Self {
        self.actions.push(action.into());
        self
    }

    /// States a text about it.
    #[must_use]
    pub fn text(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.facts.push((name.into(), Value::Text(value.into())));
        self
    }

    /// States an integer about it.
    #[must_use]
    pub fn int(mut self, name: impl Into<Cow<'static, str>>, value: i64) -> Self {
        self.facts.push((name.into(), Value::Int(value)));
        self
    }

    /// States a path about it, as [`Facts::path`].
    #[must_use]
    pub fn path(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.facts.push((name.into(), Value::Path(value.into())));
        self
    }

    fn sets(&self) -> impl Iterator<Item = Vec<&str>> {
        self.facts.iter().filter_map(|(_, value)| match value {
            Value::Set(values) => Some(values.iter().map(String::as_str).collect()),
            Value::Text(_) | Value::Int(_) | Value::Time(_) | Value::Ip(_) | Value::Path(_) => None,
        })
    }

    fn state<'r, S: State<'r>>(&'r self, mut to: S, sets: &mut std::slice::Iter<'r, Vec<&'r str>>) -> S {
        to = to.actions(self);
        for (name, value) in &self.facts {
            to = match value {
                Value::Path(path) => to.path(name, path),
                Value::Text(text) => to.fact(name, Fact::Text(text)),
                Value::Int(int) => to.fact(name, Fact::Int(*int)),
                Value::Time(time) => to.fact(name, Fact::Time(*time)),
                Value::Ip(ip) => to.fact(name, Fact::Ip(*ip)),
                Value::Set(_) => to.fact(name, Fact::Set(sets.next().map_or(&[], Vec::as_slice))),
            };
        }
        to
    }
}

/// A request and an access are described by the same words.
trait State<'r>: Sized {
    fn actions(self, from: &'r FactsAccess) -> Self;
    fn fact(self, name: &'r str, fact: Fact<'r>) -> Self;
    fn path(self, name: &'r str, path: &'r str) -> Self;
}

impl<'r> State<'r> for RequestBuilder<'r> {
    fn actions(self, from: &'r FactsAccess) -> Self {
        from.actions.iter().fold(self, |request, action| request.action(action))
    }

    fn fact(self, name: &'r str, fact: Fact<'r>) -> Self {
        RequestBuilder::fact(self, name, fact)
    }

    fn path(self, name: &'r str, path: &'r str) -> Self {
        RequestBuilder::path(self, name, path)
    }
}

impl<'r> State<'r> for Access<'r> {
    /// They were stated when it was begun.
    fn actions(self, _: &'r FactsAccess) -> Self {
        self
    }

    fn fact(self, name: &'r str, fact: Fact<'r>) -> Self {
        Access::fact(self, name, fact)
    }

    fn path(self, name: &'r str, path: &'r str) -> Self {
        Access::path(self, name, path)
    }
}
