//! Three lines for axum: a layer, an extractor, done.
//!
//! ```
//! # use tkverify::testing::Kit;
//! use axum::{Router, routing::get};
//! use tkverify::axum::{Granted, Guard};
//! use tkverify::web::Facts;
//!
//! # let verifier = Kit::new().verifier();
//! let guard = Guard::new(verifier, |asked| {
//!     Some(Facts::new(asked.param("tenant")?.into_owned()).action(asked.usual_action()))
//! });
//! let app: Router = Router::new()
//!     .route("/{tenant}/projects", get(async |Granted(grant): Granted| grant.tenant().to_owned()))
//!     .route_layer(guard);
//! ```
//!
//! Put the guard in `route_layer`, so that the matched route and its parameters are there, after
//! every route that it is to protect. Where what is asked for is only known in the handler, take
//! [`Bearer`] and ask the verifier there:
//!
//! ```
//! # use axum::{extract::State, routing::post, Router};
//! # use tkverify::{Verifier, testing::Kit, axum::Bearer, web::{Facts, Refused}};
//! async fn order(State(verifier): State<Verifier>, bearer: Bearer, amount: String) -> Result<(), Refused> {
//!     let amount = amount.parse().unwrap_or(i64::MAX);
//!     let facts = Facts::new("acme").action("order").int("amount", amount);
//!     bearer.check(&verifier, facts).await?;
//!     Ok(())
//! }
//! # let _: Router = Router::new().route("/", post(order)).with_state(Kit::new().verifier());
//! ```

use std::convert::Infallible;

use ::axum::body::Body;
use ::axum::extract::{FromRequestParts, OptionalFromRequestParts};
use ::axum::http::request::Parts;
use ::axum::http::{HeaderValue, StatusCode, header};
use ::axum::response::{AppendHeaders, IntoResponse, Response};
use tkcore::Grant;

use crate::discharge::{DeskError, Reply};
pub use crate::tower::Guard;
use crate::tower::problem;
use crate::verifier::Verifier;
use crate::web::{Facts, Refused};

/// The grant that a [`Guard`] left with the request. Without one in front, the handler is not run:
/// 503. `Option<Granted>` is for handlers of requests that need none
/// ([`Needs::GrantIfPresented`](crate::web::Needs)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted(pub Grant);

impl<S: Sync> FromRequestParts<S> for Granted {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get().cloned().map(Self).ok_or_else(Refused::unguarded)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Granted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned().map(Self))
    }
}

/// What the `Authorization` fields of a request hold, unread, for a handler that asks the verifier
/// itself, and the trace that it is part of. Never refuses on its own: [`Bearer::check`] does.
#[derive(Clone)]
pub struct Bearer {
    values: Vec<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl Bearer {
    /// Whether it allows what `facts` say. Does not stop the executor.
    ///
    /// # Errors
    /// [`Refused`], which is a response.
    pub async fn check(&self, verifier: &Verifier, facts: Facts) -> Result<Grant, Refused> {
        let facts = match &self.traceparent {
            Some(traceparent) => facts.traceparent(traceparent.as_bytes()),
            None => facts,
        };
        verifier.check_facts_async(&self.values, facts).await
    }

    /// Whether anything was presented at all.
    #[must_use]
    pub fn is_presented(&self) -> bool {
        !self.values.is_empty()
    }
}

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Two are one too many; which ones does not matter then.
        let values = parts.headers.get_all(header::AUTHORIZATION).iter().take(2).cloned().collect();
        Ok(Self { values, traceparent: parts.headers.get("traceparent").cloned() })
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bearer({} fields)", self.values.len())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        problem(&self).map(Body::from)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let retry = self.retry_after.map(|seconds| [(header::RETRY_AFTER, HeaderValue::from(seconds))]);
        (status, headers, retry.map(AppendHeaders), self.body).into_response()
    }
}

impl IntoResponse for DeskError {
    fn into_response(self) -> Response {
        self.reply().into_response()
    }
}
