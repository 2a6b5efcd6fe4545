//! A line for every step of clearing, by the very code that clears.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::budget::Budget;
use crate::caveat::{Asked, Caveat, Vocabulary};
use crate::clear::{Passed, Sink, Step, Who, caveat_verdict, got, not_ahead, not_expired, wanted};
use crate::error::Error;
use crate::refusal::{RefusalCause, Why, printable};
use crate::request::Request;
use crate::revocation::Revocations;
use crate::token::Untrusted;
use crate::verify::{Place, Verified};

/// What every step of clearing said about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    lines: Vec<Line>,
}

/// One step of clearing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// What was looked at: `expiry`, `issued`, `revocation`, `tenant-wide`, `tenant`, `audience`
    /// or `caveat`.
    pub check: &'static str,
    /// Where the caveat stands, if it is one.
    pub place: Option<Place>,
    /// What came out.
    pub outcome: Outcome,
    /// The caveat, printable; empty for the other checks.
    pub caveat: Box<str>,
    /// What the token asks for.
    pub wanted: Box<str>,
    /// What the request has: the service's own knowledge, gone once [redacted](Explanation::redacted).
    pub got: Box<str>,
    /// The refusal in a sentence.
    pub reason: Box<str>,
}

/// What one step says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It admits the request.
    Admits,
    /// It does not concern the request.
    NotApplicable,
    /// It refuses.
    Refuses,
}

impl Outcome {
    /// One stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admits => "admits",
            Self::NotApplicable => "not applicable",
            Self::Refuses => "refuses",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Explanation {
    /// The lines, in the order in which clearing looks.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether clearing grants: no line refuses.
    #[must_use]
    pub fn grants(&self) -> bool {
        self.lines.iter().all(|line| line.outcome != Outcome::Refuses)
    }

    /// The form for the peer: what its own token says, nothing of what the service knows.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        for line in &mut self.lines {
            line.got = Box::default();
            line.reason = Box::default();
            if line.check != "caveat" {
                line.wanted = Box::default();
            }
        }
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<15} ", self.outcome)?;
        match self.place {
            Some(place) => write!(f, "{place}: {}", self.caveat)?,
            None => f.write_str(self.check)?,
        }
        if !self.wanted.is_empty() && self.place.is_none() {
            write!(f, " (wanted {})", self.wanted)?;
        }
        if !self.got.is_empty() {
            write!(f, " (got {})", self.got)?;
        }
        if !self.reason.is_empty() && self.got.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

impl Verified<'_> {
    /// Explains what [`Verified::clear`] does with this request: the same steps by the same
    /// code, going on behind a refusal. When the budget runs out, the last line says so.
    #[must_use]
    pub fn explain(
        &self,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        revocations: &impl Revocations,
        budget: &mut Budget,
    ) -> Explanation {
        let facts = self.facts();
        let who = Who {
            subject: self.identifier().subject,
            audience: facts.audience.as_ref().map(|audience| audience.as_str()),
        };
        let mut all = All { request, who, vocabulary, lines: Vec::new() };
        // The sink keeps every refusal; what is left is the budget, and that has its line.
        let _ = self.walk(request, vocabulary, revocations, budget, &mut all);
        Explanation { lines: all.lines }
    }
}

/// Explains caveats without a token, as [`clear_caveats`](crate::clear_caveats) judges them.
#[must_use]
pub fn explain_caveats<'c>(
    caveats: impl IntoIterator<Item = &'c [u8]>,
    request: &Request<'_>,
    vocabulary: &Vocabulary,
    budget: &mut Budget,
) -> Explanation {
    let who = Who { subject: None, audience: None };
    let mut all = All { request, who, vocabulary, lines: Vec::new() };
    for (index, text) in (0u16..).zip(caveats) {
        let place = Place { discharge: None, caveat: index };
        let result = caveat_verdict(place, text, request, &who, vocabulary, budget);
        if all.step(Step::Caveat(place, text), result).is_err() {
            break;
        }
    }
    Explanation { lines: all.lines }
}

impl Untrusted<'_> {
    /// What this token's own expiry, mint time and caveats would say to a request if the token
    /// were authentic: for people who look for the caveat that is in the way. Its chain, its
    /// revocation and its tenant are not looked at, and no [`Grant`](crate::Grant) can come of it.
    #[must_use]
    pub fn explain(
        &self,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        budget: &mut Budget,
    ) -> Explanation {
        let identifier = self.identifier();
        let who = claimed(self, request);
        let mut all = All { request, who, vocabulary, lines: Vec::new() };
        if let Some(identifier) = &identifier {
            // The sink keeps every refusal, so these end nothing.
            let _ = all.step(Step::Expiry(identifier.expiry), not_expired(identifier, request.now()));
            let _ = all.step(Step::Issued, not_ahead(identifier, request.now()));
        }
        all.caveats_of(self, None, budget);
        Explanation { lines: all.lines }
    }

    /// As [`Untrusted::explain`], for this discharge beside the token it was presented with: the
    /// subject is that token's. `index` counts discharges in the order presented.
    #[must_use]
    pub fn explain_beside(
        &self,
        root: &Untrusted<'_>,
        index: u16,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        budget: &mut Budget,
    ) -> Explanation {
        let mut all = All { request, who: claimed(root, request), vocabulary, lines: Vec::new() };
        all.caveats_of(self, Some(index), budget);
        Explanation { lines: all.lines }
    }
}

fn claimed<'a>(root: &Untrusted<'a>, request: &Request<'a>) -> Who<'a> {
    let subject = root.identifier().and_then(|identifier| identifier.subject);
    Who { subject, audience: request.audience() }
}

/// Keeps every step.
struct All<'a, 'r> {
    request: &'a Request<'r>,
    who: Who<'a>,
    vocabulary: &'a Vocabulary,
    lines: Vec<Line>,
}

impl<'c> Sink<'c> for All<'_, '_> {
    fn step(&mut self, step: Step<'c>, result: Result<Passed, Error>) -> Result<(), Error> {
        let outcome = match &result {
            Ok(Passed::Admits) => Outcome::Admits,
            Ok(Passed::NotApplicable) => Outcome::NotApplicable,
            Err(_) => Outcome::Refuses,
        };
        let (check, place, caveat) = match step {
            Step::Expiry(_) => ("expiry", None, None),
            Step::Issued => ("issued", None, None),
            Step::Revocation => ("revocation", None, None),
            Step::TenantWide => ("tenant-wide", None, None),
            Step::Tenant => ("tenant", None, None),
            Step::Audience => ("audience", None, None),
            Step::Caveat(place, text) => ("caveat", Some(place), Some(text)),
        };
        let (want, have) = match (&step, &result) {
            (Step::Expiry(Some(at)), _) => {
                (alloc::format!("before {at}"), alloc::format!("{}", self.request.now()))
            }
            (_, Err(Error::Refused(refusal))) => match refusal.cause() {
                RefusalCause::Caveat(refusal) => (refusal.wanted.to_string(), refusal.got.to_string()),
                RefusalCause::Tenant { wanted, got } => (wanted.to_string(), got.to_string()),
                RefusalCause::Audience { wanted, got } => {
                    (wanted.to_string(), got.as_deref().unwrap_or("none").to_string())
                }
                RefusalCause::Expired { .. }
                | RefusalCause::IssuedAhead { .. }
                | RefusalCause::TenantWide => (String::new(), String::new()),
            },
            (Step::Caveat(_, text), Ok(_)) => self.satisfied(text),
            _ => (String::new(), String::new()),
        };
        self.lines.push(Line {
            check,
            place,
            outcome,
            caveat: caveat.map(printable).unwrap_or_default(),
            wanted: want.into(),
            got: have.into(),
            reason: result.as_ref().err().map(ToString::to_string).unwrap_or_default().into(),
        });
        match result {
            // Nothing that follows could still be judged.
            Err(Error::TooMuchWork) => Err(Error::TooMuchWork),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl All<'_, '_> {
    fn caveats_of(&mut self, token: &Untrusted<'_>, discharge: Option<u16>, budget: &mut Budget) {
        for (index, caveat) in (0u16..).zip(token.caveats()).filter(|(_, caveat)| !caveat.third_party) {
            let place = Place { discharge, caveat: index };
            let result = caveat_verdict(place, caveat.id, self.request, &self.who, self.vocabulary, budget);
            if self.step(Step::Caveat(place, caveat.id), result).is_err() {
                break;
            }
        }
    }

    /// What a native caveat that did not refuse asks for, and what the first access has. What a
    /// registered kind asks for, this language cannot say.
    fn satisfied(&self, text: &[u8]) -> (String, String) {
        if self.vocabulary.custom(text).is_some() {
            return (String::new(), String::new());
        }
        let (Ok(caveat), Some(access)) = (Caveat::from_bytes(text), self.request.accesses().first()) else {
            return (String::new(), String::new());
        };
        let asked =
            Asked { request: self.request, access, subject: self.who.subject, audience: self.who.audience };
        let absent = asked.fact(caveat.about(), caveat.name()).is_none();
        let why = if absent && caveat.otherwise().is_some() { Why::Otherwise } else { Why::NotAdmitted };
        (wanted(&caveat, why), got(&caveat, &asked, why))
    }
}
