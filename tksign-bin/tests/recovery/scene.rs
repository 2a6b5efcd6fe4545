//! A signer, its clients and its tokens, by the command lines alone.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Clock;
use testkit::process::{Finished, Process, run};
use testkit::signer::{Running, With, binary, tkverify};

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// A signer with helpers around it.
pub(crate) struct Scene {
    pub(crate) signer: Running,
    /// By which everything here lives, where that is not the machine's.
    clock: Option<Clock>,
}

impl Scene {
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        Self { signer: Running::start_with(With { arguments, ..With::default() }), clock: None }
    }

    /// The same by a clock that the test moves; `None` when `faketime` is missing.
    pub(crate) fn by_own_clock(test: &str) -> Option<Self> {
        let mut scene = Self::with(&[]);
        // In its own folder, since its sandbox lets it read nothing else.
        let clock = Clock::new(test, scene.signer.dir().join("state/clock"))?;
        scene.signer.stop();
        scene.signer.environment(clock.environment());
        scene.signer.serve();
        scene.clock = Some(clock);
        Some(scene)
    }

    /// Sets the clock of all so many minutes after the real time.
    pub(crate) fn set_clock(&self, minutes: i64) {
        self.clock.as_ref().expect("a clock of its own").set(minutes * 60);
    }

    /// Runs `tkverify` by the scene's clock.
    pub(crate) fn tkverify(&self, args: &[&str]) -> Finished {
        let variables = self.clock.as_ref().map(Clock::environment).unwrap_or_default();
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let program = text(tkverify());
        run("env", variables.chain([program]).chain(args.iter().map(|arg| (*arg).to_owned())), b"")
    }

    pub(crate) fn path(&self, name: &str) -> String {
        text(self.signer.dir().join(name))
    }

    /// A command of the signer, as JSON lines.
    pub(crate) fn json(&self, name: &str, args: &[&str]) -> Vec<Value> {
        let out = self.signer.must(name, &[args, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn key(&self, tenant: &str) -> String {
        let made = self.json("keys create", &["--tenant", tenant]);
        made[0]["key"].as_str().unwrap().to_owned()
    }

    /// A token in a file, and its lineage.
    pub(crate) fn mint(&self, tenant: &str, file: &str) -> String {
        let caveat = ["--caveat", "action in read,list"];
        let token =
            self.signer.must("mint", &[&["--tenant", tenant, "--expires", "8h"], &caveat[..]].concat());
        self.signer.dir().write(file, 0o600, &token);
        let shown = run(tkverify(), ["inspect", "--json"], token.as_bytes());
        let shown: Value = serde_json::from_str(shown.stdout.lines().next().unwrap()).unwrap();
        find(&shown, "lineage").unwrap_or_else(|| panic!("{shown}"))
    }

    /// A client key in a file, known to the signer; its public half.
    pub(crate) fn client(&self, file: &str, role: &str) -> String {
        let made = run(tkverify(), ["keygen", "--out", &self.path(file)], b"");
        let key = made.stdout.trim().to_owned();
        self.signer.must("clients add", &["--key", &key, "--role", role, "--name", file]);
        key
    }

    /// The verdict of a service with this client key and this folder: `tkverify check`'s code.
    pub(crate) fn check(&self, client: &str, token: &str, tenant: &str, feed: &str) -> Finished {
        let (trust, key, token) = (text(self.signer.trust()), self.path(client), self.path(token));
        let args = ["check", "--trust", &trust, "--client-key", &key, "--token-file", &token, "--dir", feed];
        self.tkverify(&[&args[..], &["--tenant", tenant, "--action", "read"]].concat())
    }

    pub(crate) fn refresh(&self, folder: &str) -> Finished {
        self.refresh_from(&text(self.signer.trust()), folder)
    }

    /// Brings a folder up to date from where a trust file says.
    pub(crate) fn refresh_from(&self, trust: &str, folder: &str) -> Finished {
        self.tkverify(&["refresh", "--once", "--json", "--trust", trust, "--dir", folder])
    }

    /// Keeps a folder up to date, as a service's machine does.
    pub(crate) fn follow(&self, folder: &str) -> Process {
        let mut command = Command::new(tkverify());
        command.args(["refresh", "--trust", &text(self.signer.trust()), "--dir", folder]);
        command.envs(self.clock.as_ref().map(Clock::environment).unwrap_or_default());
        Process::start(&mut command)
    }

    /// Brings a folder up to date and gives its position.
    pub(crate) fn refreshed(&self, folder: &str) -> String {
        let done = self.refresh(folder);
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        let said: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
        format!("{}.{}", said["position"]["epoch"], said["position"]["sequence"])
    }

    /// Brings a folder up to date until it is past a position: a step follows its commit by some
    /// 50 ms.
    pub(crate) fn refreshed_past(&self, folder: &str, before: &str) -> String {
        let began = Instant::now();
        loop {
            let position = self.refreshed(folder);
            if position != before {
                return position;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no step past {before}");
        }
    }

    pub(crate) fn restore_check(&self, feed: Option<&str>, more: &[&str]) -> Finished {
        let secret = self.signer.secret();
        let mut args = vec!["--secret-file", &secret];
        if let Some(feed) = feed {
            args.extend(["--feed-folder", feed]);
        }
        self.signer.run("restore-check", &[&args[..], more].concat(), b"")
    }

    /// Draft, signature by the offline root key, merge.
    pub(crate) fn merge(&self, feed: Option<&str>, more: &[&str]) -> Finished {
        let (draft, signed) = (self.path("list.unsigned"), self.path("list.signed"));
        let _ = std::fs::remove_file(&signed);
        let made = self.restore_check(feed, &[&["--merge", "--out", &draft], more].concat());
        if made.code != Some(0) {
            return made;
        }
        self.sign(&draft, &signed);
        self.restore_check(feed, &[&["--merge", "--key-list", &signed], more].concat())
    }

    pub(crate) fn sign(&self, draft: &str, signed: &str) {
        let root = self.path("root.key");
        let args = ["keys", "publication", "sign", "--root-key", &root, draft, "--out", signed];
        let done = run(binary(), args, b"");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }

    /// Puts a copy of the database in the place of the signer's, as a restore does.
    pub(crate) fn restore(&self, copy: &str) {
        let database = self.signer.dir().join("state/tksign.db");
        for sidecar in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{sidecar}", text(&database)));
        }
        std::fs::copy(copy, database).unwrap();
    }

    pub(crate) fn state_of(&self, client: &str) -> String {
        let all = self.json("clients list", &[]);
        let found = all.iter().find(|row| row["key"] == *client);
        found.map_or("none".to_owned(), |row| row["state"].as_str().unwrap().to_owned())
    }
}

/// The first member of this name, wherever it stands.
pub(crate) fn find(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Object(members) => members
            .get(name)
            .and_then(|found| found.as_str().map(str::to_owned))
            .or_else(|| members.values().find_map(|value| find(value, name))),
        Value::Array(items) => items.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
