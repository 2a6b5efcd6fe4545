use std::time::Duration;

use testkit::etcd::{Etcd, Setup};
use tksign::store::etcd::{Cluster, Etcd as Store, Login, Space};
use tksign::store::{Change, Op, Store as _, StoreError, Table};

use crate::scene::{Scene, awaited};

const PASSWORD: &str = "correct-horse-battery-staple";
/// Seconds that a token of etcd lives here after it was last used.
const TTL: &str = "1";

/// A cluster of one that asks for a login: `tksign` may read and write the store's keys and nothing
/// else.
fn cluster(test: &str) -> Option<Etcd> {
    let args = ["--auth-token", "simple", "--auth-token-ttl", TTL].map(str::to_owned).to_vec();
    let mut etcd = Etcd::start_as(test, 1, &Setup { args, ..Setup::default() })?;
    let say = |etcd: &Etcd, args: &str| {
        let said = etcd.control(&[0], &args.split(' ').collect::<Vec<_>>());
        assert!(!said.contains("Error"), "{args}: {said}");
    };
    say(&etcd, "user add root:root");
    say(&etcd, "user grant-role root root");
    say(&etcd, "role add store");
    say(&etcd, "role grant-permission --prefix store readwrite tksign/");
    say(&etcd, "user add tksign:later");
    say(&etcd, "user grant-role tksign store");
    say(&etcd, "auth enable");
    etcd.control_with(&["--user", "root:root"]);
    password(&etcd, PASSWORD);
    Some(etcd)
}

fn password(etcd: &Etcd, new: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args([&format!("--endpoints={}", etcd.urls()[0]), "--user", "root:root"]);
    command.args(["user", "passwd", "--interactive=false", "tksign"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{new}").unwrap();
    assert!(child.wait().unwrap().success());
}

fn scene(etcd: Etcd) -> Scene {
    let mut scene = Scene::new(etcd);
    scene.dir.write("password", 0o400, format!("{PASSWORD}\n"));
    let file = scene.path("password");
    scene.args = ["--etcd-user", "tksign", "--etcd-password-file", &file].map(str::to_owned).to_vec();
    scene
}

/// Longer than a token lives: every one that nobody has used since is gone.
fn outlive() {
    std::thread::sleep(Duration::from_secs(TTL.parse::<u64>().unwrap() * 3));
}

/// One connection keeps asking every second, so its tokens live; the writer's and the watch's end.
#[test]
fn a_signer_logs_in_again_when_its_token_has_ended() {
    let Some(etcd) = cluster("a_signer_logs_in_again_when_its_token_has_ended") else { return };
    let mut scene = scene(etcd);
    scene.migrated();
    let one = scene.serve("one");
    scene.join("two");
    let two = scene.serve("two");
    for round in 0..3 {
        let user = format!("user:{round}");
        let head = scene.revoke("two", &two, &user);
        one.await_head("the other's", |other| other.state == head.state);
        outlive();
    }
    // The watch is begun anew with a token that has ended long ago, and so is the lease kept.
    scene.etcd.kill(0);
    scene.etcd.restart(0);
    // Simple tokens live in a member's memory: with it every login has gone.
    for name in ["two", "one"] {
        let again = || {
            let done = scene.run(name, "revoke subject", &["--tenant", "acme", "--subject", "user:after"]);
            (done.code == Some(0)).then_some(())
        };
        awaited(again).expect("writes again");
    }
    let before = two.await_head("a head", |_| true);
    let head = scene.revoke("one", &one, "user:last");
    assert_ne!(before.state, head.state);
    two.await_head("the other's", |other| other.state == head.state);
    for served in [&one, &two] {
        let said = served.process.output();
        assert!(!said.contains(PASSWORD), "{said}");
        let args = std::fs::read(format!("/proc/{}/cmdline", served.process.id())).unwrap();
        assert!(!args.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    }
}

/// The same at the store itself, where nothing else keeps a token alive: every thread's own ends.
#[test]
fn every_connection_of_a_store_logs_in_for_itself() {
    let Some(etcd) = cluster("every_connection_of_a_store_logs_in_for_itself") else { return };
    let login = Login { name: "tksign".to_owned(), password: PASSWORD.to_owned().into() };
    let cluster = Cluster { urls: etcd.urls(), login: Some(login), tls: None };
    assert!(!format!("{cluster:?}").contains(PASSWORD));
    let mut store = Store::create(&cluster, Space::new("tksign", "one").unwrap()).unwrap();
    store.on_news(Box::new(|| ()));
    let mut other = Store::open(&cluster, Space::new("tksign", "two").unwrap()).unwrap();
    let write = |store: &mut Store, n: u8| {
        store.begin()?;
        let ops = vec![Op::Put(Table::Keys, vec![n], vec![n])];
        store.apply(&Change { ops, ..Change::default() }).map_err(StoreError::from)?;
        store.commit()
    };
    // Each waits for as long as a machine is busy: what never comes is what counts.
    for n in 0..3u8 {
        outlive();
        awaited(|| write(&mut store, n).ok()).expect("it is written");
        let read = awaited(|| {
            other.begin().unwrap();
            other.get(Table::Keys, &[n]).ok().flatten()
        });
        assert_eq!(read, Some(vec![n]));
        awaited(|| other.cut_off().is_none().then_some(())).expect("it is heard of");
        let leads = awaited(|| {
            store.begin().unwrap();
            store.term()
        });
        assert!(leads.is_some(), "its lease is kept");
    }
}

#[test]
fn a_wrong_login_is_told_at_once_and_without_the_password() {
    let Some(etcd) = cluster("a_wrong_login_is_told_at_once_and_without_the_password") else { return };
    let mut scene = scene(etcd);
    scene.migrated();
    scene.dir.write("wrong", 0o400, "a-guess-that-is-wrong");
    let file = scene.path("wrong");
    let named = std::mem::take(&mut scene.args);
    let told = scene.refused("one");
    assert!(told.contains("asks for a login: --etcd-user"), "{told}");
    scene.args = ["--etcd-user", "tksign", "--etcd-password-file", &file].map(str::to_owned).to_vec();
    let told = scene.refused("one");
    assert!(told.contains("goes to etcd in clear"), "{told}");
    assert!(told.contains("authentication failed, invalid user ID or password"), "{told}");
    assert!(!told.contains("a-guess"), "{told}");
    // Another prefix is not this user's.
    scene.args = [&named[..], &["--etcd-prefix".to_owned(), "elsewhere".to_owned()]].concat();
    let told = scene.refused("one");
    assert!(told.contains("permission denied"), "{told}");
    // A password that is changed while a signer serves: what it knows is told, and it writes no more.
    scene.args = named;
    let one = scene.serve("one");
    scene.revoke("one", &one, "user:1");
    password(&scene.etcd, "another-one");
    outlive();
    let refused = || {
        let done = scene.run("one", "revoke subject", &["--tenant", "acme", "--subject", "user:2"]);
        (done.code != Some(0)).then_some(done.stderr)
    };
    let told = awaited(refused).expect("it writes no more");
    assert!(!told.contains(PASSWORD), "{told}");
    assert!(!one.process.output().contains(PASSWORD));
}
