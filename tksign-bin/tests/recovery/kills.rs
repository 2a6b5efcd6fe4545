//! `kill -9` of the real signer at random points, under load and while it starts.
//!
//! `TKSIGN_KILLS=1000 cargo test --release -p tksign-bin --test recovery power_kill -- --nocapture` is the
//! long run; `TKSIGN_SEED` repeats its choices.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::disk::Random;
use testkit::process::{Process, run};
use testkit::signer::binary;
use testkit::table::{Fault, fault};
use tkcore::protocol::*;
use tkcore::{KeyClass, LineageId, Name};

use crate::power::{Told, number, seed};
use crate::scene::Scene;
use crate::wire::{Key, Line, PATIENCE, pinned};

/// Callers that mint and revoke at the same time.
const CALLERS: usize = 4;

/// A token that was acknowledged, and how far its revocation has come.
struct Token {
    bytes: Vec<u8>,
    revocation: Revocation,
}

#[derive(PartialEq)]
enum Revocation {
    None,
    Asked,
    Acknowledged,
}

/// Asks one thing after the other; an answer that never came is asked for again.
struct Caller {
    minter: Key,
    revoker: Key,
    random: Random,
    unanswered: Option<Asked>,
    repeated: usize,
}

/// A request, under the id that it keeps.
struct Asked {
    payload: Vec<u8>,
    revokes: Option<LineageId>,
}

/// What was acknowledged, and who hears of it.
struct World {
    tokens: Mutex<BTreeMap<LineageId, Token>>,
    heard: Sender<()>,
}

impl Caller {
    fn new(scene: &Scene, random: u64) -> Self {
        let key = |role: &str| Key::allowed(&scene.signer, &[role]);
        let (minter, revoker) = (key("mint"), key("revoke"));
        Self { minter, revoker, random: Random::new(random), unanswered: None, repeated: 0 }
    }

    /// Works until the signer is gone.
    fn work(&mut self, rpc: &str, pinned: &[u8; 32], world: &World) {
        let open = |key: &Key| Line::try_at(rpc, pinned, key).ok()?.ok();
        let (Some(mut minter), Some(mut revoker)) = (open(&self.minter), open(&self.revoker)) else { return };
        if let Some(asked) = self.unanswered.take() {
            let line = if asked.revokes.is_some() { &mut revoker } else { &mut minter };
            let Some(first) = self.ask(line, asked, world) else { return };
            // Once more: the same answer, and nothing is done twice.
            let line = if first.1.revokes.is_some() { &mut revoker } else { &mut minter };
            let Ok(second) = line.try_ask(&first.1.payload) else { return };
            assert_eq!(second.unwrap(), first.0, "a repeated request is answered alike");
            self.repeated += 1;
        }
        loop {
            let payload = minting().request(minter.id(), None).unwrap();
            let Some((answer, _)) = self.ask(&mut minter, Asked { payload, revokes: None }, world) else {
                return;
            };
            let lineage = Mint::read_answer(&answer).unwrap().unwrap().lineage;
            if self.random.below(4) > 0 {
                let revoke = Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() };
                let payload = revoke.request(revoker.id(), None).unwrap();
                world.tokens.lock().unwrap().get_mut(&lineage).unwrap().revocation = Revocation::Asked;
                let asked = Asked { payload, revokes: Some(lineage) };
                if self.ask(&mut revoker, asked, world).is_none() {
                    return;
                }
            }
        }
    }

    /// One answer, noted; without one the request is kept.
    fn ask(&mut self, line: &mut Line, asked: Asked, world: &World) -> Option<(Vec<u8>, Asked)> {
        let Ok(answer) = line.try_ask(&asked.payload) else {
            self.unanswered = Some(asked);
            return None;
        };
        let answer = answer.unwrap();
        let mut tokens = world.tokens.lock().unwrap();
        if let Some(lineage) = asked.revokes {
            Revoke::read_answer(&answer).unwrap().unwrap();
            tokens.get_mut(&lineage).unwrap().revocation = Revocation::Acknowledged;
        } else {
            let minted = Mint::read_answer(&answer).unwrap().unwrap();
            let bytes = minted.token.expose().to_vec();
            tokens.entry(minted.lineage).or_insert(Token { bytes, revocation: Revocation::None });
        }
        drop(tokens);
        let _ = world.heard.send(());
        Some((answer, asked))
    }
}

pub(crate) fn minting() -> Mint {
    Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Name::new("user:17").unwrap()),
        label: None,
        expiry: Expiry::After(86_400),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"a = b".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

/// Everything that was acknowledged since `from` is there; gives the position.
fn survived(scene: &Scene, keys: &[Key; 2], world: &World, checked: &mut BTreeMap<LineageId, bool>) -> u64 {
    let [operator, verifier] = keys.each_ref().map(|key| Line::open(&scene.signer, key).unwrap());
    let (mut operator, mut verifier) = (operator, verifier);
    let status = operator.call(&Status {}).unwrap();
    assert_eq!(status.mode, Mode::Serving, "{}", status.notice.as_str());
    for (lineage, token) in &*world.tokens.lock().unwrap() {
        let is_revoked = token.revocation == Revocation::Acknowledged;
        if checked.get(lineage) == Some(&is_revoked) {
            continue;
        }
        let asked = verifier.call(&Verify { root: token.bytes.as_slice().into(), discharges: vec![] });
        match (&token.revocation, asked.map(drop).map_err(|error| error.code)) {
            (Revocation::None | Revocation::Asked, Ok(())) => {}
            (Revocation::Asked | Revocation::Acknowledged, Err(Code::Revoked)) => {}
            (Revocation::Acknowledged, Ok(())) => panic!("{lineage} was revoked and lives"),
            (_, Err(code)) => panic!("{lineage} was minted and is lost: {code:?}"),
        }
        checked.insert(*lineage, is_revoked);
    }
    status.position.sequence
}

/// Lets a random time pass.
fn burn(turns: usize) {
    for n in 0..turns {
        std::hint::black_box(n);
    }
}

/// Lets all callers work, and kills the signer some time after so many acknowledgements; gives how
/// many there were.
fn kill(
    scene: &mut Scene,
    callers: &mut [Caller],
    world: &World,
    heard: &Receiver<()>,
    at: [usize; 2],
) -> usize {
    let (rpc, pinned) = (scene.signer.rpc().to_owned(), pinned(&scene.signer));
    let [until, spin] = at;
    std::thread::scope(|scope| {
        for caller in callers {
            scope.spawn(|| caller.work(&rpc, &pinned, world));
        }
        (0..until).for_each(|_| heard.recv_timeout(PATIENCE).expect("the signer answers"));
        // Anywhere within what comes after the last acknowledgement.
        burn(spin);
        scene.signer.kill();
    });
    until + heard.try_iter().count()
}

#[test]
fn a_power_kill_of_the_process_at_any_point_loses_nothing_either() {
    let (rounds, seed) = (number("TKSIGN_KILLS", 12), seed());
    let mut random = Random::new(seed);
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let mut callers: Vec<_> = (0..CALLERS).map(|_| Caller::new(&scene, random.next_u64())).collect();
    let keys = ["operator", "verify"].map(|role| Key::allowed(&scene.signer, &[role]));
    let (sender, heard) = channel();
    let world = World { tokens: Mutex::default(), heard: sender };
    let (mut checked, mut told) = (BTreeMap::new(), Told::default());
    let (mut pause, mut acknowledged, mut starts) = (Duration::ZERO, 0, 0);
    for round in 1..=rounds {
        let at = [random.below(16), random.below(3_000_000)];
        acknowledged += kill(&mut scene, &mut callers, &world, &heard, at);
        let started = Instant::now();
        // Every third start is killed as well.
        if random.below(3) == 0 {
            let mut starting = Process::start(&mut scene.signer.command());
            burn(random.below(60_000_000));
            starting.kill();
            starts += 1;
        }
        scene.signer.serve();
        pause = pause.max(started.elapsed());
        let position = survived(&scene, &keys, &world, &mut checked);
        assert!(position >= told.sequence, "round {round}: at {position}, and {} was seen", told.sequence);
        told.sequence = position;
        if round % 100 == 0 {
            println!("{round} kills, {acknowledged} acknowledgements");
        }
    }
    // What nobody has answered yet is done now; after one more kill the store is looked at as a whole.
    acknowledged += kill(&mut scene, &mut callers, &world, &heard, [8 * CALLERS, 0]);
    for (lineage, token) in world.tokens.into_inner().unwrap() {
        told.minted.insert(lineage.to_string());
        if token.revocation == Revocation::Acknowledged {
            told.revoked.insert(lineage.to_string());
        }
    }
    let (state, secret) = (scene.signer.state(), scene.signer.secret());
    assert_eq!(told.holds(&state, &secret), Ok(()));
    // Nothing was done twice: every token but those that the last kill kept an answer from is known.
    let status = run(binary(), ["status", "--json", "--dir", &state, "--secret-file", &secret], b"").stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    let unknown = usize::try_from(status["tokens"].as_u64().unwrap()).unwrap() - told.minted.len();
    let open = callers.iter().filter_map(|caller| caller.unanswered.as_ref());
    let open = open.filter(|asked| asked.revokes.is_none()).count();
    assert!(unknown <= open, "{unknown} tokens that nobody was told of, {open} mints without an answer");
    let repeated: usize = callers.iter().map(|caller| caller.repeated).sum();
    fault(&Fault {
        store: "SQLite",
        fault: "kill -9 under load",
        times: rounds,
        lost: 0,
        pause: Some(pause),
        clients_saw: "a connection that breaks; a repeated request is done once",
    });
    println!(
        "{rounds} kills, {starts} of them followed by one in the start; {acknowledged} acknowledgements, \
         {repeated} requests repeated, 0 lost"
    );
}
