//! Processes and networks that fail under load, one after the other, in an order that a seed gives.

use std::path::Path;
use std::time::Duration;

use testkit::proxy::Way;
use testkit::table::{self, Fault};
use tkcore::protocol::{Code, RevokeTarget};
use tkverify::remote::request_id;

use crate::load::Load;
use crate::skew;
use crate::world::{NAMES, TKSIGN, World, revoke_params, until};

/// A fault with the signer that publishes, another signer and etcd's leader; returns when the feed
/// has gone on and all is whole again.
type Play = fn(&mut World, &Load, Scene);

#[derive(Clone, Copy)]
struct Scene {
    publisher: usize,
    other: usize,
    leader: usize,
    /// The feed's sequence before the fault.
    before: u64,
}

/// The signer that has a clock of its own.
const CLOCKED: usize = 2;

/// By name in `docs/durability.md`, with what its clients see.
const FAULTS: [(&str, Play, &str); 11] = [
    ("a signer killed", signer_killed, "a connection that breaks; another signer answers"),
    ("the publisher killed", publisher_killed, "a connection that breaks; another signer answers"),
    (
        "the publisher stopped beyond its lease and continued",
        publisher_stopped,
        "no answer; another signer's",
    ),
    (
        "the publisher cut off from etcd",
        publisher_cut_off,
        "read-only, said so; another signer writes; verifies go on",
    ),
    ("another signer stopped for a time", signer_stopped, "no answer; another signer's"),
    ("a signer's clock 30 s ahead", clock_ahead, "read-only, said so; another signer writes; verifies go on"),
    ("etcd's leader stopped for a time", leader_stopped, "a write that waits for the election"),
    ("etcd's leader killed", leader_killed, "a write that waits for the election"),
    ("another member of etcd killed", member_killed, "nothing"),
    (
        "etcd's leader cut off from the other members",
        leader_cut_off,
        "a write that waits for the election, and for requests that the old leader never answers",
    ),
    (
        "a member of etcd and its signer cut off from the others",
        minority,
        "read-only, and how old its knowledge is; another signer writes; verifies go on",
    ),
];

#[test]
fn faults_under_load_lose_nothing_and_make_one_history() {
    let test = "faults_under_load_lose_nothing_and_make_one_history";
    let Some(mut world) = World::serving(test, Path::new(&*TKSIGN)) else { return };
    let Some(clock) = skew::clock(&mut world, CLOCKED, test) else { return };
    world.clock = Some(clock);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, seconds) = (number("TK_SEED").unwrap_or(1), number("TK_CLUSTER_SECONDS").unwrap_or(0));
    println!("seed {seed}: TK_SEED={seed} replays the order of faults");
    let load = Load::start(&world);
    let mut order = Order(seed);
    let mut played: Vec<(usize, Duration, Duration)> = Vec::new();
    // Each once at least.
    while played.is_empty() || load.now() < Duration::from_secs(seconds) {
        for fault in order.shuffled(FAULTS.len()) {
            let (name, play, _) = FAULTS[fault];
            let scene = Scene::of(&world);
            println!("{:>5.1?} s: {name} (publisher {})", load.now().as_secs_f32(), NAMES[scene.publisher]);
            let begun = load.now();
            play(&mut world, &load, scene);
            load.await_writes(10);
            played.push((fault, begun, load.now()));
        }
    }
    let outcome = load.end(&world);
    println!("{outcome}");
    assert_eq!(outcome.unanswered, 0, "verification stopped");
    for (fault, (name, _, clients_saw)) in FAULTS.iter().enumerate() {
        let times = || played.iter().filter(|(played, ..)| *played == fault);
        let pause = times().map(|(_, from, to)| outcome.pause(*from, *to)).max();
        // The checker would have found a loss.
        let row = Fault { store: "etcd", fault: name, times: times().count(), lost: 0, pause, clients_saw };
        table::fault(&row);
    }
}

impl Scene {
    fn of(world: &World) -> Self {
        let leader = until("etcd has a leader", || world.etcd.leader());
        let publisher = world.publisher();
        let other = (publisher + 1) % 3;
        let before = world.await_head(other, "before a fault", |_| true).position.sequence;
        Self { publisher, other, leader, before }
    }

    /// Waits until a signer serves what was published after the fault.
    fn goes_on(&self, world: &World, at: usize) {
        world.await_head(at, "the feed goes on", |head| head.position.sequence > self.before + 3);
    }
}

fn signer_killed(world: &mut World, _: &Load, scene: Scene) {
    world.kill(scene.other);
    scene.goes_on(world, scene.publisher);
    world.serve(scene.other);
    scene.goes_on(world, scene.other);
}

fn publisher_killed(world: &mut World, _: &Load, scene: Scene) {
    world.kill(scene.publisher);
    scene.goes_on(world, scene.other);
    world.serve(scene.publisher);
    scene.goes_on(world, scene.publisher);
}

/// What it signs when it wakes is refused.
fn publisher_stopped(world: &mut World, _: &Load, scene: Scene) {
    world.signal(scene.publisher, "-STOP");
    scene.goes_on(world, scene.other);
    world.signal(scene.publisher, "-CONT");
    scene.goes_on(world, scene.publisher);
}

/// The one that publishes goes on; the other one, when it wakes, follows what it has not seen.
fn signer_stopped(world: &mut World, _: &Load, scene: Scene) {
    world.signal(scene.other, "-STOP");
    scene.goes_on(world, scene.publisher);
    world.signal(scene.other, "-CONT");
    scene.goes_on(world, scene.other);
}

/// Whether it publishes or not: it leads nobody and writes nothing until its clock is right.
fn clock_ahead(world: &mut World, _: &Load, scene: Scene) {
    let clock = world.clock.as_ref().expect("a clock");
    clock.set(30);
    world.await_status(CLOCKED, "the clock of this machine is");
    let (_, token) = until("a mint elsewhere", || world.mint((CLOCKED + 1) % 3).ok());
    world.await_refusal("set it right", || world.mint(CLOCKED));
    assert_eq!(world.verdict(CLOCKED, &token), None);
    scene.goes_on(world, (CLOCKED + 1) % 3);
    clock.set(0);
    until("it mints again", || world.mint(CLOCKED).ok());
    scene.goes_on(world, CLOCKED);
}

/// It wakes as one that leads nobody any more.
fn leader_stopped(world: &mut World, _: &Load, scene: Scene) {
    world.etcd.signal(scene.leader, "-STOP");
    (0..3).for_each(|at| scene.goes_on(world, at));
    world.etcd.signal(scene.leader, "-CONT");
}

fn publisher_cut_off(world: &mut World, _: &Load, scene: Scene) {
    world.link(scene.publisher, 0..3, Way::Stalled);
    is_read_only(world, scene.publisher, scene.other);
    scene.goes_on(world, scene.other);
    world.link(scene.publisher, 0..3, Way::Open);
    scene.goes_on(world, scene.publisher);
}

fn leader_killed(world: &mut World, _: &Load, scene: Scene) {
    world.etcd.kill(scene.leader);
    scene.goes_on(world, scene.other);
    world.etcd.restart(scene.leader);
}

fn member_killed(world: &mut World, _: &Load, scene: Scene) {
    let member = (scene.leader + 1) % 3;
    world.etcd.kill(member);
    scene.goes_on(world, scene.publisher);
    world.etcd.restart(member);
}

/// Its clients still reach it, and must find out that it knows nothing.
fn leader_cut_off(world: &mut World, _: &Load, scene: Scene) {
    world.etcd.cut(scene.leader, Way::Stalled);
    (0..3).for_each(|at| scene.goes_on(world, at));
    world.etcd.cut(scene.leader, Way::Open);
}

/// The leader of etcd and a signer that reaches no other member.
fn minority(world: &mut World, _: &Load, scene: Scene) {
    let others = (0..3).filter(|member| *member != scene.leader);
    world.link(scene.other, others.clone(), Way::Refused);
    world.etcd.cut(scene.leader, Way::Stalled);
    is_read_only(world, scene.other, scene.publisher);
    scene.goes_on(world, scene.publisher);
    world.etcd.cut(scene.leader, Way::Open);
    world.link(scene.other, others, Way::Open);
    scene.goes_on(world, scene.other);
}

/// A signer that is cut off says so, and how old its knowledge is; it verifies and writes nothing,
/// and its clients write at another.
fn is_read_only(world: &World, at: usize, another: usize) {
    let (lineage, token) = until("a mint elsewhere", || world.mint(another).ok());
    let said = world.await_status(at, "cut off from etcd: what is known here is");
    assert!(said.contains("read-only"), "{said}");
    let target = || RevokeTarget::Token(lineage);
    world.await_refusal("s old", || world.revoke(&[at], target()));
    world.await_refusal("s old", || world.mint(at));
    assert_eq!(world.verdict(at, &token), None);
    // An election may go on: one request, asked until it is answered.
    let (either, request) = (world.remote("revoke", &[at, another]), request_id().unwrap());
    until("a revocation elsewhere", || either.revoke(&revoke_params(target()), request).ok());
    assert_eq!(world.verdict(another, &token), Some(Code::Revoked));
}

/// The order of faults, by a seed (Knuth's MMIX constants).
struct Order(u64);

impl Order {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).collect();
        (1..count).rev().for_each(|at| order.swap(at, self.below(at + 1)));
        order
    }
}
