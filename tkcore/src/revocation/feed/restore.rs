//! What a folder holds and what to read of it.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::revocation::delta::Span;
use crate::revocation::head::Head;
use crate::revocation::object::ObjectError;
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;

/// The files of a folder, as far as they are there. Read the floor first and the head before
/// the data: a writer writes them the other way round, so that what is read fits.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// `floor`.
    pub floor: Option<Vec<u8>>,
    /// Every `keys/N` that is there, in any order.
    pub key_lists: Vec<Vec<u8>>,
    /// `head`.
    pub head: Option<Vec<u8>>,
    /// The snapshot that [`restore_plan`] names.
    pub snapshot: Option<Arc<Vec<u8>>>,
    /// The deltas that it names, in its order.
    pub deltas: Vec<(Span, Vec<u8>)>,
}

/// Which data files lead to a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// To start from; `None` when the state in force is where the deltas begin.
    pub snapshot: Option<FeedPath>,
    /// To follow, in order.
    pub deltas: Vec<FeedPath>,
}

/// Finds, among the names in a folder (relative, with `/`), the shortest way to the state of
/// the head that lies there: from the position a process has, or from a snapshot. `None` when
/// there is no unbroken one.
///
/// # Errors
/// [`ObjectError`] when the head is none.
pub fn restore_plan<'a>(
    head: &[u8],
    names: impl IntoIterator<Item = &'a str>,
    have: Option<Position>,
) -> Result<Option<RestorePlan>, ObjectError> {
    let head = Head::parse_unverified(head)?.position;
    let mut snapshots = Vec::new();
    let mut deltas = BTreeSet::new();
    for path in names.into_iter().filter_map(FeedPath::from_text) {
        match path {
            FeedPath::Snapshot { position, .. } if position.epoch == head.epoch && position <= head => {
                snapshots.push((position.sequence, path));
            }
            FeedPath::Delta { epoch, span, number } if epoch == head.epoch => {
                deltas.insert((span, number));
            }
            FeedPath::Snapshot { .. }
            | FeedPath::Delta { .. }
            | FeedPath::Head
            | FeedPath::Wait { .. }
            | FeedPath::KeyList { .. } => {}
        }
    }
    let have = have.filter(|have| have.epoch == head.epoch && *have <= head);
    if let Some(deltas) = have.and_then(|have| way(&deltas, have, head)) {
        return Ok(Some(RestorePlan { snapshot: None, deltas }));
    }
    snapshots.sort_unstable_by_key(|(sequence, _)| core::cmp::Reverse(*sequence));
    Ok(snapshots.into_iter().find_map(|(sequence, path)| {
        let deltas = way(&deltas, Position { sequence, ..head }, head)?;
        Some(RestorePlan { snapshot: Some(path), deltas })
    }))
}

fn way(deltas: &BTreeSet<(Span, u64)>, from: Position, to: Position) -> Option<Vec<FeedPath>> {
    let mut way = Vec::new();
    let mut sequence = from.sequence;
    while sequence < to.sequence {
        let first = sequence.checked_add(1)?;
        let (span, number) = Span::ALL.into_iter().find_map(|span| {
            let number = span.number(first)?;
            let fits = sequence.checked_add(span.steps())? <= to.sequence;
            if fits && deltas.contains(&(span, number)) { Some((span, number)) } else { None }
        })?;
        way.push(FeedPath::Delta { epoch: from.epoch, span, number });
        sequence = sequence.checked_add(span.steps())?;
    }
    Some(way)
}
