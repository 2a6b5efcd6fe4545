//! What a record costs, in bytes: in the store, in the signer's memory, and with etcd there and in its memory.
//!
//! ```text
//! cargo build --release -p tksign-bin --features etcd
//! TKSIGN_BIN=target/release/tksign cargo run --release -p tksign-bin --example sizes -- revoke 200000
//! ```
//!
//! `revoke` revokes so many lineages, `mint` mints tokens of nobody, `subject` tokens of a subject each: through
//! the signer's own decisions and writer, in this process, but for the time until `ready`. Divided by their number. The part
//! on etcd is left out where etcd or the feature is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring tool stops at the first surprise"
)]

#[allow(dead_code, unreachable_pub, reason = "of the tests' client a part is used here")]
#[path = "../tests/process/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testkit::etcd::Etcd;
use testkit::process::{Process, run};
use testkit::signer::{Running, binary};
use tkcore::protocol::*;
use tkcore::{KeyClass, LineageId, Name, Timestamp};
use tksign::{Options, Peer, Secret, Signer, SystemClock};
use tokio::runtime::Builder;

use wire::Key;

/// Calls under way at once: large groups, so that filling is quick.
const AT_ONCE: usize = 4096;

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().expect("revoke, mint or subject");
    let count: u64 = words.next().expect("how many").parse().expect("a number");
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    let role = if what == "revoke" { "revoke" } else { "mint" };
    let caller = Key::allowed(&signer, &[role]).public;
    let empty = resident(signer.id());
    signer.stop();
    let database = Path::new(&signer.state()).join("tksign.db");
    let before = tables(&database);
    fill(&signer, caller, &what, count);
    println!("{count} x {what}");
    for (table, bytes) in tables(&database) {
        let grown = bytes - before.get(&table).copied().unwrap_or(0);
        if grown as f64 > count as f64 / 10.0 {
            println!("sqlite {table}: {:.1} bytes each", grown as f64 / count as f64);
        }
    }
    let began = now();
    signer.serve();
    println!("sqlite: ready after {} ms", (now() - began).as_millis());
    grown("signer over sqlite", signer.id(), empty, count);
    signer.stop();
    etcd(&signer, empty, count);
}

/// Bytes of each table, its free pages' parts included.
fn tables(database: &Path) -> BTreeMap<String, i64> {
    let database = rusqlite::Connection::open(database).unwrap();
    let mut asked = database.prepare("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name").unwrap();
    let rows = asked.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn fill(signer: &Running, caller: ClientKey, what: &str, count: u64) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let secret = Secret::new(std::fs::read(signer.secret()).unwrap()).unwrap();
        let signer =
            Signer::open(Path::new(&signer.state()), &secret, Options::default(), Arc::new(SystemClock))
                .unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..count {
            let id = RequestId::from_bytes((u128::from(n) << 1 | 1).to_be_bytes());
            let request = request(what, n, id);
            let service = signer.service.clone();
            calls.spawn(async move { service.handle(caller, Peer::Control, &request).await });
            if calls.len() >= AT_ONCE {
                check(what, &calls.join_next().await.unwrap().unwrap());
            }
        }
        while let Some(answer) = calls.join_next().await {
            check(what, &answer.unwrap());
        }
        signer.service.stop().await;
    });
}

fn request(what: &str, n: u64, id: RequestId) -> Vec<u8> {
    if what == "revoke" {
        let mut random = [0; 10];
        // Spread, as random ones are: rows are ordered by their first bits.
        random[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let lineage = LineageId::new(random, Timestamp::from_millis(1_790_000_000_000).unwrap());
        let asked = Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() };
        return asked.request(id, None).unwrap();
    }
    let asked = Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: (what == "subject").then(|| Name::new(&format!("user:{n}")).unwrap()),
        label: None,
        expiry: Expiry::After(30 * 86_400),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    };
    asked.request(id, None).unwrap()
}

fn check(what: &str, answer: &[u8]) {
    if what == "revoke" {
        let answer = Revoke::read_answer(answer).unwrap().expect("a revocation is answered");
        assert_eq!(answer.effect, RevokeEffect::New);
    } else {
        drop(Mint::read_answer(answer).unwrap().expect("a mint is answered"));
    }
}

fn etcd(signer: &Running, empty: i64, count: u64) {
    let Some(etcd) = Etcd::start("sizes", 1) else { return };
    let (url, idle, began) = (etcd.urls().remove(0), resident(etcd.id(0)), now());
    let (from, to) = (format!("sqlite:{}", signer.state()), format!("etcd:{url}"));
    let done = run(binary(), ["migrate", "--from", &from, "--to", &to, "--signer", "one"], b"");
    if done.code != Some(0) {
        return println!("etcd: left out: {}", done.stderr);
    }
    println!("etcd: migrated in {} s", (now() - began).as_secs());
    println!("etcd, everything: {:.1} bytes each", field(&etcd, "DBSize") / count as f64);
    grown("etcd", etcd.id(0), idle, count);
    let began = now();
    let mut process = Process::start(
        Command::new(binary())
            .args(["serve", "--dir", &signer.state(), "--secret-file", &signer.secret(), "--signer", "one"])
            .args(["--etcd", &url, "--rpc", "127.0.0.1:0", "--public", "127.0.0.1:0"]),
    );
    process.await_line("ready line", |line| line.contains("\"ready\":true").then_some(()));
    println!("etcd: signer ready after {} ms", (now() - began).as_millis());
    grown("signer over etcd", process.id(), empty, count);
    drop(process);
    // What stays for as long as the record does: audit lines are pruned, kept answers end after a day.
    for passing in ["audit", "idempotency"] {
        let _ = etcd.control(&[0], &["del", "--prefix", &format!("tksign/r/{passing}/")]);
    }
    let _ = etcd.control(&[0], &["compaction", "--physical", &field(&etcd, "Revision").to_string()]);
    let said = etcd.control(&[0], &["defrag"]);
    assert!(said.contains("Finished"), "{said}");
    println!("etcd, what stays: {:.1} bytes each", field(&etcd, "DBSize") / count as f64);
}

/// A figure that etcd gives of itself.
fn field(etcd: &Etcd, name: &str) -> f64 {
    let said = etcd.control(&[0], &["endpoint", "status", "--write-out=fields"]);
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")));
    line.expect("a field of the status").parse().expect("a number")
}

fn grown(what: &str, process: u32, before: i64, count: u64) {
    let (now, most) = (resident(process), peak(process));
    let each = |kib: i64| (kib - before) as f64 * 1024.0 / count as f64;
    println!(
        "{what}: {before} KiB -> {now} KiB resident, {:.1} bytes each; at most {:.1}",
        each(now),
        each(most)
    );
}

fn resident(process: u32) -> i64 {
    status(process, "VmRSS:")
}

fn peak(process: u32) -> i64 {
    status(process, "VmHWM:")
}

/// A figure in KiB that the kernel gives of a process.
fn status(process: u32, name: &str) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a running server");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[allow(clippy::disallowed_methods, reason = "a measuring tool measures time")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970")
}
