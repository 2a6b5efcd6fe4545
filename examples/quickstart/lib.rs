//! What the quickstart needs around its story: the signer as a process of its own, its commands,
//! and lines that a person can follow.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use testkit::TempDir;
use testkit::process::Process;
use tkverify::Verifier;

/// Anything that goes wrong ends the quickstart with this.
pub type Surprise = Box<dyn Error>;

/// The first argument that makes this program be the signer instead: the signer is a library
/// too, so the quickstart needs no second program and still runs it as a process of its own.
const AS_SIGNER: &str = "--as-tksign";

/// Becomes `tksign` when this process was started as one; otherwise `None`.
#[must_use]
pub fn as_signer() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let program = args.next()?;
    (args.next()? == AS_SIGNER).then(|| {
        let mut streams =
            tksign::Streams { stdin: &mut io::stdin(), stdout: &mut io::stdout(), stderr: &mut io::stderr() };
        tksign::run(std::iter::once(program).chain(args), &mut streams).into()
    })
}

/// A signer's state folder with its secret, and the program to run on it.
pub struct Operator {
    folder: TempDir,
}

impl Operator {
    /// Makes the folder, a random secret in it, and a signer in a fresh store.
    ///
    /// # Errors
    /// When one of these cannot be made.
    pub fn init() -> Result<Self, Surprise> {
        let new = Self { folder: TempDir::new() };
        let mut secret = [0; 32];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut secret)?;
        new.folder.write("secret", 0o400, secret);
        new.tksign(
            "init",
            &["--root-key-out", &new.path("root.key.offline"), "--secret-file", &new.path("secret")],
        )?;
        Ok(new)
    }

    /// Runs one command of `tksign` on this signer and returns what it printed. While the signer
    /// serves, the command speaks to it over its control socket.
    ///
    /// # Errors
    /// What the command said, when it failed.
    pub fn tksign(&self, command: &str, args: &[&str]) -> Result<String, Surprise> {
        let state = self.path("state");
        let words = command.split(' ').chain(["--dir", &state]).chain(args.iter().copied());
        let done = testkit::process::run(own_program()?, std::iter::once(AS_SIGNER).chain(words), b"");
        match done.code {
            Some(0) => Ok(done.stdout.trim_end().to_owned()),
            code => Err(format!("tksign {command} ended with {code:?}: {}", done.stderr).into()),
        }
    }

    /// Starts the server and waits until it says that it serves. The first time it takes free
    /// ports; with `again` the same as before, as a restarted service would.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve(&self, again: Option<&Served>) -> Result<Served, Surprise> {
        let (rpc, public) = again.map_or(("127.0.0.1:0", "127.0.0.1:0"), |s| (&*s.rpc, &*s.public));
        let mut process = Process::start(Command::new(own_program()?).args([
            AS_SIGNER,
            "serve",
            "--dir",
            &self.path("state"),
            "--secret-file",
            &self.path("secret"),
            "--trust-out",
            &self.path("trust.json"),
            "--rpc",
            rpc,
            "--public",
            public,
        ]));
        let line =
            process.await_line("ready line", |line| serde_json::from_str::<serde_json::Value>(line).ok());
        let address =
            |name: &str| line[name][0].as_str().map(str::to_owned).ok_or("no address in the ready line");
        Ok(Served { rpc: address("rpc")?, public: address("public")?, process })
    }

    /// What every service is given: whom to believe and where to ask. Nothing in it is secret.
    #[must_use]
    pub fn trust_file(&self) -> PathBuf {
        self.folder.join("trust.json")
    }

    /// A folder for something that is not the signer's.
    #[must_use]
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A running signer.
pub struct Served {
    /// Where services call.
    pub rpc: String,
    /// Where the feed is.
    pub public: String,
    process: Process,
}

impl Served {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it, and returns when it is gone.
    ///
    /// # Errors
    /// When it ends with a failure.
    pub fn stop(&mut self) -> Result<(), Surprise> {
        let status = self.process.terminate();
        if status.success() { Ok(()) } else { Err(format!("tksign serve: {status}").into()) }
    }
}

fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Runs `tkverify` with these words in this process.
///
/// # Errors
/// What it said, when it failed.
pub fn tkverify(args: &[&str]) -> Result<String, Surprise> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = tkverify::cli::Streams {
        stdin: &mut io::empty(),
        stdout: &mut out,
        stderr: &mut err,
        watched: tkverify::cli::Watched::No,
        colours: tkverify::cli::Colours::None,
    };
    let words = std::iter::once("tkverify").chain(args.iter().copied());
    let exit = tkverify::cli::run(words, &mut streams);
    match exit {
        tkverify::cli::Exit::Ok => Ok(String::from_utf8(out)?),
        _ => Err(format!("tkverify {}: {}", args.join(" "), String::from_utf8_lossy(&err)).into()),
    }
}

/// Waits until something holds, each time after the feed brought another state, and says how long
/// that took.
///
/// # Errors
/// When it does not hold in time, or when finding out fails.
#[allow(clippy::disallowed_methods, reason = "how long a person waits")]
pub fn eventually(
    service: &Verifier,
    what: &str,
    holds: impl Fn() -> Result<bool, Surprise>,
) -> Result<Duration, Surprise> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    loop {
        let seen = service.feed().renewals();
        let took = began.elapsed();
        if holds()? {
            return Ok(took);
        }
        let left =
            PATIENCE.checked_sub(took).ok_or_else(|| format!("{what}: not within {}", shown(PATIENCE)))?;
        service.feed().wait_renewed(seen, left);
    }
}

/// A path as an argument.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Prints the steps, each with the time it took.
#[derive(Debug)]
pub struct Story {
    began: Instant,
    step: Instant,
    number: usize,
}

impl Story {
    /// Starts the clock.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the timings are for the person who watches; nothing depends on them"
    )]
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, step: now, number: 0 }
    }

    /// One step is done.
    #[allow(
        clippy::disallowed_methods,
        reason = "the timings are for the person who watches; nothing depends on them"
    )]
    pub fn tell(&mut self, what: impl AsRef<str>) {
        self.number += 1;
        let took = self.step.elapsed();
        println!("{:2}. {:>9}  {}", self.number, shown(took), what.as_ref());
        self.step = Instant::now();
    }

    /// Since the beginning.
    #[must_use]
    pub fn total(&self) -> String {
        shown(self.began.elapsed())
    }
}

/// A duration as people read it.
#[must_use]
pub fn shown(took: Duration) -> String {
    match took.as_micros() {
        micros @ ..1_000 => format!("{micros} µs"),
        micros @ ..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{:.2} s", micros as f64 / 1e6),
    }
}
