//! Checks tokens made by other macaroon libraries against what those libraries answer.
//!
//! `cargo run --release -p tkcore --all-features --example conformance -- FILE.jsonl`
//!
//! One JSON object a line (fields: `name`, `kind`, `token`, `discharges`, `root_key_hex`,
//! `derived_key_hex`, `first_party_predicates_satisfied`, `expect`, `signature_hex`; tokens and
//! predicates in unpadded base64url). Prints a line for each surprise and closes with
//! `N passed, N failed`; exits with 1 when anything failed, with 2 when the file cannot be read.
//! A line that is no case is reported and counts as failed; the run goes on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use serde_json::Value;
use tkcore::danger::NoRevocations;
use tkcore::plain::{Macaroon, Predicates};
use tkcore::{Budget, RootKey};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [path] = arguments.as_slice() else {
        eprintln!("usage: conformance FILE.jsonl");
        return ExitCode::from(2);
    };
    match run(path) {
        Ok((_, 0)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn run(path: &std::ffi::OsStr) -> std::io::Result<(u64, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut passed, mut failed, mut number) = (0u64, 0u64, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let outcome = Case::read(&line).map_err(|what| format!("no case: {what}"));
        match outcome.and_then(|case| case.check().map_err(|what| format!("{}: {what}", case.name))) {
            Ok(()) => passed += 1,
            Err(what) => {
                failed += 1;
                println!("line {number}: {what}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok((passed, failed))
}

struct Case {
    name: String,
    unmutated: bool,
    token: Vec<u8>,
    discharges: Vec<Vec<u8>>,
    root_key: Vec<u8>,
    derived_key: Option<[u8; 32]>,
    satisfied: Vec<Vec<u8>>,
    expect: Expect,
    signature: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Accept,
    /// Refused by parsing or by verification.
    Reject,
    ParseError,
}

impl Case {
    fn read(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let text = |name: &str| {
            value.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` is missing or no text"))
        };
        let list = |name: &str| -> Result<Vec<Vec<u8>>, String> {
            let Some(list) = value.get(name) else { return Ok(Vec::new()) };
            let list = list.as_array().ok_or_else(|| format!("`{name}` is no list"))?;
            let bytes = |item: &Value| item.as_str().and_then(base64url);
            list.iter().map(|item| bytes(item).ok_or_else(|| format!("`{name}` is not base64url"))).collect()
        };
        let hexadecimal = |name: &str| hex(text(name)?).ok_or_else(|| format!("`{name}` is not hexadecimal"));
        let optional =
            |name: &str| value.get(name).filter(|v| !v.is_null()).map(|_| hexadecimal(name)).transpose();
        Ok(Self {
            name: text("name")?.to_owned(),
            unmutated: text("kind")? == "valid",
            token: base64url(text("token")?).ok_or("`token` is not base64url")?,
            discharges: list("discharges")?,
            root_key: hexadecimal("root_key_hex")?,
            derived_key: match optional("derived_key_hex")? {
                None => None,
                Some(key) => Some(key.try_into().map_err(|_| "`derived_key_hex` is not 32 bytes")?),
            },
            satisfied: list("first_party_predicates_satisfied")?,
            expect: match text("expect")? {
                "accept" => Expect::Accept,
                "reject" => Expect::Reject,
                "parse_error" => Expect::ParseError,
                other => return Err(format!("unknown `expect`: {other:?}")),
            },
            signature: optional("signature_hex")?,
        })
    }

    fn check(&self) -> Result<(), String> {
        let tokens = self.parse();
        match (self.expect, tokens) {
            (Expect::ParseError | Expect::Reject, Err(_)) => Ok(()),
            (Expect::ParseError, Ok(_)) => Err("parsed, and must not".to_owned()),
            (Expect::Accept, Err(what)) => Err(format!("must be accepted: {what}")),
            (Expect::Reject, Ok((token, discharges))) => {
                match self.verdict(&RootKey::derive(&self.root_key), &token, &discharges) {
                    Ok(()) => Err("accepted, and must not be".to_owned()),
                    Err(_) => Ok(()),
                }
            }
            (Expect::Accept, Ok((token, discharges))) => self.check_accepted(&token, &discharges),
        }
    }

    fn check_accepted(&self, token: &Macaroon, discharges: &[Macaroon]) -> Result<(), String> {
        let key = RootKey::derive(&self.root_key);
        self.verdict(&key, token, discharges).map_err(|what| format!("must be accepted: {what}"))?;
        if let (true, Some(derived)) = (self.unmutated, &self.derived_key) {
            self.verdict(&RootKey::from_derived(derived), token, discharges)
                .map_err(|what| format!("under the derived key: {what}"))?;
        }
        let signature = self.signature.as_ref().filter(|_| self.unmutated);
        if signature.is_some_and(|signature| !token.to_v2().ends_with(signature)) {
            return Err("another signature than the maker's".to_owned());
        }
        // Every format that can carry it must carry it unchanged.
        for (format, write) in [("V1", v1 as fn(&Macaroon) -> Option<Vec<u8>>), ("V2", v2), ("V2 JSON", json)]
        {
            let Some(written) = [token].into_iter().chain(discharges).map(write).collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let read: Result<Vec<_>, _> =
                written.iter().map(|bytes| Macaroon::from_bytes_lenient(bytes)).collect();
            let read = read.map_err(|error| format!("written as {format}, does not read back: {error}"))?;
            let Some((token, discharges)) = read.split_first() else { continue };
            self.verdict(&key, token, discharges).map_err(|what| format!("written as {format}: {what}"))?;
        }
        Ok(())
    }

    fn parse(&self) -> Result<(Macaroon, Vec<Macaroon>), String> {
        let token = Macaroon::from_bytes_lenient(&self.token).map_err(|error| format!("token: {error}"))?;
        let discharges: Result<_, _> =
            self.discharges.iter().map(|bytes| Macaroon::from_bytes_lenient(bytes)).collect();
        Ok((token, discharges.map_err(|error| format!("discharge: {error}"))?))
    }

    fn verdict(&self, key: &RootKey, token: &Macaroon, discharges: &[Macaroon]) -> Result<(), String> {
        let verified =
            token.verify(key, discharges, &mut Budget::default()).map_err(|error| error.to_string())?;
        let predicates = self.satisfied.iter().fold(Predicates::new(), |all, text| all.exact(text));
        verified.clear(&NoRevocations, None, &predicates).map_err(|refusal| {
            let mut text = String::new();
            let _ = write!(text, "{refusal}");
            text.chars().take(200).collect::<String>()
        })?;
        Ok(())
    }
}

fn v1(macaroon: &Macaroon) -> Option<Vec<u8>> {
    macaroon.to_v1().ok()
}

/// V2 and V2 JSON have no form for a location that is not text, which V1 has.
fn v2(macaroon: &Macaroon) -> Option<Vec<u8>> {
    macaroon.to_json().ok().map(|_| macaroon.to_v2().to_vec())
}

fn json(macaroon: &Macaroon) -> Option<Vec<u8>> {
    macaroon.to_json().ok().map(String::into_bytes)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some((pair.first()? << 4) | pair.last()?)).collect()
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0u32;
        for character in chunk {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            group = (group << 6) | u32::from(value);
        }
        let bytes = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        group <<= 6 * (4 - u32::try_from(chunk.len()).ok()?);
        out.extend(group.to_be_bytes().into_iter().skip(1).take(bytes));
    }
    Some(out)
}
