//! The examples' command line: `--name VALUE`, over and over.

use std::collections::BTreeMap;

/// What was given.
#[derive(Debug)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads the arguments of this process, from the given one on; only `known` names may occur.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn read(from: usize, known: &[&str]) -> Result<Self, String> {
        let mut args = std::env::args().skip(from);
        let mut given = BTreeMap::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").filter(|name| known.contains(name));
            let name = name.ok_or_else(|| format!("no option {arg}; there are --{}", known.join(", --")))?;
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Self(given))
    }

    /// One that must be there.
    ///
    /// # Errors
    /// Says which is missing.
    pub fn need(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("--{name} is missing"))
    }

    /// One that may be there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
