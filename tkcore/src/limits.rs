//! Hard limits. Each is a constant with the sum or the source that led to it, and a test at
//! the limit and one past it.

/// Longest token accepted, in bytes of its binary form.
///
/// A V2 token with 20 caveats of 40 bytes is about 1 KiB; the longest macaroon seen in the
/// field (a discharge bundle of a hosting platform) is 6 KiB. 16 KiB is also what common HTTP
/// servers allow one header line.
pub const TOKEN_BYTES: usize = 16 * 1024;

/// Longest `Authorization` value accepted, in bytes of text: one token of the greatest length
/// in base64 (21,848 characters) with as many characters again of discharges, rounded up.
pub const HEADER_BYTES: usize = 48 * 1024;

/// Most caveats in one token or discharge. A V2 caveat costs at least 4 bytes on the wire, so
/// without this cap 16 KiB could ask for 4,096 HMACs.
pub const CAVEATS: usize = 256;

/// Longest caveat, in bytes: room for a list of a few hundred ids, small enough that a line
/// can still be shown to a person.
pub const CAVEAT_BYTES: usize = 4 * 1024;

/// Longest token identifier, in bytes. Ours are at most 112; a ticket (see `third-party`) is
/// the identifier of a discharge and may hold caveats, so it gets the length of a caveat.
pub const IDENTIFIER_BYTES: usize = CAVEAT_BYTES;

/// Longest location, in bytes. Nothing signs it and nothing decides by it.
pub const LOCATION_BYTES: usize = 1024;

/// Most discharges beside one root.
pub const DISCHARGES: usize = 16;

/// Most roots in one header.
pub const ROOTS: usize = 4;

/// Deepest chain of discharges: a root's third-party caveat is depth 1.
pub const DISCHARGE_DEPTH: usize = 4;

/// Longest tenant, audience or subject name, in bytes of UTF-8.
pub const NAME_BYTES: usize = 64;

/// Seconds by which a token's mint time may lie ahead of the verifier's clock.
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// Work a whole verification may do, in blocks of 64 bytes hashed or compared.
///
/// The largest acceptable header is 48 KiB of text (36 KiB binary, 576 blocks) with at most
/// 4 roots and 64 discharges. Each caveat costs 4 blocks beyond its own length, plus 1 for its
/// branch id: 36 KiB of the smallest caveats (4 bytes each) would be 9,216 caveats, about
/// 46,000 blocks. 65,536 blocks are some 4 ms with SHA instructions and 20 ms without.
pub const VERIFY_BUDGET: u32 = 65_536;

/// Longest macaroon of another maker, in bytes of its binary form, and so the longest field in
/// it: V1 packets reach 65,535 bytes each, and a peer's corpus has caveats of 30,000.
pub const FOREIGN_TOKEN_BYTES: usize = 256 * 1024;

/// Most caveats in a macaroon of another maker. At the peers' cost of a microsecond a caveat, a
/// few milliseconds of work.
pub const FOREIGN_CAVEATS: usize = 4096;

/// Most discharges beside a macaroon of another maker.
pub const FOREIGN_DISCHARGES: usize = 256;

/// Deepest chain of discharges of other makers. Peers recurse here and abort at some depth;
/// ours walks a list, and this bounds only what a forger may ask for.
pub const FOREIGN_DEPTH: usize = 64;
/// Most actions in one access of a request. The service writes these; the bound keeps its own
/// mistakes from multiplying the work a token can ask for.
pub const ACTIONS: usize = 64;

/// Most facts stated about one access, and as many about all of them.
pub const FACTS: usize = 64;

/// Most elements of a set that a request states: each is compared with a caveat's whole list,
/// and 256 × 4 KiB are 16,384 blocks, a quarter of [`VERIFY_BUDGET`].
pub const SET_ELEMENTS: usize = 256;

/// Most accesses in one request: a batch call that names a hundred objects fits.
pub const ACCESSES: usize = 128;

/// Most caveats in one ticket: what an authority must clear before it discharges.
pub const TICKET_CAVEATS: usize = 32;

/// Most shared keys that one authority tries on a ticket: the current one, the one before it,
/// and a few partners'.
pub const AUTHORITY_SHARED_KEYS: usize = 8;

/// How long a native discharge may live, in seconds, unless the authority says otherwise: long
/// enough for a job to start, short enough that logging out means something.
pub const DISCHARGE_SECONDS: u64 = 600;
