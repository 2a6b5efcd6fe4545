use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::Report;

/// As many files as the system allows, for the connections; no core dump, which would hold every
/// key; not dumpable, so that no other process of this user can attach or read its memory; and
/// memory that is never swapped out. None of them is reason enough not to start.
///
/// Files below `/proc/self` belong to root from here on: what is read by the path of a
/// descriptor is read before.
#[must_use]
pub fn harden() -> Report {
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    let core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let dumps = core.and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    Report::one("dumps", dumps.map(|()| "off")).and(Report::one("memory", lock_memory()))
}

/// Files for [`share`] to be whole: all connections of all listeners, and what the store, the sockets
/// and the threads need beside them.
const FILES: usize = 18_000;

/// So many of `most` connections as leave files for the store and the control socket where the system
/// allows few.
pub(crate) fn share(most: usize) -> usize {
    share_of(most, getrlimit(Resource::Nofile).current)
}

fn share_of(most: usize, files: Option<u64>) -> usize {
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(FILES);
    most.saturating_mul(files.min(FILES)) / FILES
}

/// Locks what there is and what will come, each page when it is first used.
fn lock_memory() -> Result<&'static str, String> {
    const NEXT: &str = "secrets can be swapped out; LimitMEMLOCK=infinity lets them be locked";
    let all = Rlimit { current: None, maximum: None };
    // Under a limit the lock would hold at first, and an allocation fail some day: all or nothing. Who
    // may not raise it may still be above it (CAP_IPC_LOCK): then a limit of nothing does not matter.
    let limit = getrlimit(Resource::Memlock);
    if limit != all && setrlimit(Resource::Memlock, all).is_err() {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit });
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(|error| format!("{error}: {NEXT}"))?;
    Ok("locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_shared_and_many_change_nothing() {
        for files in [None, Some(u64::MAX), Some(18_000)] {
            assert_eq!((share_of(12_000, files), share_of(4096, files)), (12_000, 4096));
        }
        assert_eq!((share_of(12_000, Some(17_999)), share_of(4096, Some(17_999))), (11_999, 4095));
        // Of a thousand as many are left as both small listeners take, and those of the store.
        let left = 1000 - share_of(12_000, Some(1000)) - share_of(4096, Some(1000));
        assert!(left > 64 + 32, "{left}");
    }
}
