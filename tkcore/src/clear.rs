//! Clearing: every caveat against one request. `clear` and `explain` walk the same steps, so a
//! dry run cannot differ from production.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt::Write as _;

use crate::budget::Budget;
use crate::caveat::{
    Asked, Caveat, CustomVerdict, Operand, ParseError, Reason, TenantWide, Unjudged, Verdict, Vocabulary,
    only_about_time, read_and_judge,
};
use crate::error::{Error, NotKnowable};
use crate::grant::Grant;
use crate::identifier::Identifier;
use crate::limits;
use crate::refusal::{CaveatRefusal, Refusal, RefusalCause, Why, printable};
use crate::request::{Access, Fact, Request};
use crate::revocation::{Gap, Query, Revocations, Status};
use crate::time::Timestamp;
use crate::verify::{Place, Verified};

/// What one step of clearing was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'c> {
    /// The token's own expiry.
    Expiry(Option<Timestamp>),
    /// Its mint time against the clock.
    Issued,
    /// The revocation state.
    Revocation,
    /// Whether it is power over the whole tenant.
    TenantWide,
    /// Its tenant against the request's.
    Tenant,
    /// Its audience against the service's.
    Audience,
    /// One caveat.
    Caveat(Place, &'c [u8]),
}

/// A step that did not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Admits,
    NotApplicable,
}

/// Sees every step in order; an error ends the walk.
pub(crate) trait Sink<'c> {
    fn step(&mut self, step: Step<'c>, result: Result<Passed, Error>) -> Result<(), Error>;
}

/// Stops at the first refusal.
struct First;

impl<'c> Sink<'c> for First {
    #[inline]
    fn step(&mut self, _: Step<'c>, result: Result<Passed, Error>) -> Result<(), Error> {
        result.map(|_| ())
    }
}

impl Verified<'_> {
    /// Clears the token for one request: expiry, mint time, revocation, the tenant-wide rule,
    /// tenant and audience, then every caveat of the token and of its discharges. All must admit
    /// every access of the request.
    ///
    /// # Errors
    /// The first refusal: [`Error::Refused`], [`Error::Revoked`], [`Error::NotKnowable`] when
    /// `revocations` cannot tell, [`Error::TooMuchWork`] when the budget runs out.
    pub fn clear(
        &self,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        revocations: &impl Revocations,
        budget: &mut Budget,
    ) -> Result<Grant, Error> {
        self.walk(request, vocabulary, revocations, budget, &mut First)?;
        Ok(Grant::new(self.identifier(), self.facts(), self.caveat_count()))
    }

    /// What clearing begins with, whatever the request: that it is neither expired, nor minted ahead of
    /// the clock, nor revoked. For a signer, which vouches for tokens without knowing the request.
    ///
    /// # Errors
    /// As [`Verified::clear`].
    pub fn stands(&self, now: Timestamp, revocations: &impl Revocations) -> Result<(), Error> {
        not_expired(self.identifier(), now)?;
        not_ahead(self.identifier(), now)?;
        self.not_revoked(revocations).map(drop)
    }

    pub(crate) fn walk<'c>(
        &'c self,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        revocations: &impl Revocations,
        budget: &mut Budget,
        sink: &mut impl Sink<'c>,
    ) -> Result<(), Error> {
        let identifier = self.identifier();
        let facts = self.facts();
        sink.step(Step::Expiry(identifier.expiry), not_expired(identifier, request.now()))?;
        sink.step(Step::Issued, not_ahead(identifier, request.now()))?;
        sink.step(Step::Revocation, self.not_revoked(revocations))?;
        let wide = match vocabulary.tenant_wide() {
            TenantWide::Admit => Ok(Passed::NotApplicable),
            TenantWide::Refuse if self.is_tenant_wide() => Err(refused(RefusalCause::TenantWide)),
            TenantWide::Refuse => Ok(Passed::Admits),
        };
        sink.step(Step::TenantWide, wide)?;
        let tenant = facts.tenant.as_str();
        let same = if tenant == request.tenant() {
            Ok(Passed::Admits)
        } else {
            let got = printable(request.tenant().as_bytes());
            Err(refused(RefusalCause::Tenant { wanted: tenant.into(), got }))
        };
        sink.step(Step::Tenant, same)?;
        let audience = facts.audience.as_ref().map(|audience| audience.as_str());
        let meant = match audience {
            None => Ok(Passed::NotApplicable),
            Some(audience) if Some(audience) == request.audience() => Ok(Passed::Admits),
            Some(audience) => Err(refused(RefusalCause::Audience {
                wanted: audience.into(),
                got: request.audience().map(Box::from),
            })),
        };
        sink.step(Step::Audience, meant)?;
        let who = Who { subject: identifier.subject, audience };
        self.first_party().try_for_each(|caveat| {
            let result = caveat_verdict(caveat.place, caveat.text, request, &who, vocabulary, budget);
            sink.step(Step::Caveat(caveat.place, caveat.text), result)
        })
    }

    fn not_revoked(&self, revocations: &impl Revocations) -> Result<Passed, Error> {
        if self.branch_ids().is_none() && revocations.has_branches() {
            return Err(NotKnowable::BranchesNotCollected.into());
        }
        let facts = self.facts();
        let query = Query::new(
            self.identifier(),
            Some(facts.tenant_row),
            facts.subject_row,
            self.branch_ids().unwrap_or(&[]),
        );
        match revocations.status(&query) {
            Status::Live => Ok(Passed::Admits),
            Status::Revoked(rule) => Err(Error::Revoked(rule)),
            Status::Unknown(Gap::Stale | Gap::NoIssueTime) => Err(NotKnowable::Stale.into()),
            Status::Unknown(Gap::BranchesNotCollected) => Err(NotKnowable::BranchesNotCollected.into()),
        }
    }

    /// Whether its caveats at mint are only about `time`: power over the whole tenant. Appended
    /// caveats do not change this.
    #[must_use]
    pub fn is_tenant_wide(&self) -> bool {
        let at_mint = usize::from(self.identifier().caveats_at_mint);
        let caveats = self.presented().root().caveats().take(at_mint);
        only_about_time(caveats.map(|caveat| caveat.vid.is_none().then_some(caveat.cid)))
    }
}

fn refused(cause: RefusalCause) -> Error {
    Error::Refused(Refusal::new(cause))
}

pub(crate) fn not_expired(identifier: &Identifier<'_>, now: Timestamp) -> Result<Passed, Error> {
    match identifier.expiry {
        None => Ok(Passed::NotApplicable),
        Some(at) if now < at => Ok(Passed::Admits),
        Some(at) => Err(refused(RefusalCause::Expired { at })),
    }
}

pub(crate) fn not_ahead(identifier: &Identifier<'_>, now: Timestamp) -> Result<Passed, Error> {
    let skew = core::time::Duration::from_secs(limits::CLOCK_SKEW_SECONDS);
    match identifier.lineage.minted() {
        Some(minted) if minted <= now.saturating_add(skew) => Ok(Passed::Admits),
        Some(minted) => Err(refused(RefusalCause::IssuedAhead { minted })),
        None => Err(crate::error::Malformed::Identifier("mint time past the year 9999").into()),
    }
}

/// Judges caveats for one request without a token: for a service that knows them from elsewhere
/// (its own configuration, a test, a dry run of what it is about to append). There is no subject
/// and no audience. The code is that of [`Verified::clear`].
///
/// # Errors
/// The first refusal, as [`Verified::clear`].
pub fn clear_caveats<'c>(
    caveats: impl IntoIterator<Item = &'c [u8]>,
    request: &Request<'_>,
    vocabulary: &Vocabulary,
    budget: &mut Budget,
) -> Result<(), Error> {
    let who = Who { subject: None, audience: None };
    for (index, text) in (0u16..).zip(caveats) {
        let place = Place { discharge: None, caveat: index };
        caveat_verdict(place, text, request, &who, vocabulary, budget)?;
    }
    Ok(())
}

/// What the verified token says of its holder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'v> {
    pub(crate) subject: Option<&'v str>,
    pub(crate) audience: Option<&'v str>,
}

impl<'v> Who<'v> {
    #[inline(always)]
    fn asks<'r>(&self, request: &'r Request<'r>, access: &'r Access<'r>) -> Asked<'r>
    where
        'v: 'r,
    {
        Asked { request, access, subject: self.subject, audience: self.audience }
    }
}

/// One caveat against every access.
pub(crate) fn caveat_verdict(
    place: Place,
    text: &[u8],
    request: &Request<'_>,
    who: &Who<'_>,
    vocabulary: &Vocabulary,
    budget: &mut Budget,
) -> Result<Passed, Error> {
    budget.spend_bytes(text.len())?;
    if let Some(custom) = vocabulary.custom(text) {
        return custom_verdict(place, text, &custom, request, who, budget);
    }
    let judged = match request.accesses() {
        [access] => {
            let asked = who.asks(request, access);
            match read_and_judge(text, &asked, budget) {
                Ok(Verdict::Admits) => Ok(Passed::Admits),
                Ok(Verdict::NotApplicable) => Ok(Passed::NotApplicable),
                Ok(Verdict::Refuses(reason)) => Err(Stop::Refuses(0, reason)),
                Err(unjudged) => Err(Stop::Unjudged(unjudged)),
            }
        }
        accesses => judge_each(text, request, accesses, who, budget),
    };
    judged.map_err(|stop| stopped(stop, place, text, request, who))
}

/// What ends the judging of one caveat. Small and without its explanation, which is worked out when
/// it is wanted.
enum Stop {
    Unjudged(Unjudged),
    /// The access at this index is refused.
    Refuses(usize, Reason),
}

#[inline(never)]
fn judge_each(
    text: &[u8],
    request: &Request<'_>,
    accesses: &[Access<'_>],
    who: &Who<'_>,
    budget: &mut Budget,
) -> Result<Passed, Stop> {
    let caveat = Caveat::from_bytes(text).map_err(|error| Stop::Unjudged(Unjudged::Unreadable(error)))?;
    let mut passed = Passed::NotApplicable;
    for (index, access) in accesses.iter().enumerate() {
        let verdict = caveat.judge(&who.asks(request, access), budget);
        match verdict.map_err(|spent| Stop::Unjudged(spent.into()))? {
            Verdict::Admits => passed = Passed::Admits,
            Verdict::NotApplicable => {}
            Verdict::Refuses(reason) => return Err(Stop::Refuses(index, reason)),
        }
    }
    Ok(passed)
}

#[cold]
fn stopped(stop: Stop, place: Place, text: &[u8], request: &Request<'_>, who: &Who<'_>) -> Error {
    let (access, reason) = match stop {
        Stop::Unjudged(Unjudged::BudgetSpent) => return Error::TooMuchWork,
        Stop::Unjudged(Unjudged::Unreadable(error)) => return unknown(place, text, error),
        Stop::Refuses(access, reason) => (access, reason),
    };
    // Read again: on the way to a refusal there is time.
    let caveat = match Caveat::from_bytes(text) {
        Ok(caveat) => caveat,
        Err(error) => return unknown(place, text, error),
    };
    let why = match reason {
        Reason::Absent => Why::Absent,
        Reason::WrongType => Why::WrongType,
        Reason::NotAdmitted => Why::NotAdmitted,
        Reason::Otherwise => Why::Otherwise,
    };
    let asked = request.accesses().get(access).map(|access| who.asks(request, access));
    let got = asked.map(|asked| got(&caveat, &asked, why)).unwrap_or_default();
    caveat_refused(place, text, why, access, wanted(&caveat, why), got)
}

#[cold]
fn unknown(place: Place, text: &[u8], error: ParseError) -> Error {
    caveat_refused(place, text, Why::Unknown(error), 0, String::new(), String::new())
}

#[inline(never)]
fn custom_verdict(
    place: Place,
    line: &[u8],
    custom: &crate::caveat::Custom<'_, '_>,
    request: &Request<'_>,
    who: &Who<'_>,
    budget: &mut Budget,
) -> Result<Passed, Error> {
    let text = match custom.text {
        Ok(text) => text,
        Err(error) => return Err(unknown(place, line, error)),
    };
    let mut passed = Passed::NotApplicable;
    for (index, access) in request.accesses().iter().enumerate() {
        let asked = who.asks(request, access);
        budget.spend_bytes(text.len())?;
        match custom.kind.judge(text, &asked, budget) {
            CustomVerdict::Admits => passed = Passed::Admits,
            CustomVerdict::NotApplicable => {}
            CustomVerdict::Refuses { wanted, got } => {
                return Err(caveat_refused(place, line, Why::Custom, index, wanted, got));
            }
            CustomVerdict::BudgetSpent => {
                // Emptied, so that nothing cheaper goes on.
                let _ = budget.spend(u32::MAX);
                return Err(Error::TooMuchWork);
            }
        }
    }
    Ok(passed)
}

#[inline(never)]
pub(crate) fn caveat_refused(
    place: Place,
    text: &[u8],
    why: Why,
    access: usize,
    wanted: String,
    got: String,
) -> Error {
    refused(RefusalCause::Caveat(CaveatRefusal {
        place,
        caveat: printable(text),
        why,
        access,
        wanted: wanted.into(),
        got: got.into(),
    }))
}

/// What a caveat asks for, as short as it can be said.
pub(crate) fn wanted(caveat: &Caveat<'_>, why: Why) -> String {
    let mut text = String::new();
    if why == Why::Otherwise {
        if let Some(list) = caveat.otherwise() {
            text.push_str("action in ");
            text.push_str(list);
        }
        return text;
    }
    for part in [caveat.name(), " ", caveat.operator().as_str(), " ", caveat.value()] {
        text.push_str(part);
    }
    printable(text.as_bytes()).into()
}

/// What the request has where the caveat looks.
pub(crate) fn got(caveat: &Caveat<'_>, asked: &Asked<'_>, why: Why) -> String {
    if why == Why::Otherwise {
        return render(Fact::Set(asked.access.actions()));
    }
    let Some(fact) = asked.fact(caveat.about(), caveat.name()) else { return String::new() };
    let mut text = render(fact);
    if let Operand::Resources(..) = caveat.operand() {
        text.push_str(" with action ");
        text.push_str(&render(Fact::Set(asked.access.actions())));
    }
    text
}

/// A fact for people: at most a line, nothing invisible.
pub(crate) fn render(fact: Fact<'_>) -> String {
    /// Characters shown of one fact.
    const SHOWN: usize = 256;
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = match fact {
        Fact::Text(fact) => write!(text, "{fact:?}"),
        Fact::Int(fact) => write!(text, "{fact}"),
        Fact::Time(fact) => write!(text, "{fact}"),
        Fact::Ip(fact) => write!(text, "{fact}"),
        Fact::Path(fact) => write!(text, "{:?}", fact.as_str()),
        Fact::Set(elements) => elements
            .iter()
            .enumerate()
            .take(SHOWN)
            .try_for_each(|(at, element)| write!(text, "{}{element:?}", if at > 0 { "," } else { "" })),
    };
    if text.chars().count() > SHOWN {
        text = text.chars().take(SHOWN).collect();
        text.push('…');
    }
    text
}
