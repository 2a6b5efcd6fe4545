//! Signer, login service, issuer and worker as processes; what comes out is tried with `tkverify check`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use harness::{Service, client, example, signer_with, text, tkverify};
use testkit::process::{Finished, run};
use testkit::signer::{self, With};

const PROGRAM: &str = env!("CARGO_BIN_EXE_service-token-example");

#[test]
fn a_login_becomes_a_token_locked_to_a_workload_that_dies_with_its_parent() {
    // The login service first: the signer must be told whose word counts as a login.
    let dir = testkit::TempDir::new();
    let (keys, accounts) = (dir.join("login.key"), dir.write("accounts", 0o600, "machine user:17 t0ken\n"));
    let login = example("login-example");
    let made = tkverify(&["keygen", "--authority", "--out", text(&keys)], "").stdout;
    let word = |prefix| made.lines().find_map(|line| line.strip_prefix(prefix)).unwrap().trim().to_owned();
    let (authority, public) = (word("authority "), word("public key "));
    let login = Service::start(login, &["--key", text(&keys), "--accounts", text(&accounts)]);
    let url = format!("http://{}", login.address);

    let signer = signer_with(With {
        arguments: vec!["--authentication".to_owned(), authority.clone()],
        environment: Vec::new(),
    });
    let (trust, checker) = (signer.trust(), client(&signer, "checker.key", "verify", &[]));
    let (issuer, worker) =
        (client(&signer, "issuer.key", "mint", &[]), client(&signer, "worker.key", "exchange", &[]));
    let check = |token: &str, host: &str| {
        let base = ["check", "--trust", text(&trust), "--client-key", text(&checker), "--tenant", "acme"];
        let args = base.into_iter().chain(["--action", "read", "--fact", host]);
        run(signer::tkverify(), args, token.as_bytes())
    };

    let issued = ran(&run(
        PROGRAM,
        ["issue", "--trust", text(&trust), "--client-key", text(&issuer), "--tenant", "acme"]
            .into_iter()
            .chain([
                "--subject",
                "user:17",
                "--action",
                "read",
                "--authority",
                &authority,
                "--authority-key",
                &public,
            ]),
        b"",
    ));
    assert_eq!(check(&issued, "host=worker7").code, Some(11), "it is not good without a login");

    let exchange = |credential: &str| {
        let credential = dir.write("credential", 0o600, credential);
        let login = format!("{url}/v1/discharge");
        let args = ["exchange", "--trust", text(&trust), "--client-key", text(&worker), "--login", &login];
        let more =
            ["--authority", &authority, "--credential", text(&credential), "--workload", "host = worker7"];
        run(PROGRAM, args.into_iter().chain(more), issued.as_bytes())
    };
    let refused = exchange("wrong");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let child = ran(&exchange("t0ken"));
    drop(login); // nobody needs to log in from here on
    assert_eq!(check(&child, "host=worker7").code, Some(0));
    assert_eq!(check(&child, "host=worker8").code, Some(12), "locked to its workload");
    let again = run(
        PROGRAM,
        ["exchange", "--trust", text(&trust), "--client-key", text(&worker), "--login", &url]
            .into_iter()
            .chain([
                "--authority",
                &authority,
                "--credential",
                text(&dir.join("credential")),
                "--workload",
                "host = x",
            ]),
        child.as_bytes(),
    );
    assert!(again.code == Some(1) && again.stderr.contains("exchange"), "{again:?}");

    let inspected = harness::tkverify(&["inspect", "--json"], &issued).stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    signer.must("revoke token", &[inspected["tokens"][0]["lineage"].as_str().unwrap()]);
    assert_eq!(check(&child, "host=worker7").code, Some(13), "it dies with its parent");
}

/// The token that was printed.
fn ran(done: &Finished) -> String {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done.stdout.trim().to_owned()
}
