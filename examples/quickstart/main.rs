//! The whole idea in one command.
fn main() {}
