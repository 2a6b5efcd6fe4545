//! What the `metrics` facade is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tkverify::testing::{Kit, Spec};

#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(String, Store);

impl Cell {
    fn set(&self, value: f64) {
        self.1.0.lock().unwrap().insert(self.0.clone(), value);
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
        Counter::from_arc(Arc::new(Cell(key.name().to_owned(), self.clone())))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Cell(key.name().to_owned(), self.clone())))
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
    kit.clock().advance(Duration::from_secs(150));
    let store = Store::default();
    metrics::with_local_recorder(&store, || verifier.export_metrics());
    let told = store.0.lock().unwrap().clone();
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
    assert_eq!(told.len(), verifier.metrics().all().len() + 6);
}
