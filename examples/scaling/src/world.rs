//! One event after the other; times are microseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use tkcore::revocation::feed::{
    Config, Effect, Fetch, HEARTBEAT, Machine, Moment, Next, Response, StoreFile,
};

use crate::region::Region;
use crate::signer::{FEED, Signer, at};
use crate::{Cost, Scene};

/// Until a step is closed, at most: here every first revocation of one waits for that long.
const STEP: u64 = 50_000;
const BEAT: u64 = HEARTBEAT.as_micros() as u64;

pub(crate) enum Event {
    Revoke,
    Close,
    Beat,
    Turn(usize),
    Answer(usize, Fetch, Response),
}

pub(crate) struct World {
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    random: u64,
    pub(crate) signer: Signer,
    pub(crate) region: Region,
    pub(crate) services: Vec<Machine>,
    pub(crate) waiting: Vec<(usize, Fetch)>,
}

/// Runs a scene to its end.
pub(crate) fn run(scene: Scene) -> Cost {
    let (signer, roots) = Signer::new();
    let services: Vec<_> =
        (0..scene.services).map(|_| Machine::new(Config::new(FEED, roots.clone()))).collect();
    let (spread, end) = (scene.spread * 1_000_000, scene.counted.end * 1_000_000);
    let (region, waiting, queue) = (Region::new(scene), Vec::new(), BTreeMap::new());
    let mut world = World { now: 0, queue, random: 20_261_128, signer, region, services, waiting };
    for service in 0..world.services.len() {
        let start = world.random() % spread.max(1);
        world.later(start, Event::Turn(service));
    }
    world.later(BEAT, Event::Beat);
    world.revocation();
    while let Some(((now, _), event)) = world.queue.pop_first().filter(|((now, _), _)| *now < end) {
        world.now = now;
        world.happen(event);
    }
    world.region.cost.delays.sort_unstable();
    world.region.cost.feed = world.signer.bytes;
    world.region.cost
}

impl World {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn later(&mut self, micros: u64, event: Event) {
        let order = self.random();
        self.queue.insert((self.now + micros, order), event);
    }

    /// The next one: each millisecond is as likely as any other.
    fn revocation(&mut self) {
        let likely = (self.region.scene.revocations / 1000.0 * u64::MAX as f64) as u64;
        let mut gap = 1;
        while self.random() >= likely {
            gap += 1;
        }
        self.later(gap * 1000, Event::Revoke);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        let moment = Moment { wall: at(now), monotonic: Duration::from_micros(now) };
        match event {
            Event::Revoke => {
                let random = self.random();
                if self.signer.revoke(now, random) {
                    self.later(STEP, Event::Close);
                }
                self.revocation();
            }
            Event::Close => {
                self.signer.close(now);
                self.wake();
            }
            Event::Beat => {
                if now >= self.signer.signed + BEAT {
                    self.signer.sign(now);
                    self.wake();
                }
                self.later(self.signer.signed + BEAT - now, Event::Beat);
            }
            Event::Turn(service) => match self.services[service].next(moment) {
                Next::Sleep(time) => self.later(time.as_micros() as u64 + 1, Event::Turn(service)),
                Next::Fetch(fetch) => self.ask(service, fetch),
            },
            Event::Answer(service, fetch, response) => {
                let random = self.random();
                let machine = &mut self.services[service];
                let before = machine.position();
                for effect in machine.receive(&fetch, response, moment, random) {
                    if let Effect::Write { file, .. } = effect {
                        let path = if let StoreFile::Object(path) = file { Some(path) } else { None };
                        self.region.wrote(now, path);
                    }
                }
                match (before, machine.position()) {
                    (Some(before), Some(after)) => self.region.moved(now, before, after, &self.signer.steps),
                    (None, Some(_)) => self.region.cost.started = now,
                    (_, None) => {}
                }
                self.later(0, Event::Turn(service));
            }
        }
    }
}
