//! The feed through a real nginx, with the configurations of `docs/nginx/` as they stand but for
//! names of places.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testkit::process::Process;
use testkit::signer::{Running, With};
use testkit::{TempDir, free_port, need};
use tkcore::revocation::Rule;
use tkcore::{Error, NotKnowable};
use tkverify::testing::TestClock;
use tkverify::{Clock as _, Freshness, SystemClock, Trust};

use super::{LONG, builder, check, client, code, lineage, mint, refresh, text, until};

pub(crate) const INSTALL: &str = "apt-get install nginx-light";

/// An nginx of one test, on a loopback port that was free.
pub(crate) struct Nginx {
    address: String,
    _process: Process,
}

impl Nginx {
    /// `server` is what stands in the `http` block; `LISTEN` in it becomes the address.
    pub(crate) fn start(program: &Path, dir: &TempDir, name: &str, server: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let home = dir.join(name);
        fs::create_dir_all(&home).unwrap();
        let at = home.display();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders: String =
            kinds.iter().map(|kind| format!("    {kind}_temp_path {at}/{kind};\n")).collect();
        let server = server.replace("LISTEN", &address);
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr notice;\n\
             events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n{folders}{server}\n}}\n"
        );
        let file = home.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(&home).arg("-c").arg(&file);
        let mut process = Process::start(&mut command);
        // Said when it listens; whoever else might answer there does not say it.
        process.await_line("nginx's start", |line| line.contains("event method").then_some(()));
        Self { address, _process: process }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Status, head in lower case, body.
    fn get(&self, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = text(&all[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, all.split_off(end + 4))
    }
}

/// One of `docs/nginx/`, with each `(from, to)` replaced; all of them must be there.
fn example(name: &str, places: &[(&str, &str)]) -> String {
    let file = testkit::signer::workspace().join("docs/nginx").join(name);
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in places.iter().chain(&[("listen 80;", "listen LISTEN;")]) {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// The signer's trust file, with the feed at other addresses.
fn trust_at(signer: &Running, feeds: Vec<String>) -> Trust {
    Trust { feeds, ..Trust::from_file(&signer.trust()).unwrap() }
}

fn feed_path(trust: &Trust) -> String {
    format!("/v1/feed/{}", trust.feed)
}

// RV-50
#[test]
fn a_published_folder_is_served_by_a_real_web_server() {
    let Some(program) = need("nginx: a published folder", "nginx", INSTALL) else { return };
    let dir = TempDir::new();
    let root = dir.join("www");
    let arguments = vec!["--publish".to_owned(), root.to_str().unwrap().to_owned()];
    let signer = Running::start_with(With { arguments, ..With::default() });
    signer.must("keys create", &["--tenant", "acme"]);
    let folder = example("folder.conf", &[("/srv/tk", root.to_str().unwrap())]);
    let nginx = Nginx::start(&program, &dir, "folder", &folder);
    let trust = trust_at(&signer, vec![nginx.url()]);
    let feed = feed_path(&trust);

    // A verifier that knows nothing but the web server: it polls.
    let key = client(&signer, "service");
    until("the first head", || nginx.get(&format!("{feed}/head"), "").0 == 200);
    let verifier = builder(&signer, &key).trust(trust.clone()).build().unwrap();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", verifier.health());
    // Two revocations, each a head, as fast as they come: the second head is told from the first
    // although both may be of one second and one length.
    for _ in 0..3 {
        let token = mint(&signer, &[]);
        assert_eq!(check(&verifier, &token, "read"), Ok(()));
        signer.must("revoke token", &[&lineage(&token)]);
        until("the revocation", || {
            verifier.poll_now();
            check(&verifier, &token, "read") == Err(Error::Revoked(Rule::Token))
        });
    }
    assert!(verifier.feed().counts().get("advanced").is_some_and(|count| *count >= 3));

    // What caches are told.
    let (status, head, _) = nginx.get(&format!("{feed}/head"), "");
    assert_eq!(status, 200);
    assert!(head.contains("cache-control: public, max-age=1\r") && !head.contains("etag"), "{head}");
    assert!(!head.contains("last-modified") && !head.contains("content-encoding"), "{head}");
    for path in ["1/delta/1", "keys/1"] {
        let (status, head, body) = nginx.get(&format!("{feed}/{path}"), "Accept-Encoding: gzip\r\n");
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("max-age=31536000, immutable"), "{head}");
        assert!(!head.contains("content-encoding") && head.contains("application/octet-stream"), "{head}");
        assert_eq!(body, fs::read(root.join(&feed[1..]).join(path)).unwrap());
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let (status, _, body) = nginx.get(&format!("{feed}/{path}"), &format!("If-None-Match: {etag}\r\n"));
        assert_eq!((status, body.len()), (304, 0));
    }
    for path in ["keys/2", "1/delta/999", "wait?after=1.3", "../../../nginx.conf", "1/other/1"] {
        let (status, head, _) = nginx.get(&format!("{feed}/{path}"), "");
        assert_eq!(status, 404, "{path}");
        assert!(head.contains("cache-control: no-store"), "{path}: {head}");
    }
}

// RV-50, RV-51
#[test]
fn a_broken_download_goes_on_through_a_real_web_server() {
    let Some(program) = need("nginx: resume", "nginx", INSTALL) else { return };
    let (origin, dir) = (super::common::Origin::new(), TempDir::new());
    origin.fill(40_000);
    let root = dir.join("www");
    let feed = feed_path(&origin.trust());
    origin.signer(|signer| {
        for (path, bytes) in &signer.files {
            let file = root.join(&feed[1..]).join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    });
    let nginx = Nginx::start(
        &program,
        &dir,
        "resume",
        &example("folder.conf", &[("/srv/tk", root.to_str().unwrap())]),
    );
    let (path, whole) = origin.signer(|signer| {
        let path = signer.publisher.base_path().to_string();
        (path.clone(), signer.files[&path].clone())
    });
    assert!(whole.len() > 512 * 1024);
    // As a download leaves it that broke at two thirds.
    let to = dir.join("feed");
    fs::create_dir_all(&to).unwrap();
    let broke_at = whole.len() * 2 / 3;
    fs::write(to.join(format!(".part-{}", path.replace('/', "_"))), &whole[..broke_at]).unwrap();
    // What the web server would send of the first two thirds is damaged: only a resumed download is whole.
    let served = root.join(&feed[1..]).join(&path);
    let mut damaged = whole.clone();
    damaged[..broke_at].fill(0);
    fs::write(&served, &damaged).unwrap();
    let (status, head, _) = nginx.get(&format!("{feed}/{path}"), "Range: bytes=0-9\r\n");
    assert!(status == 206 && head.contains("content-range: bytes 0-9/"), "{head}");
    let mut trust = origin.trust();
    trust.feeds = vec![nginx.url()];
    let trust = dir.write("trust.json", 0o644, trust.to_json());
    let report = refresh(&trust, &to, &["--json"]);
    assert_eq!(code(&report), 0, "{report:?}");
    assert!(text(&report.stdout).contains("\"rows\":40000"), "{report:?}");
}

#[test]
fn a_cache_in_front_of_the_signer_serves_and_lets_long_polls_through() {
    let Some(program) = need("nginx: a cache", "nginx", INSTALL) else { return };
    let (signer, dir) = (super::signer(), TempDir::new());
    let places =
        [("127.0.0.1:7001", signer.public()), ("/var/cache/nginx/tk", &dir.join("c").display().to_string())];
    let nginx = Nginx::start(&program, &dir, "cache", &example("cache.conf", &places));
    let trust = trust_at(&signer, vec![nginx.url()]);
    let feed = feed_path(&trust);
    let key = client(&signer, "service");
    let verifier = builder(&signer, &key).trust(trust).build().unwrap();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", verifier.health());
    let token = mint(&signer, &[]);
    assert_eq!(check(&verifier, &token, "read"), Ok(()));
    signer.must("revoke token", &[&lineage(&token)]);
    // No poll is asked for: it comes by the held request, long before the interval.
    until("the revocation", || check(&verifier, &token, "read") == Err(Error::Revoked(Rule::Token)));
    // The signer's own tag, of the content, is good for a conditional request through the cache.
    let (status, head, body) = nginx.get(&format!("{feed}/head"), "");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert!(status == 200 && body.len() <= 400 && head.contains("max-age="), "{head}");
    let (status, _, body) = nginx.get(&format!("{feed}/head"), &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((status, body.len()), (304, 0));
    let (status, head, _) = nginx.get(&format!("{feed}/keys/2"), "");
    assert!(status == 404 && head.contains("no-store"), "{head}");
    let (status, _, part) = nginx.get(&format!("{feed}/1/delta/1"), "Range: bytes=4-7\r\n");
    assert_eq!((status, part.len()), (206, 4));
}

// RV-48: a proxy that caches the head for an hour makes the state old and not fresh.
#[test]
fn a_cache_that_keeps_the_head_for_an_hour_makes_the_state_old() {
    let Some(program) = need("nginx: a cache of an hour", "nginx", INSTALL) else { return };
    let (signer, dir) = (super::signer(), TempDir::new());
    let server = format!(
        "proxy_cache_path {} keys_zone=bad:1m;\nserver {{ listen LISTEN; location ~ /wait$ {{ return 404; }}\n\
         location / {{ proxy_pass http://{}; proxy_cache bad; proxy_ignore_headers Cache-Control Expires;\n\
         proxy_cache_valid 200 1h; }} }}",
        dir.join("bad").display(),
        signer.public()
    );
    let nginx = Nginx::start(&program, &dir, "bad", &server);
    let key = client(&signer, "service");
    let trust = trust_at(&signer, vec![nginx.url()]);
    // From now on it gives this head, which the verifier's clock must not lie before.
    assert_eq!(nginx.get(&format!("{}/head", feed_path(&trust)), "").0, 200);
    let wall = SystemClock::new().read().wall;
    let follow = |trust: &Trust| {
        let clock = Arc::new(TestClock::default());
        clock.set_wall(wall);
        let builder = builder(&signer, &key).trust(trust.clone()).clock(Arc::clone(&clock) as _);
        let verifier = builder.build().unwrap();
        assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", verifier.health());
        (verifier, clock)
    };
    let (verifier, clock) = follow(&trust);
    // With a second address that is not cached.
    let (both, clock_of_both) =
        follow(&trust_at(&signer, vec![nginx.url(), format!("http://{}", signer.public())]));
    let token = mint(&signer, &[]);
    assert_eq!((check(&verifier, &token, "read"), check(&both, &token, "read")), (Ok(()), Ok(())));
    signer.must("revoke token", &[&lineage(&token)]);
    // The proxy goes on giving the head it has: it is the same, and extends nothing.
    let poll = |verifier: &tkverify::Verifier| {
        let before = verifier.feed().counts().get("fetches").copied();
        until("a poll", || {
            verifier.poll_now();
            verifier.feed().counts().get("fetches").copied() > before
        });
    };
    clock.advance(Duration::from_secs(121));
    poll(&verifier);
    assert_eq!(verifier.health().freshness, Freshness::Aging);
    assert_eq!(check(&verifier, &token, "read"), Ok(()), "an hour is how long a freeze could last");
    clock.advance(Duration::from_secs(3600));
    poll(&verifier);
    assert_eq!(verifier.health().freshness, Freshness::Stale);
    assert_eq!(check(&verifier, &token, "read"), Err(NotKnowable::Stale.into()));
    // `refresh` behind the same proxy says that the state is too old for what was asked, once it is.
    let (file, to) = (dir.write("trust.json", 0o644, trust.to_json()), dir.join("feed"));
    until("a head older than a second", || {
        let report = refresh(&file, &to, &["--json", "--max-age", "1"]);
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        report["age_seconds"].as_u64() > Some(1)
    });
    let report = refresh(&file, &to, &["--max-age", "1"]);
    assert_eq!(code(&report), 23, "{report:?}");
    assert!(text(&report.stderr).contains("allowed are 1 s"), "{report:?}");
    // The one with the second address leaves the first when that has had nothing new for three heartbeats.
    let frozen = Duration::from_secs(91);
    clock_of_both.advance(frozen);
    clock_of_both.set_wall(SystemClock::new().read().wall.saturating_add(frozen));
    until("the revocation", || {
        both.poll_now();
        check(&both, &token, "read") == Err(Error::Revoked(Rule::Token))
    });
    assert!(!both.health().alarm, "{}", both.health());
}
