//! `--trust FILE`.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};

use super::{Exit, Failure};
use crate::trust::Trust;

/// What to do about one that is wrong, or has no addresses.
pub(super) const NEXT: &str = "give the trust file that `tksign serve --trust-out` writes; the one of `tksign init` has \
    no addresses but those it was told";

pub(super) fn arg() -> Arg {
    Arg::new("trust")
        .long("trust")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("The trust file, which `tksign serve --trust-out` writes: whom to believe and where to ask")
}

pub(super) fn read(matches: &ArgMatches) -> Result<Trust, Failure> {
    let path = matches.get_one::<PathBuf>("trust").cloned().unwrap_or_default();
    Trust::from_file(&path).map_err(|e| Failure::new(Exit::Config, e, NEXT))
}
