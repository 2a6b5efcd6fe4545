//! Test-only helpers: the one member of the workspace where `unsafe` may appear.
//!
//! - [`alloc::Counting`]: a global allocator that counts, for "this path allocates nothing".
//! - [`TempDir`]: a folder of one test, gone when it ends.
//! - [`process::Process`]: a real child process, awaited by the line it prints and killed on drop.
//! - [`signer`]: the real `tksign` program, built when it is not there.
//! - [`disk`]: power losses and broken disks under a real program.
//! - [`Clock`]: another time for a running process.
//! - [`free_port`]: a port for a program that comes back to it.
//! - [`need`]: for tests that need a program which is not ours.
//! - [`table`]: tables in `docs/` that tests keep true.
//! - [`etcd::Etcd`]: real etcd members on loopback.
//! - [`history`]: the checker of what the clients of a cluster have seen.
//! - [`proxy::Proxy`]: a network that breaks.
//! - [`authority::Authority`]: certificates for a test's TLS.
//! - [`http::Server`]: a loopback server that answers exactly what a test tells it to, however wrong.

pub mod alloc;
pub mod authority;
mod clock;
mod dir;
pub mod disk;
pub mod etcd;
pub mod history;
pub mod http;
mod need;
mod port;
pub mod process;
pub mod proxy;
pub mod signer;
pub mod table;

pub use clock::Clock;
pub use dir::TempDir;
pub use need::{need, not_run};
pub use port::free_port;
