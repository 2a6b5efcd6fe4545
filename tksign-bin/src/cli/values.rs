//! Values of the command line, each read in one form.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};
use tkcore::protocol::{ClientKey, Expiry, Floor, RequestId, Text};
use tkcore::{Name, Timestamp, TokenBuf};
use zeroize::Zeroizing;

use super::{Exit, Failure, Streams};
use crate::random;

/// Where the signer keeps its state unless told otherwise.
const FOLDER: &str = "/var/lib/tksign";
/// Longest token text read: the longest token in base64, a prefix and a line end.
const TOKEN_TEXT_BYTES: u64 = 32 * 1024;

pub(super) fn dir_arg() -> Arg {
    path_arg("dir", "DIR", "The signer's state folder").default_value(FOLDER)
}

/// `--name`: a file or folder.
pub(super) fn path_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text_arg(name, value, help).value_parser(clap::value_parser!(PathBuf))
}

/// `--name`, as often as it is wanted.
pub(super) fn many_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text_arg(name, value, help).action(ArgAction::Append)
}

/// What stands without a name, and must.
pub(super) fn place_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

/// `--json`: the same facts for programs.
pub(super) fn json_arg() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of text")
}

pub(super) fn text_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

pub(super) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn request_id_arg() -> Arg {
    text_arg("request-id", "HEX", "32 hex digits: repeating a command with the same does it once")
}

pub(super) fn reason_arg() -> Arg {
    text_arg("reason", "TEXT", "Why, for the audit log")
}

pub(super) fn get<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

pub(super) fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one(name).cloned()
}

pub(super) fn many<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a str> {
    matches.get_many::<String>(name).unwrap_or_default().map(String::as_str)
}

pub(super) fn need<'a>(matches: &'a ArgMatches, name: &str) -> Result<&'a str, Failure> {
    get(matches, name).ok_or_else(|| Failure::usage(format!("--{name} is needed")))
}

pub(super) fn set(matches: &ArgMatches, name: &str) -> bool {
    matches.get_flag(name)
}

pub(super) fn dir(matches: &ArgMatches) -> PathBuf {
    path(matches, "dir").unwrap_or_else(|| FOLDER.into())
}

pub(super) fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::usage(format!("\"{text}\": {error}")))
}

pub(super) fn maybe_name(matches: &ArgMatches, arg: &str) -> Result<Option<Name>, Failure> {
    get(matches, arg).map(name).transpose()
}

pub(super) fn reason(matches: &ArgMatches) -> Result<Text, Failure> {
    let text = get(matches, "reason").unwrap_or_default();
    Text::new(text).ok_or_else(|| Failure::usage("--reason: at most 512 bytes, no control characters"))
}

/// Hexadecimal of exactly `N` bytes.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

/// Lower-case hexadecimal.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    // Room for all of it at once: a text that grows leaves copies of a key behind.
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn request_id(matches: &ArgMatches) -> Result<RequestId, Failure> {
    match get(matches, "request-id") {
        None => Ok(RequestId::from_bytes(random::bytes())),
        Some(text) => hex(text)
            .map(RequestId::from_bytes)
            .ok_or_else(|| Failure::usage("--request-id must be 32 lower-case hexadecimal digits")),
    }
}

pub(super) fn client_key(text: &str) -> Result<ClientKey, Failure> {
    hex(text)
        .map(ClientKey::from_bytes)
        .ok_or_else(|| Failure::usage("a client key is 64 lower-case hexadecimal digits (tkverify keygen)"))
}

/// An id in hexadecimal, by its own reader.
pub(super) fn id<T>(text: &str, what: &str, read: fn(&str) -> Option<T>) -> Result<T, Failure> {
    read(text).ok_or_else(|| Failure::usage(format!("\"{text}\" is no {what} in lower-case hexadecimal")))
}

/// `90s`, `15m`, `8h`, `30d`, in seconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let split = text.len().checked_sub(1)?;
    let (count, unit) = (text.get(..split)?, text.get(split..)?);
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}

pub(super) fn duration(text: &str) -> Result<u64, Failure> {
    seconds(text).ok_or_else(|| Failure::usage(format!("\"{text}\" is no duration like 90s, 15m, 8h or 30d")))
}

/// `2026-12-01T00:00:00Z`.
pub(super) fn time(text: &str) -> Result<Timestamp, Failure> {
    Timestamp::from_rfc3339(text).map_err(|error| Failure::usage(format!("\"{text}\": {error}")))
}

/// `now`, or a time.
pub(super) fn floor(text: &str) -> Result<Floor, Failure> {
    if text == "now" { Ok(Floor::Now) } else { time(text).map(Floor::At) }
}

/// `--expires`: `never`, a time, or a duration from now.
pub(super) fn expiry(text: &str) -> Result<Expiry, Failure> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Some(seconds) = seconds(text) {
        let seconds = u32::try_from(seconds).map_err(|_| Failure::usage("--expires: at most 49710 days"))?;
        return Ok(Expiry::After(seconds));
    }
    time(text).map(Expiry::At)
}

/// A token's text, from the file that was named or from standard input: never an argument,
/// which other users of the machine can read.
pub(super) fn read_token(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<TokenBuf, Failure> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    match get(matches, "token-file") {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|e| Failure::new(Exit::Local, format!("{path}: {e}"), "name a readable file"))?;
            file.take(TOKEN_TEXT_BYTES).read_to_string(&mut text)?;
        }
        None => {
            (&mut *streams.stdin).take(TOKEN_TEXT_BYTES).read_to_string(&mut text)?;
        }
    }
    let (_, token) = TokenBuf::from_text(text.trim_end()).map_err(|error| {
        Failure::new(Exit::Refused, error, "give one whole token, tk1_… to its end, on one line")
    })?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("8h", Some(28_800)),
            ("30d", Some(2_592_000)),
            ("0s", Some(0)),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for wrong in ["", "s", "90", "1.5h", "-1s", "1w", "99999999999999999999d", "é"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn expiries_and_floors() {
        assert_eq!(expiry("never").unwrap(), Expiry::Never);
        assert_eq!(expiry("1h").unwrap(), Expiry::After(3600));
        let at = Timestamp::from_rfc3339("2026-12-01T00:00:00Z").unwrap();
        assert_eq!(expiry("2026-12-01T00:00:00Z").unwrap(), Expiry::At(at));
        assert!(expiry("soon").is_err());
        assert!(expiry("99999d").is_err());
        assert_eq!(floor("now").unwrap(), Floor::Now);
        assert_eq!(floor("2026-12-01T00:00:00Z").unwrap(), Floor::At(at));
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(hex::<2>("01ff"), Some([1, 255]));
        for wrong in ["", "01f", "01fF", "01fg", "01ff00"] {
            assert_eq!(hex::<2>(wrong), None, "{wrong}");
        }
        assert_eq!(to_hex(&[1, 255]), "01ff");
        assert_eq!(to_hex(&[7; 33]).capacity(), 66, "it was never moved");
    }
}
