//! Contradictions between instances: their configuration is compared with every exchange of member
//! records, and each difference is logged once.

use std::collections::{BTreeMap, BTreeSet};

use super::member_record::{About, MemberRecord, instance_id};
use crate::store::{Mismatch, MismatchKind};

/// Knowledge about the other instances between exchanges.
pub(super) struct Neighbours {
    own: About,
    /// For each member record, its time of writing when it was first seen. Noted again when another
    /// record of the same instance is first seen.
    first_seen: BTreeMap<String, u64>,
    /// Contradictions of the last exchange.
    found: BTreeSet<Mismatch>,
}

impl Neighbours {
    pub(super) const fn new(own: About) -> Self {
        Self { own, first_seen: BTreeMap::new(), found: BTreeSet::new() }
    }

    /// Configuration of this instance, now with these fingerprints: a reload may have replaced
    /// them.
    pub(super) fn own_with(&mut self, keys: &[String]) -> About {
        keys.clone_into(&mut self.own.keys);
        self.own.clone()
    }

    /// Compares this instance with the running ones. `live` are the recent member records of
    /// others.
    pub(super) fn compare(&mut self, own: &str, live: &[&(String, MemberRecord)]) -> Vec<Mismatch> {
        let running = self.running(live);
        let mut found = BTreeSet::new();
        let mut instances: BTreeMap<&str, usize> = [(instance_id(own), 1)].into();
        for (name, record) in &running {
            let id = instance_id(name);
            *instances.entry(id).or_default() += 1;
            let mut differs = |kind| found.insert(Mismatch { instance_id: id.to_owned(), kind });
            if record.about.as_ref().is_some_and(|about| about.keys != self.own.keys) {
                differs(MismatchKind::OtherSigningKeys);
            }
            if record.about.as_ref().is_some_and(|about| about.token_ttl != self.own.token_ttl) {
                differs(MismatchKind::OtherTokenLife);
            }
        }
        for (id, _) in instances.into_iter().filter(|(_, count)| *count > 1) {
            found.insert(Mismatch { instance_id: id.to_owned(), kind: MismatchKind::InstanceIdUsedTwice });
        }
        for Mismatch { instance_id, kind } in found.difference(&self.found) {
            warn(instance_id, *kind);
        }
        self.found = found;
        self.found.iter().cloned().collect()
    }

    /// Member records that have changed since they, or others of the same instance, were first
    /// seen. A former start of an instance leaves a record that does not change.
    fn running<'a>(&mut self, live: &[&'a (String, MemberRecord)]) -> Vec<&'a (String, MemberRecord)> {
        self.first_seen.retain(|name, _| live.iter().any(|(known, _)| known == name));
        let new = live.iter().filter(|(name, _)| !self.first_seen.contains_key(name));
        let started: BTreeSet<_> = new.map(|(name, _)| instance_id(name)).collect();
        let mut running = Vec::new();
        for &record in live {
            let (name, MemberRecord { at, .. }) = record;
            if started.contains(instance_id(name)) {
                self.first_seen.insert(name.clone(), *at);
            } else if self.first_seen.get(name).is_some_and(|first| first != at) {
                running.push(record);
            }
        }
        running
    }
}

fn warn(instance_id: &str, kind: MismatchKind) {
    match kind {
        MismatchKind::OtherSigningKeys => tracing::warn!(
            instance_id,
            "an instance accepts other signing keys than this one, so each may refuse tokens that the other issues. This is expected while a secret is replaced. Otherwise compare VX11_OPERATOR_SIGNING_KEYS and the principals"
        ),
        MismatchKind::OtherTokenLife => tracing::warn!(
            instance_id,
            "an instance gives tokens another lifetime than this one; compare EPHEMERAL_TOKEN_TTL_SEC"
        ),
        MismatchKind::InstanceIdUsedTwice => tracing::warn!(
            instance_id,
            "two instances have this name, so their figures cannot be distinguished; give each a separate INSTANCE_ID"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "1 aa";

    fn about() -> About {
        About { keys: vec!["k".to_owned()], token_ttl: 60, version: "1.0.0".to_owned(), schema: 1 }
    }

    fn record(name: &str, at: u64, about: Option<About>) -> (String, MemberRecord) {
        let (lives, sample) = (Vec::new(), Vec::new());
        let (active, streams, first, has_ended) = (0, 0, 0, false);
        (name.to_owned(), MemberRecord { at, active, streams, first, lives, sample, about, has_ended })
    }

    fn compare(neighbours: &mut Neighbours, live: &[(String, MemberRecord)]) -> Vec<(String, MismatchKind)> {
        let found = neighbours.compare(OWN, &live.iter().collect::<Vec<_>>());
        found.into_iter().map(|it| (it.instance_id, it.kind)).collect()
    }

    #[test]
    fn other_keys_and_another_life_are_found_and_an_instance_that_does_not_tell_has_neither() {
        let mut neighbours = Neighbours::new(about());
        let live = |at| {
            [
                record("2 bb", at, Some(About { keys: Vec::new(), token_ttl: 30, ..about() })),
                record("3 cc", at, Some(About { version: "2.0.0".to_owned(), ..about() })),
                record("4 dd", at, None),
            ]
        };
        // It may be what an instance has left behind.
        assert!(compare(&mut neighbours, &live(5)).is_empty());
        let both =
            [MismatchKind::OtherSigningKeys, MismatchKind::OtherTokenLife].map(|it| ("2".to_owned(), it));
        assert_eq!(compare(&mut neighbours, &live(6)), both);
        assert!(compare(&mut neighbours, &live(7)[1..]).is_empty());
    }

    #[test]
    fn keys_that_a_reload_replaces_are_shown_to_others_and_compared_with_theirs() {
        let mut neighbours = Neighbours::new(about());
        let live = |at| [record("2 bb", at, Some(about()))];
        compare(&mut neighbours, &live(5));
        assert!(compare(&mut neighbours, &live(6)).is_empty());
        let keys = ["k".to_owned(), "new".to_owned()];
        assert_eq!(neighbours.own_with(&keys), About { keys: keys.to_vec(), ..about() });
        let differs = ("2".to_owned(), MismatchKind::OtherSigningKeys);
        assert_eq!(compare(&mut neighbours, &live(7)), [differs]);
    }

    #[test]
    fn a_name_that_two_instances_have_is_found_and_a_restart_is_none() {
        let mut neighbours = Neighbours::new(about());
        let mut at = |second: u64, names: &[(&str, u64)]| {
            let live: Vec<_> = names.iter().map(|(name, back)| record(name, second - back, None)).collect();
            let found = compare(&mut neighbours, &live);
            found.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        // The member record of the start before ages.
        assert_eq!(at(10, &[("1 00", 1), ("2 bb", 0)]), none);
        assert_eq!(at(11, &[("1 00", 2), ("2 bb", 0)]), none);
        // Another is restarted.
        assert_eq!(at(12, &[("2 bb", 1), ("2 cc", 0)]), none);
        assert_eq!(at(13, &[("2 bb", 2), ("2 cc", 0)]), none);
        // Both go on.
        assert_eq!(at(14, &[("2 bb", 0), ("2 cc", 0)]), ["2"]);
        // Another takes the name of this one.
        assert_eq!(at(15, &[("1 dd", 0)]), none);
        assert_eq!(at(16, &[("1 dd", 0)]), ["1"]);
        assert_eq!(at(17, &[]), none);
    }
}
