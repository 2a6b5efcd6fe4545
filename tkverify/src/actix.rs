//! For actix-web 4: a middleware and an extractor.
//!
//! ```
//! # use tkverify::testing::Kit;
//! use actix_web::{App, web};
//! use tkverify::actix::{Granted, Guard};
//! use tkverify::web::Facts;
//!
//! # let verifier = Kit::new().verifier();
//! let guard = Guard::new(verifier, |asked| {
//!     Some(Facts::new(asked.param("tenant")?.into_owned()).action(asked.usual_action()))
//! });
//! let app = App::new().service(
//!     web::resource("/{tenant}/projects")
//!         .wrap(guard)
//!         .to(async |granted: Granted| granted.0.tenant().to_owned()),
//! );
//! ```
//!
//! Wrap resources, or the whole application: the matched pattern is there in both. Scopes with
//! patterns of their own are matched as a whole.

use std::fmt;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use tkcore::Grant;

use crate::verifier::Verifier;
use crate::web::{Asked, Facts, Gate, Headers, Needs, Refused};

/// The middleware. `needs` says what each request needs, as for [`web`](crate::web).
#[derive(Clone)]
pub struct Guard<F> {
    verifier: Verifier,
    needs: F,
}

impl<F, N> Guard<F>
where
    F: Fn(&Asked<'_>) -> N,
    N: Into<Needs>,
{
    /// A middleware that lets through what `verifier` grants.
    pub const fn new(verifier: Verifier, needs: F) -> Self {
        Self { verifier, needs }
    }
}

impl<S, F, N, B> Transform<S, ServiceRequest> for Guard<F>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    F: Fn(&Asked<'_>) -> N + Clone + 'static,
    N: Into<Needs>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = Guarded<S, F>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Guarded { service: Rc::new(service), guard: self.clone() }))
    }
}

/// A service with a [`Guard`] before it.
pub struct Guarded<S, F> {
    service: Rc<S>,
    guard: Guard<F>,
}

impl<S, F, N, B> Service<ServiceRequest> for Guarded<S, F>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    F: Fn(&Asked<'_>) -> N,
    N: Into<Needs>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let gate = self.guard.gate(request.request());
        let service = Rc::clone(&self.service);
        Box::pin(async move {
            let verdict = match gate {
                Gate::Open(grant) => Ok(grant),
                Gate::Refused(refused) => Err(refused),
                Gate::Wait(mut wait) => poll_fn(|context| wait.poll(context)).await.map(Some),
            };
            let grant = match verdict {
                Ok(grant) => grant,
                Err(refused) => {
                    let answer = refused.error_response();
                    return Ok(request.into_response(answer.map_into_right_body()));
                }
            };
            {
                // A grant in the request is this guard's, never one that was there before.
                let mut extensions = request.extensions_mut();
                extensions.remove::<Grant>();
                if let Some(grant) = grant {
                    extensions.insert(grant);
                }
            }
            service.call(request).await.map(ServiceResponse::map_into_left_body)
        })
    }
}

impl<F> Guard<F> {
    fn gate<N>(&self, request: &HttpRequest) -> Gate
    where
        F: Fn(&Asked<'_>) -> N,
        N: Into<Needs>,
    {
        let route = request.match_pattern();
        let mut asked =
            Asked::new(request.method().as_str(), request.uri().path()).with_headers(request.headers());
        if let Some(query) = request.uri().query() {
            asked = asked.with_query(query);
        }
        if let Some(route) = &route {
            asked = asked.with_route(route);
        }
        if let Some(peer) = request.peer_addr() {
            asked = asked.with_peer(peer);
        }
        let needs = (self.needs)(&asked).into();
        let authorization = request.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let traceparent = request.headers().get("traceparent").map(HeaderValue::as_bytes);
        Gate::new(&self.verifier, needs, authorization, traceparent)
    }
}

impl Headers for HeaderMap {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}

/// The grant that a [`Guard`] left with the request. Without one in front, the handler is not run:
/// 503. `Option<Granted>` is for handlers of requests that need none
/// ([`Needs::GrantIfPresented`](crate::web::Needs)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted(pub Grant);

impl FromRequest for Granted {
    type Error = Refused;
    type Future = Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get().cloned().map(Self).ok_or_else(Refused::unguarded))
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
        verifier.check_facts_async(self.values.iter().map(HeaderValue::as_bytes), facts).await
    }

    /// Whether anything was presented at all.
    #[must_use]
    pub fn is_presented(&self) -> bool {
        !self.values.is_empty()
    }
}

impl FromRequest for Bearer {
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Two are one too many; which ones does not matter then.
        let values = request.headers().get_all(header::AUTHORIZATION).take(2).cloned().collect();
        ready(Ok(Self { values, traceparent: request.headers().get("traceparent").cloned() }))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearer({} fields)", self.values.len())
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        for field in self.fields() {
            response.append_header(field);
        }
        response.body(self.body())
    }
}

impl<F> fmt::Debug for Guard<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl<S, F> fmt::Debug for Guarded<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}
