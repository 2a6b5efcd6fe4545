//! The examples' command line: `--name VALUE`, over and over; a token on standard input; keys in hexadecimal.

use std::collections::BTreeMap;
use std::io::Read as _;

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

    /// A key or an id that must be there, in hexadecimal digits.
    ///
    /// # Errors
    /// Says which is missing or wrong.
    pub fn hex<const N: usize>(&self, name: &str) -> Result<[u8; N], String> {
        hex(self.need(name)?).ok_or_else(|| format!("--{name}: {} hexadecimal digits", 2 * N))
    }

    /// One that may be there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Bytes from exactly so many hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// What stands on standard input, without the line's end: a token never comes as an argument, where
/// everybody on the machine could see it.
///
/// # Errors
/// When it cannot be read.
pub fn input() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    Ok(text.trim().to_owned())
}
