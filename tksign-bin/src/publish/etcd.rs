//! What other signers wrote, taken in: how a signer that does not publish follows the one that
//! does, serves what that one has signed, and takes its place.

use std::sync::Arc;

use tkcore::Timestamp;
use tkcore::protocol::ClientKey;
use tkcore::revocation::publish::Publisher as State;
use tkcore::revocation::{FeedPath, Head, KeyList, Position};

use super::{CHAIN, HEAD, Publisher, RETRY};
use crate::clock::monotonic;
use crate::codec::Reader;
use crate::keys::{Core, KeyRecord, PublicationSecret};
use crate::memory::{self, CHECK, CORE, CurrentList, Effect, LAST_MINT, Memory, SignerError, bad, unseal};
use crate::random;
use crate::revoked;
use crate::store::{Op, Store, Table};

impl Publisher {
    /// What one write means for the memory. A write that is known already means nothing, so it does
    /// not matter whether it was our own.
    pub(crate) fn follow(
        &mut self,
        op: &Op,
        memory: &Memory,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SignerError> {
        let (Op::Create(table, key, _) | Op::Put(table, key, _) | Op::Delete(table, key)) = op;
        let value = match op {
            Op::Create(_, _, value) | Op::Put(_, _, value) => Some(value.as_slice()),
            Op::Delete(..) => None,
        };
        let open = |value: &[u8]| unseal(&memory.kek, *table, key, value);
        Ok(match (table, value) {
            (Table::Keys, Some(value)) => {
                let record = KeyRecord::decode(key, &open(value)?).map_err(bad(*table))?;
                vec![Effect::Key(Arc::new(record))]
            }
            (Table::Clients, Some(value)) => {
                // Where a client may speak does not change while it is one.
                let (info, _) = memory::decode_client(key, &open(value)?)?;
                vec![Effect::Client(Arc::new(info))]
            }
            (Table::Clients, None) => {
                let key: Option<[u8; 32]> = key.as_slice().try_into().ok();
                key.map(|key| Effect::ClientGone(ClientKey::from_bytes(key))).into_iter().collect()
            }
            (Table::PublicationKeys, Some(value)) => {
                let secret = PublicationSecret::decode(&open(value)?).map_err(bad(*table))?;
                vec![Effect::Publication(Arc::new(secret))]
            }
            (Table::KeyLists, Some(value)) => self.key_list(value, memory)?,
            (Table::Meta, Some(value)) if key.starts_with(LAST_MINT) => {
                let minted = Reader::new(&open(value)?).time().map_err(bad(*table))?;
                // Counts no token: how many others registered is known at the start only.
                minted.map_or_else(Vec::new, |at| vec![Effect::Minted(at), Effect::TokensGone(1)])
            }
            (Table::Meta, Some(value)) if key == CHECK && !memory.kek.matches(value) => {
                return Err(SignerError::WrongSecret);
            }
            (Table::Meta, Some(value)) if key == CORE => {
                let core = Core::decode(&open(value)?).map_err(bad(*table))?;
                vec![Effect::Core(Arc::new(core))]
            }
            (Table::Revocations, Some(value)) => {
                let row = revoked::decode(&memory.core, key, value).map_err(bad(*table))?;
                let revocation = &row.revocation;
                let is_floor = revocation.before().is_some();
                let is_known =
                    memory.uncovered.contains_key(key) || self.state.set().has(revocation, row.day);
                let binds = !is_floor || memory.revoked.has_stricter(revocation);
                if is_known && binds { Vec::new() } else { vec![Effect::Revoked(row)] }
            }
            (Table::Revocations, None) => vec![Effect::RevocationsGone(1)],
            (Table::Deltas, Some(value)) => self.step(key, value)?,
            (Table::Feed, Some(value)) if key == CHAIN => self.epoch(value, memory, now),
            (Table::Feed, Some(value)) if key == HEAD => self.head(value, memory, now)?,
            _ => Vec::new(),
        })
    }

    fn key_list(&self, bytes: &[u8], memory: &Memory) -> Result<Vec<Effect>, SignerError> {
        let list = KeyList::verify(bytes, memory.core.feed, &memory.roots)
            .map_err(|_| SignerError::Record(Table::KeyLists, "not signed by the root keys"))?;
        self.tree.put(&FeedPath::KeyList { version: list.version }, bytes.to_vec());
        let is_new = list.version > memory.key_list.list.version;
        let list = CurrentList { list, bytes: bytes.to_vec() };
        Ok(is_new.then(|| Effect::KeyList(Arc::new(list))).into_iter().collect())
    }

    /// Before a step: makes the base of the head that this signer is on its way to, if it is where that
    /// is made. Another head may have taken the place of the one that told of it, unseen.
    pub(crate) fn make_base(&mut self, next: &Op, ahead: Option<&Head>, now: Timestamp) {
        let here = self.state.position().sequence;
        let is_there = |head: &Head| head.base.sequence == here && head.base != *self.state.base();
        if matches!(next, Op::Put(Table::Deltas, ..)) && ahead.is_some_and(is_there) {
            self.rebase(now);
        }
    }

    /// Another's step: applied as a client would, so that the same state results or none.
    fn step(&mut self, key: &[u8], delta: &[u8]) -> Result<Vec<Effect>, SignerError> {
        let position = Position::from_bytes(key).ok_or(SignerError::Record(Table::Deltas, "position"))?;
        let here = self.state.position();
        if position <= here {
            return Ok(Vec::new());
        }
        if position.epoch != here.epoch || position.sequence != here.sequence.saturating_add(1) {
            random::stop("this signer has missed more steps than the feed keeps: it must start again");
        }
        self.state.replay(delta).map_err(|error| SignerError::Feed(error.to_string()))?;
        self.tree.put(&FeedPath::delta(position), delta.to_vec());
        for (path, bytes) in self.state.merged_now(|path| Some(self.tree.get(&path.to_string())?.bytes)) {
            self.tree.put(&path, bytes);
        }
        Ok(vec![Effect::Step(position, Arc::new(self.state.set().clone()))])
    }

    fn epoch(&mut self, chain: &[u8], memory: &Memory, now: Timestamp) -> Vec<Effect> {
        match Position::from_bytes(chain) {
            Some(at) if at.epoch > self.state.position().epoch => {
                self.stale.extend(self.state.served_deltas());
                self.state = State::begin(memory.core.feed, at.epoch, self.state.set().clone());
                self.rebase(now);
                vec![Effect::Position(self.state.position())]
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Another's head is served as soon as everything that it names is here.
    fn head(&mut self, bytes: &[u8], memory: &Memory, now: Timestamp) -> Result<Vec<Effect>, SignerError> {
        if memory.head_bytes.as_deref() == Some(bytes) {
            return Ok(Vec::new());
        }
        let feed = |what: &str| SignerError::Feed(what.to_owned());
        let head = Head::parse_unverified(bytes).map_err(|error| feed(&error.to_string()))?;
        if head.position != self.state.position() || head.state != self.state.set().digest() {
            return Err(feed("the mirror does not add up to the signed head"));
        }
        if head.base.sequence == head.position.sequence && head.base != *self.state.base() {
            self.rebase(now);
        }
        self.stale.extend(self.state.retire_deltas_before(head.oldest_delta));
        // Who signed it removes them from the store, in as many changes as that takes.
        self.forgetting = self.stale.len();
        // A signer that has just joined cannot make the base of before: the one that publishes
        // makes a new one for it.
        if head.base == *self.state.base() {
            self.serve(bytes.to_vec(), memory);
        }
        Ok(vec![Effect::Head(Box::new(head), bytes.to_vec())])
    }

    /// Whether a head has named the base that this signer would name. Until then no step is closed:
    /// the others can make a base only while they are where it is.
    pub(crate) fn has_told_base(&self, memory: &Memory) -> bool {
        memory.head.as_ref().is_some_and(|head| head.base == *self.state.base())
    }

    /// Another publishes: nothing is due but to look whether it still does.
    pub(crate) fn rest(&mut self) {
        self.retry = monotonic().checked_add(RETRY);
    }

    /// From here on this signer publishes: at once, on a base that all others can make as well,
    /// and the rows are removed that its predecessor has dropped and not deleted any more.
    pub(crate) fn lead(
        &mut self,
        store: &dyn Store,
        memory: &Memory,
        now: Timestamp,
    ) -> Result<(), SignerError> {
        self.rebase(now);
        (self.dropped, self.deleting) = (super::undeleted(store, &self.state, &memory.core)?, 0);
        // So do deltas that no head names any more, and that it had not removed.
        let (here, oldest) = (self.state.position(), self.state.oldest_delta());
        memory::each(store, Table::Deltas, |key, _| {
            let at = Position::from_bytes(key).filter(|at| at.epoch != here.epoch || at.sequence < oldest);
            self.stale.extend(at);
            Ok(())
        })?;
        self.stale.sort_unstable();
        self.stale.dedup();
        (self.retry, self.next_head) = (None, monotonic());
        Ok(())
    }
}
