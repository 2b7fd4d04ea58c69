//! View of the cluster: what the member records of the other instances say together.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{RedisError, Value, from_redis_value};
use tokio::time::Instant;

use super::member_record::{MemberRecord, instance_id};
use super::neighbours::Neighbours;
use crate::clock::UnixMillis;
use crate::store::{Figures, Member, Mismatch};
use crate::token::TokenId;

/// Age of a member record after which the instance is not listed any more.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// Time after its last member record in which an instance is missed.
const MISSED_FOR: Duration = Duration::from_secs(30);
const SAMPLE: usize = 5;
/// Interval of writing the member record.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Parses the answer to `TIME`, in ms. In a cluster it is the clock of one node.
pub(super) fn time(answer: Value) -> Result<u64, RedisError> {
    let (seconds, micros): (u64, u64) = from_redis_value(answer)?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Member records of the other instances, from the fields of all. One that cannot be read is left
/// out.
pub(super) fn records_of_others(fields: Vec<(String, String)>, own: &str) -> Vec<(String, MemberRecord)> {
    let others = fields.into_iter().filter(|(name, _)| name != own);
    others.filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect()
}

/// Names of the instances that run.
pub(super) fn running(records: &[(String, MemberRecord)], redis_now: u64) -> Vec<String> {
    let running = records.iter().filter(|(_, record)| record.ran_within(GONE_AFTER, redis_now));
    running.map(|(name, _)| instance_id(name).to_owned()).collect()
}

/// The other instances that have written a member record in the last half minute. One that has
/// fallen silent may be stopped or cut off, with its streams open. This remains while Redis is
/// unavailable.
#[derive(Default)]
pub(super) struct LastSeen(BTreeMap<String, LastRecord>);

/// The last member record of an instance.
#[derive(Default)]
struct LastRecord {
    /// Time of writing, in ms, by the clock of Redis.
    at: u64,
    has_ended: bool,
}

impl LastSeen {
    /// Learns these records.
    pub(super) fn learn(&mut self, records: &[(String, MemberRecord)], redis_now: u64) {
        for (name, record) in records {
            let last = self.0.entry(instance_id(name).to_owned()).or_default();
            if record.at >= last.at {
                *last = LastRecord { at: record.at, has_ended: record.has_ended };
            }
        }
        // Also one whose time is ahead: another Redis may have another clock.
        let longest = u64::try_from(MISSED_FOR.as_millis()).unwrap_or(u64::MAX);
        self.0.retain(|_, last| last.at.abs_diff(redis_now) < longest);
    }

    /// Names of those that have not ended.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().filter(|(_, last)| !last.has_ended).map(|(name, _)| name.clone()).collect()
    }
}

/// View of the cluster: the member records of the other instances.
pub(super) struct View {
    /// Member records of all other instances.
    others: Vec<(String, MemberRecord)>,
    mismatches: Vec<Mismatch>,
    redis_now: u64,
    read_at: Instant,
}

impl View {
    pub(super) fn empty() -> Self {
        Self { others: Vec::new(), mismatches: Vec::new(), redis_now: 0, read_at: Instant::now() }
    }

    /// Parses the member records. Also returns the fields of outdated ones, to be removed.
    pub(super) fn read(
        fields: Vec<(String, String)>,
        own: &str,
        neighbours: &mut Neighbours,
        redis_now: u64,
        now: UnixMillis,
    ) -> (Self, Vec<String>) {
        let mut others = Vec::with_capacity(fields.len());
        let mut spent = Vec::new();
        for (name, text) in fields.into_iter().filter(|(name, _)| name != own) {
            match serde_json::from_str::<MemberRecord>(&text) {
                Ok(record) if !record.is_spent(redis_now, now) => others.push((name, record)),
                _ => spent.push(name),
            }
        }
        let is_live = |(_, record): &&(String, MemberRecord)| record.ran_within(GONE_AFTER, redis_now);
        let mismatches = neighbours.compare(own, &others.iter().filter(is_live).collect::<Vec<_>>());
        (Self { others, mismatches, redis_now, read_at: Instant::now() }, spent)
    }

    /// Live tokens of the other instances.
    pub(super) fn live(&self, now: UnixMillis) -> i64 {
        self.others.iter().map(|(_, record)| record.live(now)).sum()
    }

    /// All member records of other instances.
    pub(super) fn records(&self) -> &[(String, MemberRecord)] {
        &self.others
    }

    /// The other instances that run.
    pub(super) fn members(&self) -> Vec<Member> {
        let since = self.read_at.elapsed();
        let others = self.others.iter().filter(|(_, record)| !record.has_ended);
        let members = others.map(|(name, record)| Member {
            instance_id: instance_id(name).to_owned(),
            seen: record.age(self.redis_now) + since,
            figures: Figures { active: record.active, streams: record.streams },
            version: record.about.as_ref().map(|about| about.version.clone()),
        });
        members.filter(|member| member.seen < GONE_AFTER).collect()
    }

    /// Contradictions with other instances, if the view is recent.
    pub(super) fn mismatches(&self) -> Vec<Mismatch> {
        if self.read_at.elapsed() < GONE_AFTER { self.mismatches.clone() } else { Vec::new() }
    }

    /// Ids of a few live tokens, `own` first.
    pub(super) fn sample(&self, own: Vec<TokenId>) -> Vec<TokenId> {
        let others = self.others.iter().flat_map(|(_, record)| &record.sample);
        let others = others.filter_map(|id| TokenId::parse(id).ok());
        own.into_iter().chain(others).take(SAMPLE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::member_record::About;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

    fn member_record(age: u64, lives: Vec<i64>) -> MemberRecord {
        let first = NOW.seconds() + 1;
        let (at, sample) = (NOW.0 - age, Vec::new());
        MemberRecord { at, active: 3, streams: 2, first, lives, sample, about: None, has_ended: false }
    }

    fn last_record(age: u64, lives: Vec<i64>) -> MemberRecord {
        MemberRecord { has_ended: true, ..member_record(age, lives) }
    }

    fn named(records: &[(&str, MemberRecord)]) -> Vec<(String, MemberRecord)> {
        records.iter().map(|(name, record)| ((*name).to_owned(), record.clone())).collect()
    }

    fn view(records: &[(&str, MemberRecord)]) -> (View, Vec<String>) {
        let fields =
            records.iter().map(|(name, it)| ((*name).to_owned(), serde_json::to_string(it).unwrap()));
        View::read(fields.collect(), "own", &mut neighbours(), NOW.0, NOW)
    }

    fn neighbours() -> Neighbours {
        Neighbours::new(About { keys: Vec::new(), token_ttl: 60, version: "1.0.0".to_owned(), schema: 1 })
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_died_leaves_the_list_and_its_tokens_count_until_they_expire() {
        let (view, spent) =
            view(&[("1 aa", member_record(2900, vec![1, 1])), ("2 bb", member_record(3000, vec![1, 5]))]);
        assert_eq!(spent, Vec::<String>::new());
        let names: Vec<_> = view.members().into_iter().map(|member| member.instance_id).collect();
        assert_eq!(names, ["1"]);
        assert_eq!(view.live(NOW), 8);
        assert_eq!(view.live(NOW.plus(Duration::from_secs(1))), 6);
        assert_eq!(view.live(NOW.plus(Duration::from_secs(2))), 0);
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(view.members().is_empty());
    }

    #[test]
    fn an_instance_runs_from_its_first_member_record_until_that_is_outdated_or_its_last() {
        let text = |record| serde_json::to_string(&record).unwrap();
        let fields = [
            ("1 aa", text(member_record(0, vec![]))),
            ("2 bb", text(member_record(2999, vec![]))),
            ("3 cc", text(member_record(3000, vec![]))),
            ("4 dd", "{".to_owned()),
            ("5 ee", text(last_record(0, vec![]))),
        ];
        let fields = fields.map(|(name, text)| (name.to_owned(), text)).to_vec();
        let running = |own| running(&records_of_others(fields.clone(), own), NOW.0);
        assert_eq!(running("1 aa"), ["2"]);
        assert_eq!(running("own"), ["1", "2"]);
    }

    #[tokio::test]
    async fn an_instance_that_has_ended_leaves_the_list_at_once_and_its_tokens_count_until_they_expire() {
        let (view, spent) = view(&[("1 aa", last_record(0, vec![1, 1])), ("2 bb", last_record(0, vec![]))]);
        assert_eq!((view.members().len(), view.live(NOW), spent), (0, 2, Vec::new()));
    }

    #[test]
    fn an_instance_that_has_fallen_silent_is_missed_for_half_a_minute_and_longer_without_redis() {
        let mut last_seen = LastSeen::default();
        let records = [("1 aa", member_record(0, vec![])), ("2 bb", member_record(29_999, vec![1]))];
        last_seen.learn(&named(&records), NOW.0);
        // Another start of the first, and an earlier record of it.
        let records = [("1 cc", member_record(40_000, vec![1])), ("3 dd", member_record(30_000, vec![1]))];
        last_seen.learn(&named(&records), NOW.0);
        assert_eq!(last_seen.names(), ["1", "2"]);
        last_seen.learn(&[], NOW.0 + 1);
        assert_eq!(last_seen.names(), ["1"]);
        last_seen.learn(&[], NOW.0 + 30_000);
        assert!(last_seen.names().is_empty());
    }

    #[test]
    fn an_instance_that_has_ended_is_not_missed_and_its_next_start_is() {
        let mut last_seen = LastSeen::default();
        last_seen.learn(&named(&[("1 aa", member_record(900, vec![]))]), NOW.0);
        last_seen.learn(&named(&[("1 aa", last_record(500, vec![1]))]), NOW.0);
        assert!(last_seen.names().is_empty());
        // The records of both starts, in any sequence.
        for records in [["1 aa", "1 bb"], ["1 bb", "1 aa"]] {
            let record = |name| {
                let age = if name == "1 aa" { 500 } else { 100 };
                MemberRecord { has_ended: name == "1 aa", ..member_record(age, vec![]) }
            };
            last_seen.learn(&named(&records.map(|name| (name, record(name)))), NOW.0);
            assert_eq!(last_seen.names(), ["1"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_of_a_release_that_tells_less_is_listed_and_contradicts_nobody() {
        let text = format!(r#"{{"at":{},"active":3,"streams":2,"first":1,"lives":[],"sample":[]}}"#, NOW.0);
        let fields = vec![("1 aa".to_owned(), text)];
        let (view, spent) = View::read(fields, "own", &mut neighbours(), NOW.0, NOW);
        assert_eq!((spent, view.mismatches()), (Vec::new(), Vec::new()));
        let member = view.members().remove(0);
        assert_eq!((member.instance_id.as_str(), member.version), ("1", None));
    }

    #[tokio::test]
    async fn a_member_record_with_nothing_left_to_count_is_forgotten_and_so_is_one_that_cannot_be_read() {
        let (view, spent) =
            view(&[("1 aa", member_record(11_000, vec![])), ("own", member_record(0, vec![7]))]);
        assert_eq!((view.live(NOW), spent), (0, vec!["1 aa".to_owned()]));
        let unreadable = vec![("x".to_owned(), "{}".to_owned())];
        let (_, spent) = View::read(unreadable, "own", &mut neighbours(), NOW.0, NOW);
        assert_eq!(spent, ["x"]);
    }
}
