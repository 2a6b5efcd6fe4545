//! The sidecar behind the real nginx, and asked as Envoy asks.

use harness::{Nginx, Service, call, client, mint, narrowed, revoke, signer, text, until};
use testkit::http::{Reply, Server};
use testkit::signer::Running;

fn sidecar(signer: &Running, front: &str) -> Service {
    let (trust, key, state) =
        (signer.trust(), client(signer, "sidecar.key", "verify", &[]), signer.dir().join("feed"));
    let args =
        ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state), "--front", front];
    Service::start(env!("CARGO_BIN_EXE_sidecar-example"), &args)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn nginx_lets_through_what_the_token_allows_and_tells_the_service_for_whom() {
    let test = "nginx_lets_through_what_the_token_allows_and_tells_the_service_for_whom";
    let signer = signer();
    let mut sidecar = sidecar(&signer, "nginx");
    // The service behind: any language; it answers with what it was told.
    let service = Server::start(|request| {
        let told = |name| request.header(name).unwrap_or("-");
        Reply::ok(format!(
            "{} {} for {} of {}, token {}",
            request.method,
            request.path,
            told("x-tk-subject"),
            told("x-tk-tenant"),
            told("authorization")
        ))
    });
    let conf = include_str!("../nginx.conf")
        .replace("SIDECAR", &sidecar.address)
        .replace("SERVICE", &service.address().to_string());
    let Some(front) = Nginx::start(test, &conf) else { return };
    let ask = |method: &str, path: &str, headers: &[String]| call(front.listen(), method, path, headers);

    let token = mint(&signer, &["action in read,write"]);
    let none = ask("GET", "/acme/projects/7", &[]);
    assert!(none.status == 401 && none.head.contains("www-authenticate: bearer"), "{none:?}");
    let spoofed = ["X-Tk-Subject: root", "X-Tk-Tenant: other", "X-Original-Method: GET"].map(str::to_owned);
    let granted = until("the first grant", || {
        let headers = [&spoofed[..], &[bearer(&token)]].concat();
        let answer = ask("GET", "/acme/projects/7?page=2", &headers);
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(granted.body, "GET /acme/projects/7?page=2 for user:17 of acme, token -");
    assert_eq!(ask("POST", "/acme/projects/7", &[bearer(&token)]).status, 200);
    let delete = ask("DELETE", "/acme/projects/7", &[&spoofed[..], &[bearer(&token)]].concat());
    assert_eq!(delete.status, 403, "the method a client claims is not the one that counts");

    let narrow = narrowed(&token, &["path under /projects/7", "action = read"]);
    assert_eq!(ask("GET", "/acme/projects/7/files", &[bearer(&narrow)]).status, 200);
    assert_eq!(ask("GET", "/acme/projects/70", &[bearer(&narrow)]).status, 403);
    assert_eq!(ask("GET", "/other/projects/7", &[bearer(&narrow)]).status, 403);
    // What services and proxies read in different ways is let through by none of them.
    for path in
        ["/acme/projects/7/../8", "/acme//projects/7", "/acme/projects/%37", "/acme/projects/7/", "/acme"]
    {
        assert_eq!(ask("GET", path, &[bearer(&narrow)]).status, 401, "{path}");
    }
    let twice = [bearer(&token), bearer(&narrow)];
    assert!(matches!(ask("GET", "/acme/projects/7", &twice).status, 400 | 401), "two headers");

    revoke(&signer, &token);
    until("the revocation", || match ask("GET", "/acme/projects/7", &[bearer(&narrow)]).status {
        401 => Ok(()),
        other => Err(other),
    });
    // Without the sidecar nothing is let through.
    sidecar.process.kill();
    assert_eq!(ask("GET", "/acme/projects/7", &[bearer(&token)]).status, 503);
}

#[test]
fn it_answers_as_envoy_asks() {
    let signer = signer();
    let sidecar = sidecar(&signer, "envoy");
    let token = mint(&signer, &["action = read"]);
    let granted = sidecar.until(200, "/check/acme/projects/7", &token);
    assert!(granted.head.contains("x-tk-subject: user:17"), "{granted:?}");
    assert!(granted.head.contains("x-tk-tenant: acme") && granted.head.contains("x-tk-lineage: "));
    assert_eq!(sidecar.call("DELETE", "/check/acme/projects/7", Some(&token)).status, 403);
    assert_eq!(sidecar.call("OPTIONS", "/check/acme/projects/7", Some(&token)).status, 401);
    assert_eq!(sidecar.get("/acme/projects/7", &token).status, 401, "not behind /check");
    let spoofed = ["X-Original-Method: GET".to_owned(), bearer(&token)];
    assert_eq!(call(&sidecar.address, "PUT", "/check/acme/projects/7", &spoofed).status, 403);
    let stranger = mint(&signer, &["action = read"]);
    drop(signer);
    let later = sidecar.get("/check/acme/projects/7", &stranger);
    assert!(later.status == 503 && later.head.contains("x-tk-error: signer-unreachable"), "{later:?}");
    assert_eq!(sidecar.get("/check/acme/projects/7", &token).status, 200);
}
