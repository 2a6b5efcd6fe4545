use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tkcore::protocol::{Bucket, Rate};

use crate::peer::Origin;
use crate::session::{Counts, lock};

/// How many connections may be open: in all, and from one origin. Shared by the connections of
/// one listener; each gives its place back when it ends.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    most_each: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    each: Counts<Origin>,
}

/// A place for one connection.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    origin: Origin,
}

impl Gate {
    pub(crate) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, open: Mutex::default() })
    }

    /// A place, unless the gate or the origin's share of it is full.
    pub(crate) fn enter(self: &Arc<Self>, origin: Origin) -> Option<Place> {
        let mut open = lock(&self.open);
        if open.all >= self.most || open.each.of(&origin) >= self.most_each {
            return None;
        }
        open.each.add(origin);
        open.all = open.all.saturating_add(1);
        Some(Place { gate: Arc::clone(self), origin })
    }

    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        lock(&self.open).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.gate.open);
        open.all = open.all.saturating_sub(1);
        open.each.remove(&self.origin);
    }
}

/// Handshakes of one origin, a second and at once: a fleet of services behind one address that
/// restarts together, and no more than a few percent of a core for an attacker.
const HANDSHAKES: Rate = Rate { per_second: 50, burst: 200 };
/// Most handshakes under way or waiting for the pool: at some 400 µs each a queue of 50 ms.
const WAITING: usize = 128;
/// Most origins remembered; past it those that have not used their share are dropped.
const ORIGINS: usize = 16_384;

/// How often an origin may shake hands, and how many handshakes wait in all.
#[derive(Debug, Default)]
pub(crate) struct HandshakeGate {
    state: Mutex<Handshakes>,
}

#[derive(Debug, Default)]
struct Handshakes {
    under_way: usize,
    origins: HashMap<Origin, Bucket<Instant>>,
}

/// A handshake that may go on.
#[derive(Debug)]
pub(crate) struct Handshake(Arc<HandshakeGate>);

impl HandshakeGate {
    pub(crate) fn enter(self: &Arc<Self>, origin: Origin, now: Instant) -> Option<Handshake> {
        let mut state = lock(&self.state);
        let is_stranger = origin != Origin::Control;
        if is_stranger && state.under_way >= WAITING {
            return None;
        }
        if is_stranger && state.origins.len() >= ORIGINS && !state.origins.contains_key(&origin) {
            state.origins.retain(|_, bucket| !bucket.is_full(HANDSHAKES, now));
            if state.origins.len() >= ORIGINS {
                return None;
            }
        }
        let bucket = state.origins.entry(origin).or_insert_with(|| Bucket::full(HANDSHAKES, now));
        bucket.take(HANDSHAKES, now).ok()?;
        state.under_way = state.under_way.saturating_add(1);
        Some(Handshake(Arc::clone(self)))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.under_way = state.under_way.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const A: Origin = Origin::V4([192, 0, 2, 1]);
    const B: Origin = Origin::V4([192, 0, 2, 2]);

    #[test]
    fn connections_at_the_cap_and_one_past_it() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(A).unwrap();
        let second = gate.enter(A).unwrap();
        assert!(gate.enter(A).is_none(), "the origin's share");
        let third = gate.enter(B).unwrap();
        assert!(gate.enter(B).is_none(), "the whole gate");
        drop((first, third));
        assert_eq!(gate.open(), 1);
        assert!(gate.enter(B).is_some());
        drop(second);
        assert_eq!(gate.open(), 0);
        assert!(lock(&gate.open).each.is_empty());
    }

    /// However many strangers wait or have come: the operator is none of them.
    #[test]
    fn strangers_keep_nobody_from_the_control_socket() {
        let (gate, now) = (Arc::new(HandshakeGate::default()), monotonic());
        let _kept: Vec<_> = (0..WAITING).map(|_| gate.enter(A, now).unwrap()).collect();
        assert!(gate.enter(B, now).is_none());
        assert!(gate.enter(Origin::Control, now).is_some(), "with no room to wait");
        let gate = Arc::new(HandshakeGate::default());
        for n in 0..ORIGINS as u64 {
            drop(gate.enter(Origin::V6(n.to_be_bytes()), now).unwrap());
        }
        assert!(gate.enter(B, now).is_none());
        assert!(gate.enter(Origin::Control, now).is_some(), "with no room to count another origin");
    }

    /// PR-51.
    #[test]
    fn handshakes_at_the_cap_and_one_past_it() {
        let gate = Arc::new(HandshakeGate::default());
        let now = monotonic();
        let kept: Vec<_> = (0..WAITING).map(|_| gate.enter(A, now).unwrap()).collect();
        assert!(gate.enter(B, now).is_none());
        drop(kept);
        for _ in WAITING..200 {
            drop(gate.enter(A, now).unwrap());
        }
        assert!(gate.enter(A, now).is_none(), "the origin's rate");
        assert!(gate.enter(B, now).is_some());
    }
}
