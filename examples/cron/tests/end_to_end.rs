//! One folder, brought by `tkverify refresh` as cron runs it; three workers as processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use harness::{client, mint, narrowed, revoke, signer, text, tkverify, until};

struct Worker {
    child: Child,
    jobs: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

impl Worker {
    fn start(trust: &str, key: &str, state: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cron-example"));
        command.args(["--trust", trust, "--client-key", key, "--state", state]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (jobs, verdicts) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, jobs, verdicts: BufReader::new(verdicts) }
    }

    fn verdict(&mut self, job: &str) -> String {
        writeln!(self.jobs, "{job}").unwrap();
        let mut line = String::new();
        self.verdicts.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn three_workers_live_on_one_folder_that_cron_brings() {
    let signer = signer();
    let key = client(&signer, "worker.key", "verify", &[]);
    let (trust, state) = (signer.trust(), signer.dir().join("tk"));
    let refresh = || {
        tkverify(
            &["refresh", "--once", "--trust", text(&trust), "--dir", text(&state), "--max-age", "600"],
            "",
        )
    };
    assert_eq!(refresh().stdout, "", "cron mails whatever is printed");
    // The workers find the signer, and no feed: all they know of it is in the folder.
    let mut without: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&trust).unwrap()).unwrap();
    without["feeds"] = serde_json::json!([]);
    let worker_trust = signer.dir().write("worker-trust.json", 0o644, without.to_string());

    let mut workers: Vec<_> =
        (0..3).map(|_| Worker::start(text(&worker_trust), text(&key), text(&state))).collect();
    let token = mint(&signer, &["action in run"]);
    let job = format!("acme run mail {}", narrowed(&token, &["queue = mail"]));
    for worker in &mut workers {
        until("the folder to be read", || match worker.verdict(&job) {
            line if line == "done: for user:17" => Ok(()),
            line => Err(line),
        });
        assert!(worker.verdict(&job.replace(" mail ", " pay ")).contains("`queue = mail`"));
        assert!(worker.verdict("acme run").starts_with("refused: malformed"));
    }

    revoke(&signer, &token);
    assert_eq!(workers[0].verdict(&job), "done: for user:17", "cron has not run yet");
    for worker in &mut workers {
        // A head follows a revocation by some 50 ms: cron's first run may be too early.
        until("the revocation", || match (refresh(), worker.verdict(&job)).1 {
            line if line.starts_with("refused: revoked") => Ok(()),
            line => Err(line),
        });
    }
}
