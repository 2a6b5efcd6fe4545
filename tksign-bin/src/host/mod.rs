//! The process on its host: what it keeps others from seeing, what it can no longer do once it
//! serves, and how it is started and stopped by systemd. Nothing in here knows a key or a role.
//!
//! [`harden`] comes first, before the secret is used; then [`Sandbox::files`], while there is one
//! thread; then, when everything is open that ever will be, [`Sandbox::calls`]. What the kernel
//! does not have is said in the report and not hidden: a signer without a sandbox still
//! signs, and its operator reads so in the log, in `status` and in `doctor`.

mod calls;
mod files;
mod folder;
mod hygiene;
mod listen;
mod systemd;

pub use calls::Calls;
pub use files::Files;
pub(crate) use folder::write_folder;
pub use hygiene::harden;
pub(crate) use hygiene::share;
pub(crate) use listen::{Address, BindError, Listener};
pub(crate) use systemd::{Inherited, Notify};

use std::fmt;

/// What was asked of the system, and what it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<Measure>);

/// One measure: its name, and what is in force or why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Measure {
    name: &'static str,
    found: Result<String, String>,
}

impl Report {
    fn one(name: &'static str, found: Result<impl Into<String>, impl fmt::Display>) -> Self {
        Self(vec![Measure { name, found: found.map(Into::into).map_err(|error| error.to_string()) }])
    }

    /// The measures of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What is not in force, and why.
    pub fn missing(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().filter(|measure| measure.found.is_err()).map(ToString::to_string)
    }
}

/// What stands before the reason of a measure that is not in force.
pub(crate) const NOT: &str = "NOT IN FORCE: ";

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Ok(detail) => write!(f, "{}: {detail}", self.name),
            Err(why) => write!(f, "{}: {NOT}{why}", self.name),
        }
    }
}

/// All measures in one line, parted by `; `.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, measure) in self.0.iter().enumerate() {
            write!(f, "{}{measure}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// What the process may still do once it serves. Everything else is denied.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Which files and ports.
    pub files: Files,
    /// Which system calls.
    pub calls: Calls,
}

impl Sandbox {
    /// Restricts files and ports, from now on, for this thread and those that it starts: call it
    /// while there is no other.
    #[must_use]
    pub fn files(&self) -> Report {
        Report::one("files", files::restrict(&self.files))
    }

    /// Restricts system calls of every thread, from now on. Another one ends the process (SIGSYS).
    #[must_use]
    pub fn calls(&self) -> Report {
        Report::one("calls", calls::restrict(self.calls))
    }

    /// What the report says when the operator wants none of it.
    #[must_use]
    pub fn off() -> Report {
        let off = || Err::<&str, _>("switched off by --no-sandbox");
        Report::one("files", off()).and(Report::one("calls", off()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_missing() {
        let report = Report::one("dumps", Ok::<_, &str>("off")).and(Sandbox::off());
        assert!(report.to_string().starts_with("dumps: off; files: NOT IN FORCE: switched off"));
        assert_eq!(report.missing().count(), 2);
    }
}
