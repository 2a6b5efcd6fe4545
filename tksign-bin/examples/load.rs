//! Load on the real server, and what a crash in the middle of it costs (nothing).
//!
//! `cargo run --release -p tksign-bin --example load -- [--seconds 600] [--polls 2000] [--seed N]`
//!
//! 64 clients verify, mint and revoke side by side, each at its own pace, while so many readers
//! follow the feed by long poll. Every answer is judged: a token whose revocation was acknowledged
//! before the question must be refused, one that nobody revokes must verify. Then the server is
//! killed in the middle of it and started again: everything acknowledged must be there, and the
//! audit chain whole. Exits non-zero at the first wrong answer, or when memory grows by more than
//! the records that the state must keep. An answer to ask again later is counted, and is wrong in a
//! run of ten minutes: a slice of it may run on a machine that does much else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring tool stops at the first surprise"
)]

#[allow(dead_code, unreachable_pub, reason = "of the tests' client a part is used here")]
#[path = "../tests/process/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::signer::Running;
use tkcore::protocol::*;
use tkcore::revocation::Head;
use tkcore::{KeyClass, LineageId, Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use wire::{Key, Line};

/// Clients by what they do, and how often each asks in a second.
const VERIFIERS: (usize, u32) = (48, 50);
const MINTERS: (usize, u32) = (8, 10);
const REVOKERS: (usize, u32) = (8, 8);
/// How long a reader of the feed waits between an answer and the next question, as a service
/// that fetches what is new does.
const BETWEEN_POLLS: Duration = Duration::from_secs(1);
/// What the state may keep in memory for each token and each revocation, and what the allocator
/// may round: the slope that is printed is to be compared with the first.
const BYTES_A_RECORD: u64 = 1024;
const SLACK: u64 = 16 << 20;

/// A run of so many seconds has the machine to itself.
const LONG: u64 = 600;

struct Arguments {
    seconds: u64,
    polls: usize,
    seed: u64,
}

impl Arguments {
    fn read() -> Self {
        let mut read =
            Self { seconds: 600, polls: 2000, seed: u64::try_from(now().as_nanos() >> 10).unwrap() };
        let words: Vec<String> = std::env::args().skip(1).collect();
        for pair in words.chunks(2) {
            let value = pair.get(1).and_then(|text| text.parse().ok()).expect("a number after each option");
            match pair[0].as_str() {
                "--seconds" => read.seconds = value,
                "--polls" => read.polls = usize::try_from(value).unwrap(),
                "--seed" => read.seed = value,
                other => panic!("no option {other}"),
            }
        }
        read
    }
}

/// What was acknowledged.
#[derive(Default)]
struct World {
    /// Minted, and nobody has begun to revoke them.
    live: Mutex<Vec<(LineageId, Vec<u8>)>>,
    /// Revoked, acknowledged.
    revoked: Mutex<Vec<(LineageId, Vec<u8>)>>,
    /// Somebody has begun to revoke them.
    touched: Mutex<HashSet<LineageId>>,
    ending: AtomicBool,
    records: AtomicU64,
    polls: AtomicU64,
    waiting: AtomicU64,
    /// Answers to ask again later.
    later: AtomicU64,
}

impl World {
    fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// The answer, unless it is to ask again later.
    fn answered<T>(&self, answer: Result<T, RpcError>) -> Option<Result<T, RpcError>> {
        let is_later =
            answer.as_ref().is_err_and(|error| matches!(error.code, Code::Busy | Code::RateLimited));
        if is_later {
            self.later.fetch_add(1, Ordering::Relaxed);
        }
        (!is_later).then_some(answer)
    }
}

fn main() {
    let arguments = Arguments::read();
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).expect("the limit on files");
    println!(
        "load: {} s, 64 clients, {} readers of the feed, seed {}",
        arguments.seconds, arguments.polls, arguments.seed
    );
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    let world = Arc::new(World::default());
    let reading = read_feed(&signer, arguments.polls, &world);
    let mut threads = Vec::new();
    for (kind, (count, pace)) in [VERIFIERS, MINTERS, REVOKERS].into_iter().enumerate() {
        let role = [Role::Verify(None), Role::Mint(power()), Role::Revoke][kind].clone();
        for line in lines(&signer, count, &role) {
            let (world, seed) = (Arc::clone(&world), arguments.seed + threads.len() as u64);
            let work = [verify, mint, revoke][kind];
            threads.push((kind, thread::spawn(move || paced(line, &world, seed, pace, work))));
        }
    }
    let samples =
        watch(&signer, &world, arguments.seconds, || threads.iter().any(|(_, thread)| thread.is_finished()));
    // In the middle of everything.
    world.ending.store(true, Ordering::SeqCst);
    signer.kill();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for (kind, thread) in threads {
        times[kind].extend(thread.join().expect("no error before the kill"));
    }
    reading.join().expect("no error of a reader before the kill");
    let polls = world.polls.load(Ordering::SeqCst);
    let later = world.later.load(Ordering::SeqCst);
    println!("the feed answered {polls} polls; {later} calls were to be asked again later");
    assert!(later == 0 || arguments.seconds < LONG, "the signer was too busy");
    for (what, times) in ["verify", "mint", "revoke"].iter().zip(&mut times) {
        times.sort_unstable();
        let at = |part: f64| f64::from(times[((times.len() - 1) as f64 * part) as usize]) / 1000.0;
        println!(
            "{what:7} {:8} answered, {:7.1}/s   p50 {:7.2} ms   p99 {:7.2} ms   worst {:7.2} ms",
            times.len(),
            times.len() as f64 / arguments.seconds as f64,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    memory(&samples);
    signer.serve();
    survived(&signer, &world);
    signer.stop();
    println!("load: ok");
}

fn power() -> MintPower {
    MintPower {
        narrowing: Narrowing::default(),
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

/// So many new clients of one role, each with an open session that counts.
fn lines(signer: &Running, count: usize, role: &Role) -> Vec<Line> {
    let mut operator = Line::open(signer, &Key::allowed(signer, &["operator"])).expect("a session");
    let name = Name::new("load").unwrap();
    let mut line = || {
        let key = Key::generate();
        let add = ClientAdd { key: key.public, name: name.clone(), role: role.clone(), expiry: None };
        while let Err(error) = operator.call(&add) {
            assert_eq!(error.code, Code::Busy);
            thread::sleep(Duration::from_millis(error.retry_after.unwrap_or(1000).into()));
        }
        let mut line = Line::open(signer, &key).expect("a session");
        // One without an authentic request is gone after 10 s, and there may be nothing to do yet. An
        // unknown operation is anybody's to ask.
        let unknown = [&[0x7f, 0xff, 0][..], line.id().as_bytes()].concat();
        assert_eq!(Response::code_of(&line.ask(&unknown).unwrap()), Code::UnknownOperation.code());
        line
    };
    (0..count).map(|_| line()).collect()
}

type Work = fn(&mut Line, &World, &mut Random) -> std::io::Result<()>;

/// Works at a pace until the end; the time of each call in microseconds.
fn paced(mut line: Line, world: &World, seed: u64, pace: u32, work: Work) -> Vec<u32> {
    let (mut random, mut times) = (Random(seed | 1), Vec::new());
    let pause = Duration::from_secs(1) / pace;
    let mut next = now() + pause * (random.below(1000) as u32) / 1000;
    loop {
        thread::sleep(next.saturating_sub(now()));
        if world.ending() {
            return times;
        }
        // Who is late does not hurry afterwards.
        next = now().max(next + pause);
        let began = now();
        match work(&mut line, world, &mut random) {
            Ok(()) => times.push(u32::try_from((now() - began).as_micros()).unwrap()),
            Err(_) if world.ending() => return times,
            Err(error) => panic!("a call failed: {error}"),
        }
    }
}

fn mint(line: &mut Line, world: &World, _: &mut Random) -> std::io::Result<()> {
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
    let Some(minted) = world.answered(line.try_call(&params)?) else { return Ok(()) };
    let minted = minted.expect("a mint is answered");
    world.live.lock().unwrap().push((minted.lineage, minted.token.expose().to_vec()));
    world.records.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn revoke(line: &mut Line, world: &World, random: &mut Random) -> std::io::Result<()> {
    let (lineage, token) = {
        let mut live = world.live.lock().unwrap();
        if live.is_empty() {
            return Ok(());
        }
        let at = random.below(live.len());
        let taken = live.swap_remove(at);
        world.touched.lock().unwrap().insert(taken.0);
        taken
    };
    let params = Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() };
    // One that is to be asked again may be in force: nobody looks at it any more.
    let Some(answer) = world.answered(line.try_call(&params)?) else { return Ok(()) };
    answer.expect("a revocation is answered");
    world.revoked.lock().unwrap().push((lineage, token));
    world.records.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn verify(line: &mut Line, world: &World, random: &mut Random) -> std::io::Result<()> {
    let revoked = random.below(5) == 0;
    let from = if revoked { &world.revoked } else { &world.live };
    let (lineage, token) = {
        let from = from.lock().unwrap();
        if from.is_empty() {
            return Ok(());
        }
        from[random.below(from.len())].clone()
    };
    let answer = line.try_call(&Verify { root: token.as_slice().into(), discharges: vec![] })?;
    let Some(answer) = world.answered(answer) else { return Ok(()) };
    match answer {
        Ok(_) => assert!(!revoked, "a token that was revoked verifies"),
        Err(error) => {
            assert_eq!(error.code, Code::Revoked, "{error}");
            assert!(revoked || world.touched.lock().unwrap().contains(&lineage), "nobody revoked it");
        }
    }
    Ok(())
}

/// Follows the feed with so many connections, in a thread of its own.
fn read_feed(signer: &Running, polls: usize, world: &Arc<World>) -> thread::JoinHandle<()> {
    let status: serde_json::Value = serde_json::from_str(&signer.must("status", &["--json"])).unwrap();
    let (feed, address) = (status["feed"].as_str().unwrap().to_owned(), signer.public().to_owned());
    let world = Arc::clone(world);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let readers: Vec<_> = (0..polls)
                .map(|_| {
                    let (feed, address, world) = (feed.clone(), address.clone(), Arc::clone(&world));
                    tokio::spawn(async move {
                        match reader(&feed, &address, &world).await {
                            Ok(()) => {}
                            Err(_) if world.ending() => {}
                            Err(error) => panic!("a reader of the feed failed: {error}"),
                        }
                    })
                })
                .collect();
            for reader in readers {
                reader.await.unwrap();
            }
        });
    })
}

async fn reader(feed: &str, address: &str, world: &World) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut position, mut buffer) = ((0, 0), vec![0; 16 << 10]);
    while !world.ending() {
        let (epoch, sequence) = position;
        let ask = format!("GET /v1/feed/{feed}/wait?after={epoch}.{sequence} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        world.waiting.fetch_add(1, Ordering::Relaxed);
        let mut read = 0;
        let (status, body) = loop {
            let more = stream.read(&mut buffer[read..]).await?;
            if more == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            read += more;
            if let Some(answer) = answer(&buffer[..read]) {
                break answer;
            }
        };
        world.waiting.fetch_sub(1, Ordering::Relaxed);
        world.polls.fetch_add(1, Ordering::Relaxed);
        if status == 200 {
            let head = Head::parse_unverified(body).expect("a head");
            let next = (head.position.epoch, head.position.sequence);
            assert!(next >= position, "the feed went back");
            position = next;
        } else {
            assert_eq!(status, 204, "a poll is answered");
        }
        tokio::time::sleep(BETWEEN_POLLS).await;
    }
    Ok(())
}

/// Status and body, once all of it is there.
fn answer(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    Some((head[9..12].parse().unwrap(), bytes.get(end..end + length)?))
}

/// One look at the server: seconds, resident bytes, records that the state must keep.
type Sample = (u64, u64, u64);

/// Looks at the server every few seconds; ends early when `failed` says so.
fn watch(signer: &Running, world: &World, seconds: u64, failed: impl Fn() -> bool) -> Vec<Sample> {
    let (began, mut samples) = (now(), Vec::new());
    loop {
        let at = (now() - began).as_secs();
        let sample = (at, resident(signer.id()), world.records.load(Ordering::Relaxed));
        if samples.len() % 6 == 0 {
            let waiting = world.waiting.load(Ordering::Relaxed);
            println!("{at:5} s   {:6.1} MiB   {:7} records   {waiting} polls wait", mib(sample.1), sample.2);
        }
        samples.push(sample);
        if at >= seconds {
            return samples;
        }
        assert!(!failed(), "a client ended early");
        thread::sleep(Duration::from_secs((seconds / 40).clamp(1, 5)));
    }
}

/// Judges the second half, when everything that is allocated once has been.
fn memory(samples: &[Sample]) {
    let half = &samples[samples.len() / 2..];
    let mean = |part: &[Sample]| part.iter().map(|sample| sample.1).sum::<u64>() / part.len() as u64;
    let (third, last) = half.split_at(half.len() / 2);
    let grown = mean(last).saturating_sub(mean(third));
    let records = last[last.len() / 2].2 - third[third.len() / 2].2;
    println!(
        "memory: {:.1} MiB in the third quarter, {:.1} MiB in the last; {records} more records to keep between",
        mib(mean(third)),
        mib(mean(last)),
    );
    assert!(grown <= SLACK + records * BYTES_A_RECORD, "memory grows");
}

/// After the kill: everything that was acknowledged is there.
fn survived(signer: &Running, world: &World) {
    let said = signer.must("audit verify", &[]);
    assert!(said.contains("the chain holds"), "{said}");
    let (live, revoked) = (world.live.lock().unwrap(), world.revoked.lock().unwrap());
    let four = lines(signer, 4, &Role::Verify(None));
    let lost: usize = thread::scope(|scope| {
        let threads: Vec<_> = four
            .into_iter()
            .enumerate()
            .map(|(at, mut line)| {
                let (live, revoked) = (&live, &revoked);
                scope.spawn(move || {
                    let mut lost = 0;
                    let mut ask = |token: &[u8]| loop {
                        match line.call(&Verify { root: token.into(), discharges: vec![] }) {
                            Err(error) if matches!(error.code, Code::Busy | Code::RateLimited) => {}
                            answer => return answer.map_err(|error| error.code),
                        }
                    };
                    for (_, token) in live.iter().skip(at).step_by(4) {
                        lost += usize::from(ask(token).is_err());
                    }
                    for (_, token) in revoked.iter().skip(at).step_by(4) {
                        lost += usize::from(ask(token) != Err(Code::Revoked));
                    }
                    lost
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!(
        "killed and started again: {} acknowledged mints and {} acknowledged revocations asked for, {lost} lost; {}",
        live.len() + revoked.len(),
        revoked.len(),
        said.trim()
    );
    assert_eq!(lost, 0);
}

/// Resident bytes.
fn resident(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a running server");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }
}

#[allow(clippy::disallowed_methods, reason = "a measuring tool measures time")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970")
}
