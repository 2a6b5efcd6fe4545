//! The service as a person with curl sees it: a real signer, the real service, real sockets.

use harness::{Service, call, client, flood_while_the_signer_hangs, mint, narrowed, revoke, signer, text};
use testkit::signer::Running;

fn service(signer: &Running) -> Service {
    let (trust, key, state) =
        (signer.trust(), client(signer, "service.key", "verify", &[]), signer.dir().join("feed"));
    let args = ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)];
    Service::start(env!("CARGO_BIN_EXE_sync-example"), &args)
}

#[test]
fn a_request_is_allowed_by_what_its_token_says_until_it_is_revoked() {
    let signer = signer();
    let service = service(&signer);
    let token = mint(&signer, &["action in read,delete"]);

    let none = service.call("GET", "/acme/projects/7", None);
    assert_eq!(none.status, 401, "{none:?}");
    assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");

    let granted = service.until(200, "/acme/projects/7", &token);
    assert_eq!(granted.body, r#"{"by":"user:17","read":"7","tenant":"acme"}"#);
    assert_eq!(service.call("DELETE", "/acme/projects/7", Some(&token)).status, 200);
    assert_eq!(service.call("PUT", "/acme/projects/7", Some(&token)).status, 405);

    let narrow = narrowed(&token, &["project = 7", "action = read"]);
    assert_eq!(service.get("/acme/projects/7", &narrow).status, 200);
    assert!(service.get("/acme/projects/8", &narrow).body.contains("`project = 7`"));
    assert_eq!(service.call("DELETE", "/acme/projects/7", Some(&narrow)).status, 403);
    assert_eq!(service.get("/other/projects/7", &token).status, 403);
    assert!(service.get("/acme/projects/7", &token[..token.len() - 9]).body.contains("truncated"));
    assert_eq!(service.call("GET", "/healthz", None).body, "fresh\n", "no reasons, no addresses");

    revoke(&signer, &token);
    assert!(service.until(401, "/acme/projects/7", &narrow).body.contains("revoked"));
    assert!(!service.process.output().contains("tk1_"), "{}", service.process.output());
}

#[test]
fn many_requests_at_once_on_its_few_threads() {
    let signer = signer();
    let service = service(&signer);
    let token = mint(&signer, &["action = read"]);
    service.until(200, "/acme/projects/7", &token);
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let (address, token) = (&service.address, &token);
            scope.spawn(move || {
                for project in 0..20 {
                    let narrow = narrowed(token, &[&format!("project = {project}")]);
                    let path = format!("/acme/projects/{project}");
                    let header = format!("Authorization: Bearer {narrow}");
                    assert_eq!(call(address, "GET", &path, &[header]).status, 200, "caller {caller}");
                }
            });
        }
    });
}

#[test]
fn strangers_while_the_signer_hangs_leave_threads_for_what_is_known() {
    let signer = signer();
    let service = service(&signer);
    let token = mint(&signer, &["action = read"]);
    service.until(200, "/acme/projects/7", &token);
    flood_while_the_signer_hangs(
        &signer,
        |stranger| service.get("/acme/projects/7", stranger),
        || {
            assert_eq!(service.get("/acme/projects/7", &token).status, 200);
            assert_eq!(service.call("GET", "/healthz", None).status, 200);
        },
    );
}
