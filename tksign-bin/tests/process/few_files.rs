//! A host that lets the server open few files.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use testkit::process::Process;

use super::{metric_at, signer};

/// The first address of a listener, as the line says that tells that the server is ready.
fn listener<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\":[\"")).unwrap();
    rest.split('"').next().unwrap()
}

/// More connections than it may open files: those past their share are turned away, and the store and
/// the operator have what they need.
#[test]
fn connections_leave_files_for_the_store_and_the_operator() {
    let mut signer = signer();
    signer.stop();
    let plain = signer.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 600 && exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args());
    let mut process = Process::start(&mut command);
    let line =
        process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
    let public = listener(&line, "public");
    // The client's ends stay open, whatever becomes of the server's.
    let held: Vec<TcpStream> = (0..700).filter_map(|_| TcpStream::connect(public).ok()).collect();
    assert!(held.len() > 600, "{} connections", held.len());
    // Past its share it is told so at once.
    let mut last = held.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    assert!(last.read(&mut [0]).is_ok());
    signer.must("keys create", &["--tenant", "umbrella"]);
    signer.must("mint", &["--tenant", "umbrella", "--expires", "1h", "--caveat", "action = read"]);
    let metrics = listener(&line, "metrics");
    assert!(metric_at(metrics, "tksign_connections_turned_away_total") > 0);
    drop(held);
    process.kill();
}
