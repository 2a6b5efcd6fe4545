//! Interleaved rounds: in each, every case of a group runs a short batch in turn, so that a
//! busy moment of the machine hits all alike; what counts is each case's best batch.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock; that is its work")]

use std::time::{Duration, Instant};

/// One thing to measure.
pub struct Case {
    pub name: String,
    pub run: Box<dyn FnMut()>,
}

/// Cases that are compared; the first is the yardstick.
pub struct Group {
    pub title: String,
    /// What is measured and what the ratios are over.
    pub about: String,
    pub cases: Vec<Case>,
}

impl Group {
    pub fn new(title: impl Into<String>, about: impl Into<String>) -> Self {
        Self { title: title.into(), about: about.into(), cases: Vec::new() }
    }

    pub fn case(&mut self, name: impl Into<String>, run: impl FnMut() + 'static) {
        self.cases.push(Case { name: name.into(), run: Box::new(run) });
    }
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub batch: Duration,
}

impl Effort {
    /// A measurement: some 20 s for the whole program on a quiet machine.
    pub const FULL: Self = Self { rounds: 250, batch: Duration::from_micros(400) };
    /// Every case runs; the figures mean nothing.
    pub const SMOKE: Self = Self { rounds: 2, batch: Duration::from_micros(20) };
}

/// Nanoseconds of one run, the minimum over all rounds, per case in order.
pub fn measure(group: &mut Group, effort: Effort) -> Vec<f64> {
    let batches: Vec<u32> = group.cases.iter_mut().map(|case| batch_size(case, effort.batch)).collect();
    let mut best = vec![f64::INFINITY; group.cases.len()];
    for _ in 0..effort.rounds {
        for ((case, best), runs) in group.cases.iter_mut().zip(&mut best).zip(&batches) {
            let started = Instant::now();
            for _ in 0..*runs {
                (case.run)();
            }
            *best = best.min(started.elapsed().as_nanos() as f64 / f64::from(*runs));
        }
    }
    best
}

/// How many runs take that long, by the best of three tries: one that is interrupted would end with
/// a few runs, which then measure nothing but cold caches.
fn batch_size(case: &mut Case, wanted: Duration) -> u32 {
    let mut runs = 1;
    loop {
        let mut took = Duration::MAX;
        for _ in 0..3 {
            let started = Instant::now();
            for _ in 0..runs {
                (case.run)();
            }
            took = took.min(started.elapsed());
        }
        if took >= wanted || runs >= 1 << 20 {
            return runs;
        }
        runs *= 2;
    }
}
