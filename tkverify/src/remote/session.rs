use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use snow::{Builder, HandshakeState, StatelessTransportState};
use tkcore::protocol::{
    HANDSHAKE_REQUEST_BYTES, MESSAGE_BYTES, NOISE, RpcRequest, SessionAnswer, SessionId, SessionRequest,
    TAG_BYTES, VERSION, prologue,
};
use zeroize::Zeroizing;

use crate::ClientKey;

/// When a session is replaced by the client, before the signer's hour is over.
const RENEW: Duration = Duration::from_secs(3300);

/// A handshake under way.
pub(super) struct Opening {
    state: HandshakeState,
    request: SessionRequest,
}

/// A session with one signer, shared by all threads. Numbers are handed out once each, so no
/// two messages are ever encrypted under the same.
pub(super) struct Session {
    id: SessionId,
    transport: StatelessTransportState,
    next: AtomicU64,
    opened: Duration,
}

/// An encrypted request and the number its answer must have.
pub(super) struct Sealed {
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
}

impl Opening {
    /// `None`: the keys are not ones the handshake can use.
    pub(super) fn new(key: &ClientKey, signer: &[u8; 32]) -> Option<Self> {
        let prologue = prologue(VERSION);
        let builder = Builder::new(NOISE.parse().ok()?)
            .local_private_key(key.expose())
            .and_then(|builder| builder.remote_public_key(signer))
            .and_then(|builder| builder.prologue(&prologue));
        let mut state = builder.ok()?.build_initiator().ok()?;
        let mut handshake = [0; HANDSHAKE_REQUEST_BYTES];
        let len = state.write_message(&[], &mut handshake).ok()?;
        (len == HANDSHAKE_REQUEST_BYTES)
            .then_some(Self { state, request: SessionRequest { version: VERSION, handshake } })
    }

    pub(super) fn body(&self) -> Vec<u8> {
        self.request.encode()
    }

    /// `None`: the answer is not of whoever holds the pinned key.
    pub(super) fn finish(mut self, answer: &SessionAnswer, now: Duration) -> Option<Session> {
        let mut payload = [0; TAG_BYTES];
        if self.state.read_message(&answer.handshake, &mut payload).ok()? != 0 {
            return None;
        }
        let transport = self.state.into_stateless_transport_mode().ok()?;
        Some(Session { id: answer.session, transport, next: AtomicU64::new(0), opened: now })
    }
}

impl Session {
    pub(super) fn is_old(&self, now: Duration) -> bool {
        now.saturating_sub(self.opened) >= RENEW
    }

    /// Encrypts under the next number. `None` when the payload is too long.
    pub(super) fn seal(&self, payload: &[u8]) -> Option<Sealed> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let len = payload.len().checked_add(TAG_BYTES).filter(|len| *len <= MESSAGE_BYTES)?;
        let mut message = vec![0; len];
        self.transport.write_message(number, payload, &mut message).ok()?;
        let body = RpcRequest { version: VERSION, session: self.id, number, message: &message }.encode();
        Some(Sealed { number, body })
    }

    /// Decrypts the answer under `number`; `None` when it is not authentic.
    pub(super) fn open(&self, number: u64, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut payload = Zeroizing::new(vec![0; message.len()]);
        let len = self.transport.read_message(number, message, &mut payload).ok()?;
        payload.truncate(len);
        Some(payload)
    }
}
