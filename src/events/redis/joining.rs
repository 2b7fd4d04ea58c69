//! Entering the log: learning which life of it this is, and bringing it what this instance has of it and it may lack.

use std::time::Duration;

use redis::{Cmd, RedisError, from_redis_value};

use super::keys;
use crate::ambient::Jitter;
use crate::events::bus::KEYS_KEPT;
use crate::events::entry::Entry;
use crate::events::id::{Epoch, EventId, Position};
use crate::events::publication::Fingerprint;
use crate::redis::{Connection, Fault};

/// Enters an instance into the log.
const JOIN: &str = include_str!("join.lua");
/// Events brought in one go: so many, and so many bytes.
const BATCH: usize = 250;
const BATCH_BYTES: usize = 1024 * 1024;

/// What the log is told by whoever enters it.
pub(super) struct Joining<'a> {
    /// Of the data.
    pub(super) name: &'a str,
    /// For numbers that nobody used before, should it be this instance that founds the log anew.
    pub(super) jitter: &'a Jitter,
    /// In which everyone may bring what is missing.
    pub(super) window: Duration,
    pub(super) log_entries: usize,
}

/// What the log answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// Changes whenever the log may have lost something.
    pub(super) founding: String,
    /// `None` while nobody knows it.
    pub(super) epoch: Option<Epoch>,
    /// Until then nobody publishes or reads.
    pub(super) opens_in: Duration,
}

impl Joining<'_> {
    /// Asks how the log is.
    pub(super) async fn ask(
        &self,
        connection: &mut Connection,
        known: Option<Epoch>,
    ) -> Result<Joined, Fault> {
        self.call(connection, known, (Position::START, Position::START), &[]).await
    }

    /// Brings the log what this instance has of it: everything between `horizon` and `read_to`, which is how far it has
    /// read, and perhaps more.
    pub(super) async fn bring(
        &self,
        connection: &mut Connection,
        mut horizon: Position,
        read_to: EventId,
        entries: &[Entry],
    ) -> Result<Joined, Fault> {
        let mut rest = entries;
        loop {
            let mut bytes = 0;
            let fits = rest.iter().take(BATCH).take_while(|entry| {
                bytes += entry.data.len();
                bytes <= BATCH_BYTES
            });
            let count = fits.count().max(1).min(rest.len());
            let (some, others) = rest.split_at(count);
            rest = others;
            // With the last ones: what is behind the head counts as read.
            let head = if rest.is_empty() { read_to.position } else { Position::START };
            let joined = self.call(connection, Some(read_to.epoch), (horizon, head), some).await?;
            horizon = Position::START;
            if rest.is_empty() || joined.epoch != Some(read_to.epoch) {
                return Ok(joined);
            }
        }
    }

    async fn call(
        &self,
        connection: &mut Connection,
        known: Option<Epoch>,
        has: (Position, Position),
        entries: &[Entry],
    ) -> Result<Joined, Fault> {
        let command = self.command(known, has, entries);
        let answer = super::in_time(connection.ask(&command)).await?;
        let (founding, epoch, millis): (String, String, u64) =
            from_redis_value(answer).map_err(RedisError::from)?;
        Ok(Joined { founding, epoch: epoch.parse().ok(), opens_in: Duration::from_millis(millis) })
    }

    fn command(&self, known: Option<Epoch>, (horizon, head): (Position, Position), entries: &[Entry]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(JOIN).arg(2).arg(keys::LOG).arg(keys::NOTE);
        command
            .arg(self.name)
            .arg(format!("{:016x}", self.jitter.number()))
            .arg(self.window.as_millis().to_string());
        command.arg(known.map_or_else(String::new, |epoch| epoch.to_string())).arg(head.to_string());
        command.arg(KEYS_KEPT.as_secs()).arg(self.log_entries).arg(keys::PUBLISHED).arg(horizon.to_string());
        for entry in entries {
            command.arg(entry.position.to_string()).arg(entry.event_type.as_str()).arg(&entry.data);
            match entry.key {
                None => command.arg("").arg(""),
                Some(key) => {
                    command.arg(key.to_hex()).arg(Fingerprint::of(&entry.event_type, &entry.data).to_hex())
                }
            };
        }
        command
    }
}
