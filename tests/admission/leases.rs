//! Limits of subjects.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use vx11_kit::{RedisServer, until};
use vx11_operator::control::NotAdmitted;
use vx11_operator::events::EndReason;
use vx11_operator::store::{AdmissionStore, LeaseAnswer, SubjectKey, SubjectPolicy, WantedLeases};

use super::support::{Instance, LIMIT, Open, Way, stream, subject};

async fn three(server: &RedisServer) -> [Instance; 3] {
    [Instance::start(server, 1).await, Instance::start(server, 2).await, Instance::start(server, 3).await]
}

/// Opens as many streams of subject 0 as its limit allows.
async fn fill(instance: &Instance) -> Vec<Open> {
    let mut open = Vec::new();
    while open.len() < LIMIT {
        open.push(instance.open(&subject(0)).await.unwrap());
    }
    open
}

async fn is_refused(instance: &Instance) -> bool {
    instance.open(&subject(0)).await.err() == Some(NotAdmitted::SubjectLimit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_openings_get_exactly_as_many_places_as_the_limit_has() {
    let server = RedisServer::start().await;
    let instances = three(&server).await;
    let subjects: Vec<_> = (0..20).map(subject).collect();
    let openings = (0..12).flat_map(|_| &subjects).zip(instances.iter().cycle());
    let outcomes = join_all(
        openings.map(async |(subject, instance)| (subject.as_str().to_owned(), instance.open(subject).await)),
    )
    .await;
    for subject in &subjects {
        let of_subject = outcomes.iter().filter(|(name, _)| name == subject.as_str());
        let (open, refused): (Vec<_>, Vec<_>) = of_subject.partition(|(_, outcome)| outcome.is_ok());
        assert_eq!((open.len(), refused.len()), (LIMIT, 12 - LIMIT));
    }
    let local: u64 = instances.iter().map(|it| it.metric("vx11_operator_subject_caps_local_total")).sum();
    assert_eq!(local, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_come_and_go_never_exceed_the_limit_and_their_places_come_back() {
    let server = RedisServer::start().await;
    let instances = three(&server).await;
    let open = AtomicUsize::new(0);
    let come_and_go = instances.iter().cycle().take(15).map(async |instance| {
        for _ in 0..40 {
            if let Ok(stream) = instance.open(&subject(0)).await {
                assert!(open.fetch_add(1, Ordering::SeqCst) < LIMIT);
                tokio::task::yield_now().await;
                open.fetch_sub(1, Ordering::SeqCst);
                drop(stream);
            }
        }
    });
    join_all(come_and_go).await;
    let mut kept = Vec::new();
    until("all places", async || {
        kept.extend(instances[0].open(&subject(0)).await.ok());
        kept.len() == LIMIT
    })
    .await;
}

#[tokio::test]
async fn the_places_of_a_dead_instance_are_free_2500_ms_after_its_last_renewal() {
    let server = RedisServer::start().await;
    let (mut dead, other) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let _open = fill(&dead).await;
    dead.pause();
    // Less the time that the test itself takes.
    dead.age(&server, 1000).await;
    assert!(is_refused(&other).await);
    dead.age(&server, 1501).await;
    fill(&other).await;
}

#[tokio::test]
async fn a_lease_whose_answer_was_lost_is_counted_once() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    one.way.set(Way::LosesAnswers);
    let first = one.open(&subject(0)).await.unwrap();
    one.way.set(Way::Open);
    let mut open = fill_up_to(&two, LIMIT - 1).await;
    assert!(is_refused(&two).await);
    one.settles(&server).await;
    assert!(one.ended().is_empty());
    drop(first);
    until("the place", async || {
        open.extend(two.open(&subject(0)).await.ok());
        open.len() == LIMIT
    })
    .await;
}

async fn fill_up_to(instance: &Instance, count: usize) -> Vec<Open> {
    let mut open = Vec::new();
    while open.len() < count {
        open.push(instance.open(&subject(0)).await.unwrap());
    }
    open
}

/// The client leaves while the call is on its way, so the release arrives first.
#[tokio::test]
async fn a_lease_that_is_taken_after_its_release_is_released_once_more() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    one.way.set(Way::Delays);
    drop(one.open(&subject(0)).await.unwrap());
    one.way.set(Way::Open);
    one.settles(&server).await;
    one.way.deliver().await;
    let key = format!("{{vx11}}:subject:{}", SubjectKey::of(&subject(0)));
    let leases = async || server.command(&["EXISTS", &key]).await;
    assert_eq!(leases().await, redis::Value::Int(1), "the call has arrived");
    until("the release", async || leases().await == redis::Value::Int(0)).await;
}

#[tokio::test]
async fn a_call_that_arrives_after_the_next_renewals_takes_nothing() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let time: (u64, u64) = redis::from_redis_value(server.command(&["TIME"]).await).unwrap();
    let now = time.0 * 1000 + time.1 / 1000;
    let wanted = |renewed| WantedLeases {
        subject: SubjectKey::of(&subject(0)),
        streams: vec![(stream().to_string(), Duration::ZERO)],
        limit: LIMIT,
        replaces: false,
        renewed,
        kept: Duration::from_mins(1),
    };
    let late = one.way.take_leases(&wanted(now - 2501)).await.unwrap();
    assert_eq!(late, LeaseAnswer::RenewFirst);
    let in_time = one.way.take_leases(&wanted(now)).await.unwrap();
    assert!(matches!(in_time, LeaseAnswer::Taken { refused, .. } if refused.is_empty()));
}

#[tokio::test]
async fn an_instance_that_was_paused_takes_its_leases_again_and_ends_the_streams_without_room() {
    let server = RedisServer::start().await;
    let (mut paused, other) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let mine = fill(&paused).await;
    paused.pause();
    paused.age(&server, 2501).await;
    let theirs = fill_up_to(&other, 2).await;
    paused.resume();
    // The newest two have no room.
    for stream in &mine[LIMIT - 2..] {
        paused.ends(stream.stream).await;
    }
    assert_eq!(paused.ended().len(), 2);
    assert!(paused.all_ended_as(EndReason::LeaseLost), "no stream was to replace them");
    assert_eq!(paused.metric("vx11_operator_leases_lost_total"), 2);
    assert!(is_refused(&other).await && is_refused(&paused).await);
    assert!(other.ended().is_empty());
    drop(theirs);
    other.settles(&server).await;
    until("the places", async || fill_up_to_now(&other, 2).await).await;
}

#[tokio::test]
async fn an_instance_that_was_cut_off_takes_its_leases_again() {
    let server = RedisServer::start().await;
    let (cut_off, other) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let mine = fill(&cut_off).await;
    cut_off.way.set(Way::Closed);
    cut_off.age(&server, 2501).await;
    let _theirs = fill_up_to(&other, 1).await;
    cut_off.way.set(Way::Open);
    cut_off.ends(mine[LIMIT - 1].stream).await;
    assert!(is_refused(&other).await && is_refused(&cut_off).await);
    assert_eq!((cut_off.ended().len(), other.ended().len()), (1, 0));
}

/// Whether so many further streams open.
async fn fill_up_to_now(instance: &Instance, count: usize) -> bool {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(instance.open(&subject(0)).await.ok());
    }
    open.iter().all(Option::is_some)
}

#[tokio::test]
async fn after_a_loss_of_data_the_leases_are_there_again() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let (_mine, _theirs) = (fill_up_to(&one, 2).await, fill_up_to(&two, LIMIT - 2).await);
    server.command(&["FLUSHALL"]).await;
    let key = format!("{{vx11}}:subject:{}", SubjectKey::of(&subject(0)));
    let count = async || redis::from_redis_value::<usize>(server.command(&["HLEN", &key]).await);
    until("all leases", async || count().await == Ok(LIMIT)).await;
    assert!(is_refused(&one).await && is_refused(&two).await);
    assert!(one.ended().is_empty() && two.ended().is_empty());
}

#[tokio::test]
async fn during_an_outage_each_instance_has_the_limit_and_afterwards_all_together() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    for instance in [&one, &two] {
        instance.way.set(Way::Closed);
    }
    let (_mine, _theirs) = (fill(&one).await, fill(&two).await);
    assert!(is_refused(&one).await && is_refused(&two).await);
    assert_eq!(one.metric("vx11_operator_subject_caps_local_total"), LIMIT as u64 + 1);
    assert_eq!(one.metric("vx11_operator_subject_caps_reached_total"), 1);
    for instance in [&one, &two] {
        instance.way.set(Way::Open);
    }
    until("the limit", async || one.ended().len() + two.ended().len() == LIMIT).await;
    assert!(is_refused(&one).await && is_refused(&two).await);
    assert_eq!(one.ended().len() + two.ended().len(), LIMIT, "no more end");
    assert!(one.all_ended_as(EndReason::LeaseLost) && two.all_ended_as(EndReason::LeaseLost));
}

#[tokio::test]
async fn the_oldest_stream_makes_room_on_whichever_instance_it_is() {
    let server = RedisServer::start().await;
    let policy = SubjectPolicy::ReplaceOldest;
    let (one, two) = (Instance::with(&server, 1, policy).await, Instance::with(&server, 2, policy).await);
    let theirs = fill_up_to(&two, 1).await;
    let mine = fill_up_to(&one, LIMIT - 1).await;
    let first = one.open(&subject(0)).await.unwrap();
    two.ends(theirs[0].stream).await;
    let _second = one.open(&subject(0)).await.unwrap();
    assert_eq!(one.ended(), [mine[0].stream], "at once on the same instance");
    assert!(one.all_ended_as(EndReason::Replaced) && two.all_ended_as(EndReason::Replaced));
    // The next renewal tells Redis, which then forgets about it.
    let field = format!("replaced:{}", theirs[0].stream);
    let replaced = async || server.command(&["HEXISTS", "{vx11}:alive", &field]).await;
    until("nothing is left", async || replaced().await == redis::Value::Int(0)).await;
    assert_eq!(two.ended(), [theirs[0].stream]);
    drop(first);
}

#[tokio::test]
async fn during_an_outage_the_oldest_stream_of_the_instance_makes_room() {
    let server = RedisServer::start().await;
    let one = Instance::with(&server, 1, SubjectPolicy::ReplaceOldest).await;
    let mine = fill(&one).await;
    one.way.set(Way::Closed);
    let next = one.open(&subject(0)).await.unwrap();
    assert_eq!(one.ended(), [mine[0].stream]);
    one.way.set(Way::Open);
    one.settles(&server).await;
    assert_eq!(one.ended().len(), 1, "the replaced one has released its place");
    drop(next);
}

#[tokio::test]
async fn openings_that_wait_for_redis_take_no_place_and_never_exceed_the_limit() {
    let server = RedisServer::start().await;
    let (one, subject) = (Instance::start(&server, 1).await, subject(0));
    one.way.set(Way::LosesAnswers);
    let mut waiting: Vec<_> = (0..LIMIT).map(|_| Box::pin(one.open(&subject))).collect();
    for opening in &mut waiting {
        assert!(opening.now_or_never().is_none(), "its call is on the way");
    }
    one.way.set(Way::Closed);
    let first = one.open(&subject).await;
    assert!(first.is_ok(), "none is open");
    let outcomes = join_all(waiting).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), LIMIT - 1);
}

/// Redis grants a lease, because it does not know yet what the instance has opened without it.
#[tokio::test]
async fn streams_that_redis_does_not_know_yet_count_on_their_instance() {
    let server = RedisServer::start().await;
    let mut one = Instance::start(&server, 1).await;
    one.pause();
    one.way.set(Way::Closed);
    let open = fill(&one).await;
    one.way.set(Way::Open);
    assert!(is_refused(&one).await);
    one.resume();
    one.settles(&server).await;
    assert!(one.ended().is_empty());
    drop(open);
}

#[tokio::test]
async fn without_an_answer_of_redis_no_stream_opens_if_that_is_the_policy() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::strict(&server, 1).await, Instance::start(&server, 2).await);
    for way in [Way::Closed, Way::LosesAnswers, Way::Delays] {
        one.way.set(way);
        for _ in 0..LIMIT {
            assert_eq!(one.open(&subject(0)).await.err(), Some(NotAdmitted::Unproven), "{way:?}");
        }
    }
    one.way.set(Way::Open);
    assert_eq!(one.metric("vx11_operator_subject_caps_local_total"), 0);
    until("the places", async || fill_up_to_now(&two, LIMIT).await).await;
}

#[tokio::test]
async fn what_an_opening_that_was_cancelled_has_taken_comes_back() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    for _ in 0..LIMIT {
        let subject = subject(0);
        let opening = one.open(&subject);
        // Polled once: the call is sent, and nobody waits for the answer.
        let _ = opening.now_or_never();
    }
    until("the places", async || fill_up_to_now(&one, LIMIT).await).await;
}
