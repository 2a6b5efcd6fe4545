use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgMatches, Command};
use tkcore::protocol::{Rate, StaticKeys};
use tkcore::{AuthorityId, Json};

use super::{Exit, Failure, Streams, control, follow, local, reach, restore, statics, values};
use crate::Litestream;
use crate::feed_tree::FeedTree;
use crate::fence;
use crate::host::{self, Address, BindError, Calls, Files, Inherited, Notify, Report, Sandbox};
use crate::serve::{self, Bound, Config};
use crate::service::{AuditNames, Options};
use crate::session::ServerKey;

const EXAMPLE: &str = "\
Example:
  tksign serve --dir state --secret-file secret --rpc 10.0.0.5:7300 --public 10.0.0.5:7301 \\
    --metrics 127.0.0.1:7302

An address is ADDRESS:PORT (port 0 takes a free one), unix:PATH, or systemd:NAME for a socket of a
.socket unit with FileDescriptorName=NAME. When it serves, it prints one line of JSON with all
addresses. SIGTERM and SIGINT stop it after what is under way.

Once it serves, it can open no file but those it needs, connect to nothing and run nothing
(Landlock, seccomp); a process that tries is ended by SIGSYS. `tksign doctor` shows what is in force.";

pub(super) fn describe() -> Command {
    let address = |name: &'static str, default: &'static str, help: &'static str| {
        let arg = values::many_arg(name, "ADDRESS", help).value_parser(|text: &str| text.parse::<Address>());
        if default.is_empty() { arg } else { arg.default_value(default) }
    };
    let command = reach::secret_args(Command::new("serve").about("Run the signer").after_help(EXAMPLE))
        .arg(values::dir_arg())
        .arg(restore::feed_folder_arg())
        .arg(values::flag(
            "follow",
            "Only verify and serve the feed, from a copy that replication keeps up to date",
        ))
        .arg(address("rpc", "127.0.0.1:7300", "Where services call; repeat for more"))
        .arg(address("public", "127.0.0.1:7301", "Where the feed, health and readiness are; repeat for more"))
        .arg(address("metrics", "", "Where metrics are; repeat for more"))
        .arg(values::path_arg("publish", "DIR", "Keep a folder with the feed as well, for any web server"))
        .arg(values::path_arg(
            "trust-out",
            "FILE",
            "Write a trust file with the addresses it listens on in fact",
        ))
        .arg(
            values::text_arg("ready-fd", "N", "Write the line of addresses to this file descriptor instead")
                .value_parser(clap::value_parser!(u32)),
        )
        .arg(
            values::text_arg("client-rate", "N", "Requests a second that each client may make on average")
                .value_parser(clap::value_parser!(u32).range(1..=1_000_000)),
        )
        .arg(values::many_arg(
            "authentication",
            "HEX",
            "A third party whose caveats count as authentication, for exchange; repeat for more",
        ))
        .arg(values::text_arg(
            "exchange-cap",
            "DURATION",
            "Longest life of a service token; a day by default",
        ))
        .arg(values::path_arg(
            "litestream-socket",
            "PATH",
            "Litestream's control socket: a revocation is acknowledged when the replica has it",
        ))
        .arg(values::flag("audit-names", "Write names into the audit log as they are, not as keyed hashes"))
        .arg(values::flag("no-sandbox", "Serve without Landlock and seccomp, where they stand in the way"));
    #[cfg(feature = "etcd")]
    let command = super::etcd::args(command);
    command
}

/// What is ready before the store is opened.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) ready: Option<File>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) report: Report,
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    if control::is_served(&folder) {
        return Err(Failure::new(
            Exit::Store,
            format!("a signer serves {} already", folder.display()),
            "stop that one first",
        ));
    }
    let secret = reach::secret(matches)?;
    let options = options(matches)?;
    let mut config = config(matches)?;
    let ready = ready_file(matches)?;
    // Its files are read before the sandbox closes them off.
    #[cfg(feature = "etcd")]
    let cluster = super::etcd::wanted(matches)?;
    let sandbox = (!values::set(matches, "no-sandbox")).then(|| sandbox(matches, &folder, &config));
    let mut report = host::harden();
    let runtime = local::runtime()?;
    // Before there is another thread: it is this one's, and of those that it starts.
    report = report.and(sandbox.as_ref().map_or_else(Sandbox::off, Sandbox::files));
    if values::set(matches, "follow") {
        let start = Start { config, ready, sandbox, report };
        return follow::run(matches, streams, secret, start, &runtime);
    }
    let feed = matches.get_one::<PathBuf>(restore::FEED_FOLDER).map(PathBuf::as_path);
    #[cfg(feature = "etcd")]
    let (signer, mirror) = match cluster {
        Some(place) => super::etcd::open(place, (&folder, feed), &secret, options)
            .map(|(signer, mirror)| (signer, Some(mirror)))?,
        None => (local::open(&folder, feed, &secret, options)?, None),
    };
    #[cfg(not(feature = "etcd"))]
    let signer = local::open(&folder, feed, &secret, options)?;
    if let Some(held) = &signer.service.read_only {
        let _ = writeln!(streams.stderr, "tksign: READ-ONLY: {}", held.why());
    }
    drop(secret);
    let served = runtime.block_on(async {
        let service = signer.service;
        let (keys, gauges, shown) = (service.clone(), service.clone(), service.clone());
        let key = ServerKey::new(move || keys.statics());
        let notify = config.notify.clone();
        let publishing =
            matches.get_one::<PathBuf>("publish").map(|to| publish(signer.feed.clone(), to.clone()));
        let mut outcome = Ok(());
        let (told, stdout) = (&mut outcome, &mut *streams.stdout);
        let served = serve::serve(
            &folder,
            &mut config,
            key,
            Arc::new(service.clone()),
            signer.feed,
            Box::new(move |page| {
                fence::gauges(&gauges, page);
                #[cfg(feature = "etcd")]
                mirror.iter().for_each(|mirror| super::etcd::metrics(mirror, page));
            }),
            || {
                shown.say_sandbox(&close_in(sandbox.as_ref(), report));
                |bound: Bound| {
                    *told = tell(matches, ready, stdout, &folder, &bound, &shown.static_keys());
                    notify.tell("READY=1\nSTATUS=serving");
                }
            },
        )
        .await;
        if let Some(publishing) = publishing {
            publishing.abort();
        }
        // The store is closed in any case: what was acknowledged is published first.
        service.stop().await;
        served.map_err(failure).and(outcome)
    });
    served?;
    let _ = writeln!(streams.stderr, "tksign: stopped");
    Ok(Exit::Ok)
}

/// Denies the process what it needs no more, and warns of what could not be denied.
pub(super) fn close_in(sandbox: Option<&Sandbox>, report: Report) -> Report {
    let report = sandbox.map(Sandbox::calls).into_iter().fold(report, Report::and);
    report.missing().for_each(|what| eprintln!("tksign: warning: {what}"));
    report
}

fn config(matches: &ArgMatches) -> Result<Config, Failure> {
    let list = |name| matches.get_many::<Address>(name).unwrap_or_default().cloned().collect();
    let rate = matches.get_one::<u32>("client-rate");
    let systemd =
        |error| Failure::new(Exit::Local, format!("systemd's sockets: {error}"), "look at the units");
    Ok(Config {
        rpc: list("rpc"),
        public: list("public"),
        metrics: list("metrics"),
        rate: rate.map(|each| Rate { per_second: *each, burst: each.saturating_mul(2) }),
        inherited: Inherited::from_environment().map_err(systemd)?,
        notify: Notify::from_environment().map_err(systemd)?,
    })
}

/// What is left to the process once it serves: its state, the folder it publishes to, and the
/// places of its sockets and its trust file.
fn sandbox(matches: &ArgMatches, folder: &Path, config: &Config) -> Sandbox {
    let parent = |path: &Path| path.parent().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
    let place = |path: &Path| parent(path).unwrap_or_else(|| PathBuf::from("."));
    let mut files = Files { own: vec![folder.to_owned()], ..Files::default() };
    // Where a link in the state folder leads is its own as well: the high-water file may lie on
    // another disk.
    for link in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let target = std::fs::read_link(link.path()).map(|target| folder.join(target));
        files.own.extend(target.ok().as_deref().and_then(parent));
    }
    if let Some(publish) = matches.get_one::<PathBuf>("publish") {
        // It must be there now; one that cannot be made is told when it is first written.
        let _ = std::fs::create_dir_all(publish);
        files.own.push(publish.clone());
    }
    files.making.extend(matches.get_one::<PathBuf>("trust-out").map(|path| place(path)));
    // The high-water file may be a link to another disk.
    files.own.extend(folder.join(fence::FILE).canonicalize().ok().and_then(|file| parent(&file)));
    files.reading.extend(matches.get_one::<PathBuf>(restore::FEED_FOLDER).cloned());
    for address in config.rpc.iter().chain(&config.public).chain(&config.metrics) {
        match address {
            Address::Tcp(at) => files.bind.push(at.port()),
            Address::Unix(path) => files.making.push(place(path)),
            Address::Inherited(_) => {}
        }
    }
    // Replication is asked over its Unix socket; nothing else is connected to, but a cluster.
    let calls = Calls { unix: matches.contains_id("litestream-socket"), ..Calls::default() };
    #[cfg(feature = "etcd")]
    let calls = Calls { tcp: super::etcd::ports(matches, &mut files.connect), ..calls };
    Sandbox { files, calls }
}

/// The descriptor for the line of addresses. The path of a descriptor is the safe way to it, and
/// there is none in the sandbox.
fn ready_file(matches: &ArgMatches) -> Result<Option<File>, Failure> {
    let fd = matches.get_one::<u32>("ready-fd");
    let open = fd.map(|fd| OpenOptions::new().write(true).open(format!("/dev/fd/{fd}")));
    Ok(open.transpose()?)
}

fn options(matches: &ArgMatches) -> Result<Options, Failure> {
    let authorities = values::many(matches, "authentication");
    let names = values::set(matches, "audit-names");
    let (usual, cap) = (Options::default(), values::get(matches, "exchange-cap").map(values::duration));
    Ok(Options {
        authentication: authorities
            .map(|text| values::id(text, "authority id", AuthorityId::from_hex))
            .collect::<Result<_, _>>()?,
        audit_names: if names { AuditNames::Clear } else { AuditNames::Hashed },
        exchange_cap: cap
            .transpose()?
            .map_or(usual.exchange_cap, |cap| u32::try_from(cap).unwrap_or(u32::MAX)),
        litestream: litestream(matches)?,
        ..usual
    })
}

/// The replica to wait for, if there is one.
fn litestream(matches: &ArgMatches) -> Result<Option<Arc<Litestream>>, Failure> {
    let Some(socket) = matches.get_one::<PathBuf>("litestream-socket") else { return Ok(None) };
    let database = values::dir(matches).join(control::STORE_FILE);
    let found = Litestream::new(socket, &database).map(Arc::new).map(Some);
    found.ok_or_else(|| Failure::usage(format!("{} is not there", database.display())))
}

pub(super) fn failure(error: BindError) -> Failure {
    Failure::new(Exit::Address, &error, error.next())
}

/// Says where it listens, once it does.
pub(super) fn tell(
    matches: &ArgMatches,
    ready: Option<File>,
    stdout: &mut dyn Write,
    folder: &Path,
    bound: &Bound,
    keys: &StaticKeys,
) -> Result<(), Failure> {
    if let Some(path) = matches.get_one::<PathBuf>("trust-out") {
        write_trust(folder, path, bound, keys)?;
    }
    let places = |places: &[String]| places.iter().map(String::as_str).collect::<Json>();
    let line = Json::object([
        ("ready", true.into()),
        ("rpc", places(&bound.rpc)),
        ("public", places(&bound.public)),
        ("metrics", places(&bound.metrics)),
        ("control", folder.join(serve::CONTROL_SOCKET).display().to_string().into()),
    ]);
    match ready {
        None => {
            writeln!(stdout, "{line}")?;
            stdout.flush()?;
        }
        Some(mut file) => writeln!(file, "{line}")?,
    }
    Ok(())
}

/// The trust file of `init`, with the addresses that are served in fact.
fn write_trust(folder: &Path, to: &Path, bound: &Bound, keys: &StaticKeys) -> Result<(), Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let path = folder.join(control::TRUST_FILE);
        Failure::new(Exit::Local, format!("{}: {why}", path.display()), "leave out --trust-out")
    };
    let text = std::fs::read_to_string(folder.join(control::TRUST_FILE)).map_err(|error| wrong(&error))?;
    let url = |address: &String| format!("http://{address}");
    let is_unix = |address: &&String| address.starts_with("unix:");
    // A feed is fetched over TCP; calls go over a Unix socket as well.
    let feeds: Vec<_> = bound.public.iter().filter(|address| !is_unix(address)).map(url).collect();
    let rpc = bound.rpc.iter().map(|address| if is_unix(&address) { address.clone() } else { url(address) });
    let rpc: Vec<_> = rpc.collect();
    let signers = statics::signers(&rpc.iter().map(String::as_str).collect::<Vec<_>>(), keys);
    let trust = Json::read(&text).and_then(|trust| statics::with(trust, "signers", signers));
    let trust = trust.and_then(|trust| statics::with(trust, "feeds", feeds.into_iter().collect()));
    statics::replace(to, &format!("{}\n", trust.ok_or_else(|| wrong(&"no trust file"))?))
}

/// Writes the folder at each new head. A failure is told and tried again at the next one.
fn publish(feed: FeedTree, to: PathBuf) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut head = feed.head();
        loop {
            let (tree, folder) = (feed.clone(), to.clone());
            if head.borrow_and_update().epoch > 0 {
                let written = tokio::task::spawn_blocking(move || tree.write_folder(&folder)).await;
                if let Ok(Err(error)) = written {
                    eprintln!("tksign: {}: {error}; trying again at the next head", to.display());
                }
            }
            if head.changed().await.is_err() {
                return;
            }
        }
    })
}
