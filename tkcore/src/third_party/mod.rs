//! Third-party caveats: sealed caveat keys, tickets, discharges.

pub(crate) mod discharge;
pub(crate) mod holder;
#[cfg(feature = "mint")]
pub(crate) mod reissue;
pub(crate) mod ticket;
pub(crate) mod vid;
