//! What stands in the HTTP bodies, before any key is used (PR-1 to PR-12).

use alloc::vec::Vec;
use core::fmt;

use super::field::BadMessage;
use crate::codec::Reader;

/// The one version of the protocol there is. It stands in clear in front of every body and in
/// the handshake's [`prologue`], so that both ends know it and nobody between can change it.
pub const VERSION: u8 = 1;

/// The Noise protocol, by its full name.
pub const NOISE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// Where a session is opened, by `POST`.
pub const SESSION_PATH: &str = "/v1/session";
/// Where calls go, by `POST`.
pub const RPC_PATH: &str = "/v1/rpc";

/// Bytes that the authenticated cipher adds to a payload.
pub const TAG_BYTES: usize = 16;
/// Longest Noise message, in bytes (Noise specification, section 3).
pub const MESSAGE_BYTES: usize = 65_535;
/// Longest payload, in bytes: a Noise message without its tag.
pub const PAYLOAD_BYTES: usize = 65_519;
/// The first message of the handshake, empty payload: ephemeral key 32, static key 32 + 16,
/// tag 16.
pub const HANDSHAKE_REQUEST_BYTES: usize = 96;
/// The second message of the handshake, empty payload: ephemeral key 32, tag 16.
pub const HANDSHAKE_ANSWER_BYTES: usize = 48;
/// Longest body of a session request or of its answer: version 1, kind or none, session id 16,
/// handshake message.
pub const SESSION_BODY_BYTES: usize = 128;
/// Longest body of a call or of its answer: version 1, session id 16, number 8, message.
pub const RPC_BODY_BYTES: usize = 65_560;

const PROLOGUE: &[u8; 7] = b"tk-rpc\0";

/// The handshake's prologue for a version: `tk-rpc` and the version's byte.
#[must_use]
pub const fn prologue(version: u8) -> [u8; 7] {
    let [a, b, c, d, e, f, _] = *PROLOGUE;
    [a, b, c, d, e, f, version]
}

/// Names a session and, by its first 8 bytes, the signer instance that holds it. Not a secret:
/// without the session's keys it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Composes an id from the instance's id, random at each start, and random bytes.
    #[must_use]
    pub const fn new(instance: [u8; 8], random: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = instance;
        let [i, j, k, l, m, n, o, p] = random;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Wraps the bytes as they stand on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The signer instance that opened it.
    #[must_use]
    pub const fn instance(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Body of `POST` [`SESSION_PATH`]: version 1, handshake message 96.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRequest {
    /// The protocol version the client speaks.
    pub version: u8,
    /// The first message of the handshake.
    pub handshake: [u8; HANDSHAKE_REQUEST_BYTES],
}

impl SessionRequest {
    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(97);
        bytes.push(self.version);
        bytes.extend_from_slice(&self.handshake);
        bytes
    }

    /// Reads a body and consumes every byte. The version is not judged here: a body of another
    /// version may have another length, so look at its first byte before.
    ///
    /// # Errors
    /// [`BadMessage`] when the length is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, BadMessage> {
        let mut reader = Reader::new(body);
        let request = Self { version: reader.u8()?, handshake: reader.array()? };
        all_read(&reader)?;
        Ok(request)
    }
}

/// Body of the answer to a session request that was accepted: version 1, kind 0, session id 16,
/// handshake message 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionAnswer {
    /// Names the session from now on.
    pub session: SessionId,
    /// The second message of the handshake.
    pub handshake: [u8; HANDSHAKE_ANSWER_BYTES],
}

/// Body of `POST` [`RPC_PATH`]: version 1, session id 16, message number 8, Noise message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcRequest<'a> {
    /// The protocol version of the session.
    pub version: u8,
    /// The session whose keys are used.
    pub session: SessionId,
    /// The number under which the message is encrypted. A client never sends different bytes
    /// under one number; [`u64::MAX`] is reserved by Noise.
    pub number: u64,
    /// The encrypted [`Request`](super::Request), 16 to 65,535 bytes.
    pub message: &'a [u8],
}

impl<'a> RpcRequest<'a> {
    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.message.len().saturating_add(25));
        bytes.push(self.version);
        bytes.extend_from_slice(self.session.as_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(self.message);
        bytes
    }

    /// Reads a body; all bytes after the number are the message.
    ///
    /// # Errors
    /// [`BadMessage`] when the message is shorter than a tag or longer than Noise allows.
    pub fn decode(body: &'a [u8]) -> Result<Self, BadMessage> {
        let mut reader = Reader::new(body);
        Ok(Self {
            version: reader.u8()?,
            session: SessionId(reader.array()?),
            number: reader.u64()?,
            message: message(reader.rest())?,
        })
    }
}

/// Body of the answer to a call: version 1, kind 0, message number 8, Noise message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcAnswer<'a> {
    /// The number of the request that this answers, and under which the answer is encrypted.
    pub number: u64,
    /// The encrypted [`Response`](super::Response).
    pub message: &'a [u8],
}

/// Why a body was refused before anything in it could be trusted. Each is one constant body:
/// it says nothing about keys, clients or sessions beyond its kind.
///
/// None of these is authenticated: whoever is between client and signer could have written
/// one. So a client takes them as a hint to try again, never as a verdict about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// No such session here (never opened, expired, the signer was restarted), or the message
    /// does not decrypt, or its number was used. Open a new session. HTTP 409.
    Session,
    /// The handshake was refused: it is no handshake for this signer's key, or the client's
    /// key is not known. HTTP 403.
    Handshake,
    /// Too many handshakes or calls for now. HTTP 503 with `Retry-After`.
    Busy,
    /// The signer does not speak this version. HTTP 400.
    Version {
        /// The lowest it speaks.
        lowest: u8,
        /// The highest it speaks.
        highest: u8,
    },
    /// The body is not one of this endpoint. HTTP 400.
    Body,
}

impl Refused {
    /// Judges the version that stands first in a body, before the rest is looked at.
    ///
    /// # Errors
    /// What the body is to be refused with.
    pub fn unless_spoken(body: &[u8]) -> Result<(), Self> {
        match body.first() {
            Some(&VERSION) => Ok(()),
            Some(_) => Err(Self::Version { lowest: VERSION, highest: VERSION }),
            None => Err(Self::Body),
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Session => 409,
            Self::Handshake => 403,
            Self::Busy => 503,
            Self::Version { .. } | Self::Body => 400,
        }
    }
}

/// Any body that a signer answers with on the two endpoints: version 1, kind 1, then what the
/// kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<T> {
    /// Kind 0: accepted.
    Accepted(T),
    /// Kind 1 (session), 2 (handshake), 3 (busy), 4 (version), 5 (body).
    Refused(Refused),
}

impl Frame<SessionAnswer> {
    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Accepted(answer) => {
                let mut bytes = Vec::with_capacity(66);
                bytes.extend_from_slice(&[VERSION, ACCEPTED]);
                bytes.extend_from_slice(answer.session.as_bytes());
                bytes.extend_from_slice(&answer.handshake);
                bytes
            }
            Self::Refused(refused) => encode_refused(*refused),
        }
    }

    /// Reads a body and consumes every byte.
    ///
    /// # Errors
    /// [`BadMessage`]: not a body of this protocol (an error page of something between).
    pub fn decode(body: &[u8]) -> Result<Self, BadMessage> {
        let (kind, mut reader) = kind(body)?;
        if kind != ACCEPTED {
            return decode_refused(kind, reader).map(Self::Refused);
        }
        let answer = SessionAnswer { session: SessionId(reader.array()?), handshake: reader.array()? };
        all_read(&reader)?;
        Ok(Self::Accepted(answer))
    }
}

impl<'a> Frame<RpcAnswer<'a>> {
    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Accepted(answer) => {
                let mut bytes = Vec::with_capacity(answer.message.len().saturating_add(10));
                bytes.extend_from_slice(&[VERSION, ACCEPTED]);
                bytes.extend_from_slice(&answer.number.to_be_bytes());
                bytes.extend_from_slice(answer.message);
                bytes
            }
            Self::Refused(refused) => encode_refused(*refused),
        }
    }

    /// Reads a body; all bytes after the number are the message.
    ///
    /// # Errors
    /// [`BadMessage`]: not a body of this protocol (an error page of something between).
    pub fn decode(body: &'a [u8]) -> Result<Self, BadMessage> {
        let (kind, mut reader) = kind(body)?;
        if kind != ACCEPTED {
            return decode_refused(kind, reader).map(Self::Refused);
        }
        Ok(Self::Accepted(RpcAnswer { number: reader.u64()?, message: message(reader.rest())? }))
    }
}

const ACCEPTED: u8 = 0;
const SESSION: u8 = 1;
const HANDSHAKE: u8 = 2;
const BUSY: u8 = 3;
const OTHER_VERSION: u8 = 4;
const BODY: u8 = 5;

fn kind(body: &[u8]) -> Result<(u8, Reader<'_>), BadMessage> {
    let mut reader = Reader::new(body);
    if reader.u8()? != VERSION {
        return Err(BadMessage("unknown version"));
    }
    Ok((reader.u8()?, reader))
}

fn encode_refused(refused: Refused) -> Vec<u8> {
    match refused {
        Refused::Session => [VERSION, SESSION].to_vec(),
        Refused::Handshake => [VERSION, HANDSHAKE].to_vec(),
        Refused::Busy => [VERSION, BUSY].to_vec(),
        Refused::Version { lowest, highest } => [VERSION, OTHER_VERSION, lowest, highest].to_vec(),
        Refused::Body => [VERSION, BODY].to_vec(),
    }
}

fn decode_refused(kind: u8, mut reader: Reader<'_>) -> Result<Refused, BadMessage> {
    let refused = match kind {
        SESSION => Refused::Session,
        HANDSHAKE => Refused::Handshake,
        BUSY => Refused::Busy,
        OTHER_VERSION => Refused::Version { lowest: reader.u8()?, highest: reader.u8()? },
        BODY => Refused::Body,
        _ => return Err(BadMessage("unknown kind of answer")),
    };
    all_read(&reader)?;
    Ok(refused)
}

fn message(bytes: &[u8]) -> Result<&[u8], BadMessage> {
    if bytes.len() < TAG_BYTES {
        return Err(BadMessage("a message shorter than its tag"));
    }
    if bytes.len() > MESSAGE_BYTES {
        return Err(BadMessage("a message longer than Noise allows"));
    }
    Ok(bytes)
}

fn all_read(reader: &Reader<'_>) -> Result<(), BadMessage> {
    if reader.is_empty() { Ok(()) } else { Err(BadMessage("surplus bytes")) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// PR-3, PR-4: fixed lengths, every byte consumed.
    #[test]
    fn session_bodies() {
        let request = SessionRequest { version: 1, handshake: [7; 96] };
        let bytes = request.encode();
        assert_eq!(bytes.len(), 97);
        assert_eq!(SessionRequest::decode(&bytes), Ok(request));
        assert!(SessionRequest::decode(&bytes[..96]).is_err());
        assert!(SessionRequest::decode(&[bytes, vec![0]].concat()).is_err());

        let answer =
            Frame::Accepted(SessionAnswer { session: SessionId::new([1; 8], [2; 8]), handshake: [3; 48] });
        let bytes = answer.encode();
        assert_eq!(bytes.len(), 66);
        assert!(bytes.len() <= SESSION_BODY_BYTES);
        assert_eq!(Frame::<SessionAnswer>::decode(&bytes), Ok(answer));
        assert!(Frame::<SessionAnswer>::decode(&bytes[..65]).is_err());
        assert!(Frame::<SessionAnswer>::decode(&[bytes, vec![0]].concat()).is_err());
    }

    /// PR-6, PR-7: at the limit and one past it, on both sides.
    #[test]
    fn call_bodies() {
        for len in [16, 65_535] {
            let message = vec![9; len];
            let request = RpcRequest {
                version: 1,
                session: SessionId::from_bytes([4; 16]),
                number: 77,
                message: &message,
            };
            let bytes = request.encode();
            assert!(bytes.len() <= RPC_BODY_BYTES);
            assert_eq!(RpcRequest::decode(&bytes), Ok(request));
            let answer = Frame::Accepted(RpcAnswer { number: 77, message: &message });
            assert_eq!(Frame::<RpcAnswer<'_>>::decode(&answer.encode()), Ok(answer));
        }
        for len in [15, 65_536] {
            let message = vec![9; len];
            let request = RpcRequest {
                version: 1,
                session: SessionId::from_bytes([4; 16]),
                number: 77,
                message: &message,
            };
            assert!(RpcRequest::decode(&request.encode()).is_err());
            let answer = Frame::Accepted(RpcAnswer { number: 77, message: &message });
            assert!(Frame::<RpcAnswer<'_>>::decode(&answer.encode()).is_err());
        }
        assert_eq!(PAYLOAD_BYTES + TAG_BYTES, MESSAGE_BYTES);
        assert_eq!(RPC_BODY_BYTES, 25 + MESSAGE_BYTES);
    }

    /// PR-8: constant bodies.
    #[test]
    fn refusals_are_constant_and_read_back() {
        for (refused, bytes, status) in [
            (Refused::Session, &[1, 1][..], 409),
            (Refused::Handshake, &[1, 2], 403),
            (Refused::Busy, &[1, 3], 503),
            (Refused::Version { lowest: 1, highest: 2 }, &[1, 4, 1, 2], 400),
            (Refused::Body, &[1, 5], 400),
        ] {
            assert_eq!(Frame::<SessionAnswer>::Refused(refused).encode(), bytes);
            assert_eq!(Frame::<RpcAnswer<'_>>::decode(bytes), Ok(Frame::Refused(refused)));
            assert_eq!(refused.status(), status);
            assert!(Frame::<RpcAnswer<'_>>::decode(&[bytes, &[0]].concat()).is_err());
        }
        assert!(Frame::<RpcAnswer<'_>>::decode(&[1, 6]).is_err());
        assert!(Frame::<RpcAnswer<'_>>::decode(&[2, 1]).is_err());
        assert!(Frame::<RpcAnswer<'_>>::decode(b"<html>").is_err());
    }

    /// PR-2, PR-5.
    #[test]
    fn the_prologue_names_the_version_and_ids_name_the_instance() {
        assert_eq!(&prologue(1), b"tk-rpc\x01");
        assert_eq!(SessionId::new([1; 8], [2; 8]).instance(), [1; 8]);
    }
}
