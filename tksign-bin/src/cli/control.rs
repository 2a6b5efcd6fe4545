//! The command line's side of the control socket: the same protocol as every client speaks,
//! one call a connection.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use snow::{Builder, StatelessTransportState};
use tkcore::protocol::{
    ClientKey, Frame, HANDSHAKE_REQUEST_BYTES, NOISE, RPC_BODY_BYTES, RPC_PATH, Refused, RpcAnswer,
    RpcRequest, SESSION_BODY_BYTES, SESSION_PATH, SessionAnswer, SessionId, SessionRequest, TAG_BYTES,
    VERSION, prologue,
};
use zeroize::Zeroizing;

use super::{Exit, Failure, values};
use crate::keys::public;
use crate::random;

/// In whose name a command speaks. Roles are disjoint, so the command line has one client key
/// for each power that it needs; whoever wants a machine that cannot mint by command line
/// removes that client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Role `operator`.
    Operator,
    /// Role `mint`.
    Mint,
    /// Role `revoke`.
    Revoke,
}

impl Speaker {
    /// The file of its private key, in the state folder.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Operator => "operator.key",
            Self::Mint => "mint.key",
            Self::Revoke => "revoke.key",
        }
    }
}

/// The signer's public key, in the state folder: what this command line pins.
pub(super) const SIGNER_KEY: &str = "signer.pub";
/// What services must be given, in the state folder.
pub(super) const TRUST_FILE: &str = "trust.json";
/// The embedded store, in the state folder.
pub(super) const STORE_FILE: &str = "tksign.db";

/// Longest wait for an answer: longer than the server allows an operation.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest object of the feed taken: a snapshot of some hundred million rows.
const OBJECT_BYTES: usize = 4 << 30;
/// Longest header of an answer.
const HEADER_BYTES: usize = 8 * 1024;

/// A session with the running server.
pub(super) struct Control {
    socket: std::path::PathBuf,
    session: SessionId,
    transport: StatelessTransportState,
    next: u64,
}

/// Whether a server answers in this folder.
pub(super) fn is_served(folder: &Path) -> bool {
    UnixStream::connect(folder.join(crate::serve::CONTROL_SOCKET)).is_ok()
}

impl Control {
    /// Opens a session with a speaker's key of this folder.
    pub(super) fn open(folder: &Path, speaker: Speaker) -> Result<Self, Failure> {
        let key = private_key(&folder.join(speaker.file()))?;
        let signer = read_hex(&folder.join(SIGNER_KEY))?;
        let socket = folder.join(crate::serve::CONTROL_SOCKET);
        let mut handshake =
            initiator(&key, &signer).ok_or_else(|| Failure::bug("the keys make no handshake"))?;
        let mut message = [0; HANDSHAKE_REQUEST_BYTES];
        handshake
            .write_message(&[], &mut message)
            .map_err(|_| Failure::bug("the handshake does not begin"))?;
        let body = SessionRequest { version: VERSION, handshake: message }.encode();
        let answer = post(&socket, SESSION_PATH, &body, SESSION_BODY_BYTES).map_err(|e| broken(&e))?;
        let answer = match Frame::<SessionAnswer>::decode(&answer).map_err(|_| no_answer())? {
            Frame::Accepted(answer) => answer,
            Frame::Refused(refused) => return Err(refusal(refused)),
        };
        let mut payload = [0; TAG_BYTES];
        let read = handshake.read_message(&answer.handshake, &mut payload);
        read.map_err(|_| {
            Failure::new(
                Exit::Unreachable,
                "whoever answers the control socket does not hold the signer's key",
                "check who runs in this folder; restart the signer",
            )
        })?;
        let transport = handshake
            .into_stateless_transport_mode()
            .map_err(|_| Failure::bug("the handshake does not end"))?;
        Ok(Self { socket, session: answer.session, transport, next: 0 })
    }

    /// One request payload, one answer payload.
    pub(super) fn exchange(&mut self, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let mut message = vec![0; payload.len().saturating_add(TAG_BYTES)];
        let sealed = self.transport.write_message(number, payload, &mut message);
        sealed.map_err(|_| Failure::usage("the request is longer than a message can be"))?;
        let body = RpcRequest { version: VERSION, session: self.session, number, message: &message }.encode();
        let answer = post(&self.socket, RPC_PATH, &body, RPC_BODY_BYTES).map_err(|e| broken(&e))?;
        match Frame::<RpcAnswer<'_>>::decode(&answer).map_err(|_| no_answer())? {
            Frame::Accepted(answer) if answer.number == number => {
                let mut payload = Zeroizing::new(vec![0; answer.message.len()]);
                let read = self.transport.read_message(number, answer.message, &mut payload);
                let len = read.map_err(|_| no_answer())?;
                payload.truncate(len);
                Ok(payload)
            }
            Frame::Accepted(_) => Err(no_answer()),
            Frame::Refused(refused) => Err(refusal(refused)),
        }
    }
}

fn initiator(key: &[u8; 32], signer: &[u8; 32]) -> Option<snow::HandshakeState> {
    let prologue = prologue(VERSION);
    let builder = Builder::new(NOISE.parse().ok()?).local_private_key(key).ok()?;
    builder.remote_public_key(signer).ok()?.prologue(&prologue).ok()?.build_initiator().ok()
}

/// A speaker's private key: a file that nobody else can read.
fn private_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mode = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            Exit::Local,
            format!("{} can be read by others (mode {:04o})", path.display(), mode & 0o7777),
            format!("chmod 600 {}", path.display()),
        ));
    }
    read_hex(path).map(Zeroizing::new)
}

/// 32 bytes from a file of 64 hexadecimal digits and a line end.
fn read_hex(path: &Path) -> Result<[u8; 32], Failure> {
    let mut text = Zeroizing::new(String::with_capacity(128));
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    file.take(100).read_to_string(&mut text).map_err(|e| unreadable(path, &e))?;
    values::hex(text.strip_suffix('\n').unwrap_or(&text)).ok_or_else(|| {
        Failure::new(
            Exit::Local,
            format!("{} does not hold a key", path.display()),
            "restore the file from a backup of the state folder",
        )
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as the user that runs the signer",
        _ => "name the signer's state folder with --dir",
    };
    Failure::new(Exit::Local, format!("{}: {error}", path.display()), next)
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!("the running signer broke off: {error}"),
        "look at its log; repeat the command (with --request-id it is done once)",
    )
}

fn no_answer() -> Failure {
    Failure::new(
        Exit::Unreachable,
        "what answers on the control socket is no signer of this version",
        "restart the signer after an upgrade",
    )
}

fn refusal(refused: Refused) -> Failure {
    match refused {
        Refused::Busy => Failure::new(Exit::Later, "the signer is busy", "try again in a second"),
        Refused::Version { lowest, highest } => Failure::new(
            Exit::Unreachable,
            format!("the running signer speaks protocol versions {lowest} to {highest}"),
            "use the tksign of the running version, or restart the signer with this one",
        ),
        _ => Failure::new(
            Exit::Unreachable,
            "the running signer does not take the command line's key",
            "use the state folder that it was started with; see tksign clients list",
        ),
    }
}

/// A new key pair.
pub(super) fn generate() -> (Zeroizing<[u8; 32]>, ClientKey) {
    let secret = random::secret();
    let public = ClientKey::from_bytes(public(&secret));
    (secret, public)
}

/// Who the speaker of a folder is.
pub(super) fn speaker_public(folder: &Path, speaker: Speaker) -> Result<ClientKey, Failure> {
    let secret = private_key(&folder.join(speaker.file()))?;
    Ok(ClientKey::from_bytes(public(&secret)))
}

/// An object from the running server; `None`: it has none there.
pub(super) fn get(socket: &Path, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: tksign\r\nconnection: close\r\n\r\n");
    let (status, body) = talk(socket, &head, &[], OBJECT_BYTES).map_err(|e| broken(&e))?;
    match status {
        200 => Ok(Some(body)),
        404 => Ok(None),
        other => Err(Failure::new(Exit::Later, format!("the running signer answered {other}"), "try again")),
    }
}

/// One `POST` over the socket; the answer's body, whatever its status.
fn post(socket: &Path, path: &str, body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: tksign\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    talk(socket, &head, body, limit).map(|(_, body)| body)
}

/// One request over the socket: status and body of the answer. Our server frames every answer
/// by its length and closes after it, so reading to the end is reading all of it; whether it
/// is whole is seen by what reads it.
fn talk(socket: &Path, head: &str, body: &[u8], limit: usize) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let most = limit.saturating_add(HEADER_BYTES);
    let mut answer = Vec::new();
    stream.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(end.saturating_add(4));
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.map(|status| (status, body)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
