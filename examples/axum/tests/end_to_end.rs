//! The service as a person with curl sees it: a real signer, the real service, real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and may read the clock"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::process::{Process, run};
use testkit::{TempDir, signer};
use tkcore::{TokenBuf, attenuate};
use tkverify::ClientKey;

struct World {
    folder: TempDir,
    signer: Process,
    service: Process,
    address: String,
}

impl World {
    fn start() -> Self {
        let folder = TempDir::new();
        folder.write("secret", 0o400, std::array::from_fn::<u8, 32, _>(|at| at as u8 * 7 + 3));
        let at = |name: &str| folder.join(name).display().to_string();
        tksign(&folder, &["init", "--secret-file", &at("secret"), "--root-key-out", &at("root.key")], "");
        let mut process = Process::start(Command::new(signer::binary()).args([
            "serve",
            "--dir",
            &at("state"),
            "--secret-file",
            &at("secret"),
            "--rpc",
            "127.0.0.1:0",
            "--public",
            "127.0.0.1:0",
            "--trust-out",
            &at("trust.json"),
        ]));
        process.await_line("ready line", |line| line.contains("\"ready\":true").then_some(()));

        let key = ClientKey::generate().unwrap();
        key.write(&folder.join("service.key")).unwrap();
        let public: String = key.public().iter().map(|byte| format!("{byte:02x}")).collect();
        tksign(&folder, &["keys", "create", "--tenant", "acme"], "");
        tksign(&folder, &["clients", "add", "--name", "web", "--role", "verify", "--key", &public], "");

        let mut service = Process::start(Command::new(env!("CARGO_BIN_EXE_axum-example")).args([
            "--trust",
            &at("trust.json"),
            "--client-key",
            &at("service.key"),
            "--state",
            &at("feed"),
            "--listen",
            "127.0.0.1:0",
        ]));
        let address = service
            .await_line("address", |line| line.strip_prefix("listening on http://").map(str::to_owned));
        Self { folder, signer: process, service, address }
    }

    fn mint(&self, caveats: &[&str]) -> String {
        let mut args = vec!["mint", "--tenant", "acme", "--subject", "user:17", "--expires", "1h"];
        args.extend(caveats.iter().flat_map(|caveat| ["--caveat", caveat]));
        tksign(&self.folder, &args, "").trim().to_owned()
    }

    /// Status, headers in lower case, body.
    fn call(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    /// Calls until the status is the wanted one: what the service must learn comes over the feed.
    fn until(&self, status: u16, path: &str, token: &str) -> String {
        let began = Instant::now();
        loop {
            let (got, _, body) = self.call("GET", path, Some(token));
            if got == status {
                return body;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "still {got} {body}\n{}",
                self.service.output()
            );
            std::thread::yield_now();
        }
    }
}

fn tksign(folder: &TempDir, args: &[&str], input: &str) -> String {
    let state = folder.join("state").display().to_string();
    let done = run(signer::binary(), args.iter().copied().chain(["--dir", &state]), input.as_bytes());
    assert_eq!(done.code, Some(0), "tksign {args:?}: {}", done.stderr);
    done.stdout
}

fn narrowed(token: &str, caveats: &[&str]) -> String {
    let (_, token) = TokenBuf::from_text(token).unwrap();
    attenuate(&token.as_token(), caveats).unwrap().to_text().as_str().to_owned()
}

#[test]
fn a_request_is_allowed_by_what_its_token_says_until_it_is_revoked() {
    let mut world = World::start();
    let token = world.mint(&["action in read,delete"]);

    let (status, head, body) = world.call("GET", "/acme/projects/7", None);
    assert_eq!(status, 401, "{body}");
    assert!(
        head.contains("www-authenticate: bearer\r\n") || head.ends_with("www-authenticate: bearer"),
        "{head}"
    );
    assert!(body.contains("\"error\":\"missing\""), "{body}");

    let body = world.until(200, "/acme/projects/7", &token);
    assert_eq!(body, r#"{"by":"user:17","project":"7","tenant":"acme"}"#);

    // Narrowed offline: less is allowed, and the answer says why.
    let narrow = narrowed(&token, &["project = 7", "action = read"]);
    assert_eq!(world.call("GET", "/acme/projects/7", Some(&narrow)).0, 200);
    let (status, _, body) = world.call("GET", "/acme/projects/8", Some(&narrow));
    assert_eq!(status, 403);
    assert!(body.contains("`project = 7`"), "{body}");
    assert_eq!(world.call("DELETE", "/acme/projects/7", Some(&narrow)).0, 403);
    assert_eq!(world.call("DELETE", "/acme/projects/7", Some(&token)).0, 200);

    // Another tenant's projects are not this token's.
    let (status, _, body) = world.call("GET", "/other/projects/7", Some(&token));
    assert_eq!((status, body.contains("wrong-tenant")), (403, true), "{body}");

    // A cut-off paste is told apart from a forgery.
    let (status, head, body) = world.call("GET", "/acme/projects/7", Some(&token[..token.len() - 9]));
    assert_eq!((status, body.contains("\"truncated\"")), (401, true), "{body}");
    assert!(head.contains("invalid_token"), "{head}");
    let mut forged = token.clone().into_bytes();
    let at = forged.len() - 9;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    assert_eq!(world.call("GET", "/acme/projects/7", Some(&forged)).0, 401);

    let (status, _, _) = world.call("GET", "/healthz", None);
    assert_eq!(status, 200);

    tksign(&world.folder, &["revoke", "presented"], &token);
    let body = world.until(401, "/acme/projects/7", &narrow);
    assert!(body.contains("\"revoked\""), "{body}");

    // The log names the reason and never a token.
    world.service.await_line("refusal in the log", |line| line.contains("refused: revoked").then_some(()));
    assert!(!world.service.output().contains("tk1_"), "{}", world.service.output());
    world.signer.kill();
}

#[test]
fn without_the_signer_known_tokens_work_and_new_ones_are_told_to_come_back() {
    let mut world = World::start();
    let known = world.mint(&["action = read"]);
    let new = world.mint(&["action = read"]);
    world.until(200, "/acme/projects/7", &known);
    world.signer.terminate();
    assert_eq!(world.call("GET", "/acme/projects/7", Some(&known)).0, 200);
    assert_eq!(world.call("GET", "/acme/projects/7", Some(&narrowed(&known, &["project = 7"]))).0, 200);
    let (status, _, body) = world.call("GET", "/acme/projects/7", Some(&new));
    assert_eq!((status, body.contains("signer-unreachable")), (503, true), "{body}");
}
