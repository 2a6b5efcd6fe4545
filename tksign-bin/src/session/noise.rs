use std::fmt;

use snow::{Builder, StatelessTransportState};
use tkcore::protocol::{
    ClientKey, HANDSHAKE_ANSWER_BYTES, HANDSHAKE_REQUEST_BYTES, MESSAGE_BYTES, NOISE, TAG_BYTES, prologue,
};
use zeroize::{Zeroize as _, Zeroizing};

/// The signer's static key: clients pin its public half.
pub(crate) struct ServerKey {
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

/// A handshake that a client of this key began and we answered. Whether the client holds the
/// key of `client` *now* is not shown yet: the first message could be a recording.
pub(super) struct Answered {
    pub(super) client: ClientKey,
    pub(super) answer: [u8; HANDSHAKE_ANSWER_BYTES],
    pub(super) transport: Transport,
}

/// The keys of a session. Every message carries its own number; `snow` checks neither that a
/// number is new nor that it is sent once, so `table` does.
pub(super) struct Transport(StatelessTransportState);

impl ServerKey {
    pub(crate) const fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self { secret }
    }

    /// Reads a first message; `None` when it is not one for this key. About two thirds of the
    /// cost of the whole handshake, so the caller can refuse unknown clients before the rest.
    pub(super) fn answer(
        &self,
        version: u8,
        message: &[u8; HANDSHAKE_REQUEST_BYTES],
        known: impl FnOnce(&ClientKey) -> bool,
    ) -> Option<Answered> {
        let prologue = prologue(version);
        let builder = Builder::new(NOISE.parse().ok()?);
        let builder = builder.local_private_key(self.secret.as_slice()).ok()?.prologue(&prologue).ok()?;
        let mut handshake = builder.build_responder().ok()?;
        let mut payload = [0; HANDSHAKE_REQUEST_BYTES];
        // A first message can be replayed, so nothing is said in it.
        if handshake.read_message(message, &mut payload).ok()? != 0 {
            return None;
        }
        let client = ClientKey::from_bytes(handshake.get_remote_static()?.try_into().ok()?);
        if !known(&client) {
            return None;
        }
        let mut answer = [0; HANDSHAKE_ANSWER_BYTES];
        if handshake.write_message(&[], &mut answer).ok()? != HANDSHAKE_ANSWER_BYTES {
            return None;
        }
        let transport = Transport(handshake.into_stateless_transport_mode().ok()?);
        Some(Answered { client, answer, transport })
    }
}

impl Transport {
    /// The payload of an authentic message under `number`.
    pub(super) fn open(&self, number: u64, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        // `snow` wants room for the tag as well.
        let mut payload = Zeroizing::new(vec![0; message.len()]);
        let len = self.0.read_message(number, message, &mut payload).ok()?;
        payload.truncate(len);
        Some(payload)
    }

    /// Encrypts the one answer there will ever be under `number`.
    pub(super) fn seal(&self, number: u64, payload: &[u8]) -> Option<Vec<u8>> {
        let len = payload.len().checked_add(TAG_BYTES).filter(|len| *len <= MESSAGE_BYTES)?;
        let mut message = vec![0; len];
        if self.0.write_message(number, payload, &mut message).is_err() {
            message.zeroize();
            return None;
        }
        Some(message)
    }
}
