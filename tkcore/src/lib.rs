//! Verifies macaroons and clears them for requests, without I/O: no clock, no randomness, no
//! threads, no global state, no `std`, no `unsafe`.
//!
//! The way of a token in five calls: read what a client sent, verify its MAC chain, state what
//! the request is, clear it, log the grant.
//!
//! ```
//! use tkcore::danger::NoRevocations; // a service puts its revocation set here
//! use tkcore::{
//!     Authorization, Basis, BranchIds, Budget, HeaderBuf, KeyClass, LineageFacts, Request, RootKey, Row,
//!     Scratch, Tenant, TextForms, Timestamp, Vocabulary, verify,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let header = b"Bearer tk1_AgImAQABAQIDBAUGBwgJCQkJCQkJCQkJAaDEUGx7AGtJ0gB1c2VyOjcAAgxhcHAgaW4gMTcsNDIAAAYglagHd3x3N67xr3bZktr6hL3YQ77K1m3wzmMt5o-x3Bo";
//! # let key = RootKey::derive(b"the root key of these vectors");
//! // What the signer says of the token's lineage, and what a service keeps from call to call.
//! let facts = LineageFacts {
//!     tenant: Tenant::new("acme")?,
//!     audience: None,
//!     class: KeyClass::Ordinary,
//!     tenant_row: Row::from_bytes([1; 16]),
//!     subject_row: Some(Row::from_bytes([2; 16])),
//! };
//! let (mut buf, mut scratch, vocabulary) = (HeaderBuf::new(), Scratch::new(), Vocabulary::native());
//!
//! // One budget bounds the work of the whole header.
//! let mut budget = Budget::default();
//! let authorization = Authorization::parse(header, TextForms::OursOnly, &mut buf)?;
//! let presented = authorization.candidates().next().ok_or("no token")?;
//! let verified =
//!     verify(presented, Basis::Root(&key), &facts, BranchIds::Skip, &mut scratch, &mut budget)?;
//! let now = Timestamp::from_rfc3339("2026-12-01T12:00:00Z")?;
//! let request = Request::builder("acme", now).action("read").int("app", 42).build()?;
//! let grant = verified.clear(&request, &vocabulary, &NoRevocations, &mut budget)?;
//! assert_eq!(grant.subject(), Some("user:7"));
//!
//! // The token says `app in 17,42`, so another app is refused, with the reason.
//! let other = Request::builder("acme", now).action("read").int("app", 43).build()?;
//! let refused = verified.clear(&other, &vocabulary, &NoRevocations, &mut budget).unwrap_err();
//! assert_eq!((refused.http_status(), refused.code()), (403, "caveat"));
//! # Ok(())
//! # }
//! ```
//!
//! The type tells the stage: a [`Token`] is well formed, a [`Verified`] one has a chain that
//! holds, a [`Grant`] admits one request; each is made by the step before it alone. A service
//! without root keys verifies with a [`Prefix`] in place of the key. A holder narrows a token
//! with [`attenuate`] and needs no key for it. [`plain`] is for macaroons of other makers,
//! [`danger`] for choices that loosen something. `docs/spec/` in the repository specifies every
//! byte; rules are cited by their ids (`TK-12`).
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
#[cfg_attr(
    not(all(feature = "feed", feature = "protocol", feature = "third-party")),
    allow(dead_code, reason = "which kinds of field are read depends on the features")
)]
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
#[cfg(any(feature = "pypi", feature = "__json"))]
#[cfg_attr(
    not(feature = "__json"),
    allow(unreachable_pub, reason = "what `__json` shows is all that there is")
)]
mod json;
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
#[cfg_attr(
    not(feature = "publish"),
    allow(dead_code, reason = "a set is looked up without the parts that change and publish it")
)]
pub mod revocation;
mod summary;
mod text;
#[cfg(feature = "third-party")]
mod third_party;
mod time;
mod token;
mod verify;
mod wiped;
mod wire;

// What a client sent.
pub use bundle::{Authorization, HeaderBuf, Presented, TextForms};
pub use text::{TextKind, TokenText};
pub use token::{Token, TokenBuf, Untrusted, UntrustedCaveat};

// The chain.
pub use budget::{Budget, BudgetSpent};
pub use facts::{KeyClass, LineageFacts};
pub use key::{RootKey, Tail};
pub use prefix::Prefix;
pub use verify::{Basis, BranchIds, Place, Scratch, Verified, verify};

// The request and the caveats.
pub use caveat::{
    About, Asked, Caveat, CustomCaveat, CustomVerdict, Meaning, Operator, ParseError, ParseFault, PathFault,
    Vocabulary, VocabularyBuilder, VocabularyError,
};
pub use clear::clear_caveats;
pub use grant::Grant;
pub use request::{Access, Fact, PathFact, Request, RequestBuilder, RequestError};

// Why not.
pub use error::{Bug, Error, Malformed, NotAuthentic, NotKnowable, Owner};
pub use explain::{Explanation, Line, Outcome, explain_caveats};
pub use fault::{DischargeFault, Party};
pub use refusal::{CaveatRefusal, Refusal, RefusalCause, Why};
pub use summary::{Advice, Bound, Summary, advise};

// Names and times.
pub use identifier::{Identifier, ServiceToken};
pub use ids::{AuthorityId, BranchId, FeedDigest, FeedId, FeedKeyId, KeyId, LineageId, Row};
pub use name::{Audience, Name, NameError, Subject, Tenant};
pub use time::{TimeError, Timestamp};

// What a holder does.
pub use attenuate::attenuate;
#[cfg(feature = "third-party")]
pub use third_party::holder::{attenuate_third_party, bind};

// What a third party does.
#[cfg(feature = "third-party")]
pub use third_party::discharge::ClearedTicket;
#[cfg(feature = "third-party")]
pub use third_party::ticket::{
    AuthorityKeys, AuthorityPublic, AuthoritySecret, OpenTicket, SealTo, SharedKey, Ticket, TicketError,
    seal_ticket,
};
#[cfg(feature = "third-party")]
pub use third_party::vid::CaveatKey;

// Not for others: what `tksign` prints.
#[cfg(feature = "__json")]
#[doc(hidden)]
pub use json::Json;

// What the signer does.
#[cfg(feature = "mint")]
pub use mint::mint;
#[cfg(all(feature = "mint", feature = "third-party"))]
pub use third_party::reissue::{NewCaveat, NotExchangeable, exchange, is_tenant_wide, mint_with};
#[cfg(feature = "mint")]
pub use verify::branches_of_own_chain;
