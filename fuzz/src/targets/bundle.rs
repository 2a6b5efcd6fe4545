//! `Authorization` values: what is read stays within its limits, and reading is the same for a
//! buffer that was used before.

use tkcore::{Authorization, HeaderBuf, TextForms, limits};

/// The first byte chooses the forms, the rest is the value.
pub fn run(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let forms = if choice & 1 == 0 { TextForms::OursOnly } else { TextForms::Reencoded };
    let (mut fresh, mut used) = (HeaderBuf::default(), HeaderBuf::default());
    let _ = Authorization::parse(b"Bearer x,y", forms, &mut used).map(|_| ());
    let again = Authorization::parse(value, forms, &mut used).map(|read| shape(&read));
    let first = Authorization::parse(value, forms, &mut fresh).map(|read| shape(&read));
    assert_eq!(first, again, "a used buffer changes nothing");
    if let Ok(roots) = first {
        assert!(!roots.is_empty() && roots.len() <= limits::ROOTS);
        assert!(roots.iter().all(|root| root.len() <= limits::DISCHARGES + 1));
        assert!(value.len() <= limits::HEADER_BYTES);
    }
}

/// The bytes of every root, each followed by its discharges'.
fn shape(read: &Authorization<'_>) -> Vec<Vec<Vec<u8>>> {
    read.candidates()
        .map(|presented| {
            let discharges = (0..presented.discharge_count()).filter_map(|at| presented.discharge(at));
            std::iter::once(presented.root()).chain(discharges).map(|token| token.as_v2().to_vec()).collect()
        })
        .collect()
}
