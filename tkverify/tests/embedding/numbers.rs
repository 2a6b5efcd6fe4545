//! What the `metrics` facade is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tkverify::testing::{Kit, Spec};
use tkverify::{Clock as _, Trust, Verifier};

/// Longer than any test waits for something that does happen.
const LONG: Duration = Duration::from_secs(120);

/// What was told last, under the name and the labels.
#[derive(Clone, Default)]
struct Store(Arc<Told>);

#[derive(Default)]
struct Told {
    numbers: Mutex<BTreeMap<String, f64>>,
    /// How many were told, and whether nobody can tell more for now.
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

struct Cell(String, Store);

impl Store {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels = key.labels().map(|label| format!("{{{}={}}}", label.key(), label.value()));
        Arc::new(Cell(format!("{}{}", key.name(), labels.collect::<String>()), self.clone()))
    }

    fn read(&self) -> BTreeMap<String, f64> {
        self.0.numbers.lock().unwrap().clone()
    }

    fn hold(&self, held: bool) {
        self.0.state.lock().unwrap().1 = held;
        self.0.changed.notify_all();
    }

    /// Waits until something was told that `wanted` is content with.
    fn until(&self, wanted: impl Fn(u64) -> bool) {
        let state = self.0.state.lock().unwrap();
        let waited = self.0.changed.wait_timeout_while(state, LONG, |(told, _)| !wanted(*told)).unwrap();
        assert!(!waited.1.timed_out(), "the exporter tells nothing");
    }
}

impl Cell {
    fn set(&self, value: f64) {
        let told = &self.1.0;
        told.numbers.lock().unwrap().insert(self.0.clone(), value);
        let mut state = told.state.lock().unwrap();
        state.0 += 1;
        told.changed.notify_all();
        drop(told.changed.wait_timeout_while(state, LONG, |(_, held)| *held).unwrap());
    }
}

impl CounterFn for Cell {
    fn increment(&self, _: u64) {
        panic!("counters are set to what they are");
    }
    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {
        panic!("gauges are set to what they are");
    }
    fn decrement(&self, _: f64) {
        panic!("gauges are set to what they are");
    }
    fn set(&self, value: f64) {
        Cell::set(self, value);
    }
}

impl Recorder for Store {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("none is used");
    }
}

#[test]
fn every_number_reaches_the_recorder_under_its_name() {
    let kit = Kit::new();
    let verifier = kit.builder().export_metrics(Duration::from_secs(3600)).build().unwrap();
    let token = kit.header(&kit.mint(&Spec::new("acme").caveat("action in read")));
    let check = |action: &str| {
        let request = verifier.request("acme").action(action).build().unwrap();
        verifier.check(&token, &request).is_ok()
    };
    assert!(check("read") && check("read") && check("read") && !check("write"));
    kit.revoke_token(tkcore::LineageId::new([1; 10], kit.clock().read().wall));
    kit.clock().advance(Duration::from_secs(150));
    let store = Store::default();
    metrics::with_local_recorder(&store, || verifier.export_metrics());
    let told = store.read();
    let number = |name: &str| *told.get(name).unwrap_or_else(|| panic!("{name} is missing in {told:?}"));
    assert_eq!(number("tkverify_granted_total"), 3.0);
    assert_eq!(number("tkverify_refused_request_total"), 1.0);
    assert_eq!((number("tkverify_memory_hits_total"), number("tkverify_asks_total")), (3.0, 1.0));
    assert_eq!(number("tkverify_hit_ratio"), 0.75);
    assert_eq!((number("tkverify_memory_lineages"), number("tkverify_asking")), (1.0, 0.0));
    assert_eq!(
        (number("tkverify_fresh"), number("tkverify_aging"), number("tkverify_alarm")),
        (0.0, 1.0, 0.0)
    );
    assert_eq!(number("tkverify_state_age_seconds"), 150.0);
    let (epoch, sequence) = verifier.feed().position().unwrap();
    assert_eq!(
        (number("tkverify_feed_epoch"), number("tkverify_feed_sequence")),
        (epoch as f64, sequence as f64)
    );
    assert!(epoch > 0 && sequence > 0);
    assert_eq!(told.len(), verifier.metrics().all().len() + 8);
}

#[test]
fn what_happens_on_the_feed_is_counted_under_its_event() {
    let kit = Kit::new();
    let root = tkcore::revocation::publish::FeedSigningKey::from_seed(&[7; 32]).unwrap();
    // Nobody is there, so every fetch fails and is counted.
    let trust = Trust {
        feed: tkcore::FeedId::from_bytes([7; 16]),
        threshold: 1,
        root_keys: vec![*root.public().as_bytes()],
        signers: vec![],
        feeds: vec![format!("http://127.0.0.1:{}", testkit::free_port())],
    };
    let signer: Arc<tkverify::testing::FakeSigner> = Arc::clone(kit.signer());
    let verifier = Verifier::builder().trust(trust).signer(signer).build().unwrap();
    until("a fetch failed", || verifier.feed().counts().contains_key("unavailable"));
    let store = Store::default();
    let before = verifier.feed().counts()["unavailable"];
    metrics::with_local_recorder(&store, || verifier.export_metrics());
    let after = verifier.feed().counts()["unavailable"];
    let told = store.read()["tkverify_feed_events_total{event=unavailable}"];
    assert!((before as f64..=after as f64).contains(&told), "{before} {told} {after}");
}

/// The threads that export at intervals, of all verifiers of this process.
fn exporters() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "tk-metrics").count()
}

#[test]
fn numbers_are_told_at_intervals_until_the_verifier_is_gone() {
    let store = Store::default();
    // The only test whose exporter ever tells: all others export by hand, into a recorder of their own.
    metrics::set_global_recorder(store.clone()).map_err(|_| "there is one").unwrap();
    // A thread that joins itself panics, and nobody else would notice.
    let panics = Arc::new(AtomicU64::new(0));
    let (before, count) = (std::panic::take_hook(), Arc::clone(&panics));
    std::panic::set_hook(Box::new(move |info| {
        let is_exporter = std::thread::current().name() == Some("tk-metrics");
        count.fetch_add(u64::from(is_exporter), Ordering::SeqCst);
        before(info);
    }));
    let kit = Kit::new();
    let build = || kit.builder().export_metrics(Duration::from_millis(1)).build().unwrap();
    let held = Arc::strong_count(kit.signer());

    // Round after round, with what is counted meanwhile.
    let verifier = build();
    let request = verifier.request("acme").action("read").build().unwrap();
    assert!(
        verifier.check(kit.header(&kit.mint(&Spec::new("acme").caveat("action in read"))), &request).is_ok()
    );
    drop(request);
    store.until(|_| store.read().get("tkverify_granted_total") == Some(&1.0));
    // Dropped between two rounds or in one: afterwards nobody holds the verifier.
    drop(verifier);
    until("the verifier is gone", || Arc::strong_count(kit.signer()) == held);

    // Dropped in the middle of a round, so that the exporter itself is the last who holds it and
    // ends without waiting for itself.
    let verifier = build();
    let told = store.0.state.lock().unwrap().0;
    store.hold(true);
    store.until(|now| now > told);
    drop(verifier);
    assert!(Arc::strong_count(kit.signer()) > held, "the exporter is in a round");
    store.hold(false);
    until("the verifier is gone", || Arc::strong_count(kit.signer()) == held);
    // The other tests' sleep for an hour, and go with their verifiers.
    until("no exporter is left", || exporters() == 0);
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}
