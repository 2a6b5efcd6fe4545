//! The `tkverify` command.
fn main() {}
