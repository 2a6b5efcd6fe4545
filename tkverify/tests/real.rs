//! The whole way with real parts: the `tksign` process, verifiers in this one, the `tkverify`
//! program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "real/cron.rs"]
mod cron;
#[cfg(feature = "tls")]
#[path = "real/https.rs"]
mod https;
#[path = "real/nginx.rs"]
mod nginx;

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{code, refresh, text, tkverify};
use testkit::TempDir;
use testkit::signer::Running;
use tkcore::revocation::Rule;
use tkcore::{Error, NotKnowable};
use tkverify::{Builder, ClientKey, Clock as _, Freshness, SystemClock, Trust, Verifier, WhenStale};

const LONG: Duration = Duration::from_secs(60);

fn signer() -> Running {
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    signer
}

fn client(signer: &Running, name: &str) -> std::path::PathBuf {
    let file = signer.dir().join(name);
    let made = tkverify().args(["keygen", "--out"]).arg(&file).output().unwrap();
    assert_eq!(code(&made), 0, "{made:?}");
    let key = text(&made.stdout).trim().to_owned();
    signer.must("clients add", &["--key", &key, "--role", "verify", "--name", name]);
    file
}

fn builder(signer: &Running, key: &Path) -> Builder {
    let trust = Trust::from_file(&signer.trust()).unwrap();
    Verifier::builder().trust(trust).client_key(ClientKey::read(key).unwrap())
}

fn mint(signer: &Running, more: &[&str]) -> String {
    let args = [&["--tenant", "acme", "--expires", "8h", "--caveat", "action in read,write"], more].concat();
    signer.must("mint", &args).trim().to_owned()
}

fn check(verifier: &Verifier, token: &str, action: &str) -> Result<(), Error> {
    let request = verifier.request("acme").action(action).build().unwrap();
    verifier.check(format!("Bearer {token}"), &request).map(|_| ())
}

fn with_input(args: &[&str], input: &str) -> Output {
    let mut command = tkverify();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn until(what: &str, wanted: impl Fn() -> bool) {
    let clock = SystemClock::new();
    while !wanted() {
        assert!(clock.read().monotonic < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lineage(token: &str) -> String {
    let shown = with_input(&["inspect", "--json"], token);
    assert_eq!(code(&shown), 0, "{shown:?}");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown["tokens"][0]["lineage"].as_str().unwrap().to_owned()
}

#[test]
fn mint_check_narrow_stop_restart_revoke() {
    let mut signer = signer();
    let key = client(&signer, "service");
    let verifier = builder(&signer, &key).build().unwrap();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", verifier.health());
    let token = mint(&signer, &["--subject", "user:7"]);
    assert_eq!(check(&verifier, &token, "write"), Ok(()));
    let narrowed = with_input(&["attenuate", "-c", "action in read"], &token);
    assert_eq!(code(&narrowed), 0, "{narrowed:?}");
    let narrowed = text(&narrowed.stdout).trim().to_owned();
    // The signer is gone: known lineages go on, strangers are told to come back.
    let stranger = mint(&signer, &[]);
    signer.stop();
    assert_eq!(check(&verifier, &token, "write"), Ok(()));
    assert_eq!(check(&verifier, &narrowed, "read"), Ok(()));
    assert!(matches!(check(&verifier, &narrowed, "write"), Err(Error::Refused(_))));
    assert_eq!(check(&verifier, &stranger, "read"), Err(NotKnowable::SignerUnreachable.into()));
    // It is back, and a revocation arrives.
    signer.serve();
    signer.must("revoke token", &[&lineage(&token)]);
    until("the revocation", || check(&verifier, &token, "read") == Err(Error::Revoked(Rule::Token)));
    assert_eq!(check(&verifier, &narrowed, "read"), Err(Error::Revoked(Rule::Token)));
    assert_eq!(check(&verifier, &stranger, "read"), Ok(()));
}

/// A verifier that lives from a folder alone and has learned these tokens from the signer: what it decides
/// about them afterwards is the folder's word.
fn learned(signer: &Running, key: &Path, folder: &Path, tokens: &[&String]) -> Verifier {
    let verifier = builder(signer, key).folder(folder).folder_alone().build().unwrap();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", verifier.health());
    for token in tokens {
        assert_eq!(check(&verifier, token, "read"), Ok(()));
    }
    verifier
}

#[test]
fn a_folder_from_cron_and_a_published_one_tell_the_same() {
    let mut signer = signer();
    let (key, dir) = (client(&signer, "service"), TempDir::new());
    let (token, other) = (mint(&signer, &[]), mint(&signer, &[]));
    let (feed, published) = (dir.join("feed"), dir.join("published"));
    let bring = || {
        let report = refresh(&signer.trust(), &feed, &["--json", "--max-age", "600"]);
        assert_eq!(code(&report), 0, "{report:?}");
        signer.must("publish", &[published.to_str().unwrap()]);
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        report["rows"].as_u64().unwrap()
    };
    assert_eq!(bring(), 0);
    let verifiers = [&feed, &published].map(|folder| learned(&signer, &key, folder, &[&token, &other]));
    signer.must("revoke token", &[&lineage(&token)]);
    // A step is closed a moment after its revocation is acknowledged.
    until("the step", || bring() == 1);
    // What was fetched just now is as new as the publication after it.
    bring();
    signer.stop();
    for verifier in &verifiers {
        until("the revocation", || check(verifier, &token, "read") == Err(Error::Revoked(Rule::Token)));
        assert_eq!(check(verifier, &other, "read"), Ok(()));
    }
}

// RV-50: data, then keys, then the head, and what never changes once.
#[test]
fn the_script_for_buckets_keeps_the_order() {
    let (mut signer, dir) = (signer(), TempDir::new());
    let (from, to, log) = (dir.join("www"), dir.join("bucket"), dir.join("log"));
    let show = |path: &Path| path.display().to_string();
    let put = dir.write(
        "put",
        0o755,
        format!(
            "#!/bin/sh\nset -e\nmkdir -p \"$(dirname \"{0}/$2\")\"\ncp \"$1\" \"{0}/$2\"\necho \"$2\" >> {1}\n",
            show(&to),
            show(&log)
        ),
    );
    let script = testkit::signer::workspace().join("docs/feed-to-bucket.sh");
    let send = || {
        let done = std::process::Command::new(&script).arg(&from).arg(&put).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    signer.must("publish", &[&show(&from)]);
    let first = send();
    assert!(first.last().unwrap().ends_with("/head"), "{first:?}");
    assert!(first[first.len() - 2].ends_with("/keys/1"), "{first:?}");
    assert!(first.iter().any(|name| name.contains("/snapshot/")), "{first:?}");
    // A verifier may live from the bucket's tree.
    let token = mint(&signer, &[]);
    let verifier = learned(&signer, &client(&signer, "bucket"), &to, &[&token]);
    signer.must("revoke token", &[&lineage(&token)]);
    until("the step", || {
        signer.must("publish", &[&show(&from)]);
        common::files(&from).keys().any(|path| path.to_str().unwrap().ends_with("/delta/1"))
    });
    let second = send();
    assert_eq!(second.len(), 2, "a delta and the head: {second:?}");
    signer.stop();
    until("the revocation", || check(&verifier, &token, "read") == Err(Error::Revoked(Rule::Token)));
}

/// The folder lets go of what a run has listed: it is passed over. One run at a time, and what cannot be
/// sent while it is there ends the run before the head.
#[test]
fn the_script_for_buckets_passes_over_what_has_left_the_folder() {
    let dir = TempDir::new();
    let (from, log) = (dir.join("www"), dir.join("log"));
    let script = testkit::signer::workspace().join("docs/feed-to-bucket.sh");
    let send = |objects: &[&str], put: &str| {
        for name in objects {
            let path = from.join("v1/feed/f").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let alone = "#!/bin/sh\nset -eu\nif flock -n .lock true; then echo alone >&2; exit 1; fi\n";
        let rest = format!("cat \"$1\" >/dev/null\necho \"${{2#v1/feed/f/}}\" >> {}\n", log.display());
        let put = dir.write("put", 0o755, format!("{alone}{put}\n{rest}"));
        let done = std::process::Command::new(&script).arg(&from).arg(&put).output().unwrap();
        let sent = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        (done, sent.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    // One goes before its turn, one in the middle of it.
    let leave = "case $2 in */1/delta/1) rm v1/feed/f/1/delta/2 ;; */1/delta/3) rm \"$1\" ;; esac";
    let first = ["head", "keys/1", "1/delta/1", "1/delta/2", "1/delta/3", "1/delta/4"];
    let (done, sent) = send(&first, leave);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(sent, ["1/delta/1", "1/delta/4", "keys/1", "head"]);
    let (done, sent) = send(&["1/delta/5"], "case $2 in */delta/5) exit 7 ;; esac");
    assert_eq!((done.status.code(), sent.len()), (Some(1), 0), "{done:?}");
    let (done, sent) = send(&[], "");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(sent, ["1/delta/5", "head"]);
}

#[test]
fn the_check_command_says_yes_and_why_not() {
    let signer = signer();
    let key = client(&signer, "service");
    let (trust, key) = (signer.trust(), key.to_str().unwrap().to_owned());
    let token = mint(&signer, &["--subject", "user:7", "--caveat", "app in 17"]);
    let check = |token: &str, more: &[&str]| {
        let base = ["check", "--trust", trust.to_str().unwrap(), "--client-key", &key, "--tenant", "acme"];
        with_input(&[&base[..], more].concat(), token)
    };
    let yes = check(&token, &["--action", "read", "--fact", "app=17"]);
    assert_eq!(code(&yes), 0, "{yes:?}");
    assert!(text(&yes.stdout).starts_with("granted: lineage "), "{yes:?}");
    let no = check(&token, &["--action", "read", "--fact", "app=18", "--json"]);
    assert_eq!(code(&no), 12, "{no:?}");
    assert!(text(&no.stdout).contains("\"granted\":false"), "{no:?}");
    assert!(text(&no.stdout).contains("app in 17"), "{no:?}");
    assert_eq!(code(&check(&token, &["--action", "delete", "--fact", "app=17"])), 12);
    assert_eq!(code(&check(&token[..token.len() - 9], &["--action", "read"])), 10);
    let mut forged = token.clone();
    forged.replace_range(
        token.len() - 6..token.len() - 5,
        if token.as_bytes()[token.len() - 6] == b'A' { "B" } else { "A" },
    );
    assert_eq!(code(&check(&forged, &["--action", "read", "--fact", "app=17"])), 11);
    // A key that the signer does not know: not the token's fault, and said to whom it concerns.
    let stranger = signer.dir().join("stranger.key");
    ClientKey::generate().unwrap().write(&stranger).unwrap();
    let more = ["--client-key", stranger.to_str().unwrap(), "--tenant", "acme", "--action", "read", "--json"];
    let turned_away =
        with_input(&[&["check", "--trust", trust.to_str().unwrap()], &more[..]].concat(), &token);
    assert_eq!(code(&turned_away), 14, "{turned_away:?}");
    assert!(text(&turned_away.stdout).contains("\"code\":\"signer-unreachable\""), "{turned_away:?}");
    assert!(text(&turned_away.stderr).contains("does not take this client; check"), "{turned_away:?}");
    // The trust file of `init` says whom to believe and not where: the next step is another file.
    let init = std::path::Path::new(&signer.state()).join("trust.json");
    let nowhere = with_input(
        &[
            "check",
            "--trust",
            init.to_str().unwrap(),
            "--client-key",
            &key,
            "--tenant",
            "acme",
            "--action",
            "read",
        ],
        &token,
    );
    assert_eq!(code(&nowhere), 25, "{nowhere:?}");
    assert!(
        text(&nowhere.stderr).contains("names no signer\nnext: give the trust file that `tksign serve"),
        "{nowhere:?}"
    );
    signer.must("revoke token", &[&lineage(&token)]);
    let revoked = check(&token, &["--action", "read", "--fact", "app=17"]);
    assert_eq!(code(&revoked), 13, "{revoked:?}");
    // What is said names no secret.
    for output in [yes, no, revoked] {
        assert!(!text(&output.stdout).contains(&token) && !text(&output.stderr).contains(&token));
    }
}

#[test]
fn a_client_that_is_removed_gets_no_answer_and_a_stale_service_may_ask() {
    let signer = signer();
    let key = client(&signer, "service");
    let removed = client(&signer, "removed");
    let dir = TempDir::new();
    // No state is ever loaded from an empty folder: every request is asked about.
    let asking =
        builder(&signer, &key).folder(dir.path()).folder_alone().when_stale(WhenStale::Ask).build().unwrap();
    let token = mint(&signer, &[]);
    assert_eq!(check(&asking, &token, "read"), Ok(()));
    signer.must("revoke token", &[&lineage(&token)]);
    assert_eq!(check(&asking, &token, "read"), Err(Error::Revoked(Rule::Token)));
    let verifier = builder(&signer, &removed).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let public =
        text(&tkverify::ClientKey::read(&removed).map(|key| format!("{key:?}")).unwrap().into_bytes());
    let public = public.trim_start_matches("ClientKey(public ").trim_end_matches(')').to_owned();
    signer.must("clients remove", &[&public]);
    let other = mint(&signer, &[]);
    assert_eq!(check(&verifier, &other, "read"), Err(NotKnowable::SignerUnreachable.into()));
}

#[test]
fn tokens_are_read_from_input_alone_and_shown_without_their_signature() {
    let signer = signer();
    let token = mint(&signer, &["--subject", "user:7"]);
    let file = signer.dir().write("token.txt", 0o600, format!("  Bearer {token}\n"));
    let shown = tkverify().args(["inspect", "--token-file"]).arg(&file).output().unwrap();
    assert_eq!(code(&shown), 0, "{shown:?}");
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("Not verified"), "{shown}");
    assert!(shown.contains("user:7") && shown.contains("action in read,write"), "{shown}");
    assert!(!shown.contains(&token[token.len() - 20..]));
    assert_eq!(code(&tkverify().args(["inspect", &token]).output().unwrap()), 2);
    assert_eq!(code(&with_input(&["inspect"], "")), 10);
    assert_eq!(code(&with_input(&["inspect"], &token[..40])), 10);
    let wrong = with_input(&["attenuate", "-c", "action  in read"], &token);
    assert_eq!(code(&wrong), 2, "{wrong:?}");
    assert!(wrong.stdout.is_empty());
    let forced = with_input(&["attenuate", "--force", "-c", "my kind"], &token);
    assert_eq!(code(&forced), 0, "{forced:?}");
    let dir = testkit::TempDir::new();
    let path = dir.join("login.key").to_str().unwrap().to_owned();
    let made = with_input(&["keygen", "--authority", "--json", "--out", &path], "");
    let said: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let key = tkverify::discharge::AuthorityKey::read(path.as_ref()).unwrap();
    assert_eq!(said["authority"], key.id().to_string().as_str());
    let public: String = key.public().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (said["public"].as_str(), said["file"].as_str()),
        (Some(public.as_str()), Some(path.as_str()))
    );
    let again = with_input(&["keygen", "--authority", "--out", &path], "");
    assert_eq!(code(&again), 24, "a key in use is not overwritten: {again:?}");
    for command in ["attenuate", "check", "inspect", "keygen", "refresh"] {
        let help = tkverify().args([command, "--help"]).output().unwrap();
        assert_eq!(code(&help), 0);
        assert!(text(&help.stdout).contains("Example"), "{command}");
    }
}

#[test]
fn delegated_keys_decide_without_ever_asking() {
    let mut signer = signer();
    signer.must("keys create", &["--tenant", "acme", "--audience", "builds", "--delegable"]);
    let key = ClientKey::generate().unwrap();
    let public = format!("{key:?}").trim_start_matches("ClientKey(public ").trim_end_matches(')').to_owned();
    signer.must(
        "clients add",
        &["--key", &public, "--role", "keys", "--audience", "builds", "--name", "builds"],
    );
    let trust = Trust::from_file(&signer.trust()).unwrap();
    let verifier = Verifier::builder().trust(trust).client_key(key).delegated_keys().audience("builds");
    let verifier = verifier.build().unwrap();
    verifier.wait_until_loaded(LONG);
    let delegated = ["--audience", "builds", "--delegable", "--subject", "user:7"];
    let (first, second) = (mint(&signer, &delegated), mint(&signer, &delegated));
    // The role `keys` may not ask: whatever is granted is decided by the key.
    until("the keys", || check(&verifier, &first, "read").is_ok());
    signer.stop();
    assert_eq!(check(&verifier, &second, "read"), Ok(()));
    assert_eq!(check(&verifier, &first, "read"), Ok(()));
    assert!(verifier.metrics().key_hits >= 3);
    signer.serve();
    signer.must("revoke subject", &["--tenant", "acme", "--subject", "user:7"]);
    until("the revocation", || check(&verifier, &second, "read") == Err(Error::Revoked(Rule::Subject)));
}
