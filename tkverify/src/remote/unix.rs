//! Unix sockets under the HTTP client: `unix:/path` where a signer runs on the same machine.
//!
//! The path of the socket cannot stand in a request's URL. So each path has a name of its own, made
//! of the path in hexadecimal under the suffix `.unix`, which no look-up ever sees: connections are
//! kept by that name, and opened to the path.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, Either, LazyBuffers, NextTimeout,
    ShutdownHandle, Transport,
};

use crate::clock::{Clock, SystemClock};

/// What an address of a Unix socket begins with.
pub(crate) const SCHEME: &str = "unix:";
/// What the name of a socket ends with: reserved for nobody, looked up by nobody.
const SUFFIX: &str = ".unix";

/// Where the HTTP client sends what is for an address: itself, or the name of its socket.
pub(super) fn base(url: &str) -> String {
    match url.strip_prefix(SCHEME) {
        Some(path) => format!("http://{}{SUFFIX}", crate::trust::hex(path.as_bytes())),
        None => url.to_owned(),
    }
}

/// The path that a name stands for.
fn path(uri: &Uri) -> Option<PathBuf> {
    let digits = uri.host()?.strip_suffix(SUFFIX)?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at.checked_add(2)?)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.map(|bytes| std::ffi::OsString::from_vec(bytes).into())
}

/// An agent for addresses of both kinds.
pub(super) fn agent(config: Config) -> ureq::Agent {
    let connector = Connect(DefaultConnector::default());
    ureq::Agent::with_parts(config, connector, Look(DefaultResolver::default()))
}

/// Looks up what is a name of a machine.
#[derive(Debug)]
struct Look(DefaultResolver);

impl Resolver for Look {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if path(uri).is_some() { Ok(self.0.empty()) } else { self.0.resolve(uri, config, timeout) }
    }
}

#[derive(Debug)]
struct Connect(DefaultConnector);

impl Connector for Connect {
    type Out = Either<Socket, Box<dyn Transport>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(path) = path(details.uri) else {
            return Ok(self.0.connect(details, chained)?.map(Either::B));
        };
        let stream = Arc::new(Stream(open(&path, &details.timeout)?));
        (details.register_shutdown)(Arc::downgrade(&stream) as Weak<dyn ShutdownHandle>)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::A(Socket { stream, buffers })))
    }
}

/// A Unix socket takes a connection at once, or has a full queue and lets the caller wait until
/// somebody takes one out of it: for ever, where a signer is stopped. Linux ends that wait with the
/// socket's time limit for sending; other systems do not wait.
fn open(path: &Path, timeout: &NextTimeout) -> Result<UnixStream, Error> {
    use rustix::net;
    let open = || {
        let socket = socket()?;
        let address = net::SocketAddrUnix::new(path)?;
        within(left(timeout), &SystemClock::new(), |left| {
            net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Send, left)?;
            net::connect(&socket, &address)
        })?;
        Ok(UnixStream::from(socket))
    };
    open().map_err(|error: Errno| failed(error.into(), timeout))
}

/// A socket that no program inherits: where the system can, from its first moment on.
fn socket() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketType};
    #[cfg(target_os = "linux")]
    return rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    #[cfg(not(target_os = "linux"))]
    {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        Ok(socket)
    }
}

/// Tries again what a signal has interrupted, each time with what is left of the whole time.
fn within(
    whole: Option<Duration>,
    clock: &dyn Clock,
    mut attempt: impl FnMut(Option<Duration>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let began = clock.read().monotonic;
    let mut left = whole;
    while left != Some(Duration::ZERO) {
        match attempt(left) {
            Err(Errno::INTR) => {
                let spent = clock.read().monotonic.saturating_sub(began);
                left = whole.map(|whole| whole.saturating_sub(spent));
            }
            ended => return ended,
        }
    }
    Err(Errno::TIMEDOUT)
}

/// A socket that another thread may end.
struct Stream(UnixStream);

impl ShutdownHandle for Stream {
    fn shutdown(&self) {
        // An error says that it has ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// One connection.
struct Socket {
    stream: Arc<Stream>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

/// The longest that one read or write may take; none for a call without a deadline.
fn left(timeout: &NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|left| *left)
}

fn failed(error: io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.0.set_write_timeout(left(&timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&self.stream.0).write_all(output).map_err(|error| failed(error, &timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.0.set_read_timeout(left(&timeout))?;
        let read = (&self.stream.0).read(self.buffers.input_append_buf());
        let read = read.map_err(|error| failed(error, &timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing is due on a connection that is not in use: what is there, or an end, is a reason
        // for another one.
        let mut byte = [0];
        let idle = self.stream.0.set_nonblocking(true).and_then(|()| (&self.stream.0).read(&mut byte));
        let restored = self.stream.0.set_nonblocking(false).is_ok();
        restored && matches!(idle, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket whose queue is full and that nobody takes connections from, as of a stopped signer.
    #[test]
    fn a_socket_that_takes_no_connection_ends_the_call_at_its_deadline() {
        use rustix::{io, net};
        let dir = testkit::TempDir::new();
        let path = dir.join("rpc.sock");
        let address = net::SocketAddrUnix::new(&path).unwrap();
        let socket = || net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None).unwrap();
        let silent = socket();
        net::bind(&silent, &address).unwrap();
        net::listen(&silent, 0).unwrap();
        let mut waiting = Vec::new();
        loop {
            waiting.push(socket());
            let last = waiting.last().unwrap();
            io::ioctl_fionbio(last, true).unwrap();
            match net::connect(last, &address) {
                Ok(()) => assert!(waiting.len() < 100, "the queue has an end"),
                Err(error) => break assert_eq!(error, io::Errno::AGAIN),
            }
        }
        let agent = agent(ureq::Agent::config_builder().build());
        let url = format!("{}/v1/rpc", base(&format!("unix:{}", path.display())));
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let short = Some(Duration::from_millis(50));
            let call = agent.get(url).config().timeout_global(short).build().call();
            let _ = done.send(call.map(drop));
        });
        let ended = ended.recv_timeout(Duration::from_secs(60)).expect("a call ends at its deadline");
        assert!(matches!(ended, Err(Error::Timeout(_))), "{ended:?}");
    }

    /// A second passes at each look.
    #[derive(Debug, Default)]
    struct Seconds(std::sync::atomic::AtomicU64);

    impl Clock for Seconds {
        fn read(&self) -> crate::clock::Reading {
            let seconds = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let monotonic = Duration::from_secs(seconds);
            crate::clock::Reading { wall: tkcore::Timestamp::EPOCH, monotonic }
        }
    }

    #[test]
    fn signals_do_not_prolong_a_connection() {
        let mut given = Vec::new();
        let ended = within(Some(Duration::from_secs(3)), &Seconds::default(), |left| {
            given.push(left.unwrap().as_secs());
            assert!(given.len() < 100, "interrupted for ever");
            Err(Errno::INTR)
        });
        assert_eq!((ended, given), (Err(Errno::TIMEDOUT), vec![3, 2, 1]));
        // What is not an interruption is the outcome, and without a deadline there is no end.
        let mut outcomes = [Err(Errno::INTR), Err(Errno::INTR), Ok(())].into_iter();
        let ended = within(None, &Seconds::default(), |left| {
            assert_eq!(left, None);
            outcomes.next().unwrap()
        });
        assert_eq!(ended, Ok(()));
        let refused = within(None, &Seconds::default(), |_| Err(Errno::CONNREFUSED));
        assert_eq!(refused, Err(Errno::CONNREFUSED));
    }

    #[test]
    fn a_path_becomes_a_name_and_back() {
        for text in ["/run/tksign/rpc.sock", "/a b/\u{e9}"] {
            let uri: Uri = format!("{}/v1/rpc", base(&format!("unix:{text}"))).parse().unwrap();
            assert_eq!(path(&uri), Some(PathBuf::from(text)));
        }
        assert_eq!(base("http://h:1"), "http://h:1");
        assert_eq!(path(&"http://h:1/v1/rpc".parse().unwrap()), None);
        assert_eq!(path(&"http://xyz.unix/".parse().unwrap()), None);
    }
}
