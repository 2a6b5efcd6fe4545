//! The `tksign` command.
fn main() {}
