//! A signer, the host of its feed, the service under three policies, and one that holds delegated keys,
//! each with a clock that the test moves, a folder that can be cleaned, and a disk that can fill up.

mod disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Answer, Clock, Proxy, Service, client, example, revoke, signer, text, until};
use testkit::signer::{Running, With, workspace};
use tkcore::protocol::{Bytes, Expiry, Mint, MintCaveat, Permit};
use tkcore::{KeyClass, Name, TokenBuf};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Remote, Trust};

use disk::Disk;

pub(crate) fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// The columns of the table, with the switches of the service.
const POLICIES: [(&str, &[&str]); 3] =
    [("refuse", &[]), ("ask", &["--when-stale", "ask"]), ("grace", &["--read-grace", "900"])];
/// The last column: another service, whose client may not ask about tokens, so that all it knows of a
/// revocation it has from the feed.
const DELEGATED: &str = "delegated";

/// A mirror, as a proxy in front of the signer's public listener.
const MIRROR: &str = "worker_processes 1; events { worker_connections 64; } http { access_log off; \
    server { listen LISTEN; location /v1/feed/ { proxy_pass http://PUBLIC; proxy_read_timeout 70s; } } }";

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
    stock: Vec<Tokens>,
    /// Those that every service has decided about.
    known: Tokens,
}

/// One for each kind of service: both are treated alike.
#[derive(Clone)]
pub(crate) struct Tokens {
    ordinary: String,
    delegated: String,
}

struct Instance {
    program: PathBuf,
    has_keys: bool,
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
        let instance = |name: &str, program: PathBuf, key: &Path, switches: &[&str]| {
            let disk = Disk::small(signer.dir().join(name));
            let folder = disk.at.join("feed");
            let arguments = ["--trust", text(&trust), "--client-key", text(key), "--state", text(&folder)];
            let arguments = arguments.iter().chain(switches).map(|word| (*word).to_owned()).collect();
            Instance { program, has_keys: name == DELEGATED, arguments, folder, disk, service: None }
        };
        let policies = POLICIES.iter().map(|(name, switches)| {
            let key = client(&signer, &format!("{name}.key"), "verify", &[]);
            instance(name, env!("CARGO_BIN_EXE_sync-example").into(), &key, switches)
        });
        signer.must("keys create", &["--tenant", "acme", "--audience", "builds", "--delegable"]);
        let key = client(&signer, "builds.key", "keys", &["--audience", "builds"]);
        let secret = signer.dir().write("builds.secret", 0o600, [0x5e; 32]);
        // Not on the disk that fills up: what is shown is the feed's folder.
        let keys = signer.dir().join("builds.keys");
        let switches = ["--keys", text(&keys), "--secret", text(&secret)];
        let delegated = instance(DELEGATED, example("delegated-example"), &key, &switches);
        let services = policies.chain([delegated]).collect();
        let key = ClientKey::read(&client(&signer, "minter.key", "mint", &[])).unwrap();
        let minter = Remote::new(&mirrored.signers, key).unwrap();
        let stock = (0..STOCK).map(|_| Tokens::mint(&minter)).collect();
        let known = Tokens::mint(&minter);
        let mut world = Self { signer, feed_host, clock, services, stock, known };
        world.restart_services();
        world.until_fresh();
        world.decided_by_all(&world.known.clone());
        Some(world)
    }

    /// A row of the table: what each service says about a token it knows and one it does not. All are
    /// asked at once, since a signer that hangs lets them wait.
    pub(crate) fn row(&mut self, what: &str) -> String {
        let (known, new) = (&self.known, &self.stock.pop().unwrap());
        let cells: String = std::thread::scope(|scope| {
            let asked = self
                .services
                .iter()
                .map(|instance| [known, new].map(|tokens| scope.spawn(move || instance.says(tokens))));
            let asked: Vec<_> = asked.collect();
            let said = asked.into_iter().map(|pair| pair.map(|cell| cell.join().unwrap()));
            said.map(|[known, new]| format!(" {known} | {new} |")).collect()
        });
        format!("| {what} |{cells} {} |\n", self.health())
    }

    /// The same about one known token.
    pub(crate) fn row_of(&self, what: &str, tokens: &Tokens) -> String {
        let cells = self.services.iter().map(|instance| format!(" {} | |", instance.says(tokens)));
        format!("| {what} |{} {} |\n", cells.collect::<String>(), self.health())
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
    pub(crate) fn known_to_all(&mut self) -> Tokens {
        let tokens = self.stock.pop().unwrap();
        self.decided_by_all(&tokens);
        tokens
    }

    fn decided_by_all(&self, tokens: &Tokens) {
        self.services.iter().for_each(|instance| instance.until("granted", tokens));
    }

    pub(crate) fn until_revoked(&self, tokens: &Tokens) {
        self.services.iter().for_each(|instance| instance.until("401 `revoked`", tokens));
    }

    pub(crate) fn until_fresh(&self) {
        self.until("fresh", |answer, _| answer.starts_with("fresh"));
    }

    /// Waits until every service has these words in its log about its health.
    pub(crate) fn until_health_says(&self, words: &str) {
        self.until(words, |_, log| log.contains(words));
    }

    fn until(&self, what: &str, wanted: impl Fn(&str, &str) -> bool) {
        for service in (0..self.services.len()).map(|at| self.service(at)) {
            until(what, || {
                let answer = service.call("GET", "/healthz", None).body;
                let log = service.process.output();
                if wanted(&answer, &log) { Ok(()) } else { Err(log) }
            });
        }
    }

    pub(crate) fn revoke(&self, tokens: &Tokens) {
        revoke(&self.signer, &tokens.ordinary);
        revoke(&self.signer, &tokens.delegated);
    }

    /// Stops the signer where it stands: it accepts connections and says nothing.
    pub(crate) fn hang_signer(&self, hangs: bool) {
        let (signal, signer) = (if hangs { "-STOP" } else { "-CONT" }, self.signer.id().to_string());
        assert!(Command::new("kill").args([signal, &signer]).status().unwrap().success());
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
            command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", text(&instance.program)]);
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

impl Tokens {
    fn mint(minter: &Remote) -> Self {
        let mut mint = Mint {
            tenant: Name::new("acme").unwrap(),
            audience: None,
            class: KeyClass::Ordinary,
            subject: None,
            label: None,
            expiry: Expiry::After(8 * 3600),
            caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,upload".to_vec()))],
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        };
        let token = |mint: &Mint| {
            let minted = minter.mint(mint, request_id().unwrap()).unwrap();
            TokenBuf::from_v2(minted.token.expose().to_vec()).unwrap().to_text().as_str().to_owned()
        };
        let ordinary = token(&mint);
        (mint.audience, mint.class) = (Some(Name::new("builds").unwrap()), KeyClass::Delegable);
        Self { ordinary, delegated: token(&mint) }
    }
}

impl Instance {
    /// The verdict about a request that no grace excepts, but for the policy of that name.
    fn says(&self, tokens: &Tokens) -> String {
        let (method, path, token) = match self.has_keys {
            true => ("PUT", "/acme/artifacts/app", &tokens.delegated),
            false => ("GET", "/acme/projects/7", &tokens.ordinary),
        };
        let answer = self.service.as_ref().unwrap().call(method, path, Some(token));
        match answer.status {
            200 => "granted".to_owned(),
            status => format!("{status} `{}`", code(&answer)),
        }
    }

    /// Waits for a verdict: what the service must learn comes over the feed.
    fn until(&self, verdict: &str, tokens: &Tokens) {
        until(verdict, || match self.says(tokens) {
            said if said == verdict => Ok(()),
            said => Err(said),
        });
    }
}

/// Why not: a field of the one service's answer, the first word of the other's.
fn code(answer: &Answer) -> String {
    match serde_json::from_str::<serde_json::Value>(&answer.body) {
        Ok(body) => body["error"].as_str().unwrap().to_owned(),
        Err(_) => answer.body.split(':').next().unwrap_or_default().to_owned(),
    }
}

/// Compares the rows with those in a guide, between two marks; with `TK_WRITE=1` writes them there.
pub(crate) fn compare(guide: &str, rows: &[String]) {
    const BEGIN: &str = "<!-- measured: sync/tests/outage.rs -->\n";
    const END: &str = "<!-- measured: end -->\n";
    let path = workspace().join(guide);
    let columns = POLICIES.iter().map(|(name, _)| *name).chain([DELEGATED]);
    let columns: String = columns.map(|name| format!(" {name}: known | new |")).collect();
    let table = format!("| down |{columns} health |\n| --- |{}\n{}", " --- |".repeat(9), rows.concat());
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
