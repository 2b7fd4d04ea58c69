//! The scripts of leases and tickets, call by call.

use std::time::Duration;

use vx11_kit::RedisServer;
use vx11_operator::store::{
    AdmissionStore, LeaseAnswer, ReleasedTicket, Renewal, SubjectKey, SubjectPolicy, TicketAnswer,
    TicketChange, TicketHolder, WantedLeases, WantedTicket,
};

use super::support::{Instance, LIMIT, stream, subject, ticket};

/// Time of Redis in ms.
async fn now(server: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(server.command(&["TIME"]).await).unwrap();
    seconds * 1000 + micros / 1000
}

fn leases_key() -> String {
    format!("{{vx11}}:subject:{}", SubjectKey::of(&subject(0)))
}

/// Leases for a stream that was opened some time ago.
async fn wanted(server: &RedisServer, age: Duration, replaces: bool) -> WantedLeases {
    WantedLeases {
        subject: SubjectKey::of(&subject(0)),
        streams: vec![(stream().to_string(), age)],
        limit: LIMIT,
        replaces,
        renewed: now(server).await,
        kept: Duration::from_mins(1),
    }
}

fn taken(refused: &[String], replaced: &[String]) -> LeaseAnswer {
    LeaseAnswer::Taken { refused: refused.to_vec(), replaced: replaced.to_vec() }
}

#[tokio::test]
async fn leases_of_a_former_session_are_void() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let at = now(&server).await;
    let former = format!("{at} {} {}", at - 60_000, one.field());
    for number in 0..LIMIT {
        server.command(&["HSET", &leases_key(), &number.to_string(), &former]).await;
    }
    let wanted = wanted(&server, Duration::ZERO, false).await;
    assert_eq!(one.way.take_leases(&wanted).await, Ok(taken(&[], &[])));
    let left = server.command(&["HLEN", &leases_key()]).await;
    assert_eq!(left, redis::Value::Int(1), "the void ones are removed");
}

#[tokio::test]
async fn the_oldest_stream_is_the_one_that_was_opened_first() {
    let server = RedisServer::start().await;
    let one = Instance::with(&server, 1, SubjectPolicy::ReplaceOldest).await;
    let mut streams = Vec::new();
    // Their leases are taken in another order.
    for seconds in [30, 50, 10, 40, 20] {
        let wanted = wanted(&server, Duration::from_secs(seconds), true).await;
        assert_eq!(one.way.take_leases(&wanted).await, Ok(taken(&[], &[])));
        streams.push(wanted.streams[0].0.clone());
    }
    for oldest in [1, 3, 0] {
        let wanted = wanted(&server, Duration::ZERO, true).await;
        let replaced = [streams[oldest].clone()];
        assert_eq!(one.way.take_leases(&wanted).await, Ok(taken(&[], &replaced)));
        // A repetition changes nothing.
        assert_eq!(one.way.take_leases(&wanted).await, Ok(taken(&[], &[])));
    }
}

#[tokio::test]
async fn leases_live_as_long_as_the_longest_stream_may() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let ttl = async || {
        let left = server.command(&["TTL", &leases_key()]).await;
        redis::from_redis_value::<u64>(left).unwrap()
    };
    let mut long = wanted(&server, Duration::ZERO, false).await;
    long.kept = Duration::from_mins(15);
    one.way.take_leases(&long).await.unwrap();
    assert!((950..=960).contains(&ttl().await));
    let short = wanted(&server, Duration::ZERO, false).await;
    one.way.take_leases(&short).await.unwrap();
    assert!(ttl().await > 900, "a shorter life does not shorten it");
}

#[tokio::test]
async fn an_alive_entry_keeps_its_session_until_it_is_given_up_and_says_what_is_settled() {
    let server = RedisServer::start().await;
    let mut one = Instance::start(&server, 1).await;
    one.pause();
    let renew = async |gives_up, settled| {
        let renewal = Renewal { gives_up, settled, ended: Vec::new() };
        one.way.renew(&renewal).await.unwrap()
    };
    let first = renew(false, 5).await;
    let entry = server.command_text(&["HGET", "{vx11}:alive", &one.field()]).await;
    assert_eq!(entry, format!("{} {} 5", first.at, first.session));
    assert_eq!(renew(false, 5).await.session, first.session);
    let mut last = first.session;
    // Several in one millisecond.
    for _ in 0..20 {
        let session = renew(true, 5).await.session;
        assert!(session > last);
        last = session;
    }
    one.age(&server, 2501).await;
    assert!(renew(false, 5).await.session > last);
}

#[tokio::test]
async fn alive_entries_of_instances_that_are_gone_are_removed() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let at = now(&server).await;
    let old = format!("{} 1 1", at - 600_001);
    server.command(&["HSET", "{vx11}:alive", "9 old", &old, "8 odd", "x", "replaced:1", "9 old"]).await;
    one.way.renew(&Renewal::default()).await.unwrap();
    let left = server.command(&["HKEYS", "{vx11}:alive"]).await;
    assert_eq!(redis::from_redis_value::<Vec<String>>(left).unwrap(), [one.field()]);
}

#[tokio::test]
async fn an_opening_that_is_undone_leaves_the_ticket_as_it_was() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    for was_open in [false, true] {
        let ticket = ticket();
        let key = format!("token:{}:ticket", ticket.digest);
        let take = async |holder: &str| {
            let wanted = WantedTicket {
                digest: ticket.digest,
                holder: one.way.holder(holder),
                age: Duration::ZERO,
                displaced: None,
                kept: Duration::from_mins(1),
            };
            one.way.take_ticket(&wanted).await.unwrap()
        };
        let release = async |holder: &str, is_undone| {
            let released = ReleasedTicket {
                digest: ticket.digest,
                holder: one.way.holder(holder),
                age: Duration::ZERO,
                is_undone,
                is_uncertain: false,
                kept: Duration::from_mins(1),
            };
            one.way.settle_tickets(&[TicketChange::Release(released)]).await.unwrap();
        };
        if was_open {
            take("a").await;
            release("a", false).await;
        }
        assert_eq!(take("b").await, TicketAnswer::Taken { is_first: !was_open });
        release("c", true).await;
        assert_eq!(take("c").await, TicketAnswer::Held(one.way.holder("b")), "another one is undone");
        release("b", true).await;
        let first = server.command(&["HEXISTS", &key, "first"]).await;
        assert_eq!(first, redis::Value::Int(was_open.into()));
        assert_eq!(take("c").await, TicketAnswer::Taken { is_first: !was_open });
    }
}

async fn first(server: &RedisServer, key: &str) -> u64 {
    server.command_text(&["HGET", key, "first"]).await.parse().unwrap()
}

#[tokio::test]
async fn a_ticket_remembers_its_first_opening_and_its_holder() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let ticket = ticket();
    let key = format!("token:{}:ticket", ticket.digest);
    let (mine, other) = (one.way.holder("a"), TicketHolder::stream("b", "2 b"));
    let take = async |holder: &TicketHolder, age| {
        let wanted = WantedTicket {
            digest: ticket.digest,
            holder: holder.clone(),
            age: Duration::from_secs(age),
            displaced: None,
            kept: Duration::from_mins(1),
        };
        one.way.take_ticket(&wanted).await.unwrap()
    };
    let release = async |holder: &TicketHolder, age| {
        let released = ReleasedTicket {
            digest: ticket.digest,
            holder: holder.clone(),
            age: Duration::from_secs(age),
            is_undone: false,
            is_uncertain: false,
            kept: Duration::from_mins(1),
        };
        one.way.settle_tickets(&[TicketChange::Release(released)]).await.unwrap();
    };
    let began = now(&server).await;
    assert_eq!(take(&mine, 2).await, TicketAnswer::Taken { is_first: true });
    let opened = first(&server, &key).await;
    assert!((began - 2000..=now(&server).await - 2000).contains(&opened));
    assert_eq!(take(&mine, 1).await, TicketAnswer::Taken { is_first: false });
    assert_eq!(first(&server, &key).await, opened, "a repetition");
    release(&other, 3).await;
    assert_eq!(take(&other, 0).await, TicketAnswer::Held(mine.clone()), "only its holder releases it");
    assert!(first(&server, &key).await < opened, "it was opened before, where Redis did not know it");
    // After five seconds the stream that is open stays, and nobody else opens it.
    server.command(&["HSET", &key, "first", &(began - 5000).to_string()]).await;
    assert_eq!(take(&mine, 9).await, TicketAnswer::Taken { is_first: false });
    assert_eq!(take(&other, 0).await, TicketAnswer::Used);
    release(&mine, 9).await;
    assert_eq!(take(&mine, 9).await, TicketAnswer::Used);
}

#[tokio::test]
async fn the_earliest_opening_of_a_ticket_counts_in_whatever_order_instances_settle() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1).await;
    let ticket = ticket();
    let key = format!("token:{}:ticket", ticket.digest);
    let take = async |age| {
        let wanted = WantedTicket {
            digest: ticket.digest,
            holder: one.way.holder("a"),
            age: Duration::from_secs(age),
            displaced: None,
            kept: Duration::from_mins(1),
        };
        one.way.take_ticket(&wanted).await.unwrap()
    };
    assert_eq!(take(1).await, TicketAnswer::Taken { is_first: true });
    let later = first(&server, &key).await;
    assert_eq!(take(4).await, TicketAnswer::Taken { is_first: false });
    let earliest = first(&server, &key).await;
    assert!(earliest < later - 2000);
    assert_eq!(take(0).await, TicketAnswer::Taken { is_first: false });
    assert_eq!(first(&server, &key).await, earliest);
}
