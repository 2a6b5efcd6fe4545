use clap::{Arg, ArgMatches, Command};
use tkcore::protocol::{AuditHead, AuditLine, AuditTail, Status};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, values};

const EXAMPLE: &str = "\
Examples:
  tksign audit tail --lines 20
  tksign audit export > audit.jsonl      every line with its hash
  tksign audit verify                    recomputes the chain, names the first bad line";

pub(super) fn describe() -> Command {
    Command::new("audit")
        .about("The log of what was done and refused, as a chain of hashes")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            reach::args(Command::new("tail").about("The last lines")).arg(
                Arg::new("lines")
                    .long("lines")
                    .value_name("N")
                    .default_value("20")
                    .value_parser(clap::value_parser!(u64))
                    .help("How many"),
            ),
            reach::args(Command::new("export").about("All lines with their hashes, one JSON object each")),
            reach::args(Command::new("verify").about("Recompute the chain")),
        ])
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    match matches.subcommand() {
        Some(("tail", matches)) => {
            let mut reach = Reach::open(matches)?;
            let last = reach.call(&Status {})?.audit_lines;
            let count = matches.get_one("lines").copied().unwrap_or(20);
            let line = last.saturating_sub(count).saturating_add(1).max(1);
            let json = values::set(matches, "json");
            reach.pages(|from| AuditTail { line, from }, |line| show(streams, &line, json))?;
            Ok(Exit::Ok)
        }
        Some(("export", matches)) => {
            let mut reach = Reach::open(matches)?;
            reach.pages(|from| AuditTail { line: 1, from }, |line| show(streams, &line, true))?;
            Ok(Exit::Ok)
        }
        Some(("verify", matches)) => verify(matches, streams),
        _ => Ok(Exit::Usage),
    }
}

/// People see the line, programs the line with its number and hash.
fn show(streams: &mut Streams<'_>, line: &AuditLine, json: bool) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&line.bytes.0);
    if json {
        // A line is JSON itself; one that is not stands as text.
        let inner = serde_json::from_str::<serde_json::Value>(&text);
        let inner = inner.unwrap_or_else(|_| serde_json::Value::String(text.into_owned()));
        let whole =
            serde_json::json!({"line": line.line, "hash": values::to_hex(&line.hash), "event": inner});
        writeln!(streams.stdout, "{whole}")?;
    } else {
        writeln!(streams.stdout, "{} {text}", line.line)?;
    }
    Ok(())
}

/// The chain from its first line that is still there.
#[derive(Default)]
struct Chain {
    last: Option<AuditHead>,
    lines: u64,
    bad: Option<u64>,
}

impl Chain {
    /// The first one is taken as it is: line 0, which has no bytes and begins the chain, or the
    /// first one that is left after pruning.
    fn add(&mut self, line: &AuditLine) {
        self.lines = self.lines.saturating_add(u64::from(line.line > 0));
        let head = AuditHead { lines: line.line, hash: line.hash };
        let follows = self.last.is_none_or(|last| last.then(&line.bytes.0) == head);
        if !follows && self.bad.is_none() {
            self.bad = Some(line.line);
        }
        self.last = Some(head);
    }
}

fn verify(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let mut reach = Reach::open(matches)?;
    let status = reach.call(&Status {})?;
    let mut chain = Chain::default();
    let mut at_status = None;
    reach.pages(
        |from| AuditTail { line: 0, from },
        |line| {
            chain.add(&line);
            if line.line == status.audit_lines {
                at_status = Some(line.hash);
            }
            Ok(())
        },
    )?;
    if let Some(line) = chain.bad {
        return Err(Failure::new(
            Exit::Unsound,
            format!("line {line} does not follow from the one before"),
            "compare with an exported copy; the store was changed outside of the signer",
        ));
    }
    if status.audit_lines > 0 && at_status != Some(status.audit_hash) {
        return Err(Failure::new(
            Exit::Unsound,
            format!("the log ends before line {}, which the signer has signed", status.audit_lines),
            "compare with an exported copy; lines were cut off",
        ));
    }
    writeln!(streams.stdout, "{} lines, the chain holds", chain.lines)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use tkcore::protocol::Bytes;

    use super::*;

    fn lines(count: u64) -> Vec<AuditLine> {
        let mut head = AuditHead { lines: 0, hash: [7; 32] };
        let first = AuditLine { line: 0, bytes: Bytes(Vec::new()), hash: head.hash };
        let rest = (1..=count).map(|line| {
            let bytes = Bytes(format!("{{\"n\":{line}}}").into_bytes());
            head = head.then(&bytes.0);
            AuditLine { line, bytes, hash: head.hash }
        });
        std::iter::once(first).chain(rest).collect()
    }

    fn bad(lines: &[AuditLine]) -> Option<u64> {
        let mut chain = Chain::default();
        lines.iter().for_each(|line| chain.add(line));
        chain.bad
    }

    #[test]
    fn the_first_bad_line_is_named() {
        assert_eq!(bad(&lines(5)), None);
        assert_eq!(bad(&lines(5)[2..]), None, "pruned");
        for changed in 1..=5 {
            let mut all = lines(5);
            all[changed].bytes.0.push(b' ');
            assert_eq!(bad(&all), Some(changed as u64));
        }
        let mut cut = lines(5);
        cut.remove(3);
        assert_eq!(bad(&cut), Some(4));
    }
}
