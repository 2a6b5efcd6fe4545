//! A signer among others, over an etcd cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use zeroize::Zeroizing;

use super::{Exit, Failure, local, values};
use crate::clock::SystemClock;
use crate::http::{Kind, family};
use crate::secret::Secret;
use crate::service::{Options, Registry};
use crate::signer::Signer;
use crate::store::etcd::{Cluster, Etcd, Login, Space, Tls};

pub(super) mod migrate;

/// Revision and age of the mirror, and whether this signer publishes.
type Gauges = Box<dyn Fn() -> (i64, Duration, bool) + Send + Sync>;

/// What `serve` and `migrate` take besides.
pub(super) fn login_args(command: Command) -> Command {
    command
        .arg(values::text_arg("signer", "NAME", "This signer's name in the cluster; its audit chain's"))
        .arg(
            values::text_arg("etcd-prefix", "NAME", "What the store's keys in etcd begin with")
                .default_value("tksign"),
        )
        .arg(values::text_arg("etcd-user", "NAME", "Log in to etcd as").requires("etcd-password-file"))
        .arg(file_arg("etcd-password-file", "The password of that user").requires("etcd-user"))
        .arg(file_arg("etcd-ca", "Whom https trusts: authorities in PEM, and no others"))
        .arg(file_arg("etcd-cert", "Certificate to show to etcd, in PEM").requires("etcd-key"))
        .arg(file_arg("etcd-key", "Its key").requires("etcd-cert").requires("etcd-ca"))
}

fn file_arg(name: &'static str, help: &'static str) -> Arg {
    values::text_arg(name, "FILE", help).value_parser(clap::value_parser!(PathBuf))
}

pub(super) fn args(command: Command) -> Command {
    login_args(
        command.arg(
            Arg::new("etcd")
                .long("etcd")
                .value_name("URL")
                .action(ArgAction::Append)
                .requires("signer")
                .help("Keep the store in this etcd cluster, shared with others; repeat for each member"),
        ),
    )
}

/// The cluster that is asked for.
pub(super) fn wanted(matches: &ArgMatches) -> Result<Option<(Cluster, Space)>, Failure> {
    let urls: Vec<String> = matches.get_many("etcd").unwrap_or_default().cloned().collect();
    if urls.is_empty() { Ok(None) } else { place(matches, urls).map(Some) }
}

/// The ports of the members, which the sandbox lets through; whether there are any.
pub(super) fn ports(matches: &ArgMatches, to: &mut Vec<u16>) -> bool {
    let urls = matches.get_many::<String>("etcd").unwrap_or_default();
    let before = to.len();
    to.extend(urls.filter_map(|url| url.rsplit_once(':')?.1.trim_end_matches('/').parse::<u16>().ok()));
    to.len() > before
}

fn place(matches: &ArgMatches, urls: Vec<String>) -> Result<(Cluster, Space), Failure> {
    let urls: Vec<_> = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
    let (prefix, signer) = (values::need(matches, "etcd-prefix")?, values::get(matches, "signer"));
    let space = Space::new(prefix, signer.unwrap_or("signer"));
    let space = space.ok_or_else(|| {
        Failure::usage("--signer and --etcd-prefix: 1 to 64 letters, digits, '-', '_' and '.'")
    })?;
    let read = |path: &PathBuf| {
        let told = |error| Failure::new(Exit::Local, format!("{}: {error}", path.display()), "see --help");
        std::fs::read(path).map(Zeroizing::new).map_err(told)
    };
    let file = |name| matches.get_one::<PathBuf>(name).map(read).transpose();
    let login = match values::get(matches, "etcd-user").zip(file("etcd-password-file")?) {
        None => None,
        Some((name, password)) => {
            let password = std::str::from_utf8(&password).map_err(Failure::usage)?.trim_end();
            Some(Login { name: name.to_owned(), password: Zeroizing::new(password.to_owned()) })
        }
    };
    let (own, key) = (file("etcd-cert")?, file("etcd-key")?);
    let own = own.as_ref().zip(key.as_ref()).map(|(own, key)| (own.as_slice(), key.as_slice()));
    let tls = file("etcd-ca")?.map(|ca| Tls::new(&ca, own)).transpose();
    let tls = tls.map_err(|why| Failure::usage(format!("--etcd-ca, --etcd-cert, --etcd-key: {why}")))?;
    if tls.is_none() && urls.iter().any(|url| url.starts_with("https:")) {
        return Err(Failure::usage("https needs --etcd-ca: the authority of etcd's certificates"));
    }
    if login.is_some() && urls.iter().any(|url| url.starts_with("http:")) {
        eprintln!("tksign: the password of --etcd-user goes to etcd in clear: use https, see --etcd-ca");
    }
    Ok((Cluster { urls, login, tls }, space))
}

/// Opens the shared store, compared with what lies beside it.
pub(super) fn open(
    (cluster, space): (Cluster, Space),
    beside: (&Path, Option<&Path>),
    secret: &Secret,
    options: Options,
) -> Result<(Signer, Gauges), Failure> {
    let store = Etcd::open(&cluster, space).map_err(|error| local::failure(&error.into()))?;
    let gauges: Gauges = Box::new(store.gauges());
    let options = Options { registry: Registry::Named, ..options };
    let signer = Signer::start_guarded(Box::new(store), beside, secret, options, Arc::new(SystemClock));
    signer.map(|signer| (signer, gauges)).map_err(|error| local::failure(&error))
}

/// How this signer stands to the cluster.
pub(super) fn metrics(mirror: &Gauges, page: &mut String) {
    let (revision, age, publishes) = mirror();
    let revision = u64::try_from(revision).unwrap_or(0);
    for (name, help, value) in [
        ("tksign_mirror_revision", "Revision of etcd that answers are given from.", revision),
        ("tksign_mirror_age_seconds", "Since etcd was last heard of.", age.as_secs()),
        ("tksign_publishes", "1: this signer closes steps and signs heads.", u64::from(publishes)),
    ] {
        family(page, Kind::Gauge, (name, help), [("", value)]);
    }
}
