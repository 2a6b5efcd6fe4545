//! What the peer is told of every kind of refusal, by every integration: the stable code, and nothing
//! that its own token does not say.

use tkcore::TokenText;
use tkcore::revocation::Revocation;
use tkverify::testing::{Kit, Spec};
use tkverify::web::Facts;
use tkverify::{Builder, Clock as _, Verifier};

/// A verifier in some state, and a header that it refuses.
struct Scene {
    code: &'static str,
    kit: Kit,
    verifier: Verifier,
    header: String,
    /// What this refusal in particular must not tell.
    hidden: Vec<String>,
}

/// What the peer must be told in no case: the service's own knowledge of the request, and whose token
/// it was.
const HIDDEN: [&str; 7] = ["acme", "rival", "user:7", "vault-7", "10.77.0.9", "storage", "elsewhere"];

/// What the request asks for, as the service knows it.
fn facts() -> Facts {
    Facts::new("acme").action("read").text("zone", "vault-7").ip("ip", "10.77.0.9".parse().unwrap())
}

fn spec() -> Spec {
    Spec::new("acme").subject("user:7").life(None).caveat("action in read")
}

impl Scene {
    /// A token as `spec` says, before a verifier as `builder` makes it, once `then` has happened.
    fn new(
        code: &'static str,
        spec: Spec,
        builder: impl Fn(Builder) -> Builder,
        then: impl Fn(&Scene),
    ) -> Self {
        let kit = Kit::new();
        let verifier = builder(kit.builder().audience("storage")).build().unwrap();
        let token = kit.mint(&spec);
        let mut scene = Self { code, verifier, header: kit.header(&token), hidden: Vec::new(), kit };
        scene.hides(&token);
        then(&scene);
        scene
    }

    /// The ids and the text of a token.
    fn hides(&mut self, token: &TokenText) {
        let (_, buf) = tkcore::TokenBuf::from_text(token.as_str()).unwrap();
        let identifier = buf.as_token().describe_untrusted().identifier().unwrap();
        let ids = [identifier.lineage.to_string(), identifier.key.to_string()];
        self.hidden.extend(ids.into_iter().chain([token.as_str()[4..40].to_owned()]));
    }

    fn lineage(&self) -> tkcore::LineageId {
        let (_, buf) = tkcore::TokenBuf::from_text(self.header.strip_prefix("Bearer ").unwrap()).unwrap();
        buf.as_token().claimed_identifier().unwrap().lineage
    }
}

fn scenes() -> Vec<Scene> {
    let usual = |builder: Builder| builder;
    let quiet = |_: &Scene| ();
    let parent = tkcore::LineageId::new([7; 10], Kit::new().clock().read().wall);
    let mut parent_revoked =
        Scene::new("revoked", spec().service_of(parent), usual, |scene| scene.kit.revoke_token(parent));
    parent_revoked.hidden.push(parent.to_string());
    let mut scenes = vec![
        parent_revoked,
        Scene::new("revoked", spec(), usual, |scene| scene.kit.revoke_token(scene.lineage())),
        Scene::new("revoked", spec(), usual, |scene| {
            scene.kit.clock().advance(std::time::Duration::from_secs(1));
            scene.kit.revoke(Revocation::Global { before: scene.kit.clock().read().wall });
        }),
        Scene::new("wrong-tenant", Spec::new("rival").caveat("action in read"), usual, quiet),
        Scene::new("wrong-audience", spec().audience("elsewhere"), usual, quiet),
        Scene::new("tenant-wide", Spec::new("acme").subject("user:7"), usual, quiet),
        Scene::new("caveat", spec().caveat("zone = garage"), usual, quiet),
        Scene::new("caveat", spec().caveat("ip in 192.0.2.0/24"), usual, quiet),
        Scene::new("caveat", spec().caveat("floor = 3"), usual, quiet),
        Scene::new("expired", spec().life(Some(std::time::Duration::from_secs(60))), usual, |scene| {
            scene.kit.clock().advance(std::time::Duration::from_secs(60));
            scene.kit.heartbeat();
        }),
        Scene::new("signer-unreachable", spec(), usual, |scene| scene.kit.signer().stop()),
        Scene::new("busy", spec(), |builder| builder.waiting_tasks(0), quiet),
        Scene::new("stale", spec(), usual, |scene| {
            scene.kit.clock().advance(std::time::Duration::from_secs(3600));
        }),
    ];
    // Headers that are not a token as it was minted.
    let changed = |code, change: &dyn Fn(&Scene) -> String| {
        let mut scene = Scene::new(code, spec(), usual, quiet);
        scene.header = change(&scene);
        scene
    };
    let token = |scene: &Scene| scene.kit.mint(&spec());
    scenes.extend([
        changed("missing", &|_| String::new()),
        changed("unknown-scheme", &|_| "Basic eDp5".to_owned()),
        changed("malformed", &|_| "Bearer tk1_AAAA".to_owned()),
        changed("truncated", &|scene| scene.header[..scene.header.len() - 7].to_owned()),
        changed("not-authentic", &|_| format!("Bearer {}", Kit::new().mint(&spec()).as_str())),
        changed("not-authentic", &|scene| {
            let at = scene.header.len() - 9;
            let other = if scene.header.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &scene.header[..at], &scene.header[at + 1..])
        }),
        changed("discharge-missing", &|scene| {
            let login = scene.kit.authority("https://login.example");
            scene.kit.header(&login.demand(&token(scene), &[]))
        }),
        changed("discharge-unused", &|scene| {
            let login = scene.kit.authority("https://login.example");
            let demanding = login.demand(&token(scene), &[]);
            scene.kit.header_with(&token(scene), &[login.discharge(&demanding, "user:7", &[])])
        }),
    ]);
    scenes
}

/// Every scene, in one integration that answers with everything the peer gets.
fn tells(answer: impl Fn(&Verifier, &str) -> (String, String)) {
    for scene in scenes() {
        let (code, told) = answer(&scene.verifier, &scene.header);
        assert_eq!(code, scene.code, "{told}");
        for hidden in HIDDEN.iter().copied().chain(scene.hidden.iter().map(String::as_str)) {
            assert!(!told.contains(hidden), "{code}: {hidden} in {told}");
        }
    }
}

/// The code of a problem.
fn code(body: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[cfg(feature = "tower")]
#[test]
fn the_layer_tells_a_code_and_nothing_that_the_token_does_not_say() {
    use tower_layer::Layer as _;
    use tower_service::Service as _;
    tells(|verifier, header| {
        let guard = tkverify::tower::Guard::new(verifier.clone(), |_| Some(facts()));
        let mut request = http::Request::builder().uri("/");
        if !header.is_empty() {
            request = request.header("authorization", header);
        }
        let mut service = guard.layer(crate::tower::Inner::default());
        let response = crate::block_on(service.call(request.body(()).unwrap())).unwrap();
        let response = response.map(crate::tower::text);
        (code(response.body()), format!("{:?} {}", response.headers(), response.body()))
    });
}

#[cfg(feature = "axum")]
#[test]
fn a_handler_of_axum_that_asks_itself_tells_the_same() {
    use std::sync::Arc;

    use axum::extract::State;
    use tower_service::Service as _;
    async fn ask(
        State(verifier): State<Arc<Verifier>>,
        bearer: tkverify::axum::Bearer,
    ) -> Result<&'static str, tkverify::web::Refused> {
        bearer.check(&verifier, facts()).await.map(|_| "granted")
    }
    tells(|verifier, header| {
        let app = axum::Router::new().route("/", axum::routing::get(ask));
        let mut request = http::Request::builder().uri("/");
        if !header.is_empty() {
            request = request.header("authorization", header);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = crate::block_on(app.with_state(Arc::new(verifier.clone())).call(request)).unwrap();
        let (parts, body) = response.into_parts();
        let body = crate::block_on(axum::body::to_bytes(body, 65_536)).unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (code(&body), format!("{:?} {body}", parts.headers))
    });
}

#[cfg(feature = "tonic")]
#[test]
fn a_status_of_grpc_tells_the_same() {
    tells(|verifier, header| {
        let header = (!header.is_empty()).then_some(header);
        let asked = crate::block_on(verifier.check_facts_async(header, facts()));
        let status = tonic::Status::from(asked.unwrap_err());
        let code = status.metadata().get("tk-code").unwrap().to_str().unwrap().to_owned();
        let details = String::from_utf8_lossy(status.details()).into_owned();
        (code, format!("{} {:?} {details}", status.message(), status.metadata()))
    });
}

#[cfg(feature = "actix")]
#[test]
fn the_middleware_and_a_handler_of_actix_tell_the_same() {
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::web::{Data, get, resource};
    use tkverify::actix::{Bearer, Guard};
    async fn ask(verifier: Data<Verifier>, bearer: Bearer) -> Result<&'static str, tkverify::web::Refused> {
        bearer.check(&verifier, facts()).await.map(|_| "granted")
    }
    for path in ["/guarded", "/asked"] {
        tells(|verifier, header| {
            actix_web::rt::System::new().block_on(async {
                let guard = Guard::new(verifier.clone(), |_| Some(facts()));
                let guarded = resource("/guarded").wrap(guard).to(async || "granted");
                let asked = resource("/asked").route(get().to(ask));
                let app = actix_web::App::new().app_data(Data::new(verifier.clone()));
                let app = init_service(app.service(guarded).service(asked)).await;
                let mut request = TestRequest::get().uri(path);
                if !header.is_empty() {
                    request = request.append_header(("authorization", header));
                }
                let response = call_service(&app, request.to_request()).await;
                let fields = format!("{:?}", response.headers());
                let body = String::from_utf8(read_body(response).await.to_vec()).unwrap();
                (code(&body), format!("{fields} {body}"))
            })
        });
    }
}
