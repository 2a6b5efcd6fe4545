//! Whether a head is believed: the checks of RV-42, in their order.

use alloc::boxed::Box;

use crate::revocation::feed::config::Config;
use crate::revocation::feed::effect::{Alarm, Refusal};
use crate::revocation::feed::floor::Floor;
use crate::revocation::head::{Head, SignedHead, Standing};
use crate::revocation::key_list::{KeyList, PublicationKey};
use crate::time::Timestamp;

/// Where a head comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Anybody may have sent it.
    Network,
    /// It was believed once and written down. It may have run out since, which makes it stale
    /// and not wrong, and its key's window may have closed.
    Store,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    Refused(Refusal, Option<Alarm>),
    /// It cannot be judged before this key list is there.
    NeedKeys(u64),
    /// Later than what is known, or the same position signed again.
    Good(Box<Head>),
}

pub(crate) struct Judge<'a> {
    pub(crate) config: &'a Config,
    pub(crate) keys: Option<&'a KeyList>,
    /// Lists before it, as far as a folder still has them.
    pub(crate) older: &'a [KeyList],
    pub(crate) floor: &'a Floor,
    /// The head in force.
    pub(crate) current: Option<&'a Head>,
    pub(crate) now: Timestamp,
    pub(crate) source: Source,
}

impl Judge<'_> {
    pub(crate) fn judge(&self, bytes: &[u8]) -> Verdict {
        let refused = |refusal| Verdict::Refused(refusal, None);
        let signed = match SignedHead::parse(bytes) {
            Ok(signed) => signed,
            Err(what) => return refused(Refusal::Object(what)),
        };
        let head = &signed.head;
        if head.feed != self.config.feed {
            return refused(Refusal::Object(crate::revocation::ObjectError::OtherFeed));
        }
        let Some(keys) = self.keys else {
            return Verdict::NeedKeys(head.key_list.max(self.floor.key_list));
        };
        if keys.version < head.key_list {
            return Verdict::NeedKeys(keys.version.saturating_add(1));
        }
        match signed.standing(keys, |key| self.may_sign(key, head)) {
            Standing::Good => {}
            Standing::NoListedKey if self.was_good(&signed) => {}
            Standing::NoListedKey => return refused(Refusal::NoListedKey),
            Standing::Bad(id) => return refused(Refusal::BadSignature(id)),
        }
        match self.history(head, keys).or_else(|| self.times(head, keys)) {
            Some((refusal, alarm)) => Verdict::Refused(refusal, alarm),
            None => Verdict::Good(Box::new(signed.head)),
        }
    }

    /// A key signs within its window; and one whose window has closed since signs nothing new.
    fn may_sign(&self, key: &PublicationKey, head: &Head) -> bool {
        let is_over = match self.source {
            Source::Network => self.now >= key.not_after,
            Source::Store => false,
        };
        key.is_valid_at(head.issued_at) && !is_over
    }

    /// A process that starts finds the head that was in force when a later list was written:
    /// its key may be dropped there and its epoch over, and still it is the last good state.
    fn was_good(&self, signed: &SignedHead<'_>) -> bool {
        let lists = self.older.iter().filter(|list| list.version >= signed.head.key_list);
        self.is_known_start(&signed.head)
            && lists
                .into_iter()
                .any(|list| signed.standing(list, |key| self.may_sign(key, &signed.head)) == Standing::Good)
    }

    /// Nothing is in force yet, and this is the state that the floor names, whenever it was signed, or
    /// one that came after it: the process ended before it wrote the floor.
    fn is_known_start(&self, head: &Head) -> bool {
        let is_start = match self.source {
            Source::Network => false,
            Source::Store => self.current.is_none(),
        };
        let floor = self.floor;
        let is_same =
            head.position == floor.position && head.state == floor.state && head.chain == floor.chain;
        // An epoch begins with a time of its own.
        let is_new_epoch = floor.position.epoch > 0 && head.position.epoch > floor.position.epoch;
        let is_later = head.position.epoch == floor.position.epoch
            && head.position > floor.position
            && head.issued_at >= floor.issued_at;
        is_start && (is_same || is_later || is_new_epoch)
    }

    fn history(&self, head: &Head, keys: &KeyList) -> Option<(Refusal, Option<Alarm>)> {
        let floor = self.floor;
        if head.position.epoch > keys.epoch {
            return Some((Refusal::Epoch, None));
        }
        if self.is_known_start(head) {
            return None;
        }
        if head.position.epoch < keys.epoch {
            return Some((Refusal::Lagging, None));
        }
        if head.position < floor.position {
            return Some(if head.issued_at > floor.issued_at {
                (Refusal::RolledBack, Some(Alarm::RolledBack))
            } else {
                (Refusal::Lagging, None)
            });
        }
        if head.position == floor.position {
            let is_same = head.state == floor.state && head.chain == floor.chain;
            let in_force = self.current.filter(|current| current.position == head.position);
            if !is_same || in_force.is_some_and(|current| !agree(current, head)) {
                return Some((Refusal::Equivocation, Some(Alarm::Equivocation)));
            }
            if head.issued_at < floor.issued_at {
                return Some((Refusal::Lagging, None));
            }
        }
        None
    }

    fn times(&self, head: &Head, keys: &KeyList) -> Option<(Refusal, Option<Alarm>)> {
        let is_same_epoch = self.floor.position.epoch == keys.epoch;
        let is_later = head.position > self.floor.position;
        if is_same_epoch && is_later && head.issued_at < self.floor.issued_at {
            return Some((Refusal::IssuedEarlier, Some(Alarm::RolledBack)));
        }
        // From its signing on: one that was held back would else be decided by for longer.
        if head.valid_until.saturating_since(head.issued_at) > self.config.local_maximum {
            return Some((Refusal::ValidTooLong, None));
        }
        match self.source {
            Source::Store => None,
            Source::Network if head.issued_at > self.now.saturating_add(self.config.skew) => {
                Some((Refusal::FromTheFuture, None))
            }
            Source::Network if head.valid_until <= self.now => Some((Refusal::Expired, None)),
            Source::Network => None,
        }
    }
}

/// The equality rule (RV-43): two heads of one position tell the same history, and what may
/// advance advances with the time of signing.
fn agree(a: &Head, b: &Head) -> bool {
    let (older, newer) = if a.issued_at <= b.issued_at { (a, b) } else { (b, a) };
    let is_same_state = older.state == newer.state
        && older.chain == newer.chain
        && older.floor == newer.floor
        && older.delta_bytes == newer.delta_bytes;
    let base = older.base.sequence < newer.base.sequence || older.base == newer.base;
    let audit = older.audit.lines < newer.audit.lines || older.audit == newer.audit;
    let advances =
        base && audit && older.oldest_delta <= newer.oldest_delta && older.key_list <= newer.key_list;
    // Two signers may sign at the same moment: then neither is the older one.
    let is_tie = older.issued_at == newer.issued_at
        && (older.base.sequence != newer.base.sequence || older.base == newer.base)
        && (older.audit.lines != newer.audit.lines || older.audit == newer.audit);
    is_same_state && (advances || is_tie)
}
