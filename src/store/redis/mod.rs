//! The store in Redis: one server, a master under Sentinel, or a Redis Cluster.
//!
//! Record and tombstone of a token are a key each; a lookup reads both at once. All calls go
//! through `client`, which uses the connections of `worker_connection` and sends commands in
//! batches (`batch`). `completeness` proves that no record is missing; `members` and `neighbours`
//! exchange member records; `preflight` tests the rights before Redis is used. `admission` keeps
//! `leases` and `tickets`, if its `rights` are there. Keys, cost and rights are in docs/redis.md.

mod admission;
mod batch;
mod client;
mod completeness;
mod keys;
mod leases;
mod member_record;
mod members;
mod neighbours;
mod preflight;
mod restore;
mod rights;
mod tickets;
mod worker_connection;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value, from_redis_value};
use tokio::time::Instant;

use self::client::{Client, Path};
use self::completeness::{Completeness, Confirmed};
use self::keys::Keys;
use self::member_record::{About, MemberRecord};
use self::members::{LastSeen, View};
use self::neighbours::Neighbours;
use self::rights::Rights;
use self::worker_connection::Latest;
use super::memory::Entries;
use super::shared_breaker::SharedBreaker;
use super::{
    Backend, Figures, HealthReport, Lookup, OtherInstances, Primary, Recorded, RevocationScope, StoreError,
    StoreStatistics, TokenStore,
};
use crate::clock::{Clock, Jitter, UnixMillis};
use crate::redis::announce::Announcements;
use crate::redis::{
    Claim, Connection, Connector, Fault, MastersState, Monitor, RedisFigures, RedisSettings, SCHEMA,
    pipeline, revocations,
};
use crate::token::{Draft, Record, TokenDigest, TokenId};

/// Capacity for the arguments of a command that records a token, in bytes.
const RECORD_COMMAND_BYTES: usize = 80;

/// Dependencies of a Redis store.
pub struct RedisStoreDeps {
    /// Name of this instance.
    pub instance_id: String,
    /// Number of this start of the instance.
    pub start: u64,
    /// Lifetime of the tokens that this instance issues.
    pub token_ttl: Duration,
    /// Decides whether this Redis belongs to this deployment.
    pub claim: Arc<Claim>,
    /// Receives the results of health checks.
    pub monitor: Arc<Monitor>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomises the ages of connections.
    pub jitter: Arc<Jitter>,
    /// The circuit breaker.
    pub breaker: Arc<SharedBreaker>,
}

/// Records and tombstones in Redis.
pub struct RedisStore {
    keys: Arc<Keys>,
    client: Arc<Client>,
    claim: Arc<Claim>,
    monitor: Arc<Monitor>,
    clock: Arc<dyn Clock>,
    /// Field of this instance's member record.
    own_field: String,
    /// Lifetime, in seconds, of the token that was recorded last.
    life: AtomicU64,
    data: Completeness,
    /// Lead of this instance's clock over that of Redis.
    lead_millis: AtomicI64,
    view: Mutex<View>,
    last_seen: Mutex<LastSeen>,
    neighbours: Mutex<Neighbours>,
    figures: Mutex<Option<RedisFigures>>,
    last_written: Mutex<Option<Instant>>,
    /// Rights for leases and tickets.
    rights: Rights,
    /// Whether the instance has ended. Locked while a member record is written, so that none
    /// follows the last one.
    has_ended: tokio::sync::Mutex<bool>,
}

impl RedisStore {
    /// Creates the store without dialling.
    ///
    /// # Errors
    /// The settings contradict one another.
    pub fn new(settings: RedisSettings, parts: RedisStoreDeps) -> Result<Self, Fault> {
        let RedisStoreDeps { instance_id, start, token_ttl, claim, monitor, clock, jitter, breaker } = parts;
        let keys = Arc::new(Keys::new(&settings.namespace));
        let data = Completeness::new(&settings.topology, Arc::clone(&keys));
        let client = Arc::new(Client::new(Connector::new(settings)?, jitter, breaker));
        let about = About {
            keys: claim.fingerprints().to_vec(),
            token_ttl: token_ttl.as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA,
        };
        Ok(Self {
            keys,
            client,
            claim,
            monitor,
            clock,
            own_field: member_record::field(&instance_id, start),
            life: AtomicU64::new(0),
            data,
            lead_millis: AtomicI64::new(0),
            view: Mutex::new(View::empty()),
            last_seen: Mutex::default(),
            neighbours: Mutex::new(Neighbours::new(about)),
            figures: Mutex::new(None),
            last_written: Mutex::default(),
            rights: Rights::default(),
            has_ended: tokio::sync::Mutex::default(),
        })
    }

    fn seconds_until(&self, end: UnixMillis) -> u64 {
        end.0.saturating_sub(self.clock.now().0).div_ceil(1000).max(1)
    }

    fn record_command(&self, digest: TokenDigest, record: Record) -> Cmd {
        let mut command = Cmd::with_capacity(4, RECORD_COMMAND_BYTES);
        command
            .arg("SETEX")
            .arg(self.keys.record(digest))
            .arg(self.seconds_until(record.expires_at))
            .arg(keys::encode(record));
        command
    }

    /// Commands that write a tombstone and never shorten one. The answer to the first tells whether
    /// it is new.
    fn tombstone_commands(&self, id: TokenId, until: UnixMillis) -> [Cmd; 2] {
        let key = self.keys.tombstone(id);
        let seconds = self.seconds_until(until);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(1).arg("EX").arg(seconds).arg("NX");
        let mut extend = redis::cmd("EXPIRE");
        extend.arg(&key).arg(seconds).arg("GT");
        [set, extend]
    }

    /// Commands that write a tombstone and announce the revocation.
    fn revocation_commands(&self, id: TokenId, until: UnixMillis) -> Pipeline {
        let announce = revocations::announcement(&self.keys.revocations, id, until, self.redis_now());
        pipeline(self.tombstone_commands(id, until).into_iter().chain([announce]))
    }

    fn count_recorded(&self, digest: TokenDigest, record: Record) {
        let worker = self.client.worker_connection();
        worker.recorded.add(record.expires_at.seconds_rounded_up());
        *worker.latest.lock() = Some(Latest { id: digest.id(), expires_at: record.expires_at });
        let life = record.expires_at.seconds().saturating_sub(record.issued_at.seconds());
        // All workers share this cache line, so it is written only when it changes.
        if self.life.load(Ordering::Relaxed) != life {
            self.life.store(life, Ordering::Relaxed);
        }
    }

    /// Counts a revoked token. A tombstone may outlive its token, so the count ends with the
    /// lifetime of a token.
    fn count_revoked(&self, id: TokenId, until: UnixMillis) {
        for worker in self.client.worker_connections() {
            worker.latest.lock().take_if(|latest| latest.id == id);
        }
        let longest = self.clock.now().seconds() + self.life.load(Ordering::Relaxed);
        self.client.worker_connection().revoked.add(until.seconds_rounded_up().min(longest));
    }

    /// Live tokens that this instance recorded, by second of expiry, beginning with the next
    /// second.
    fn lives(&self, now: UnixMillis) -> Vec<i64> {
        let mut lives: Vec<i64> = Vec::new();
        for worker in self.client.worker_connections() {
            for (counts, sign) in [(&worker.recorded, 1), (&worker.revoked, -1)] {
                counts.take_until(now.seconds());
                for (second, count) in counts.after(now.seconds()).enumerate().filter(|(_, count)| *count > 0)
                {
                    if lives.len() <= second {
                        lives.resize(second + 1, 0);
                    }
                    lives[second] += sign * i64::try_from(count).unwrap_or(i64::MAX);
                }
            }
        }
        lives
    }

    fn own_sample(&self, now: UnixMillis) -> Vec<TokenId> {
        let latest = self.client.worker_connections().filter_map(|worker| *worker.latest.lock());
        latest.filter(|latest| latest.expires_at > now).map(|latest| latest.id).collect()
    }
}

#[async_trait]
impl TokenStore for RedisStore {
    async fn record(&self, draft: &Draft<'_>) -> Result<Recorded, StoreError> {
        let token = draft.mint();
        let digest = token.digest();
        self.client.ask_with_others(self.record_command(digest, draft.record)).await?;
        self.count_recorded(digest, draft.record);
        Ok(Recorded { token, backend: Backend::Redis })
    }

    async fn lookup(&self, digest: TokenDigest, issued_after: UnixMillis) -> Result<Lookup, StoreError> {
        let asked_at = Instant::now();
        let mut command = redis::cmd("MGET");
        command.arg(self.keys.record(digest)).arg(self.keys.tombstone(digest.id()));
        let found = self.client.ask_with_others(command).await?;
        let (record, tombstone): (Option<i64>, Option<i64>) =
            from_redis_value(found).map_err(|_| StoreError::Unavailable)?;
        if tombstone.is_some() {
            return Ok(Lookup::Revoked);
        }
        let mut complete = false;
        if record.is_none() && self.data.is_known_since(issued_after) {
            // Absence counts only if a master proves now that the data is complete.
            let proof = self.client.ask_since(asked_at, |connection| {
                self.data.confirm(connection, self.clock.now(), &[], |_| {})
            });
            let proof = proof.await?.map_err(|_not_a_master| StoreError::Unavailable)?;
            // With another data id this is a server that the health check has left or not found
            // yet.
            complete = self.data.is_of(&proof)
                && proof.proves(issued_after)
                && self.client.is_still_the_master(asked_at).await;
        }
        let record = record.map(keys::decode).filter(|record| record.expires_at > self.clock.now());
        Ok(record.map_or(Lookup::Absent { complete }, Lookup::Active))
    }

    async fn revoke(&self, id: TokenId, until: UnixMillis) -> Result<RevocationScope, StoreError> {
        let commands = &self.revocation_commands(id, until);
        let answers =
            self.client.ask(|mut connection| async move { connection.ask_all(commands).await }).await?;
        if answers.first() == Some(&Value::Okay) {
            self.count_revoked(id, until);
        }
        Ok(RevocationScope::Cluster)
    }

    async fn statistics(&self) -> Result<StoreStatistics, StoreError> {
        let now = self.clock.now();
        let own: i64 = self.lives(now).iter().sum();
        let view = self.view.lock();
        Ok(StoreStatistics {
            live: u64::try_from(own + view.live(now)).unwrap_or(0),
            sample: view.sample(self.own_sample(now)),
            members: view.members(),
            mismatches: view.mismatches(),
            redis: *self.figures.lock(),
            standby: None,
        })
    }

    fn backend(&self) -> Backend {
        Backend::Redis
    }
}

#[async_trait]
impl Primary for RedisStore {
    async fn check_health(&self, figures: Figures) -> Result<HealthReport, Fault> {
        self.check_health_once(figures).await.inspect_err(|fault| {
            // Data of another deployment is no fault of Redis: keep the connections.
            if !matches!(fault, Fault::OtherDeployment | Fault::NewerSchema(_)) {
                self.client.forget_connections();
            }
        })
    }

    async fn restore(&self, entries: &Entries) -> Result<u64, Fault> {
        self.restore_all(entries).await.inspect_err(|_| self.client.forget_connections())
    }
}

impl RedisStore {
    /// The other instances.
    pub(crate) fn others(&self) -> OtherInstances {
        let members = self.view.lock().members();
        OtherInstances {
            live: members.into_iter().map(|member| member.instance_id).collect(),
            seen: self.last_seen.lock().names(),
        }
    }

    /// Commands that read the member records of all instances; pass the answers to
    /// [`Self::others_in`].
    pub(crate) fn read_members(&self) -> Pipeline {
        let mut read = redis::cmd("HGETALL");
        read.arg(&self.keys.instances);
        pipeline([read, redis::cmd("TIME")])
    }

    /// The other instances; `None` if the answers are not those to [`Self::read_members`].
    pub(crate) fn others_in(&self, answers: Vec<Value>) -> Option<OtherInstances> {
        let [records, time] = <[Value; 2]>::try_from(answers).ok()?;
        let records = members::records_of_others(from_redis_value(records).ok()?, &self.own_field);
        let redis_now = members::time(time).ok()?;
        self.last_seen.lock().learn(&records, redis_now);
        let OtherInstances { live, seen } = self.others();
        // After a loss of data, records of running instances are not there yet.
        let known = live.into_iter().filter(|instance| seen.contains(instance));
        Some(OtherInstances {
            live: members::running(&records, redis_now).into_iter().chain(known).collect(),
            seen,
        })
    }

    /// Writes the last member record, when the instance ends: the others no longer miss it, and
    /// count its tokens until they expire.
    ///
    /// # Errors
    /// Redis gives no answer.
    pub(crate) async fn leave(&self) -> Result<(), Fault> {
        let mut has_ended = self.has_ended.lock().await;
        *has_ended = true;
        let time = &redis::cmd("TIME");
        let ask = |mut connection: Connection| async move { connection.ask(time).await };
        let redis_now = members::time(self.client.call(Path::HealthCheck, ask).await?)?;
        let write = &self.write_member_record(Figures { active: 0, streams: 0 }, redis_now, true)?;
        let ask = |mut connection: Connection| async move { connection.ask(write).await };
        self.client.call(Path::HealthCheck, ask).await?;
        Ok(())
    }

    /// The present moment by the clock of Redis, as the last health check has found it.
    pub(crate) fn redis_now(&self) -> UnixMillis {
        let lead = self.lead_millis.load(Ordering::Relaxed);
        UnixMillis(self.clock.now().0.saturating_add_signed(lead.saturating_neg()))
    }

    /// Whether requests use Redis at present.
    pub(crate) fn is_in_use(&self) -> bool {
        self.client.is_in_use()
    }

    /// Command that appends an entry to a stream of announcements.
    fn announcement(&self, announcements: &Announcements, stream: &str, entry: &[String]) -> Cmd {
        announcements.announcement(stream, entry, self.redis_now())
    }

    /// Appends an entry to a stream of announcements, for a request.
    ///
    /// # Errors
    /// The store is unavailable; the entry may have been appended.
    pub(crate) async fn announce(
        &self,
        announcements: &Announcements,
        stream: &str,
        entry: &[String],
    ) -> Result<(), StoreError> {
        let command = &self.announcement(announcements, stream, entry);
        // Alone: a stream that Redis refuses to change is no fault of the other requests.
        self.client.ask(|mut connection| async move { connection.ask(command).await }).await?;
        Ok(())
    }

    async fn check_health_once(&self, figures: Figures) -> Result<HealthReport, Fault> {
        let is_due = self.is_time_for_member_record();
        // Check the owner before anything is written, at least once a second.
        if is_due || !self.claim.is_held() || !self.client.is_in_use() {
            self.renew_claim().await?;
        }
        let before = self.clock.now();
        let mut commands = vec![redis::cmd("TIME")];
        if !self.client.is_in_use() {
            commands.extend(preflight::commands(&self.keys, &self.own_field));
        }
        let commands = &commands;
        let confirming = async {
            // A full Redis refuses writes, and the event log has to make room: it needs the report.
            let refused = |masters: &MastersState| self.monitor.report(masters.clone(), None);
            let confirm = |connection| self.data.confirm(connection, self.clock.now(), commands, refused);
            self.client.call(Path::HealthCheck, confirm).await?
        };
        // A failure ends the check at once, without the sentinels.
        let (mut confirmed, master) =
            tokio::try_join!(confirming, async { Ok(self.client.named_master().await) })?;
        self.monitor.report(confirmed.masters.clone(), master);
        let after = self.clock.now();
        if !self.client.is_in_use() || (is_due && self.rights.are_missing()) {
            self.try_rights().await?;
        }
        let answers = std::mem::take(&mut confirmed.answers).into_iter();
        let redis_now = members::time(answers.into_iter().next().unwrap_or(Value::Nil))?;
        let between = i64::try_from(u64::midpoint(before.0, after.0)).unwrap_or(i64::MAX);
        *self.figures.lock() = Some(confirmed.masters.figures);
        if is_due {
            *self.last_written.lock() = Some(Instant::now());
            self.exchange_member_records(&confirmed, figures, redis_now).await?;
        }
        // Note the loss last: a check that fails half way must report it again.
        let lost_data = self.data.learn(&confirmed);
        if lost_data {
            self.client.invalidate_connections();
        }
        let skew_millis = between - i64::try_from(redis_now).unwrap_or(i64::MAX);
        self.lead_millis.store(skew_millis, Ordering::Relaxed);
        Ok(HealthReport { lost_data, skew_millis })
    }

    /// Finds out whether rights for leases and tickets are missing.
    async fn try_rights(&self) -> Result<(), Fault> {
        let mut missing = Vec::new();
        for trial in rights::trials(&self.keys, &self.own_field) {
            let command = &trial.command;
            let answer = self
                .client
                .call(Path::HealthCheck, |mut connection| async move { connection.ask(command).await });
            missing.extend(trial.missing(answer.await)?);
        }
        missing.dedup();
        self.rights.learn(&missing);
        Ok(())
    }

    /// Whether the member record is due.
    fn is_time_for_member_record(&self) -> bool {
        self.last_written.lock().is_none_or(|last| last.elapsed() >= members::INTERVAL)
    }

    /// Checks that Redis belongs to this deployment.
    async fn renew_claim(&self) -> Result<(), Fault> {
        let question = &self.claim.question();
        let answer = self
            .client
            .call(Path::HealthCheck, |mut connection| async move { connection.ask(question).await })
            .await;
        self.claim.learn(answer)
    }

    /// Writes this instance's member record, reads all of them, and removes outdated ones.
    async fn exchange_member_records(
        &self,
        confirmed: &Confirmed,
        figures: Figures,
        redis_now: u64,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        let has_ended = self.has_ended.lock().await;
        let write = self.write_member_record(figures, redis_now, *has_ended)?;
        let mut read = redis::cmd("HGETALL");
        read.arg(&self.keys.instances);
        let commands = &pipeline([write, self.data.keep(confirmed), read]);
        let mut answers = self
            .client
            .call(Path::HealthCheck, |mut connection| async move { connection.ask_all(commands).await })
            .await?;
        drop(has_ended);
        let fields: Vec<(String, String)> = from_redis_value(answers.pop().unwrap_or(Value::Nil))
            .map_err(|error| Fault::Unexpected(error.to_string()))?;
        let (view, spent) = View::read(fields, &self.own_field, &mut self.neighbours.lock(), redis_now, now);
        self.last_seen.lock().learn(view.records(), redis_now);
        *self.view.lock() = view;
        if !spent.is_empty() {
            let mut forget = redis::cmd("HDEL");
            forget.arg(&self.keys.instances).arg(spent);
            let forget = &forget;
            self.client
                .call(Path::HealthCheck, |mut connection| async move { connection.ask(forget).await })
                .await?;
        }
        Ok(())
    }

    /// Command that writes this instance's member record.
    fn write_member_record(&self, figures: Figures, redis_now: u64, has_ended: bool) -> Result<Cmd, Fault> {
        let now = self.clock.now();
        let record = MemberRecord {
            at: redis_now,
            active: figures.active,
            streams: figures.streams,
            first: now.seconds() + 1,
            lives: self.lives(now),
            sample: self.own_sample(now).iter().map(ToString::to_string).collect(),
            about: Some(self.neighbours.lock().own_with(&self.claim.fingerprints())),
            has_ended,
        };
        let text = serde_json::to_string(&record).map_err(|error| Fault::Unexpected(error.to_string()))?;
        let mut write = redis::cmd("HSET");
        write.arg(&self.keys.instances).arg(&self.own_field).arg(text);
        Ok(write)
    }
}

#[cfg(test)]
mod tests;
