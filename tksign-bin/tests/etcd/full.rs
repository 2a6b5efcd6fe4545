//! etcd's own disk, or what it may take of it.

use std::time::Instant;

use testkit::etcd::{Etcd, Setup};
use testkit::process::{Finished, run};
use testkit::signer::{tkverify, workspace};
use testkit::table::{Fault, fault};

use crate::scene::{Scene, Served, awaited};

/// Small, and several times what a store needs that holds little.
const QUOTA: &str = "4194304";
/// So many versions of a value of 120 kB are more than it.
const VERSIONS: usize = 200;

/// A service that knows one signer.
struct Service<'a> {
    scene: &'a Scene,
    trust: String,
}

impl Service<'_> {
    fn check(&self, token: &str) -> Finished {
        let (feed, key, token) =
            (self.scene.path("feed"), self.scene.path("service.key"), self.scene.path(token));
        let brought = run(tkverify(), ["refresh", "--once", "--trust", &self.trust, "--dir", &feed], b"");
        if brought.code != Some(0) {
            return brought;
        }
        let args = ["check", "--trust", &self.trust, "--client-key", &key, "--token-file", &token];
        run(tkverify(), args.into_iter().chain(["--dir", &feed, "--tenant", "acme", "--action", "read"]), b"")
    }

    /// Waits until that is the verdict, for as long as a machine is busy.
    fn says(&self, token: &str, code: i32) {
        let verdict = awaited(|| (self.check(token).code == Some(code)).then_some(()));
        assert!(verdict.is_some(), "{token}: {}", self.check(token).stderr);
    }
}

fn mint(scene: &Scene, file: &str) -> String {
    let token =
        scene.must("one", "mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"]);
    scene.dir.write(file, 0o600, &token);
    let shown = run(tkverify(), ["inspect", "--json"], token.as_bytes()).stdout;
    let (_, lineage) = shown.split_once("\"lineage\":\"").expect("a lineage");
    lineage.split('"').next().unwrap().to_owned()
}

/// Rewrites one value until etcd takes no more, as its history grows where nobody compacts it.
fn fill(etcd: &Etcd) {
    let value = "7".repeat(120_000);
    let is_full = |_| etcd.control(&[0], &["put", "filler", &value]).contains("space exceeded");
    assert!((0..VERSIONS).any(is_full), "it is never full");
}

/// What `docs/cluster.md` says to do.
fn make_room(etcd: &Etcd) {
    let told = etcd.control(&[0], &["get", "filler", "--keys-only", "--write-out=json"]);
    let (_, revision) = told.split_once("\"revision\":").unwrap();
    let revision = revision.split(',').next().unwrap();
    for args in [&["compact", revision][..], &["defrag"], &["alarm", "disarm"]] {
        let said = etcd.control(&[0], args);
        assert!(!said.contains("rror"), "{args:?}: {said}");
    }
}

#[test]
fn a_cluster_without_room_is_told_and_nothing_is_acknowledged() {
    let args = ["--quota-backend-bytes", QUOTA].map(str::to_owned).to_vec();
    let setup = Setup { args, ..Setup::default() };
    let test = "a_cluster_without_room_is_told_and_nothing_is_acknowledged";
    let Some(etcd) = Etcd::start_as(test, 1, &setup) else { return };
    let scene = Scene::new(etcd);
    let key = run(tkverify(), ["keygen", "--out", &scene.path("service.key")], b"").stdout;
    scene.must("one", "clients add", &["--key", key.trim(), "--name", "service", "--role", "verify"]);
    scene.migrated();
    let trust = scene.path("service.json");
    let one: Served = scene.served(&mut scene.command("one", &["--trust-out", &trust]));
    let service = Service { scene: &scene, trust };
    one.await_head("a head", |_| true);
    let (lineage, _) = (mint(&scene, "kept"), mint(&scene, "alive"));
    let before = one.await_head("a head", |_| true);

    fill(&scene.etcd);
    let revoke = || scene.run("one", "revoke token", &[&lineage]);
    let mint_args = ["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"];
    for _ in 0..3 {
        for ask in [&revoke as &dyn Fn() -> Finished, &|| scene.run("one", "mint", &mint_args)] {
            let named = awaited(|| {
                let refused = ask();
                assert_ne!(refused.code, Some(0), "{}", refused.stdout);
                refused.stderr.contains("space exceeded").then_some(())
            });
            assert!(named.is_some(), "{}", ask().stderr);
        }
    }
    // Verifies go on, and nothing that was refused is in force.
    for token in ["alive", "kept"] {
        service.says(token, 0);
    }

    make_room(&scene.etcd);
    let started = Instant::now();
    awaited(|| (revoke().code == Some(0)).then_some(())).expect("it writes again");
    let pause = started.elapsed();
    one.await_head("its step", |head| head.position > before.position);
    service.says("kept", 13);
    service.says("alive", 0);
    scene.must("one", "audit verify", &[]);
    fault(&Fault {
        store: "etcd",
        fault: "etcd's database at its quota",
        times: 1,
        lost: 0,
        pause: Some(pause),
        clients_saw: "an error that names it, no acknowledgement; verifies go on",
    });
}

#[test]
fn alert_rules_of_a_cluster_name_metrics_that_exist() {
    let Some(etcd) = Etcd::start("alert_rules_of_a_cluster_name_metrics_that_exist", 1) else { return };
    let scene = Scene::new(etcd);
    scene.migrated();
    let one = scene.served(&mut scene.command("one", &["--metrics", "127.0.0.1:0"]));
    let ready = one.process.output();
    let (_, metrics) = ready.split_once("\"metrics\":[\"").expect("the address of the metrics");
    let urls = [
        format!("http://{}/metrics", metrics.split('"').next().unwrap()),
        scene.etcd.urls()[0].clone() + "/metrics",
    ];
    let page = urls.map(|url| run("curl", ["-sf", &url], b"").stdout).concat();
    let rules = std::fs::read_to_string(workspace().join("tksign-bin/packaging/alerts-etcd.yml")).unwrap();
    let mut named = 0;
    for rule in rules.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let names =
            rule.split(|c| !word(c)).filter(|name| name.starts_with("tksign_") || name.starts_with("etcd_"));
        for name in names {
            assert!(page.contains(&format!("\n# TYPE {name} ")), "{name} is not in:\n{page}");
            named += 1;
        }
    }
    assert_eq!(named, 4);
}
