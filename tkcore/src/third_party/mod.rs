//! Third-party caveats: sealed caveat keys, tickets, discharges.

pub(crate) mod ticket;
pub(crate) mod vid;
