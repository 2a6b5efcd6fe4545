//! Ports for programs that must come back to the port they had, or do not say which one they took.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Below those that systems give to whoever asks for none by number: nobody gets one of these while
/// its program is away.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port of loopback that is free, and that this process was not given before: the first from a
/// random place on.
///
/// # Panics
/// When none is left.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let random = RandomState::new().build_hasher().finish();
    let count = PORTS.end - PORTS.start;
    let from = u16::try_from(random % u64::from(count)).expect("below a count of ports");
    let mut ports = (0..count).map(|n| PORTS.start + (from + n) % count);
    let is_free = |port: &u16| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = ports.find(is_free).expect("a loopback port is free");
    given.insert(port);
    port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_given_twice() {
        let ports: BTreeSet<_> = (0..64).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 64);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
