//! What stands between a request and its handler in every integration.

use std::task::{Context, Poll};

use tkcore::{Error, Grant, Malformed};

#[cfg(any(feature = "tower", feature = "actix"))]
use super::Needs;
use super::{Facts, Refused};
use crate::decide::{Begun, Pending};
use crate::verifier::Verifier;

/// What is decided at once, and what must wait.
#[cfg(any(feature = "tower", feature = "actix"))]
pub(crate) enum Gate {
    /// Goes on, with a grant if it needed one.
    Open(Option<Grant>),
    Refused(Refused),
    Wait(Box<Wait>),
}

/// A request that waits for the signer's word, without holding a thread.
pub(crate) struct Wait {
    pending: Option<Pending>,
    facts: Facts,
    verifier: Verifier,
}

#[cfg(any(feature = "tower", feature = "actix"))]
impl Gate {
    /// `authorization`: every field of that name.
    pub(crate) fn new<'h>(
        verifier: &Verifier,
        needs: Needs,
        authorization: impl IntoIterator<Item = &'h [u8]>,
        traceparent: Option<&[u8]>,
    ) -> Self {
        let mut authorization = authorization.into_iter().peekable();
        let facts = match needs {
            Needs::Nothing => return Self::Open(None),
            Needs::Unknown => {
                let refused = Refused::unknown();
                crate::observe::unstated(&refused);
                return Self::Refused(refused);
            }
            Needs::GrantIfPresented(_) if authorization.peek().is_none() => return Self::Open(None),
            Needs::GrantIfPresented(facts) | Needs::Grant(facts) => facts,
        };
        let facts = match traceparent {
            Some(traceparent) => facts.traceparent(traceparent),
            None => facts,
        };
        match begin(verifier, authorization, facts) {
            Ok(Begin::Granted(grant)) => Self::Open(Some(grant)),
            Ok(Begin::Wait(wait)) => Self::Wait(wait),
            Err(refused) => Self::Refused(refused),
        }
    }
}

enum Begin {
    Granted(Grant),
    Wait(Box<Wait>),
}

fn begin<'h>(
    verifier: &Verifier,
    authorization: impl IntoIterator<Item = &'h [u8]>,
    facts: Facts,
) -> Result<Begin, Refused> {
    let inner = &verifier.inner;
    let value = only(authorization).inspect_err(|error| inner.not_begun(error))?;
    let begun = facts.with_request(verifier, |request| inner.begin(value, request, facts.manner()));
    let open = match begun.map_err(unstated)? {
        Begun::Decided(verdict) => return Ok(Begin::Granted(verdict?)),
        Begun::Ask(open) => open,
    };
    let pending = Some(inner.ask_elsewhere(open, value));
    Ok(Begin::Wait(Box::new(Wait { pending, facts, verifier: verifier.clone() })))
}

impl Wait {
    /// The verdict, when the signer has spoken. Not to be polled after that.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Grant, Refused>> {
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let answer = match pending.poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(answer) => answer,
        };
        let Some(pending) = self.pending.take() else { return Poll::Pending };
        let finish = |request: &tkcore::Request<'_>| pending.finish(answer, request);
        Poll::Ready(match self.facts.with_request(&self.verifier, finish) {
            Ok(verdict) => verdict.map_err(Refused::from),
            Err(error) => Err(unstated(error)),
        })
    }
}

impl Verifier {
    /// Whether the values of all `Authorization` fields of a request allow what `facts` say. May
    /// stop the calling thread: [`Verifier::check`]. There must be exactly one field, since servers
    /// and proxies disagree which of two counts.
    ///
    /// # Errors
    /// [`Refused`], ready to be answered.
    pub fn check_facts<T: AsRef<[u8]>>(
        &self,
        authorization: impl IntoIterator<Item = T>,
        facts: &Facts,
    ) -> Result<Grant, Refused> {
        let values: Vec<T> = authorization.into_iter().take(2).collect();
        let value = only(values.iter().map(AsRef::as_ref));
        let value = value.inspect_err(|error| self.inner.not_begun(error))?;
        let verdict = facts.with_request(self, |request| self.check_with(value, request, facts.manner()));
        Ok(verdict.map_err(unstated)??)
    }

    /// As [`Verifier::check_facts`], for asynchronous code: see [`Verifier::check_async`].
    ///
    /// # Errors
    /// [`Refused`], ready to be answered.
    pub async fn check_facts_async<T: AsRef<[u8]>>(
        &self,
        authorization: impl IntoIterator<Item = T>,
        facts: Facts,
    ) -> Result<Grant, Refused> {
        let values: Vec<T> = authorization.into_iter().take(2).collect();
        let begun = begin(self, values.iter().map(AsRef::as_ref), facts);
        drop(values);
        match begun? {
            Begin::Granted(grant) => Ok(grant),
            Begin::Wait(mut wait) => std::future::poll_fn(|context| wait.poll(context)).await,
        }
    }
}

fn unstated(error: tkcore::RequestError) -> Refused {
    let refused = Refused::from(error);
    crate::observe::unstated(&refused);
    refused
}

/// The one `Authorization` field.
pub(crate) fn only<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Result<&'h [u8], Error> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(Malformed::Missing.into()),
        (Some(_), Some(_)) => Err(Malformed::Shape("two Authorization headers").into()),
    }
}
