//! For tonic: a layer that answers refusals as gRPC does, and the same refusals as a `Status` for
//! methods that ask the verifier themselves.
//!
//! ```
//! # use tkverify::testing::Kit;
//! use tkverify::web::Facts;
//!
//! # let verifier = Kit::new().verifier();
//! let layer = tkverify::tonic::guard(verifier, |asked| match asked.path() {
//!     "/files.Files/Read" => Some(Facts::new("acme").action("read")),
//!     "/files.Files/Delete" => Some(Facts::new("acme").action("delete").ask_signer()),
//!     _ => None, // refused: unknown methods need what nobody has
//! });
//! let _ = tonic::transport::Server::builder().layer(layer);
//! ```
//!
//! [`Asked::peer`] is the address that tonic's own transport says, with its TLS as without. A server that
//! is handed streams of another kind leaves it in [`tower::Peer`](crate::tower::Peer).
//!
//! A method that asks the verifier itself hands the request's `traceparent` on with
//! [`Facts::traceparent`](crate::web::Facts::traceparent). A method behind the layer finds the grant in
//! `request.extensions().get::<tkcore::Grant>()`, or with [`grant`].

use std::net::SocketAddr;

use ::tonic::metadata::{MetadataMap, MetadataValue};
use ::tonic::transport::server::TcpConnectInfo;
use ::tonic::{Code, Request, Status};
use tkcore::{Grant, Owner};

use crate::tower::Guard;
use crate::verifier::Verifier;
use crate::web::{Asked, Needs, Refused};

/// A [`Guard`] whose refusals are gRPC statuses: [`Code::Unauthenticated`] (present another token),
/// [`Code::PermissionDenied`] (this token does not give that), [`Code::Unavailable`] (ask again
/// later). The path of a call is `/package.Service/Method`.
pub const fn guard<F, N>(verifier: Verifier, needs: F) -> Guard<F>
where
    F: Fn(&Asked<'_>) -> N,
    N: Into<Needs>,
{
    Guard::new(verifier, needs).answering(answer)
}

/// The grant that the layer left with the request.
///
/// # Errors
/// [`Code::Unavailable`] when no layer of ours stands before the method, which is then not to go
/// on.
pub fn grant<T>(request: &Request<T>) -> Result<&Grant, Status> {
    request.extensions().get().ok_or_else(|| Refused::unguarded().into())
}

/// The domain of [`Status::details`]' `ErrorInfo`.
pub const DOMAIN: &str = "tk";

/// The stable code of a refusal stands in the metadata under `tk-code`, as it is in problems of
/// HTTP, and in the details as a `google.rpc.ErrorInfo` whose reason is the same in upper case
/// with underscores.
impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        status(&refused)
    }
}

fn status(refused: &Refused) -> Status {
    let code = match refused.status() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    let sentence = refused.sentence();
    let mut metadata = MetadataMap::new();
    metadata.insert("tk-code", MetadataValue::from_static(refused.code()));
    if let Some(seconds) = refused.retry_after() {
        metadata.insert("retry-after", MetadataValue::from(seconds));
    }
    if refused.error().is_some_and(|error| matches!(error.owner(), Owner::Holder)) {
        for challenge in refused.challenges() {
            if let Ok(challenge) = challenge.parse() {
                metadata.append("www-authenticate", challenge);
            }
        }
    }
    let details = details(code, &sentence, refused.code());
    Status::with_details_and_metadata(code, sentence, details.into(), metadata)
}

fn answer(refused: &Refused) -> http::Response<String> {
    status(refused).into_http()
}

/// Where the transport says the peer is.
pub(crate) fn peer(extensions: &http::Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr()
}

/// A `google.rpc.Status` with one `google.rpc.ErrorInfo`, in the encoding of Protocol Buffers: two
/// messages of strings are less than a code generator.
fn details(code: Code, sentence: &str, reason: &str) -> Vec<u8> {
    let reason = reason.to_ascii_uppercase().replace('-', "_");
    let mut info = Vec::new();
    field(&mut info, 1, reason.as_bytes());
    field(&mut info, 2, DOMAIN.as_bytes());
    let mut any = Vec::new();
    field(&mut any, 1, b"type.googleapis.com/google.rpc.ErrorInfo");
    field(&mut any, 2, &info);
    let mut status = vec![1 << 3];
    varint(&mut status, u64::from(i32::from(code).unsigned_abs()));
    field(&mut status, 2, sentence.as_bytes());
    field(&mut status, 3, &any);
    status
}

/// A field with a length: wire type 2.
fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    varint(to, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use tkcore::{Error, NotKnowable};

    use super::*;

    #[test]
    fn details_are_protocol_buffers() {
        // Read back by hand: `protoc --decode_raw` gives 1: 14, 2: "busy, …", 3 { 1: "type…", 2 { 1, 2 } }.
        let refused = Refused::from(Error::from(NotKnowable::TooManyAsks));
        let status = status(&refused);
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get("tk-code").unwrap(), "busy");
        assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
        let details = status.details();
        assert_eq!(&details[..2], [8, 14]);
        let sentence = refused.sentence();
        assert_eq!(details[2..4], [0x12, sentence.len() as u8]);
        let text = String::from_utf8_lossy(details);
        assert!(text.contains("type.googleapis.com/google.rpc.ErrorInfo") && text.contains("BUSY"));
        let mut long = Vec::new();
        field(&mut long, 1, &[b'x'; 300]);
        assert_eq!(long[..3], [10, 0xac, 2]);
    }
}
