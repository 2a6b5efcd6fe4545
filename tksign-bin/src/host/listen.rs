use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::systemd::{Inherited, Socket};
use crate::http::Stream;
use crate::peer::Peer;

/// Where to listen: `HOST:PORT` with a numeric host, `unix:PATH`, or `systemd:NAME` for a socket
/// that systemd opened under that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Inherited(String),
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("unix" | "systemd", "")) => Err("needs a path or a name behind the colon"),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("systemd", name)) => Ok(Self::Inherited(name.to_owned())),
            _ => text.parse().map(Self::Tcp).map_err(|_| "must be ADDRESS:PORT, unix:PATH or systemd:NAME"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// Why a listener could not be had, with what to do about it.
#[derive(Debug)]
pub(crate) struct BindError {
    address: String,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

impl BindError {
    /// What to do about it.
    #[allow(clippy::wildcard_enum_match_arm, reason = "advice on an open set; it decides nothing")]
    pub(crate) fn next(&self) -> &'static str {
        // The kinds of the standard library grow; what is not known gets the last answer.
        let kind = self.error.kind();
        if kind == io::ErrorKind::AddrInUse {
            "another program has the address: stop that one, or choose another (port 0 takes a free one)"
        } else if kind == io::ErrorKind::PermissionDenied {
            "choose a port above 1023, or a folder that this user can write"
        } else if kind == io::ErrorKind::AddrNotAvailable {
            "choose an address that this machine has"
        } else if kind == io::ErrorKind::NotFound && self.address.starts_with("systemd:") {
            "add FileDescriptorName=NAME to the .socket unit, and Sockets= to the service"
        } else {
            "choose another address"
        }
    }
}

impl std::error::Error for BindError {}

/// An open listener. The file of a Unix socket that we made is removed when it is dropped.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, made: Option<PathBuf>, peer: Peer },
}

/// Connections that wait to be accepted: as many as Linux allows unless it is told otherwise. When
/// ten thousand clients come back at once, each that finds no place tries again a second later or more.
const BACKLOG: u32 = 4096;

fn tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// Listens for services.
    pub(crate) async fn bind(address: &Address, inherited: &mut Inherited) -> Result<Self, BindError> {
        let wrap = |error| BindError { address: address.to_string(), error };
        match address {
            Address::Tcp(at) => tcp(*at).map(Self::Tcp).map_err(wrap),
            Address::Unix(path) => unix(path, Peer::Unix).map_err(wrap),
            Address::Inherited(name) => take(name, inherited).map_err(wrap),
        }
    }

    /// Listens for the operator's commands.
    pub(crate) fn control(path: &Path) -> Result<Self, BindError> {
        let wrap = |error| BindError { address: format!("unix:{}", path.display()), error };
        unix(path, Peer::Control).map_err(wrap)
    }

    /// Where it listens in fact: port 0 has become a number.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix { listener, .. } => {
                let address = listener.local_addr().ok()?;
                address.as_pathname().map(|path| Address::Unix(path.to_owned()))
            }
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are one write each; waiting to fill a packet only delays them.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Self::Unix { listener, peer, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), *peer))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { made: Some(path), .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The next socket that systemd opened under a name.
fn take(name: &str, inherited: &mut Inherited) -> io::Result<Listener> {
    match inherited.take(name) {
        None => Err(io::Error::new(io::ErrorKind::NotFound, "systemd passed no such socket")),
        Some(Socket::Tcp(listener)) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Listener::Tcp)
        }
        Some(Socket::Unix(listener)) => {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            Ok(Listener::Unix { listener, made: None, peer: Peer::Unix })
        }
    }
}

/// A socket left by a process that was killed is replaced; one that answers, and any other
/// file, is not. The control socket is its owner's alone, another its group's as well.
fn unix(path: &Path, peer: Peer) -> io::Result<Listener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of that name is no socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let mode = if peer == Peer::Control { 0o600 } else { 0o660 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Listener::Unix { listener, made: Some(path.to_owned()), peer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["127.0.0.1:7300", "[::1]:0", "unix:/run/tksign/rpc.sock", "systemd:rpc"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in ["", "unix:", "systemd:", "localhost", "127.0.0.1", "localhost:1", ":1"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
