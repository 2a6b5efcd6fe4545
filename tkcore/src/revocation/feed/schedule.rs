//! Waits: jitter, back-off, and places to ask. Random numbers come from the caller.

use alloc::vec::Vec;
use core::time::Duration;

use crate::revocation::feed::config::Config;

/// What is known of one place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mirror {
    pub(crate) failures: u32,
    /// Not to be asked before.
    pub(crate) rest_until: Duration,
    /// The part of it that the place itself asked for.
    pub(crate) asked_until: Duration,
    /// It had no long poll: not to be tried before. What stood there, a proxy that started or a signer
    /// that was replaced, may be gone.
    pub(crate) plain_until: Duration,
    /// It has not said yet whether there is a next key list.
    pub(crate) is_unprobed: bool,
    /// What it last gave as head was taken or is what we have.
    pub(crate) is_settled: bool,
}

/// Between two thirds of the interval and all of it, so never later than was promised: ± 20 % of
/// the mean, which is five sixths.
pub(crate) fn jitter(interval: Duration, random: u64) -> Duration {
    let third = interval.checked_div(3).unwrap_or(Duration::ZERO);
    interval.saturating_sub(part(third, random))
}

/// Full jitter: anything up to the bound that doubles with each failure, but never nothing.
pub(crate) fn backoff(config: &Config, failures: u32, random: u64) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(u32::MAX);
    let bound = config.backoff.saturating_mul(doubled).min(config.backoff_cap);
    part(bound, random).max(Duration::from_millis(10))
}

/// `duration · random / 2^64`.
fn part(duration: Duration, random: u64) -> Duration {
    let nanos = duration.as_nanos().min(u128::from(u64::MAX));
    let part = nanos.saturating_mul(u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

pub(crate) fn mirrors(config: &Config) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    mirrors.resize(config.mirrors.max(1), Mirror { is_unprobed: true, ..Mirror::default() });
    mirrors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FeedId;
    use crate::revocation::{FeedKey, RootKeys};

    #[test]
    fn a_wait_is_spread_over_the_last_third_and_never_longer_than_the_interval() {
        let interval = Duration::from_secs(12);
        assert_eq!(jitter(interval, 0), interval);
        assert_eq!(jitter(interval, 1 << 63), Duration::from_secs(10));
        let least = jitter(interval, u64::MAX);
        assert!(least >= Duration::from_secs(8) && least < Duration::from_millis(8_001), "{least:?}");
        assert_eq!(jitter(Duration::ZERO, 7), Duration::ZERO);
        assert!(jitter(Duration::MAX, u64::MAX) > Duration::MAX / 3 * 2);
    }

    #[test]
    fn back_off_doubles_to_its_cap_and_spreads() {
        let key =
            FeedKey::from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let config = Config::new(FeedId::from_bytes([0; 16]), RootKeys::new(1, &[key]).unwrap());
        for failures in [0, 1, 2, 7, 40, u32::MAX] {
            let most = Duration::from_secs(1) * 2u32.pow(failures.clamp(1, 7) - 1);
            let most = most.min(Duration::from_secs(60));
            assert!(backoff(&config, failures, u64::MAX) <= most, "{failures}");
            assert!(backoff(&config, failures, 1 << 63) >= most / 2 - Duration::from_millis(1));
            assert_eq!(backoff(&config, failures, 0), Duration::from_millis(10));
        }
    }
}
