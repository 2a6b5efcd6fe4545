use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// Which files and ports the process may still reach, by Landlock. Everything else is denied.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Folders in which files are read, written, made and removed: the state, the published feed.
    pub own: Vec<PathBuf>,
    /// Folders in which files are made, overwritten and removed, and none is read: those of Unix
    /// sockets and of the trust file.
    pub making: Vec<PathBuf>,
    /// Files and folders that are only read.
    pub reading: Vec<PathBuf>,
    /// TCP ports that it may bind; 0 is any free one.
    pub bind: Vec<u16>,
    /// TCP ports that it may connect to, at any address.
    pub connect: Vec<u16>,
}

/// Read by SQLite for names of temporary files.
const RANDOM: &str = "/dev/urandom";

/// The rights that are asked for: those of this version. An older kernel gives those it knows.
const RIGHTS: ABI = ABI::V6;

pub(super) fn restrict(files: &Files) -> Result<String, String> {
    let status = attempt(files).map_err(|error| error.to_string())?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled => return Err("Landlock is switched off in this kernel".to_owned()),
        LandlockStatus::NotImplemented => return Err("this kernel has no Landlock".to_owned()),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok("landlock".to_owned()),
        RulesetStatus::PartiallyEnforced => Ok(format!("landlock, without what its version {abi:?} lacks")),
        RulesetStatus::NotEnforced => Err("this kernel's Landlock enforces nothing of it".to_owned()),
    }
}

fn attempt(files: &Files) -> Result<landlock::RestrictionStatus, RulesetError> {
    let any = AccessFs::from_all(RIGHTS);
    let own = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock;
    let making = AccessFs::RemoveFile | AccessFs::MakeReg | AccessFs::MakeSock | AccessFs::WriteFile;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(any)?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?;
    let random = PathBuf::from(RANDOM);
    let reads = files.reading.iter().chain([&random]).map(|path| (path, reading));
    let paths = files.own.iter().map(|path| (path, own));
    for (path, access) in paths.chain(files.making.iter().map(|path| (path, making))).chain(reads) {
        // What is not there cannot be opened later either.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & of_files() };
        rules = rules.add_rule(PathBeneath::new(opened, access))?;
    }
    for port in &files.bind {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in &files.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

fn of_files() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate
}
