//! The real nginx, as one process that ends when it is killed.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use testkit::process::Process;
use testkit::{TempDir, need};

use crate::{text, until};

/// A server under a configuration of the test's.
#[derive(Debug)]
pub struct Nginx {
    program: PathBuf,
    dir: TempDir,
    listen: String,
    process: Option<Process>,
}

impl Nginx {
    /// Starts it on a free port, which stands where the configuration says `LISTEN`. `None` when
    /// nginx is missing.
    #[must_use]
    pub fn start(test: &str, conf: &str) -> Option<Self> {
        let program = need(test, "nginx", "apt-get install nginx-light")?;
        // A port that is free now: nginx has no way to say which one it took.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let dir = TempDir::new();
        let _ = dir.write("nginx.conf", 0o644, conf.replace("LISTEN", &listen));
        let mut nginx = Self { program, dir, listen, process: None };
        nginx.again();
        Some(nginx)
    }

    /// Starts it again, on the same port.
    pub fn again(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-p", text(self.dir.path()), "-c", text(&self.dir.join("nginx.conf"))]);
        command.args(["-g", "daemon off; master_process off; pid nginx.pid; error_log stderr;"]);
        self.process = Some(Process::start(&mut command));
        until("nginx", || TcpStream::connect(&self.listen));
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
