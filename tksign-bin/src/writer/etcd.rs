//! The writer among others: it takes in what they wrote before it decides, and publishes in turn.

use tkcore::revocation::Head;

use super::Thread;
use crate::memory::SignerError;
use crate::publish::HEAD;
use crate::store::{Op, StoreError, Table};

impl Thread {
    /// Takes in what was written since the last time. What is not understood ends this signer's
    /// writing, not its answers to `verify`: it knows less than the cluster from then on, and says so.
    pub(super) fn follow(&mut self) {
        let _ = self.settle();
        let news = self.store.news();
        if news.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut effects = Vec::new();
        let head = news.iter().rev().find_map(|op| match op {
            Op::Put(Table::Feed, key, head) if key == HEAD => Head::parse_unverified(head).ok(),
            Op::Create(..) | Op::Put(..) | Op::Delete(..) => None,
        });
        for op in news {
            self.publisher.make_base(&op, head.as_ref(), now);
            // A head is served as soon as it is followed: not before this signer's own answers know
            // everything that it names.
            if matches!(&op, Op::Put(Table::Feed, key, _) if key == HEAD) {
                self.show(&std::mem::take(&mut effects));
            }
            match self.publisher.follow(&op, &self.working, now) {
                Ok(mut more) => {
                    more.iter().for_each(|effect| self.working.apply(effect));
                    effects.append(&mut more);
                }
                Err(error) => {
                    if self.store.cut_off().is_none() {
                        eprintln!("tksign: following the other signers: {error}; writing no more");
                    }
                    // The rest is followed: what is revoked must be known here, whatever else is not.
                    self.store.freeze(&error.to_string());
                }
            }
        }
        self.show(&effects);
        if let Err(error) = self.guard.committed(&effects, &self.working) {
            eprintln!("tksign: {error}");
        }
    }

    /// Goes on from where the store says that the audit chain ends: a transaction that failed here may
    /// have been done, its answer lost. What it did besides is told as news.
    ///
    /// # Errors
    /// It was: whatever was decided before knew less.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        match self.store.chain() {
            Some(chain) if chain != self.working.audit => self.working.audit = chain,
            Some(_) | None => return Ok(()),
        }
        self.show(&[]);
        Err(StoreError::Raced)
    }

    /// Whether this signer publishes; when it has just come to, everything is made ready for it.
    pub(super) fn has_turn(&mut self) -> Result<bool, SignerError> {
        let term = self.store.term();
        if term.is_some() && term != self.term {
            self.publisher.lead(&*self.store, &self.working, self.clock.now())?;
        }
        self.term = term;
        if term.is_none() {
            self.publisher.rest();
        }
        Ok(term.is_some())
    }

    /// A turn that has come is taken at once.
    pub(super) fn turn_came(&self) -> bool {
        let term = self.store.term();
        term.is_some() && term != self.term
    }
}
