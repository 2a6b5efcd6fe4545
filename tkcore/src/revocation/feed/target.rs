//! From a head that is believed to the state it names: what to fetch, and whether it leads
//! there (RV-44 to RV-46).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::FeedDigest;
use crate::revocation::changes::Changes;
use crate::revocation::delta::{self, Delta, Span};
use crate::revocation::feed::config::Config;
use crate::revocation::feed::effect::Refusal;
use crate::revocation::head::Head;
use crate::revocation::object::ObjectError;
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::set::RevocationSet;
use crate::revocation::snapshot::Snapshot;

pub(crate) struct Target {
    pub(crate) head: Head,
    pub(crate) bytes: Vec<u8>,
    /// What was fetched and led here, in order, for the folder.
    pub(crate) objects: Vec<(FeedPath, Arc<Vec<u8>>)>,
    /// Whether all steps from the state in force were seen.
    pub(crate) is_linked: bool,
    /// Answers without what was asked for, since the last one with it.
    pub(crate) misses: usize,
    /// Merged deltas are not to be had.
    pub(crate) is_single: bool,
    stage: Stage,
}

enum Stage {
    Snapshot,
    Deltas(Box<Walk>),
}

struct Walk {
    base: RevocationSet,
    changes: Changes,
    chain: FeedDigest,
    sequence: u64,
    /// What the steps still to come may have, by the signed counter.
    left: u64,
}

/// How far a target is.
pub(crate) enum Progress {
    More,
    Reached(RevocationSet),
}

impl Target {
    /// Chooses deltas or the snapshot, whichever is less to fetch.
    pub(crate) fn new(head: Head, bytes: Vec<u8>, from: Option<(&Head, &RevocationSet)>) -> Self {
        let from = from.filter(|(current, _)| {
            let after_base = head.delta_bytes.saturating_sub(head.base.delta_bytes);
            let by_deltas = head.delta_bytes.checked_sub(current.delta_bytes);
            current.position.epoch == head.position.epoch
                && head.oldest_delta <= current.position.sequence.saturating_add(1)
                && by_deltas.is_some_and(|bytes| bytes <= head.base.length.saturating_add(after_base))
        });
        let stage = match from {
            Some((current, set)) => Stage::Deltas(Box::new(Walk {
                base: set.clone(),
                changes: Changes::default(),
                chain: current.chain,
                sequence: current.position.sequence,
                left: head.delta_bytes.saturating_sub(current.delta_bytes),
            })),
            None => Stage::Snapshot,
        };
        Self {
            head,
            bytes,
            objects: Vec::new(),
            is_linked: from.is_some(),
            misses: 0,
            is_single: false,
            stage,
        }
    }

    /// Gives up the steps and starts from the snapshot instead. `false` when that is what was
    /// done already.
    pub(crate) fn fall_back(&mut self) -> bool {
        let was_linked = self.is_linked;
        self.is_linked = false;
        self.misses = 0;
        self.objects.clear();
        self.stage = Stage::Snapshot;
        was_linked
    }

    /// The next object and the most bytes it may have; `None` when there is nothing left.
    pub(crate) fn want(&self, config: &Config) -> Option<(FeedPath, u64)> {
        match &self.stage {
            Stage::Snapshot => {
                let position =
                    Position { epoch: self.head.position.epoch, sequence: self.head.base.sequence };
                let path = FeedPath::Snapshot { position, digest: self.head.base.digest };
                Some((path, self.head.base.length.min(config.snapshot_bytes)))
            }
            Stage::Deltas(walk) => {
                let first = walk.sequence.checked_add(1)?;
                let last = self.head.position.sequence;
                let fits = |span: &Span| {
                    let end = first.checked_add(span.steps().saturating_sub(1));
                    (*span == Span::One || !self.is_single)
                        && span.number(first).is_some()
                        && end.is_some_and(|end| end <= last)
                };
                let span = Span::ALL.into_iter().find(fits)?;
                let path =
                    FeedPath::Delta { epoch: self.head.position.epoch, span, number: span.number(first)? };
                Some((path, walk.left.saturating_add(span.overhead())))
            }
        }
    }

    /// Takes the object that [`Target::want`] named.
    pub(crate) fn take(
        &mut self,
        path: FeedPath,
        bytes: Vec<u8>,
        config: &Config,
    ) -> Result<Progress, Refusal> {
        let bytes = Arc::new(bytes);
        match path {
            FeedPath::Snapshot { .. } => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let snapshot = Snapshot::parse_shared(&bytes).map_err(Refusal::Unlinked)?;
                if snapshot.digest != self.head.base.digest || length != self.head.base.length {
                    return Err(Refusal::Unlinked(ObjectError::Digest("snapshot")));
                }
                if snapshot.position.sequence != self.head.base.sequence {
                    return Err(Refusal::Unlinked(ObjectError::Shape("snapshot of another position")));
                }
                self.start_from(snapshot)?;
                self.left(self.head.delta_bytes.saturating_sub(self.head.base.delta_bytes));
            }
            FeedPath::Delta { span, .. } => self.follow(span, &bytes, config)?,
            FeedPath::Head | FeedPath::Wait { .. } | FeedPath::KeyList { .. } => {
                return Err(Refusal::Unlinked(ObjectError::Shape("not a delta or snapshot")));
            }
        }
        self.misses = 0;
        self.objects.push((path, bytes));
        self.finish()
    }

    /// Starts from a snapshot whatever its sequence: that it is the right one shows at the
    /// end, when chain and state are compared with the head.
    pub(crate) fn start_from(&mut self, snapshot: Snapshot) -> Result<(), Refusal> {
        if snapshot.feed != self.head.feed {
            return Err(Refusal::Unlinked(ObjectError::OtherFeed));
        }
        let position = snapshot.position;
        if position.epoch != self.head.position.epoch || position > self.head.position {
            return Err(Refusal::Unlinked(ObjectError::Shape("snapshot of another position")));
        }
        self.is_linked = false;
        self.stage = Stage::Deltas(Box::new(Walk {
            base: snapshot.set,
            changes: Changes::default(),
            chain: snapshot.chain,
            sequence: position.sequence,
            left: u64::MAX,
        }));
        Ok(())
    }

    fn left(&mut self, bytes: u64) {
        match &mut self.stage {
            Stage::Deltas(walk) => walk.left = bytes,
            Stage::Snapshot => {}
        }
    }

    /// Takes the steps of one object, in order.
    pub(crate) fn follow(&mut self, span: Span, bytes: &[u8], config: &Config) -> Result<(), Refusal> {
        let Stage::Deltas(walk) = &mut self.stage else {
            return Err(Refusal::Unlinked(ObjectError::Shape("delta without a state")));
        };
        let next = |sequence: u64| sequence.checked_add(1).ok_or(Refusal::Unlinked(ObjectError::TooLarge));
        let mut position = Position { epoch: self.head.position.epoch, sequence: next(walk.sequence)? };
        let steps = delta::steps(span, bytes, self.head.feed, position).map_err(Refusal::Unlinked)?;
        for step in steps {
            if position > self.head.position {
                return Err(Refusal::Unlinked(ObjectError::Shape("step after the head")));
            }
            let delta = Delta::parse(step, self.head.feed, position).map_err(Refusal::Unlinked)?;
            if delta.drop().is_some_and(|day| !day.is_over(self.head.issued_at, config.skew)) {
                return Err(Refusal::DroppedEarly);
            }
            delta.add_to(&mut walk.changes).map_err(Refusal::Unlinked)?;
            walk.chain = delta::chain_next(walk.chain, step);
            walk.sequence = position.sequence;
            let len = u64::try_from(step.len()).unwrap_or(u64::MAX);
            walk.left = walk.left.checked_sub(len).ok_or(Refusal::Unlinked(ObjectError::TooLarge))?;
            position.sequence = next(position.sequence)?;
        }
        Ok(())
    }

    /// Once the last step is there: chain and state must be the signed ones.
    pub(crate) fn finish(&mut self) -> Result<Progress, Refusal> {
        let walk = match &mut self.stage {
            Stage::Deltas(walk) if walk.sequence == self.head.position.sequence => walk,
            Stage::Deltas(_) | Stage::Snapshot => return Ok(Progress::More),
        };
        if walk.chain != self.head.chain {
            return Err(Refusal::Unlinked(ObjectError::Digest("chain")));
        }
        let full = |_| Refusal::Unlinked(ObjectError::TooLarge);
        let set = if walk.changes.is_empty() {
            walk.base.clone()
        } else {
            walk.base.with(&mut walk.changes).map_err(full)?
        };
        if set.digest() != self.head.state || set.floor() != self.head.floor {
            return Err(Refusal::Unlinked(ObjectError::Digest("state")));
        }
        Ok(Progress::Reached(set))
    }
}
