//! Writes macaroons of our making, one JSON object a line: `ours SEED COUNT`. The schema is that
//! of the conformance runner; `formats` has the same macaroon in all three.

use serde_json::{Value, json};
use tk_peers::{Random, Spec};
use tkcore::plain::Macaroon;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let (seed, count) = (arguments.next().unwrap_or(1), arguments.next().unwrap_or(100));
    for at in 0..count {
        let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(at));
        let spec = Spec::random(&mut random, 2);
        let root = spec.ours();
        let discharges: Vec<Macaroon> =
            spec.discharges().iter().map(|discharge| root.bind(&discharge.ours()).unwrap()).collect();
        let unbound: Vec<Macaroon> = spec.discharges().iter().map(Spec::ours).collect();
        let written = |write: &dyn Fn(&Macaroon) -> Option<Vec<u8>>| -> Value {
            let hex_all = |all: &[Macaroon]| -> Option<Vec<String>> {
                all.iter().map(|one| write(one).map(|bytes| hex(&bytes))).collect()
            };
            let all = || {
                Some(json!({
                    "root": hex(&write(&root)?),
                    "discharges": hex_all(&discharges)?,
                    "unbound": hex_all(&unbound)?,
                }))
            };
            all().unwrap_or(Value::Null)
        };
        let predicates: Vec<String> = spec.predicates().iter().map(|text| hex(text)).collect();
        println!(
            "{}",
            json!({
                "key": hex(&spec.key),
                "identifier": hex(&spec.id),
                "predicates": predicates,
                "formats": {
                    "V1": written(&|m| m.to_v1().ok()),
                    "V2": written(&|m| Some(m.to_v2().to_vec())),
                    "V2JSON": written(&|m| m.to_json().ok().map(String::into_bytes)),
                },
            })
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
