//! Single-use tokens.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use vx11_kit::{RedisServer, until};
use vx11_operator::control::{NotAdmitted, Ticket};
use vx11_operator::events::EndReason;

use super::support::{Instance, LIMIT, Way, subject, ticket};

fn key(ticket: Ticket) -> String {
    format!("token:{}:ticket", ticket.digest)
}

/// Makes the first opening of a ticket older.
async fn age(server: &RedisServer, ticket: Ticket, by: Duration) {
    let first = server.command_text(&["HGET", &key(ticket), "first"]).await;
    let first = first.parse::<u64>().unwrap() - u64::try_from(by.as_millis()).unwrap();
    server.command(&["HSET", &key(ticket), "first", &first.to_string()]).await;
}

async fn is_used(instance: &Instance, ticket: Ticket) -> bool {
    instance.open_ticket(ticket).await.err() == Some(NotAdmitted::Used)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_openings_one_gets_the_ticket() {
    let server = RedisServer::start().await;
    let instances = [1, 2, 3].map(|number| Instance::start(&server, number));
    let instances = join_all(instances).await;
    let openings = (0..30).map(|_| ticket()).map(async |ticket| {
        let outcomes = join_all(instances.iter().map(|instance| instance.open_ticket(ticket))).await;
        let open = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let used = outcomes.iter().filter(|it| it.as_ref().err() == Some(&NotAdmitted::Used)).count();
        assert_eq!((open, used), (1, 2));
    });
    join_all(openings).await;
    assert!(instances.iter().all(|instance| instance.ended().is_empty()));
}

#[tokio::test]
async fn within_five_seconds_a_ticket_opens_again_after_its_stream_has_ended_and_then_never() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    for instance in [&one, &two, &one, &one, &two] {
        drop(instance.open_ticket(ticket).await.unwrap());
    }
    one.settles(&server).await;
    two.settles(&server).await;
    age(&server, ticket, Duration::from_secs(5)).await;
    assert!(is_used(&one, ticket).await && is_used(&two, ticket).await);
}

#[tokio::test]
async fn while_its_stream_is_open_a_ticket_is_used_on_every_instance() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    let open = one.open_ticket(ticket).await.unwrap();
    assert!(is_used(&one, ticket).await && is_used(&two, ticket).await);
    age(&server, ticket, Duration::from_secs(5)).await;
    drop(open);
    one.settles(&server).await;
    assert!(is_used(&two, ticket).await);
}

#[tokio::test]
async fn an_opener_waits_for_the_stream_that_is_about_to_end() {
    let server = RedisServer::start().await;
    let (mut one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    let open = one.open_ticket(ticket).await.unwrap();
    // The instance lives, and does not release anything for a while.
    one.pause();
    drop(open);
    let opening = two.open_ticket(ticket);
    let mut opening = std::pin::pin!(opening);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut opening).await.is_err(), "it waits");
    one.resume();
    assert!(opening.await.is_ok());
}

#[tokio::test]
async fn the_ticket_of_a_dead_instance_opens_again() {
    let server = RedisServer::start().await;
    let (mut dead, other) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    let open = dead.open_ticket(ticket).await.unwrap();
    dead.pause();
    dead.age(&server, 2501).await;
    let again = other.open_ticket(ticket).await.unwrap();
    // It was not dead.
    dead.resume();
    dead.ends(open.stream).await;
    assert_eq!(dead.metric("vx11_operator_leases_lost_total"), 1);
    assert!(dead.all_ended_as(EndReason::LeaseLost));
    assert!(other.ended().is_empty());
    drop(again);
}

#[tokio::test]
async fn a_stream_keeps_its_ticket_over_a_cut() {
    let server = RedisServer::start().await;
    let (cut_off, other) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    let _open = cut_off.open_ticket(ticket).await.unwrap();
    age(&server, ticket, Duration::from_secs(5)).await;
    cut_off.way.set(Way::Closed);
    cut_off.age(&server, 2501).await;
    cut_off.way.set(Way::Open);
    cut_off.settles(&server).await;
    assert!(cut_off.ended().is_empty());
    assert!(is_used(&other, ticket).await);
}

#[tokio::test]
async fn an_opening_whose_answer_was_lost_does_not_use_up_the_ticket() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    {
        let opening = one.open_ticket(ticket);
        // Polled once: the call is sent, and nobody waits for the answer.
        assert!(opening.now_or_never().is_none());
    }
    assert!(two.open_ticket(ticket).await.is_ok());
}

#[tokio::test]
async fn a_call_that_arrives_after_the_release_takes_no_ticket() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    one.way.set(Way::Delays);
    drop(one.open_ticket(ticket).await.unwrap());
    one.way.set(Way::Open);
    one.settles(&server).await;
    one.way.deliver().await;
    let holder = server.command_text(&["HGET", &key(ticket), "holder"]).await;
    assert_eq!(holder, "");
    assert!(two.open_ticket(ticket).await.is_ok());
}

#[tokio::test]
async fn a_request_uses_a_ticket_and_may_be_repeated_within_five_seconds() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    let used = Err(NotAdmitted::Used);
    assert_eq!(one.use_ticket(ticket, "a").await, Ok(()));
    assert_eq!(two.use_ticket(ticket, "a").await, Ok(()));
    assert_eq!(two.use_ticket(ticket, "b").await, used);
    assert!(is_used(&one, ticket).await);
    age(&server, ticket, Duration::from_secs(5)).await;
    assert_eq!(two.use_ticket(ticket, "a").await, used);
}

#[tokio::test]
async fn during_an_outage_a_ticket_opens_once_on_each_side_and_one_of_both_streams_stays() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let ticket = ticket();
    one.way.set(Way::Closed);
    let mine = one.open_ticket(ticket).await.unwrap();
    let theirs = two.open_ticket(ticket).await.unwrap();
    assert!(is_used(&one, ticket).await);
    assert!(one.metric("vx11_operator_tickets_local_total") > 0);
    one.way.set(Way::Open);
    one.ends(mine.stream).await;
    assert!(two.ended().is_empty());
    drop(theirs);
}

#[tokio::test]
async fn without_an_answer_of_redis_a_ticket_opens_nothing_and_stays_good_if_that_is_the_policy() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::strict(&server, 1).await, Instance::start(&server, 2).await);
    for way in [Way::Closed, Way::LosesAnswers, Way::Delays] {
        let (ticket, repeated) = (ticket(), ticket());
        drop(two.open_ticket(repeated).await.unwrap());
        two.settles(&server).await;
        one.way.set(way);
        for ticket in [ticket, repeated] {
            assert_eq!(one.open_ticket(ticket).await.err(), Some(NotAdmitted::Unproven), "{way:?}");
            assert_eq!(one.use_ticket(ticket, "a").await, Err(NotAdmitted::Unproven), "{way:?}");
        }
        one.way.set(Way::Open);
        one.settles(&server).await;
        one.way.deliver().await;
        let first = server.command(&["HEXISTS", &key(ticket), "first"]).await;
        assert_eq!(first, redis::Value::Int(0), "{way:?}: nothing was opened");
        drop(two.open_ticket(ticket).await.unwrap());
        age(&server, repeated, Duration::from_secs(5)).await;
        assert!(is_used(&two, repeated).await, "{way:?}: it was opened before");
    }
    assert_eq!(one.metric("vx11_operator_tickets_local_total"), 0);
}

#[tokio::test]
async fn what_an_instance_knows_of_a_ticket_it_says_without_redis_whatever_the_policy() {
    let server = RedisServer::start().await;
    let one = Instance::strict(&server, 1).await;
    let ticket = ticket();
    let open = one.open_ticket(ticket).await.unwrap();
    one.way.set(Way::Closed);
    assert!(is_used(&one, ticket).await, "its stream is open here");
    drop(open);
    assert_eq!(one.open_ticket(ticket).await.err(), Some(NotAdmitted::Unproven));
}

#[tokio::test]
async fn a_ticket_that_was_used_during_an_outage_stays_used() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let (closed, open) = (ticket(), ticket());
    one.way.set(Way::Closed);
    drop(one.open_ticket(closed).await.unwrap());
    let _stream = one.open_ticket(open).await.unwrap();
    one.way.set(Way::Open);
    one.settles(&server).await;
    assert!(is_used(&two, open).await);
    age(&server, closed, Duration::from_secs(5)).await;
    assert!(is_used(&two, closed).await);
}

#[tokio::test]
async fn after_a_loss_of_data_a_used_ticket_is_used_again() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let (closed, open) = (ticket(), ticket());
    drop(one.open_ticket(closed).await.unwrap());
    let stream = one.open_ticket(open).await.unwrap();
    one.settles(&server).await;
    server.command(&["FLUSHALL"]).await;
    for ticket in [closed, open] {
        let exists = async || server.command(&["EXISTS", &key(ticket)]).await;
        until("the ticket", async || exists().await == redis::Value::Int(1)).await;
    }
    age(&server, closed, Duration::from_secs(5)).await;
    assert!(is_used(&two, closed).await && is_used(&two, open).await);
    assert!(one.ended().is_empty());
    drop(stream);
}

#[tokio::test]
async fn a_stream_that_its_subject_has_no_room_for_uses_no_ticket() {
    let server = RedisServer::start().await;
    let (one, two) = (Instance::start(&server, 1).await, Instance::start(&server, 2).await);
    let mut open = Vec::new();
    for _ in 0..LIMIT {
        open.push(one.open(&subject(0)).await.unwrap());
    }
    let ticket = ticket();
    let refused = one.open_with(Some(&subject(0)), Some(ticket)).await;
    assert_eq!(refused.err(), Some(NotAdmitted::SubjectLimit));
    one.settles(&server).await;
    let first = server.command(&["HEXISTS", &key(ticket), "first"]).await;
    assert_eq!(first, redis::Value::Int(0));
    assert!(two.open_ticket(ticket).await.is_ok());
}

#[tokio::test]
async fn a_ticket_takes_little_memory() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let ticket = ticket();
    let _open = one.open_ticket(ticket).await.unwrap();
    let bytes = server.command(&["MEMORY", "USAGE", &key(ticket)]).await;
    let bytes: u64 = redis::from_redis_value(bytes).unwrap();
    assert!(bytes <= 250, "{bytes}");
}
