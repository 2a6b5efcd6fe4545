//! Clearing structured requests: appending never widens, order never matters, explaining agrees.

use tkcore::{
    Access, Budget, Fact, PathFact, Request, Timestamp, Vocabulary, clear_caveats, explain_caveats,
};

/// The first line describes the request, each further line is a caveat. In the first line every
/// byte adds something: see [`request`].
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let recipe = lines.next().unwrap_or_default();
    let caveats: Vec<&[u8]> = lines.take(16).collect();
    let sets: [&[&str]; 3] = [&[], &["17"], &["build", "17", "read"]];
    let Some(request) = request(recipe, &sets) else { return };
    let native = Vocabulary::native();
    let admits = |caveats: &[&[u8]]| {
        clear_caveats(caveats.iter().copied(), &request, &native, &mut Budget::default()).is_ok()
    };
    let all = admits(&caveats);
    let mut backwards = caveats.clone();
    backwards.reverse();
    assert_eq!(admits(&backwards), all, "order means nothing");
    let each = caveats.iter().all(|caveat| admits(&[caveat]));
    assert_eq!(each, all, "all must admit, and no caveat sees another");
    for len in 0..caveats.len() {
        assert!(admits(&caveats[..len]) || !all, "appending never widens");
    }
    let mut budget = Budget::default();
    let explained = explain_caveats(caveats.iter().copied(), &request, &native, &mut budget);
    assert_eq!(explained.grants(), all, "a dry run is the run");
    assert!(!explained.redacted().lines().iter().any(|line| !line.got.is_empty()));
    // Linear: each caveat pays for its bytes, and once more for every value it is compared with.
    let values = 64 + recipe.len() * 3;
    let bytes: usize = caveats.iter().map(|caveat| caveat.len() + 64).sum();
    let most = bytes.div_ceil(64) * values;
    let spent = Budget::default().left() - budget.left();
    assert!(u64::from(spent) <= most as u64, "{spent} blocks for {bytes} bytes and {values} values");
}

fn request<'r>(recipe: &[u8], sets: &[&'r [&'r str]; 3]) -> Option<Request<'r>> {
    const NAMES: [&str; 8] = ["app", "org", "ip", "path", "at", "tags", "size", "x"];
    const TEXTS: [&str; 8] = ["17", "build", "two words", "", "ä", "10.1.2.3", "/a", "else"];
    let mut builder = Request::builder("acme", Timestamp::from_seconds(1_795_435_200)?);
    let mut access = Access::to("read");
    for (at, byte) in recipe.iter().take(8).enumerate() {
        let name = NAMES[at];
        let value = usize::from(byte >> 4) & 7;
        let fact = match byte & 7 {
            0 => Fact::Text(TEXTS[value]),
            1 => Fact::Int([0, 17, -5, i64::MAX, i64::MIN, 1, 42, 100][value]),
            2 => Fact::Time(Timestamp::from_seconds(1_795_435_200 + u64::from(*byte))?),
            3 => Fact::Ip(
                [
                    "10.1.2.3",
                    "::1",
                    "2001:db8::5",
                    "::ffff:10.1.2.3",
                    "0.0.0.0",
                    "fe80::1",
                    "192.0.2.1",
                    "::",
                ][value]
                    .parse()
                    .ok()?,
            ),
            4 => Fact::Path(
                PathFact::new(["/", "/a", "/a/b", "/projects/7", "/a b", "/..a", "/ä", "/a.b"][value])
                    .ok()?,
            ),
            5 => Fact::Set(sets[value % 3]),
            _ => continue,
        };
        if byte & 8 == 0 {
            builder = builder.fact(name, fact);
        } else {
            access = access.fact(name, fact);
        }
    }
    if recipe.get(8).is_some_and(|byte| byte & 1 == 1) {
        builder = builder.access(Access::to("write").and("list"));
    }
    builder.access(access).build().ok()
}
