//! Messages between a client and the signer (docs/spec/protocol.md): pure layouts, no I/O and
//! no cryptography.
//!
//! 1. The client opens a session: [`SessionRequest`] carries the first message of a Noise
//!    handshake ([`NOISE`] with [`prologue`]), [`SessionAnswer`] the second.
//! 2. Each call is a params struct that implements [`Call`], framed by [`Request`] and, encrypted,
//!    by [`RpcRequest`].
//! 3. The signer answers in an [`RpcAnswer`]: a [`Response`] with the call's answer or an
//!    [`RpcError`] that says whose fault it is.
//!
//! Every `decode` consumes every byte and refuses what it does not know.

mod audit;
mod audit_chain;
mod call;
mod client;
mod error;
mod exchange;
mod field;
mod frame;
mod keys;
mod mint;
mod operation;
mod page;
mod publication;
mod rate;
mod registry;
mod revoke;
mod secret;
mod static_key;
mod status;
mod verify;
mod window;

/// The feed's positions as messages name them.
pub use crate::revocation::Position as FeedPosition;
pub use audit::{AuditLine, AuditPrune, AuditPruned, AuditTail};
pub use audit_chain::{AuditActor, AuditChain, AuditEvent, AuditHead, BadAuditLine};
pub use call::{Call, Request, RequestId, Response, TraceContext};
pub use client::{
    ClientAdd, ClientConfirm, ClientInfo, ClientKey, ClientList, ClientRemove, ClientState, MintPower,
    Narrowing, Role,
};
pub use error::{Code, Fault, RpcError};
pub use exchange::{Exchange, ExchangeAnswer};
pub use field::{BadMessage, Bytes, Done, Field, Text, TooLarge};
pub use frame::{
    Frame, HANDSHAKE_ANSWER_BYTES, HANDSHAKE_REQUEST_BYTES, MESSAGE_BYTES, NOISE, PAYLOAD_BYTES,
    RPC_BODY_BYTES, RPC_PATH, Refused, RpcAnswer, RpcRequest, SESSION_BODY_BYTES, SESSION_PATH,
    SessionAnswer, SessionId, SessionRequest, TAG_BYTES, VERSION, prologue,
};
pub use keys::{DelegatedKey, FetchKeys, KeyCreate, KeyInfo, KeyList, KeyRetire, KeyRotate, KeyState};
pub use mint::{Expiry, Mint, MintAnswer, MintCaveat, Permit};
pub use operation::{Effect, Operation};
pub use page::{Cursor, Page, PageFull};
pub use publication::{PublicationAnswer, PublicationDraft, PublicationPrepare, PublicationRotate};
pub use rate::{Bucket, Rate};
pub use registry::{TokenInfo, TokenList, TokenShow};
pub use revoke::{
    Counted, Floor, KeyFloor, Revoke, RevokeAnswer, RevokeEffect, RevokePresented, RevokePreview,
    RevokePreviewAnswer, RevokeScope, RevokeTarget,
};
pub use secret::{SecretBytes, SecretKey};
pub use static_key::{StaticKeys, StaticRetire, StaticRotate};
pub use status::{Mode, Rewrap, RewrapAnswer, Status, StatusAnswer};
pub use verify::{Verify, VerifyAnswer};
pub use window::Window;
