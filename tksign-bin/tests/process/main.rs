//! The real server as its neighbours meet it: clients of every role, strangers, floods, thieves
//! of its disk, and whoever reads its memory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]

mod audit;
mod bounds;
mod closed;
mod doctor;
mod few_files;
mod flood;
mod host;
mod image;
mod roles;
mod search;
mod second;
mod stolen;
mod stop;
mod strangers;
mod third;
mod unsealed;
mod wire;

use testkit::signer::Running;
use tkcore::protocol::*;
use tkcore::{KeyClass, Name};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A signer with a key for the tenant `acme`.
fn signer() -> Running {
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    signer
}

fn mint_params(tenant: &str) -> Mint {
    Mint {
        tenant: name(tenant),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(name("user:17")),
        label: None,
        expiry: Expiry::After(3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

fn verify_params(token: &MintAnswer) -> Verify {
    Verify { root: token.token.expose().into(), discharges: vec![] }
}

/// A metric's value, labels included in its name.
fn metric(signer: &Running, name: &str) -> u64 {
    metric_at(signer.metrics(), name)
}

fn metric_at(address: &str, name: &str) -> u64 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}
