//! The one piece of work that everybody does: a token for a tenant and subject, with an expiry
//! and so many restrictions, against one request that all of them admit.

/// The key as given to a macaroon library.
pub const KEY: &[u8; 32] = b"benchmark key: thirty-two bytes!";

/// Sizes that are measured.
pub const SIZES: [usize; 3] = [1, 5, 20];

/// Seconds: the token's expiry and every time bound lie after the request's `now`.
pub const NOW: u64 = 1_795_000_000;
pub const EXPIRY: u64 = 1_800_000_000;

/// One of each kind.
pub const KINDS: [&str; 5] = [
    "app in 17,42",
    "action in list,read",
    "time < 2027-01-01T00:00:00Z",
    "path under /projects/7",
    "ip in 10.0.0.0/8,2001:db8::/32",
];

/// The restrictions, in the language of this project; other macaroon libraries see opaque text
/// and compare it as a whole, which is less work than reading it.
pub fn caveats(count: usize) -> Vec<String> {
    (0..count)
        .map(|at| match KINDS.get(at) {
            Some(kind) => (*kind).to_owned(),
            // Further ones stay distinct, since some libraries keep predicates in a set.
            None => match at % 4 {
                0 => format!("time < 2027-01-{:02}T00:00:00Z", at + 2),
                1 => format!("app in 17,42,{}", 100 + at),
                2 => format!("size <= {}", 1_000_000 + at),
                _ => format!("org in 4711,{}", 5000 + at),
            },
        })
        .collect()
}

/// The plainest restrictions there are, each a comparison with one short word.
pub fn plain_caveats(count: usize) -> Vec<String> {
    (0..count)
        .map(|at| match at {
            0 => "org = 4711".to_owned(),
            1 => "region = eu-west".to_owned(),
            2 => "app = 17".to_owned(),
            3 => "size <= 1048576".to_owned(),
            _ if at % 2 == 0 => format!("region != eu-{at}"),
            _ => format!("org != {}", 5000 + at),
        })
        .collect()
}
