//! The foreign vocabularies: appending never widens, a refusal is for good, work is linear.

use tkcore::dialect::{Bakery, DCache, Dialect, L402, Lnd, PyPi};
use tkcore::{Budget, Request, Timestamp};

/// The first byte picks vocabulary and request, every further line is a condition.
pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let conditions: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').take(32).collect();
    let action = ["DOWNLOAD", "READ_METADATA", "UPLOAD", "read"][usize::from(choice >> 6)];
    let Some(now) = Timestamp::from_seconds(1_795_435_200) else { return };
    let Ok(ip) = "10.1.2.3".parse() else { return };
    let custom = ["account 42", "plan"];
    let request = Request::builder("acme", now)
        .action(action)
        .ip("ip", ip)
        .path("path", "/a/b/c")
        .int("upload-size", 100)
        .set("lnd-custom", &custom)
        .text("project", "sample")
        .text("project-id", "id-1")
        .text("user", "u")
        .text("publisher", "p")
        .text("service", "loop")
        .text("capability", "swap")
        .int("tier", 0)
        .build();
    let Ok(request) = request else { return };
    let make = || -> Box<dyn Dialect + '_> {
        match choice % 6 {
            0 => Box::new(Lnd::new(&request)),
            1 => Box::new(PyPi::new(&request)),
            2 => Box::new(DCache::new(&request)),
            3 => Box::new(Bakery::new(&request)),
            4 => Box::new(L402::new(&request)),
            _ => Box::new(L402::legacy_skipping_unknown(&request)),
        }
    };
    let mut budget = Budget::default();
    let before = budget.left();
    let mut dialect = make();
    let mut refused = None;
    for (at, condition) in conditions.iter().enumerate() {
        let verdict = dialect.judge(condition, &mut budget);
        assert!(refused.is_none() || verdict.is_err(), "a refusal is for good");
        if verdict.is_err() && refused.is_none() {
            refused = Some(at);
        }
    }
    // Quadratic in the number of conditions at most, linear in their bytes.
    let blocks: usize = conditions.iter().map(|condition| condition.len().div_ceil(4) + 1).sum();
    let most = blocks * (conditions.len() + 1) * 4;
    assert!((before - budget.left()) as usize <= most, "{} blocks, at most {most}", before - budget.left());

    // The same again, and cut after the first refusal: the same verdict.
    let mut again = make();
    let second =
        conditions.iter().position(|condition| again.judge(condition, &mut Budget::default()).is_err());
    assert_eq!(second, refused, "the same conditions, the same verdict");

    // Without the conditions behind the first refusal it refuses as well; with none it admits.
    if let Some(at) = refused {
        let mut cut = make();
        let verdicts: Vec<bool> = conditions[..=at]
            .iter()
            .map(|condition| cut.judge(condition, &mut Budget::default()).is_ok())
            .collect();
        assert_eq!(verdicts.iter().filter(|admits| !**admits).count(), 1);
        assert!(!verdicts[at]);
    }
}
