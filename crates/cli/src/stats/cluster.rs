//! View of the cluster from many answers, by the rules of the panel
//! (`src/http/panel/assets/panel-cluster.js`).
//!
//! Behind a load balancer each answer may come from another instance. An instance reports its
//! backend and breaker only itself; its tokens and streams are also in its member record. The
//! newest of both is kept for each instance.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::picture::{Own, Picture, Row};
use crate::cache_stats::{CUT_OFF, CacheStats, Figures, Member, Standing};

/// Answers without a mention, beyond one per instance, after which an instance counts as gone.
pub(super) const FORBEARANCE: usize = 2;
/// Lifetime of a count of all instances, while other answers count only themselves.
const WHOLE: Duration = Duration::from_secs(10);
/// Bounds for remembering gone instances: time and number.
const KEPT: Duration = Duration::from_mins(10);
const MOST: usize = 100;

#[derive(Default)]
pub(super) struct Cluster {
    instances: HashMap<String, Instance>,
    /// The newest answer with all instances in view.
    whole: Option<(Instant, CacheStats)>,
    answered_at: Option<Instant>,
}

struct Instance {
    own: Option<(Instant, String, Standing)>,
    figures: (Instant, Figures),
    /// Answers since it was last mentioned.
    missed: usize,
}

impl Cluster {
    /// Adds an answer.
    pub(super) fn add(&mut self, answer: CacheStats, now: Instant) {
        self.answered_at = Some(now);
        for instance in self.instances.values_mut() {
            instance.missed = instance.missed.saturating_add(1);
        }
        for Member { instance_id, seen_seconds_ago, figures } in &answer.cluster {
            let age = Duration::try_from_secs_f64(*seen_seconds_ago).unwrap_or_default();
            self.mention(instance_id, now.checked_sub(age).unwrap_or(now), *figures);
        }
        let said = (now, answer.backend.clone(), answer.instance.standing.clone());
        if let Some(instance) = self.instances.get_mut(&answer.instance.instance_id) {
            instance.own = Some(said);
        }
        if answer.backend != CUT_OFF {
            self.whole = Some((now, answer));
        }
        self.forget(now);
    }

    /// Time of the newest answer.
    pub(super) fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    fn mention(&mut self, id: &str, at: Instant, figures: Figures) {
        let mentioned = (at, figures);
        let instance = self.instances.entry(id.to_owned()).or_insert(Instance {
            own: None,
            figures: mentioned,
            missed: 0,
        });
        instance.missed = 0;
        if at >= instance.figures.0 {
            instance.figures = mentioned;
        }
    }

    /// Counted in answers: without answers no instance counts as gone.
    fn is_gone(&self, instance: &Instance) -> bool {
        instance.missed >= self.instances.len() + FORBEARANCE
    }

    /// The names of instances that are not gone.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> {
        let present = self.instances.iter().filter(|(_, instance)| !self.is_gone(instance));
        present.map(|(id, _)| id.as_str())
    }

    fn forget(&mut self, now: Instant) {
        let mut by_age: Vec<_> =
            self.instances.iter().map(|(id, it)| (it.answered_at(), id.clone())).collect();
        by_age.sort_unstable_by(|one, other| other.cmp(one));
        let is_old = |at: Instant| now.saturating_duration_since(at) > KEPT;
        let is_superfluous = |&(place, (at, id)): &(usize, &(Instant, String))| {
            place >= MOST || (is_old(*at) && self.instances.get(id).is_some_and(|it| self.is_gone(it)))
        };
        let superfluous = by_age.iter().enumerate().filter(is_superfluous).map(|(_, (_, id))| id);
        for id in superfluous.collect::<Vec<_>>() {
            self.instances.remove(id);
        }
    }

    /// The picture at this moment.
    pub(super) fn picture(&self, now: Instant) -> Picture {
        let since = |at: Instant| now.saturating_duration_since(at);
        let rows = self.instances.iter().map(|(id, instance)| Row {
            instance_id: id.clone(),
            seen: since(instance.answered_at()),
            figures: instance.figures.1,
            own: instance.own.as_ref().map(|(at, backend, standing)| Own {
                said: since(*at),
                backend: backend.clone(),
                standing: standing.clone(),
            }),
            is_gone: self.is_gone(instance),
        });
        let whole = self.whole.as_ref().filter(|(at, _)| since(*at) < WHOLE);
        Picture::new(rows.collect(), whole.map(|(_, answer)| answer))
    }
}

impl Instance {
    fn answered_at(&self) -> Instant {
        let own = self.own.as_ref().map(|(at, ..)| *at);
        own.map_or(self.figures.0, |own| own.max(self.figures.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Answer of an instance with these in view, itself included, each with a number of streams.
    fn answer(id: &str, backend: &str, members: &[(&str, f64, u64)]) -> CacheStats {
        let member = |(id, age, streams): &(&str, f64, u64)| json!({"instance_id": id, "seen_seconds_ago": age, "active": 10, "streams": streams});
        let is_cut_off = backend == CUT_OFF;
        let answer = json!({
            "backend": backend,
            "cache_size": 25,
            "redis_memory_bytes": if is_cut_off { None } else { Some(4096) },
            "redis_ops_per_sec": if is_cut_off { None } else { Some(7) },
            "sample_tokens": [],
            "instance": {
                "instance_id": id, "active": 10, "streams": 0, "fallback_entries": u64::from(is_cut_off),
                "breaker": if is_cut_off { "open" } else { "closed" },
                "degraded_since": is_cut_off.then(|| format!("2026-01-03T20:00:0{id}.000Z")),
            },
            "cluster": members.iter().map(member).collect::<Vec<_>>(),
        });
        serde_json::from_value(answer).unwrap()
    }

    fn row<'a>(picture: &'a Picture, id: &str) -> &'a Row {
        picture.row(id).unwrap()
    }

    fn present(cluster: &Cluster) -> Vec<&str> {
        let mut present: Vec<_> = cluster.present().collect();
        present.sort_unstable();
        present
    }

    #[test]
    fn an_instances_own_words_stay_while_others_tell_its_newer_figures() {
        let (mut cluster, start) = (Cluster::default(), Instant::now());
        cluster.add(answer("1", "redis", &[("1", 0.0, 3), ("2", 0.5, 4)]), start);
        let picture = cluster.picture(start);
        assert!(row(&picture, "1").own.is_some() && row(&picture, "2").own.is_none());
        assert_eq!(row(&picture, "2").seen, Duration::from_millis(500));
        let later = start + Duration::from_secs(4);
        cluster.add(answer("2", "redis", &[("1", 1.0, 5), ("2", 0.0, 6)]), later);
        let picture = cluster.picture(later);
        let one = row(&picture, "1");
        assert_eq!((one.figures.streams, one.seen), (5, Duration::from_secs(1)));
        assert_eq!(one.own.as_ref().unwrap().said, Duration::from_secs(4));
        assert_eq!((picture.streams, picture.cache_size, picture.redis_ops_per_sec), (11, 25, Some(7)));
        // Older figures change nothing.
        cluster.add(answer("1", "redis", &[("1", 0.0, 5), ("2", 2.0, 1)]), later + Duration::from_secs(1));
        assert_eq!(row(&cluster.picture(later), "2").figures.streams, 6);
    }

    #[test]
    fn an_instance_is_gone_when_a_turn_of_answers_does_not_mention_it_and_then_counts_for_nothing() {
        let (mut cluster, start) = (Cluster::default(), Instant::now());
        cluster.add(answer("2", CUT_OFF, &[("2", 0.0, 4)]), start);
        let at = |missed: u32| start + Duration::from_secs(missed.into());
        for missed in 1..=4 {
            assert_eq!(present(&cluster).last(), Some(&"2"), "{missed}");
            cluster.add(answer("1", "redis", &[("1", 0.0, 3)]), at(missed));
        }
        assert_eq!(present(&cluster), ["1"]);
        let picture = cluster.picture(at(4));
        assert!(row(&picture, "2").is_gone);
        assert_eq!((picture.streams, picture.degraded_since.as_deref()), (3, None));
        assert_eq!(picture.backends, ["redis"]);
        // It comes back, or is forgotten.
        cluster.add(answer("1", "redis", &[("1", 0.0, 3), ("2", 0.0, 4)]), at(5));
        assert_eq!(present(&cluster), ["1", "2"]);
        for missed in 0..=4 {
            cluster.add(answer("1", "redis", &[("1", 0.0, 3)]), at(6 + missed) + KEPT);
        }
        assert!(cluster.picture(start).row("2").is_none());
    }

    #[test]
    fn beside_those_who_see_all_one_that_is_cut_off_tells_only_of_itself() {
        let (mut cluster, start) = (Cluster::default(), Instant::now());
        cluster.add(answer("1", "redis", &[("1", 0.0, 3)]), start);
        for id in ["3", "2"] {
            cluster.add(answer(id, CUT_OFF, &[(id, 0.0, 1)]), start);
        }
        let picture = cluster.picture(start);
        assert_eq!((picture.cache_size, picture.redis_memory_bytes), (25, Some(4096)));
        assert_eq!(picture.backends, [CUT_OFF, "redis"]);
        assert_eq!(picture.degraded_since.as_deref(), Some("2026-01-03T20:00:02.000Z"), "the earliest");
        // Without a recent count of all, the sum of issued tokens counts.
        let picture = cluster.picture(start + WHOLE);
        assert_eq!((picture.cache_size, picture.redis_memory_bytes), (30, None));
    }

    #[test]
    fn however_many_names_an_answer_holds_few_are_kept_the_newest() {
        let (mut cluster, start) = (Cluster::default(), Instant::now());
        let names: Vec<_> = (0..3 * MOST).map(|number| number.to_string()).collect();
        let mut age = 0.0;
        let members: Vec<_> = names
            .iter()
            .map(|name| {
                age += 0.001;
                (name.as_str(), age, 1)
            })
            .collect();
        cluster.add(answer("0", "redis", &members), start + KEPT);
        let picture = cluster.picture(start + KEPT);
        let kept: Vec<_> = picture.instances.iter().map(|row| row.instance_id.as_str()).collect();
        assert_eq!(kept, names[..MOST], "and ten comes after nine");
    }
}
