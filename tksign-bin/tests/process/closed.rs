//! The server is closed in before it hears anybody.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::Clock;
use testkit::process::Process;
use testkit::signer::Running;

/// With a publication key that has ended no head comes, and the server is not ready for five seconds.
/// Whoever it answers by then is answered behind its system call filter.
#[test]
fn nobody_is_answered_before_the_server_is_closed_in() {
    let mut signer = Running::start();
    let clock =
        Clock::new("nobody_is_answered_before_the_server_is_closed_in", signer.dir().join("state/clock"));
    let Some(clock) = clock else { return };
    let report = signer.must("status", &[]);
    if !report.contains("calls: seccomp, ") {
        println!("NOT RUN: seccomp is not in force on this kernel: {report}");
        assert!(std::env::var_os("TK_REQUIRE_ALL").is_none(), "{report}");
        return;
    }
    signer.stop();
    signer.environment(clock.environment());
    clock.after(Duration::from_secs(200 * 86_400));
    let mut process = Process::start(&mut signer.command());
    let socket = signer.dir().join("state/control.sock");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}: {}", process.output()),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    process.kill();
}
