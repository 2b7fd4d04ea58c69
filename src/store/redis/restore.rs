//! Bringing to Redis what it lacks: after an outage, and after a loss of its data. Nothing is
//! announced here (docs/adr/0031).

use std::collections::BTreeSet;

use redis::{ErrorKind, RedisResult, ServerErrorKind, Value};

use super::RedisStore;
use super::client::Path;
use crate::clock::UnixMillis;
use crate::redis::{Fault, pipeline};
use crate::store::Entries;
use crate::token::{Record, TokenDigest, TokenId};

/// Tokens or tombstones that are brought to Redis in one go.
const AT_ONCE: usize = 200;

impl RedisStore {
    /// Brings all of it; says how many tombstones Redis refuses for what they say.
    pub(super) async fn restore_all(&self, entries: &Entries) -> Result<u64, Fault> {
        let mut refused = 0;
        // Tombstones first: what was taken back must not come to life in between.
        for some in entries.tombstones.chunks(AT_ONCE) {
            refused += self.restore_tombstones(some).await?;
        }
        for some in entries.records.chunks(AT_ONCE) {
            self.restore_records(some).await?;
        }
        // Only now, so that none is counted twice where some are brought again.
        for (digest, record) in &entries.records {
            self.count_recorded(*digest, *record);
        }
        Ok(refused)
    }

    async fn restore_tombstones(&self, some: &[(TokenId, UnixMillis)]) -> Result<u64, Fault> {
        let commands = some.iter().map(|(id, until)| self.tombstone_commands(*id, *until));
        let commands = &pipeline(commands.flatten());
        let answers = self.client.call(Path::Pulse, |mut connection| async move {
            let answers = connection.ask_each(commands).await?;
            refused(answers, commands.len() / some.len())
        });
        answers.await
    }

    async fn restore_records(&self, some: &[(TokenDigest, Record)]) -> Result<(), Fault> {
        let commands = some.iter().map(|(digest, record)| self.record_command(*digest, *record));
        let commands = &pipeline(commands);
        let answers =
            self.client.call(Path::Pulse, |mut connection| async move { connection.ask_all(commands).await });
        answers.await.map(drop)
    }
}

/// How many of several entries were refused for what they say, from the answers to so many commands
/// for each. One of those stops no other. The first error of another kind is the answer, where
/// there is one.
fn refused(answers: Vec<Value>, commands_each: usize) -> RedisResult<u64> {
    let mut refused = BTreeSet::new();
    for (at, answer) in answers.into_iter().enumerate() {
        match answer.extract_error() {
            // `ERR`: whatever is wrong with Redis itself has a code that says what.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
                refused.insert(at / commands_each.max(1));
            }
            answer => drop(answer?),
        }
    }
    Ok(refused.len() as u64)
}
