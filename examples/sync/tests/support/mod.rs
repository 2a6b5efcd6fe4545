//! A signer, the host of its feed, and the service under three policies, each with a clock that the
//! test moves, a folder that can be cleaned, and a disk that can fill up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Answer, Clock, Proxy, Service, client, revoke, signer, text, until};
use testkit::signer::{Running, With, workspace};
use tkcore::protocol::{Bytes, Expiry, Mint, MintCaveat, Permit};
use tkcore::{KeyClass, Name, TokenBuf};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Remote, Trust};

pub(crate) fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// The columns of the table, with the switches of the service.
const POLICIES: [(&str, &[&str]); 3] =
    [("refuse", &[]), ("ask", &["--when-stale", "ask"]), ("grace", &["--read-grace", "900"])];

/// A mirror, as a proxy in front of the signer's public listener.
const MIRROR: &str = "worker_processes 1; events { worker_connections 64; } http { access_log off; \
    server { listen LISTEN; location /v1/feed/ { proxy_pass http://PUBLIC; proxy_read_timeout 70s; } } }";

const PATH: &str = "/acme/projects/7";

/// Whose clock the test moves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clocks {
    /// Time passes: the signer's as well.
    All,
    /// The clock of the service's machine is wrong.
    OfTheService,
}

pub(crate) struct World {
    pub(crate) signer: Running,
    pub(crate) feed_host: Proxy,
    pub(crate) clock: Clock,
    services: Vec<Instance>,
    /// Tokens that nobody has seen, minted while the signer was there.
    stock: Vec<String>,
    /// One that every service has decided about.
    known: String,
}

struct Instance {
    arguments: Vec<String>,
    folder: PathBuf,
    disk: Disk,
    /// None only while it is restarted.
    service: Option<Service>,
}

impl World {
    /// `None` when nginx or faketime is missing.
    pub(crate) fn start(test: &str, clocks: Clocks) -> Option<Self> {
        let mut signer = signer();
        // In its own folder, since its sandbox lets it read nothing else.
        let clock = Clock::new(test, Path::new(&signer.state()).join("clock"))?;
        if clocks == Clocks::All {
            signer.stop();
            signer.set_with(With { arguments: Vec::new(), environment: clock.environment() });
            signer.serve();
        }
        let feed_host = Proxy::nginx(test, &MIRROR.replace("PUBLIC", signer.public()))?;
        // The services call the signer itself, and have the feed from its host alone.
        let mut mirrored = Trust::from_file(&signer.trust()).unwrap();
        mirrored.feeds = vec![format!("http://{}", feed_host.listen())];
        let trust = signer.dir().write("mirrored.json", 0o644, mirrored.to_json());
        let services = POLICIES.iter().map(|(name, switches)| {
            let key = client(&signer, &format!("{name}.key"), "verify", &[]);
            let disk = Disk::small(signer.dir().join(name));
            let folder = disk.at.join("feed");
            let arguments = ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&folder)];
            let arguments = arguments.iter().chain(*switches).map(|word| (*word).to_owned()).collect();
            Instance { arguments, folder, disk, service: None }
        });
        let services = services.collect();
        let key = ClientKey::read(&client(&signer, "minter.key", "mint", &[])).unwrap();
        let minter = Remote::new(&mirrored.signers, key).unwrap();
        let stock = (0..STOCK).map(|_| mint(&minter)).collect();
        let known = mint(&minter);
        let mut world = Self { signer, feed_host, clock, services, stock, known };
        world.restart_services();
        world.until_fresh();
        world.decided_by_all(&world.known.clone());
        Some(world)
    }

    /// A row of the table: what each service says about a token it knows and one it does not.
    pub(crate) fn row(&mut self, what: &str) -> String {
        let known = self.known.clone();
        let cells: String = (0..self.services.len())
            .map(|at| {
                let new = self.stock.pop().unwrap();
                format!(" {} | {} |", self.says(at, &known), self.says(at, &new))
            })
            .collect();
        format!("| {what} |{cells} {} |\n", self.health())
    }

    /// The same about one known token.
    pub(crate) fn row_of(&self, what: &str, token: &str) -> String {
        let cells = (0..self.services.len()).map(|at| format!(" {} | |", self.says(at, token)));
        format!("| {what} |{} {} |\n", cells.collect::<String>(), self.health())
    }

    fn says(&self, at: usize, token: &str) -> String {
        let answer = self.service(at).get(PATH, token);
        match answer.status {
            200 => "granted".to_owned(),
            status => format!("{status} `{}`", code(&answer)),
        }
    }

    /// Freshness, as all services say; they are asked in the same moment of the same clock.
    fn health(&self) -> String {
        let word = |at| {
            let answer = self.service(at).call("GET", "/healthz", None);
            answer.body.split(&[';', '\n']).next().unwrap_or_default().to_owned()
        };
        let first = word(0);
        for at in 1..self.services.len() {
            assert_eq!(word(at), first, "the policy does not change what is known");
        }
        first
    }

    fn service(&self, at: usize) -> &Service {
        self.services[at].service.as_ref().unwrap()
    }

    /// A token that every service has decided about.
    pub(crate) fn known_to_all(&mut self) -> String {
        let token = self.stock.pop().unwrap();
        self.decided_by_all(&token);
        token
    }

    fn decided_by_all(&self, token: &str) {
        for at in 0..self.services.len() {
            self.service(at).until(200, PATH, token);
        }
    }

    pub(crate) fn until_revoked(&self, token: &str) {
        for at in 0..self.services.len() {
            self.service(at).until(401, PATH, token);
        }
    }

    pub(crate) fn until_fresh(&self) {
        self.until_health("fresh", |body| body.starts_with("fresh"));
    }

    /// Waits until the health of every service is as wanted.
    pub(crate) fn until_health(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        for at in 0..self.services.len() {
            until(what, || match self.service(at).call("GET", "/healthz", None).body {
                body if wanted(&body) => Ok(()),
                body => Err(body),
            });
        }
    }

    pub(crate) fn revoke(&self, token: &str) {
        revoke(&self.signer, token);
    }

    /// Something happens in the feed: a new head is signed now and not at the next heartbeat.
    pub(crate) fn stir(&mut self) {
        let token = self.stock.pop().unwrap();
        self.revoke(&token);
    }

    pub(crate) fn restart_services(&mut self) {
        for instance in &mut self.services {
            instance.service = None;
            // The signal of a limit on files is ignored, as a write past it is told by an error too.
            let mut command = Command::new("sh");
            command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sync-example")]);
            command.args(&instance.arguments).envs(self.clock.environment());
            let service = Service::from(&mut command);
            instance.disk.limit(service.process.id());
            instance.service = Some(service);
        }
    }

    /// Ends the services, as nothing may write a folder while it goes, and removes their folders.
    pub(crate) fn clean_folders(&mut self) {
        for instance in &mut self.services {
            instance.service = None;
            fs::remove_dir_all(&instance.folder).unwrap();
        }
    }

    pub(crate) fn fill_disks(&mut self) {
        for instance in &mut self.services {
            let id = instance.service.as_ref().map(|service| service.process.id());
            instance.disk.fill(id.unwrap());
        }
    }
}

/// More than any scenario shows.
const STOCK: usize = 40;

fn mint(minter: &Remote) -> String {
    let mint = Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: None,
        label: None,
        expiry: Expiry::After(8 * 3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action = read".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    };
    let minted = minter.mint(&mint, request_id().unwrap()).unwrap();
    TokenBuf::from_v2(minted.token.expose().to_vec()).unwrap().to_text().as_str().to_owned()
}

fn code(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

/// Where a service keeps its folder: a small file system of its own where the test may mount one;
/// elsewhere a limit on the size of files stands for the full disk.
struct Disk {
    at: PathBuf,
    mounted: bool,
    full: bool,
}

impl Disk {
    fn small(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&at).output();
        let mounted = mount.is_ok_and(|done| done.status.success());
        Self { at, mounted, full: false }
    }

    fn fill(&mut self, process: u32) {
        self.full = true;
        if self.mounted {
            let filled = fs::write(self.at.join("filling"), vec![0; 1024 * 1024]);
            assert!(filled.is_err(), "a small disk takes no more");
        }
        self.limit(process);
    }

    /// For a process that was started after the disk was full, too.
    fn limit(&self, process: u32) {
        if self.full && !self.mounted {
            let process = process.to_string();
            let done = Command::new("prlimit").args(["--pid", &process, "--fsize=0"]).status();
            assert!(done.is_ok_and(|status| status.success()), "prlimit, of util-linux");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}

/// Compares the rows with those in a guide, between two marks; with `TK_WRITE=1` writes them there.
pub(crate) fn compare(guide: &str, rows: &[String]) {
    const BEGIN: &str = "<!-- measured: sync/tests/outage.rs -->\n";
    const END: &str = "<!-- measured: end -->\n";
    let path = workspace().join(guide);
    let policies: String = POLICIES.iter().map(|(name, _)| format!(" {name}: known | new |")).collect();
    let table = format!("| down |{policies} health |\n| --- |{}\n{}", " --- |".repeat(7), rows.concat());
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (there, after) = rest.split_once(END).unwrap();
    if std::env::var("TK_WRITE").is_ok_and(|set| set == "1") {
        write_whole(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
    } else {
        assert_eq!(
            table, there,
            "{guide} says otherwise; if the new behaviour is right, TK_WRITE=1 writes it"
        );
    }
}

fn write_whole(path: &Path, text: &str) {
    let part = path.with_extension("part");
    fs::write(&part, text).unwrap();
    fs::rename(part, path).unwrap();
}
