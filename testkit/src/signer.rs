//! The real `tksign` program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::process::{Finished, Process, run};
use crate::{TempDir, free_port};

/// Where `tksign` is, built first when it is missing or older than its sources.
///
/// `cargo test --workspace` has built it already; a test of one crate alone may be the first
/// to need it. `TKSIGN_BIN` names another one.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("TKSIGN_BIN") {
        Some(path) => path.into(),
        None => program("tksign-bin", "tksign"),
    })
}

/// Where `tkverify` is, as [`binary`].
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn tkverify() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("tkverify", "tkverify"))
}

/// What `tksign` exits with when the same command may succeed in a moment.
const LATER: i32 = 12;

/// How often [`Running::must`] asks again, a tenth of a second apart.
const PATIENCE: u32 = 600;

/// A program of the root workspace, in the target folder of the running test.
fn program(package: &str, name: &str) -> PathBuf {
    let (target, profile) = target();
    let path = target.join(if profile == "dev" { "debug" } else { &profile }).join(name);
    if !is_current(&path, package) {
        build(&target, &profile, package, name);
    }
    path
}

/// The root folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The target folder and profile of the running test: `TARGET/PROFILE/deps/test-…`.
fn target() -> (PathBuf, String) {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let folder =
        exe.ancestors().skip(1).find(|at| at.join(".cargo-lock").exists() || at.join("deps").exists());
    let folder = folder.expect("a test runs from a target folder");
    let profile = folder.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };
    (folder.parent().unwrap_or(folder).to_owned(), profile.to_owned())
}

fn is_current(path: &Path, package: &str) -> bool {
    let Ok(built) = path.metadata().and_then(|data| data.modified()) else { return false };
    let own = workspace().join(package);
    let core = workspace().join("tkcore");
    [core.join("src"), core.join("Cargo.toml"), own.join("src"), own.join("Cargo.toml")]
        .iter()
        .chain([&workspace().join("Cargo.toml")])
        .all(|part| newest(part) <= built)
}

fn newest(path: &Path) -> SystemTime {
    let own = path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let Ok(entries) = path.read_dir() else { return own };
    entries.flatten().map(|entry| newest(&entry.path())).fold(own, SystemTime::max)
}

fn build(target: &Path, profile: &str, package: &str, name: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", name, "--profile", profile])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("cargo can be started");
    assert!(done.status.success(), "{name} does not build:\n{}", String::from_utf8_lossy(&done.stderr));
}

/// A signer of its own for one test: a fresh store and the real server on free loopback ports.
#[derive(Debug)]
pub struct Running {
    dir: TempDir,
    process: Option<Process>,
    rpc: String,
    public: String,
    metrics: String,
    with: With,
}

/// What a signer is started with beside the usual.
#[derive(Debug, Default)]
pub struct With {
    /// More arguments of `tksign serve`.
    pub arguments: Vec<String>,
    /// Environment of the server and of every command, such as a clock of its own.
    pub environment: Vec<(String, String)>,
}

impl Default for Running {
    fn default() -> Self {
        Self::start()
    }
}

impl Running {
    /// Makes a store and starts the server.
    ///
    /// # Panics
    /// When either fails.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(With::default())
    }

    /// The same with more arguments, or another environment.
    ///
    /// # Panics
    /// As [`Running::start`].
    #[must_use]
    pub fn start_with(with: With) -> Self {
        let dir = TempDir::new();
        dir.write("secret", 0o400, secret());
        let free = || format!("127.0.0.1:{}", free_port());
        let mut signer = Self { dir, process: None, rpc: free(), public: free(), metrics: free(), with };
        let root = signer.dir.join("root.key");
        signer.must("init", &["--secret-file", &signer.secret(), "--root-key-out", &text(&root)]);
        signer.serve();
        signer
    }

    /// Starts the server, on the addresses it had before if there were any.
    ///
    /// # Panics
    /// When it does not come up, or runs already.
    pub fn serve(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut process = Process::start(&mut self.command());
        let line =
            process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
        let address = |name: &str| {
            let (_, rest) =
                line.split_once(&format!("\"{name}\":[\"")).expect("the ready line has the address");
            rest.split('"').next().expect("an address ends").to_owned()
        };
        (self.rpc, self.public, self.metrics) = (address("rpc"), address("public"), address("metrics"));
        self.process = Some(process);
    }

    /// What [`Running::serve`] starts.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.args(["serve", "--dir", &self.state(), "--secret-file", &self.secret()]);
        command.args(["--rpc", &self.rpc, "--public", &self.public, "--metrics", &self.metrics]);
        command.args(["--trust-out", &text(&self.trust())]);
        command.args(&self.with.arguments).envs(self.with.environment.iter().cloned());
        command
    }

    /// Gives the next start of the server these arguments beside the usual, in place of those
    /// it had.
    pub fn with(&mut self, arguments: Vec<String>) {
        self.with.arguments = arguments;
    }

    /// Gives the server and every command this environment from now on.
    pub fn environment(&mut self, variables: Vec<(String, String)>) {
        self.with.environment = variables;
    }

    /// Gives the next start, and every command from now on, other arguments and another environment.
    pub fn set_with(&mut self, with: With) {
        self.with = with;
    }

    /// Runs a command of the signer's command line: `name`, `--dir`, then `args`. A name of two
    /// words is a command and its own command.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn run(&self, name: &str, args: &[&str], input: &[u8]) -> Finished {
        let state = self.state();
        let words = name.split(' ').chain(["--dir", &state]).chain(args.iter().copied());
        if self.with.environment.is_empty() {
            return run(binary(), words, input);
        }
        // `env` becomes the program, in the environment that it is told.
        let variables = self.with.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let program = binary().to_str().expect("target folders are UTF-8").to_owned();
        run("env", variables.chain([program]).chain(words.map(str::to_owned)), input)
    }

    /// Runs a command that must succeed, and gives its standard output. A signer that says it
    /// is busy, as it may on a loaded machine, is asked again, for a minute at least.
    ///
    /// # Panics
    /// When it fails; shows what it said.
    pub fn must(&self, name: &str, args: &[&str]) -> String {
        let mut done = self.run(name, args, b"");
        for _ in 0..PATIENCE {
            if done.code != Some(LATER) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            done = self.run(name, args, b"");
        }
        assert_eq!(done.code, Some(0), "tksign {name} {args:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// Stops it gracefully.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate();
            assert!(status.success(), "{status}: {}", process.output());
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// The test's folder.
    #[must_use]
    pub const fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// The signer's state folder.
    #[must_use]
    pub fn state(&self) -> String {
        text(&self.dir.join("state"))
    }

    /// The file with the injected secret.
    #[must_use]
    pub fn secret(&self) -> String {
        text(&self.dir.join("secret"))
    }

    /// The trust file with the addresses it serves on.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.dir.join("trust.json")
    }

    /// `ADDRESS:PORT` of the calls.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// `ADDRESS:PORT` of the feed.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// `ADDRESS:PORT` of the metrics.
    #[must_use]
    pub fn metrics(&self) -> &str {
        &self.metrics
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("test folders are UTF-8").to_owned()
}

/// 32 bytes that look random, since the signer refuses a secret that does not.
fn secret() -> [u8; 32] {
    core::array::from_fn(|at| u8::try_from((at * 37 + 11) % 251).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_and_current() {
        let path = binary();
        assert!(path.is_file(), "{}", path.display());
    }
}
