//! The signer is killed and never comes back; two days pass by `faketime`.

use std::process::Command;
use std::time::Duration;

use harness::{Clock, Service, client, signer, text};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn tokens_never_seen_before_are_decided_days_after_the_signer_is_gone() {
    let mut signer = signer();
    let file = signer.dir().join("clock");
    let test = "tokens_never_seen_before_are_decided_days_after_the_signer_is_gone";
    let Some(clock) = Clock::new(test, file) else { return };
    signer.must("keys create", &["--tenant", "acme", "--audience", "builds", "--delegable"]);
    let (trust, key, state) = (
        signer.trust(),
        client(&signer, "builds.key", "keys", &["--audience", "builds"]),
        signer.dir().join("feed"),
    );
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delegated-example"));
        command.args(["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)]);
        Service::from(command.envs(clock.environment()))
    };
    let service = start();
    let mint = |days: &str| {
        let args = ["--tenant", "acme", "--audience", "builds", "--delegable", "--subject", "ci:7"];
        let more = ["--expires", days, "--caveat", "action in download,upload"];
        signer.must("mint", &[&args[..], &more].concat()).trim().to_owned()
    };
    let (first, later, short, revoked) = (mint("30d"), mint("30d"), mint("1d"), mint("30d"));
    // The keys arrive in the background; this client may not even ask about a token.
    service.until(200, "/acme/artifacts/app", &first);
    service.until(200, "/acme/artifacts/app", &revoked);
    harness::revoke(&signer, &revoked);
    service.until(401, "/acme/artifacts/app", &revoked);
    signer.kill();

    assert_eq!(service.call("PUT", "/acme/artifacts/app", Some(&later)).status, 200);
    clock.after(2 * DAY);
    let answer = service.get("/acme/artifacts/app", &later);
    assert_eq!((answer.status, answer.body.as_str()), (200, "download app: ci:7\n"));
    let short = service.get("/acme/artifacts/app", &short);
    assert!(short.body.starts_with("expired"), "expiry still counts: {short:?}");
    assert_eq!(service.get("/acme/artifacts/app", &revoked).status, 401, "so does what was revoked");
    let upload = service.call("PUT", "/acme/artifacts/app", Some(&later));
    assert!(upload.status == 503 && upload.body.starts_with("stale"), "{upload:?}");
    assert!(service.call("GET", "/healthz", None).body.starts_with("stale; "), "health says so");
    clock.after(31 * DAY);
    assert_eq!(service.get("/acme/artifacts/app", &later).status, 503, "grace has an end");

    // Keys are in memory alone: a new process without the signer knows none.
    clock.after(DAY);
    drop(service);
    assert_eq!(start().get("/acme/artifacts/app", &later).status, 503);
}
