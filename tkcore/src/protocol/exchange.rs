use alloc::vec::Vec;
use core::time::Duration;

use super::call::Call;
use super::error::{Code, RpcError};
use super::field::{Bytes, message};
use super::mint::Expiry;
use super::operation::Operation;
use super::secret::SecretBytes;
use crate::ids::{KeyId, LineageId};
use crate::name::Name;
use crate::time::Timestamp;

message! {
    /// A service token for a token and the discharge of its authentication caveat: the same
    /// power without that caveat, locked to a workload.
    #[derive(Debug)]
    pub struct Exchange {
        /// The root token, V2 bytes.
        pub root: SecretBytes,
        /// Its discharges, V2 bytes, at most 16.
        pub discharges: Vec<SecretBytes>,
        /// Caveats that lock the service token to a workload; at least one.
        pub workload: Vec<Bytes>,
        /// When it should end; the parent's bounds and the signer's cap hold in any case.
        pub expiry: Expiry,
        /// For people, in the registry.
        pub label: Option<Name>,
    }
}

impl Exchange {
    /// When the service token ends: by the smallest of what is asked for, the parent's own expiry, and
    /// the signer's cap in seconds.
    ///
    /// # Errors
    /// [`Code::BadTime`], and [`Code::NotExchangeable`] when that is not in the future.
    pub fn ends(&self, parent: Option<Timestamp>, cap: u32, now: Timestamp) -> Result<Timestamp, RpcError> {
        let asked = self.expiry.resolve(now)?;
        let cap = now.saturating_add(Duration::from_secs(u64::from(cap))).seconds();
        match [asked, parent, Timestamp::from_seconds(cap)].into_iter().flatten().min() {
            Some(expiry) if expiry > now => Ok(expiry),
            Some(_) | None => Err(Code::NotExchangeable.detail("it is about to expire")),
        }
    }
}

impl Call for Exchange {
    const OPERATION: Operation = Operation::Exchange;
    type Answer = ExchangeAnswer;
}

message! {
    /// The service token that was made. Repeating the request id gives the same bytes.
    #[derive(Debug)]
    pub struct ExchangeAnswer {
        /// The token, V2 bytes.
        pub token: SecretBytes,
        /// Its lineage.
        pub lineage: LineageId,
        /// The lineage it was made from; revoking that kills it.
        pub parent: LineageId,
        /// The key it is under, the parent's.
        pub key: KeyId,
        /// When it ends.
        pub expiry: Timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bound_wins() {
        let at = |seconds| Timestamp::from_seconds(seconds).unwrap();
        let now = at(100);
        let get = |expiry, parent, cap| {
            let asked = Exchange {
                root: SecretBytes::from(&[][..]),
                discharges: Vec::new(),
                workload: Vec::new(),
                expiry,
                label: None,
            };
            asked.ends(parent, cap, now).map_err(|error| error.code)
        };
        assert_eq!(get(Expiry::Never, None, 50), Ok(at(150)));
        assert_eq!(get(Expiry::Never, Some(at(120)), 50), Ok(at(120)));
        assert_eq!(get(Expiry::After(10), Some(at(120)), 50), Ok(at(110)));
        assert_eq!(get(Expiry::At(at(900)), Some(at(800)), 50), Ok(at(150)));
        assert_eq!(get(Expiry::Never, None, 0), Err(Code::NotExchangeable));
        assert_eq!(get(Expiry::At(at(100)), None, 50), Err(Code::BadTime));
    }
}
