//! Makes a module and a table entry of every file in `src/targets`, so that a target is one file.

use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src/targets");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("src/targets exists")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    let mut code = String::new();
    for name in &names {
        let path = folder.join(name).with_extension("rs");
        writeln!(code, "#[path = {path:?}] mod {name};").expect("a string takes all");
    }
    code.push_str("/// Every target: its name and its body.\npub const TARGETS: &[(&str, Body)] = &[\n");
    for name in &names {
        writeln!(code, "    ({name:?}, {name}::run),").expect("a string takes all");
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("targets.rs"), code).expect("the output folder can be written");
}
