//! Properties of the language over generated caveats and requests (docs/spec/caveats.md, CV-2,
//! CV-4, CV-20, CV-73). The generator is seeded, so a failure comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use std::net::IpAddr;

use tkcore::{
    Access, Budget, Caveat, Operator, Request, RequestBuilder, Timestamp, Vocabulary, clear_caveats,
    explain_caveats,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: &[&str] =
    &["app", "org", "ip", "path", "at", "tags", "none", "action", "tenant", "time", "subject"];
const WORDS: &[&str] = &[
    "17",
    "42",
    "-5",
    "build",
    "ä",
    "\"two words\"",
    "\"\"",
    "10.0.0.0/8",
    "10.1.2.3",
    "2001:db8::/32",
    "/projects/7",
    "/projects",
    "/",
    "\"/a b\"",
    "2026-11-23T12:00:00Z",
    "2027-01-01T00:00:00Z",
    "read",
    "write",
    "list",
    "acme",
];
const OPERATORS: &[&str] = &["=", "!=", "<", "<=", ">", ">=", "in", "not-in", "under", "allows"];

fn caveat(random: &mut Random) -> String {
    let name = random.pick(NAMES);
    let operator = random.pick(OPERATORS);
    let optional = random.below(3) == 0;
    let mut text = format!("{name}{} {operator} ", if optional { "?" } else { "" });
    let list = |random: &mut Random, separator: &str, most: usize| {
        let count = 1 + random.below(most);
        let words: Vec<&str> = (0..count).map(|_| random.pick(WORDS)).collect();
        words.join(separator)
    };
    match operator {
        "in" | "not-in" => text += &list(random, ",", 4),
        "allows" => {
            let grants: Vec<String> = (0..1 + random.below(3))
                .map(|_| {
                    let resource = random.pick(WORDS);
                    format!("{resource}:{}", list(random, "|", 2))
                })
                .collect();
            text += &grants.join(",");
        }
        _ => text += random.pick(WORDS),
    }
    if optional && random.below(2) == 0 {
        text += " else ";
        text += &list(random, ",", 3);
    }
    text
}

fn request(random: &mut Random) -> Request<'static> {
    let (builder, accesses) = parts(random);
    accesses.into_iter().fold(builder, RequestBuilder::access).build().unwrap()
}

fn parts(random: &mut Random) -> (RequestBuilder<'static>, Vec<Access<'static>>) {
    const SETS: &[&[&str]] = &[&[], &["17"], &["build", "17"], &["read", "write", "ä"]];
    let access = |random: &mut Random| {
        let mut access = Access::to(random.pick(&["read", "write", "list"]));
        if random.below(3) == 0 {
            access = access.and(random.pick(&["read", "delete"]));
        }
        match random.below(4) {
            0 => access,
            1 => access.int("app", 17),
            2 => access.text("app", random.pick(&["17", "build", "two words", ""])),
            _ => access.set("app", SETS[random.below(SETS.len())]),
        }
    };
    let now =
        Timestamp::from_rfc3339(random.pick(&["2026-11-23T12:00:00Z", "2027-06-01T00:00:00Z"])).unwrap();
    let mut builder = Request::builder("acme", now);
    if random.below(2) == 0 {
        builder = builder.int("org", random.next() as i64 % 50);
    }
    if random.below(2) == 0 {
        builder = builder.ip("ip", random.pick(&["10.1.2.3", "2001:db8::5", "192.0.2.1"]).parse().unwrap());
    }
    if random.below(2) == 0 {
        builder = builder.path("path", random.pick(&["/projects/7", "/projects/7/a", "/a b", "/"]));
    }
    if random.below(2) == 0 {
        builder = builder.time("at", now);
    }
    if random.below(2) == 0 {
        builder = builder.set("tags", SETS[random.below(SETS.len())]);
    }
    let count = 1 + random.below(2);
    (builder, (0..count).map(|_| access(random)).collect())
}

fn admits(caveats: &[String], request: &Request<'_>) -> bool {
    let lines = caveats.iter().map(String::as_bytes);
    clear_caveats(lines, request, &Vocabulary::native(), &mut Budget::default()).is_ok()
}

#[test]
fn appending_never_widens_and_order_never_matters() {
    let mut random = Random(1);
    let (mut admitted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let request = request(&mut random);
        let mut caveats: Vec<String> = (0..random.below(4)).map(|_| caveat(&mut random)).collect();
        let before = admits(&caveats, &request);
        caveats.push(caveat(&mut random));
        let after = admits(&caveats, &request);
        assert!(before || !after, "round {round}: {caveats:?} {request:?}");
        let from = random.below(caveats.len());
        caveats.rotate_left(from);
        assert_eq!(admits(&caveats, &request), after, "round {round}: {caveats:?}");
        if after { admitted += 1 } else { refused += 1 }
    }
    assert!(admitted > 150 && refused > 500, "{admitted} admitted, {refused} refused");
}

#[test]
fn explaining_and_clearing_agree() {
    let mut random = Random(2);
    for _ in 0..10_000 {
        let request = request(&mut random);
        let caveats: Vec<String> = (0..1 + random.below(3)).map(|_| caveat(&mut random)).collect();
        let lines = || caveats.iter().map(String::as_bytes);
        let explained = explain_caveats(lines(), &request, &Vocabulary::native(), &mut Budget::default());
        assert_eq!(explained.grants(), admits(&caveats, &request), "{caveats:?}");
        assert_eq!(explained.lines().len(), caveats.len());
        // Each line is right alone as well.
        for (caveat, line) in caveats.iter().zip(explained.lines()) {
            let alone = admits(std::slice::from_ref(caveat), &request);
            assert_eq!(line.outcome != tkcore::Outcome::Refuses, alone, "{caveat}");
        }
    }
}

/// CV-46: one access is judged while the caveat is read, several are judged by the caveat as it was
/// read. Stating the same access twice takes the other way and must come to the same end.
#[test]
fn one_access_is_judged_as_several_are() {
    let mut random = Random(5);
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let (builder, accesses) = parts(&mut random);
        let access = &accesses[0];
        let once = builder.clone().access(access.clone()).build().unwrap();
        let twice = builder.access(access.clone()).access(access.clone()).build().unwrap();
        let caveat = caveat(&mut random);
        let clear = |request| {
            clear_caveats([caveat.as_bytes()], request, &Vocabulary::native(), &mut Budget::default())
        };
        let verdict = clear(&once);
        assert_eq!(verdict, clear(&twice), "{caveat}: {once:?}");
        if verdict.is_ok() { admitted += 1 } else { refused += 1 }
    }
    assert!(admitted > 1000 && refused > 1000, "{admitted} admitted, {refused} refused");
}

#[test]
fn what_parses_displays_as_it_was() {
    let mut random = Random(3);
    let mut parsed = 0;
    for _ in 0..20_000 {
        let text = caveat(&mut random);
        if let Ok(caveat) = Caveat::parse(&text) {
            parsed += 1;
            assert_eq!(caveat.to_string(), text);
            assert_eq!(Caveat::parse(&caveat.to_string()), Ok(caveat));
        }
    }
    assert!(parsed > 4_000, "{parsed}");
}

/// What a caveat says, read as leniently as a careless reader would: a second spelling that the
/// language let through would come out as the same value.
fn value(caveat: &Caveat<'_>) -> (String, Operator, bool, Vec<String>, Vec<String>) {
    let ends: &[char] = if caveat.operator() == Operator::Allows { &[',', '|', ':'] } else { &[',', '|'] };
    (
        caveat.name().to_lowercase(),
        caveat.operator(),
        caveat.is_optional(),
        words(caveat.value(), ends),
        words(caveat.otherwise().unwrap_or(""), &[',']),
    )
}

fn words(list: &str, ends: &[char]) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in list.chars() {
        match c {
            '\\' if quoted && !escaped => escaped = true,
            '"' if !escaped => {
                quoted = !quoted;
                // A text in quotes is no number, address or path of the same letters.
                word.push('"');
            }
            c if !quoted && ends.contains(&c) => {
                words.push(lenient(&word));
                words.push(c.to_string());
                word.clear();
            }
            c => {
                escaped = false;
                word.push(c);
            }
        }
    }
    words.push(lenient(&word));
    words
}

fn lenient(word: &str) -> String {
    let word = word.trim();
    if let Ok(number) = word.parse::<i128>() {
        return number.to_string();
    }
    if let Ok(ip) = word.parse::<IpAddr>() {
        return ip.to_canonical().to_string();
    }
    if let Some((Ok(ip), Ok(len))) = word.split_once('/').map(|(ip, len)| (ip.parse(), len.parse::<u32>())) {
        let masked = match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits() & u32::MAX.checked_shl(32 - len.min(32)).unwrap_or(0)),
            IpAddr::V6(ip) => ip.to_bits() & u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0),
        };
        return format!("{}:{masked}/{len}", ip.is_ipv4());
    }
    if word.starts_with('/') {
        let segments = word.split('/').filter(|segment| !matches!(*segment, "" | "."));
        return format!("/{}", segments.collect::<Vec<_>>().join("/"));
    }
    if matches!(word.as_bytes(), [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _, _, ..]) {
        return word.to_uppercase().replace("+00:00", "Z").replace(".0", "");
    }
    word.to_owned()
}

#[test]
fn the_lenient_reader_sees_second_spellings() {
    // What the properties below rely on: these are refused, and would be noticed if they were not.
    for (one, two) in [
        ("7", "07"),
        ("7", "+7"),
        ("0", "-0"),
        ("10.0.0.0/8", "10.0.0.1/8"),
        ("::1", "0::1"),
        ("2001:db8::", "2001:DB8::"),
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("/a/b", "/a//b"),
        ("/a/b", "/a/b/"),
        ("/a/b", "/a/./b"),
        ("2026-11-23T12:00:00Z", "2026-11-23t12:00:00z"),
        ("\"a b\"", "\"a\\ b\""),
    ] {
        assert_eq!(words(one, &[',']), words(two, &[',']));
        assert!(Caveat::parse(&format!("x in {one}")).is_ok(), "{one}");
        assert!(Caveat::parse(&format!("x in {two}")).is_err(), "{two}");
    }
}

#[test]
fn a_changed_character_fails_or_changes_the_value() {
    let mut random = Random(4);
    let characters: Vec<char> = (' '..='~').chain("\u{0}\n\t\u{85}ä\u{200b}\u{202e}é".chars()).collect();
    let (mut failed, mut changed) = (0usize, 0usize);
    for _ in 0..120 {
        let text = caveat(&mut random);
        let Ok(original) = Caveat::parse(&text) else { continue };
        let letters: Vec<char> = text.chars().collect();
        for at in 0..letters.len() {
            for c in &characters {
                if *c == letters[at] {
                    continue;
                }
                let mut letters = letters.clone();
                letters[at] = *c;
                let other: String = letters.into_iter().collect();
                match Caveat::parse(&other) {
                    Err(_) => failed += 1,
                    Ok(other) => {
                        changed += 1;
                        assert_ne!(value(&other), value(&original), "{text} and {other}");
                    }
                }
            }
        }
    }
    assert!(failed > 4_000 && changed > 4_000, "{failed} failed, {changed} changed");
}

#[test]
fn a_removed_or_doubled_character_fails_or_changes_the_value() {
    let mut random = Random(5);
    for _ in 0..2_000 {
        let text = caveat(&mut random);
        let Ok(original) = Caveat::parse(&text) else { continue };
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            let removed = format!("{}{}", &text[..at], &text[end..]);
            let doubled = format!("{}{}", &text[..end], &text[at..]);
            for other in [&removed, &doubled] {
                if let Ok(parsed) = Caveat::parse(other) {
                    assert_ne!(value(&parsed), value(&original), "{text} and {other}");
                }
            }
        }
    }
}
