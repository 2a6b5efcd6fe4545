use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use tkcore::protocol::{ClientState, FeedPosition};

use super::{Exit, Failure, Streams, local, output, reach, values};
use crate::clock::{Clock as _, SystemClock};
use crate::fence::{self, Evidence, Restored};
use crate::memory::SignerError;
use crate::store::{Sqlite, Store};
#[cfg(feature = "etcd")]
use crate::{cli::control, store::StoreError, store::etcd::Etcd};

const EXAMPLE: &str = "\
Examples:
  tksign restore-check --dir state --secret-file secret --feed-folder feed
  tksign restore-check --dir state --secret-file secret --feed-folder feed --merge --out list.unsigned
  tksign keys publication sign --root-key root.key list.unsigned --out list.signed      (offline)
  tksign restore-check --dir state --secret-file secret --feed-folder feed --merge --key-list list.signed

  tksign restore-check --dir state --secret-file secret --mint-clock-back

Compares a restored store with the high-water file and with the newest published feed, as `tkverify refresh`
has brought it to a folder. Exit code 25 while the store is behind. --merge unites the two sets of revocations
and begins an epoch above all that was published; every client is suspended until `tksign clients confirm`,
except `verify` clients that were live. What neither the store nor the folder has is lost; --accept-loss says
that this is meant.

--mint-clock-back is the way out when nothing is minted because the machine's clock was far ahead and is right again.
It revokes every token that was minted ahead, and puts back what ran out by the wrong clock.";

/// The option's name, also of `serve`.
pub(super) const FEED_FOLDER: &str = "feed-folder";

pub(super) fn feed_folder_arg() -> Arg {
    Arg::new(FEED_FOLDER)
        .long(FEED_FOLDER)
        .value_name("DIR")
        .value_parser(clap::value_parser!(PathBuf))
        .help("The newest published feed, as `tkverify refresh` brought it: the store must not be behind it")
}

pub(super) fn describe() -> Command {
    let command = reach::secret_args(
        Command::new("restore-check").about("Compare a restored store; end a restore").after_help(EXAMPLE),
    )
    .arg(values::dir_arg())
    .arg(values::json_arg())
    .arg(feed_folder_arg())
    .arg(values::flag("merge", "Unite what is known and begin the next epoch"))
    .arg(values::text_arg("out", "FILE", "With --merge: write the key list that the root keys are to sign"))
    .arg(
        Arg::new("key-list")
            .long("key-list")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .conflicts_with("out")
            .help("With --merge: the signed key list"),
    )
    .arg(
        values::flag("mint-clock-back", "The clock was far ahead and is right again: mint from now on")
            .conflicts_with("merge"),
    )
    .arg(values::flag("accept-loss", "With --merge: although revocations are known to be lost"));
    #[cfg(feature = "etcd")]
    let command = super::etcd::args(command);
    command
}

/// The restored store, which no process serves.
fn store(matches: &ArgMatches, folder: &Path) -> Result<Box<dyn Store>, Failure> {
    #[cfg(feature = "etcd")]
    if let Some((cluster, space)) = super::etcd::wanted(matches)? {
        if control::is_served(folder) {
            return Err(local::failure(&StoreError::Held(folder.to_owned()).into()));
        }
        let store = Etcd::open(&cluster, space).map_err(|error| local::failure(&error.into()));
        return Ok(Box::new(store?));
    }
    let _ = matches;
    let store = Sqlite::open(folder).map_err(|error| local::failure(&error.into()))?;
    Ok(Box::new(store))
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    let secret = reach::secret(matches)?;
    let feed = matches.get_one::<PathBuf>(FEED_FOLDER).map(PathBuf::as_path);
    let now = SystemClock.now();
    let restored = Restored::open(store(matches, &folder)?, &folder, feed, &secret, now);
    let mut restored = restored.map_err(|error| local::failure(&error))?;
    let gaps = restored.evidence.gaps();
    if values::set(matches, "mint-clock-back") {
        let done = restored.turn_back(now).map_err(|error| local::failure(&error))?;
        let done = done.map_err(|(why, next)| Failure::new(Exit::Refused, why, next))?;
        let facts = output::Facts::default()
            .with_text("last mint was", done.was)
            .with_text("last mint is", done.is)
            .with("minted ahead, revoked", done.revoked)
            .with("revoked before, in force again", done.again);
        output::show(matches, streams, facts)?;
        return Ok(Exit::Ok);
    }
    if !values::set(matches, "merge") {
        report(matches, streams, &restored)?;
        return Ok(if gaps.is_empty() { Exit::Ok } else { Exit::Unsound });
    }
    if gaps.is_empty() {
        return Err(Failure::new(Exit::Refused, "the store is behind nothing", "serve it"));
    }
    let left_out = restored.evidence.left_out();
    if !left_out.is_empty() && !values::set(matches, "accept-loss") {
        let what: Vec<_> = left_out.iter().map(ToString::to_string).collect();
        return Err(Failure::new(
            Exit::Unsound,
            format!("revocations would be lost: {}", what.join("; ")),
            "bring a newer feed (`tkverify refresh` from other mirrors or a verifier's folder), or --accept-loss",
        ));
    }
    if let Some(list) = matches.get_one::<PathBuf>("key-list") {
        let bytes = read(list)?;
        restored.store.on_news(Box::new(|| ()));
        let merged = fence::merge(
            &mut *restored.store,
            &mut restored.memory,
            &restored.evidence,
            (&folder, &bytes, now),
        );
        let merged = merged.map_err(refused)?;
        let facts = output::Facts::default()
            .with_text("position", merged.position)
            .with("revocations added", merged.added)
            .with("keys retired", merged.retired)
            .with("clients suspended", merged.suspended)
            .with("clients live", merged.live);
        output::show(matches, streams, facts)?;
        writeln!(
            streams.stderr,
            "next: tksign serve, then tksign clients list and tksign clients confirm KEY"
        )?;
    } else {
        let out = values::need(matches, "out")?;
        let draft = fence::draft(&mut *restored.store, &restored.memory, &restored.evidence, now);
        let (version, epoch, bytes) = draft.map_err(refused)?;
        std::fs::write(out, bytes).map_err(|error| {
            Failure::new(Exit::Local, format!("{out}: {error}"), "name a file that can be written")
        })?;
        let facts =
            output::Facts::default().with("version", version).with("epoch", epoch).with("to sign", out);
        output::show(matches, streams, facts)?;
    }
    Ok(Exit::Ok)
}

/// The whole gap, and who would have to be confirmed.
fn report(matches: &ArgMatches, streams: &mut Streams<'_>, restored: &Restored) -> Result<(), Failure> {
    let Evidence { own, published, .. } = &restored.evidence;
    let mark = restored.evidence.mark();
    let behind: Vec<_> = restored.evidence.gaps().iter().map(ToString::to_string).collect();
    let left_out: Vec<_> = restored.evidence.left_out().iter().map(ToString::to_string).collect();
    let FeedPosition { epoch, sequence } = restored.memory.position;
    let facts = output::Facts::default()
        .with_text("store", format_args!("{epoch}.{sequence}"))
        .with_maybe("high-water file", mark.map(|mark| mark.position))
        .with_maybe("feed folder", published.as_ref().map(|published| published.position))
        .with_maybe("feed signed", published.as_ref().map(|published| published.head.issued_at))
        .with("audit lines", own.audit.lines)
        .with_maybe("audit lines noted", mark.map(|mark| mark.audit.lines))
        .with_text("behind", if behind.is_empty() { "nothing".to_owned() } else { behind.join("; ") })
        .with_text(
            "lost by a merge",
            if left_out.is_empty() { "nothing".to_owned() } else { left_out.join("; ") },
        );
    output::show(matches, streams, facts)?;
    if values::set(matches, "json") {
        return Ok(());
    }
    for client in restored.memory.clients.values().filter(|client| client.state == ClientState::Active) {
        let was = match mark {
            None => "not known",
            Some(mark) if mark.lists(&restored.memory.core, client) => "live at the last note",
            Some(_) => "NOT live at the last note: removed or changed since the copy was made",
        };
        writeln!(streams.stdout, "client {} {} ({}): {was}", client.key, client.name, client.role.name())?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let unreadable = |error| {
        Failure::new(Exit::Local, format!("{}: {error}", path.display()), "name the key list that was signed")
    };
    let mut list = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(32 * 1024).read_to_end(&mut list).map_err(unreadable)?;
    Ok(list)
}

fn refused(error: SignerError) -> Failure {
    if let SignerError::Store(_) = error {
        return local::failure(&error);
    }
    Failure::new(Exit::Refused, error, "make a new list: restore-check --merge --out, then sign it")
}
