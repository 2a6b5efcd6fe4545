use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use tkcore::{
    Authorization, Caveat, HeaderBuf, Malformed, Summary, TextForms, TextKind, Token, TokenBuf, Vocabulary,
};

use super::{Exit, Failure, Paint, Streams, input, json_flag};
use crate::trust::hex;

pub(super) fn describe() -> Command {
    Command::new("inspect")
        .about("Show what a token says of itself; nothing of it is verified")
        .arg(input::token_file())
        .arg(json_flag())
        .after_help(
            "Reads one token, one discharge, or the value of an Authorization header. Shows ids, times\n\
             and caveats, never the signature. Contacts nobody.\n\n\
             Example:\n  tkverify inspect < token.txt\n  tkverify inspect --json --token-file token.txt",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let text = input::token(matches, streams)?;
    let malformed = |e: Malformed| Failure::new(Exit::Malformed, e, "copy the whole token and try again");
    let mut tokens = Vec::new();
    if text.starts_with(TextKind::Discharge.prefix()) && !text.contains(',') {
        let (_, discharge) = TokenBuf::from_text(&text).map_err(malformed)?;
        tokens.push((Shown::of(&discharge.as_token(), TextKind::Discharge), Vec::new()));
    } else {
        let value = input::header_value(&text);
        let mut buf = HeaderBuf::new();
        let parsed = Authorization::parse(value.as_bytes(), TextForms::Reencoded, &mut buf);
        for presented in parsed.map_err(malformed)?.candidates() {
            let discharges = presented.discharges().map(|d| Shown::of(&d, TextKind::Discharge)).collect();
            tokens.push((Shown::of(&presented.root(), TextKind::Root), discharges));
        }
    }
    if matches.get_flag("json") {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|(token, discharges)| {
                let mut value = token.json();
                let discharges: Vec<Value> = discharges.iter().map(Shown::json).collect();
                if let Some(members) = value.as_object_mut().filter(|_| token.kind == TextKind::Root) {
                    members.insert("discharges".to_owned(), discharges.into());
                }
                value
            })
            .collect();
        writeln!(streams.stdout, "{}", json!({"verified": false, "tokens": tokens}))?;
        return Ok(Exit::Ok);
    }
    writeln!(streams.stdout, "Not verified: anyone could have written this.")?;
    for (token, discharges) in &tokens {
        writeln!(streams.stdout)?;
        token.print(streams)?;
        for discharge in discharges {
            discharge.print(streams)?;
        }
    }
    Ok(Exit::Ok)
}

/// What is shown of a token, safe for a terminal and without its signature.
struct Shown {
    kind: TextKind,
    lines: Vec<(&'static str, String)>,
    caveats: Vec<Line>,
    /// What a token of ours says in all.
    summary: Option<Summary>,
}

struct Line {
    text: String,
    third_party: bool,
    location: Option<String>,
    /// In words, if it is of the native language.
    meaning: Option<String>,
}

impl Shown {
    fn of(token: &Token<'_>, kind: TextKind) -> Self {
        let untrusted = token.describe_untrusted();
        let mut lines = Vec::new();
        let mut summary = None;
        let first_party = || untrusted.caveats().filter(|caveat| !caveat.third_party).map(|caveat| caveat.id);
        match untrusted.identifier().filter(|_| kind == TextKind::Root) {
            Some(id) => {
                lines.push(("lineage", id.lineage.to_string()));
                lines.push(("key", id.key.to_string()));
                if let Some(minted) = id.lineage.minted() {
                    lines.push(("minted", minted.to_string()));
                }
                lines.push(("expires", id.expiry.map_or_else(|| "never".to_owned(), |at| at.to_string())));
                if let Some(subject) = id.subject {
                    lines.push(("subject", subject.to_owned()));
                }
                if let Some(service) = id.service {
                    lines.push(("parent", service.parent.to_string()));
                }
                lines.push(("caveats_at_mint", id.caveats_at_mint.to_string()));
                summary = Some(Summary::of(first_party(), id.expiry, &Vocabulary::native()));
            }
            None if kind == TextKind::Discharge => {
                lines.push(("ticket", format!("{} bytes", untrusted.identifier_bytes().len())));
            }
            None => lines.push(("identifier", readable(untrusted.identifier_bytes()))),
        }
        if let Some(location) = untrusted.location() {
            lines.push(("location", readable(location.as_bytes())));
        }
        let caveats = untrusted
            .caveats()
            .map(|caveat| Line {
                text: if caveat.third_party { hex(caveat.id) } else { readable(caveat.id) },
                third_party: caveat.third_party,
                location: caveat.location.map(|text| readable(text.as_bytes())),
                meaning: Some(caveat.id)
                    .filter(|_| !caveat.third_party)
                    .and_then(|text| Caveat::from_bytes(text).ok())
                    .map(|caveat| caveat.meaning().to_string()),
            })
            .collect();
        Self { kind, lines, caveats, summary }
    }

    fn print(&self, streams: &mut Streams<'_>) -> std::io::Result<()> {
        let name = match self.kind {
            TextKind::Root => "token",
            TextKind::Discharge => "discharge",
        };
        let label = |name: &str| streams.colours.paint(Paint::Name, &format!("{name:<16}"));
        writeln!(streams.stdout, "{name}")?;
        for (name, value) in &self.lines {
            writeln!(streams.stdout, "  {}{value}", label(&name.replace('_', " ")))?;
        }
        if self.summary.is_some() {
            let unsaid = "not in the token; the signer knows it by the key";
            writeln!(streams.stdout, "  {}{unsaid}", label("tenant"))?;
        }
        for (at, caveat) in self.caveats.iter().enumerate() {
            let number = at.saturating_add(1);
            if caveat.third_party {
                let place = caveat.location.as_deref().unwrap_or("a place it does not name");
                let length = caveat.text.len() / 2;
                let label = label(&format!("caveat {number}"));
                writeln!(streams.stdout, "  {label}to be discharged at {place} (ticket of {length} bytes)")?;
            } else {
                writeln!(streams.stdout, "  {}{}", label(&format!("caveat {number}")), caveat.text)?;
                if let Some(meaning) = &caveat.meaning {
                    writeln!(streams.stdout, "  {:<16}{meaning}", "")?;
                }
            }
        }
        let Some(summary) = &self.summary else { return Ok(()) };
        if let Some(at) = summary.expires() {
            writeln!(streams.stdout, "  {}{at}", label("usable before"))?;
        }
        if let Some(at) = summary.starts() {
            writeln!(streams.stdout, "  {}{at}", label("usable from"))?;
        }
        for (name, bound) in summary.bounds() {
            writeln!(streams.stdout, "  {}{name}: {bound}", label("in all"))?;
        }
        for why in summary.contradictions() {
            let never = streams.colours.paint(Paint::Bad, "can never be used");
            writeln!(streams.stdout, "  {never}: {why}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let mut members = serde_json::Map::new();
        members.insert(
            "kind".to_owned(),
            match self.kind {
                TextKind::Root => "token",
                TextKind::Discharge => "discharge",
            }
            .into(),
        );
        for (name, value) in &self.lines {
            members.insert((*name).to_owned(), value.as_str().into());
        }
        let caveats: Vec<Value> = self
            .caveats
            .iter()
            .map(|caveat| {
                if caveat.third_party {
                    json!({"third_party": true, "ticket": caveat.text, "location": caveat.location})
                } else {
                    json!({"text": caveat.text, "meaning": caveat.meaning})
                }
            })
            .collect();
        members.insert("caveats".to_owned(), caveats.into());
        if let Some(summary) = &self.summary {
            let bounds: serde_json::Map<String, Value> =
                summary.bounds().map(|(name, bound)| (name.to_owned(), bound.to_string().into())).collect();
            let summary = json!({
                "expires": summary.expires().map(|at| at.to_string()),
                "starts": summary.starts().map(|at| at.to_string()),
                "bounds": bounds,
                "contradictions": summary.contradictions(),
                "never_usable": summary.never_usable(),
            });
            members.insert("summary".to_owned(), summary);
        }
        Value::Object(members)
    }
}

/// Text as it is, with everything escaped that a terminal could act on; other bytes in hex.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .flat_map(|c| {
                let escape = c.is_control() || is_direction(c);
                let (escaped, plain) =
                    if escape { (Some(c.escape_unicode()), None) } else { (None, Some(c)) };
                escaped.into_iter().flatten().chain(plain)
            })
            .collect(),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

/// Characters that reorder what stands beside them, so that a caveat could look like another.
pub(super) const fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_comes_through() {
        assert_eq!(readable("org = ä".as_bytes()), "org = ä");
        assert_eq!(readable(b"a\x1b[31mb"), "a\\u{1b}[31mb");
        assert_eq!(readable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(readable(b"\xff\x00"), "0xff00");
    }
}
