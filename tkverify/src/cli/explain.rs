use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use tkcore::{
    Authorization, Budget, Explanation, HeaderBuf, Line, Malformed, Outcome, TextForms, Vocabulary,
};

use super::request::RequestFile;
use super::{Exit, Failure, Paint, Streams, input, json_flag};
use crate::clock::{Clock as _, SystemClock};

pub(super) fn describe() -> Command {
    Command::new("explain")
        .about("Say caveat by caveat whether a token would admit a request; contacts nobody")
        .arg(input::token_file())
        .arg(
            Arg::new("request")
                .long("request")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The request, as JSON: tenant, actions, facts, perhaps now, audience, accesses"),
        )
        .arg(json_flag())
        .after_help(
            "The engine is the one that services use. The signature, the revocation state and the tenant\n\
             are not looked at: `tkverify check` asks about those.\n\
             Exit code 0: every caveat admits the request; 12: one refuses.\n\n\
             Example:\n  tkverify explain --request request.json < token.txt\n\
             with {\"tenant\":\"acme\",\"actions\":[\"read\"],\"facts\":{\"app\":{\"int\":17}}} in request.json",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let path = matches.get_one::<PathBuf>("request").cloned().unwrap_or_default();
    let request = RequestFile::read(&path)?;
    let text = input::token(matches, streams)?;
    let value = input::header_value(&text);
    let malformed = |e: Malformed| Failure::new(Exit::Malformed, e, "copy the whole token and try again");
    let mut buf = HeaderBuf::new();
    let parsed = Authorization::parse(value.as_bytes(), TextForms::Reencoded, &mut buf).map_err(malformed)?;
    let explained: Vec<Vec<Explanation>> = request.with(SystemClock::new().read().wall, |request| {
        let vocabulary = Vocabulary::native();
        parsed
            .candidates()
            .map(|presented| {
                // One budget for a token and its discharges, as when it is cleared.
                let mut budget = Budget::default();
                let root = presented.root().describe_untrusted();
                let mut parts = vec![root.explain(request, &vocabulary, &mut budget)];
                for (index, discharge) in (0u16..).zip(presented.discharges()) {
                    let discharge = discharge.describe_untrusted();
                    parts.push(discharge.explain_beside(&root, index, request, &vocabulary, &mut budget));
                }
                parts
            })
            .collect()
    })?;
    let grants = |token: &Vec<Explanation>| token.iter().all(Explanation::grants);
    if matches.get_flag("json") {
        let tokens: Vec<Value> = explained
            .iter()
            .map(|token| {
                let lines: Vec<Value> =
                    token.iter().enumerate().flat_map(|(at, part)| lines(at, part)).collect();
                json!({"admits": grants(token), "lines": lines})
            })
            .collect();
        writeln!(streams.stdout, "{}", json!({"verified": false, "tokens": tokens}))?;
    } else {
        writeln!(streams.stdout, "Not verified: only what the caveats say.")?;
        for token in &explained {
            writeln!(streams.stdout)?;
            for (at, part) in token.iter().enumerate() {
                if at > 0 {
                    writeln!(streams.stdout, "discharge {at}")?;
                }
                for line in part.lines() {
                    print(line, streams)?;
                }
            }
            let (paint, verdict) =
                if grants(token) { (Paint::Good, "admitted") } else { (Paint::Bad, "refused") };
            writeln!(streams.stdout, "{}", streams.colours.paint(paint, verdict))?;
        }
    }
    Ok(if explained.iter().any(grants) { Exit::Ok } else { Exit::Refused })
}

fn lines(part: usize, explanation: &Explanation) -> Vec<Value> {
    let line = |line: &Line| {
        json!({
            "discharge": part.checked_sub(1),
            "check": line.check,
            "caveat": line.place.map(|place| place.caveat),
            "text": (!line.caveat.is_empty()).then_some(&*line.caveat),
            "outcome": line.outcome.as_str(),
            "wanted": &*line.wanted,
            "got": &*line.got,
            "reason": &*line.reason,
        })
    };
    explanation.lines().iter().map(line).collect()
}

fn print(line: &Line, streams: &mut Streams<'_>) -> std::io::Result<()> {
    let paint = match line.outcome {
        Outcome::Admits => Paint::Good,
        Outcome::NotApplicable => Paint::Warning,
        Outcome::Refuses => Paint::Bad,
    };
    let outcome = streams.colours.paint(paint, &format!("{:<15}", line.outcome.as_str()));
    let what = if line.caveat.is_empty() { line.check } else { &line.caveat };
    write!(streams.stdout, "  {outcome} {what}")?;
    if !line.got.is_empty() {
        write!(streams.stdout, "  (got {})", line.got)?;
    } else if !line.reason.is_empty() {
        write!(streams.stdout, "  ({})", line.reason)?;
    }
    writeln!(streams.stdout)
}
