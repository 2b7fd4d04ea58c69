//! Leases and tickets in Redis. Leases and alive entries share a slot in a cluster, so a lease is
//! taken in one call. A ticket has the slot of its token.

use async_trait::async_trait;
use redis::{Cmd, Value, from_redis_value};

use super::RedisStore;
use super::leases::{alive_command, lease_answer, leases_command, release_command, renewed};
use super::tickets::{alive_entry, holder_command, take_command, ticket_answer, ticket_release_command};
use crate::redis::pipeline;
use crate::store::{
    AdmissionStore, AliveEntry, LeaseAnswer, Renewal, Renewed, StoreError, SubjectKey, TicketAnswer,
    TicketChange, TicketHolder, WantedLeases, WantedTicket,
};

impl RedisStore {
    /// Sends commands at once.
    async fn send(&self, commands: impl Iterator<Item = Cmd>) -> Result<Vec<Value>, StoreError> {
        let commands = &pipeline(commands);
        self.client.ask(|mut connection| async move { connection.ask_all(commands).await }).await
    }
}

#[async_trait]
impl AdmissionStore for RedisStore {
    fn is_available(&self) -> bool {
        self.client.is_in_use() && !self.rights.are_missing()
    }

    fn generation(&self) -> u64 {
        self.client.generation()
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, StoreError> {
        let command = &alive_command(&self.keys, &self.own_field, renewal);
        let answer =
            self.client.ask_if_permitted(|mut connection| async move { connection.ask(command).await });
        let Some(answer) = answer.await? else {
            self.rights.note_missing();
            return Err(StoreError::Unavailable);
        };
        renewed(answer)
    }

    async fn take_leases(&self, wanted: &WantedLeases) -> Result<LeaseAnswer, StoreError> {
        let command = leases_command(&self.keys, &self.own_field, wanted);
        lease_answer(self.client.ask_with_others(command).await?)
    }

    async fn take_all_leases(&self, wanted: &[WantedLeases]) -> Result<Vec<LeaseAnswer>, StoreError> {
        let commands = wanted.iter().map(|wanted| leases_command(&self.keys, &self.own_field, wanted));
        self.send(commands).await?.into_iter().map(lease_answer).collect()
    }

    async fn release_leases(&self, leases: &[(SubjectKey, String)]) -> Result<(), StoreError> {
        self.send(leases.iter().map(|(subject, id)| release_command(&self.keys, *subject, id))).await?;
        Ok(())
    }

    async fn take_ticket(&self, wanted: &WantedTicket) -> Result<TicketAnswer, StoreError> {
        ticket_answer(self.client.ask_with_others(take_command(&self.keys, wanted)).await?)
    }

    async fn settle_tickets(
        &self,
        changes: &[TicketChange],
    ) -> Result<Vec<Option<TicketAnswer>>, StoreError> {
        let commands = changes.iter().map(|change| match change {
            TicketChange::Take(wanted) => take_command(&self.keys, wanted),
            TicketChange::Release(released) => ticket_release_command(&self.keys, released),
        });
        let answers = self.send(commands).await?.into_iter().zip(changes);
        let answers = answers.map(|(answer, change)| match change {
            TicketChange::Take(_) => ticket_answer(answer).map(Some),
            TicketChange::Release(_) => Ok(None),
        });
        answers.collect()
    }

    async fn alive_entry(&self, holder: &TicketHolder) -> Result<AliveEntry, StoreError> {
        let command = holder_command(&self.keys, holder);
        let (now, entry): (u64, Option<String>) =
            from_redis_value(self.client.ask_with_others(command).await?)
                .map_err(|_| StoreError::Unavailable)?;
        Ok(alive_entry(now, entry.as_deref()))
    }

    fn holder(&self, stream: &str) -> TicketHolder {
        TicketHolder::stream(stream, &self.own_field)
    }
}
