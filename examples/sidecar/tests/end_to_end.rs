//! The sidecar behind the real nginx and the real Envoy, and asked as Envoy asks.

use harness::{
    Proxy, Service, call, client, flood_while_the_signer_hangs, mint, narrowed, revoke, signer, text, until,
};
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

/// The service behind: any language; it answers with what it was told.
fn service() -> Server {
    Server::start(|request| {
        let told = |name| request.header(name).filter(|value| !value.is_empty()).unwrap_or("-");
        Reply::ok(format!(
            "{} {} for {} of {}, token {}",
            request.method,
            request.path,
            told("x-tk-subject"),
            told("x-tk-tenant"),
            told("authorization")
        ))
    })
}

/// What holds behind any proxy.
fn lets_through_what_the_token_allows(signer: &Running, mut sidecar: Service, front: &Proxy) {
    let ask = |method: &str, path: &str, headers: &[String]| call(front.listen(), method, path, headers);
    let token = mint(signer, &["action in read,write"]);
    let none = ask("GET", "/acme/projects/7", &[]);
    assert!(none.status == 401 && none.head.contains("www-authenticate: bearer"), "{none:?}");
    let spoofed = ["X-Tk-Subject: root", "X-Tk-Tenant: other", "X-Original-Method: GET"].map(str::to_owned);
    let granted = until("the first grant", || {
        let headers = [&spoofed[..], &[bearer(&token)]].concat();
        let answer = ask("GET", "/acme/projects/7?page=2", &headers);
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(granted.body, "GET /acme/projects/7?page=2 for user:17 of acme, token -");
    let nobody = ["--tenant", "acme", "--expires", "8h", "--caveat", "action = read"];
    let nobody = bearer(signer.must("mint", &nobody).trim());
    let granted = ask("GET", "/acme/projects/7", &[&spoofed[..], &[nobody]].concat());
    assert_eq!(granted.body, "GET /acme/projects/7 for - of acme, token -", "no subject, not the client's");
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

    revoke(signer, &token);
    until("the revocation", || match ask("GET", "/acme/projects/7", &[bearer(&narrow)]).status {
        401 => Ok(()),
        other => Err(other),
    });
    // Without the sidecar nothing is let through.
    sidecar.process.kill();
    assert_eq!(ask("GET", "/acme/projects/7", &[bearer(&token)]).status, 503);
}

#[test]
fn nginx_lets_through_what_the_token_allows_and_tells_the_service_for_whom() {
    let test = "nginx_lets_through_what_the_token_allows_and_tells_the_service_for_whom";
    let (signer, service) = (signer(), service());
    let sidecar = sidecar(&signer, "nginx");
    let conf = include_str!("../nginx.conf")
        .replace("SIDECAR", &sidecar.address)
        .replace("SERVICE", &service.address().to_string());
    let Some(front) = Proxy::nginx(test, &conf) else { return };
    let (one, other) = (mint(&signer, &["action = read"]), mint(&signer, &["action = read"]));
    let twice = call(front.listen(), "GET", "/acme/projects/7", &[bearer(&one), bearer(&other)]);
    assert!(matches!(twice.status, 400 | 401), "two headers: {twice:?}");
    lets_through_what_the_token_allows(&signer, sidecar, &front);
}

#[test]
fn envoy_lets_through_what_the_token_allows_and_tells_the_service_for_whom() {
    let test = "envoy_lets_through_what_the_token_allows_and_tells_the_service_for_whom";
    let (mut signer, service) = (signer(), service());
    let sidecar = sidecar(&signer, "envoy");
    let at: std::net::SocketAddr = sidecar.address.parse().unwrap();
    let ports = [("9090", at.port()), ("8000", service.address().port())];
    let Some(front) = Proxy::envoy(test, include_str!("../envoy.yaml"), &ports) else { return };
    let stranger = mint(&signer, &["action = read"]);
    signer.stop();
    let later = call(front.listen(), "GET", "/acme/projects/7", &[bearer(&stranger)]);
    assert_eq!(later.status, 503, "what is not knowable now is not forbidden: {later:?}");
    signer.serve();
    lets_through_what_the_token_allows(&signer, sidecar, &front);
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

#[test]
fn strangers_while_the_signer_hangs_leave_threads_for_what_is_known() {
    let signer = signer();
    let sidecar = sidecar(&signer, "envoy");
    let token = mint(&signer, &["action = read"]);
    sidecar.until(200, "/check/acme/projects/7", &token);
    flood_while_the_signer_hangs(
        &signer,
        |stranger| sidecar.get("/check/acme/projects/7", stranger),
        || assert_eq!(sidecar.get("/check/acme/projects/7", &token).status, 200),
    );
}
