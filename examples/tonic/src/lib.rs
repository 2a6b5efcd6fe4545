//! The messages of the service, and what `build.rs` wrote for it.

/// Names a file.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Name {
    /// Of a tenant's files.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct File {
    /// What it holds; empty when it was deleted.
    #[prost(string, tag = "1")]
    pub text: String,
    /// On whose behalf.
    #[prost(string, tag = "2")]
    pub by: String,
}

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "written by tonic-build"
    )]
    include!(concat!(env!("OUT_DIR"), "/files.Files.rs"));
}

pub use generated::{files_client, files_server};
