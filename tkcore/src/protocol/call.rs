//! What stands in a decrypted payload (PR-30 to PR-39).

use alloc::vec::Vec;
use core::fmt;

use super::error::RpcError;
use super::field::{self, BadMessage, Field, Fields, TooLarge, Writer};
use super::operation::Operation;

/// A params struct, tied to its operation and its answer.
pub trait Call: Field {
    /// What is asked.
    const OPERATION: Operation;
    /// What comes back when it succeeds.
    type Answer: Field;

    /// A whole request payload.
    ///
    /// # Errors
    /// [`TooLarge`] past the size of a payload.
    fn request(&self, id: RequestId, trace: Option<TraceContext>) -> Result<Vec<u8>, TooLarge> {
        let mut writer = Writer::default();
        Head { operation: Self::OPERATION.code(), id, trace }.write(&mut writer);
        self.write(&mut writer);
        writer.finish()
    }

    /// The parameters from [`Request::params`]; every byte is consumed.
    ///
    /// # Errors
    /// [`BadMessage`] names the rule that is broken.
    fn params(params: &[u8]) -> Result<Self, BadMessage> {
        field::decode(params)
    }

    /// A whole answer payload.
    ///
    /// # Errors
    /// [`TooLarge`] past the size of a payload.
    fn answer(answer: &Self::Answer) -> Result<Vec<u8>, TooLarge> {
        let mut writer = Writer::default();
        OK.write(&mut writer);
        answer.write(&mut writer);
        writer.finish()
    }

    /// Reads an answer payload and consumes every byte.
    ///
    /// # Errors
    /// [`BadMessage`] names the rule that is broken.
    fn read_answer(payload: &[u8]) -> Result<Result<Self::Answer, RpcError>, BadMessage> {
        match Response::decode(payload)? {
            Response::Answer(answer) => field::decode(answer).map(Ok),
            Response::Error(error) => Ok(Err(error)),
        }
    }
}

/// 16 random bytes that name one logical request of a client, the same in each retry. For an
/// operation that changes something it is the idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Takes the bytes: from the system's generator, or the caller's own idempotency key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// The caller's place in a distributed trace (W3C Trace Context, version 00, section 3.2): for
/// the audit, decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// `trace-id`.
    pub trace: [u8; 16],
    /// `parent-id`.
    pub parent: [u8; 8],
    /// `trace-flags`.
    pub flags: u8,
}

/// The front of a request: operation, flags, request id, trace context if flag bit 0 is set.
struct Head {
    operation: u16,
    id: RequestId,
    trace: Option<TraceContext>,
}

const TRACED: u8 = 1;
const OK: u8 = 0;
const ERROR: u8 = 1;

impl Field for Head {
    fn write(&self, to: &mut Writer) {
        self.operation.write(to);
        match self.trace {
            None => {
                0u8.write(to);
                to.put(&self.id.0);
            }
            Some(trace) => {
                TRACED.write(to);
                to.put(&self.id.0);
                to.put(&trace.trace);
                to.put(&trace.parent);
                trace.flags.write(to);
            }
        }
    }

    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        let operation = u16::read(from)?;
        let flags = u8::read(from)?;
        let id = RequestId(from.array()?);
        let trace = match flags {
            0 => None,
            TRACED => {
                Some(TraceContext { trace: from.array()?, parent: from.array()?, flags: u8::read(from)? })
            }
            _ => return Err(BadMessage("unknown request flag")),
        };
        Ok(Self { operation, id, trace })
    }
}

/// A decrypted request. The signer looks up the role for `operation` before it looks at
/// `params`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The operation's code; it may be unknown, which is answered by
    /// [`Code::UnknownOperation`](super::Code::UnknownOperation).
    pub operation: u16,
    /// Names the logical request.
    pub id: RequestId,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
    /// The operation's parameters, not looked into.
    pub params: &'a [u8],
}

impl<'a> Request<'a> {
    /// The operation's code of a payload that may not decode, for counting; 0: cut off.
    #[must_use]
    pub fn operation_of(payload: &[u8]) -> u16 {
        payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))
    }

    /// Reads the front; all bytes after it are the parameters.
    ///
    /// # Errors
    /// [`BadMessage`] when the front is cut off or has an unknown flag.
    pub fn decode(payload: &'a [u8]) -> Result<Self, BadMessage> {
        let mut fields = Fields(crate::codec::Reader::new(payload));
        let Head { operation, id, trace } = Head::read(&mut fields)?;
        Ok(Self { operation, id, trace, params: fields.0.rest() })
    }
}

/// A decrypted answer: a byte 0 and the operation's answer, or a byte 1 and an [`RpcError`].
#[derive(Debug)]
pub enum Response<'a> {
    /// It succeeded; the bytes are the operation's answer.
    Answer(&'a [u8]),
    /// It did not.
    Error(RpcError),
}

impl<'a> Response<'a> {
    /// The code of an error's payload, for counting; 0: it is an answer.
    #[must_use]
    pub const fn code_of(payload: &[u8]) -> u16 {
        match payload {
            [ERROR, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`BadMessage`] when it is neither, or the error has surplus bytes.
    pub fn decode(payload: &'a [u8]) -> Result<Self, BadMessage> {
        match payload.split_first() {
            Some((&OK, answer)) => Ok(Self::Answer(answer)),
            Some((&ERROR, error)) => RpcError::decode(error).map(Self::Error),
            Some(_) => Err(BadMessage("neither an answer nor an error")),
            None => Err(BadMessage("an empty payload")),
        }
    }

    /// The payload of a refusal.
    #[must_use]
    pub fn error(error: &RpcError) -> Vec<u8> {
        let mut writer = Writer::default();
        ERROR.write(&mut writer);
        error.write(&mut writer);
        // An error is at most 2 + 514 + 5 bytes, so it always fits.
        writer.finish().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KeyId;
    use crate::protocol::{Code, KeyRetire};

    const ID: RequestId = RequestId::from_bytes([5; 16]);

    /// PR-30, PR-32, PR-33.
    #[test]
    fn a_request_reads_back() {
        let call = KeyRetire { key: KeyId::from_bytes([1; 8]) };
        let trace = TraceContext { trace: [2; 16], parent: [3; 8], flags: 1 };
        for trace in [None, Some(trace)] {
            let payload = call.request(ID, trace).unwrap();
            let request = Request::decode(&payload).unwrap();
            assert_eq!(request.operation, Operation::KeyRetire.code());
            assert_eq!((request.id, request.trace), (ID, trace));
            assert_eq!(KeyRetire::params(request.params).unwrap().key, call.key);
        }
        let plain = call.request(ID, None).unwrap();
        assert_eq!(plain.len(), 2 + 1 + 16 + 8);
        for len in 0..19 {
            assert!(Request::decode(&plain[..len]).is_err());
        }
        let mut flagged = plain;
        flagged[2] = 2;
        assert!(Request::decode(&flagged).is_err());
    }

    /// PR-34.
    #[test]
    fn an_answer_is_one_of_two() {
        let error = Code::NotFound.detail("no such key");
        let payload = Response::error(&error);
        assert_eq!(KeyRetire::read_answer(&payload).unwrap().err(), Some(error));
        for bad in [&[][..], &[2], &[1], &[0]] {
            assert!(KeyRetire::read_answer(bad).is_err(), "{bad:?}");
        }
    }
}
