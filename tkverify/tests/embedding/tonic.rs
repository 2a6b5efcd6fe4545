//! The layer before gRPC methods.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response};
use tkverify::testing::{Kit, Spec};
use tkverify::web::{Facts, Refused};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_layer::Layer as _;
use tower_service::Service;

use crate::block_on;

/// A method that answers with the subject in a header.
#[derive(Clone)]
struct Method;

impl Service<Request<Body>> for Method {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request = tonic::Request::from_http(request);
        let grant = tkverify::tonic::grant(&request).unwrap();
        let response = Response::builder().header("subject", grant.subject().unwrap());
        ready(Ok(response.body(Body::empty()).unwrap()))
    }
}

fn status(kit: &Kit, path: &str, authorization: Option<&str>) -> Result<String, Status> {
    let layer = tkverify::tonic::guard(kit.verifier(), |asked| match asked.path() {
        "/files.Files/Read" => Some(Facts::new("acme").action("read")),
        "/files.Files/Delete" => Some(Facts::new("acme").action("delete")),
        _ => None,
    });
    let mut request = Request::builder().method("POST").uri(path).header("content-type", "application/grpc");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let response = block_on(layer.layer(Method).call(request.body(Body::empty()).unwrap())).unwrap();
    assert_eq!(response.status(), 200, "gRPC says what it has to say in its own status");
    match Status::from_header_map(response.headers()) {
        None => Ok(response.headers()["subject"].to_str().unwrap().to_owned()),
        Some(status) => {
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert!(http_body::Body::is_end_stream(response.body()));
            Err(status)
        }
    }
}

#[test]
fn refusals_are_grpc_statuses_with_stable_details() {
    let kit = Kit::new();
    let token = kit.header(&kit.mint(&Spec::new("acme").subject("user:7").caveat("action in read")));
    assert_eq!(status(&kit, "/files.Files/Read", Some(&token)).unwrap(), "user:7");

    let told = |path: &str, authorization: Option<&str>, code: Code, reason: &str| {
        let status = status(&kit, path, authorization).unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(status.metadata().get("tk-code").unwrap(), reason);
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(details.contains(&reason.to_uppercase().replace('-', "_")), "{details}");
        status
    };
    let missing = told("/files.Files/Read", None, Code::Unauthenticated, "missing");
    assert_eq!(missing.metadata().get_all("www-authenticate").iter().count(), 2);
    told("/files.Files/Delete", Some(&token), Code::PermissionDenied, "caveat");
    told("/files.Files/Other", Some(&token), Code::PermissionDenied, "unstated");
    kit.signer().stop();
    let new = kit.header(&kit.mint(&Spec::new("acme").caveat("action in read")));
    let away = told("/files.Files/Read", Some(&new), Code::Unavailable, "signer-unreachable");
    assert_eq!(away.metadata().get("retry-after").unwrap(), "5");
}

#[test]
fn a_method_that_asks_itself_answers_with_a_status() {
    let kit = Kit::new();
    let facts = Facts::new("acme").action("read");
    let none: [&str; 0] = [];
    let refused: Refused = block_on(kit.verifier().check_facts_async(none, facts)).unwrap_err();
    assert_eq!(Status::from(refused).code(), Code::Unauthenticated);
    // What it asks the signer is part of its caller's trace, if it says so; so on plain threads.
    let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = Facts::new("acme").action("read").traceparent(parent);
    let new = || [kit.header(&kit.mint(&Spec::new("acme").caveat("action in read")))];
    assert!(block_on(kit.verifier().check_facts_async(new(), traced.clone())).is_ok());
    assert_eq!(kit.signer().traced().unwrap().parent[1], 0xf0);
    assert!(kit.verifier().check_facts(new(), &Facts::new("acme").action("read")).is_ok());
    assert_eq!(kit.signer().traced(), None);
    assert!(kit.verifier().check_facts(new(), &traced).is_ok());
    assert_eq!(kit.signer().traced().unwrap().parent[1], 0xf0);
    let request = tonic::Request::new(());
    assert_eq!(tkverify::tonic::grant(&request).unwrap_err().code(), Code::Unavailable);
}
