//! axum's router with the layer and the extractors.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, Response};
use axum::routing::get;
use tkverify::Verifier;
use tkverify::axum::{Bearer, Granted, Guard};
use tkverify::testing::{Kit, Spec};
use tkverify::web::{Facts, Refused};
use tower_service::Service as _;

use crate::{block_on, reader};

fn call(
    router: &Router,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> (u16, String, Response<Body>) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo("10.0.0.9:4000".parse::<SocketAddr>().unwrap()));
    let response = block_on(router.clone().call(request)).unwrap();
    let (parts, body) = response.into_parts();
    let bytes = block_on(axum::body::to_bytes(body, 65_536)).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (parts.status.as_u16(), text, Response::from_parts(parts, Body::empty()))
}

fn guard(verifier: Verifier) -> Guard<impl Fn(&tkverify::web::Asked<'_>) -> Option<Facts> + Clone> {
    Guard::new(verifier, |asked| {
        let facts = Facts::new(asked.param("tenant")?.into_owned()).action(asked.usual_action());
        let facts = facts.text("route", asked.route()?.to_owned()).path("path", asked.path().to_owned());
        Some(facts.ip("ip", asked.peer()?.ip()))
    })
}

#[test]
fn three_lines_protect_a_service() {
    let kit = Kit::new();
    let guard = guard(kit.verifier());
    let app = Router::new()
        .route(
            "/{tenant}/projects/{id}",
            get(async |Granted(grant): Granted| grant.subject().unwrap().to_owned()),
        )
        .route_layer(guard)
        .route("/healthz", get(async || "well"));
    let token = kit.header(&reader(&kit));
    assert_eq!(call(&app, "GET", "/acme/projects/7", Some(&token)).1, "user:7");
    let (status, body, response) = call(&app, "GET", "/acme/projects/7", None);
    assert_eq!((status, body.contains("\"missing\"")), (401, true));
    assert_eq!(response.headers().get_all("www-authenticate").iter().count(), 2);
    let (status, body, _) = call(&app, "GET", "/beta/projects/7", Some(&token));
    assert_eq!((status, body.contains("wrong-tenant")), (403, true));
    assert_eq!(call(&app, "GET", "/healthz", None).1, "well");
    // Not ours to answer.
    assert_eq!(call(&app, "GET", "/nowhere", None).0, 404);
}

#[test]
fn in_a_nested_router_path_and_route_are_the_whole_ones() {
    let kit = Kit::new();
    let inner = Router::new()
        .route("/projects/{id}", get(async |Granted(_): Granted| "in"))
        .route_layer(guard(kit.verifier()));
    let app = Router::new().nest("/api/{tenant}", inner);
    let spec = Spec::new("acme")
        .caveat("path under /api/acme/projects")
        .caveat("route = \"/api/{tenant}/projects/{id}\"")
        .caveat("ip = 10.0.0.9");
    let token = kit.header(&kit.mint(&spec));
    let (status, body, _) = call(&app, "GET", "/api/acme/projects/7", Some(&token));
    assert_eq!((status, body.as_str()), (200, "in"));
    assert_eq!(call(&app, "GET", "/api/other/projects/7", Some(&token)).0, 403);
}

#[test]
fn a_handler_without_a_guard_is_not_run() {
    let app = Router::new()
        .route("/required", get(async |Granted(_): Granted| "never"))
        .route("/optional", get(async |granted: Option<Granted>| format!("{}", granted.is_some())));
    let (status, body, _) = call(&app, "GET", "/required", None);
    assert_eq!((status, body.contains("\"internal\"")), (503, true), "{body}");
    assert_eq!(call(&app, "GET", "/optional", None).1, "false");
}

#[test]
fn a_handler_asks_the_verifier_itself() {
    async fn order(
        State(verifier): State<Arc<Verifier>>,
        bearer: Bearer,
        amount: String,
    ) -> Result<String, Refused> {
        let facts = Facts::new("acme").action("order").int("amount", amount.parse().unwrap_or(500));
        let grant = bearer.check(&verifier, facts).await?;
        Ok(grant.tenant().to_owned())
    }
    let kit = Kit::new();
    let app = Router::new().route("/", get(order)).with_state(Arc::new(kit.verifier()));
    let token = |most: u32| {
        let spec = Spec::new("acme").caveat("action = order").caveat(&format!("amount <= {most}"));
        kit.header(&kit.mint(&spec))
    };
    assert_eq!(call(&app, "GET", "/", Some(&token(500))).1, "acme");
    let (status, body, _) = call(&app, "GET", "/", Some(&token(499)));
    assert_eq!((status, body.contains("\"caveat\"")), (403, true));
    assert_eq!(call(&app, "GET", "/", None).0, 401);
    // The request's place in a trace goes with the ask, as it does from a guard.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced =
        Request::builder().uri("/").header("authorization", token(600)).header("traceparent", parent);
    let response = block_on(app.clone().call(traced.body(Body::empty()).unwrap())).unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(kit.signer().traced().unwrap().parent[1], 0xf0);
}
