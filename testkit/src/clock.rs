//! Another time for a running process, by Debian's `faketime`: no program here has a switch for it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::need;

/// The library that comes between a program and the system's wall clock.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A wall clock that the test moves. The monotonic one is left alone, as when somebody sets the
/// clock or the machine was suspended: timers run on in real time.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that says the right time, kept in a new file; `None` when `faketime` is missing.
    ///
    /// # Panics
    /// When the file cannot be written, or when everything is required.
    #[must_use]
    pub fn new(test: &str, file: PathBuf) -> Option<Self> {
        need(test, LIBRARY, "apt-get install faketime")?;
        let clock = Self { file };
        clock.set(0);
        Some(clock)
    }

    /// What a process needs in its environment to live by this clock.
    ///
    /// # Panics
    /// When the file's name is not UTF-8.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("test folders are UTF-8")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Sets it to so many seconds after the real time.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, seconds: i64) {
        // Whole or not at all: the process reads it at every look at the clock.
        let part = self.file.with_extension("part");
        let written = fs::write(&part, format!("{seconds:+}\n")).and_then(|()| fs::rename(&part, &self.file));
        written.expect("the clock's file is written");
    }

    /// Sets it so much after the real time.
    pub fn after(&self, ahead: Duration) {
        self.set(i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX));
    }
}
