//! Test-only helpers: the one member of the workspace where `unsafe` may appear.
