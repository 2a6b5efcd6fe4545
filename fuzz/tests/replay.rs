//! Every seed and every input that once failed, replayed without libFuzzer; then the same
//! inputs cut at every length and with one bit flipped at every place.

use std::fs;
use std::path::Path;

/// Inputs longer than this are replayed whole but cut and flipped at a stride, so that the test
/// stays linear in the size of the seeds.
const DENSE: usize = 512;

fn inputs(kind: &str, target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            (entry.path().display().to_string(), fs::read(entry.path()).expect("a seed is readable"))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_target_has_a_seed_and_every_seed_a_target() {
    for (name, _) in fuzz::TARGETS {
        assert!(!inputs("seeds", name).is_empty(), "seeds/{name}/ has no file");
    }
    for kind in ["seeds", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
        for entry in
            fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
        {
            let name = entry.file_name();
            assert!(
                name.to_str().is_some_and(|name| fuzz::find(name).is_some()),
                "{kind}/{name:?} has no target"
            );
        }
    }
}

#[test]
fn kept_inputs_hold() {
    for (name, body) in fuzz::TARGETS {
        let kept: Vec<_> = inputs("seeds", name).into_iter().chain(inputs("regressions", name)).collect();
        println!("{name}: {} inputs", kept.len());
        fuzz::check(*body, &[]);
        for (path, data) in &kept {
            println!("  {path}");
            fuzz::check(*body, data);
        }
    }
}

#[test]
fn neighbours_of_kept_inputs_hold() {
    for (name, body) in fuzz::TARGETS {
        for (path, data) in inputs("seeds", name).into_iter().chain(inputs("regressions", name)) {
            println!("  {path}");
            let stride = data.len().div_ceil(DENSE).max(1);
            let mut changed = data.clone();
            for at in (0..data.len()).step_by(stride) {
                fuzz::check(*body, &data[..at]);
                changed[at] ^= 1 << (at % 8);
                fuzz::check(*body, &changed);
                changed[at] = data[at];
            }
        }
    }
}
