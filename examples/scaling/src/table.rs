//! The tables of docs/scaling.md.

use std::fmt::Write as _;

use crate::region::ANSWER;
use crate::sizes::{HELD, sizes};
use crate::world::run;
use crate::{DAY, Near, REGIONS, SERVICES, Scene};

/// The tables of costs, of herds and of sizes, as Markdown.
#[must_use]
pub fn report() -> String {
    let mut text = String::from(
        "| services ask | revocations/s | requests/s in a region | at a signer | its core busy | a service: MB a day | \
         files written a day, in two copies | revoked until refused: p50 | p99 | max |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let (mut feed, mut files) = (0.0, Vec::new());
    for (near, revocations, services, seconds) in [
        (Near::Cdn, 0.1, 100, 300),
        (Near::Cache, 0.1, 20, 300),
        (Near::Signer, 0.1, 20, 300),
        (Near::Cdn, HELD, 100, 300),
        (Near::Cache, HELD, 20, 300),
        (Near::Signer, HELD, 10, 300),
        (Near::Cdn, 100.0, 200, 60),
        (Near::Cache, 100.0, 20, 60),
        (Near::Signer, 100.0, 5, 60),
    ] {
        let counted = 100..100 + seconds;
        let scene = Scene { near, services, revocations, spread: 30, outage: 0..0, counted };
        let cost = run(scene.clone());
        let each = SERVICES as f64 / services as f64;
        let passed = cost.rate(&scene, 1) * each;
        let at_signer = match near {
            Near::Signer => passed,
            Near::Cdn | Near::Cache => (passed + cost.rate(&scene, 2)) * REGIONS as f64,
        };
        let _ = writeln!(
            text,
            "| {} | {revocations} | {:.0} | {at_signer:.0} | {:.0} % | {:.1} | {:.0} | {:.2} s | {:.2} s | {:.2} s |",
            place(near),
            cost.rate(&scene, 0) * each,
            at_signer * ANSWER as f64 / 1e4,
            cost.a_day(&scene, cost.bytes) / 1e6,
            cost.a_day(&scene, cost.files),
            cost.delay(0.5),
            cost.delay(0.99),
            cost.delay(1.0),
        );
        if revocations == HELD {
            feed = cost.feed as f64 / scene.counted.end as f64 * DAY;
            files.push((place(near), cost.a_day(&scene, cost.deltas)));
        }
    }
    text + &herds() + &sizes(feed, &files)
}

fn place(near: Near) -> &'static str {
    match near {
        Near::Cdn => "a CDN or bucket, every 10 s",
        Near::Cache => "a cache in the region, waits go to one signer",
        Near::Signer => "a signer in the region, waiting",
    }
}

/// A thousand at once.
fn herds() -> String {
    let mut text = String::from(
        "\n| a region of 1,000 at once | requests in the worst second | at the signer | all are current after |\n\
         | --- | ---: | ---: | ---: |\n",
    );
    for near in [Near::Cdn, Near::Signer] {
        let outage = 60..240;
        let back = Scene { near, services: 200, revocations: 1.0, spread: 30, outage, counted: 240..330 };
        let start = Scene { spread: 0, outage: 0..0, counted: 0..60, ..back.clone() };
        for (name, scene) in [("back after 3 minutes", back), ("started in one moment", start)] {
            let cost = run(scene.clone());
            // What was revoked as the outage began waited for all of it.
            let out = (scene.outage.end - scene.outage.start) as f64;
            let current = if out > 0.0 { cost.delay(1.0) - out } else { cost.started as f64 / 1e6 };
            let each = SERVICES / scene.services;
            let worst = |count: &dyn Fn(&[u64; 3]) -> u64| cost.requests.iter().map(count).max().unwrap_or(0);
            let _ = writeln!(
                text,
                "| {name}: {} | {} | {} | {current:.1} s |",
                place(near),
                worst(&|second| second[0] * each),
                worst(&|second| second[1] * each + second[2]),
            );
        }
    }
    text
}
