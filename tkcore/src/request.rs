//! What a service states about a request. Every fact is vouched for by the service; no token
//! can add one.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::caveat::word::{Kinds, same};
use crate::caveat::{PathFault, is_name, path};
use crate::limits;
use crate::name::{self, NameError};
use crate::time::Timestamp;

/// Something the service knows about a request, with its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact<'r> {
    /// A text, compared byte for byte.
    Text(&'r str),
    /// An integer.
    Int(i64),
    /// A point in time.
    Time(Timestamp),
    /// An address. IPv4-mapped IPv6, as dual-stack sockets report it, counts as the IPv4 address.
    Ip(IpAddr),
    /// An absolute path of the one accepted form.
    Path(PathFact<'r>),
    /// Texts of which every one must satisfy a caveat; an empty set is an absent fact.
    Set(&'r [&'r str]),
}

/// A path of the one form in which it can be compared by whole segments: absolute, no `.` or
/// `..`, no doubled or trailing slash, no percent sign, no backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFact<'r>(&'r str);

/// One access that a request asks for: actions, and facts about what they touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<'r> {
    actions: Vec<&'r str>,
    facts: Vec<(&'r str, Fact<'r>)>,
    fault: Option<RequestError>,
}

/// A request as the service describes it: a tenant, a moment, at least one action, and any named
/// facts. With several accesses, all must be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'r> {
    tenant: &'r str,
    now: Timestamp,
    audience: Option<&'r str>,
    facts: Vec<(&'r str, Fact<'r>)>,
    accesses: Vec<Access<'r>>,
}

/// Collects what makes a [`Request`].
#[derive(Debug, Clone)]
pub struct RequestBuilder<'r> {
    tenant: &'r str,
    now: Timestamp,
    audience: Option<&'r str>,
    shared: Access<'r>,
    accesses: Vec<Access<'r>>,
}

/// Why a request cannot be described so. Refuse the request: what cannot be stated cannot be
/// checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The tenant is no name.
    Tenant(NameError),
    /// The audience is no name.
    Audience(NameError),
    /// No access has an action, or one of several has none.
    NoAction,
    /// An action is empty or holds a control character.
    Action,
    /// The name of a fact is not a lower-case letter and then lower-case letters, digits, `.`,
    /// `_`, `-`, at most 64 bytes.
    FactName,
    /// `time`, `action`, `tenant`, `subject` and `audience` come from the verified token and the
    /// request itself, never from a free fact.
    Reserved,
    /// The same fact twice.
    Duplicate,
    /// The path is not of the one accepted form.
    Path(PathFault),
    /// More of something than [`limits`] allows.
    TooMany,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(error) => write!(f, "tenant of the request: {error}"),
            Self::Audience(error) => write!(f, "audience of the request: {error}"),
            Self::NoAction => f.write_str("a request needs at least one action"),
            Self::Action => f.write_str("an action is empty or holds a control character"),
            Self::FactName => {
                f.write_str("a fact's name is lower-case letters, digits, `.`, `_`, `-`, at most 64 bytes")
            }
            Self::Reserved => f.write_str("time, action, tenant, subject and audience are no free facts"),
            Self::Duplicate => f.write_str("the same fact is stated twice"),
            Self::Path(fault) => write!(f, "path of the request: {fault}"),
            Self::TooMany => f.write_str("more actions, facts, elements or accesses than a request may have"),
        }
    }
}

impl core::error::Error for RequestError {}

impl<'r> PathFact<'r> {
    /// Checks a path. The service decodes and normalises before it states one.
    ///
    /// # Errors
    /// [`RequestError::Path`] says which rule it breaks.
    pub fn new(path: &'r str) -> Result<Self, RequestError> {
        path::check(path.as_bytes()).map(|()| Self(path)).map_err(RequestError::Path)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &'r str {
        self.0
    }
}

impl Fact<'_> {
    pub(crate) const fn kind(&self) -> Kinds {
        match self {
            Self::Text(_) | Self::Set(_) => Kinds::TEXT,
            Self::Int(_) => Kinds::INT,
            Self::Time(_) => Kinds::TIME,
            Self::Ip(_) => Kinds::IP,
            Self::Path(_) => Kinds::PATH,
        }
    }

    /// How many values a caveat has to look at.
    pub(crate) const fn elements(&self) -> usize {
        match self {
            Self::Set(elements) => elements.len(),
            Self::Text(_) | Self::Int(_) | Self::Time(_) | Self::Ip(_) | Self::Path(_) => 1,
        }
    }
}

impl<'r> Access<'r> {
    /// An access that does `action`.
    #[must_use]
    pub fn to(action: &'r str) -> Self {
        Self { actions: Vec::from([action]), facts: Vec::new(), fault: None }
    }

    const fn empty() -> Self {
        Self { actions: Vec::new(), facts: Vec::new(), fault: None }
    }

    /// It does this as well.
    #[must_use]
    pub fn and(mut self, action: &'r str) -> Self {
        self.actions.push(action);
        self
    }

    /// States a fact of any type about it.
    #[must_use]
    pub fn fact(mut self, name: &'r str, fact: Fact<'r>) -> Self {
        let fact = match fact {
            Fact::Ip(ip) => Fact::Ip(ip.to_canonical()),
            Fact::Text(_) | Fact::Int(_) | Fact::Time(_) | Fact::Path(_) | Fact::Set(_) => fact,
        };
        self.facts.push((name, fact));
        self
    }

    /// States a text.
    #[must_use]
    pub fn text(self, name: &'r str, value: &'r str) -> Self {
        self.fact(name, Fact::Text(value))
    }

    /// States an integer.
    #[must_use]
    pub fn int(self, name: &'r str, value: i64) -> Self {
        self.fact(name, Fact::Int(value))
    }

    /// States a time.
    #[must_use]
    pub fn time(self, name: &'r str, value: Timestamp) -> Self {
        self.fact(name, Fact::Time(value))
    }

    /// States an address.
    #[must_use]
    pub fn ip(self, name: &'r str, value: IpAddr) -> Self {
        self.fact(name, Fact::Ip(value))
    }

    /// States a path; a malformed one makes the request an error.
    #[must_use]
    pub fn path(mut self, name: &'r str, value: &'r str) -> Self {
        match PathFact::new(value) {
            Ok(path) => self.fact(name, Fact::Path(path)),
            Err(fault) => {
                self.fault = Some(fault);
                self
            }
        }
    }

    /// States a set of texts, each of which must satisfy a caveat. An empty one counts as absent.
    #[must_use]
    pub fn set(self, name: &'r str, values: &'r [&'r str]) -> Self {
        self.fact(name, Fact::Set(values))
    }

    /// The actions, at least one in a built request.
    #[must_use]
    pub fn actions(&self) -> &[&'r str] {
        &self.actions
    }

    pub(crate) const fn fact_count(&self) -> usize {
        self.facts.len()
    }

    #[inline]
    pub(crate) fn find(&self, name: &[u8]) -> Option<Fact<'r>> {
        find(&self.facts, name)
    }

    fn check(&self, shared: &[(&str, Fact<'_>)]) -> Result<(), RequestError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.actions.len() > limits::ACTIONS || self.facts.len() > limits::FACTS {
            return Err(RequestError::TooMany);
        }
        for action in &self.actions {
            if action.is_empty() || action.chars().any(char::is_control) {
                return Err(RequestError::Action);
            }
        }
        for (at, (name, fact)) in self.facts.iter().enumerate() {
            if !is_name(name) {
                return Err(RequestError::FactName);
            }
            if matches!(*name, "time" | "action" | "tenant" | "subject" | "audience") {
                return Err(RequestError::Reserved);
            }
            let earlier = self.facts.iter().take(at).chain(shared);
            if earlier.into_iter().any(|(earlier, _)| earlier == name) {
                return Err(RequestError::Duplicate);
            }
            if fact.elements() > limits::SET_ELEMENTS {
                return Err(RequestError::TooMany);
            }
        }
        Ok(())
    }
}

#[inline]
fn find<'r>(facts: &[(&str, Fact<'r>)], name: &[u8]) -> Option<Fact<'r>> {
    facts.iter().find(|(known, _)| same(known.as_bytes(), name)).map(|(_, fact)| *fact)
}

impl<'r> Request<'r> {
    /// Begins a request of `tenant` at `now`.
    #[must_use]
    pub const fn builder(tenant: &'r str, now: Timestamp) -> RequestBuilder<'r> {
        RequestBuilder { tenant, now, audience: None, shared: Access::empty(), accesses: Vec::new() }
    }

    /// Whose resources are asked for.
    #[must_use]
    pub const fn tenant(&self) -> &'r str {
        self.tenant
    }

    /// The moment of the request.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The audience that this service is, if it is one.
    #[must_use]
    pub const fn audience(&self) -> Option<&'r str> {
        self.audience
    }

    /// Every access that must be admitted, at least one.
    #[must_use]
    pub fn accesses(&self) -> &[Access<'r>] {
        &self.accesses
    }

    #[inline]
    pub(crate) fn find(&self, name: &[u8]) -> Option<Fact<'r>> {
        find(&self.facts, name)
    }

    pub(crate) const fn fact_count(&self) -> usize {
        self.facts.len()
    }

    /// A fact stated about this access or about all of them.
    #[cfg(any(feature = "lnd", feature = "pypi", feature = "dcache", feature = "bakery", feature = "l402"))]
    pub(crate) fn fact_of(&self, access: &Access<'r>, name: &str) -> Option<Fact<'r>> {
        access.find(name.as_bytes()).or_else(|| self.find(name.as_bytes()))
    }
}

impl<'r> RequestBuilder<'r> {
    /// The audience that this service is: without one, a token for some audience is refused.
    #[must_use]
    pub const fn audience(mut self, audience: &'r str) -> Self {
        self.audience = Some(audience);
        self
    }

    /// The request does this. Several actions are one access; all must be admitted.
    #[must_use]
    pub fn action(mut self, action: &'r str) -> Self {
        self.shared.actions.push(action);
        self
    }

    /// Adds an access with its own actions and facts, beside the facts stated for all.
    #[must_use]
    pub fn access(mut self, access: Access<'r>) -> Self {
        self.accesses.push(access);
        self
    }

    /// States a fact of any type about every access.
    #[must_use]
    pub fn fact(mut self, name: &'r str, fact: Fact<'r>) -> Self {
        self.shared = self.shared.fact(name, fact);
        self
    }

    /// States a text.
    #[must_use]
    pub fn text(self, name: &'r str, value: &'r str) -> Self {
        self.fact(name, Fact::Text(value))
    }

    /// States an integer.
    #[must_use]
    pub fn int(self, name: &'r str, value: i64) -> Self {
        self.fact(name, Fact::Int(value))
    }

    /// States a time.
    #[must_use]
    pub fn time(self, name: &'r str, value: Timestamp) -> Self {
        self.fact(name, Fact::Time(value))
    }

    /// States an address.
    #[must_use]
    pub fn ip(self, name: &'r str, value: IpAddr) -> Self {
        self.fact(name, Fact::Ip(value))
    }

    /// States a path; a malformed one makes the request an error.
    #[must_use]
    pub fn path(mut self, name: &'r str, value: &'r str) -> Self {
        self.shared = self.shared.path(name, value);
        self
    }

    /// States a set of texts, each of which must satisfy a caveat. An empty one counts as absent.
    #[must_use]
    pub fn set(self, name: &'r str, values: &'r [&'r str]) -> Self {
        self.fact(name, Fact::Set(values))
    }

    /// The request.
    ///
    /// # Errors
    /// [`RequestError`] when something that every request needs is missing or cannot be stated.
    pub fn build(self) -> Result<Request<'r>, RequestError> {
        let Self { tenant, now, audience, mut shared, mut accesses } = self;
        name::check(tenant.as_bytes()).map_err(RequestError::Tenant)?;
        if let Some(audience) = audience {
            name::check(audience.as_bytes()).map_err(RequestError::Audience)?;
        }
        shared.check(&[])?;
        let actions = core::mem::take(&mut shared.actions);
        if !actions.is_empty() {
            accesses.insert(0, Access { actions, ..Access::empty() });
        }
        if accesses.is_empty() || accesses.iter().any(|access| access.actions.is_empty()) {
            return Err(RequestError::NoAction);
        }
        if accesses.len() > limits::ACCESSES {
            return Err(RequestError::TooMany);
        }
        for access in &accesses {
            access.check(&shared.facts)?;
        }
        Ok(Request { tenant, now, audience, facts: shared.facts, accesses })
    }
}
