use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use tkcore::protocol::{
    AuditChain, AuditHead, AuditLine, AuditPrune, AuditTail, BadAuditLine, Bytes, Status,
};
use tkcore::revocation::Audit;

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, control, output, restore, values};
use crate::fence;

const EXAMPLE: &str = "\
Examples:
  tksign audit tail --lines 20
  tksign audit export > audit.jsonl      every line with its hash
  tksign audit verify                    recomputes the chain, names the first bad line
  tksign audit verify --feed-folder DIR  and that all is there which a verifier's head was signed over
  tksign audit verify --file audit.jsonl the same of an export, without a signer
  tksign audit prune --before 100000     removes older lines; export them first";

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
            reach::args(Command::new("verify").about("Recompute the chain"))
                .arg(values::text_arg("file", "FILE", "Of an export, instead of the signer's own"))
                .arg(restore::feed_folder_arg().conflicts_with("file")),
            reach::args(Command::new("prune").about("Remove the oldest lines; the chain goes on")).arg(
                Arg::new("before")
                    .long("before")
                    .value_name("LINE")
                    .required(true)
                    .value_parser(clap::value_parser!(u64))
                    .help("The first line that is kept"),
            ),
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
            reach.pages(|from| AuditTail { line: 0, from }, |line| show(streams, &line, true))?;
            Ok(Exit::Ok)
        }
        Some(("verify", matches)) => verify(matches, streams),
        Some(("prune", matches)) => prune(matches, streams),
        _ => Ok(Exit::Usage),
    }
}

/// People see the line, programs the line with its number and hash. The event stands last and
/// exactly as it was hashed, so that an export can be checked by itself.
fn show(streams: &mut Streams<'_>, line: &AuditLine, json: bool) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&line.bytes.0);
    if json {
        let event = if text.is_empty() { "null" } else { &text };
        let hash = values::to_hex(&line.hash);
        writeln!(streams.stdout, "{{\"line\":{},\"hash\":\"{hash}\"{EVENT}{event}}}", line.line)?;
    } else {
        writeln!(streams.stdout, "{} {text}", line.line)?;
    }
    Ok(())
}

/// What stands before the event in an exported line.
const EVENT: &str = ",\"event\":";

/// An exported line, taken apart again.
fn read(text: &str) -> Option<AuditLine> {
    let (head, event) = text.strip_suffix('}')?.split_once(EVENT)?;
    let (line, hash) = head.strip_prefix("{\"line\":")?.split_once(",\"hash\":\"")?;
    let (line, hash) = (line.parse().ok()?, values::hex(hash.strip_suffix('"')?)?);
    let bytes = if event == "null" { Vec::new() } else { event.as_bytes().to_vec() };
    Some(AuditLine { line, bytes: Bytes(bytes), hash })
}

/// A chain from the line without bytes that begins it.
#[derive(Default)]
struct Checked {
    chain: Option<AuditChain>,
    lines: u64,
}

impl Checked {
    fn add(&mut self, line: &AuditLine) -> Result<(), Failure> {
        let head = AuditHead { lines: line.line, hash: line.hash };
        match &mut self.chain {
            None if line.bytes.0.is_empty() => self.chain = Some(AuditChain::begin(head)),
            None => return Err(bad(line.line)),
            Some(chain) => {
                chain.add(&line.bytes.0, head).map_err(|BadAuditLine(line)| bad(line))?;
                self.lines = self.lines.saturating_add(1);
            }
        }
        Ok(())
    }

    fn finish(&self, partial: bool) -> Result<AuditHead, Failure> {
        let chain = self.chain.as_ref().ok_or_else(|| bad(1))?;
        // An export may end before the pruning that its beginning is the result of.
        if partial { Ok(chain.end()) } else { chain.finish().map_err(|BadAuditLine(line)| bad(line)) }
    }
}

fn bad(line: u64) -> Failure {
    Failure::new(
        Exit::Unsound,
        format!("line {line} does not follow from the one before"),
        "compare with an exported copy; the store was changed outside of the signer",
    )
}

/// What to do without a head to compare with.
const BRING: &str = "bring one by tkverify refresh";

fn verify(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let mut checked = Checked::default();
    if let Some(path) = values::get(matches, "file") {
        let unreadable = |error| Failure::new(Exit::Local, format!("{path}: {error}"), "name an export");
        let file = BufReader::new(File::open(path).map_err(unreadable)?);
        for (number, text) in (1..).zip(file.lines()) {
            let line = read(&text.map_err(unreadable)?);
            checked.add(&line.ok_or_else(|| bad(number))?)?;
        }
        let end = checked.finish(true)?;
        let hash = values::to_hex(&end.hash);
        writeln!(streams.stdout, "{} lines, the chain holds to line {}, {hash}", checked.lines, end.lines)?;
        return Ok(Exit::Ok);
    }
    let mut reach = Reach::open(matches)?;
    let status = reach.call(&Status {})?;
    let signed = AuditHead { lines: status.audit_lines, hash: status.audit_hash };
    let mut told = vec![(signed.lines, signed.digest(), "the signer has signed")];
    if let Some(folder) = matches.get_one::<PathBuf>(restore::FEED_FOLDER) {
        if !values::dir(matches).join(control::STORE_FILE).exists() {
            return Err(Failure::usage("--feed-folder: heads of a cluster are about several logs"));
        }
        let wrong = |why| Failure::new(Exit::Local, format!("{}: {why}", folder.display()), BRING);
        let Audit { lines, digest } = fence::published_head(folder, status.feed).map_err(wrong)?.audit;
        told.push((lines, digest, "was published"));
    }
    let (mut kept, mut moved) = (BTreeMap::new(), 0);
    reach.pages(
        |from| AuditTail { line: 0, from },
        |line| {
            let head = AuditHead { lines: line.line, hash: line.hash };
            if told.iter().any(|(lines, ..)| *lines == line.line) {
                kept.insert(line.line, head.digest());
            }
            moved = if fence::has_moved(&line.bytes.0) { line.line } else { moved };
            checked.add(&line)
        },
    )?;
    let end = checked.finish(false)?.lines;
    for (lines, digest, who) in told {
        let what = match kept.get(&lines) {
            Some(found) if *found == digest => continue,
            _ if lines < moved => {
                return Err(Failure::new(Exit::Local, "the head is from before the cluster was left", BRING));
            }
            Some(_) => format!("line {lines} is not the one that {who}"),
            None if lines > end => format!("the log ends before line {lines}, which {who}"),
            None => format!("line {lines}, which {who}, was pruned"),
        };
        return Err(Failure::new(Exit::Unsound, what, "compare with an exported copy; lines were cut off"));
    }
    writeln!(streams.stdout, "{} lines, the chain holds", checked.lines)?;
    Ok(Exit::Ok)
}

/// Removes lines in as many steps as it takes.
fn prune(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let before = matches.get_one("before").copied().unwrap_or(0);
    let mut reach = Reach::open(matches)?;
    let mut removed = 0u64;
    loop {
        let done = reach.call(&AuditPrune { before })?;
        removed = removed.saturating_add(done.removed);
        if done.removed == 0 || done.first >= before {
            let facts = output::Facts::default().with("removed", removed).with("first line", done.first);
            output::show(matches, streams, facts)?;
            return Ok(Exit::Ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<AuditLine> {
        let mut head = AuditHead { lines: 0, hash: [7; 32] };
        let first = AuditLine { line: 0, bytes: Bytes(Vec::new()), hash: head.hash };
        let rest = (1..=count).map(|line| {
            let bytes = Bytes(format!("{{\"n\":{line},\"event\":1}}").into_bytes());
            head = head.then(&bytes.0);
            AuditLine { line, bytes, hash: head.hash }
        });
        std::iter::once(first).chain(rest).collect()
    }

    fn check(lines: &[AuditLine]) -> Result<AuditHead, String> {
        let mut checked = Checked::default();
        lines.iter().try_for_each(|line| checked.add(line)).map_err(|failure| failure.what)?;
        checked.finish(false).map_err(|failure| failure.what)
    }

    #[test]
    fn the_first_bad_line_is_named() {
        assert_eq!(check(&lines(5)).unwrap().lines, 5);
        assert!(check(&lines(5)[2..]).unwrap_err().contains("line 2"), "no line without bytes begins it");
        for changed in 1..=5 {
            let mut all = lines(5);
            all[changed].bytes.0.push(b' ');
            assert!(check(&all).unwrap_err().contains(&format!("line {changed} ")));
        }
        let mut cut = lines(5);
        cut.remove(3);
        assert!(check(&cut).unwrap_err().contains("line 3 "));
    }

    #[test]
    fn an_exported_line_reads_back_to_its_bytes() {
        for line in lines(2) {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
            show(&mut streams, &line, true).unwrap();
            assert_eq!(read(String::from_utf8(out).unwrap().trim_end()), Some(line));
        }
        assert_eq!(read("{\"line\":1}"), None);
    }
}
