//! Third-party caveats: sealed caveat keys, tickets, discharges.

pub(crate) mod vid;
