use std::path::Path;

use tkcore::protocol::{AuditChain, AuditHead, BadAuditLine};

use crate::audit;
use crate::memory::{Memory, SignerError};
use crate::seal::Authority;
use crate::signer::Signer;
use crate::store::{Order, Scan, Sqlite, Store, StoreError, Table};

/// Checks the whole chain and returns its end.
///
/// # Errors
/// [`StoreError::Damaged`] names the first line that is missing, changed or out of place.
pub(crate) fn verify_chain(store: &dyn Store, authority: Authority) -> Result<AuditHead, StoreError> {
    let damaged = |BadAuditLine(line)| audit::damaged(line);
    let mut after = audit::start(store, authority)?;
    let mut chain = AuditChain::begin(after);
    loop {
        let key = after.lines.to_be_bytes();
        let scan =
            Scan { table: Table::Audit, prefix: &[], after: Some(&key), order: Order::Forward, limit: 512 };
        let rows = store.scan(scan)?;
        if rows.is_empty() {
            return chain.finish().map_err(damaged);
        }
        for (key, value) in &rows {
            let (lines, hash, line) = audit::parse(key, value).unwrap_or_default();
            after = AuditHead { lines, hash };
            chain.add(line, after).map_err(damaged)?;
        }
    }
}

impl Signer {
    /// Reads the whole audit chain of the store in `folder` and returns its end. Needs no
    /// secret: names stand in it as keyed hashes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first bad line.
    pub fn verify_audit(folder: &Path) -> Result<AuditHead, SignerError> {
        let store = Sqlite::open(folder)?;
        let authority = Memory::authority(&store)?;
        Ok(verify_chain(&store, authority)?)
    }
}
