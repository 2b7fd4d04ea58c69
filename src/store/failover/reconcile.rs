//! Reconciliation: entries that the primary missed or lost are written to it.

use super::FailoverStore;
use crate::clock::UnixMillis;
use crate::redis::Fault;
use crate::store::Entries;
use crate::token::TokenId;

/// Entries written to the primary at once.
const BATCH: usize = 1000;

/// A tombstone: token id and end.
type Tombstone = (TokenId, UnixMillis);

impl FailoverStore {
    /// Writes tombstones to a primary that has lost its data.
    ///
    /// # Errors
    /// The fault, and the tombstones that the primary does not have yet.
    pub(super) async fn restore_tombstones(
        &self,
        mut remaining: Vec<Tombstone>,
    ) -> Result<(), (Fault, Vec<Tombstone>)> {
        while !remaining.is_empty() {
            let batch = remaining.split_off(remaining.len().saturating_sub(BATCH));
            let batch = Entries { tombstones: batch, records: Vec::new() };
            match self.primary.restore(&batch).await {
                Ok(refused) => self.count_refused(refused),
                Err(fault) => {
                    remaining.extend(batch.tombstones);
                    return Err((fault, remaining));
                }
            }
        }
        tracing::warn!(
            tombstones = self.revoked.entries(),
            "Redis has lost data (restart, failover or FLUSHALL). This instance has written all revocations that it knows to Redis again. Tokens issued before the loss stay valid by their signature"
        );
        Ok(())
    }

    /// Writes the entries of the standby to the primary. Returns their number.
    pub(super) async fn reconcile(&self) -> Result<u64, Fault> {
        let mut reconciled = 0;
        loop {
            if self.standby.entries() == 0 {
                return Ok(reconciled);
            }
            let batch = self.standby.peek_batch(BATCH);
            if batch.is_empty() {
                return Ok(reconciled);
            }
            let refused = self.primary.restore(&batch).await?;
            self.count_refused(refused);
            self.standby.remove_if_unchanged(&batch);
            let count = batch.len() as u64;
            self.metrics.reconciled(count);
            reconciled += count;
        }
    }

    /// Counts entries that the primary refuses for their content. Repeating them would not help.
    fn count_refused(&self, refused: u64) {
        if refused > 0 {
            self.metrics.revocations.invalid(refused);
            tracing::warn!(
                refused,
                "Redis refuses tombstones because of their content, and does not have these revocations now. This is a defect of the service: report this line"
            );
        }
    }
}
