//! `serve --follow`: a follower in the place of the signer.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ArgMatches;
use tokio::runtime::Runtime;

use super::{Exit, Failure, Streams, backup, local, restore, serve, values};
use crate::fence::{Follower, INTERVAL};
use crate::secret::Secret;
use crate::serve as server;
use crate::session::ServerKey;

pub(super) fn run(
    matches: &ArgMatches,
    streams: &mut Streams<'_>,
    secret: Secret,
    start: serve::Start,
    runtime: &Runtime,
) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    let serve::Start { mut config, ready, sandbox, report } = start;
    runtime.block_on(async {
        let mirror = matches.get_one::<PathBuf>(restore::FEED_FOLDER).cloned();
        let opened = Follower::open(&folder, mirror, secret, backup::copy);
        let follower = opened.map(Arc::new).map_err(|error| local::failure(&error))?;
        let (keys, shown) = (follower.service(), follower.service());
        let following = tokio::spawn(follow(Arc::clone(&follower)));
        let notify = config.notify.clone();
        let mut outcome = Ok(());
        let (told, stdout) = (&mut outcome, &mut *streams.stdout);
        let served = server::serve(
            &folder,
            &mut config,
            ServerKey::new(move || keys.statics()),
            Arc::clone(&follower),
            follower.feed().clone(),
            Box::new(|_| ()),
            || {
                serve::close_in(sandbox.as_ref(), report);
                |bound: server::Bound| {
                    *told = serve::tell(matches, ready, stdout, &folder, &bound, &shown.static_keys());
                    notify.tell("READY=1\nSTATUS=following");
                }
            },
        )
        .await;
        following.abort();
        served.map_err(serve::failure).and(outcome)
    })?;
    let _ = writeln!(streams.stderr, "tksign: stopped");
    Ok(Exit::Ok)
}

/// Takes in each new state of the copy that is whole, and each new head of the mirror.
async fn follow(follower: Arc<Follower>) {
    let (mut seen, mut number, mut was_told) = (follower.stamp(), 0u64, false);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = follower.stamp();
        let (taking, is_new) = (Arc::clone(&follower), now != seen);
        number = number.saturating_add(u64::from(is_new));
        let turn = number;
        let work =
            move || if is_new { taking.show().and_then(|()| taking.renew(turn)) } else { taking.show() };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => (seen, was_told) = (now, false),
            Ok(Err(error)) if !was_told => {
                eprintln!("tksign: not taken in yet: {error}");
                was_told = true;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
