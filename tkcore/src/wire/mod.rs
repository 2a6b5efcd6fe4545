//! The formats on the wire. One internal form: canonical V2 bytes.

pub(crate) mod base64;
pub(crate) mod canonical;
#[cfg(feature = "json")]
pub(crate) mod json;
pub(crate) mod v1;
pub(crate) mod v2;
