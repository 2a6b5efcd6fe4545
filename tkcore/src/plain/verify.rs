use alloc::vec::Vec;

use crate::budget::Budget;
use crate::bundle::Presented;
use crate::error::Error;
use crate::fault::DischargeFault;
use crate::ids::BranchId;
use crate::key::RootKey;
use crate::limits;
use crate::plain::Macaroon;
use crate::verify::{Basis, BranchIds, Scratch, authenticate};

/// A macaroon whose MAC chain holds, with exactly the discharges that it needs. What it restricts
/// is still to be judged: [`VerifiedMacaroon::clear`].
#[derive(Debug)]
pub struct VerifiedMacaroon<'a> {
    root: &'a Macaroon,
    /// In the order in which caveats ask for them.
    discharges: Vec<&'a Macaroon>,
    branches: Vec<BranchId>,
}

/// One first-party caveat that a request must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition<'a> {
    /// Its bytes, as they were received and MACed.
    pub bytes: &'a [u8],
    /// `None`: it stands in the macaroon itself. Otherwise in the discharge of that number,
    /// counted in the order in which caveats ask for them.
    pub discharge: Option<usize>,
}

impl Macaroon {
    /// Verifies the whole chain, with all discharges, before anything it says can be looked at:
    /// by the code that verifies our own tokens.
    ///
    /// Every third-party caveat needs exactly one bound discharge (docs/spec/third-party.md,
    /// TP-20 to TP-28). All tags are compared in constant time. Nothing here recurses, and the
    /// work is bounded by `budget`.
    ///
    /// # Errors
    /// [`NotAuthentic::Signature`](crate::NotAuthentic::Signature) when the macaroon was not made
    /// from this key; [`Error::Discharge`] with its reason; [`Error::TooMuchWork`].
    pub fn verify<'a>(
        &'a self,
        key: &RootKey,
        discharges: &'a [Self],
        budget: &mut Budget,
    ) -> Result<VerifiedMacaroon<'a>, Error> {
        if discharges.len() > limits::FOREIGN_DISCHARGES {
            return Err(DischargeFault::TooMany.into());
        }
        let tokens: Vec<_> = discharges.iter().map(Self::token).collect();
        let presented = Presented::foreign(self.token(), &tokens);
        let mut scratch = Scratch::new();
        authenticate(&presented, Basis::Root(key), BranchIds::Collect, &mut scratch, budget)?;
        let discharges = scratch.asked().filter_map(|at| discharges.get(at)).collect();
        Ok(VerifiedMacaroon { root: self, discharges, branches: scratch.into_branches() })
    }
}

impl<'a> VerifiedMacaroon<'a> {
    /// The macaroon that was verified.
    #[must_use]
    pub const fn macaroon(&self) -> &'a Macaroon {
        self.root
    }

    /// All conditions: the macaroon's own in their order, then its discharges'.
    pub fn conditions(&self) -> impl Iterator<Item = Condition<'a>> {
        let root = conditions(self.root, None);
        let discharges = self.discharges.iter().enumerate();
        root.chain(discharges.flat_map(|(at, discharge)| conditions(discharge, Some(at))))
    }

    /// The branch ids of every point of the macaroon's own chain.
    #[must_use]
    pub fn branches(&self) -> &[BranchId] {
        &self.branches
    }
}

fn conditions(macaroon: &Macaroon, discharge: Option<usize>) -> impl Iterator<Item = Condition<'_>> {
    let first_party = macaroon.token().caveats().filter(|caveat| caveat.vid.is_none());
    first_party.map(move |caveat| Condition { bytes: caveat.cid, discharge })
}

#[cfg(test)]
#[cfg(feature = "third-party")]
mod tests {
    use std::format;
    use std::vec;

    use super::*;
    use crate::danger::NoRevocations;
    use crate::error::NotAuthentic;
    use crate::fault::Party;
    use crate::plain::Predicates;
    use crate::third_party::vid::CaveatKey;
    use crate::wire::v2::RawCaveat;

    fn key() -> RootKey {
        RootKey::derive(b"root key")
    }

    fn caveat_key(id: &[u8]) -> CaveatKey {
        let mut bytes = [0x77; 32];
        for (to, from) in bytes.iter_mut().zip(id) {
            *to = *from;
        }
        CaveatKey::from_bytes(bytes)
    }

    fn asking(mut macaroon: Macaroon, id: &[u8]) -> Macaroon {
        macaroon.attenuate_third_party(Some("there"), id, &caveat_key(id), &[id.len() as u8; 24]).unwrap();
        macaroon
    }

    fn root() -> Macaroon {
        asking(Macaroon::create(&key(), b"root", None).unwrap(), b"one")
    }

    fn discharge(id: &[u8]) -> Macaroon {
        Macaroon::create(&caveat_key(id).discharge_key(), id, None).unwrap()
    }

    fn outcome(root: &Macaroon, unbound: Vec<Macaroon>) -> Result<usize, Error> {
        let bound: Vec<_> = unbound.iter().map(|discharge| root.bind(discharge).unwrap()).collect();
        root.verify(&key(), &bound, &mut Budget::default()).map(|verified| verified.discharges.len())
    }

    fn fault(root: &Macaroon, unbound: Vec<Macaroon>) -> DischargeFault {
        match outcome(root, unbound) {
            Err(Error::Discharge(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    /// TP-2, TP-3, TP-20.
    #[test]
    fn good_sets_in_any_order() {
        assert_eq!(outcome(&root(), vec![discharge(b"one")]), Ok(1));
        let two = asking(root(), b"two");
        assert_eq!(outcome(&two, vec![discharge(b"one"), discharge(b"two")]), Ok(2));
        assert_eq!(outcome(&two, vec![discharge(b"two"), discharge(b"one")]), Ok(2));
        let nested = asking(discharge(b"one"), b"inner");
        assert_eq!(outcome(&root(), vec![discharge(b"inner"), nested]), Ok(2));
    }

    /// TP-21 to TP-26: TP-22, TP-23, TP-24, TP-25.
    #[test]
    fn conditions_come_in_the_order_in_which_caveats_ask_however_the_discharges_lie() {
        // Vocabularies that refer back depend on it.
        let two = asking(root(), b"two");
        let with = |id: &[u8], condition: &[u8]| {
            let mut one = discharge(id);
            one.attenuate(condition).unwrap();
            two.bind(&one).unwrap()
        };
        let (one, other) = (
            [with(b"one", b"first"), with(b"two", b"second")],
            [with(b"two", b"second"), with(b"one", b"first")],
        );
        for bound in [one, other] {
            let verified = two.verify(&key(), &bound, &mut Budget::default()).unwrap();
            let seen: Vec<_> = verified.conditions().map(|one| (one.bytes, one.discharge)).collect();
            assert_eq!(seen, [(&b"first"[..], Some(0)), (b"second", Some(1))]);
            assert_eq!(verified.branches().len(), 3);
        }
    }

    #[test]
    fn each_wrong_set_has_its_reason() {
        assert_eq!(fault(&root(), vec![]), DischargeFault::Missing(Party::of(b"one", Some(b"there"))));
        assert_eq!(fault(&root(), vec![discharge(b"one"), discharge(b"two")]), DischargeFault::Unused);
        assert_eq!(fault(&root(), vec![discharge(b"one"), discharge(b"one")]), DischargeFault::Duplicate);
        assert_eq!(fault(&asking(root(), b"one"), vec![discharge(b"one")]), DischargeFault::Reused);
        assert_eq!(fault(&root(), vec![asking(discharge(b"one"), b"one")]), DischargeFault::Cyclic);
        let (one, two) = (asking(discharge(b"one"), b"two"), asking(discharge(b"two"), b"one"));
        assert_eq!(fault(&root(), vec![one, two]), DischargeFault::Cyclic);
        let stranger = Macaroon::create(&RootKey::derive(b"other"), b"one", None).unwrap();
        assert_eq!(fault(&root(), vec![stranger]), DischargeFault::WronglyBound);

        let (root, one) = (root(), discharge(b"one"));
        let unbound = root.verify(&key(), core::slice::from_ref(&one), &mut Budget::default());
        assert_eq!(unbound.unwrap_err(), DischargeFault::Unbound.into());
        let elsewhere = asking(Macaroon::create(&key(), b"elsewhere", None).unwrap(), b"one");
        let bound = [elsewhere.bind(&one).unwrap()];
        let wrong = root.verify(&key(), &bound, &mut Budget::default());
        assert_eq!(wrong.unwrap_err(), DischargeFault::WronglyBound.into());
    }

    /// TP-27.
    #[test]
    fn a_sealed_key_from_elsewhere_is_refused() {
        let root = root();
        let vid = root.token().caveats().find_map(|caveat| caveat.vid.copied()).unwrap();
        let mut moved = Macaroon::create(&key(), b"moved", None).unwrap();
        moved.append(&RawCaveat { cid: b"one", vid: Some(&vid), location: None }).unwrap();
        assert_eq!(fault(&moved, vec![discharge(b"one")]), DischargeFault::SealedKey);
    }

    #[test]
    fn the_chain_is_judged_before_its_discharges() {
        let root = root();
        let other = RootKey::derive(b"other");
        let error = root.verify(&other, &[], &mut Budget::default()).unwrap_err();
        assert_eq!(error, NotAuthentic::Signature.into());
    }

    #[test]
    fn no_condition_is_seen_before_the_whole_chain_holds() {
        let mut macaroon = root();
        macaroon.attenuate(b"a = 1").unwrap();
        // A verified macaroon is the only thing that has conditions, and there is none.
        assert!(macaroon.verify(&key(), &[], &mut Budget::default()).is_err());
        let bound = [macaroon.bind(&discharge(b"one")).unwrap()];
        let verified = macaroon.verify(&key(), &bound, &mut Budget::default()).unwrap();
        let mut seen = Vec::new();
        let grant = verified
            .clear_each(&NoRevocations, None, |condition| {
                seen.push(condition.bytes.to_vec());
                crate::plain::Verdict::Admits
            })
            .unwrap();
        assert_eq!((seen, grant.conditions()), (vec![b"a = 1".to_vec()], 1));
        let refusal = verified.clear(&NoRevocations, None, &Predicates::new().exact(b"a = 2")).unwrap_err();
        assert_eq!(format!("{refusal}"), "the condition \"a = 1\" is not met");
        let mut long = Macaroon::create(&key(), b"root", None).unwrap();
        long.attenuate(&[b'x'; 100_000]).unwrap();
        let verified = long.verify(&key(), &[], &mut Budget::default()).unwrap();
        let refusal = verified.clear(&NoRevocations, None, &Predicates::new()).unwrap_err();
        assert!(format!("{refusal}").len() < 1100);
    }

    /// TP-28.
    #[test]
    fn nesting_ends_at_its_limit_and_costs_no_stack() {
        for (depth, ok) in [(limits::FOREIGN_DEPTH, true), (limits::FOREIGN_DEPTH + 1, false)] {
            let name = |level: usize| format!("{level:03}").into_bytes();
            let root = asking(Macaroon::create(&key(), b"root", None).unwrap(), &name(1));
            let chain: Vec<_> = (1..=depth)
                .map(|level| {
                    let one = discharge(&name(level));
                    if level < depth { asking(one, &name(level + 1)) } else { one }
                })
                .collect();
            let result = outcome(&root, chain);
            assert_eq!(result.is_ok(), ok, "{depth}: {result:?}");
            if !ok {
                assert_eq!(result, Err(DischargeFault::TooDeep.into()));
            }
        }
    }

    #[test]
    fn the_number_of_discharges_ends_at_its_limit() {
        let many: Vec<_> = (0..10_000u32).map(|i| discharge(&i.to_be_bytes())).collect();
        let root = root();
        let mut budget = Budget::default();
        let all = root.verify(&key(), &many, &mut budget).unwrap_err();
        assert_eq!((all, budget.left()), (DischargeFault::TooMany.into(), limits::VERIFY_BUDGET));
        let most = &many[..limits::FOREIGN_DISCHARGES];
        let missing = root.verify(&key(), most, &mut Budget::default()).unwrap_err();
        assert_eq!(missing, DischargeFault::Missing(Party::of(b"one", Some(b"there"))).into());
        let more = &many[..limits::FOREIGN_DISCHARGES + 1];
        assert_eq!(
            root.verify(&key(), more, &mut Budget::default()).unwrap_err(),
            DischargeFault::TooMany.into()
        );
    }

    #[test]
    fn an_empty_budget_ends_the_search() {
        let error = root().verify(&key(), &[], &mut Budget::new(3)).unwrap_err();
        assert_eq!(error, Error::TooMuchWork);
    }
}
