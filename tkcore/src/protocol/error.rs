use alloc::string::ToString as _;
use core::fmt;

use super::field::{BadMessage, Field, Fields, Text, Writer, message};
use crate::error::{Error, NotAuthentic};
use crate::refusal::RefusalCause;
use crate::revocation::Rule;

/// Whose fault a refusal of the signer is, from the client's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The token that was presented. The verdict is about it: HTTP 401 to whoever presented it.
    Token,
    /// The client: what it asked, or that it asked. A service that gets this while it verifies
    /// a token is configured wrongly and cannot know the verdict: HTTP 503.
    Caller,
    /// The moment; asking again later may succeed. HTTP 503.
    Moment,
    /// The signer. HTTP 503.
    Signer,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// What the signer refuses with. Stable; the high byte says whose [`Fault`] it is (1
        /// token, 2 caller, 3 moment, 4 signer).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code this version does not know; the high byte still tells the fault.
            Other(u16),
        }

        impl Code {
            /// All that this version knows, by code.
            pub const KNOWN: &[Self] = &[$(Self::$name,)*];

            /// The two bytes on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* Self::Other(code) => code }
            }

            /// The code of two bytes.
            #[must_use]
            pub const fn from_code(code: u16) -> Self {
                match code { $($code => Self::$name,)* other => Self::Other(other) }
            }

            /// A sentence that is safe to show anybody.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Other(_) => "the signer refused with an unknown code" }
            }
        }
    };
}

codes! {
    /// The presented bytes are no token of the accepted form.
    TokenMalformed = 0x0101, "the token is malformed";
    /// A signature of the chain does not hold.
    NotAuthentic = 0x0102, "the token is not authentic";
    /// No key under the id that the token names, or a retired one.
    UnknownKey = 0x0103, "the token names an unknown key";
    /// Made under a key of another audience than the client's.
    WrongAudience = 0x0104, "the token is for another audience";
    /// Past its expiry.
    Expired = 0x0105, "the token has expired";
    /// Revoked; the detail is the rule's word ([`RpcError::rule`]).
    Revoked = 0x0106, "the token is revoked";
    /// Minted further ahead of the signer's clock than the allowed skew.
    IssuedAhead = 0x0107, "the token was issued in the future";
    /// A discharge is missing, unused, doubled, unbound or does not hold.
    BadDischarge = 0x0108, "a discharge is missing or does not hold";
    /// More work than one verification may do.
    TooMuchWork = 0x0109, "the token asks for too much work";
    /// It cannot be exchanged; the detail says why.
    NotExchangeable = 0x010a, "the token cannot be exchanged";

    /// No operation of that code.
    UnknownOperation = 0x0201, "unknown operation";
    /// The parameters break their layout.
    BadParameters = 0x0202, "bad parameters";
    /// The client key has no role that may do this. Also the answer to a key that was removed.
    NotAllowed = 0x0203, "this client may not do that";
    /// The client's role is narrowed to less: another tenant, a shorter life, a caveat it must add.
    OutsideRole = 0x0204, "outside what this client's role allows";
    /// An unrestricted or never-expiring token without the explicit permission for it.
    NeedsPermission = 0x0205, "needs an explicit permission";
    /// The request id was used before with other parameters.
    IdempotencyConflict = 0x0206, "the request id was used with other parameters";
    /// Nothing under that name or id.
    NotFound = 0x0207, "not found";
    /// There is one already.
    AlreadyExists = 0x0208, "already exists";
    /// The request is longer than the operation allows.
    RequestTooLarge = 0x0209, "the request is too large";
    /// The client key is suspended until the operator confirms it, or past its expiry.
    ClientSuspended = 0x020a, "this client is suspended or expired";
    /// Not in the state the thing is in; the detail says what stands in the way.
    Conflict = 0x020b, "not possible in this state";
    /// A floor in the future, or another time that cannot be.
    BadTime = 0x020c, "not a time that is possible here";

    /// More requests than the client may make.
    RateLimited = 0x0301, "too many requests from this client";
    /// More work than the signer takes on at once.
    Busy = 0x0302, "the signer is busy";
    /// The signer is stopping; ask another or again.
    Stopping = 0x0303, "the signer is stopping";
    /// The store is behind what was published; the signer only reads until that is settled.
    ReadOnly = 0x0304, "the signer is read-only until its store is confirmed";
    /// In force here, not yet durable on the remote copy; asking again with the same id tells.
    NotYetRemote = 0x0305, "in force, not yet durable remotely";
    /// The signer's clock is too far from the others' to mint.
    ClockApart = 0x0306, "the signer's clock is not to be trusted now";

    /// The store could not commit.
    StoreFailed = 0x0401, "the signer's store failed";
    /// A bug of the signer.
    Internal = 0x0402, "internal error of the signer";
    /// The answer does not fit a payload.
    AnswerTooLarge = 0x0403, "the answer is too large";
}

impl Code {
    /// Whose fault it is. An unknown high byte is the signer's.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self.code() >> 8 {
            1 => Fault::Token,
            2 => Fault::Caller,
            3 => Fault::Moment,
            _ => Fault::Signer,
        }
    }

    /// An error of this code with nothing to add.
    #[must_use]
    pub fn error(self) -> RpcError {
        RpcError { code: self, detail: Text::default(), retry_after: None }
    }

    /// The refusal of a token that `rule` kills.
    #[must_use]
    pub fn revoked(rule: Rule) -> RpcError {
        Self::Revoked.detail(rule.as_str())
    }

    /// An error of this code and a detail that is safe to show the client. Control characters
    /// are dropped, and what is past [`Text::MAX`].
    #[must_use]
    pub fn detail(self, detail: &str) -> RpcError {
        RpcError { code: self, detail: Text::lossy(detail), retry_after: None }
    }
}

impl Field for Code {
    fn write(&self, to: &mut Writer) {
        self.code().write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        u16::read(from).map(Self::from_code)
    }
}

message! {
    /// The signer's refusal of a call, inside the encrypted answer and so authentic.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RpcError {
        /// What is wrong, and whose fault.
        pub code: Code,
        /// More about it, safe to show the client; may be empty. Never a token.
        pub detail: Text,
        /// Ask again after that many milliseconds.
        pub retry_after: Option<u32>,
    }
}

/// What a client hears of a token that does not hold under a root key.
impl From<&Error> for RpcError {
    fn from(error: &Error) -> Self {
        match error {
            Error::Malformed(what) => Code::TokenMalformed.detail(&what.to_string()),
            Error::NotAuthentic(NotAuthentic::UnknownKey) => Code::UnknownKey.error(),
            Error::NotAuthentic(NotAuthentic::Audience) => Code::WrongAudience.error(),
            Error::NotAuthentic(_) => Code::NotAuthentic.error(),
            Error::Discharge(what) => Code::BadDischarge.detail(&what.to_string()),
            Error::TooMuchWork => Code::TooMuchWork.error(),
            Error::Revoked(rule) => Code::Revoked.detail(rule.as_str()),
            Error::Refused(refusal) => match refusal.cause() {
                RefusalCause::Expired { .. } => Code::Expired.error(),
                RefusalCause::IssuedAhead { .. } => Code::IssuedAhead.error(),
                // A signer knows no request, so these do not come up.
                RefusalCause::TenantWide
                | RefusalCause::Tenant { .. }
                | RefusalCause::Audience { .. }
                | RefusalCause::Caveat(_) => Code::Internal.error(),
            },
            // It keeps all revocations and collects every branch, so neither does this.
            Error::NotKnowable(_) | Error::Bug(_) => Code::Internal.error(),
        }
    }
}

impl RpcError {
    /// The same with a hint when to ask again, in milliseconds.
    #[must_use]
    pub fn retry_after(mut self, millis: u32) -> Self {
        self.retry_after = Some(millis);
        self
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.code.fault()
    }

    /// The rule that killed the token, when the code is [`Code::Revoked`] and the detail is the
    /// word of a rule this version knows.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        if self.code != Code::Revoked {
            return None;
        }
        RULES.into_iter().find(|rule| rule.as_str() == self.detail.as_str())
    }
}

const RULES: [Rule; 7] =
    [Rule::Token, Rule::Branch, Rule::Key, Rule::Subject, Rule::Tenant, Rule::Global, Rule::Parent];

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.text())?;
        if !self.detail.as_str().is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let Code::Other(code) = self.code {
            write!(f, " (code {code:#06x})")?;
        }
        Ok(())
    }
}

impl core::error::Error for RpcError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    /// PR-40, PR-41.
    #[test]
    fn codes_read_back_and_say_whose_fault() {
        for (index, code) in Code::KNOWN.iter().enumerate() {
            assert_eq!(Code::from_code(code.code()), *code);
            assert!(Code::KNOWN[..index].iter().all(|other| other.code() < code.code()));
        }
        assert_eq!(Code::Revoked.fault(), Fault::Token);
        assert_eq!(Code::NotAllowed.fault(), Fault::Caller);
        assert_eq!(Code::Busy.fault(), Fault::Moment);
        assert_eq!(Code::StoreFailed.fault(), Fault::Signer);
        assert_eq!(Code::from_code(0x01ff), Code::Other(0x01ff));
        assert_eq!(Code::from_code(0x01ff).fault(), Fault::Token);
        assert_eq!(Code::from_code(0x7fff).fault(), Fault::Signer);
    }

    /// PR-42.
    #[test]
    fn a_revoked_token_is_told_by_which_rule() {
        for rule in RULES {
            assert_eq!(Code::revoked(rule).rule(), Some(rule));
        }
        assert_eq!(Code::Revoked.error().rule(), None);
        assert_eq!(Code::Expired.detail("token").rule(), None);
    }

    #[test]
    fn an_error_reads_back_and_speaks() {
        let error = Code::Revoked.detail("token\n rule").retry_after(250);
        let bytes = error.encode().unwrap();
        assert_eq!(RpcError::decode(&bytes), Ok(error.clone()));
        assert_eq!(error.to_string(), "the token is revoked: token rule");
        assert_eq!(
            Code::Other(0x0999).error().to_string(),
            "the signer refused with an unknown code (code 0x0999)"
        );
    }
}
