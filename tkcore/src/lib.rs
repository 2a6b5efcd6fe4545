//! Macaroon verification without I/O.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm,
        reason = "tests fail loudly on their own"
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod answer;
mod attenuate;
mod base64;
mod budget;
mod bundle;
mod caveat;
mod chain;
mod clear;
mod codec;
pub mod danger;
#[cfg(any(feature = "lnd", feature = "pypi", feature = "dcache", feature = "bakery", feature = "l402"))]
pub mod dialect;
mod error;
mod explain;
mod extend;
mod facts;
mod fault;
mod grant;
mod identifier;
mod ids;
mod key;
pub mod limits;
#[cfg(feature = "mint")]
mod mint;
mod name;
pub mod plain;
mod prefix;
#[cfg(feature = "protocol")]
pub mod protocol;
mod reencoded;
mod refusal;
mod request;
pub mod revocation;
mod text;
#[cfg(feature = "third-party")]
mod third_party;
mod time;
mod token;
mod verify;
mod wire;

pub use attenuate::attenuate;
pub use budget::{Budget, BudgetSpent};
pub use bundle::{Authorization, HeaderBuf, Presented, TextForms};
pub use caveat::{
    About, Asked, Caveat, CustomCaveat, CustomVerdict, Operator, ParseError, ParseFault, PathFault,
    Vocabulary, VocabularyBuilder, VocabularyError,
};
pub use clear::clear_caveats;
pub use error::{Bug, Error, Malformed, NotAuthentic, NotKnowable, Owner};
pub use explain::{Explanation, Line, Outcome, explain_caveats};
pub use facts::{KeyClass, LineageFacts};
pub use fault::{DischargeFault, Party};
pub use grant::Grant;
pub use identifier::{Identifier, ServiceToken};
pub use ids::{AuthorityId, BranchId, FeedDigest, FeedId, FeedKeyId, KeyId, LineageId, Row};
pub use key::{RootKey, Tail};
#[cfg(feature = "mint")]
pub use mint::mint;
pub use name::{Audience, Name, NameError, Subject, Tenant};
pub use prefix::Prefix;
pub use refusal::{CaveatRefusal, Refusal, RefusalCause, Why};
pub use request::{Access, Fact, PathFact, Request, RequestBuilder, RequestError};
pub use text::{TextKind, TokenText};
#[cfg(feature = "third-party")]
pub use third_party::discharge::ClearedTicket;
#[cfg(feature = "third-party")]
pub use third_party::holder::{attenuate_third_party, bind};
#[cfg(all(feature = "mint", feature = "third-party"))]
pub use third_party::reissue::{NewCaveat, NotExchangeable, exchange, is_tenant_wide, mint_with};
#[cfg(feature = "third-party")]
pub use third_party::ticket::{
    AuthorityKeys, AuthorityPublic, AuthoritySecret, OpenTicket, SealTo, SharedKey, Ticket, TicketError,
    seal_ticket,
};
#[cfg(feature = "third-party")]
pub use third_party::vid::CaveatKey;
pub use time::{TimeError, Timestamp};
pub use token::{Token, TokenBuf, Untrusted, UntrustedCaveat};
#[cfg(feature = "mint")]
pub use verify::branches_of_own_chain;
pub use verify::{Basis, BranchIds, Place, Scratch, Verified, verify};
