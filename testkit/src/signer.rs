//! The real `tksign` program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Where `tksign` is, built first when it is missing or older than its sources.
///
/// `cargo test --workspace` has built it already; a test of one crate alone may be the first
/// to need it. `TKSIGN_BIN` names another one.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("TKSIGN_BIN") {
            return path.into();
        }
        let (target, profile) = target();
        let path = target.join(if profile == "dev" { "debug" } else { &profile }).join("tksign");
        if !is_current(&path) {
            build(&target, &profile);
        }
        path
    })
}

/// The root folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The target folder and profile of the running test: `TARGET/PROFILE/deps/test-…`.
fn target() -> (PathBuf, String) {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let folder =
        exe.ancestors().skip(1).find(|at| at.join(".cargo-lock").exists() || at.join("deps").exists());
    let folder = folder.expect("a test runs from a target folder");
    let profile = folder.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };
    (folder.parent().unwrap_or(folder).to_owned(), profile.to_owned())
}

fn is_current(path: &Path) -> bool {
    let Ok(built) = path.metadata().and_then(|data| data.modified()) else { return false };
    ["tkcore/src", "tksign-bin/src", "tkcore/Cargo.toml", "tksign-bin/Cargo.toml", "Cargo.toml"]
        .iter()
        .all(|part| newest(&workspace().join(part)) <= built)
}

fn newest(path: &Path) -> SystemTime {
    let own = path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let Ok(entries) = path.read_dir() else { return own };
    entries.flatten().map(|entry| newest(&entry.path())).fold(own, SystemTime::max)
}

fn build(target: &Path, profile: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["build", "--quiet", "--package", "tksign-bin", "--bin", "tksign", "--profile", profile])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("cargo can be started");
    assert!(done.status.success(), "tksign does not build:\n{}", String::from_utf8_lossy(&done.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_and_current() {
        let path = binary();
        assert!(path.is_file(), "{}", path.display());
    }
}
