//! `tkverify refresh`, the real program, against servers that behave and servers that do not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use common::feed_support::Signer;
use common::{Origin, code, copy, files, now, refresh, text, tkverify};
use testkit::TempDir;
use testkit::http::{Reply, Server};
use tkcore::revocation::{ExpiryDay, FeedPath, Revocation};
use tkcore::{FeedId, LineageId};
use tkverify::cli::{Colours, Streams, Watched, run};
use tkverify::{Clock as _, SystemClock, Trust};

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn lineage(number: u8) -> LineageId {
    LineageId::new([number; 10], tkcore::Timestamp::from_millis(now()).unwrap())
}

#[test]
fn silent_when_all_is_well_and_the_folder_is_the_served_tree() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    let first = refresh(&trust, &feed, &[]);
    assert_eq!((code(&first), text(&first.stdout), text(&first.stderr)), (0, String::new(), String::new()));
    origin.revoke(lineage(1));
    let second = refresh(&trust, &feed, &["--json", "--max-age", "60"]);
    assert_eq!((code(&second), text(&second.stderr)), (0, String::new()));
    let report = json(&second);
    assert_eq!(
        (&report["confirmed"], &report["rows"], &report["position"]["sequence"]),
        (&true.into(), &1.into(), &1.into())
    );
    // Every object lies under the name under which it is served.
    origin.signer(|signer| {
        for (path, bytes) in files(&feed) {
            let name = path.to_str().unwrap();
            if !name.starts_with('.') {
                assert_eq!(signer.files.get(name), Some(&bytes), "{name}");
            }
        }
    });
    // Nothing new: nothing but the head and the next key list is asked for.
    let before = origin.asked().len();
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let mut asked = origin.asked().split_off(before);
    asked.sort();
    assert_eq!(asked, ["head", "keys/2"]);
}

#[test]
fn each_class_of_failure_has_its_exit_code_and_leaves_the_folder_as_it_was() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let before = files(&feed);
    origin.revoke(lineage(1));
    let is_head = |path: &str| path.ends_with("/head");
    let on_head = |reply: Reply| {
        origin.misbehave(move |request| is_head(&request.path).then(|| reply.clone()));
        let output = refresh(&trust, &feed, &[]);
        assert_eq!(files(&feed), before, "{output:?}");
        assert!(text(&output.stderr).contains("next: "), "{output:?}");
        assert!(output.stdout.is_empty());
        code(&output)
    };
    let page = "<html><body>Service temporarily unavailable</body></html>";
    assert_eq!(on_head(Reply::ok(page).with("content-type", "text/html")), 21);
    assert_eq!(on_head(Reply::ok("")), 21);
    assert_eq!(on_head(Reply::Endless(vec![b'x'; 4096])), 21);
    assert_eq!(on_head(Reply::status(500)), 20);
    assert_eq!(on_head(Reply::status(503).with("retry-after", "1000000")), 20);
    assert_eq!(on_head(Reply::status(302).with("location", &origin.url())), 20);
    assert_eq!(on_head(Reply::status(404)), 20);
    assert_eq!(on_head(Reply::Close), 20);
    let head = origin.signer(|signer| signer.files["head"].clone());
    assert_eq!(on_head(Reply::Cut(head.clone(), head.len() / 2)), 20);
    assert_eq!(on_head(Reply::ok(head.clone()).with("content-encoding", "gzip")), 20);
    // Signed by a stranger.
    let stranger = Signer::new(now());
    let mut forged = stranger.head_of(&stranger.publisher, now());
    forged.position.sequence += 9;
    let forged = forged.sign(&[&common::feed_support::key(77)]).unwrap();
    assert_eq!(on_head(Reply::ok(forged)), 21);
    // Every bit of the head.
    for bit in (0..head.len() * 8).step_by(97) {
        let mut flipped = head.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(on_head(Reply::ok(flipped)), 21, "bit {bit}");
    }
    // And then all is well again.
    origin.behave();
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    assert_ne!(files(&feed), before);
}

#[test]
fn an_origin_that_is_gone_is_unreachable_and_the_age_can_be_bounded() {
    let (origin, dir) = (Origin::since(now() - 1_800_000), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    assert_eq!(code(&refresh(&trust, &feed, &["--max-age", "3000"])), 0);
    let old = refresh(&trust, &feed, &["--max-age", "60"]);
    assert_eq!(code(&old), 23);
    assert!(text(&old.stderr).contains("allowed are 60 s"), "{old:?}");
    drop(origin);
    let gone = refresh(&trust, &feed, &["--json"]);
    assert_eq!(code(&gone), 20);
    assert_eq!(json(&gone)["exit"], 20);
}

/// A mirror that serves what somebody copied there once.
fn stuck(files: std::collections::BTreeMap<String, Vec<u8>>) -> Server {
    let prefix = format!("/v1/feed/{}/", common::feed_support::FEED);
    Server::start(move |request| {
        let bytes = request.path.strip_prefix(&prefix).and_then(|path| files.get(path));
        bytes.map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone()))
    })
}

/// RV-47: each run knows nothing of the ones before, and finds what any of the mirrors has.
#[test]
fn a_first_mirror_that_is_behind_hides_nothing_that_the_second_has() {
    let (origin, dir) = (Origin::since(now() - 900_000), TempDir::new());
    let old = stuck(origin.signer(|signer| signer.files.clone()));
    origin.revoke(lineage(1));
    let page = Server::start(|_| Reply::ok("<html>please log in</html>"));
    let busy = Server::start(|_| Reply::status(503).with("retry-after", "300"));
    let file = |name: &str, feeds: &[&str]| {
        let trust = Trust { feeds: feeds.iter().map(ToString::to_string).collect(), ..origin.trust() };
        dir.write(name, 0o644, trust.to_json())
    };
    for (name, first) in [("old", &old), ("page", &page), ("busy", &busy)] {
        let trust = file(name, &[&first.url(), &origin.url()]);
        let feed = dir.join(format!("feed-{name}"));
        // At first what the stuck one has is all there is; then the folder is ahead of it.
        for _ in 0..3 {
            let rows = origin.signer(|signer| signer.publisher.set().len());
            let report = refresh(&trust, &feed, &["--json", "--max-age", "600"]);
            assert_eq!((code(&report), &json(&report)["rows"]), (0, &rows.into()), "{name}: {report:?}");
            origin.revoke(lineage(rows as u8 + 1));
        }
        // One that asked for patience is left alone.
        if name == "busy" {
            assert_eq!(busy.requests(), 3);
        }
    }
    // All of them behind, and known to be: too old is said, as soon as it is.
    let trust = file("all-old", &[&old.url(), &old.url()]);
    let report = refresh(&trust, &dir.join("feed-old"), &["--json", "--max-age", "600"]);
    assert_eq!((code(&report), &json(&report)["confirmed"]), (0, &false.into()), "{report:?}");
    assert_eq!(json(&report)["refusals"], serde_json::json!(["lagging", "lagging"]));
    let report = refresh(&trust, &dir.join("feed-new"), &["--json", "--max-age", "600"]);
    assert_eq!((code(&report), &json(&report)["confirmed"]), (23, &true.into()), "{report:?}");
}

#[test]
fn a_head_that_is_no_longer_valid_is_a_freeze() {
    let (origin, dir) = (Origin::since(now() - 7_200_000), TempDir::new());
    let frozen = refresh(&origin.trust_file(&dir), &dir.join("feed"), &[]);
    assert_eq!(code(&frozen), 21);
    assert!(text(&frozen.stderr).contains("no longer valid"), "{frozen:?}");
}

#[test]
fn another_feed_or_another_root_key_is_refused() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let mut trust = origin.trust();
    trust.root_keys = vec![*common::feed_support::key(9).public().as_bytes()];
    let file = dir.write("other-root.json", 0o644, trust.to_json());
    assert_eq!(code(&refresh(&file, &dir.join("feed"), &[])), 21);
    let mut trust = origin.trust();
    trust.feed = FeedId::from_bytes([3; 16]);
    let file = dir.write("other-feed.json", 0o644, trust.to_json());
    assert_eq!(code(&refresh(&file, &dir.join("feed"), &[])), 20);
    let nonsense = dir.write("nonsense.json", 0o644, "{}");
    assert_eq!(code(&refresh(&nonsense, &dir.join("feed"), &[])), 25);
    assert_eq!(code(&refresh(&dir.join("absent.json"), &dir.join("feed"), &[])), 25);
}

#[test]
fn two_histories_raise_the_alarm_and_both_heads_are_kept() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.revoke(lineage(1));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let good = origin.signer(|signer| signer.files["head"].clone());
    // The same position with another state, signed by the true key.
    let mut other = Signer::new(now());
    other.revoke(&[(Revocation::Token { lineage: lineage(2) }, ExpiryDay::UNKNOWN)], None);
    let head = other.head(now());
    origin.misbehave(move |request| request.path.ends_with("/head").then(|| Reply::ok(head.clone())));
    let alarm = refresh(&trust, &feed, &[]);
    assert_eq!(code(&alarm), 22, "{alarm:?}");
    assert_eq!(fs::read_dir(feed.join(".evidence")).unwrap().count(), 2);
    assert_eq!(fs::read(feed.join("head")).unwrap(), good);
}

#[test]
fn a_cleaned_cache_does_not_allow_a_rollback() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed, floor) = (origin.trust_file(&dir), dir.join("feed"), dir.join("floor"));
    let floor = floor.to_str().unwrap();
    let old = origin.signer(|signer| signer.files.clone());
    origin.revoke(lineage(1));
    assert_eq!(code(&refresh(&trust, &feed, &["--floor", floor])), 0);
    fs::remove_dir_all(&feed).unwrap();
    // A mirror that is stuck before the revocation.
    let prefix = format!("/v1/feed/{}/", common::feed_support::FEED);
    origin.misbehave(move |request| {
        let path = request.path.strip_prefix(&prefix)?;
        Some(old.get(path).map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone())))
    });
    let rolled = refresh(&trust, &feed, &["--floor", floor]);
    assert_ne!(code(&rolled), 0, "{rolled:?}");
    assert!(!feed.join("head").exists());
    origin.behave();
    assert_eq!(code(&refresh(&trust, &feed, &["--floor", floor])), 0);
}

/// RV-52: whatever file is cut wherever, the last good state loads without the network, and the next
/// head mends the folder.
#[test]
fn whatever_file_is_cut_at_every_512_bytes_the_last_good_state_loads() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(150);
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    origin.revoke(lineage(1));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let good = files(&feed);
    assert!(good.values().any(|bytes| bytes.len() > 2048));
    let mut cuts = 0;
    for (path, bytes) in &good {
        for len in (0..bytes.len()).step_by(512) {
            let said = format!("{} cut to {len}", path.display());
            let broken = dir.join("broken");
            copy(&feed, &broken);
            fs::write(broken.join(path), &bytes[..len]).unwrap();
            origin.misbehave(|_| Some(Reply::Close));
            let alone = refresh(&trust, &broken, &["--json"]);
            assert_eq!((code(&alone), &json(&alone)["rows"]), (20, &151.into()), "{said}: {alone:?}");
            assert_eq!(json(&alone)["position"]["sequence"], 2, "{said}");
            // A new head mends it: then every copy of every file is whole again.
            origin.behave();
            origin.signer(|signer| signer.publish_head(now()));
            let output = refresh(&trust, &broken, &["--json"]);
            assert_eq!((code(&output), &json(&output)["rows"]), (0, &151.into()), "{said}: {output:?}");
            for tree in ["", ".copy"] {
                let other = dir.join("other");
                copy(&broken, &other);
                fs::remove_dir_all(other.join(".copy")).unwrap();
                if !tree.is_empty() {
                    let kept = files(&broken.join(tree));
                    fs::remove_dir_all(&other).unwrap();
                    fs::create_dir(&other).unwrap();
                    for (path, bytes) in kept {
                        fs::create_dir_all(other.join(&path).parent().unwrap()).unwrap();
                        fs::write(other.join(path), bytes).unwrap();
                    }
                }
                origin.misbehave(|_| Some(Reply::Close));
                let alone = refresh(&trust, &other, &["--json"]);
                assert_eq!(json(&alone)["rows"], 151, "{said}, then {tree}: {alone:?}");
                origin.behave();
                fs::remove_dir_all(&other).unwrap();
            }
            fs::remove_dir_all(&broken).unwrap();
            cuts += 1;
        }
    }
    assert!(cuts > 15, "{cuts}");
}

/// The second copy is judged under the same floor: it brings nothing back.
#[test]
fn a_second_copy_older_than_the_floor_is_refused() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.revoke(lineage(1));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let old = files(&feed.join(".copy"));
    origin.revoke(lineage(2));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    fs::remove_dir_all(feed.join(".copy")).unwrap();
    for (path, bytes) in old {
        let to = feed.join(".copy").join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    fs::write(feed.join("head"), b"").unwrap();
    origin.misbehave(|_| Some(Reply::Close));
    let alone = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&alone), &json(&alone)["rows"]), (20, &serde_json::Value::Null), "{alone:?}");
    origin.behave();
    let mended = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&mended), &json(&mended)["rows"]), (0, &2.into()), "{mended:?}");
}

/// The real program, killed at whatever it was doing: the steps one by one are in `cli/killed.rs`.
#[test]
fn the_program_killed_at_any_moment_leaves_a_state_that_loads() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(3000);
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    // Later and later in its life: from before it runs to its end, in sixteen parts of what a whole run
    // took here just now, until enough of them were killed on their way.
    let started = SystemClock::new();
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let whole = started.read().monotonic;
    let (mut killed, mut rows, mut runs) = (0, 3000, 0u32);
    while killed < 8 || runs < 40 {
        assert!(runs < 200, "{killed} of {runs} killed");
        origin.revoke(lineage(runs as u8));
        let mut command = tkverify();
        command.args(["refresh", "--once", "--trust"]).arg(&trust).arg("--dir").arg(&feed);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole / 16 * (runs % 16));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed += u32::from(status.code().is_none());
        runs += 1;
        origin.misbehave(|_| Some(Reply::Close));
        let alone = refresh(&trust, &feed, &["--json"]);
        let now = json(&alone)["rows"].as_u64().unwrap();
        assert!(now >= rows && now <= 3000 + u64::from(runs), "after {rows}: {alone:?}");
        rows = now;
        origin.behave();
    }
    let last = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&last), &json(&last)["rows"]), (0, &(3000 + runs).into()));
}

#[test]
fn two_at_once_end_well_and_one_of_them_writes() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(2000);
    let mut running = Vec::new();
    for _ in 0..4 {
        let mut command = tkverify();
        command.args(["refresh", "--once", "--json", "--trust"]).arg(&trust).arg("--dir").arg(&feed);
        running.push(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    }
    let outputs: Vec<_> = running.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| code(output) == 0), "{outputs:?}");
    assert!(outputs.iter().any(|output| json(output)["wrote"] == true));
    let after = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&after), &json(&after)["rows"]), (0, &2000.into()));
}

#[test]
fn a_full_disk_is_told_and_the_last_good_state_stays() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    let before = files(&feed);
    origin.fill(5000);
    // No file may grow past 8 KiB: every write of the snapshot fails as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" refresh --once --trust \"$1\" --dir \"$2\"";
    let full = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_tkverify")])
        .arg(&trust)
        .arg(&feed)
        .output()
        .unwrap();
    assert_eq!(code(&full), 24, "{full:?}");
    assert!(text(&full.stderr).contains("next: free space"), "{full:?}");
    let mut after = files(&feed);
    after.retain(|path, _| !path.to_str().unwrap().starts_with(".part"));
    assert_eq!(after, before);
    let mended = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&mended), &json(&mended)["rows"]), (0, &5000.into()));
}

#[test]
fn a_folder_that_cannot_be_made_is_a_local_error() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let file = dir.write("file", 0o644, "");
    let output = refresh(&origin.trust_file(&dir), &file.join("feed"), &[]);
    assert_eq!(code(&output), 24, "{output:?}");
}

#[test]
fn a_broken_download_is_taken_up_where_it_broke() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(30_000);
    let snapshot = origin.signer(|signer| signer.files[&signer.publisher.base_path().to_string()].clone());
    assert!(snapshot.len() > 400_000);
    static TRIES: AtomicU64 = AtomicU64::new(0);
    let cut = snapshot.clone();
    origin.misbehave(move |request| {
        let is_first = request.path.contains("/snapshot/") && request.header("range").is_none();
        is_first.then(|| {
            TRIES.fetch_add(1, Ordering::SeqCst);
            Reply::Cut(cut.clone(), 300_000)
        })
    });
    let first = refresh(&trust, &feed, &[]);
    let second = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&second), &json(&second)["rows"]), (0, &30_000.into()), "{first:?}");
    assert_eq!(TRIES.load(Ordering::SeqCst), 1, "the second part came by a range");
    assert!(files(&feed).keys().all(|path| !path.to_str().unwrap().starts_with(".part")));
}

/// On a terminal the progress of a large download is told: of the whole, also when it goes on from a part.
#[test]
fn progress_is_told_where_somebody_watches() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(30_000);
    let snapshot = origin.signer(|signer| signer.files[&signer.publisher.base_path().to_string()].clone());
    let (length, cut) = (snapshot.len(), 300_000);
    let run = |watched| {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            watched,
            colours: Colours::None,
        };
        let (trust, feed) = (trust.to_str().unwrap(), feed.to_str().unwrap());
        let exit =
            run(["tkverify", "refresh", "--once", "--trust", trust, "--dir", feed], &mut streams).code();
        assert!(stdout.is_empty());
        (exit, text(&stderr))
    };
    // Each as `snapshot: 97 KiB, 25 %`, over the one before.
    let told = |said: &str| -> Vec<(usize, usize)> {
        let lines = said.lines().next().unwrap().split('\r').skip(1);
        let parse = |line: &str| {
            let (kib, percent) = line.strip_prefix("snapshot: ")?.strip_suffix(" %")?.split_once(" KiB, ")?;
            Some((kib.parse().ok()?, percent.parse().ok()?))
        };
        lines.map(|line| parse(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
    };
    origin.misbehave(move |request| {
        let is_snapshot = request.path.contains("/snapshot/");
        is_snapshot.then(|| Reply::Cut(snapshot.clone(), cut))
    });
    let (exit, said) = run(Watched::Yes);
    assert_ne!(exit, 0);
    let first = told(&said);
    assert_eq!(first.last(), Some(&(cut / 1024, cut * 100 / length)), "{said:?}");
    origin.behave();
    let (exit, said) = run(Watched::Yes);
    assert_eq!(exit, 0, "{said:?}");
    let second = told(&said);
    assert!(second.first() > first.last(), "it goes on where it broke: {said:?}");
    assert_eq!(second.last(), Some(&(length / 1024, 100)), "{said:?}");
    assert!(first.is_sorted() && second.is_sorted() && first.len() > 1, "{first:?} {second:?}");
    // Where nobody does, nothing is said.
    fs::remove_dir_all(&feed).unwrap();
    assert_eq!(run(Watched::No), (0, String::new()));
}

/// A slice with every test; ten million rows by
/// `FEED_ROWS=10000000 cargo test --release -p tkverify --test refresh -- a_large_feed --nocapture`.
#[test]
fn a_large_feed_arrives_whole_and_its_next_step_alone() {
    let rows = std::env::var("FEED_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(rows);
    let path = origin.signer(|signer| signer.publisher.base_path().to_string());
    let length = origin.signer(|signer| signer.files[&path].len());
    let first = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&first), &json(&first)["rows"]), (0, &rows.into()), "{first:?}");
    for tree in ["", ".copy"] {
        assert_eq!(fs::metadata(feed.join(tree).join(&path)).unwrap().len(), length as u64);
    }
    let before = origin.asked().len();
    origin.revoke(lineage(1));
    let next = refresh(&trust, &feed, &["--json"]);
    assert_eq!((code(&next), &json(&next)["rows"]), (0, &(rows + 1).into()), "{next:?}");
    let mut asked = origin.asked().split_off(before);
    asked.sort();
    assert_eq!(asked, ["1/delta/2", "head", "keys/2"]);
    println!("{rows} rows, a snapshot of {length} bytes, one step after it");
}

#[test]
fn a_wrong_part_from_an_earlier_try_is_thrown_away() {
    let (origin, dir) = (Origin::new(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    origin.fill(30_000);
    let path = origin.signer(|signer| signer.publisher.base_path());
    assert!(matches!(path, FeedPath::Snapshot { .. }));
    fs::create_dir_all(&feed).unwrap();
    let part = format!(".part-{}", path.to_string().replace('/', "_"));
    fs::write(feed.join(part), vec![0x55; 100_000]).unwrap();
    let codes: Vec<i32> = (0..3).map(|_| code(&refresh(&trust, &feed, &[]))).collect();
    assert!(codes.contains(&0), "{codes:?}");
}
