//! Bounds of lists of streams: what they leave in Redis, and how many are made at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;
use vx11_kit::until;

use super::streams_of_all::{complete, lacking, open, three};
use super::{Cluster, entries_in};
use crate::support::{Instance, problem};

const STREAMS: &str = "/operator/api/streams";
/// Number of lists that an instance makes at once.
const AT_ONCE: usize = 4;
/// Time in which a list waits for an instance that does not answer, with a margin.
const WAITS: Duration = Duration::from_millis(900);

/// Number of questions whose answers are in Redis.
async fn answered(cluster: &Cluster) -> usize {
    let keys = cluster.redis.command(&["KEYS", "{vx11}:answers:*"]).await;
    redis::from_redis_value::<Vec<String>>(keys).unwrap().len()
}

#[tokio::test]
async fn answers_leave_redis_with_the_list_and_late_ones_do_not_come() {
    let cluster = Cluster::start().await;
    let [one, two, _three] = three(&cluster).await;
    let _stream = open(&two, "user-7").await;
    complete(&one, &[]).await;
    assert_eq!(answered(&cluster).await, 0);
    two.suspend().await;
    lacking(&one, &[], &["2"]).await;
    assert_eq!(answered(&cluster).await, 0);
    // The list ends a moment before Redis takes no further answers.
    let ended = cluster.redis_millis().await;
    until("the deadline of answers", async || cluster.redis_millis().await > ended + 50).await;
    two.resume();
    complete(&one, &[]).await;
    assert_eq!(answered(&cluster).await, 0);
    // An order has answers, too.
    let order =
        one.post_as_principal("/operator/api/streams/end").json(&serde_json::json!({ "subject": "user-7" }));
    assert_eq!(order.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(answered(&cluster).await, 0);
}

#[tokio::test]
async fn lists_beyond_those_made_at_once_are_refused_with_a_time_to_return() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    complete(&one, &[]).await;
    two.suspend().await;
    let lists = join_all((0..AT_ONCE + 2).map(|_| one.get_as_principal(STREAMS).send())).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        lists.into_iter().map(Result::unwrap).partition(|answer| answer.status() == StatusCode::OK);
    assert_eq!((made.len(), refused.len()), (AT_ONCE, 2));
    for refused in refused {
        assert_eq!(refused.headers()["retry-after"], "1");
        problem(refused, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    }
    two.resume();
    complete(&one, &[]).await;
}

/// Statuses of lists of this instance alone, which wait for nobody.
async fn asked_again(instance: &Instance) -> Vec<StatusCode> {
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let list = instance.get_as_principal(STREAMS).query(&[("instance", "1")]);
        statuses.push(list.send().await.unwrap().status());
    }
    statuses
}

#[tokio::test]
async fn a_list_whose_client_hung_up_is_one_of_those_made_at_once_until_its_end() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    complete(&one, &[]).await;
    two.suspend().await;
    until("a list while four of clients that hung up are made", async || {
        let (began, before) = (Instant::now(), entries_in(&cluster, "{vx11}:questions").await);
        {
            let lists = join_all((0..AT_ONCE).map(|_| one.get_as_principal(STREAMS).send()));
            let asked = until("four questions", async || {
                entries_in(&cluster, "{vx11}:questions").await == before + AT_ONCE
            });
            tokio::select! {
                _ = lists => {}
                () = asked => {}
            }
        }
        let statuses = asked_again(&one).await;
        // Otherwise the machine was busy, and the four have ended meanwhile.
        let is_in_time = began.elapsed() < WAITS;
        assert!(
            !is_in_time || statuses.iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS),
            "{statuses:?}"
        );
        is_in_time
    })
    .await;
    until("the lists to end", async || {
        one.get_as_principal(STREAMS).query(&[("instance", "1")]).send().await.unwrap().status()
            == StatusCode::OK
    })
    .await;
}
