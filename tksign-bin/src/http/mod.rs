//! The signer's doors: who may connect and how often, one connection, and what stands at each
//! path. Nothing in here knows a token or a role.

mod connection;
mod gate;
mod metrics;
mod public;
mod range;
mod reply;
mod rpc;
#[cfg(test)]
mod tests;
mod timer;

pub(crate) use connection::{Doors, Handler, Stream, Timeouts, first};
pub(crate) use gate::Gate;
pub(crate) use metrics::{Kind, Metrics, MetricsPage, family};
pub(crate) use public::Public;
pub(crate) use reply::Reply;
pub(crate) use rpc::{Authority, Rpc};
