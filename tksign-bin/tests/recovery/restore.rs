//! A restore takes back nothing that was acknowledged.

use std::time::{Duration, Instant};

use testkit::http::{Reply, Server};
use testkit::process::{Finished, PATIENCE, Process};
use tkcore::revocation::Head;

use crate::scene::Scene;

/// A signer whose database was copied, and what happened after the copy was made.
struct After {
    scene: Scene,
    newest: String,
    /// What [`After::mirror`] shows.
    older: String,
    mirror: Mirror,
    /// A service's `tkverify refresh`, which goes on through everything, and its folder.
    follower: (Process, String),
    removed: String,
    minter: String,
    verifier: String,
    retired: String,
}

/// Of a revoked token, and of one whose key was retired: the signer knows no such key any more.
const AFTERWARDS: [Option<i32>; 2] = [Some(13), Some(11)];

/// A mirror whose copy is authentic and ends where the database's does.
struct Mirror {
    _server: Server,
    /// A trust file that names it alone.
    trust: String,
}

impl Mirror {
    fn start(scene: &Scene) -> Self {
        let root = scene.path("mirror");
        scene.signer.must("publish", &[&root]);
        let server = Server::start(move |request| match std::fs::read(format!("{root}{}", request.path)) {
            Ok(bytes) => Reply::ok(bytes),
            Err(_) => Reply::status(404),
        });
        let trust = std::fs::read_to_string(scene.signer.trust()).unwrap();
        let mut trust: serde_json::Value = serde_json::from_str(&trust).unwrap();
        trust["feeds"] = [server.url()].into();
        scene.signer.dir().write("mirrored.json", 0o644, trust.to_string());
        Self { _server: server, trust: scene.path("mirrored.json") }
    }
}

fn after() -> After {
    happened(Scene::with(&[]), |_, _| {})
}

/// The same with an hour between the copy and the loss, by the clock of all processes.
fn after_an_hour(test: &str) -> Option<After> {
    Some(happened(Scene::by_own_clock(test)?, Scene::set_clock))
}

/// `passes` lets the time be so many minutes after the copy was made.
fn happened(scene: Scene, passes: impl Fn(&Scene, i64)) -> After {
    scene.key("acme");
    let retired = scene.key("beta");
    let verifier = scene.client("verifier.key", "verify");
    let removed = scene.client("removed.key", "verify");
    let minter = scene.client("minter.key", "mint");
    let early = scene.mint("acme", "early");
    let late = scene.mint("acme", "late");
    scene.mint("acme", "alive");
    scene.mint("beta", "beta");
    scene.signer.must("revoke token", &[&early]);
    let (newest, older) = (scene.path("newest"), scene.path("older"));
    let follower = (scene.follow(&scene.path("followed")), scene.path("followed"));
    // The step of what was just revoked is in every folder from here on.
    scene.refreshed_past(&newest, "1.0");
    let mirror = Mirror::start(&scene);
    assert_eq!(scene.refresh_from(&mirror.trust, &older).code, Some(0));
    scene.signer.must("backup", &[&scene.path("copy.db")]);
    // From here on the copy knows nothing. A head with each step is out before the machine is lost:
    // the signer itself refuses from the commit on, the folder from the step that follows it.
    let before = scene.refreshed(&newest);
    passes(&scene, 20);
    scene.signer.must("revoke token", &[&late]);
    let between = scene.refreshed_past(&newest, &before);
    passes(&scene, 40);
    scene.signer.must("keys retire", &[&retired]);
    let between = scene.refreshed_past(&newest, &between);
    passes(&scene, 61);
    scene.signer.must("clients remove", &[&removed]);
    let last = scene.mint("acme", "last");
    scene.signer.must("revoke token", &[&last]);
    scene.refreshed_past(&newest, &between);
    let codes = [("late", "acme"), ("beta", "beta")]
        .map(|(token, tenant)| scene.check("verifier.key", token, tenant, &newest).code);
    assert_eq!(codes, AFTERWARDS, "{}", scene.check("verifier.key", "late", "acme", &newest).stderr);
    After { scene, newest, older, mirror, follower, removed, minter, verifier, retired }
}

#[track_caller]
fn says(done: &Finished, code: i32, what: &str) {
    let all = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, Some(code), "{all}");
    assert!(all.contains(what), "\"{what}\" is not in: {all}");
}

impl After {
    /// The copy takes the place of the database, and a server starts over it.
    fn come_back(&mut self, feed: Option<&str>) {
        self.scene.signer.stop();
        self.scene.restore(&self.scene.path("copy.db"));
        self.serve(feed);
    }

    fn serve(&mut self, feed: Option<&str>) {
        self.scene
            .signer
            .with(feed.map_or(Vec::new(), |feed| vec!["--feed-folder".to_owned(), feed.to_owned()]));
        self.scene.signer.serve();
    }

    /// PR-49: nothing is changed or published; verifies are answered to who was live.
    fn only_reads(&self) {
        let scene = &self.scene;
        let status = scene.signer.run("status", &["--json"], b"");
        says(&status, 25, "\"mode\":\"read-only\"");
        says(&scene.signer.run("mint", &["--tenant", "acme", "--expires", "1h"], b""), 12, "behind");
        says(&scene.signer.run("revoke everything", &["--before", "now"], b""), 12, "behind");
        says(&scene.signer.run("clients confirm", &[&self.removed], b""), 12, "behind");
        assert_ne!(scene.refresh(&scene.path("nothing-is-published")).code, Some(0));
        assert_eq!(scene.check("verifier.key", "alive", "acme", &self.newest).code, Some(0));
        assert_eq!(scene.check("verifier.key", "late", "acme", &self.newest).code, Some(13));
        // A client that was removed is not answered, although the store still has it.
        assert_eq!(scene.check("removed.key", "alive", "acme", &self.newest).code, Some(14));
    }

    /// The service that was there all the time goes on with the new epoch.
    fn follower_has_it(&self) {
        let (process, folder) = &self.follower;
        let epoch = || {
            let head = std::fs::read(format!("{folder}/head")).ok()?;
            Head::parse_unverified(&head).ok().map(|head| head.position.epoch)
        };
        // It waits longer and longer between its tries while nothing is published, up to a minute, and a
        // try may take as long where the machine does much else.
        let began = Instant::now();
        while epoch() != Some(2) {
            assert!(began.elapsed() < 10 * PATIENCE, "{}", process.output());
            // Another process writes the folder, and says nothing when all is well.
            std::thread::sleep(Duration::from_millis(20));
        }
        let checked = self.scene.check("verifier.key", "late", "acme", folder);
        assert_eq!(checked.code, Some(13), "{}", checked.stderr);
    }

    /// The end of it: one history, nothing lives again, who may have been removed waits.
    fn is_whole(&self) {
        let scene = &self.scene;
        for folder in [&self.newest, &self.older, &scene.path("empty")] {
            let position = scene.refreshed(folder);
            assert!(position.starts_with("2."), "{folder}: {position}");
            assert_eq!(scene.check("verifier.key", "early", "acme", folder).code, Some(13));
            assert_eq!(scene.check("verifier.key", "late", "acme", folder).code, Some(13));
            assert_eq!(scene.check("verifier.key", "beta", "beta", folder).code, Some(11));
            assert_eq!(scene.check("verifier.key", "alive", "acme", folder).code, Some(0));
            assert_eq!(scene.check("removed.key", "alive", "acme", folder).code, Some(14));
        }
        self.follower_has_it();
        let keys = scene.json("keys list", &[]);
        let beta = keys.iter().find(|key| key["key"] == *self.retired).unwrap();
        assert_eq!(beta["state"], "retired");
        assert_eq!(scene.state_of(&self.removed), "suspended");
        assert_eq!(scene.state_of(&self.minter), "suspended");
        assert_eq!(scene.state_of(&self.verifier), "active");
        // The command line's own keys for minting and revoking wait as well.
        says(&scene.signer.run("mint", &["--tenant", "acme", "--expires", "1h"], b""), 10, "suspended");
        for client in scene.json("clients list", &[]) {
            if client["state"] == "suspended" && client["key"] != *self.removed {
                scene.signer.must("clients confirm", &[client["key"].as_str().unwrap()]);
            }
        }
        scene.signer.must("clients remove", &[&self.removed]);
        scene.mint("acme", "after");
        scene.signer.must("audit verify", &[]);
        let lines = scene.signer.must("audit tail", &["--lines", "50"]);
        assert!(lines.contains("restore-merge") && lines.contains("steps are missing"), "{lines}");
    }
}

fn un_revokes_nothing(mut after: After) {
    let newest = after.newest.clone();
    after.come_back(Some(&newest));
    after.only_reads();
    after.scene.signer.stop();
    let check = after.scene.restore_check(Some(&newest), &[]);
    says(&check, 25, "steps are missing");
    says(&check, 25, "NOT live at the last note");
    says(&check, 25, "lost by a merge    nothing");
    says(&after.scene.merge(Some(&newest), &[]), 0, "2.0");
    // Done twice, it finds nothing to do.
    says(&after.scene.merge(Some(&newest), &[]), 10, "behind nothing");
    after.serve(Some(&newest));
    after.is_whole();
}

#[test]
fn a_restore_un_revokes_nothing_and_brings_no_client_back() {
    un_revokes_nothing(after());
}

#[test]
fn a_restore_to_an_hour_ago_un_revokes_nothing_and_brings_no_client_back() {
    if let Some(after) = after_an_hour("a_restore_to_an_hour_ago") {
        un_revokes_nothing(after);
    }
}

fn hides_nothing(mut after: After) {
    let (older, newest) = (after.older.clone(), after.newest.clone());
    after.come_back(Some(&older));
    after.only_reads();
    after.scene.signer.stop();
    says(&after.scene.restore_check(Some(&older), &[]), 25, "the high-water file at 1.");
    says(&after.scene.merge(Some(&older), &[]), 25, "revocations would be lost");
    says(&after.scene.merge(None, &[]), 25, "revocations would be lost");
    // A verifier's folder has what the mirror hides.
    says(&after.scene.merge(Some(&newest), &[]), 0, "2.0");
    after.serve(Some(&newest));
    after.is_whole();
}

#[test]
fn a_mirror_that_hides_the_newest_head_hides_nothing() {
    let after = after();
    // What it shows is authentic and as old as the copy.
    assert_eq!(after.scene.refresh_from(&after.mirror.trust, &after.older).code, Some(0));
    hides_nothing(after);
}

#[test]
fn a_mirror_that_hides_the_last_hour_hides_nothing() {
    if let Some(after) = after_an_hour("a_mirror_that_hides_the_last_hour") {
        // By now its head is older than a head may be, and the folder has nothing else.
        says(&after.scene.refresh_from(&after.mirror.trust, &after.older), 23, "");
        hides_nothing(after);
    }
}

#[test]
fn the_feed_tells_when_the_high_water_file_was_lost_as_well() {
    let mut after = after();
    let newest = after.newest.clone();
    std::fs::remove_file(after.scene.path("state/high-water")).unwrap();
    after.come_back(Some(&newest));
    says(&after.scene.signer.run("status", &[], b""), 25, "the high-water file is gone");
    // Nobody knows who was live, so nobody is answered.
    assert_eq!(after.scene.check("verifier.key", "alive", "acme", &newest).code, Some(14));
    after.scene.signer.stop();
    // Without file and folder nothing speaks for the copy.
    says(&after.scene.merge(None, &[]), 25, "the high-water file is gone");
    says(&after.scene.merge(Some(&newest), &[]), 0, "2.0");
    after.serve(Some(&newest));
    assert_eq!(after.scene.state_of(&after.verifier), "suspended");
    after.scene.signer.must("clients confirm", &[&after.verifier]);
    after.is_whole();
}

#[test]
fn a_loss_is_accepted_only_aloud() {
    let mut after = after();
    after.come_back(None);
    after.scene.signer.stop();
    says(&after.scene.merge(None, &[]), 25, "--accept-loss");
    says(&after.scene.merge(None, &["--accept-loss"]), 0, "2.0");
    after.serve(None);
    let lines = after.scene.signer.must("audit tail", &[]);
    assert!(lines.contains("accepted-loss"), "{lines}");
    // What was lost is lost, and what the copy had is not.
    let folder = after.scene.path("accepted");
    assert!(after.scene.refreshed(&folder).starts_with("2."));
    assert_eq!(after.scene.check("verifier.key", "early", "acme", &folder).code, Some(13));
    assert_eq!(after.scene.check("verifier.key", "late", "acme", &folder).code, Some(0));
    assert_eq!(after.scene.check("removed.key", "alive", "acme", &folder).code, Some(14));
}

#[test]
fn a_list_that_is_not_the_next_one_ends_no_restore() {
    let mut after = after();
    let newest = after.newest.clone();
    // Signed by the root keys, and of the epoch that is in force.
    let (draft, signed) = (after.scene.path("stray.unsigned"), after.scene.path("stray.signed"));
    after.scene.signer.must("keys publication prepare", &["--out", &draft]);
    after.scene.sign(&draft, &signed);
    after.come_back(Some(&newest));
    after.scene.signer.stop();
    let refused = after.scene.restore_check(Some(&newest), &["--merge", "--key-list", &signed]);
    says(&refused, 10, "lies above all that was published");
    says(&after.scene.restore_check(Some(&newest), &[]), 25, "steps are missing");
    // A folder that no signature vouches for is told, and does not open the store.
    let head = format!("{newest}/head");
    let mut bytes = std::fs::read(&head).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&head, bytes).unwrap();
    says(&after.scene.restore_check(Some(&newest), &[]), 22, "cannot be believed");
}

#[test]
fn a_crash_is_no_restore() {
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let folder = scene.path("feed");
    for n in 0..4 {
        let lineage = scene.mint("acme", &format!("token-{n}"));
        scene.signer.must("revoke token", &[&lineage]);
        scene.refreshed(&folder);
        scene.signer.kill();
        scene.signer.with(vec!["--feed-folder".to_owned(), folder.clone()]);
        scene.signer.serve();
        assert_eq!(scene.json("status", &[])[0]["mode"], "serving");
    }
}

#[test]
fn a_backup_is_whole_private_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::with(&[]);
    let to = scene.path("copy.db");
    scene.signer.must("backup", &[&to]);
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o600);
    says(&scene.signer.run("backup", &[&to], b""), 24, "is there already");
    says(&scene.signer.run("backup", &["/proc/none/copy.db"], b""), 24, "/proc/none");
}
