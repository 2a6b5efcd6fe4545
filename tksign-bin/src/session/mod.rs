//! Noise sessions: who speaks, and that nothing recorded can be said twice (PR-50 to PR-63).

mod noise;
mod rate;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use noise::ServerKey;
pub use rate::Rate;
pub(crate) use rate::{Bucket, Counts};
pub(crate) use table::{Opened, Sessions, lock, refuse};
