//! What the signer does in a second, beside what the machine could do at best, in one run.
//!
//! `cargo run --release -p tksign-bin --example rates -- [--rounds 5] [--rows 1000000] [--sync-micros 0]`
//!
//! 1. Remote verify over open sessions, beside a bare hyper server that answers each request with
//!    one HMAC: the same client, the same number of connections, one server thread each.
//! 2. Durable revocations one at a time and by 64 callers, beside `fdatasync` of 4 KiB appended to
//!    a file in the same folder.
//! 3. The start of a signer that holds so many revocations, until it says that it is ready.
//!
//! With `--sync-micros` every sync takes at least so long, of the server and of what it is compared
//! with: the second case alone then says how well callers share a sync on a disk of that speed,
//! whatever the machine's own does (`TMPDIR` on a file system in memory leaves it out).
//!
//! The cases take turns and the best round of each counts; read ratios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring tool stops at the first surprise"
)]

#[allow(dead_code, unreachable_pub, reason = "of the tests' client a part is used here")]
#[path = "../tests/process/wire.rs"]
mod wire;

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes as Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request as Asked, Response as Answered};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use testkit::process::Process;
use testkit::signer::Running;
use tkcore::protocol::*;
use tkcore::{KeyClass, LineageId, Name, Timestamp};
use tksign::{Options, Peer, Secret, Signer, SystemClock};

use wire::{Connection, Key, Line};

/// Callers that ask at the same time.
const CONNECTIONS: usize = 16;
const CALLERS: usize = 64;
/// Tells the preloaded library how long a sync takes.
const SLOW: &str = "TK_DISK_SLOW";
/// How long each case runs in a round.
const TURN: Duration = Duration::from_secs(2);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "bare") {
        return bare();
    }
    let option = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.map_or(default, |at| words[at + 1].parse().expect("a number"))
    };
    let (rounds, rows) = (option("--rounds", 5), option("--rows", 1_000_000));
    let micros = option("--sync-micros", 0);
    if micros > 0 {
        if std::env::var_os(SLOW).is_none() {
            // Itself again, with the library that slows it and whatever it starts.
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(words).env(SLOW, micros.to_string()).env("LD_PRELOAD", testkit::disk::library());
            assert!(again.status().unwrap().success());
            return;
        }
        println!("every sync takes at least {micros} µs\n");
        return revoke_beside_disk(&Running::start(), rounds);
    }
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    verify_beside_bare(&signer, rounds);
    revoke_beside_disk(&signer, rounds);
    cold_start(&mut signer, rows);
}

/// The bare server: hyper on one thread, one HMAC over each body.
fn bare() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("bare {}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = service_fn(|asked: Asked<Incoming>| async {
                let body = asked.into_body().collect().await.unwrap().to_bytes();
                let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
                mac.update(&body);
                let tag = Body::copy_from_slice(&mac.finalize().into_bytes());
                Ok::<_, Infallible>(Answered::new(Full::new(tag)))
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
}

/// Calls a second of all together, of as many callers as there are.
fn rate<T: Send>(callers: &mut [T], call: impl Fn(&mut T) + Sync) -> f64 {
    let began = now();
    let counts: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = callers
            .iter_mut()
            .map(|caller| {
                scope.spawn(|| {
                    let mut count = 0u64;
                    while now() - began < TURN {
                        call(caller);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    counts as f64 / (now() - began).as_secs_f64()
}

/// CPU time of a process so far, in clock ticks.
fn ticks(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a running process");
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn verify_beside_bare(signer: &Running, rounds: usize) {
    let mut minter = Line::open(signer, &Key::allowed(signer, &["mint"])).unwrap();
    let params = Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Name::new("user:17").unwrap()),
        label: None,
        expiry: Expiry::After(86_400),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    };
    let token = minter.call(&params).unwrap().token.expose().to_vec();
    let open = |_| Line::open(signer, &Key::allowed(signer, &["verify"])).unwrap();
    let mut lines: Vec<Line> = (0..CONNECTIONS).map(open).collect();
    let mut server = Process::start(Command::new(std::env::current_exe().unwrap()).arg("bare"));
    let address: SocketAddr =
        server.await_line("address", |line| line.strip_prefix("bare ").map(|at| at.parse().unwrap()));
    let mut plain: Vec<Connection> = (0..CONNECTIONS).map(|_| Connection::to(&address.to_string())).collect();
    // As many bytes as a call of verify has.
    let body = vec![1; token.len() + 70];
    let (mut verify, mut bare) = ((0.0f64, f64::MAX), (0.0f64, f64::MAX));
    for _ in 0..rounds {
        let turn = |best: &mut (f64, f64), process: u32, run: &mut dyn FnMut() -> f64| {
            let before = ticks(process);
            let rate = run();
            let micros = (ticks(process) - before) as f64 * 10_000.0 / (rate * TURN.as_secs_f64());
            *best = (best.0.max(rate), best.1.min(micros));
        };
        // The time that a server spends is the same whatever else the machine does; of the rates
        // the clients take their part.
        turn(&mut bare, server.id(), &mut || {
            rate(&mut plain, |connection| {
                assert_eq!(connection.post("/", &body).unwrap().0, 200);
            })
        });
        turn(&mut verify, signer.id(), &mut || {
            rate(&mut lines, |line| {
                let params = Verify { root: token.as_slice().into(), discharges: vec![] };
                drop(line.call(&params).unwrap());
            })
        });
    }
    println!("| remote verify, {CONNECTIONS} connections | requests/s | ratio | server's CPU a request |");
    println!("| --- | ---: | ---: | ---: |");
    println!("| bare hyper server, one HMAC | {:.0} | 1.00 | {:.1} µs |", bare.0, bare.1);
    println!(
        "| **tksign**, verify in a session | {:.0} | {:.2} | {:.1} µs |\n",
        verify.0,
        verify.0 / bare.0,
        verify.1
    );
}

fn revoke_beside_disk(signer: &Running, rounds: usize) {
    let revoker = |_| Line::open(signer, &Key::allowed(signer, &["revoke"])).unwrap();
    let mut lines: Vec<Line> = (0..CALLERS).map(revoker).collect();
    let next = std::sync::atomic::AtomicU64::new(1);
    let revoke = |line: &mut Line| {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let params = Revoke { target: RevokeTarget::Token(lineage(n)), reason: Text::default() };
        assert_eq!(line.call(&params).unwrap().effect, RevokeEffect::New);
    };
    let mut file = std::fs::File::create(signer.dir().join("synced")).unwrap();
    let (mut disk, mut one, mut many) = (0.0f64, 0.0f64, 0.0f64);
    for _ in 0..rounds {
        disk = disk.max(rate(&mut [&mut file], |file| {
            file.write_all(&[1; 4096]).unwrap();
            file.sync_data().unwrap();
        }));
        one = one.max(rate(&mut lines[..1], revoke));
        many = many.max(rate(&mut lines, revoke));
    }
    println!("| durable revocations | a second | ratio |");
    println!("| --- | ---: | ---: |");
    println!("| `fdatasync` of 4 KiB, appended | {disk:.0} | 1.00 |");
    println!("| **tksign**, one caller | {one:.0} | {:.2} |", one / disk);
    println!("| **tksign**, {CALLERS} callers | {many:.0} | {:.1} |\n", many / disk);
}

/// A lineage of nobody's.
fn lineage(n: u64) -> LineageId {
    let mut random = [0; 10];
    // Spread, as random ones are: rows are ordered by their first bits.
    random[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    LineageId::new(random, Timestamp::from_millis(1_790_000_000_000).unwrap())
}

fn cold_start(signer: &mut Running, rows: usize) {
    let key = Key::allowed(signer, &["revoke"]).public;
    signer.stop();
    let began = now();
    fill(Path::new(&signer.state()), &std::fs::read(signer.secret()).unwrap(), key, rows as u64);
    let filled = (now() - began).as_secs();
    let starts: Vec<u128> = (0..3)
        .map(|_| {
            let began = now();
            signer.serve();
            let ready = (now() - began).as_millis();
            signer.stop();
            ready
        })
        .collect();
    println!("| start with {rows} revocations (made in {filled} s) | ms until ready |");
    println!("| --- | ---: |");
    println!("| **tksign** | {} (of three: {starts:?}) |", starts.iter().min().unwrap());
}

/// Revokes so many lineages in this process, through the same decisions and the same writer.
fn fill(folder: &Path, secret: &[u8], caller: ClientKey, rows: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let secret = Secret::new(secret.to_vec()).unwrap();
        let signer = Signer::open(folder, &secret, Options::default(), Arc::new(SystemClock)).unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..rows {
            let target = RevokeTarget::Token(lineage(n | 1 << 40));
            let id = RequestId::from_bytes((u128::from(n) << 1 | 1).to_be_bytes());
            let request = Revoke { target, reason: Text::default() }.request(id, None).unwrap();
            let service = signer.service.clone();
            calls.spawn(async move { service.handle(caller, Peer::Control, &request).await });
            if calls.len() >= 4096 {
                check(&calls.join_next().await.unwrap().unwrap());
            }
        }
        while let Some(answer) = calls.join_next().await {
            check(&answer.unwrap());
        }
        signer.service.stop().await;
    });
}

fn check(answer: &[u8]) {
    let answer = Revoke::read_answer(answer).unwrap().expect("a revocation is answered");
    assert_eq!(answer.effect, RevokeEffect::New);
}

#[allow(clippy::disallowed_methods, reason = "a measuring tool measures time")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970")
}
