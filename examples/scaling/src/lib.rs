//! Services that follow the feed, in simulated time, and what that costs. Each is the client's real state machine, and the
//! publisher is the real one: heads are signed and checked. Simulated are time, the network, and what is between.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a simulation stops at the first surprise")]

mod network;
mod region;
mod signer;
mod sizes;
mod table;
mod world;

use std::ops::Range;

pub use region::{CACHE_CONTROL, HEADERS};
pub use table::report;

/// Services in a region, and regions.
pub(crate) const SERVICES: u64 = 1_000;
pub(crate) const REGIONS: u64 = 10;
pub(crate) const DAY: f64 = 86_400.0;

/// Who answers the services of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    /// A CDN or bucket: holds no requests.
    Cdn,
    /// A cache as in docs/nginx/cache.conf: `wait` goes through to the one signer.
    Cache,
    /// A signer of the region's own.
    Signer,
}

/// What happens to the services of a region.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) near: Near,
    /// How many are simulated; they stand for all of the region.
    pub(crate) services: u64,
    /// Revocations a second, everywhere.
    pub(crate) revocations: f64,
    /// Seconds within which all of them start.
    pub(crate) spread: u64,
    /// Seconds in which nobody answers.
    pub(crate) outage: Range<u64>,
    /// Seconds that are counted.
    pub(crate) counted: Range<u64>,
}

/// What it cost, in the seconds that count.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// By second: requests in the region; those that each service makes it pass on; those passed on once for all.
    pub(crate) requests: Vec<[u64; 3]>,
    /// To and from the services, headers included.
    pub(crate) bytes: u64,
    /// Of the feed, in all: its deltas.
    pub(crate) feed: u64,
    /// Files that services with a folder write, and the deltas among them.
    pub(crate) files: u64,
    pub(crate) deltas: u64,
    /// When the last service had its first state, in microseconds.
    pub(crate) started: u64,
    /// Microseconds from each revocation to its refusal by each service, ascending.
    pub(crate) delays: Vec<u64>,
}

impl Cost {
    /// Requests a second of one kind, on average.
    pub(crate) fn rate(&self, scene: &Scene, kind: usize) -> f64 {
        let sum: u64 = self.requests.iter().map(|second| second[kind]).sum();
        sum as f64 / (scene.counted.end - scene.counted.start) as f64
    }

    /// Of something counted in these seconds, how much a service has in a day.
    pub(crate) fn a_day(&self, scene: &Scene, count: u64) -> f64 {
        let seconds = scene.counted.end - scene.counted.start;
        count as f64 / scene.services as f64 / seconds as f64 * DAY
    }

    /// Seconds within which this part of all refusals came.
    pub(crate) fn delay(&self, part: f64) -> f64 {
        let last = self.delays.len().saturating_sub(1);
        self.delays.get((last as f64 * part) as usize).map_or(0.0, |micros| *micros as f64 / 1e6)
    }
}
