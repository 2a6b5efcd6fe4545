//! `caveat`, `explain`, `attenuate` and `inspect` as a person runs them: the real program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::TempDir;
use tkcore::{Identifier, KeyId, LineageId, RootKey, Timestamp, attenuate, mint};

fn token(at_mint: &[&str], appended: &[&str]) -> String {
    let identifier = Identifier {
        caveats_at_mint: u8::try_from(at_mint.len()).unwrap(),
        key: KeyId::from_bytes([7; 8]),
        lineage: LineageId::new([5; 10], Timestamp::from_rfc3339("2026-11-01T00:00:00Z").unwrap()),
        expiry: Some(Timestamp::from_rfc3339("2099-01-01T00:00:00Z").unwrap()),
        service: None,
        subject: Some("user:7"),
    };
    let token = mint(&identifier, at_mint, &RootKey::derive(b"of this test")).unwrap();
    attenuate(&token.as_token(), appended).unwrap().to_text().as_str().to_owned()
}

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tkverify"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_caveat_in_words_or_a_caret() {
    let good = run(&["caveat", "app? allows 17:read|write else read"], "");
    assert_eq!(code(&good), Some(0));
    assert_eq!(
        out(&good),
        "only if `app` is 17 for read or write, if the request states `app`; otherwise every action is read\n"
    );
    let bad = run(&["caveat", "org = 007"], "");
    assert_eq!(code(&bad), Some(2));
    let mut lines = out(&bad).lines();
    assert_eq!(lines.next(), Some("org = 007"));
    assert!(lines.next().unwrap().starts_with("      ^ an integer has"), "{}", out(&bad));
    let value = json(&run(&["caveat", "--json", "org == 7"], ""));
    assert_eq!((&value["valid"], &value["column"]), (&false.into(), &5.into()));
    let value = json(&run(&["caveat", "--json", "ip in 10.0.0.0/8"], ""));
    assert_eq!(
        (&value["name"], &value["operator"], &value["value"]),
        (&"ip".into(), &"in".into(), &"10.0.0.0/8".into())
    );
}

#[test]
fn explain_says_which_caveat_is_in_the_way() {
    let dir = TempDir::new();
    let file = dir.path().join("request.json");
    let path = file.to_str().unwrap();
    let token = token(&["action in read,write"], &["app in 17,42", "subject = user:7"]);
    let write = |app: i64| {
        let request = format!(
            r#"{{"tenant":"acme","now":"2026-11-23T12:00:00Z","actions":["read"],"facts":{{"app":{{"int":{app}}}}}}}"#
        );
        std::fs::write(&file, request).unwrap();
    };
    write(17);
    let good = run(&["explain", "--request", path], &token);
    assert_eq!(code(&good), Some(0), "{}", err(&good));
    assert!(out(&good).ends_with("admitted\n"), "{}", out(&good));
    write(43);
    let bad = run(&["explain", "--request", path], &token);
    assert_eq!(code(&bad), Some(12));
    let line = out(&bad).lines().find(|line| line.contains("refuses")).unwrap();
    assert!(line.contains("app in 17,42") && line.contains("(got 43)"), "{line}");
    assert!(!out(&bad).contains('\u{1b}'), "no colours into a pipe");
    let value = json(&run(&["explain", "--json", "--request", path], &token));
    assert_eq!(value["tokens"][0]["admits"], false);
    let outcomes: Vec<&str> = value["tokens"][0]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["admits", "admits", "admits", "refuses", "admits"]);
    // Bad input, each with its own exit code and a next step.
    std::fs::write(&file, "{}").unwrap();
    let wrong = run(&["explain", "--request", path], &token);
    assert_eq!(code(&wrong), Some(2));
    assert!(err(&wrong).contains("next: "), "{}", err(&wrong));
    let missing = run(&["explain", "--request", "/no/such/file"], &token);
    assert_eq!(code(&missing), Some(24));
    write(17);
    assert_eq!(code(&run(&["explain", "--request", path], &token[..40])), Some(10));
}

#[test]
fn attenuate_warns_and_refuses() {
    let token = token(&["action in read,write"], &["app in 17,42"]);
    let narrowed = run(&["attenuate", "-c", "app in 17"], &token);
    assert_eq!((code(&narrowed), err(&narrowed)), (Some(0), ""));
    assert!(out(&narrowed).starts_with("tk1_"));
    let useless = run(&["attenuate", "-c", "app in 17,42,99"], &token);
    assert_eq!(code(&useless), Some(0));
    assert!(err(&useless).contains("changes nothing"), "{}", err(&useless));
    for never in ["app in 99", "app  in 17", "time < 2020-01-01T00:00:00Z", "weekday mon"] {
        let refused = run(&["attenuate", "-c", never], &token);
        assert_eq!((code(&refused), out(&refused)), (Some(2), ""), "{never}");
        assert!(err(&refused).contains("would never be cleared") && err(&refused).contains("next: "));
        let forced = run(&["attenuate", "--force", "-c", never], &token);
        assert_eq!(code(&forced), Some(0), "{never}");
        assert!(err(&forced).contains("will never be cleared"));
    }
    // Two that each make sense, and not together.
    let both = run(&["attenuate", "-c", "org = 1", "-c", "org = 2"], &token);
    assert_eq!(code(&both), Some(2));
}

#[test]
fn inspect_shows_a_person_what_a_token_can_do() {
    let token =
        token(&["action in read,write"], &["time < 2026-12-01T00:00:00Z", "app in 17,42", "app in 17"]);
    let shown = run(&["inspect"], &token);
    assert_eq!(code(&shown), Some(0));
    let text = out(&shown);
    for part in [
        "subject         user:7",
        "minted          2026-11-01T00:00:00Z",
        "expires         2099-01-01T00:00:00Z",
        "tenant          not in the token",
        "caveat 3        app in 17,42",
        "usable before   2026-12-01T00:00:00Z",
        "in all          app: one of 17",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("can never be used"));
    let value = json(&run(&["inspect", "--json"], &token));
    assert_eq!(value["tokens"][0]["summary"]["bounds"]["app"], "one of 17");
    assert_eq!(value["tokens"][0]["summary"]["never_usable"], false);
    assert!(
        value["tokens"][0]["caveats"][0]["meaning"].as_str().unwrap().starts_with("only if every action")
    );
    let dead = self::token(&["action in read"], &["action in write"]);
    assert!(out(&run(&["inspect"], &dead)).contains("can never be used"));
}
