//! Sets of discharges, ours and other makers': a program in bytes builds a token with third-party
//! caveats and some discharges, right and wrong ones. Accepted is exactly what a slow and obvious
//! check accepts.

use tkcore::plain::Macaroon;
use tkcore::{Budget, CaveatKey, Error, RootKey};

/// Each byte is one step: ask for a party, add a discharge of a party, or nest.
pub fn run(data: &[u8]) {
    let key = RootKey::derive(b"root");
    let mut root = Macaroon::create(&key, b"root", None).expect("small");
    let mut asks: Vec<(Option<usize>, u8)> = Vec::new();
    let mut discharges: Vec<(u8, Macaroon, bool)> = Vec::new();
    for (at, byte) in data.iter().take(40).enumerate() {
        let party = byte & 7;
        let nonce = [at as u8; 24];
        match byte >> 5 {
            0..=2 => {
                root.attenuate_third_party(None, &[party], &caveat_key(party), &nonce).expect("small");
                asks.push((None, party));
            }
            3 | 4 => {
                let one = Macaroon::create(&caveat_key(party).discharge_key(), &[party], None).expect("small");
                discharges.push((party, one, true));
            }
            5 => {
                let index = discharges.len().wrapping_sub(1);
                if let Some((_, last, _)) = discharges.last_mut() {
                    last.attenuate_third_party(None, &[party], &caveat_key(party), &nonce).expect("small");
                    asks.push((Some(index), party));
                }
            }
            6 => {
                let one = Macaroon::create(&RootKey::derive(b"stranger"), &[party], None).expect("small");
                discharges.push((party, one, false));
            }
            _ => {
                if let Some((_, _, good)) = discharges.last_mut() {
                    *good = false;
                }
            }
        }
    }
    let bound: Vec<Macaroon> = discharges
        .iter()
        .map(|(_, one, good)| {
            let bound = root.bind(one).expect("a macaroon has a signature");
            // A spoilt one is bound twice; a stranger's is wrong either way.
            if *good { bound } else { root.bind(&bound).expect("as before") }
        })
        .collect();
    let outcome = root.verify(&key, &bound, &mut Budget::default());
    assert_eq!(outcome.is_ok(), obviously_right(&asks, &discharges), "{outcome:?}");
    if let Err(error) = outcome {
        assert!(matches!(error, Error::Discharge(_)), "the root's own chain holds: {error:?}");
    }
}

/// Every discharge is good and asked for exactly once, every ask is answered, and all hang on the
/// root.
fn obviously_right(asks: &[(Option<usize>, u8)], discharges: &[(u8, Macaroon, bool)]) -> bool {
    let once = discharges.iter().enumerate().all(|(at, (party, _, good))| {
        *good
            && discharges.iter().filter(|(other, _, _)| other == party).count() == 1
            && asks.iter().filter(|(_, asked)| asked == party).count() == 1
            && hangs_on_root(at, asks, discharges)
    });
    once && asks.iter().all(|(_, asked)| discharges.iter().any(|(party, _, _)| party == asked))
}

fn hangs_on_root(mut at: usize, asks: &[(Option<usize>, u8)], discharges: &[(u8, Macaroon, bool)]) -> bool {
    for _ in 0..=discharges.len() {
        match asks.iter().find(|(_, asked)| *asked == discharges[at].0) {
            Some((None, _)) => return true,
            Some((Some(above), _)) => at = *above,
            None => return false,
        }
    }
    false
}

fn caveat_key(party: u8) -> CaveatKey {
    CaveatKey::from_bytes([party; 32])
}
