use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::{Arg, ArgAction, ArgMatches, Command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tkcore::AuthorityId;

use super::{Exit, Failure, Streams, control, local, reach, restore, values};
use crate::Litestream;
use crate::feed_tree::FeedTree;
use crate::http::{Address, Kind, family};
use crate::serve::{self, Bound, Config, ServeError};
use crate::service::{AuditNames, Options, Service};
use crate::session::Rate;

const EXAMPLE: &str = "\
Example:
  tksign serve --dir state --secret-file secret --rpc 10.0.0.5:7300 --public 10.0.0.5:7301 \\
    --metrics 127.0.0.1:7302

An address is ADDRESS:PORT (port 0 takes a free one) or unix:PATH. When it serves, it prints one
line of JSON with all addresses. SIGTERM and SIGINT stop it after what is under way.";

pub(super) fn describe() -> Command {
    let address = |name: &'static str, default: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("ADDRESS").action(ArgAction::Append).help(help);
        let arg = arg.value_parser(|text: &str| text.parse::<Address>());
        if default.is_empty() { arg } else { arg.default_value(default) }
    };
    reach::secret_args(Command::new("serve").about("Run the signer").after_help(EXAMPLE))
        .arg(values::dir_arg())
        .arg(restore::feed_folder_arg())
        .arg(address("rpc", "127.0.0.1:7300", "Where services call; repeat for more"))
        .arg(address("public", "127.0.0.1:7301", "Where the feed, health and readiness are; repeat for more"))
        .arg(address("metrics", "", "Where metrics are; repeat for more"))
        .arg(
            Arg::new("publish")
                .long("publish")
                .value_name("DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Keep a folder with the feed as well, for any web server"),
        )
        .arg(
            Arg::new("trust-out")
                .long("trust-out")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Write a trust file with the addresses it listens on in fact"),
        )
        .arg(
            Arg::new("ready-fd")
                .long("ready-fd")
                .value_name("N")
                .value_parser(clap::value_parser!(u32))
                .help("Write the line of addresses to this file descriptor instead"),
        )
        .arg(
            Arg::new("client-rate")
                .long("client-rate")
                .value_name("N")
                .value_parser(clap::value_parser!(u32).range(1..=1_000_000))
                .help("Requests a second that each client may make on average"),
        )
        .arg(
            Arg::new("authentication")
                .long("authentication")
                .value_name("HEX")
                .action(ArgAction::Append)
                .help("A third party whose caveats count as authentication, for exchange; repeat for more"),
        )
        .arg(
            Arg::new("litestream-socket")
                .long("litestream-socket")
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Litestream's control socket: a revocation is acknowledged when the replica has it"),
        )
        .arg(values::flag("audit-names", "Write names into the audit log as they are, not as keyed hashes"))
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
    let config = config(matches);
    limits();
    let runtime = local::runtime()?;
    let feed = matches.get_one::<PathBuf>(restore::FEED_FOLDER).map(PathBuf::as_path);
    let signer = local::open(&folder, feed, &secret, options(matches)?)?;
    if let Some(held) = &signer.service.read_only {
        let _ = writeln!(streams.stderr, "tksign: READ-ONLY: {}", held.why());
    }
    drop(secret);
    let served = runtime.block_on(async {
        let service = signer.service;
        let key = service.static_key();
        let counters = service.clone();
        let publishing =
            matches.get_one::<PathBuf>("publish").map(|to| publish(signer.feed.clone(), to.clone()));
        let mut told = Ok(());
        let served = serve::serve(
            &folder,
            &config,
            key,
            Arc::new(service.clone()),
            signer.feed,
            Box::new(move |page| service_metrics(&counters, page)),
            |bound| told = tell(matches, streams.stdout, &folder, &bound),
        )
        .await;
        if let Some(publishing) = publishing {
            publishing.abort();
        }
        // The store is closed in any case: what was acknowledged is published first.
        service.stop().await;
        served.map_err(failure).and(told)
    });
    served?;
    let _ = writeln!(streams.stderr, "tksign: stopped");
    Ok(Exit::Ok)
}

fn config(matches: &ArgMatches) -> Config {
    let list = |name| matches.get_many::<Address>(name).unwrap_or_default().cloned().collect();
    let rate = matches.get_one::<u32>("client-rate");
    Config {
        rpc: list("rpc"),
        public: list("public"),
        metrics: list("metrics"),
        rate: rate.map(|each| Rate { per_second: *each, burst: each.saturating_mul(2) }),
    }
}

fn options(matches: &ArgMatches) -> Result<Options, Failure> {
    let authorities = matches.get_many::<String>("authentication").unwrap_or_default();
    let names = values::set(matches, "audit-names");
    Ok(Options {
        authentication: authorities
            .map(|text| values::id(text, "authority id", AuthorityId::from_hex))
            .collect::<Result<_, _>>()?,
        audit_names: if names { AuditNames::Clear } else { AuditNames::Hashed },
        litestream: litestream(matches)?,
        ..Options::default()
    })
}

/// The replica to wait for, if there is one.
fn litestream(matches: &ArgMatches) -> Result<Option<Arc<Litestream>>, Failure> {
    let Some(socket) = matches.get_one::<PathBuf>("litestream-socket") else { return Ok(None) };
    let database = values::dir(matches).join(control::STORE_FILE);
    let found = Litestream::new(socket, &database).map(Arc::new).map(Some);
    found.ok_or_else(|| Failure::usage(format!("{} is not there", database.display())))
}

/// As many files as the system allows, for the connections; and no core dump, which would hold
/// every key. Neither is reason enough not to start.
fn limits() {
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::Bind(error) => Failure::new(Exit::Address, &error, error.next()),
        ServeError::Signals(_) => Failure::new(Exit::Local, error, "raise the limits on files"),
    }
}

/// Says where it listens, once it does.
fn tell(matches: &ArgMatches, stdout: &mut dyn Write, folder: &Path, bound: &Bound) -> Result<(), Failure> {
    if let Some(path) = matches.get_one::<PathBuf>("trust-out") {
        write_trust(folder, path, bound)?;
    }
    let line = json!({
        "ready": true,
        "rpc": bound.rpc,
        "public": bound.public,
        "metrics": bound.metrics,
        "control": folder.join(serve::CONTROL_SOCKET),
    });
    match matches.get_one::<u32>("ready-fd") {
        None => {
            writeln!(stdout, "{line}")?;
            stdout.flush()?;
        }
        Some(fd) => {
            // The path of the descriptor is the safe way to it.
            let mut file = std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{fd}"))?;
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

/// The trust file of `init`, with the addresses that are served in fact.
fn write_trust(folder: &Path, to: &Path, bound: &Bound) -> Result<(), Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let path = folder.join(control::TRUST_FILE);
        Failure::new(Exit::Local, format!("{}: {why}", path.display()), "leave out --trust-out")
    };
    let text = std::fs::read_to_string(folder.join(control::TRUST_FILE)).map_err(|error| wrong(&error))?;
    let mut trust: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let key = std::fs::read_to_string(folder.join(control::SIGNER_KEY)).map_err(|error| wrong(&error))?;
    let url = |address: &String| format!("http://{address}");
    let tcp = |address: &&String| !address.starts_with("unix:");
    let signers: Vec<_> =
        bound.rpc.iter().filter(tcp).map(|at| json!({"url": url(at), "key": key.trim_end()})).collect();
    let feeds: Vec<_> = bound.public.iter().filter(tcp).map(url).collect();
    let members = trust.as_object_mut().ok_or_else(|| wrong(&"not an object"))?;
    members.insert("signers".to_owned(), signers.into());
    members.insert("feeds".to_owned(), feeds.into());
    // Whole or not at all: a service may be reading it.
    let part = to.with_extension("part");
    let written = std::fs::write(&part, format!("{trust}\n")).and_then(|()| std::fs::rename(&part, to));
    written.map_err(|e| {
        Failure::new(Exit::Local, format!("{}: {e}", to.display()), "name a file that can be written")
    })
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

fn service_metrics(service: &Service, page: &mut String) {
    let counters = service.counters();
    for (name, help, count) in [
        ("tksign_requests", "Requests of clients.", &counters.requests),
        ("tksign_requests_refused", "Of these, refused.", &counters.refused),
        ("tksign_requests_of_strangers", "Requests of keys that no client has.", &counters.strangers),
        ("tksign_verifies", "Verifies among the requests.", &counters.verifies),
    ] {
        family(page, Kind::Counter, (name, help), [("", count.load(Ordering::Relaxed))]);
    }
}
