//! Reconciliation: writes records and tombstones to Redis after an outage or a loss of data. It
//! announces nothing (docs/adr/0031).

use std::collections::BTreeSet;

use redis::{ErrorKind, RedisResult, ServerErrorKind, Value};

use super::RedisStore;
use super::client::Path;
use crate::clock::UnixMillis;
use crate::redis::{Fault, pipeline};
use crate::store::Entries;
use crate::token::{Record, TokenDigest, TokenId};

/// Records or tombstones in one pipeline.
const AT_ONCE: usize = 200;

impl RedisStore {
    /// Writes all entries. Returns the number of tombstones that Redis refuses for their content.
    pub(super) async fn restore_all(&self, entries: &Entries) -> Result<u64, Fault> {
        let mut refused = 0;
        // Tombstones first: a revoked token must not be accepted in between.
        for some in entries.tombstones.chunks(AT_ONCE) {
            refused += self.restore_tombstones(some).await?;
        }
        for some in entries.records.chunks(AT_ONCE) {
            self.restore_records(some).await?;
        }
        // Count at the end, so that a repetition counts no record twice.
        for (digest, record) in &entries.records {
            self.count_recorded(*digest, *record);
        }
        Ok(refused)
    }

    async fn restore_tombstones(&self, some: &[(TokenId, UnixMillis)]) -> Result<u64, Fault> {
        let commands = some.iter().map(|(id, until)| self.tombstone_commands(*id, *until));
        let commands = &pipeline(commands.flatten());
        let answers = self.client.call(Path::HealthCheck, |mut connection| async move {
            let answers = connection.ask_each(commands).await?;
            refused(answers, commands.len() / some.len())
        });
        answers.await
    }

    async fn restore_records(&self, some: &[(TokenDigest, Record)]) -> Result<(), Fault> {
        let commands = some.iter().map(|(digest, record)| self.record_command(*digest, *record));
        let commands = &pipeline(commands);
        let answers = self
            .client
            .call(Path::HealthCheck, |mut connection| async move { connection.ask_all(commands).await });
        answers.await.map(drop)
    }
}

/// Number of entries that were refused for their content, from the answers to `commands_each`
/// commands for each entry.
///
/// # Errors
/// The first error of another kind.
fn refused(answers: Vec<Value>, commands_each: usize) -> RedisResult<u64> {
    let mut refused = BTreeSet::new();
    for (at, answer) in answers.into_iter().enumerate() {
        match answer.extract_error() {
            // `ERR` refuses the content; faults of Redis have other codes.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
                refused.insert(at / commands_each.max(1));
            }
            answer => drop(answer?),
        }
    }
    Ok(refused.len() as u64)
}
