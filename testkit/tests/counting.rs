//! The counting allocator counts, each thread for itself.

use std::hint::black_box;
use std::thread;

use testkit::alloc::{Counting, installed, measure};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn counts_and_does_not_count() {
    assert!(installed());
    let (_, cost) = measure(|| black_box(vec![0u8; 100]));
    assert_eq!((cost.allocations, cost.bytes, cost.largest), (1, 100, 100));
    let (_, cost) = measure(|| black_box([1u64; 8]).iter().sum::<u64>());
    assert_eq!(cost.allocations, 0);
}

#[test]
fn growing_counts_again() {
    let (_, cost) = measure(|| {
        let mut list: Vec<u8> = Vec::with_capacity(8);
        list.extend_from_slice(black_box(&[0; 8]));
        list.reserve_exact(64);
        black_box(list)
    });
    assert_eq!(cost.allocations, 2);
}

#[test]
fn other_threads_do_not_show() {
    let worker = thread::spawn(|| black_box(vec![0u8; 1000]).len());
    let length = worker.join().unwrap();
    assert_eq!(measure(|| black_box(length)).1.allocations, 0);
}
