use std::fmt;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header};
use tkcore::Grant;
use tower_layer::Layer;
use tower_service::Service;

use super::{GuardBody, GuardFuture};
use crate::verifier::Verifier;
use crate::web::{Asked, Gate, Headers, Needs, Refused};

/// The address at the other end of the connection: put it into the extensions of requests where
/// neither axum nor tonic does, for [`Asked::peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The template that a router matched: put it into the extensions of requests where axum does
/// not, for [`Asked::route`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route(pub String);

/// The layer. `needs` says what each request needs ([`Needs`], or [`Facts`](crate::web::Facts), or an
/// `Option` of them whose `None` refuses).
#[derive(Clone)]
pub struct Guard<F> {
    verifier: Verifier,
    needs: F,
    answer: Answer,
}

/// How refusals are answered.
pub(super) type Answer = fn(&Refused) -> Response<String>;

/// A service with a [`Guard`] before it.
#[derive(Clone)]
pub struct Guarded<S, F> {
    service: S,
    guard: Guard<F>,
}

impl<F, N> Guard<F>
where
    F: Fn(&Asked<'_>) -> N,
    N: Into<Needs>,
{
    /// A layer that lets through what `verifier` grants.
    pub const fn new(verifier: Verifier, needs: F) -> Self {
        Self { verifier, needs, answer: problem }
    }

    /// The same, answering refusals in another way than as problems.
    #[cfg(feature = "tonic")]
    pub(crate) const fn answering(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }
}

impl<S, F: Clone> Layer<S> for Guard<F> {
    type Service = Guarded<S, F>;

    fn layer(&self, service: S) -> Self::Service {
        Guarded { service, guard: self.clone() }
    }
}

impl<S, F, N, B, R> Service<Request<B>> for Guarded<S, F>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    F: Fn(&Asked<'_>) -> N,
    N: Into<Needs>,
{
    type Response = Response<GuardBody<R>>;
    type Error = S::Error;
    type Future = GuardFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let gate = self.guard.gate(&request);
        // A grant in the request is this guard's, never one that was there before.
        request.extensions_mut().remove::<Grant>();
        // Whoever prints the request further in prints no token.
        if let header::Entry::Occupied(mut fields) = request.headers_mut().entry(header::AUTHORIZATION) {
            fields.iter_mut().for_each(|value| value.set_sensitive(true));
        }
        match gate {
            Gate::Open(grant) => {
                if let Some(grant) = grant {
                    request.extensions_mut().insert(grant);
                }
                GuardFuture::through(self.service.call(request))
            }
            Gate::Refused(refused) => GuardFuture::refused(&refused, self.guard.answer),
            Gate::Wait(wait) => {
                // The one that was polled ready is the one that must be called.
                let next = self.service.clone();
                let ready = std::mem::replace(&mut self.service, next);
                GuardFuture::waiting(wait, ready, request, self.guard.answer)
            }
        }
    }
}

impl<F> Guard<F> {
    fn gate<B, N>(&self, request: &Request<B>) -> Gate
    where
        F: Fn(&Asked<'_>) -> N,
        N: Into<Needs>,
    {
        let (headers, extensions) = (request.headers(), request.extensions());
        let mut asked = Asked::new(request.method().as_str(), uri(request).path())
            .with_headers(headers)
            .with_extensions(extensions);
        if let Some(query) = request.uri().query() {
            asked = asked.with_query(query);
        }
        if let Some(route) = route(extensions) {
            asked = asked.with_route(route);
        }
        if let Some(peer) = peer(extensions) {
            asked = asked.with_peer(peer);
        }
        let needs = (self.needs)(&asked).into();
        let authorization = headers.get_all(header::AUTHORIZATION);
        let traceparent = headers.get("traceparent").map(http::HeaderValue::as_bytes);
        Gate::new(&self.verifier, needs, authorization.iter().map(http::HeaderValue::as_bytes), traceparent)
    }
}

/// What the peer asked for: nested routers cut the front of the path off.
fn uri<B>(request: &Request<B>) -> &http::Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = request.extensions().get() {
        return uri;
    }
    request.uri()
}

fn route(extensions: &http::Extensions) -> Option<&str> {
    #[cfg(feature = "axum")]
    if let Some(route) = extensions.get::<axum::extract::MatchedPath>() {
        return Some(route.as_str());
    }
    extensions.get::<Route>().map(|Route(route)| route.as_str())
}

fn peer(extensions: &http::Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(peer)) = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>()
    {
        return Some(*peer);
    }
    #[cfg(feature = "tonic")]
    if let Some(peer) = crate::tonic::peer(extensions) {
        return Some(peer);
    }
    extensions.get::<Peer>().map(|Peer(peer)| *peer)
}

impl Headers for HeaderMap {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }
}

/// An answer of HTTP, with a problem as its body.
pub(crate) fn problem(refused: &Refused) -> Response<String> {
    let mut response = Response::new(refused.body());
    *response.status_mut() =
        http::StatusCode::from_u16(refused.status()).unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE);
    for (name, value) in refused.fields() {
        if let Ok(value) = http::HeaderValue::try_from(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

impl<F> fmt::Debug for Guard<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Guarded<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("service", &self.service).finish_non_exhaustive()
    }
}
