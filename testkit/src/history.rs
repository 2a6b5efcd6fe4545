//! What clients of a cluster have seen, and the checker that says whether it may have been.
//!
//! What is promised, and by which number it is checked:
//! 1. A request that is repeated gives the token that it gave before.
//! 2. Revocations are linearizable: of all that name one token one is new, and it takes effect
//!    between its call and its answer; whoever calls after any answer finds it there.
//! 3. After a revocation was acknowledged, or a floor, its signer refuses the token, at once and for ever.
//! 4. So does every signer from the moment on at which it has served a head that has the
//!    revocation: a mirror lags, and its heads say how far.
//! 5. What a signer has refused as revoked it refuses for ever, and nothing is refused as revoked
//!    that nobody has called to revoke.
//! 6. A step of the feed has one content at all signers, and a revocation is in one step: a later
//!    one than the answer named. All that was acknowledged is in one.
//! 7. A place in the feed has one content at all signers.
//! 8. The places and times of one signer's heads never go back, and a later place was signed at
//!    no earlier time, whoever signed it.
//!
//! Between two signers nothing is promised of the moment after an acknowledgement but 4.

use std::collections::BTreeMap;
use std::fmt;

/// Epoch and sequence.
pub type Place = (u64, u64);
/// A token, however the recorder names it.
pub type Token = u64;

/// One operation, from its call to its answer on one clock (nanoseconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was called.
    pub from: u64,
    /// When it was answered; [`NEVER`] when it was not.
    pub to: u64,
    /// Which signer answered.
    pub signer: usize,
    /// What was asked and answered.
    pub what: What,
}

/// The end of an operation without an answer.
pub const NEVER: u64 = u64::MAX;

/// An operation and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A mint was acknowledged.
    Minted {
        /// The request's id.
        request: u64,
        /// What it gave.
        token: Token,
    },
    /// A revocation was acknowledged, or, with [`NEVER`], may have been done.
    Revoked {
        /// Of which token.
        token: Token,
        /// Whether the answer said that it was new.
        new: bool,
        /// The place that the answer said the feed was at.
        after: Place,
    },
    /// A floor was acknowledged that the token lies below, and that nobody else asked for.
    Floored(Token),
    /// A token was held to be live.
    Live(Token),
    /// A token was refused as revoked.
    Refused(Token),
    /// A head was served.
    Head {
        /// Its place.
        place: Place,
        /// What it says of the set and its history.
        content: u64,
        /// When it was signed, milliseconds.
        issued: u64,
    },
    /// A step of the feed was served.
    Step {
        /// The place it leads to.
        place: Place,
        /// The tokens that it revokes.
        tokens: Vec<Token>,
    },
}

impl What {
    /// Whether it belongs to the story of a token that a [`Broken`] names.
    #[must_use]
    pub fn is_of(&self, about: &str) -> bool {
        let named = |token: &Token| about.contains(&format!("{token:x}"));
        match self {
            Self::Minted { token, .. }
            | Self::Revoked { token, .. }
            | Self::Floored(token)
            | Self::Live(token)
            | Self::Refused(token) => named(token),
            Self::Step { tokens, .. } => tokens.iter().any(named),
            Self::Head { .. } => false,
        }
    }
}

/// What a history that may have been comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Mints acknowledged.
    pub mints: usize,
    /// Tokens whose revocation was acknowledged.
    pub revocations: usize,
    /// Floors acknowledged.
    pub floors: usize,
    /// Verifies answered.
    pub verifies: usize,
    /// Places of the feed that were seen.
    pub places: usize,
}

/// What may not have been: the number of the promise, and about what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub u8, pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.0, self.1)
    }
}

/// Whether a whole history, in any order, keeps every promise.
///
/// # Errors
/// The first that is broken.
pub fn check(events: &[Event]) -> Result<Summary, Broken> {
    let tokens = Tokens::of(events);
    mints(events)?;
    for (token, calls) in &tokens.revoked {
        linearizable(*token, calls)?;
    }
    let steps = steps(events)?;
    for (token, calls) in &tokens.revoked {
        published(*token, calls, steps.get(token))?;
    }
    verifies(events, &tokens, &steps)?;
    let places = heads(events)?;
    let is_verify = |event: &&Event| matches!(event.what, What::Live(_) | What::Refused(_));
    Ok(Summary {
        mints: events.iter().filter(|event| matches!(event.what, What::Minted { .. })).count(),
        revocations: tokens
            .revoked
            .values()
            .filter(|calls| calls.iter().any(|call| call.to != NEVER))
            .count(),
        floors: tokens.floored.len(),
        verifies: events.iter().filter(is_verify).count(),
        places,
    })
}

/// One call to revoke.
#[derive(Clone, Copy)]
struct Call {
    from: u64,
    to: u64,
    new: bool,
    after: Place,
}

/// What is known of each token.
#[derive(Default)]
struct Tokens {
    revoked: BTreeMap<Token, Vec<Call>>,
    /// When the floor that kills a token was called.
    floored: BTreeMap<Token, u64>,
    /// By token and signer: when it was first acknowledged or refused there, by which promise.
    dead: BTreeMap<(Token, usize), (u64, u8)>,
}

impl Tokens {
    fn of(events: &[Event]) -> Self {
        let mut tokens = Self::default();
        for event in events {
            let (token, promise) = match event.what {
                What::Revoked { token, new, after } => {
                    let call = Call { from: event.from, to: event.to, new, after };
                    tokens.revoked.entry(token).or_default().push(call);
                    (token, 3)
                }
                What::Floored(token) => {
                    tokens.floored.insert(token, event.from);
                    (token, 3)
                }
                What::Refused(token) => (token, 5),
                What::Minted { .. } | What::Live(_) | What::Head { .. } | What::Step { .. } => continue,
            };
            let dead = tokens.dead.entry((token, event.signer)).or_insert((NEVER, promise));
            *dead = (*dead).min((event.to, promise));
        }
        tokens
    }
}

fn mints(events: &[Event]) -> Result<(), Broken> {
    let mut given = BTreeMap::new();
    for event in events {
        let What::Minted { request, token } = event.what else { continue };
        let first = *given.entry(request).or_insert(token);
        broken_if(first != token, 1, || format!("request {request:x} gave {first:x} and {token:x}"))?;
    }
    Ok(())
}

/// The calls name one register that is written once. Those without an answer may be the write.
fn linearizable(token: Token, calls: &[Call]) -> Result<(), Broken> {
    let answered = || calls.iter().filter(|call| call.to != NEVER);
    let new: Vec<_> = answered().filter(|call| call.new).collect();
    broken_if(new.len() > 1, 2, || format!("{token:x} was revoked anew {} times", new.len()))?;
    let Some(known) = answered().map(|call| call.to).min() else { return Ok(()) };
    if let Some(new) = new.first() {
        broken_if(new.from > known, 2, || format!("{token:x} was revoked anew after it was acknowledged"))?;
    }
    // The write was called before anybody was told of it.
    let writes = calls
        .iter()
        .filter(|call| if new.is_empty() { call.to == NEVER } else { call.new && call.to != NEVER });
    let is_known = writes.map(|call| call.from).min().is_some_and(|from| from <= known);
    broken_if(!is_known, 2, || format!("{token:x} was found revoked before anybody revoked it"))
}

/// Where the feed has each token.
fn steps(events: &[Event]) -> Result<BTreeMap<Token, Place>, Broken> {
    let (mut contents, mut places) = (BTreeMap::new(), BTreeMap::new());
    for event in events {
        let What::Step { place, tokens } = &event.what else { continue };
        let mut tokens = tokens.clone();
        tokens.sort_unstable();
        let first = contents.entry(*place).or_insert_with(|| tokens.clone());
        broken_if(*first != tokens, 6, || format!("two steps to {place:?}"))?;
    }
    for (place, tokens) in contents {
        for token in tokens {
            let before = places.insert(token, place);
            broken_if(before.is_some(), 6, || format!("{token:x} is in {before:?} and in {place:?}"))?;
        }
    }
    Ok(places)
}

fn published(token: Token, calls: &[Call], place: Option<&Place>) -> Result<(), Broken> {
    let mut answered = calls.iter().filter(|call| call.to != NEVER).peekable();
    if answered.peek().is_none() {
        return Ok(());
    }
    let Some(place) = place else { return Err(Broken(6, format!("{token:x} was acknowledged and is lost"))) };
    let early = answered.find(|call| call.new && call.after >= *place);
    broken_if(early.is_some(), 6, || format!("{token:x} was new after {place:?}, which has it"))
}

fn verifies(events: &[Event], tokens: &Tokens, steps: &BTreeMap<Token, Place>) -> Result<(), Broken> {
    let shown = Shown::of(events);
    for event in events {
        match event.what {
            What::Live(token) => {
                let at = event.signer;
                if let Some((dead, promise)) = tokens.dead.get(&(token, at)) {
                    broken_if(event.from > *dead, *promise, || {
                        format!("{token:x} came back to life at {at}")
                    })?;
                }
                if let Some(place) = steps.get(&token) {
                    let is_known = shown.before(at, event.from).is_some_and(|head| head >= *place);
                    broken_if(is_known, 4, || format!("{token:x} lives at {at}, whose head has {place:?}"))?;
                }
            }
            What::Refused(token) => {
                let calls = tokens.revoked.get(&token);
                let is_called = calls.is_some_and(|calls| calls.iter().any(|call| call.from <= event.to))
                    || tokens.floored.get(&token).is_some_and(|from| *from <= event.to);
                broken_if(!is_called, 5, || format!("{token:x} was refused and nobody had revoked it"))?;
            }
            What::Minted { .. }
            | What::Revoked { .. }
            | What::Floored(_)
            | What::Head { .. }
            | What::Step { .. } => {}
        }
    }
    Ok(())
}

/// The heads of each signer by the time of their answers, with the furthest place until then.
struct Shown(BTreeMap<usize, BTreeMap<u64, Place>>);

impl Shown {
    fn of(events: &[Event]) -> Self {
        let mut shown: BTreeMap<usize, BTreeMap<u64, Place>> = BTreeMap::new();
        for event in events {
            if let What::Head { place, .. } = event.what {
                let there = shown.entry(event.signer).or_default().entry(event.to).or_insert(place);
                *there = (*there).max(place);
            }
        }
        for heads in shown.values_mut() {
            let mut furthest = (0, 0);
            for place in heads.values_mut() {
                furthest = furthest.max(*place);
                *place = furthest;
            }
        }
        Self(shown)
    }

    /// The furthest place whose answer had come before a call.
    fn before(&self, signer: usize, from: u64) -> Option<Place> {
        self.0.get(&signer)?.range(..from).next_back().map(|(_, place)| *place)
    }
}

fn heads(events: &[Event]) -> Result<usize, Broken> {
    let mut heads = Vec::new();
    for event in events {
        if let What::Head { place, content, issued } = event.what {
            heads.push((event, place, content, issued));
        }
    }
    // By place: one content, and times that do not go back.
    let mut places: BTreeMap<Place, (u64, u64, u64)> = BTreeMap::new();
    for (_, place, content, issued) in &heads {
        let known = places.entry(*place).or_insert((*content, *issued, *issued));
        broken_if(known.0 != *content, 7, || format!("two heads at {place:?}"))?;
        (known.1, known.2) = (known.1.min(*issued), known.2.max(*issued));
    }
    let mut latest = 0;
    for (place, (_, first, last)) in &places {
        broken_if(*first < latest, 8, || format!("{place:?} was signed before an earlier place"))?;
        latest = latest.max(*last);
    }
    // By signer: a call after an answer finds no less. The answers that came before a call are
    // those that sort before it.
    heads.sort_by_key(|(event, ..)| event.to);
    let mut calls = heads.clone();
    calls.sort_by_key(|(event, ..)| event.from);
    let mut known: BTreeMap<usize, (Place, u64)> = BTreeMap::new();
    let mut answers = heads.iter().peekable();
    for (event, place, _, issued) in calls {
        while let Some((answer, place, _, issued)) = answers.next_if(|(answer, ..)| answer.to < event.from) {
            let at = known.entry(answer.signer).or_default();
            *at = (at.0.max(*place), at.1.max(*issued));
        }
        let before = known.get(&event.signer).copied().unwrap_or_default();
        let went_back = place < before.0 || issued < before.1;
        broken_if(went_back, 8, || {
            format!("signer {} went from {before:?} back to {place:?}", event.signer)
        })?;
    }
    Ok(places.len())
}

fn broken_if(is_broken: bool, promise: u8, about: impl FnOnce() -> String) -> Result<(), Broken> {
    if is_broken { Err(Broken(promise, about())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Token = 7;

    fn at(signer: usize, from: u64, to: u64, what: What) -> Event {
        Event { from, to, signer, what }
    }

    fn revoked(new: bool, after: u64) -> What {
        What::Revoked { token: T, new, after: (1, after) }
    }

    fn head(sequence: u64, content: u64, issued: u64) -> What {
        What::Head { place: (1, sequence), content, issued }
    }

    fn step(sequence: u64, tokens: &[Token]) -> What {
        What::Step { place: (1, sequence), tokens: tokens.to_vec() }
    }

    /// Minted at 0, revoked at 1 while 2 finds it done, in the feed by its fifth step.
    fn good() -> Vec<Event> {
        vec![
            at(0, 10, 20, What::Minted { request: 1, token: T }),
            at(0, 12, 25, What::Minted { request: 1, token: T }),
            at(0, 30, 31, What::Live(T)),
            at(0, 30, 32, head(4, 40, 1000)),
            at(1, 40, 60, revoked(true, 4)),
            at(2, 45, 55, revoked(false, 4)),
            // A mirror that lags, and then does not.
            at(0, 61, 62, What::Live(T)),
            at(1, 61, 62, What::Refused(T)),
            at(0, 70, 75, head(5, 50, 1001)),
            at(0, 70, 76, step(5, &[T])),
            at(2, 72, 78, step(5, &[T])),
            at(2, 71, 79, head(5, 50, 1003)),
            at(0, 80, 81, What::Refused(T)),
            at(2, 90, 91, revoked(false, 9)),
        ]
    }

    fn broken(change: impl Fn(&mut Vec<Event>)) -> u8 {
        let mut events = good();
        change(&mut events);
        let found = check(&events).expect_err("the checker took a false history");
        // Whatever order the recorder wrote it in.
        events.reverse();
        assert_eq!(check(&events).expect_err("reversed").0, found.0, "{found}");
        found.0
    }

    #[test]
    fn a_true_history_is_taken() {
        let summary = Summary { mints: 2, revocations: 1, floors: 0, verifies: 4, places: 2 };
        assert_eq!(check(&good()), Ok(summary));
        let mut events = good();
        // An answer that was lost: whether it was done is told by another.
        events[4].to = NEVER;
        events.retain(|event| event.from != 61 || event.signer != 1);
        assert_eq!(check(&events), Ok(Summary { verifies: 3, ..summary }));
        // Nobody was told, so nothing need be there.
        events.retain(|event| !matches!(event.what, What::Revoked { new: false, .. } | What::Step { .. }));
        assert_eq!(check(&events), Ok(Summary { verifies: 3, revocations: 0, ..summary }));
    }

    #[test]
    fn a_repeated_mint_that_gives_another_token_is_found() {
        assert_eq!(broken(|events| events[1].what = What::Minted { request: 1, token: 8 }), 1);
    }

    #[test]
    fn a_floor_that_is_forgotten_is_found() {
        let events = |last| {
            vec![
                at(0, 10, 20, What::Minted { request: 1, token: T }),
                at(1, 40, 60, What::Floored(T)),
                // Another signer's mirror lags.
                at(0, 61, 62, What::Live(T)),
                at(0, 70, 71, What::Refused(T)),
                last,
            ]
        };
        let summary = Summary { mints: 1, revocations: 0, floors: 1, verifies: 3, places: 0 };
        assert_eq!(check(&events(at(1, 61, 62, What::Refused(T)))), Ok(summary));
        for (signer, promise) in [(1, 3), (0, 5)] {
            assert_eq!(check(&events(at(signer, 80, 81, What::Live(T)))).unwrap_err().0, promise);
        }
        // Before anybody has called for it.
        assert_eq!(check(&events(at(2, 38, 39, What::Refused(T)))).unwrap_err().0, 5);
    }

    #[test]
    fn revocations_that_no_order_explains_are_found() {
        // New twice.
        assert_eq!(broken(|events| events[5].what = revoked(true, 4)), 2);
        // New although somebody had been told before it was called.
        assert_eq!(broken(|events| (events[4].from, events[4].to) = (56, 60)), 2);
        // Found there although nobody had called.
        assert_eq!(broken(|events| (events[5].from, events[5].to) = (33, 39)), 2);
        assert_eq!(broken(|events| drop(events.remove(4))), 2);
        // The only call that may have been it came later.
        assert_eq!(broken(|events| (events[4].from, events[4].to) = (56, NEVER)), 2);
    }

    #[test]
    fn a_signer_that_does_not_know_what_it_acknowledged_is_found() {
        assert_eq!(broken(|events| events[7].what = What::Live(T)), 3);
        assert_eq!(
            broken(|events| events.push(at(2, 56, 57, What::Live(T)))),
            3,
            "nor one that found it there"
        );
    }

    #[test]
    fn a_signer_behind_its_own_head_is_found() {
        assert_eq!(broken(|events| events[12].what = What::Live(T)), 4);
        assert_eq!(broken(|events| events.push(at(0, 77, 79, What::Live(T)))), 4);
    }

    #[test]
    fn a_token_that_comes_back_or_is_refused_for_nothing_is_found() {
        let refused_early = |events: &mut Vec<Event>| events.push(at(0, 50, 52, What::Refused(T)));
        // Served by 0 before its head has it: then for ever.
        assert_eq!(broken(refused_early), 5);
        assert_eq!(broken(|events| events.push(at(1, 30, 39, What::Refused(T)))), 5);
        assert_eq!(broken(|events| events.push(at(1, 30, 39, What::Refused(8)))), 5);
    }

    #[test]
    fn what_is_lost_from_the_feed_or_twice_in_it_is_found() {
        assert_eq!(broken(|events| events.retain(|event| !matches!(event.what, What::Step { .. }))), 6);
        assert_eq!(broken(|events| events.push(at(1, 99, 100, step(6, &[T])))), 6);
        assert_eq!(broken(|events| events.push(at(1, 99, 100, step(5, &[T, 8])))), 6);
        assert_eq!(broken(|events| events[4].what = revoked(true, 5)), 6);
    }

    #[test]
    fn two_histories_are_found() {
        assert_eq!(broken(|events| events.push(at(1, 99, 100, head(5, 51, 1003)))), 7);
    }

    #[test]
    fn a_head_that_goes_back_is_found() {
        assert_eq!(broken(|events| events.push(at(0, 76, 77, head(4, 40, 1000)))), 8);
        assert_eq!(broken(|events| events.push(at(2, 80, 81, head(5, 50, 1002)))), 8);
        assert_eq!(broken(|events| events.push(at(1, 99, 100, head(6, 60, 1002)))), 8);
    }
}
