//! What stands between the services and the signer, and what is counted there.

use std::collections::BTreeMap;

use tkcore::revocation::feed::Response;
use tkcore::revocation::{FeedPath, Position};

use crate::{Cost, Near, REGIONS, SERVICES, Scene};

/// What the signer says of `head`, of what never changes, of what is not there; the test asks a real one.
pub const CACHE_CONTROL: [&str; 3] = ["public, max-age=1", "public, max-age=31536000, immutable", "no-store"];
/// Most header bytes of a request and of an answer; the test looks at real answers.
pub const HEADERS: [u64; 2] = [215, 235];
/// Round trips in microseconds: within a region, and to a signer in another one.
pub(crate) const NEAR: u64 = 4_000;
pub(crate) const FAR: u64 = 150_000;
/// The signer's time for an answer, in microseconds: docs/scaling.md says how it was measured.
pub(crate) const ANSWER: u64 = 13;

pub(crate) struct Region {
    pub(crate) scene: Scene,
    pub(crate) cost: Cost,
    /// Until when it is on its way, until when it may be kept, and what it is.
    cache: BTreeMap<String, (u64, u64, Response)>,
    /// Until when the signer has answers to give.
    busy: u64,
}

impl Region {
    pub(crate) fn new(scene: Scene) -> Self {
        let cost = Cost { requests: vec![[0; 3]; scene.counted.end as usize], ..Cost::default() };
        Self { scene, cost, cache: BTreeMap::new(), busy: 0 }
    }

    pub(crate) fn is_out(&self, now: u64) -> bool {
        self.scene.outage.contains(&(now / 1_000_000))
    }

    fn counts(&self, now: u64) -> bool {
        self.scene.counted.contains(&(now / 1_000_000))
    }

    pub(crate) fn asked(&mut self, now: u64, kind: usize) {
        if self.counts(now) {
            self.cost.requests[(now / 1_000_000) as usize][kind] += 1;
        }
    }

    /// To the signer and back.
    pub(crate) const fn far(&self) -> u64 {
        if matches!(self.scene.near, Near::Signer) { NEAR } else { NEAR + FAR }
    }

    /// One thread answers all who ask it, one after the other; each service stands for several.
    pub(crate) fn queue(&mut self, now: u64) -> u64 {
        let all = if self.scene.near == Near::Signer { SERVICES } else { SERVICES * REGIONS };
        self.busy = self.busy.max(now) + ANSWER * all / self.scene.services;
        self.busy - now
    }

    /// What a cache has of an object, and how far that is: while it may keep it, it asks for it once.
    pub(crate) fn cached(&mut self, now: u64, path: FeedPath, origin: Response) -> (u64, Response) {
        let name = path.to_string();
        if let Some((ready, _, kept)) = self.cache.get(&name).filter(|(_, until, _)| now < *until) {
            return (NEAR + ready.saturating_sub(now), kept.clone());
        }
        let [short, long, never] = CACHE_CONTROL;
        let control = match origin {
            Response::Body(_) if path.is_immutable() => long,
            Response::Body(_) => short,
            _ => never,
        };
        let age =
            control.split([',', ' ']).find_map(|part| part.strip_prefix("max-age=")?.parse::<u64>().ok());
        self.asked(now, if age.is_some() { 2 } else { 1 });
        if let Some(age) = age {
            self.cache.insert(name, (now + FAR, now + FAR + age * 1_000_000, origin.clone()));
        }
        (NEAR + FAR, origin)
    }

    pub(crate) fn sent(&mut self, now: u64, response: &Response) {
        if self.counts(now) {
            let body = if let Response::Body(bytes) = response { bytes.len() } else { 0 };
            self.cost.bytes += HEADERS[0] + HEADERS[1] + body as u64;
        }
    }

    pub(crate) fn wrote(&mut self, now: u64, path: Option<FeedPath>) {
        if self.counts(now) {
            self.cost.files += 1;
            self.cost.deltas += u64::from(matches!(path, Some(FeedPath::Delta { .. })));
        }
    }

    /// A service has gone on by these steps.
    pub(crate) fn moved(&mut self, now: u64, from: Position, to: Position, steps: &[Vec<u64>]) {
        if self.counts(now) {
            let revoked = steps[from.sequence as usize..to.sequence as usize].iter().flatten();
            self.cost.delays.extend(revoked.map(|revoked| now - revoked));
        }
    }
}
