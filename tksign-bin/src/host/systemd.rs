//! systemd's two interfaces (`sd_notify(3)`, `sd_listen_fds(3)`), each a few lines.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::sync::Arc;

use listenfd::ListenFd;

/// Tells the service manager how the process is. Without one it tells nobody.
#[derive(Debug, Clone)]
pub(crate) struct Notify(Option<Arc<UnixDatagram>>);

impl Notify {
    /// Connects to `$NOTIFY_SOCKET`: once, since the sandbox allows no connection later.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(Self(None)) };
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Self(Some(Arc::new(socket))))
    }

    /// Sends one message. A manager that has gone away is no reason to stop.
    pub(crate) fn tell(&self, message: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// Sockets that the service manager opened, by the name that its unit gives them
/// (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub(crate) struct Inherited(BTreeMap<String, Vec<Socket>>);

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes all of them. Call it once, at the start: it reads the environment and changes it.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..sockets.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
            let socket = match sockets.take_tcp_listener(index) {
                Ok(socket) => socket.map(Socket::Tcp),
                Err(_) => sockets.take_unix_listener(index)?.map(Socket::Unix),
            };
            inherited.0.entry(name.to_owned()).or_default().extend(socket);
        }
        Ok(inherited)
    }

    /// The next socket of a name.
    pub(crate) fn take(&mut self, name: &str) -> Option<Socket> {
        self.0.get_mut(name)?.pop()
    }
}
