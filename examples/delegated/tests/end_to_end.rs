//! The signer is killed and never comes back; days pass by `faketime`, and the service is restarted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::{Clock, Service, client, signer, text, until};
use testkit::process::run;
use testkit::signer::Running;

const PROGRAM: &str = env!("CARGO_BIN_EXE_delegated-example");
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A key that is delegated to the service, and what the service is started with.
fn arguments(signer: &Running) -> Vec<String> {
    signer.must("keys create", &["--tenant", "acme", "--audience", "builds", "--delegable"]);
    let key = client(signer, "builds.key", "keys", &["--audience", "builds"]);
    let (trust, state) = (signer.trust(), signer.dir().join("feed"));
    ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)].map(str::to_owned).into()
}

fn mint(signer: &Running, days: &str) -> String {
    let args = ["--tenant", "acme", "--audience", "builds", "--delegable", "--subject", "ci:7"];
    let more = ["--expires", days, "--caveat", "action in download,upload"];
    signer.must("mint", &[&args[..], &more].concat()).trim().to_owned()
}

#[test]
fn tokens_never_seen_before_are_decided_days_after_the_signer_is_gone() {
    let mut signer = signer();
    let file = signer.dir().join("clock");
    let test = "tokens_never_seen_before_are_decided_days_after_the_signer_is_gone";
    let Some(clock) = Clock::new(test, file) else { return };
    let arguments = arguments(&signer);
    let start = || Service::from(Command::new(PROGRAM).args(&arguments).envs(clock.environment()));
    let service = start();
    let mint = |days| mint(&signer, days);
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
    assert_eq!(service.call("GET", "/healthz", None).body, "stale\n", "health says so");
    clock.after(31 * DAY);
    assert_eq!(service.get("/acme/artifacts/app", &later).status, 503, "grace has an end");

    // Keys are in memory alone: a new process without the signer knows none.
    clock.after(DAY);
    drop(service);
    assert_eq!(start().get("/acme/artifacts/app", &later).status, 503);
}

#[test]
fn kept_keys_outlive_a_restart_without_the_signer_and_open_with_their_secret_alone() {
    let mut signer = signer();
    let arguments = arguments(&signer);
    let (first, later, revoked) = (mint(&signer, "30d"), mint(&signer, "30d"), mint(&signer, "30d"));
    let kept: PathBuf = signer.dir().join("builds.keys");
    let secret = signer.dir().write("builds.secret", 0o600, [0x5e; 32]);
    let wrong = signer.dir().write("wrong.secret", 0o600, [0x5f; 32]);
    let with = |secret: &PathBuf| {
        let more = ["--keys", text(&kept), "--secret", text(secret)].map(str::to_owned);
        [&arguments[..], &more].concat()
    };
    let start = || Service::from(Command::new(PROGRAM).args(with(&secret)));
    let service = start();
    service.until(200, "/acme/artifacts/app", &first);
    service.until(200, "/acme/artifacts/app", &revoked);
    harness::revoke(&signer, &revoked);
    service.until(401, "/acme/artifacts/app", &revoked);
    until("the file of keys", || fs::metadata(&kept));
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    signer.kill();
    drop(service);

    // Killed, started again, and nobody there to ask: a token never seen is decided all the same.
    let service = start();
    service.until(200, "/acme/artifacts/app", &first);
    let answer = service.call("PUT", "/acme/artifacts/app", Some(&later));
    assert_eq!((answer.status, answer.body.as_str()), (200, "upload app: ci:7\n"));
    assert_eq!(service.get("/acme/artifacts/app", &revoked).status, 401, "the folder knows what was revoked");
    // Its reasons are in the log.
    let health = |service: &Service| {
        assert_eq!(service.call("GET", "/healthz", None).status, 200);
        service.process.output()
    };
    assert!(!health(&service).contains("damaged"));
    drop(service);

    let refused = run(PROGRAM, with(&wrong).iter().map(String::as_str), b"");
    assert_eq!(refused.code, Some(1), "an operator's mistake stops the start: {refused:?}");
    assert!(refused.stderr.contains("sealed with another secret"), "{refused:?}");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = run(PROGRAM, with(&secret).iter().map(String::as_str), b"");
    assert!(refused.code == Some(1) && refused.stderr.contains("chmod 600"), "{refused:?}");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();

    // Damage is said, costs the keys, and is mended by the next fetch.
    let mut bytes = fs::read(&kept).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&kept, &bytes).unwrap();
    let service = start();
    assert_eq!(service.get("/acme/artifacts/app", &later).status, 503);
    until("words about the file of keys", || {
        let said = health(&service);
        if said.contains("delegated keys is damaged") { Ok(()) } else { Err(said) }
    });
    drop(service);
    signer.serve();
    let service = start();
    service.until(200, "/acme/artifacts/app", &later);
    until("a new file", || {
        if fs::read(&kept).unwrap() == bytes { Err("still the damaged one") } else { Ok(()) }
    });
    signer.kill();
    drop(service);
    start().until(200, "/acme/artifacts/app", &later);
}
