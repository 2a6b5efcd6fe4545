//! The revocation feed: fetched, kept in a folder, watched.

mod fetch;
mod folder;

pub use fetch::FetchError;
