//! What is told of each decision, with the feature `tracing`: a span for every check and every
//! ask, one event for its outcome. Nothing but ids that are safe to log, codes and sentences; an
//! [`Error`] cannot carry a token, and nothing else is written. Without the feature all of this is
//! nothing.

use tkcore::{Error, Grant, LineageId};

/// The span of one check, through both halves of its decision.
#[derive(Debug, Clone)]
pub(crate) struct Trail {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(feature = "tracing")]
impl Trail {
    pub(crate) fn begin() -> Self {
        use tracing::field::Empty;
        Self { span: tracing::info_span!("tkverify.check", lineage = Empty, outcome = Empty) }
    }

    /// Which token is looked at, as it claims.
    pub(crate) fn about(&self, lineage: impl FnOnce() -> Option<LineageId>) {
        if !self.span.is_disabled()
            && let Some(lineage) = lineage()
        {
            self.span.record("lineage", tracing::field::display(lineage));
        }
    }

    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        self.span.in_scope(work)
    }

    /// The verdict.
    pub(crate) fn decided(&self, verdict: &Result<Grant, Error>) {
        let outcome = verdict.as_ref().map_or_else(Error::code, |_| "granted");
        self.span.record("outcome", outcome);
        if let Ok(grant) = verdict {
            self.span.record("lineage", tracing::field::display(grant.lineage()));
        }
        self.span.in_scope(|| match verdict {
            Ok(grant) => tracing::debug!(key = %grant.key(), "granted"),
            Err(error) => refused(error),
        });
    }

    /// An ask, as a span within this one; `outcome` says what came of it.
    pub(crate) fn ask<T, E>(
        &self,
        lineage: LineageId,
        ask: impl FnOnce() -> Result<T, E>,
        outcome: impl FnOnce(&E) -> (&'static str, Option<String>),
    ) -> Result<T, E> {
        let span = tracing::info_span!(
            parent: &self.span, "tkverify.ask", %lineage, outcome = tracing::field::Empty
        );
        span.in_scope(|| {
            let answer = ask();
            match answer.as_ref().err().map(outcome) {
                None => {
                    span.record("outcome", "answered");
                }
                Some((code, why)) => {
                    span.record("outcome", code);
                    if let Some(why) = why {
                        tracing::warn!(why = %why, "the signer did not answer");
                    }
                }
            }
            answer
        })
    }
}

#[cfg(feature = "tracing")]
fn refused(error: &Error) {
    use tkcore::Owner;
    let (code, why) = (error.code(), error);
    match error.owner() {
        Owner::Holder | Owner::Request => tracing::info!(code, %why, "refused"),
        Owner::Moment => tracing::warn!(code, %why, "not knowable now"),
        _ => tracing::error!(code, %why, "internal error"),
    }
}

/// A request that was refused before a token was looked at.
#[cfg(feature = "tracing")]
pub(crate) fn unstated(refused: &crate::web::Refused) {
    tracing::info!(code = refused.code(), why = %refused, "refused");
}

#[cfg(not(feature = "tracing"))]
#[allow(clippy::unused_self, reason = "the same calls as with the feature")]
impl Trail {
    pub(crate) const fn begin() -> Self {
        Self {}
    }

    pub(crate) fn about(&self, _: impl FnOnce() -> Option<LineageId>) {}

    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }

    pub(crate) const fn decided(&self, _: &Result<Grant, Error>) {}

    pub(crate) fn ask<T, E>(
        &self,
        _: LineageId,
        ask: impl FnOnce() -> Result<T, E>,
        _: impl FnOnce(&E) -> (&'static str, Option<String>),
    ) -> Result<T, E> {
        ask()
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) const fn unstated(_: &crate::web::Refused) {}
