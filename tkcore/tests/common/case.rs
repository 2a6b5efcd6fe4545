//! One clearing case in the schema of `examples/clearing.rs`, which shares this file with the
//! tests over `vectors/caveats*.json`.

use serde_json::{Map, Value};
use tkcore::dialect::{Bakery, DCache, Dialect, L402, Lnd, PyPi};
use tkcore::{Budget, Fact, PathFact, Request, Timestamp, Vocabulary, clear_caveats};

/// Judges one case and compares with what it expects; an error says what is not as it should be.
pub(crate) fn check(line: &[u8]) -> Result<(), String> {
    let case: Value = serde_json::from_slice(line).map_err(|error| format!("no case: {error}"))?;
    check_case(&case)
}

/// As [`check`], with the case read.
pub(crate) fn check_case(case: &Value) -> Result<(), String> {
    let name = case.get("name").and_then(Value::as_str).unwrap_or("(no name)");
    let expected = match case.get("expect").and_then(Value::as_str) {
        Some("admit") => true,
        Some("refuse") => false,
        _ => return Err(format!("{name}: no case: `expect` is neither admit nor refuse")),
    };
    let dialect = case.get("dialect").and_then(Value::as_str).unwrap_or("native");
    let caveats = texts(case.get("caveats")).map_err(|what| format!("{name}: no case: caveats: {what}"))?;
    let request = case.get("request").and_then(Value::as_object);
    let request = request.ok_or_else(|| format!("{name}: no case: no request"))?;
    let verdict = match judge(dialect, &caveats, request) {
        Ok(verdict) => verdict,
        Err(Stop::NoCase(what)) => return Err(format!("{name}: no case: {what}")),
        Err(Stop::NoRequest(why)) => Err(why),
    };
    match (expected, verdict) {
        (true, Ok(())) | (false, Err(_)) => Ok(()),
        (true, Err(why)) => Err(format!("{name}: expected admit, refused: {why}")),
        (false, Ok(())) => Err(format!("{name}: expected refuse, admitted")),
    }
}

/// Why there is no verdict.
enum Stop {
    /// The line is not of the schema.
    NoCase(String),
    /// The request cannot be stated, and so is refused.
    NoRequest(String),
}

fn judge(
    dialect: &str,
    caveats: &[String],
    request: &Map<String, Value>,
) -> Result<Result<(), String>, Stop> {
    if !matches!(dialect, "native" | "lnd" | "pypi" | "dcache" | "bakery" | "l402") {
        return Err(Stop::NoCase(format!("unknown dialect {dialect:?}")));
    }
    let refused = |why: &dyn std::fmt::Display| Stop::NoRequest(why.to_string());
    let text = |member: &str| request.get(member).and_then(Value::as_str).unwrap_or("");
    let now = moment(text("now")).ok_or_else(|| refused(&"`now` is no RFC 3339 time"))?;
    let actions = match request.get("actions") {
        None => Vec::new(),
        list => texts(list).map_err(|what| Stop::NoCase(format!("actions: {what}")))?,
    };
    let empty = Map::new();
    let facts = request.get("facts").and_then(Value::as_object).unwrap_or(&empty);
    // Sets are lists of borrowed texts, which have to live somewhere.
    let mut sets: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, fact) in facts {
        if let Some(list) = fact.get("set") {
            let list = list.as_array().ok_or_else(|| Stop::NoCase(format!("fact {name}: no set")))?;
            let elements: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            sets.push((name, elements.ok_or_else(|| refused(&format!("fact {name}: not texts")))?));
        }
    }
    let mut builder = Request::builder(text("tenant"), now);
    for action in &actions {
        builder = builder.action(action);
    }
    for (name, fact) in facts {
        let fact = match sets.iter().find(|(known, _)| known == name) {
            Some((_, elements)) => Fact::Set(elements),
            None => read_fact(fact).map_err(|what| refused(&format!("fact {name}: {what}")))?,
        };
        builder = builder.fact(name, fact);
    }
    let request = builder.build().map_err(|error| refused(&error))?;
    let mut budget = Budget::default();
    let mut foreign: Box<dyn Dialect> = match dialect {
        "native" => {
            let lines = caveats.iter().map(String::as_bytes);
            let verdict = clear_caveats(lines, &request, &Vocabulary::native(), &mut budget);
            return Ok(verdict.map_err(|error| error.to_string()));
        }
        "lnd" => Box::new(Lnd::new(&request)),
        "pypi" => Box::new(PyPi::new(&request)),
        "dcache" => Box::new(DCache::new(&request)),
        "bakery" => Box::new(Bakery::new(&request)),
        "l402" => Box::new(L402::new(&request)),
        other => return Err(Stop::NoCase(format!("unknown dialect {other:?}"))),
    };
    for caveat in caveats {
        if let Err(why) = foreign.judge(caveat.as_bytes(), &mut budget) {
            return Ok(Err(format!("{caveat:?}: {why}")));
        }
    }
    Ok(Ok(()))
}

fn read_fact(fact: &Value) -> Result<Fact<'_>, String> {
    let fact = fact.as_object().ok_or("no object")?;
    let mut members = fact.iter();
    let (Some((kind, value)), None) = (members.next(), members.next()) else {
        return Err("not exactly one type".to_owned());
    };
    let text = || value.as_str().ok_or_else(|| format!("{kind} is no text"));
    match kind.as_str() {
        "text" => Ok(Fact::Text(text()?)),
        "int" => value.as_i64().map(Fact::Int).ok_or_else(|| "not a 64-bit integer".to_owned()),
        "ip" => text()?.parse().map(Fact::Ip).map_err(|_| "no address".to_owned()),
        "path" => PathFact::new(text()?).map(Fact::Path).map_err(|error| error.to_string()),
        "time" => moment(text()?).map(Fact::Time).ok_or_else(|| "no RFC 3339 time".to_owned()),
        other => Err(format!("unknown type {other:?}")),
    }
}

fn texts(list: Option<&Value>) -> Result<Vec<String>, String> {
    let list = list.and_then(Value::as_array).ok_or("no list")?;
    list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(|| "not texts".to_owned())).collect()
}

/// The moment of a request is the service's own knowledge, so any form of RFC 3339 will do; what
/// is finer than a millisecond is cut.
fn moment(text: &str) -> Option<Timestamp> {
    let upper = text.to_ascii_uppercase().replacen(' ', "T", 1);
    let (date_time, rest) = upper.split_at_checked(19)?;
    let seconds = i64::try_from(Timestamp::from_rfc3339(&format!("{date_time}Z")).ok()?.seconds()).ok()?;
    let (millis, rest) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let len = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = rest.split_at(len);
            if digits.is_empty() {
                return None;
            }
            let millis: String = digits.chars().chain("000".chars()).take(3).collect();
            (millis.parse::<i64>().ok()?, rest)
        }
    };
    let offset = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1]
            if [h0, h1, m0, m1].into_iter().all(u8::is_ascii_digit) =>
        {
            let digit = |digit: &u8| i64::from(digit - b'0');
            let (hours, minutes) = (digit(h0) * 10 + digit(h1), digit(m0) * 10 + digit(m1));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'+' { 60 } else { -60 }
        }
        _ => return None,
    };
    Timestamp::from_millis(u64::try_from((seconds - offset) * 1000 + millis).ok()?)
}
