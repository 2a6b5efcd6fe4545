use super::field::{BadMessage, Field, Fields, Writer};

/// Whether an operation changes what the signer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Asking twice is the same as asking once.
    Reads,
    /// The request id is an idempotency key: the signer keeps it, with a digest of the
    /// parameters and the answer, for at least [`Operation::KEPT_SECONDS`].
    Changes,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $effect:ident;)*) => {
        /// What can be asked of the signer. The codes are stable; an unknown one is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            /// All of them, by code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The two bytes on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The operation of a code; `None` when this version knows none.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Its name in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether it changes what the signer keeps.
            #[must_use]
            pub const fn effect(self) -> Effect {
                match self { $(Self::$name => Effect::$effect,)* }
            }
        }
    };
}

operations! {
    /// Role `verify`: does the chain hold, and the facts of its lineage.
    Verify = 0x0001, "verify", Reads;
    /// Role `mint`: a new token.
    Mint = 0x0002, "mint", Changes;
    /// Role `revoke`: by any rule.
    Revoke = 0x0003, "revoke", Changes;
    /// Role `revoke-presented`: the presented token from its last caveat on.
    RevokePresented = 0x0004, "revoke-presented", Changes;
    /// Role `exchange`: a service token for a token and its authentication discharge.
    Exchange = 0x0005, "exchange", Changes;
    /// Role `keys`: the delegated keys of one audience.
    FetchKeys = 0x0006, "fetch-keys", Reads;
    /// Role `revoke`: what a revocation would hit.
    RevokePreview = 0x0007, "revoke-preview", Reads;
    /// Role `operator`, as all that follow: how the signer is.
    Status = 0x0100, "status", Reads;
    /// A new key record.
    KeyCreate = 0x0110, "key-create", Changes;
    /// Key records and what depends on them.
    KeyList = 0x0111, "key-list", Reads;
    /// A new generation of a key record; the old one goes on verifying.
    KeyRotate = 0x0112, "key-rotate", Changes;
    /// A key record is revoked and its secret destroyed.
    KeyRetire = 0x0113, "key-retire", Changes;
    /// A new static key; the one before is accepted on.
    StaticRotate = 0x0114, "static-rotate", Changes;
    /// The static key before is accepted no more, and destroyed.
    StaticRetire = 0x0115, "static-retire", Changes;
    /// Prepares a new publication key and the key list that is to be signed offline.
    PublicationPrepare = 0x0117, "publication-prepare", Changes;
    /// Takes the key list that the root keys signed.
    PublicationRotate = 0x0118, "publication-rotate", Changes;
    /// Allows a client key one role.
    ClientAdd = 0x0120, "client-add", Changes;
    /// The client keys and their roles.
    ClientList = 0x0121, "client-list", Reads;
    /// Removes a client key; its sessions end with their next request.
    ClientRemove = 0x0122, "client-remove", Changes;
    /// Ends a client's suspension after a restore.
    ClientConfirm = 0x0123, "client-confirm", Changes;
    /// The registry of minted tokens.
    TokenList = 0x0130, "token-list", Reads;
    /// One lineage of it.
    TokenShow = 0x0131, "token-show", Reads;
    /// Lines of the audit chain.
    AuditTail = 0x0140, "audit-tail", Reads;
    /// Removes the oldest lines of it.
    AuditPrune = 0x0141, "audit-prune", Changes;
    /// Seals every record under a new secret.
    Rewrap = 0x0150, "rewrap", Changes;
}

impl Operation {
    /// How long the signer keeps the answer of a request that changed something, in seconds: a
    /// day, far longer than any client goes on retrying.
    pub const KEPT_SECONDS: u64 = 86_400;
}

impl core::fmt::Display for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl Field for Operation {
    fn write(&self, to: &mut Writer) {
        self.code().write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Self::from_code(u16::read(from)?).ok_or(BadMessage("unknown operation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PR-31: codes are stable and unique, unknown ones refused.
    #[test]
    fn codes_read_back() {
        for (index, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(Operation::from_code(operation.code()), Some(*operation));
            assert!(Operation::ALL[..index].iter().all(|other| other.code() < operation.code()));
        }
        for unknown in [0, 8, 0x00ff, 0x0101, 0xffff] {
            assert_eq!(Operation::from_code(unknown), None);
        }
    }
}
