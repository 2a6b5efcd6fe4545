//! What the tests of the examples need: the real signer with its commands, the examples as
//! processes, and requests over real sockets. A test fails by panicking, so this does too.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking, and may read the clock"
)]

mod guide;
mod proxy;

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::process::{Finished, Process, run};
use testkit::signer::{self, Running};
use tkcore::{TokenBuf, attenuate};
use tkverify::testing::{Kit, Spec};

pub use guide::run_guide;
pub use proxy::{Proxy, with_ports};
pub use testkit::Clock;

/// No measure of speed, only an end for a test that hangs: well above the minute after which a verifier
/// at the latest looks again for a feed that failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A signer that knows the tenant `acme`.
#[must_use]
pub fn signer() -> Running {
    with_tenant(Running::start())
}

/// The same, started in another way.
#[must_use]
pub fn signer_with(with: signer::With) -> Running {
    with_tenant(Running::start_with(with))
}

fn with_tenant(signer: Running) -> Running {
    signer.must("keys create", &["--tenant", "acme"]);
    signer
}

/// A new client key that the signer knows under this role; `more` narrows it. The key's file.
#[must_use]
pub fn client(signer: &Running, name: &str, role: &str, more: &[&str]) -> PathBuf {
    let file = signer.dir().join(name);
    let key = tkverify(&["keygen", "--out", file.to_str().unwrap()], "").stdout;
    signer.must("clients add", &[&["--key", key.trim(), "--role", role, "--name", name], more].concat());
    file
}

/// A token of `user:17` of acme for an hour; `more` are caveats.
#[must_use]
pub fn mint(signer: &Running, caveats: &[&str]) -> String {
    let caveats = caveats.iter().flat_map(|caveat| ["--caveat", caveat]);
    let args = ["--tenant", "acme", "--subject", "user:17", "--expires", "8h"];
    signer.must("mint", &args.into_iter().chain(caveats).collect::<Vec<_>>()).trim().to_owned()
}

/// As many tokens, which look like those of acme and are another signer's.
#[must_use]
pub fn forged(count: usize) -> Vec<String> {
    let kit = Kit::new();
    (0..count).map(|_| kit.mint(&Spec::new("acme")).as_str().to_owned()).collect()
}

/// More strangers than the service has threads come while the signer hangs and says nothing: what
/// `known` asks for is decided meanwhile. `stranger` presents a token.
pub fn flood_while_the_signer_hangs(
    signer: &Running,
    stranger: impl Fn(&str) -> Answer + Sync,
    known: impl FnOnce(),
) {
    let signal = |name: &str| {
        let done = Command::new("kill").args([name, &signer.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {name}");
    };
    signal("-STOP");
    std::thread::scope(|scope| {
        let (answered, answers) = std::sync::mpsc::channel();
        for token in forged(32) {
            let (answered, stranger) = (answered.clone(), &stranger);
            // Nobody listens any more once one was turned away.
            scope.spawn(move || answered.send(stranger(&token)));
        }
        drop(answered);
        // The strangers' part of the threads stands still; who finds no place in it hears so at once.
        let busy = |answer: &Answer| answer.status == 503 && format!("{answer:?}").contains("busy");
        assert!(answers.iter().any(|answer| busy(&answer)), "no stranger was turned away");
        known();
        signal("-CONT");
    });
}

/// Kills a token from its last caveat on, everywhere.
pub fn revoke(signer: &Running, token: &str) {
    let done = signer.run("revoke presented", &[], token.as_bytes());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// Runs the program `tkverify`.
#[must_use]
pub fn tkverify(args: &[&str], input: &str) -> Finished {
    let done = run(signer::tkverify(), args, input.as_bytes());
    assert_eq!(done.code, Some(0), "tkverify {args:?}: {}", done.stderr);
    done
}

/// What a holder does offline.
#[must_use]
pub fn narrowed(token: &str, caveats: &[&str]) -> String {
    let (_, token) = TokenBuf::from_text(token).unwrap();
    attenuate(&token.as_token(), caveats).unwrap().to_text().as_str().to_owned()
}

/// The program of another example.
#[must_use]
pub fn example(package: &str) -> PathBuf {
    built(&["--bin", package]).join(package)
}

/// The folder with the programs of all examples.
#[must_use]
pub fn examples() -> PathBuf {
    built(&["--bins"])
}

fn built(which: &[&str]) -> PathBuf {
    let target = signer::binary().parent().unwrap().parent().unwrap().to_owned();
    let manifest = signer::workspace().join("examples/Cargo.toml");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace is named so that features are those of its test run, and nothing is built twice.
    build.args(["build", "--quiet", "--workspace"]).args(which).arg("--manifest-path");
    let done = build.arg(manifest).arg("--target-dir").arg(&target).output().unwrap();
    assert!(done.status.success(), "{which:?}: {}", String::from_utf8_lossy(&done.stderr));
    target.join("debug")
}

/// An example that serves.
#[derive(Debug)]
pub struct Service {
    /// Its process, killed when dropped.
    pub process: Process,
    /// `ADDRESS:PORT`.
    pub address: String,
}

impl Service {
    /// Starts a program that prints `listening on http://ADDRESS`, on a free port of loopback.
    #[must_use]
    pub fn start(program: impl AsRef<Path>, args: &[&str]) -> Self {
        Self::from(Command::new(program.as_ref()).args(args))
    }

    /// The same for a command that has all but the address.
    #[must_use]
    pub fn from(command: &mut Command) -> Self {
        let mut process = Process::start(command.args(["--listen", "127.0.0.1:0"]));
        let address = process
            .await_line("address", |line| line.strip_prefix("listening on http://").map(str::to_owned));
        Self { process, address }
    }

    /// `GET` with a token.
    #[must_use]
    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, Some(token))
    }

    /// Any method, with a token or without.
    #[must_use]
    pub fn call(&self, method: &str, path: &str, token: Option<&str>) -> Answer {
        let authorization = token.map(|token| format!("Authorization: Bearer {token}"));
        call(&self.address, method, path, authorization.as_slice())
    }

    /// Calls until the status is the wanted one: what the service must learn comes over the feed.
    pub fn until(&self, status: u16, path: &str, token: &str) -> Answer {
        until(&format!("{status} for {path}"), || {
            let answer = self.get(path, token);
            if answer.status == status { Ok(answer) } else { Err(answer.body) }
        })
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// One request on a connection of its own.
#[must_use]
pub fn call(address: &str, method: &str, path: &str, headers: &[String]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    Answer { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Tries until it gives something; shows the last reason why not when patience ends.
pub fn until<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(why) => assert!(began.elapsed() < PATIENCE, "{what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A path as an argument.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
