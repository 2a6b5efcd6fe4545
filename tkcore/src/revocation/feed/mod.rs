//! The client's side of the feed as a pure state machine: bytes and times in, decisions out.
//! It reads no clock, opens no socket and no file; a driver does what it says, in order.
//!
//! ```text
//! loop {
//!     match machine.next(moment) {
//!         Next::Sleep(time) => wait that long, or until somebody wants a poll now,
//!         Next::Fetch(fetch) => {
//!             let response = get(mirrors[fetch.mirror], fetch.path, fetch.limit, …);
//!             for effect in machine.receive(fetch, response, moment, random) { write, swap, report }
//!         }
//!     }
//! }
//! ```
//!
//! At start, [`Machine::load`] takes what an earlier run, or another process, left in a folder.

mod config;
mod effect;
mod fetch;
mod floor;
mod judge;
mod machine;
mod restore;
mod schedule;
mod state;
mod target;
mod validity;

pub use config::{Config, HEARTBEAT};
pub use effect::{Alarm, Effect, Event, Link, Refusal, StoreFile};
pub use fetch::{Fetch, Next, Response};
pub use floor::Floor;
pub use machine::{Health, Machine};
pub use restore::{RestorePlan, Stored, restore_plan};
pub use validity::{Freshness, Moment, Validity};
