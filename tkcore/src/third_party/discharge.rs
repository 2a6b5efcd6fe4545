//! What an authority does: clears a ticket, then discharges it. In this order by construction.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::budget::Budget;
use crate::caveat::Vocabulary;
use crate::chain::Roll;
use crate::clear::{Who, caveat_verdict};
use crate::error::{Bug, Error, Malformed};
use crate::extend::Draft;
use crate::ids::AuthorityId;
use crate::limits;
use crate::request::Request;
use crate::third_party::ticket::OpenTicket;
use crate::third_party::vid::CaveatKey;
use crate::time::Timestamp;
use crate::token::TokenBuf;
use crate::verify::Place;
use crate::wire::v2::RawCaveat;

/// A ticket whose every caveat the authority has cleared: the only thing that can be discharged.
/// Made by [`OpenTicket::clear`] alone.
pub struct ClearedTicket {
    ticket: Box<[u8]>,
    authority: AuthorityId,
    key: CaveatKey,
    now: Timestamp,
}

impl OpenTicket {
    /// Clears what the ticket asks for: every caveat in it must admit the request as the
    /// authority describes it, in the same language and by the same rules as a token's. Unknown
    /// caveats refuse.
    ///
    /// `subject` is whom the authority has authenticated, for a caveat such as `subject = ann`.
    ///
    /// # Errors
    /// As [`crate::Verified::clear`]: [`Error::Refused`] names the caveat, counted in the ticket.
    pub fn clear(
        self,
        request: &Request<'_>,
        subject: Option<&str>,
        vocabulary: &Vocabulary,
        budget: &mut Budget,
    ) -> Result<ClearedTicket, Error> {
        self.check(request, subject, vocabulary, budget)?;
        let (ticket, authority, key) = self.into_parts();
        Ok(ClearedTicket { ticket, authority, key, now: request.now() })
    }

    /// Whether [`OpenTicket::clear`] would succeed, without using the ticket up: for deciding
    /// what to ask a person.
    ///
    /// # Errors
    /// As [`OpenTicket::clear`].
    pub fn check(
        &self,
        request: &Request<'_>,
        subject: Option<&str>,
        vocabulary: &Vocabulary,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let who = Who { subject, audience: request.audience() };
        for (caveat, text) in (0u16..).zip(self.describe()) {
            let place = Place { discharge: None, caveat };
            caveat_verdict(place, text.as_bytes(), request, &who, vocabulary, budget)?;
        }
        Ok(())
    }
}

impl ClearedTicket {
    /// Whom the ticket was for.
    #[must_use]
    pub const fn authority(&self) -> AuthorityId {
        self.authority
    }

    /// The ticket's bytes.
    #[must_use]
    pub fn ticket(&self) -> &[u8] {
        &self.ticket
    }

    /// Makes the discharge, unbound: its holder binds it. It lives for `lifetime` from the time
    /// of the clearing, cut to whole seconds and to [`limits::DISCHARGE_SECONDS`], by a caveat
    /// `time < …` of its own. `caveats` restrict it further, in the language of the service that
    /// will clear the token.
    ///
    /// # Errors
    /// [`Malformed`] when a caveat is over a limit or `lifetime` is below a second.
    pub fn discharge(&self, lifetime: Duration, caveats: &[&str]) -> Result<TokenBuf, Error> {
        self.discharge_within(lifetime, Duration::from_secs(limits::DISCHARGE_SECONDS), caveats)
    }

    /// As [`ClearedTicket::discharge`], with another cap than the default one.
    ///
    /// # Errors
    /// As [`ClearedTicket::discharge`].
    pub fn discharge_within(
        &self,
        lifetime: Duration,
        cap: Duration,
        caveats: &[&str],
    ) -> Result<TokenBuf, Error> {
        let end = self.now.saturating_add(lifetime.min(cap)).seconds();
        if end <= self.now.seconds() {
            return Err(Malformed::Shape("a discharge that lives less than a second").into());
        }
        let end = Timestamp::from_seconds(end).ok_or(Bug("a time past the year 9999"))?;
        let bound = format!("time < {end}");
        let mut draft = Draft::start(&self.ticket, Roll::start(&self.key.discharge_key(), &self.ticket), 64);
        let lines: Vec<&str> = core::iter::once(bound.as_str()).chain(caveats.iter().copied()).collect();
        for line in lines {
            draft.push(&RawCaveat { cid: line.as_bytes(), vid: None, location: None })?;
        }
        Ok(draft.finish()?)
    }
}

impl fmt::Debug for ClearedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClearedTicket({})", self.authority)
    }
}
