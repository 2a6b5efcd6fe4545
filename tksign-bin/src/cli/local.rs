//! The signer without a server: for commands while none runs. Holds the store's exclusive lock.

use std::path::Path;
use std::sync::Arc;

use tkcore::protocol::ClientKey;
use tokio::runtime::{Builder, Runtime};

use super::control::{self, Speaker};
use super::{Exit, Failure, init};
use crate::clock::SystemClock;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::service::Options;
use crate::signer::Signer;
use crate::store::StoreError;
use crate::writer::Payload;
use crate::{FeedTree, SignerError};

/// An open signer and the client in whose name it is called.
pub(super) struct Local {
    runtime: Runtime,
    signer: Signer,
    speaker: ClientKey,
}

impl Local {
    pub(super) fn open(folder: &Path, secret: &Secret, speaker: Speaker) -> Result<Self, Failure> {
        let speaker = control::speaker_public(folder, speaker)?;
        let runtime = runtime()?;
        let signer = open(folder, None, secret, Options::default())?;
        Ok(Self { runtime, signer, speaker })
    }

    /// One request payload, one answer payload.
    pub(super) fn handle(&self, payload: &[u8]) -> Payload {
        self.runtime.block_on(self.signer.service.handle(self.speaker, Peer::Control, payload))
    }

    pub(super) const fn feed(&self) -> &FeedTree {
        &self.signer.feed
    }
}

impl Drop for Local {
    /// What was done reaches the feed's rows before the store is let go.
    fn drop(&mut self) {
        self.runtime.block_on(self.signer.service.stop());
    }
}

/// One thread: everything that takes long happens beside it.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().max_blocking_threads(8).build().map_err(|error| {
        Failure::new(
            Exit::Local,
            format!("the event loop does not start: {error}"),
            "raise the limits on files",
        )
    })
}

/// Opens the store of a folder, compared with its high-water file and with the newest published
/// feed, if a folder has it.
pub(super) fn open(
    folder: &Path,
    feed: Option<&Path>,
    secret: &Secret,
    options: Options,
) -> Result<Signer, Failure> {
    if init::is_unfinished(folder) {
        return Err(Failure::new(
            Exit::Store,
            format!("init was cut off in {}", folder.display()),
            "run tksign init again: it begins anew",
        ));
    }
    Signer::open_guarded(folder, feed, secret, options, Arc::new(SystemClock))
        .map_err(|error| failure(&error))
}

/// Why the store could not be used, for a person.
pub(super) fn failure(error: &SignerError) -> Failure {
    let (exit, next) = match error {
        SignerError::Secret(_) => (Exit::Secret, "give the secret that this store was made with"),
        SignerError::WrongSecret => {
            (Exit::Secret, "give the secret that this store was made with, or was last rewrapped to")
        }
        SignerError::Store(error) => match error {
            StoreError::Missing(_) => {
                (Exit::Store, "name the state folder with --dir, or make one with tksign init")
            }
            StoreError::Exists(_) => (Exit::Store, "use the store that is there, or name another --dir"),
            StoreError::Held(_) => {
                (Exit::Store, "a tksign process has it: stop that one, or wait until it is up")
            }
            StoreError::Foreign(_) => (Exit::Store, "name the signer's own state folder with --dir"),
            StoreError::Newer(..) => {
                (Exit::Store, "use the newer tksign that wrote it; there is no way back")
            }
            StoreError::Damaged(_) => {
                (Exit::Store, "restore the last backup; keep the damaged file for a look")
            }
            StoreError::Raced | StoreError::CutOff(_) => (Exit::Later, "look at the cluster; ask again"),
            StoreError::TooLarge(_) => (Exit::Store, "do it over SQLite: docs/cluster.md"),
            StoreError::Full => (Exit::Local, "make room on the disk"),
            StoreError::Io(..) => {
                (Exit::Local, "check that the folder exists and that this user can write it")
            }
            StoreError::Database(_) => {
                (Exit::Store, "look at the disk, or at etcd; restore the last backup if it stays")
            }
        },
        SignerError::Record(..) | SignerError::Feed(_) => {
            (Exit::Store, "the store was changed outside of the signer: restore the last backup")
        }
        _ => (Exit::Store, "look at tksign doctor"),
    };
    Failure::new(exit, error, next)
}
