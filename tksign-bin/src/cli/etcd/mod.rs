//! A signer among others, over an etcd cluster.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use zeroize::Zeroizing;

use super::{Failure, local, values};
use crate::clock::SystemClock;
use crate::http::{Kind, family};
use crate::secret::Secret;
use crate::service::{Options, Registry};
use crate::signer::Signer;
use crate::store::etcd::{Cluster, Etcd, Login, Space, Watcher};

pub(super) mod migrate;

/// What `serve` and `migrate` take besides.
pub(super) fn login_args(command: Command) -> Command {
    command
        .arg(values::text_arg(
            "signer",
            "NAME",
            "This signer's name among those of the cluster; its audit chain's",
        ))
        .arg(
            values::text_arg("etcd-prefix", "NAME", "What the store's keys in etcd begin with")
                .default_value("tksign"),
        )
        .arg(values::text_arg("etcd-user", "NAME", "Log in to etcd as"))
        .arg(
            Arg::new("etcd-password-file")
                .long("etcd-password-file")
                .value_name("FILE")
                .requires("etcd-user")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The password of that user"),
        )
}

pub(super) fn args(command: Command) -> Command {
    login_args(
        command.arg(
            Arg::new("etcd")
                .long("etcd")
                .value_name("URL")
                .action(ArgAction::Append)
                .requires("signer")
                .help(
                    "Keep the store in this etcd cluster, shared with other signers; repeat for each member",
                ),
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
    let (prefix, signer) = (values::need(matches, "etcd-prefix")?, values::get(matches, "signer"));
    let space = Space::new(prefix, signer.unwrap_or("signer"));
    let space = space.ok_or_else(|| {
        Failure::usage("--signer and --etcd-prefix: 1 to 64 letters, digits, '-', '_' and '.'")
    })?;
    let login = values::get(matches, "etcd-user").map(|name| {
        let path = matches.get_one::<PathBuf>("etcd-password-file");
        let path = path.ok_or_else(|| Failure::usage("--etcd-user needs --etcd-password-file"))?;
        let password = Zeroizing::new(std::fs::read_to_string(path)?);
        Ok::<_, Failure>(Login { name: name.to_owned(), password: password.trim_end().to_owned().into() })
    });
    Ok((Cluster { urls, login: login.transpose()?, tls: None }, space))
}

/// Opens the shared store.
pub(super) fn open(
    (cluster, space): (Cluster, Space),
    secret: &Secret,
    options: Options,
) -> Result<(Signer, Watcher), Failure> {
    let store = Etcd::open(&cluster, space).map_err(|error| local::failure(&error.into()))?;
    let watcher = store.watcher();
    let options = Options { registry: Registry::Named, ..options };
    let signer = Signer::start(Box::new(store), secret, options, Arc::new(SystemClock));
    signer.map(|signer| (signer, watcher)).map_err(|error| local::failure(&error))
}

/// How this signer stands to the cluster.
pub(super) fn metrics(mirror: &Watcher, page: &mut String) {
    let revision = u64::try_from(mirror.revision()).unwrap_or(0);
    for (name, help, value) in [
        ("tksign_mirror_revision", "Revision of etcd that answers are given from.", revision),
        ("tksign_mirror_age_seconds", "Since etcd was last heard of.", mirror.age().as_secs()),
        ("tksign_publishes", "1: this signer closes steps and signs heads.", u64::from(mirror.leads())),
    ] {
        family(page, Kind::Gauge, (name, help), [("", value)]);
    }
}
