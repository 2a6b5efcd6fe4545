//! How long a revocation takes to arrive: many verifiers, in processes of their own, follow one real
//! signer; measured is the time from the acknowledged revoke until each of them refuses the token.
//!
//! ```text
//! cargo run --release -p tkverify --example arrival                        1,000 verifiers, both ways
//! cargo run --release -p tkverify --example arrival -- --verifiers 200 --processes 4 --rounds 10 --json
//! cargo run -p tkverify --example arrival -- --smoke                       a few; the figures mean nothing
//! ```
//!
//! By long poll they wait at the signer itself. By polling they ask a plain web server that serves the folder
//! which the signer publishes; how soon is the poll interval of the signed head, 10 s at most. A
//! verifier is a whole one: its own feed thread, its own connection, its own set. Verifiers of a process share
//! one session for the one question that each of them asks about each token before it is revoked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool that fails says so and ends"
)]
#![allow(clippy::disallowed_methods, reason = "it measures time across processes, by the machine's clock")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::http::{Reply, Server};
use testkit::signer::{Running, With};
use tkcore::protocol::{Revoke, RevokeTarget, Text};
use tkcore::{Error, LineageId, TokenBuf};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Freshness, Remote, Trust, Verifier};

/// An end for a run that hangs.
const LONG: Duration = Duration::from_secs(300);

struct Plan {
    verifiers: usize,
    processes: usize,
    rounds: usize,
    json: bool,
    ways: Vec<Way>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    LongPoll,
    Polling,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::LongPoll => "long poll",
            Self::Polling => "polling",
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["--child", trust, key, verifiers] = words.as_slice() {
        return child(Path::new(trust), Path::new(key), verifiers.parse().expect("a number"));
    }
    let both = vec![Way::LongPoll, Way::Polling];
    let mut plan = Plan { verifiers: 1000, processes: 8, rounds: 5, json: false, ways: both };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut number = || rest.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match *word {
            "--verifiers" => plan.verifiers = number(),
            "--processes" => plan.processes = number(),
            "--rounds" => plan.rounds = number(),
            "--long-poll" => plan.ways = vec![Way::LongPoll],
            "--polling" => plan.ways = vec![Way::Polling],
            "--json" => plan.json = true,
            "--smoke" => (plan.verifiers, plan.processes, plan.rounds) = (12, 2, 1),
            other => panic!("{other}? see the top of the source"),
        }
    }
    for way in plan.ways.clone() {
        measure(&plan, way);
    }
}

fn measure(plan: &Plan, way: Way) {
    let www = testkit::TempDir::new();
    let mut arguments = vec!["--client-rate".to_owned(), "100000".to_owned()];
    arguments.extend(["--publish".to_owned(), www.path().to_str().unwrap().to_owned()]);
    let signer = Running::start_with(With { arguments, ..With::default() });
    signer.must("keys create", &["--tenant", "acme"]);
    let folder = www.path().to_path_buf();
    let web = Server::start(move |request| {
        if request.path.contains("/wait") || request.path.contains("..") {
            return Reply::status(404);
        }
        let file = folder.join(request.path.trim_start_matches('/'));
        std::fs::read(file).map_or(Reply::status(404), Reply::ok)
    });
    let mut trust = Trust::from_file(&signer.trust()).unwrap();
    let signers = trust.signers.clone();
    if way == Way::Polling {
        trust.feeds = vec![web.url()];
    }
    let trust_file = signer.dir().write("clients.json", 0o644, trust.to_json());
    let tokens: Vec<String> = (0..plan.rounds).map(|_| mint(&signer)).collect();
    let idle = memory(signer.id());

    let (send, answers) = channel();
    let mut children: Vec<Spawned> = (0..plan.processes)
        .map(|n| {
            let share = plan.verifiers / plan.processes + usize::from(n < plan.verifiers % plan.processes);
            Spawned::start(&trust_file, &client(&signer, "verify", &format!("p{n}")), share, send.clone())
        })
        .collect();
    drop(send);
    for child in &mut children {
        tokens.iter().for_each(|token| writeln!(child.input, "{token}").unwrap());
        writeln!(child.input).unwrap();
    }
    wait_for(&answers, plan.processes, "ready");
    if way == Way::LongPoll {
        // Those who have just loaded are about to wait: the signer says how many do.
        await_waiting(&signer, plan.verifiers);
    }
    let waiting = memory(signer.id());

    let key = ClientKey::read(&client(&signer, "revoke", "revoker")).unwrap();
    let revoker = Remote::new(&signers, key).unwrap();
    let mut delays = Vec::new();
    for token in &tokens {
        let asked = Revoke { target: RevokeTarget::Token(lineage(token)), reason: Text::default() };
        revoker.revoke(&asked, request_id().unwrap()).unwrap();
        let acknowledged = now();
        for line in wait_for(&answers, plan.verifiers, "refused") {
            let at: u64 = line.parse().unwrap();
            // One may refuse before the answer has come back: that is no time at all.
            delays.push(at.saturating_sub(acknowledged));
        }
        if way == Way::LongPoll {
            await_waiting(&signer, plan.verifiers);
        }
    }
    delays.sort_unstable();
    let at = |part: usize| delays[(delays.len() * part / 1000).min(delays.len() - 1)] as f64 / 1e6;
    let (p50, p99, max) = (at(500), at(990), at(1000));
    let each = waiting.saturating_sub(idle) as f64 / plan.verifiers as f64;
    let (name, verifiers, processes, rounds) = (way.name(), plan.verifiers, plan.processes, plan.rounds);
    if plan.json {
        println!(
            "{{\"way\":\"{name}\",\"verifiers\":{verifiers},\"processes\":{processes},\"rounds\":{rounds},\
             \"p50_ms\":{p50:.1},\"p99_ms\":{p99:.1},\"max_ms\":{max:.1},\"signer_idle_kib\":{idle},\
             \"signer_waiting_kib\":{waiting},\"kib_per_verifier\":{each:.2}}}"
        );
    } else {
        println!(
            "{name}: {verifiers} verifiers in {processes} processes, {rounds} revocations: p50 {p50:.1} ms, \
             p99 {p99:.1} ms, max {max:.1} ms; signer {idle} KiB idle, {waiting} KiB with all of them \
             ({each:.2} KiB each)"
        );
    }
}

/// A process of verifiers.
struct Spawned {
    child: Child,
    input: ChildStdin,
}

impl Spawned {
    fn start(trust: &Path, key: &Path, verifiers: usize, lines: Sender<String>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--child")
            .args([trust, key])
            .arg(verifiers.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| lines.send(line).is_ok()));
        Self { input: child.stdin.take().unwrap(), child }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next `count` lines, which begin with `word`; what follows it.
fn wait_for(lines: &Receiver<String>, count: usize, word: &str) -> Vec<String> {
    (0..count)
        .map(|_| {
            let line = lines.recv_timeout(LONG).unwrap_or_else(|e| panic!("no {word}: {e}"));
            line.strip_prefix(word).unwrap_or_else(|| panic!("{line}")).trim().to_owned()
        })
        .collect()
}

/// Some verifiers in a process of their own: reads tokens up to an empty line, knows each of them, says
/// "ready", and then "refused" and the time for each token and verifier.
fn child(trust: &Path, key: &Path, verifiers: usize) {
    let trust = Trust::from_file(trust).unwrap();
    let asker = Arc::new(Remote::new(&trust.signers, ClientKey::read(key).unwrap()).unwrap());
    let tokens: Vec<String> =
        std::io::stdin().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let tokens = Arc::new(tokens);
    let (ready, said) = (Arc::new(Barrier::new(verifiers + 1)), Arc::new(Mutex::new(())));
    for _ in 0..verifiers {
        let (trust, asker, tokens) = (trust.clone(), Arc::clone(&asker), Arc::clone(&tokens));
        let (ready, said) = (Arc::clone(&ready), Arc::clone(&said));
        let follow = move || {
            let verifier = Verifier::builder().trust(trust).signer(asker).build().unwrap();
            let health = verifier.wait_until_loaded(LONG);
            assert_eq!(health.freshness, Freshness::Fresh, "{health}");
            for token in tokens.iter() {
                while let Err(error) = check(&verifier, token) {
                    assert!(matches!(error, Error::NotKnowable(_)), "{error}");
                    thread::yield_now();
                }
            }
            ready.wait();
            for token in tokens.iter() {
                loop {
                    let seen = verifier.feed().renewals();
                    if matches!(check(&verifier, token), Err(Error::Revoked(_))) {
                        break;
                    }
                    verifier.feed().wait_renewed(seen, LONG);
                }
                let at = now();
                let _one = said.lock().unwrap();
                println!("refused {at}");
            }
            // Stays until the process is ended, so that what the others meet does not change.
            loop {
                thread::park();
            }
        };
        thread::Builder::new().stack_size(256 * 1024).spawn(follow).unwrap();
    }
    ready.wait();
    {
        let _one = said.lock().unwrap();
        println!("ready");
    }
    loop {
        thread::park();
    }
}

fn check(verifier: &Verifier, token: &str) -> Result<(), Error> {
    let request = verifier.request("acme").action("read").build().unwrap();
    verifier.check(format!("Bearer {token}"), &request).map(|_| ())
}

fn mint(signer: &Running) -> String {
    let args = ["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"];
    signer.must("mint", &args).trim().to_owned()
}

fn lineage(token: &str) -> LineageId {
    let (_, token) = TokenBuf::from_text(token).unwrap();
    token.as_token().claimed_identifier().unwrap().lineage
}

/// A client key of a role.
fn client(signer: &Running, role: &str, name: &str) -> PathBuf {
    let key = ClientKey::generate().unwrap();
    let file = signer.dir().join(name);
    key.write(&file).unwrap();
    let public: String = key.public().iter().map(|byte| format!("{byte:02x}")).collect();
    signer.must("clients add", &["--key", &public, "--role", role, "--name", name]);
    file
}

/// Resident memory, KiB.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Until the signer's own metric says that so many wait.
fn await_waiting(signer: &Running, count: usize) {
    for _ in 0..60_000 {
        let mut stream = TcpStream::connect(signer.metrics()).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let waiting = page.lines().find_map(|line| line.strip_prefix("tksign_long_polls_waiting "));
        if waiting.is_some_and(|number| number.trim().parse::<usize>().is_ok_and(|waiting| waiting >= count))
        {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not all of them wait");
}

/// The machine's clock, in nanoseconds: the same for all its processes.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}
