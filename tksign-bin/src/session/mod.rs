//! Noise sessions: who speaks, and that nothing recorded can be said twice (PR-50 to PR-63).

mod counts;
mod noise;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use counts::Counts;
pub(crate) use noise::ServerKey;
pub(crate) use table::{Opened, Sessions, lock, refuse};
