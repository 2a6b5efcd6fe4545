use snow::{Builder, StatelessTransportState};
use tkcore::protocol::{
    ClientKey, HANDSHAKE_ANSWER_BYTES, HANDSHAKE_REQUEST_BYTES, MESSAGE_BYTES, NOISE, TAG_BYTES, prologue,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::keys::Statics;

/// The signer's static keys, as they are at the time: clients pin their public halves.
pub(crate) struct ServerKey(Box<dyn Fn() -> Statics + Send + Sync>);

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
    pub(crate) fn new(now: impl Fn() -> Statics + Send + Sync + 'static) -> Self {
        Self(Box::new(now))
    }

    /// Reads a first message to any of the keys (PR-13); `None` when it is to none of them.
    pub(super) fn answer(
        &self,
        version: u8,
        message: &[u8; HANDSHAKE_REQUEST_BYTES],
        known: impl Fn(&ClientKey) -> bool,
    ) -> Option<Answered> {
        let (current, before) = (self.0)();
        let mut keys = [Some(current), before].into_iter().flatten();
        keys.find_map(|key| Self::answer_with(&key, version, message, &known))
    }

    /// The same to one key. Reading is about two thirds of the cost of the whole handshake, so
    /// unknown clients are refused before the rest.
    fn answer_with(
        key: &[u8; 32],
        version: u8,
        message: &[u8; HANDSHAKE_REQUEST_BYTES],
        known: impl Fn(&ClientKey) -> bool,
    ) -> Option<Answered> {
        let prologue = prologue(version);
        let builder = Builder::new(NOISE.parse().ok()?);
        let builder = builder.local_private_key(key).ok()?.prologue(&prologue).ok()?;
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
