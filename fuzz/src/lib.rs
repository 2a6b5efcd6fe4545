//! The bodies of all fuzz targets, without libFuzzer.
//!
//! A target is one file `src/targets/NAME.rs` with `pub fn run(data: &[u8])`, which panics when
//! a promise is broken; the build finds it. Its seeds are the files of `seeds/NAME/` (at least one), the
//! inputs that once failed are kept for ever in `regressions/NAME/`. `cargo test` replays both,
//! with every cut and a bit flip at every place, on any toolchain; `./run NAME` fuzzes.

/// What a target does with one input.
pub type Body = fn(&[u8]);

include!(concat!(env!("OUT_DIR"), "/targets.rs"));

#[global_allocator]
static ALLOCATOR: testkit::alloc::Counting = testkit::alloc::Counting;

/// Bytes that a target may ask the allocator for in all, whatever its input claims.
const FREE: u64 = 4 << 20;
/// And for each byte of input beyond that.
const PER_BYTE: u64 = 256;

/// Runs one target on one input, and holds it to linear memory.
///
/// # Panics
/// When the target finds a broken promise, or asks for memory out of proportion to its input.
pub fn check(body: Body, data: &[u8]) {
    let ((), cost) = testkit::alloc::measure(|| body(data));
    let limit = FREE + PER_BYTE * data.len() as u64;
    assert!(cost.bytes <= limit, "{} bytes of input made it allocate {} bytes", data.len(), cost.bytes);
}

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Body> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, body)| *body)
}
