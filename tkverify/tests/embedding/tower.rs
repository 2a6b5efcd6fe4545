//! The layer, over nothing but `http` and `tower-service`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use tkcore::Grant;
use tkverify::Verifier;
use tkverify::testing::Kit;
use tkverify::tower::{Guard, GuardBody, Peer, Route};
use tkverify::web::Facts;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{block_on, needs, reader};

/// A body of our own: the layer knows none.
pub(crate) struct Text(VecDeque<u8>);

impl Body for Text {
    type Data = VecDeque<u8>;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }
}

/// Says who is there, and counts how often it was called.
#[derive(Clone, Default)]
pub(crate) struct Inner {
    called: Arc<AtomicU64>,
    /// Set by `poll_ready`, taken by `call`: the one that is called must be the one that was ready.
    ready: bool,
}

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Text>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        self.called.fetch_add(1, Ordering::SeqCst);
        // Whoever prints the request here prints no token.
        assert!(request.headers().get_all("authorization").iter().all(http::HeaderValue::is_sensitive));
        let who = request.extensions().get::<Grant>().map_or("nobody", |grant| grant.subject().unwrap());
        ready(Ok(Response::new(Text(who.bytes().collect()))))
    }
}

pub(crate) fn text<B>(mut body: GuardBody<B>) -> String
where
    GuardBody<B>: Body<Data = VecDeque<u8>> + Unpin,
{
    let size = body.size_hint().exact();
    let mut all = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) =
        Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
    {
        all.extend(frame.into_data().unwrap());
    }
    assert!(size.is_none_or(|size| size == all.len() as u64));
    String::from_utf8(all).unwrap()
}

struct Site {
    kit: Kit,
    verifier: Verifier,
    inner: Inner,
}

impl Site {
    fn new() -> Self {
        let kit = Kit::new();
        let verifier = kit.verifier();
        Self { kit, verifier, inner: Inner::default() }
    }

    fn call(&self, request: Request<()>) -> Response<String> {
        let mut service = Guard::new(self.verifier.clone(), needs).layer(self.inner.clone());
        let ready = Service::<Request<()>>::poll_ready(
            &mut service,
            &mut Context::from_waker(std::task::Waker::noop()),
        );
        assert!(ready.is_ready());
        block_on(service.call(request)).unwrap().map(text)
    }

    fn get(&self, path: &str, authorization: &[&str]) -> Response<String> {
        self.call(request("GET", path, authorization))
    }

    fn called(&self) -> u64 {
        self.inner.called.load(Ordering::SeqCst)
    }
}

fn request(method: &str, path: &str, authorization: &[&str]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path);
    for value in authorization {
        request = request.header("authorization", *value);
    }
    request.body(()).unwrap()
}

fn fields(response: &Response<String>, name: &str) -> Vec<String> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn code(response: &Response<String>) -> String {
    assert_eq!(fields(response, "content-type"), ["application/problem+json"]);
    assert_eq!(fields(response, "cache-control"), ["no-store"]);
    let problem: serde_json::Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(problem["status"], response.status().as_u16());
    assert!(
        !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
    );
    assert_eq!(problem.as_object().unwrap().len(), 4);
    problem["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_token_waits_for_the_signer_and_a_known_one_for_nobody() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    for _ in 0..3 {
        let response = site.get("/projects/7", &[&token]);
        assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, "user:7"));
    }
    assert_eq!((site.kit.signer().asked(), site.called()), (1, 3));
    // The signer's word of now, each time.
    for asked in 2..=3 {
        assert_eq!(site.get("/now", &[&token]).status(), 200);
        assert_eq!(site.kit.signer().asked(), asked);
    }
    // One that the signer refuses is refused after the wait as before it.
    let (forged, at) = (token.clone(), token.len() - 9);
    let other = if forged.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut forged = forged;
    forged.replace_range(at..=at, other);
    let fresh = Site::new();
    assert_eq!(code(&fresh.get("/projects/7", &[&forged])), "not-authentic");
    assert_eq!(fresh.called(), 0);
}

#[test]
fn statuses_and_challenges_are_those_of_rfc_6750() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    let missing = site.get("/projects/7", &[]);
    assert_eq!((missing.status().as_u16(), code(&missing).as_str()), (401, "missing"));
    assert_eq!(fields(&missing, "www-authenticate"), ["Bearer", "Macaroon"]);

    let cut = site.get("/projects/7", &[&token[..token.len() - 7]]);
    assert_eq!((cut.status().as_u16(), code(&cut).as_str()), (401, "truncated"));
    let challenges = fields(&cut, "www-authenticate");
    assert_eq!(challenges.len(), 2);
    assert_eq!(
        challenges[0],
        "Bearer error=\"invalid_token\", error_description=\"the token is cut off; copy all of it\""
    );
    assert!(challenges[1].starts_with("Macaroon error=\"invalid_token\""));

    let write = site.call(request("DELETE", "/projects/7", &[&token]));
    assert_eq!((write.status().as_u16(), code(&write).as_str()), (403, "caveat"));
    assert!(fields(&write, "www-authenticate")[0].contains("error=\"insufficient_scope\""));
    assert!(write.body().contains("`action in read`"));

    // TK-54
    let two = site.get("/projects/7", &[&token, &token]);
    assert_eq!((two.status().as_u16(), code(&two).as_str()), (401, "malformed"));
    assert_eq!(code(&site.get("/projects/7", &["Basic eDp5"])), "unknown-scheme");
    assert_eq!(site.get("/projects/7", &[&token.replace("Bearer", "macaroon")]).status(), 200);

    site.kit.signer().stop();
    let new = site.kit.header(&reader(&site.kit));
    let away = site.get("/projects/7", &[&new]);
    assert_eq!((away.status().as_u16(), code(&away).as_str()), (503, "signer-unreachable"));
    assert_eq!(fields(&away, "retry-after"), ["5"]);
    assert!(fields(&away, "www-authenticate").is_empty());
    site.kit.clock().advance(std::time::Duration::from_secs(3600));
    assert_eq!(code(&site.get("/projects/7", &[&token])), "stale");
    assert_eq!(site.called(), 1);
}

#[test]
fn what_the_service_does_not_know_or_cannot_state_is_refused() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    for path in ["/elsewhere", "/projects/../admin", "/projects/a%2Fb", "/projects//x"] {
        let response = site.get(path, &[&token]);
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (403, "unstated"), "{path}");
        assert!(fields(&response, "www-authenticate").is_empty());
    }
    assert_eq!((site.called(), site.kit.signer().asked()), (0, 0));
}

#[test]
fn nothing_is_needed_and_a_grant_is_optional_where_the_service_says_so() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    assert_eq!(site.get("/healthz", &[]).body(), "nobody");
    assert_eq!(site.get("/healthz", &["Bearer tk1_garbage"]).body(), "nobody");
    assert_eq!(site.get("/page", &[]).body(), "nobody");
    assert_eq!(site.get("/page", &[&token]).body(), "user:7");
    // A token that is refused is not the same as none.
    assert_eq!(code(&site.get("/page", &["Bearer tk1_garbage"])), "malformed");
    assert_eq!(site.call(request("POST", "/page", &[&token])).status(), 403);
}

#[test]
fn a_grant_that_was_there_before_does_not_count() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    let stated = site.verifier.request("acme").action("read").build().unwrap();
    let grant = site.verifier.check(&token, &stated).unwrap();
    for path in ["/healthz", "/page"] {
        let mut request = request("GET", path, &[]);
        request.extensions_mut().insert(grant.clone());
        assert_eq!(site.call(request).body(), "nobody", "{path}");
    }
}

#[test]
fn several_tokens_and_the_one_that_clears() {
    let site = Site::new();
    let reads = reader(&site.kit);
    let writes = site.kit.mint(&tkverify::testing::Spec::new("acme").subject("ci").caveat("action in write"));
    let both = format!("Bearer {},{}", writes.as_str(), reads.as_str());
    // One ask a header: the other is asked about at the second try.
    let first = site.get("/projects/7", &[&both]).status().as_u16();
    assert!([200, 503].contains(&first), "{first}");
    site.get("/projects/7", &[&both]);
    assert_eq!(site.get("/projects/7", &[&both]).body(), "user:7");
    assert_eq!(site.call(request("POST", "/projects/7", &[&both])).body(), "ci");
}

#[test]
fn route_peer_header_and_extensions_are_offered() {
    #[derive(Clone)]
    struct Certificate(&'static str);
    let kit = Kit::new();
    let token = kit.mint(
        &tkverify::testing::Spec::new("acme")
            .subject("user:7")
            .caveat("ip in 10.0.0.0/8")
            .caveat("project = 17")
            .caveat("client = build"),
    );
    let guard = Guard::new(kit.verifier(), |asked| -> Option<Facts> {
        let Certificate(client) = asked.extension()?;
        assert_eq!(asked.header("x-name"), Some(&b"v"[..]));
        Some(
            Facts::new("acme")
                .action("read")
                .text("project", asked.param("project")?.into_owned())
                .text("client", *client)
                .ip("ip", asked.peer()?.ip()),
        )
    });
    let mut service = guard.layer(Inner::default());
    let mut call = |peer: &str, path: &str| {
        let mut request = request("GET", path, &[&kit.header(&token)]);
        request.headers_mut().insert("x-name", http::HeaderValue::from_static("v"));
        let extensions = request.extensions_mut();
        extensions.insert(Certificate("build"));
        extensions.insert(Peer(peer.parse::<SocketAddr>().unwrap()));
        extensions.insert(Route("/projects/{project}".to_owned()));
        let _ = Service::<Request<()>>::poll_ready(
            &mut service,
            &mut Context::from_waker(std::task::Waker::noop()),
        );
        block_on(service.call(request)).unwrap().status().as_u16()
    };
    assert_eq!(call("10.1.2.3:9", "/projects/17"), 200);
    assert_eq!(call("192.0.2.1:9", "/projects/17"), 403);
    assert_eq!(call("10.1.2.3:9", "/projects/18"), 403);
    assert_eq!(call("10.1.2.3:9", "/projects/%31%37"), 200);
}

#[test]
fn the_peer_is_told_no_id_and_no_fact_of_the_service() {
    let site = Site::new();
    let token = reader(&site.kit);
    let header = site.kit.header(&token);
    assert_eq!(site.get("/projects/7", &[&header]).status(), 200);
    let (_, buf) = tkcore::TokenBuf::from_text(token.as_str()).unwrap();
    let identifier = buf.as_token().describe_untrusted().identifier().unwrap();
    let ids = [identifier.lineage.to_string(), identifier.key.to_string(), "user:7".to_owned()];
    site.kit.revoke_token(identifier.lineage);
    let other =
        site.kit.header(&site.kit.mint(&tkverify::testing::Spec::new("rival").caveat("action in read")));
    for header in [header.as_str(), other.as_str(), "Bearer tk1_AAAA"] {
        let response = site.get("/projects/7", &[header]);
        assert!(response.status().is_client_error());
        let told = format!("{:?} {}", response.headers(), response.body());
        for id in &ids {
            assert!(!told.contains(id.as_str()), "{told}");
        }
        assert!(
            !told.contains("rival") && !told.contains("acme") && !told.contains(&token.as_str()[4..40]),
            "{told}"
        );
    }
}

#[test]
fn the_traceparent_reaches_the_signer() {
    let site = Site::new();
    let token = site.kit.header(&reader(&site.kit));
    let mut request = request("GET", "/projects/7", &[&token]);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.headers_mut().insert("traceparent", http::HeaderValue::from_static(parent));
    assert_eq!(site.call(request).status(), 200);
    let trace = site.kit.signer().traced().unwrap();
    assert_eq!((trace.trace[..2].to_vec(), trace.flags), (vec![0x4b, 0xf9], 1));
    assert_eq!(site.get("/now", &[&token]).status(), 200);
    assert_eq!(site.kit.signer().traced(), None);
}
