//! Random macaroons and mutations of them, judged by us and by two peer crates. No disagreement
//! that is not on the list (`peers/DISAGREEMENTS.md`).

use std::collections::BTreeMap;

use tk_peers::{Random, Said, Set, Spec};
use tkcore::plain::Macaroon;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V1,
    V2,
    Json,
}

fn write(macaroon: &Macaroon, format: Format) -> Option<Vec<u8>> {
    match format {
        Format::V1 => macaroon.to_v1().ok(),
        Format::V2 => Some(macaroon.to_v2().to_vec()),
        Format::Json => macaroon.to_json().ok().map(String::into_bytes),
    }
}

fn set(spec: &Spec, format: Format) -> Option<Set> {
    let root = spec.ours();
    let discharges: Option<Vec<_>> = spec
        .discharges()
        .iter()
        .map(|discharge| write(&root.bind(&discharge.ours()).unwrap(), format))
        .collect();
    Some(Set {
        key: spec.key.clone(),
        root: write(&root, format)?,
        discharges: discharges?,
        holds: spec.predicates(),
    })
}

/// Spoils a set in one of the ways that happen to tokens.
fn mutate(set: &mut Set, random: &mut Random) -> &'static str {
    let count = set.discharges.len();
    let target = |set: &mut Set, random: &mut Random| -> usize {
        if set.discharges.is_empty() || random.once_in(2) {
            usize::MAX
        } else {
            random.below(set.discharges.len())
        }
    };
    match random.below(9) {
        0..=2 => {
            let at = target(set, random);
            let bytes = set.discharges.get_mut(at).unwrap_or(&mut set.root);
            let bit = random.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            "bit flip"
        }
        3 => {
            let at = target(set, random);
            let bytes = set.discharges.get_mut(at).unwrap_or(&mut set.root);
            let len = random.below(bytes.len());
            bytes.truncate(len);
            "cut"
        }
        4 => {
            let more = 1 + random.below(8);
            set.root.extend(random.bytes(more));
            "trailing"
        }
        5 if count > 0 => {
            set.discharges.remove(random.below(count));
            "missing discharge"
        }
        6 if count > 1 => {
            set.discharges.reverse();
            "discharges reversed"
        }
        7 if !set.holds.is_empty() => {
            let at = random.below(set.holds.len());
            let gone = set.holds[at].clone();
            set.holds.retain(|text| *text != gone);
            "unsatisfied"
        }
        _ => {
            let bit = random.below(set.key.len() * 8);
            set.key[bit / 8] ^= 1 << (bit % 8);
            "wrong key"
        }
    }
}

/// The accepted disagreements, each with its reason in DISAGREEMENTS.md, and recognised by what
/// is in the bytes, not only by who said what.
fn on_the_list(peer: &str, set: &Set, ours: Said, theirs: Said, format: Format) -> Option<&'static str> {
    use Said::{Accepts, NoMacaroon, Panics, Refuses};
    let all = || std::iter::once(&set.root).chain(&set.discharges);
    match (ours, theirs) {
        // Which of the two ways of refusing is no disagreement about who gets in.
        (Refuses | NoMacaroon, Refuses | NoMacaroon) => Some("both refuse"),
        (NoMacaroon | Refuses, Panics) => Some("D1 the peer panics"),
        (NoMacaroon, Accepts) if format == Format::V2 && shorter(set).ours() == Accepts => {
            Some("D2 bytes after the end")
        }
        (NoMacaroon, Accepts) if format == Format::V1 && tidied(set).ours() == Accepts => {
            Some("D3 a V1 packet without its line feed, or with a capital length digit")
        }
        (Accepts, NoMacaroon) if format != Format::Json && all().any(|b| std::str::from_utf8(b).is_err()) => {
            Some("D4 a location that is not UTF-8")
        }
        (Accepts, NoMacaroon)
            if peer == "macaroon" && format == Format::Json && all().any(|b| other_base64(b)) =>
        {
            Some("D5 another base64 than the standard one in V2 JSON")
        }
        (Accepts, NoMacaroon)
            if peer == "libmacaroon" && format == Format::Json && all().any(|b| unknown(b)) =>
        {
            Some("D6 an unknown member in V2 JSON")
        }
        (Accepts, NoMacaroon) if format == Format::Json && all().any(|b| incomplete(b)) => {
            Some("D7 V2 JSON without `v` or `c`")
        }
        (NoMacaroon, Accepts)
            if peer == "macaroon" && format == Format::Json && all().any(|b| other_version(b)) =>
        {
            Some("D8 V2 JSON of another version")
        }
        (Accepts, NoMacaroon) if format == Format::Json && all().any(|b| unused_bits(b)) => {
            Some("D9 bits at the end of base64 that mean nothing")
        }
        _ => None,
    }
}

/// Without the bytes after the signature.
fn shorter(set: &Set) -> Set {
    let mut set = set.clone();
    for bytes in std::iter::once(&mut set.root).chain(&mut set.discharges) {
        let end = (35..=bytes.len()).find(|end| Macaroon::from_bytes_lenient(&bytes[..*end]).is_ok());
        bytes.truncate(end.unwrap_or(bytes.len()));
    }
    set
}

/// With lower-case lengths and every packet's line feed.
fn tidied(set: &Set) -> Set {
    let mut set = set.clone();
    for bytes in std::iter::once(&mut set.root).chain(&mut set.discharges) {
        let mut at = 0;
        while let Some(digits) = bytes.get_mut(at..at + 4) {
            digits.make_ascii_lowercase();
            let Some(len) =
                std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok())
            else {
                break;
            };
            if len < 5 {
                break;
            }
            at += len;
            if let Some(last) = bytes.get_mut(at - 1) {
                *last = b'\n';
            }
        }
    }
    set
}

/// An `i64` or `v64` that is not in the standard alphabet with padding.
fn other_base64(json: &[u8]) -> bool {
    let text = String::from_utf8_lossy(json);
    let values = ["\"i64\":\"", "\"v64\":\""].map(|name| text.split(name).skip(1).collect::<Vec<_>>());
    values.iter().flatten().any(|rest| {
        let value = rest.split('"').next().unwrap_or_default();
        value.len() % 4 != 0 || value.contains(['-', '_'])
    })
}

fn incomplete(json: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(json)
        .is_ok_and(|v| v.get("v").is_none() || v.get("c").is_none())
}

fn other_version(json: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|v| v.get("v").is_some_and(|v| *v != 2))
}

/// Whether some base64 ends in a character that another one could stand for.
fn unused_bits(json: &[u8]) -> bool {
    let text = String::from_utf8_lossy(json);
    text.split("64\":\"").skip(1).any(|rest| {
        let value = rest.split('"').next().unwrap_or_default().trim_end_matches('=');
        let last = value.chars().last().unwrap_or('A');
        match value.len() % 4 {
            2 => !"AQgw".contains(last),
            3 => !"AEIMQUYcgkosw048".contains(last),
            _ => false,
        }
    })
}

fn unknown(json: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else { return false };
    let known = |object: &serde_json::Map<String, serde_json::Value>| {
        object.keys().all(|key| ["v", "i", "i64", "l", "l64", "c", "s", "s64", "v64"].contains(&key.as_str()))
    };
    let Some(object) = value.as_object() else { return false };
    let caveats = object.get("c").and_then(|c| c.as_array());
    !known(object) || caveats.is_some_and(|list| list.iter().any(|c| !c.as_object().is_some_and(known)))
}

fn run(count: u64) {
    std::panic::set_hook(Box::new(|_| ()));
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut unlisted = Vec::new();
    for seed in 0..count {
        let mut random = Random::new(seed);
        let spec = Spec::random(&mut random, 3);
        let format = [Format::V1, Format::V2, Format::Json][random.below(3)];
        let Some(mut set) = set(&spec, format) else { continue };
        let what = if random.once_in(5) { "valid" } else { mutate(&mut set, &mut random) };
        let ours = set.ours();
        if what == "valid" || what == "discharges reversed" {
            assert_eq!(ours, Said::Accepts, "seed {seed}: {what} {format:?}");
        }
        for (peer, theirs) in [("macaroon", set.macaroon()), ("libmacaroon", set.libmacaroon())] {
            if ours == theirs {
                *seen.entry(format!("{what}: agreed")).or_default() += 1;
                continue;
            }
            match on_the_list(peer, &set, ours, theirs, format) {
                Some(entry) => *seen.entry(format!("{peer}: {entry}")).or_default() += 1,
                None => unlisted
                    .push(format!("seed {seed}: {what} {format:?}: we say {ours:?}, {peer} says {theirs:?}")),
            }
        }
    }
    let _ = std::panic::take_hook();
    for (what, count) in seen {
        println!("{count:>7} {what}");
    }
    for line in unlisted.iter().take(40) {
        println!("{line}");
    }
    assert!(unlisted.is_empty(), "{} disagreements that are not on the list", unlisted.len());
}

#[test]
fn no_disagreement_that_is_not_on_the_list() {
    let count = std::env::var("PEERS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    run(count);
}
