//! The service as a person with curl sees it: a real signer, the real service, real sockets.

use harness::{Service, client, mint, narrowed, revoke, signer, text};
use testkit::signer::Running;

fn service(signer: &Running) -> Service {
    let (trust, key, state) =
        (signer.trust(), client(signer, "service.key", "verify", &[]), signer.dir().join("feed"));
    let args = ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)];
    Service::start(env!("CARGO_BIN_EXE_axum-example"), &args)
}

#[test]
fn a_request_is_allowed_by_what_its_token_says_until_it_is_revoked() {
    let signer = signer();
    let service = service(&signer);
    let token = mint(&signer, &["action in read,delete"]);

    let none = service.call("GET", "/acme/projects/7", None);
    assert_eq!(none.status, 401, "{none:?}");
    assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");
    assert!(none.body.contains(r#""code":"missing""#), "{none:?}");

    let granted = service.until(200, "/acme/projects/7", &token);
    assert_eq!(granted.body, r#"{"by":"user:17","project":"7","tenant":"acme"}"#);

    // Narrowed offline: less is allowed, and the answer says why.
    let narrow = narrowed(&token, &["project = 7", "action = read"]);
    assert_eq!(service.get("/acme/projects/7", &narrow).status, 200);
    let other = service.get("/acme/projects/8", &narrow);
    assert!(other.status == 403 && other.body.contains("`project = 7`"), "{other:?}");
    assert_eq!(service.call("DELETE", "/acme/projects/7", Some(&narrow)).status, 403);
    assert_eq!(service.call("DELETE", "/acme/projects/7", Some(&token)).status, 200);

    // Another tenant's projects are not this token's; what is not known to be allowed is not.
    let other = service.get("/other/projects/7", &token);
    assert!(other.status == 403 && other.body.contains("wrong-tenant"), "{other:?}");
    assert_ne!(service.call("POST", "/acme/projects/7", Some(&token)).status, 200);

    // A cut-off paste is told apart from a forgery.
    let cut = service.get("/acme/projects/7", &token[..token.len() - 9]);
    assert!(cut.status == 401 && cut.body.contains(r#""truncated""#), "{cut:?}");
    assert!(cut.head.contains("invalid_token"), "{cut:?}");
    let mut forged = token.clone().into_bytes();
    let at = forged.len() - 9;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(service.get("/acme/projects/7", &String::from_utf8_lossy(&forged)).status, 401);
    assert_eq!(service.call("GET", "/healthz", None).body, "fresh\n", "no reasons, no addresses");

    revoke(&signer, &token);
    assert!(service.until(401, "/acme/projects/7", &narrow).body.contains(r#""revoked""#));
    assert!(!service.process.output().contains("tk1_"), "{}", service.process.output());
}

#[test]
fn without_the_signer_known_tokens_work_and_new_ones_are_told_to_come_back() {
    let mut signer = signer();
    let service = service(&signer);
    let (known, new) = (mint(&signer, &["action = read"]), mint(&signer, &["action = read"]));
    service.until(200, "/acme/projects/7", &known);
    signer.kill();
    assert_eq!(service.get("/acme/projects/7", &known).status, 200);
    assert_eq!(service.get("/acme/projects/7", &narrowed(&known, &["project = 7"])).status, 200);
    let later = service.get("/acme/projects/7", &new);
    assert!(later.status == 503 && later.body.contains("signer-unreachable"), "{later:?}");
    assert!(later.head.contains("retry-after: "), "{later:?}");
}
