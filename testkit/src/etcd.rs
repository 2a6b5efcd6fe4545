//! Real etcd members on loopback, as one cluster, with data that goes when they do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::process::{Process, owner};
use crate::proxy::{Proxy, Way};
use crate::{TempDir, free_port};

/// How Debian and its relatives install it.
pub const INSTALL: &str = "apt-get install etcd-server etcd-client";

/// Ports are let go of before etcd binds them; another process may be quicker, and then all start
/// anew with others.
const TRIES: usize = 5;

/// A running cluster. Dropping it ends every member.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    dir: TempDir,
    members: Vec<Member>,
    /// The process of each member, 0 while it has none: so links know who connects.
    ids: Arc<Mutex<Vec<u32>>>,
    setup: Setup,
}

/// What is not as it is by default.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The certificate and the key that members show to their clients: they serve `https`.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// More arguments of `etcd`.
    pub args: Vec<String>,
    /// More arguments of `etcdctl`; see [`Etcd::control_with`].
    pub control: Vec<String>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    /// What the other members reach it by.
    link: Proxy,
    process: Option<Process>,
}

impl Etcd {
    /// `members` of them (1, 3, 5), each with its own data, ready to be written to. `None` when
    /// etcd is not there, which is said ([`crate::need`]).
    ///
    /// # Panics
    /// When it is there and does not come up.
    #[must_use]
    pub fn start(test: &str, members: usize) -> Option<Self> {
        Self::start_as(test, members, &Setup::default())
    }

    /// The same, set up otherwise.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    #[must_use]
    pub fn start_as(test: &str, members: usize, setup: &Setup) -> Option<Self> {
        let program = crate::need(test, "etcd", INSTALL)?;
        for _ in 0..TRIES {
            let ids = Arc::new(Mutex::new(vec![0; members]));
            let member = |_| {
                let (client, peer, ids) = (free_port(), free_port(), Arc::clone(&ids));
                let who = move |from: SocketAddr| {
                    let ids = ids.lock().expect("nobody panics here").clone();
                    owner(from, &ids)
                };
                let link = Proxy::between(&format!("127.0.0.1:{peer}"), who);
                Member { client, peer, link, process: None }
            };
            let members = (0..members).map(member).collect();
            let (program, setup) = (program.clone(), setup.clone());
            let mut etcd = Self { program, dir: TempDir::new(), members, ids, setup };
            // All together: a member is ready only when most of them are.
            let begun: Vec<_> = (0..etcd.members.len()).map(|at| etcd.launch(at, "new")).collect();
            if begun.into_iter().enumerate().all(|(at, process)| etcd.adopt(at, process)) {
                return Some(etcd);
            }
        }
        panic!("etcd found no free ports in {TRIES} tries");
    }

    /// Where clients reach each member.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member.client)).collect()
    }

    /// `ADDRESS:PORT` of one member's clients.
    #[must_use]
    pub fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.members[at].client)
    }

    /// Which member leads the cluster, if one does.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|at| {
            let args = ["endpoint", "status", "--write-out=fields", "--command-timeout=2s"];
            let said = self.members[*at].process.as_ref().map(|_| self.control(&[*at], &args));
            said.is_some_and(|said| {
                let field = |name: &str| {
                    said.lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" : "))
                        .map(str::to_owned)
                };
                let leader = field("\"Leader\"");
                leader.is_some() && leader == field("\"MemberID\"")
            })
        })
    }

    /// The process of a member that runs.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn id(&self, at: usize) -> u32 {
        self.members[at].process.as_ref().expect("the member runs").id()
    }

    /// Sends a member that runs a signal, such as `-STOP`.
    ///
    /// # Panics
    /// When it does not run, or there is no `kill`.
    pub fn signal(&self, at: usize, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.id(at).to_string()]).status();
        assert!(sent.expect("`kill` can be run").success());
    }

    /// Ends one member at once.
    pub fn kill(&mut self, at: usize) {
        self.note(at, 0);
        self.members[at].process = None;
    }

    /// Cuts the network between one member and all others, or mends it. Its clients still reach it.
    pub fn cut(&self, at: usize, way: Way) {
        for (other, member) in self.members.iter().enumerate().filter(|(other, _)| *other != at) {
            member.link.set(at, way);
            self.members[at].link.set(other, way);
        }
    }

    fn note(&self, at: usize, id: u32) {
        self.ids.lock().expect("nobody panics here")[at] = id;
    }

    /// Starts a member that was killed, on its ports and its data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self, at: usize) {
        for _ in 0..TRIES {
            let process = self.launch(at, "existing");
            if self.adopt(at, process) {
                return;
            }
            // Its ports are somebody's for a moment, or the lock of its data is not yet given up.
            std::thread::sleep(Duration::from_secs(1));
        }
        panic!("member {at} does not come up again");
    }

    /// Runs `etcdctl` against some members and gives what it printed, errors included.
    ///
    /// # Panics
    /// When `etcdctl` cannot be run.
    #[must_use]
    pub fn control(&self, members: &[usize], args: &[&str]) -> String {
        let endpoints: Vec<_> = members.iter().map(|at| self.url(self.members[*at].client)).collect();
        let done = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", endpoints.join(",")))
            .args(&self.setup.control)
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("etcdctl ({INSTALL}): {error}"));
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
    }

    /// What `etcdctl` is told in every call from here on, such as whom to log in as.
    pub fn control_with(&mut self, args: &[&str]) {
        self.setup.control = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// A copy of everything that a member holds (`etcdctl snapshot save`).
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn save(&self, at: usize, file: &Path) {
        let said = self.control(&[at], &["snapshot", "save", file.to_str().expect("a path in UTF-8")]);
        assert!(said.contains("Snapshot saved"), "{said}");
    }

    /// Ends the one member and starts it with what a copy holds (`etcdctl snapshot restore`), as
    /// after the loss of a whole cluster; on the same ports.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn restore(&mut self, file: &Path) {
        assert_eq!(self.members.len(), 1, "only a cluster of one is restored");
        self.kill(0);
        let data = self.dir.join("m0");
        std::fs::remove_dir_all(&data).expect("a member's data can be removed");
        let peer = format!("http://{}", self.members[0].link.address());
        let (file, data) = (file.to_str().expect("a path in UTF-8"), data.to_str().expect("a path in UTF-8"));
        let cluster = format!("m0={peer}");
        let args = ["snapshot", "restore", file, "--name", "m0", "--data-dir", data];
        let more = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &peer];
        let said = self.control(&[0], &[&args[..], &more].concat());
        assert!(Path::new(data).exists(), "{said}");
        self.restart(0);
    }

    fn url(&self, port: u16) -> String {
        let scheme = if self.setup.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    fn launch(&self, at: usize, state: &str) -> Process {
        let member = &self.members[at];
        let peers: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| format!("m{at}=http://{}", member.link.address()))
            .collect();
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &format!("m{at}"), "--initial-cluster-state", state])
            .arg("--data-dir")
            .arg(self.dir.join(format!("m{at}")))
            .args(["--listen-client-urls", &self.url(member.client)])
            .args(["--advertise-client-urls", &self.url(member.client)])
            .args(["--listen-peer-urls", &url(member.peer)])
            .args(["--initial-advertise-peer-urls", &format!("http://{}", member.link.address())])
            .args(["--initial-cluster", &peers.join(","), "--logger", "zap", "--log-level", "info"]);
        if let Some((certificate, key)) = &self.setup.certificate {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        }
        let process = Process::start(command.args(&self.setup.args));
        self.note(at, process.id());
        process
    }

    /// Waits until a member serves; `false` when it ended, as one does whose port is taken.
    fn adopt(&mut self, at: usize, mut process: Process) -> bool {
        let ready = process.await_line_or_end(|line| line.contains("published local member to cluster"));
        self.members[at].process = ready.then_some(process);
        ready
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_serve_die_and_come_back() {
        let Some(mut etcd) = Etcd::start("members_serve_die_and_come_back", 1) else { return };
        assert!(etcd.control(&[0], &["put", "a", "1"]).contains("OK"));
        assert_eq!(etcd.leader(), Some(0));
        etcd.kill(0);
        etcd.restart(0);
        assert!(etcd.control(&[0], &["get", "a"]).contains('1'));
    }

    #[test]
    fn a_member_that_is_cut_off_answers_no_more_until_the_network_is_mended() {
        let Some(etcd) = Etcd::start("a_member_that_is_cut_off", 3) else { return };
        let put = |members: &[usize]| etcd.control(members, &["put", "--command-timeout=2s", "a", "1"]);
        let leader = etcd.leader().unwrap();
        etcd.cut(leader, Way::Stalled);
        assert!(!put(&[leader]).contains("OK"));
        let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
        while !put(&others).contains("OK") {}
        etcd.cut(leader, Way::Open);
        while !put(&[leader]).contains("OK") {}
    }
}
