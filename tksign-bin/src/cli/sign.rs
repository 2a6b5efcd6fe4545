//! `keys publication sign`: what is done beside the offline root keys. Needs no signer and no
//! state folder, so that it runs on a machine that has neither.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use tkcore::revocation::RootKeys;
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft};
use zeroize::Zeroizing;

use super::{Exit, Failure, Streams, output, values};

/// Longest draft read: above one of 16 keys and 16 signers.
const DRAFT_BYTES: u64 = 4096;

pub(super) fn describe() -> Command {
    Command::new("sign")
        .about("Offline: look at a prepared key list and sign it with the root keys")
        .arg(values::json_arg())
        .arg(Arg::new("draft").value_name("FILE").required(true).help("What `prepare` has written"))
        .arg(
            Arg::new("root-key")
                .long("root-key")
                .value_name("FILE")
                .required(true)
                .action(ArgAction::Append)
                .value_parser(clap::value_parser!(PathBuf))
                .help("A root private key; repeat until every signer that the draft names is there"),
        )
        .arg(values::text_arg("out", "FILE", "Where to write the signed list").required(true))
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (from, out) = (values::need(matches, "draft")?, values::need(matches, "out")?);
    let bytes = read(Path::new(from), DRAFT_BYTES)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Refused, format!("{from}: {error}"), "carry the file that `prepare` has written")
    };
    let (draft, list) = KeyListDraft::from_bytes(&bytes).map_err(|error| wrong(&error))?;
    let mut keys = Vec::new();
    for path in matches.get_many::<PathBuf>("root-key").unwrap_or_default() {
        let text = Zeroizing::new(read(path, 100)?);
        let text = std::str::from_utf8(&text).unwrap_or_default().trim_end();
        let seed = values::hex(text).map(Zeroizing::new);
        let key = seed.and_then(|seed| FeedSigningKey::from_seed(&seed));
        keys.push(key.ok_or_else(|| {
            Failure::new(
                Exit::Local,
                format!("{} holds no root key", path.display()),
                "name the file that init wrote",
            )
        })?);
    }
    let public: Vec<_> = keys.iter().map(FeedSigningKey::public).collect();
    let threshold = u8::try_from(public.len()).unwrap_or(u8::MAX);
    let roots = RootKeys::new(threshold, &public).map_err(|_| Failure::usage("a root key is named twice"))?;
    let refused = |_| {
        let needed: Vec<_> = draft.signers().iter().map(ToString::to_string).collect();
        wrong(&format!("to be signed by the root keys {}, and these are others", needed.join(", ")))
    };
    let mut signatures = Vec::new();
    for key in &keys {
        signatures.push((key.public().id(), draft.sign(key).map_err(refused)?));
    }
    let signed = draft.assemble(&signatures, &roots).map_err(refused)?;
    std::fs::write(out, signed).map_err(|error| {
        Failure::new(Exit::Local, format!("{out}: {error}"), "name a file that can be written")
    })?;
    let mut facts = output::Facts::default()
        .with_text("feed", list.feed)
        .with("version", list.version)
        .with("epoch", list.epoch)
        .with("keys", crate::codec::count(list.keys.len()));
    if let Some(last) = list.keys.iter().max_by_key(|key| key.not_after) {
        facts = facts.with_text("newest key", last.key.id()).with_text("until", last.not_after);
    }
    output::show(matches, streams, facts.with("signed", out))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(usize::try_from(limit).unwrap_or(0));
    let file = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    file.map_err(|error| {
        Failure::new(Exit::Local, format!("{}: {error}", path.display()), "name a file that can be read")
    })?;
    Ok(bytes)
}
