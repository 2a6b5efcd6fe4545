//! Random macaroons, ways to spoil them, and what three libraries say of each.

pub mod judge;
pub mod random;
pub mod spec;

pub use judge::{Said, Set};
pub use random::Random;
pub use spec::Spec;
