//! 12,000 connections from two processes: past the caps they are turned away, and who was there
//! before works on.

use std::collections::HashSet;
use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
/// Of them from one address.
const EACH_ADDRESS: usize = 1_024;
/// How long the server waits for a header.
const SILENCE: Duration = Duration::from_secs(30);
/// Files that the server has open beside: listeners, the store, the other listeners' connections.
const BESIDE: usize = 200;

const CHILD: &str = "TKSIGN_TEST_FLOOD";

/// Not a test of its own: a process of the flood. `CHILD` is `TO FIRST COUNT`: connects to `TO`
/// from `COUNT` loopback addresses in turn, the first of which is 127.0.`FIRST`.1, and holds on
/// until it is ended. Prints `full` when all have tried, and how many the system did not connect.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    let (to, first): (SocketAddr, u8) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    let addresses: usize = words[2].parse().unwrap();
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let streams: Vec<_> = (0..EACH)
        .filter_map(|at| {
            let from = Ipv4Addr::new(127, 0, first, 1 + u8::try_from(at % addresses).unwrap());
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
            connect(&socket, &to).ok()?;
            let mut stream = TcpStream::from(socket);
            // Also the kernel's queue overflows; what is sent makes it try again soon. One that
            // was turned away already cannot be written to.
            let _ = stream.write_all(b"P");
            Some(stream)
        })
        .collect();
    println!("full {}", EACH - streams.len());
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

/// Where the connections come from that the server has accepted and not closed. What waits in the
/// kernel's queue has no inode yet.
fn accepted(to: &str) -> HashSet<String> {
    let to: SocketAddr = to.parse().unwrap();
    // `sl local_address rem_address st … uid timeout inode`; state 01 is an open connection.
    let to = format!(" 0100007F:{:04X} ", to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let from = |line: &str| {
        let words: Vec<&str> = line.split_once(&to)?.1.split_whitespace().collect();
        (words[1] == "01" && words[7] != "0").then(|| words[0].to_owned())
    };
    table.lines().filter_map(from).collect()
}

#[test]
fn twelve_thousand_connections_are_cut_at_the_caps_while_sessions_go_on() {
    let signer = signer();
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let mut verifier = Line::open(&signer, &Key::allowed(&signer, &["verify"])).unwrap();
    let verify = verify_params(&minter.call(&mint_params("acme")).unwrap());
    verifier.call(&verify).unwrap();
    let turned_away = || metric(&signer, "tksign_connections_turned_away_total") as usize;
    // One process comes from one address, the other from six.
    let began = Instant::now();
    let (one, six) = (Flood::start(signer.rpc(), 1, 1), Flood::start(signer.rpc(), 2, 6));
    let files = || std::fs::read_dir(format!("/proc/{}/fd", signer.id())).unwrap().count();
    let (mut asked, mut most, mut most_of_one, mut most_files) = (0, 0, 0, 0);
    let mut seen = HashSet::new();
    let unconnected = AtomicUsize::new(0);
    let enough = || 2 * EACH - ALL - unconnected.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let floods = scope.spawn(|| {
            [one, six].map(|mut flood| {
                unconnected.fetch_add(flood.await_line("full ").parse().unwrap(), Ordering::SeqCst);
                flood
            })
        });
        // The floods hold on to what they have until they are dropped.
        let more = || turned_away() < enough() && began.elapsed() < PATIENCE;
        let mut is_over = false;
        while !is_over {
            // Looked at once more afterwards.
            is_over = asked >= 10 && floods.is_finished() && !more();
            verifier.call(&verify).unwrap();
            minter.call(&mint_params("acme")).unwrap();
            asked += 1;
            most_files = most_files.max(files());
            let now = accepted(signer.rpc());
            // What stands in two looks was open at one moment, between them.
            let open: Vec<_> = now.intersection(&seen).collect();
            most = most.max(open.len());
            most_of_one = most_of_one.max(open.iter().filter(|from| from.starts_with("0101007F:")).count());
            seen = now;
        }
        drop(floods.join().unwrap());
    });
    // Nobody who got in was cut before that, so everybody else was turned away. On a machine too
    // slow for it the silent make room again, and how many come in the end is not fixed.
    let enough = if began.elapsed() < SILENCE { enough() } else { EACH - ALL };
    assert!(turned_away() >= enough, "{} of {enough} were turned away", turned_away());
    // One may have been accepted only to be turned away.
    assert!(most_of_one <= EACH_ADDRESS + 1, "{most_of_one} of one address were open");
    assert!(most <= ALL + 1, "{most} were open");
    assert!(most_files <= ALL + BESIDE, "{most_files} files were open in the server");
    assert!(most_files >= 1_024, "the flood arrived: {most_files} files");
    // The flood has gone: there is room again, and the sessions never ended.
    verifier.call(&verify).unwrap();
    minter.call(&mint_params("acme")).unwrap();
    let room = (0..100_000).find_map(|_| Connection::to(signer.rpc()).post(RPC_PATH, b"").ok());
    assert_eq!(room.expect("there is room again").0, 400);
}
