//! The target that `FUZZ_TARGET` names, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

static BODY: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    *BODY.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::find(&name).unwrap_or_else(|| {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            eprintln!("set FUZZ_TARGET to one of: {}", names.join(" "));
            std::process::exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::check(chosen(), data));
