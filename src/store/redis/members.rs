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

/// Names of the other instances with a recent member record, from the fields of all.
pub(super) fn live(fields: &[(String, String)], own: &str, redis_now: u64) -> Vec<String> {
    let others = fields.iter().filter(|(name, _)| name != own);
    let recent = others.filter(|(_, text)| {
        serde_json::from_str::<MemberRecord>(text).is_ok_and(|record| record.age(redis_now) < GONE_AFTER)
    });
    recent.map(|(name, _)| instance_id(name).to_owned()).collect()
}

/// The other instances that have written a member record in the last half minute, with the time of
/// the last one by the clock of Redis. One that has fallen silent may be stopped or cut off, with
/// its streams open. The view remains while Redis is unavailable.
#[derive(Default)]
pub(super) struct LastSeen(BTreeMap<String, u64>);

impl LastSeen {
    /// Learns the records of a view.
    pub(super) fn learn(&mut self, view: &View) {
        for (name, record) in &view.others {
            let at = self.0.entry(instance_id(name).to_owned()).or_default();
            *at = record.at.max(*at);
        }
        // Also one whose time is ahead: another Redis may have another clock.
        let longest = u64::try_from(MISSED_FOR.as_millis()).unwrap_or(u64::MAX);
        self.0.retain(|_, at| at.abs_diff(view.redis_now) < longest);
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
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
        let is_live = |(_, record): &&(String, MemberRecord)| record.age(redis_now) < GONE_AFTER;
        let mismatches = neighbours.compare(own, &others.iter().filter(is_live).collect::<Vec<_>>());
        (Self { others, mismatches, redis_now, read_at: Instant::now() }, spent)
    }

    /// Live tokens of the other instances.
    pub(super) fn live(&self, now: UnixMillis) -> i64 {
        self.others.iter().map(|(_, record)| record.live(now)).sum()
    }

    /// The other instances with a recent member record.
    pub(super) fn members(&self) -> Vec<Member> {
        let since = self.read_at.elapsed();
        let members = self.others.iter().map(|(name, record)| Member {
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
        MemberRecord { at: NOW.0 - age, active: 3, streams: 2, first, lives, sample: Vec::new(), about: None }
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
    fn an_instance_is_live_from_its_first_member_record_until_that_is_outdated() {
        let text = |age| serde_json::to_string(&member_record(age, vec![])).unwrap();
        let fields =
            [("1 aa", text(0)), ("2 bb", text(2999)), ("3 cc", text(3000)), ("4 dd", "{".to_owned())];
        let fields = fields.map(|(name, text)| (name.to_owned(), text));
        assert_eq!(live(&fields, "1 aa", NOW.0), ["2"]);
        assert_eq!(live(&fields, "own", NOW.0), ["1", "2"]);
    }

    #[test]
    fn an_instance_that_has_fallen_silent_is_missed_for_half_a_minute_and_longer_without_redis() {
        let mut last_seen = LastSeen::default();
        last_seen
            .learn(&view(&[("1 aa", member_record(0, vec![])), ("2 bb", member_record(29_999, vec![1]))]).0);
        // Another start of the first, and an earlier record of it.
        last_seen.learn(
            &view(&[("1 cc", member_record(40_000, vec![1])), ("3 dd", member_record(30_000, vec![1]))]).0,
        );
        assert_eq!(last_seen.names(), ["1", "2"]);
        let mut later = view(&[]).0;
        later.redis_now = NOW.0 + 1;
        last_seen.learn(&later);
        assert_eq!(last_seen.names(), ["1"]);
        later.redis_now = NOW.0 + 30_000;
        last_seen.learn(&later);
        assert!(last_seen.names().is_empty());
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
