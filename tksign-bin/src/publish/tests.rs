use tkcore::LineageId;
use tkcore::revocation::{ExpiryDay, Revocation};

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::secret::Secret;
use crate::service::Options;
use crate::signer::Signer;
use crate::store::{Change, Sqlite};

/// Rows are durable before a step covers them: one that no step could take would end publishing for
/// good, after every start anew.
#[test]
fn a_step_closes_whatever_days_its_rows_have() {
    const ROWS: u32 = 70_000;
    let dir = testkit::TempDir::new();
    let secret = Secret::new((0..32u8).map(|at| at.wrapping_mul(7)).collect()).unwrap();
    Signer::init(dir.path(), &secret, &[], &SystemClock, |_| Ok(())).unwrap();
    let mut store = Sqlite::open(dir.path()).unwrap();
    let core = Memory::load(&store, &secret).unwrap().core;
    let row = |n: u32| {
        let mut id = [0; 10];
        id[..4].copy_from_slice(&n.to_le_bytes());
        let revocation = Revocation::Token { lineage: LineageId::new(id, SystemClock.now()) };
        RevocationRow { revocation, day: ExpiryDay::from_number(30_000 + 10 * n), covered: None }
    };
    let ops =
        (0..ROWS).map(row).map(|row| Op::Create(Table::Revocations, row.key(), revoked::value(&core, &row)));
    store.begin().unwrap();
    store.apply(&Change { ops: ops.collect(), ..Change::default() }).unwrap();
    store.commit().unwrap();
    drop(store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The second start compares what was stored with what was signed.
    for _ in 0..2 {
        let signer = Signer::open(dir.path(), &secret, Options::default(), Arc::new(SystemClock)).unwrap();
        let mut head = signer.feed.head();
        runtime.block_on(async {
            let covered = head.wait_for(|at| at.sequence >= 1);
            tokio::time::timeout(Duration::from_secs(300), covered).await.unwrap().unwrap();
        });
        let published = signer.service.writer.read(|memory| memory.revoked.set().unwrap().len());
        assert_eq!(published, u64::from(ROWS));
        runtime.block_on(signer.service.stop());
    }
}
