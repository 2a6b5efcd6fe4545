//! Third-party caveats: sealed caveat keys, tickets, discharges.

pub(crate) mod discharge;
pub(crate) mod holder;
pub(crate) mod ticket;
pub(crate) mod vid;
