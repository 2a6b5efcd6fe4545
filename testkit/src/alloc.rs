//! A global allocator that counts what each thread asks for.
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: testkit::alloc::Counting = testkit::alloc::Counting;
//!
//! let (verdict, cost) = testkit::alloc::measure(|| token.verify(..));
//! assert_eq!(cost.allocations, 0);
//! ```
#![allow(
    unsafe_code,
    reason = "implementing an allocator is unsafe by definition; it only forwards and counts"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator with counters of its own for every thread, so that tests that run
/// side by side do not see each other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

/// What one thread asked the allocator for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls that obtained memory: fresh blocks and blocks that were resized.
    pub allocations: u64,
    /// Bytes asked for in those calls.
    pub bytes: u64,
    /// The largest single request, in bytes.
    pub largest: u64,
}

thread_local! {
    static WATCHED: Cell<Option<[u8; 16]>> = const { Cell::new(None) };
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static COST: Cell<Cost> = const { Cell::new(Cost { allocations: 0, bytes: 0, largest: 0 }) };
}

/// Runs `work` and says what this thread allocated meanwhile. All zeroes unless [`Counting`] is
/// the program's global allocator: [`installed`] tells.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let before = COST.with(Cell::get);
    COST.with(|cost| cost.set(Cost::default()));
    let result = work();
    let cost = COST.with(Cell::get);
    COST.with(|cell| {
        cell.set(Cost {
            allocations: before.allocations + cost.allocations,
            bytes: before.bytes + cost.bytes,
            largest: before.largest.max(cost.largest),
        });
    });
    (result, cost)
}

/// Runs `work` and says how many blocks this thread gave back meanwhile, or had resized, while
/// `secret` still lay in them. Zero unless [`Counting`] is the program's global allocator.
pub fn left_behind<T>(secret: [u8; 16], work: impl FnOnce() -> T) -> (T, u64) {
    LEFT.with(|left| left.set(0));
    WATCHED.with(|watched| watched.set(Some(secret)));
    let result = work();
    WATCHED.with(|watched| watched.set(None));
    (result, LEFT.with(Cell::get))
}

fn watched() -> Option<[u8; 16]> {
    WATCHED.try_with(Cell::get).ok().flatten()
}

/// Counts a block that holds what is watched for.
///
/// # Safety
/// `block` is valid for reads of `size` bytes.
unsafe fn look(block: *const u8, size: usize) {
    let Some(secret) = watched() else { return };
    for at in 0..(size + 1).saturating_sub(secret.len()) {
        // SAFETY: `at` and the bytes behind it lie in the block. Blocks are filled with zeros while
        // this thread watches, also where they grow; one from before is not to be given back.
        let here = unsafe { block.add(at).cast::<[u8; 16]>().read_unaligned() };
        if here == secret {
            let _ = LEFT.try_with(|left| left.set(left.get() + 1));
            return;
        }
    }
}

/// Whether [`Counting`] is in force: a test that asserts "nothing" asserts this first, or it
/// could not fail.
#[must_use]
pub fn installed() -> bool {
    measure(|| std::hint::black_box(Box::new(1u8))).1.allocations > 0
}

fn count(size: usize) {
    // A thread that is being torn down has no counters left; it is counted nowhere.
    let _ = COST.try_with(|cost| {
        let now = cost.get();
        let size = size as u64;
        cost.set(Cost {
            allocations: now.allocations + 1,
            bytes: now.bytes + size,
            largest: now.largest.max(size),
        });
    });
}

// SAFETY: every call is passed unchanged to the system's allocator, which keeps the contract;
// counting touches only a thread-local cell that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        if watched().is_some() {
            // SAFETY: the contract is that of `alloc`, which the caller keeps.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller hands over a block of this layout.
        unsafe { look(block, layout.size()) };
        // SAFETY: the caller keeps `realloc`'s contract.
        let moved = unsafe { System.realloc(block, layout, size) };
        if watched().is_some() && !moved.is_null() && size > layout.size() {
            // SAFETY: the block is `size` bytes long, and what it had before is kept.
            unsafe { moved.add(layout.size()).write_bytes(0, size - layout.size()) };
        }
        moved
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller hands over a block of this layout.
        unsafe { look(block, layout.size()) };
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) }
    }
}
