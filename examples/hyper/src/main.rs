//! A server on bare hyper: no router and no extractor, the same layer. What a framework would say of a
//! request, the peer's address and the route that matched, the server puts beside it.
//!
//! ```text
//! hyper-example --trust trust.json --client-key service.key --state feed --listen 127.0.0.1:8080
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use options::Options;
use serde_json::json;
use tkcore::Grant;
use tkverify::tower::{Guard, Peer, Route};
use tkverify::web::{Asked, Facts};
use tkverify::{ClientKey, Trust, Verifier};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};

/// How long to wait for the first revocation state; without it every request is refused as stale.
const LOADED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hyper-example: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["trust", "client-key", "state", "listen"])?;
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .build()?;
    // Better to start a moment later than to refuse the first requests for want of a state.
    verifier.wait_until_loaded(LOADED);
    let listener = TcpListener::bind(options.get("listen").unwrap_or("127.0.0.1:8080")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let guarded = Guard::new(verifier, needs).layer(tower::service_fn(read));
    loop {
        let (stream, peer) = listener.accept().await?;
        let guarded = guarded.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            // Before the guard, which offers them to `needs`. Behind a proxy the peer is the proxy: say
            // the address that it vouches for, or none.
            request.extensions_mut().insert(Peer(peer));
            if let Some(route) = matched(request.uri().path()) {
                request.extensions_mut().insert(Route(route.to_owned()));
            }
            guarded.clone().oneshot(request)
        });
        // A connection that breaks is no fault of ours.
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await)
        });
    }
}

/// The router: the one route of this service, for the paths that have its form.
fn matched(path: &str) -> Option<&'static str> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", _, "projects", _] => Some("/{tenant}/projects/{project}"),
        _ => None,
    }
}

/// The whole protection of this service: what a request asks for, in facts that the service vouches
/// for. `None`, and nothing is allowed: no other method, no other route, no unknown peer.
fn needs(asked: &Asked<'_>) -> Option<Facts> {
    if asked.method() != "GET" {
        return None;
    }
    let (tenant, project) = (asked.param("tenant")?.into_owned(), asked.param("project")?.into_owned());
    Some(Facts::new(tenant).action("read").text("project", project).ip("ip", asked.peer()?.ip()))
}

/// Runs for requests that were granted alone, and finds the grant beside the request.
async fn read(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let grant = request.extensions().get::<Grant>();
    let said = grant.map(|grant| json!({ "tenant": grant.tenant(), "by": grant.subject() }));
    Ok(Response::new(said.unwrap_or_default().to_string()))
}
