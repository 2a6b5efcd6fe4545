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
