//! Identifiers: what parses is written back byte for byte.

use tkcore::Identifier;

/// One input is one identifier.
pub fn run(data: &[u8]) {
    let Ok(identifier) = Identifier::parse(data) else { return };
    let mut written = Vec::new();
    identifier.write(&mut written).expect("what was read can be written");
    assert_eq!(written, data, "an identifier has one spelling");
}
