//! Protect a service with tokens it can verify in process.
