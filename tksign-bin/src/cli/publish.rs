use std::path::PathBuf;

use clap::{ArgMatches, Command};
use hyper::body::Bytes;
use tkcore::FeedId;
use tkcore::protocol::Status;
use tkcore::revocation::FeedPath;

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, control, output, values};
use crate::feed_tree::FeedTree;

const EXAMPLE: &str = "\
Example:
  tksign publish --dir state /srv/www

Writes the feed as it is now, data first and the head last, so that any web server can carry it.
tksign serve --publish DIR keeps a folder up to date.";

pub(super) fn describe() -> Command {
    let to = values::place_arg("to", "FOLDER", "The web server's root");
    reach::args(Command::new("publish").about("Write the feed to a folder").after_help(EXAMPLE))
        .arg(to.value_parser(clap::value_parser!(PathBuf)))
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let to = &values::path(matches, "to").ok_or_else(|| Failure::usage("FOLDER"))?;
    let mut reach = Reach::open(matches)?;
    // In local mode this also waits for the writer, which signs a head as it starts.
    let status = reach.call(&Status {})?;
    let fetched;
    let tree = match &reach {
        Reach::Local(local) => local.feed(),
        Reach::Running(_) => {
            fetched = fetch(matches, status.feed)?;
            &fetched
        }
    };
    tree.write_folder(to).map_err(|error| {
        Failure::new(
            Exit::Local,
            format!("{}: {error}", to.display()),
            "name a folder that this user can write",
        )
    })?;
    let position = *tree.head().borrow();
    let facts = output::Facts::default()
        .with_text("feed", status.feed)
        .with_text("position", format_args!("{}.{}", position.epoch, position.sequence))
        .with_text("folder", to.display());
    output::show(matches, streams, facts)?;
    Ok(Exit::Ok)
}

/// Copies the tree of the running server over its control socket. The head is taken first, so
/// that all it names was there when the list was made.
fn fetch(matches: &ArgMatches, feed: FeedId) -> Result<FeedTree, Failure> {
    let socket = values::dir(matches).join(crate::serve::CONTROL_SOCKET);
    let prefix = format!("/v1/feed/{feed}/");
    let get = |path: &str| control::get(&socket, &format!("{prefix}{path}"));
    let gone = || Failure::new(Exit::Later, "the feed moved on while it was copied", "run the command again");
    let head = get("head")?.ok_or_else(gone)?;
    let list = control::get(&socket, crate::serve::PATHS)?.ok_or_else(gone)?;
    let tree = FeedTree::new(feed);
    for path in String::from_utf8_lossy(&list).lines() {
        let Some(path) = FeedPath::from_text(path).filter(FeedPath::is_immutable) else { continue };
        // What was dropped since the list was made is not named by any later head.
        if let Some(bytes) = get(&path.to_string())? {
            tree.put(&path, Bytes::from(bytes));
        }
    }
    let read = tkcore::revocation::Head::parse_unverified(&head).map_err(Failure::bug)?;
    tree.announce(read.position, head);
    Ok(tree)
}
