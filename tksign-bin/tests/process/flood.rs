//! 12,000 connections from two processes: past the caps they are turned away, and who was there
//! before works on.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::process::PATIENCE;
use tkcore::protocol::*;

use super::wire::{Connection, Key, Line};
use super::{metric, mint_params, signer, verify_params};

/// Connections of each of the two processes; both sides of all of them are open files of a system
/// that commonly allows 20,000 a process.
const EACH: usize = 6_000;
/// The cap of the listener for calls (`serve.rs`).
const ALL: usize = 4_096;
/// Files that the server has open beside: listeners, the store, the other listeners' connections.
const BESIDE: usize = 200;

const CHILD: &str = "TKSIGN_TEST_FLOOD";

/// Not a test of its own: a process of the flood. `CHILD` is `TO FIRST COUNT`: connects to `TO`
/// from `COUNT` loopback addresses in turn, the first of which is 127.0.`FIRST`.1, and holds on
/// until it is ended. Prints `full` when all are connected.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    let (to, first): (SocketAddr, u8) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    let addresses: usize = words[2].parse().unwrap();
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let streams: Vec<_> = (0..EACH)
        .map(|at| {
            let from = Ipv4Addr::new(127, 0, first, 1 + u8::try_from(at % addresses).unwrap());
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
            connect(&socket, &to).unwrap();
            let mut stream = TcpStream::from(socket);
            // Also the kernel's queue overflows; what is sent makes it try again soon. One that
            // was turned away already cannot be written to.
            let _ = stream.write_all(b"P");
            stream
        })
        .collect();
    println!("full");
    drop(std::io::stdin().lock().lines().next());
    drop(streams);
}

struct Flood {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Flood {
    fn start(to: &str, first: u8, addresses: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "flood::child", "--nocapture"])
            .env(CHILD, format!("{to} {first} {addresses}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn await_line(&mut self, start: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        // The test runner prints on the same line before the test does.
        lines.find_map(|line| Some(line.split_once(start)?.1.to_owned())).expect("the child ended early")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn twelve_thousand_connections_are_cut_at_the_caps_while_sessions_go_on() {
    let signer = signer();
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let mut verifier = Line::open(&signer, &Key::allowed(&signer, &["verify"])).unwrap();
    let verify = verify_params(&minter.call(&mint_params("acme")).unwrap());
    verifier.call(&verify).unwrap();
    let turned_away = || metric(&signer, "tksign_connections_turned_away_total");
    // One process comes from one address, the other from six.
    let (one, six) = (Flood::start(signer.rpc(), 1, 1), Flood::start(signer.rpc(), 2, 6));
    let files = || std::fs::read_dir(format!("/proc/{}/fd", signer.id())).unwrap().count();
    let (mut asked, mut most) = (0, 0);
    std::thread::scope(|scope| {
        let floods = scope.spawn(move || {
            let mut both = [one, six];
            both.iter_mut().for_each(|flood| drop(flood.await_line("full")));
            both
        });
        // On a slow machine the first that got in are cut for their silence meanwhile, and as many
        // get in again: how many were turned away in the end is not fixed, and not waited for
        // without end.
        let began = Instant::now();
        let enough = || (turned_away() as usize) >= 2 * (EACH - ALL) || began.elapsed() > PATIENCE;
        while !floods.is_finished() || !enough() {
            verifier.call(&verify).unwrap();
            minter.call(&mint_params("acme")).unwrap();
            asked += 1;
            most = most.max(files());
        }
        drop(floods.join().unwrap());
    });
    assert!(turned_away() as usize >= EACH - ALL, "{} were turned away", turned_away());
    assert!(most <= ALL + BESIDE, "{most} files were open in the server");
    assert!(most >= 1_024, "the flood arrived: {most} files");
    assert!(asked >= 10, "the sessions were served meanwhile: {asked}");
    // The flood has gone: there is room again, and the sessions never ended.
    verifier.call(&verify).unwrap();
    minter.call(&mint_params("acme")).unwrap();
    let room = (0..100_000).find_map(|_| Connection::to(signer.rpc()).post(RPC_PATH, b"").ok());
    assert_eq!(room.expect("there is room again").0, 400);
}
