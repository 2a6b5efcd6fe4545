//! Programs that are not ours: a test that needs one says so when it is missing.

use std::path::PathBuf;

/// Where `program` is: in a folder of `PATH`, in `/usr/sbin`, or, written with slashes, that very
/// file. `None` after saying loudly that `test` was not run and how to `install` what it needs;
/// with `CI=true` or `TK_REQUIRE_ALL=1` that is a failure.
///
/// # Panics
/// When it is missing and everything is required.
#[must_use]
pub fn need(test: &str, program: &str, install: &str) -> Option<PathBuf> {
    let found = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|path| path.is_file())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder| folder.join(program)).find(|path| path.is_file())
    };
    if found.is_none() {
        not_run(test, &format!("{program} is"), &format!("install: {install}"));
    }
    found
}

/// Says loudly that `test` was not run because `what` (with its verb) missing, and what to do.
///
/// # Panics
/// When everything is required.
pub fn not_run(test: &str, what: &str, remedy: &str) {
    let said = format!("NOT RUN: {test}: {what} missing; {remedy}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    assert!(!is("CI", "true") && !is("TK_REQUIRE_ALL", "1"), "{said}");
    eprintln!("{said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        assert!(need("this", "sh", "-").is_some_and(|path| path.ends_with("sh")));
        assert_eq!(need("this", "/bin/sh", "-"), Some("/bin/sh".into()));
    }
}
