//! Tokens come from a file or from standard input, never from an argument: arguments are shown
//! to every user of the machine and kept in shell histories.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};
use tkcore::limits;
use zeroize::Zeroizing;

use super::{Exit, Failure, Streams};

/// `--token-file FILE`.
pub(super) fn token_file() -> Arg {
    Arg::new("token-file")
        .long("token-file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read the token from FILE instead of standard input")
}

/// The token's text, or a whole `Authorization` value, without white space around it.
pub(super) fn token(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Zeroizing<String>, Failure> {
    // One allocation of full size: a buffer that grew would leave copies of the token behind.
    // The longest header, white space around it, and one byte to see that it is too long.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST.saturating_add(1)));
    let limit = u64::try_from(MOST.saturating_add(1)).unwrap_or(u64::MAX);
    match matches.get_one::<PathBuf>("token-file") {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|e| {
                let what = format!("{}: {e}", path.display());
                Failure::new(Exit::Local, what, "check the path of --token-file")
            })?;
            file.take(limit).read_to_end(&mut bytes)?;
        }
        None => {
            (&mut *streams.stdin).take(limit).read_to_end(&mut bytes)?;
        }
    }
    let next = "paste one token, or the value of an Authorization header";
    if bytes.len() > MOST {
        return Err(Failure::new(Exit::Malformed, "the input is longer than any token", next));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(Exit::Malformed, "the input is not text", next))?
        .trim();
    if text.is_empty() {
        return Err(Failure::new(Exit::Malformed, "the input is empty", next));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// The value of an `Authorization` header: what people paste often lacks the scheme.
pub(super) fn header_value(text: &str) -> Zeroizing<String> {
    if without_scheme(text).len() < text.len() {
        return Zeroizing::new(text.to_owned());
    }
    let mut value = Zeroizing::new(String::with_capacity(text.len().saturating_add(SCHEME.len())));
    value.push_str(SCHEME);
    value.push_str(text);
    value
}

/// What stands behind the scheme, if there is one.
pub(super) fn without_scheme(text: &str) -> &str {
    match text.split_once(' ') {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("macaroon") =>
        {
            rest.trim()
        }
        Some(_) | None => text,
    }
}

const SCHEME: &str = "Bearer ";
const MOST: usize = limits::HEADER_BYTES + 64;
