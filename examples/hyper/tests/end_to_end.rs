//! The service as a person with curl sees it: a real signer, the real service, real sockets.

use harness::{Service, client, mint, narrowed, revoke, signer, text};

#[test]
fn peer_and_route_are_facts_without_a_framework() {
    let mut signer = signer();
    let (trust, key, state) =
        (signer.trust(), client(&signer, "service.key", "verify", &[]), signer.dir().join("feed"));
    let args = ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)];
    let service = Service::start(env!("CARGO_BIN_EXE_hyper-example"), &args);
    let token = mint(&signer, &["action in read,delete"]);

    let none = service.call("GET", "/acme/projects/7", None);
    assert!(none.status == 401 && none.head.contains("www-authenticate: bearer"), "{none:?}");
    let granted = service.until(200, "/acme/projects/7", &token);
    assert_eq!(granted.body, r#"{"by":"user:17","tenant":"acme"}"#);

    // The peer of this test is on loopback.
    let here = narrowed(&token, &["ip in 127.0.0.0/8"]);
    assert_eq!(service.get("/acme/projects/7", &here).status, 200);
    let elsewhere = service.get("/acme/projects/7", &narrowed(&token, &["ip in 10.0.0.0/8"]));
    assert!(elsewhere.status == 403 && elsewhere.body.contains(r#""caveat""#), "{elsewhere:?}");
    let narrow = narrowed(&token, &["project = 7"]);
    assert_eq!(service.get("/acme/projects/7", &narrow).status, 200);
    assert_eq!(service.get("/acme/projects/%37", &narrow).status, 200, "as the route's parameter is read");
    assert_eq!(service.get("/acme/projects/8", &narrow).status, 403);
    // What the service does not know is not allowed.
    for (method, path) in [("DELETE", "/acme/projects/7"), ("GET", "/acme/projects/7/8"), ("GET", "/acme")] {
        let unknown = service.call(method, path, Some(&token));
        assert!(unknown.status == 403 && unknown.body.contains("unstated"), "{unknown:?}");
    }

    // A new token waits for the signer without stopping the executor, and is told to come back when
    // it is away.
    let new = mint(&signer, &["action = read"]);
    revoke(&signer, &token);
    assert!(service.until(401, "/acme/projects/7", &here).body.contains(r#""revoked""#));
    signer.kill();
    let later = service.get("/acme/projects/7", &new);
    assert!(later.status == 503 && later.body.contains("signer-unreachable"), "{later:?}");
}
