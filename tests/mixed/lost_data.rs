//! Redis loses its data while both releases run. An instance of this release that lives brings all
//! events back, with their topics.

use serde_json::json;
use vx11_kit::{Answer, EventStream, Operator, RedisServer};

use crate::cluster::{
    Mixed, acknowledged, granted, is_reused, next_ids, of_default, of_topics, plain, publish, publish_under,
    resumed,
};

/// Topics of an event that streams of both releases read.
const OF_BOTH: [&str; 2] = ["default", "orders/2"];

/// Ids of the events that were acknowledged, in order.
#[derive(Default)]
struct Published {
    of_default: Vec<String>,
    of_orders: Vec<String>,
    all: Vec<String>,
}

impl Published {
    /// Publishes on both instances, to `default`, to a topic, and to both.
    async fn some(&mut self, cluster: &Mixed, count: usize) {
        for number in 0..count {
            let (on, topics): (&Operator, &[&str]) = match number % 4 {
                0 => (&cluster.old, &[]),
                1 => (&cluster.new, &[]),
                2 => (&cluster.new, &["orders/1"]),
                _ => (&cluster.new, &OF_BOTH),
            };
            let id = publish(on, topics, &json!(number)).await;
            if topics != ["orders/1"] {
                self.of_default.push(id.clone());
            }
            if !topics.is_empty() {
                self.of_orders.push(id.clone());
            }
            self.all.push(id);
        }
    }
}

/// Loses the data twice between events. Streams that are open get every event of their topics once
/// and in order, and nothing else, and so do streams that resume.
async fn nothing_is_lost(lose: impl AsyncFn(&mut RedisServer)) {
    let mut cluster = Mixed::start().await;
    let mut of_the_old = of_default(&cluster.old).await;
    let mut of_the_new = of_default(&cluster.new).await;
    let mut of_orders = of_topics(&cluster.new, &["orders/*"]).await;
    let mut of_all = of_topics(&cluster.new, &["*"]).await;

    let mut published = Published::default();
    published.some(&cluster, 20).await;
    for _ in 0..2 {
        lose(&mut cluster.redis).await;
        published.some(&cluster, 12).await;
    }
    let Published { of_default: default, of_orders: orders, all } = &published;
    for stream in [&mut of_the_old, &mut of_the_new] {
        assert_eq!(next_ids(stream, default.len()).await, *default);
    }
    assert_eq!(next_ids(&mut of_orders, orders.len()).await, *orders);
    assert_eq!(next_ids(&mut of_all, all.len()).await, *all);

    let late = cluster.late().await;
    let first = &all[0];
    for instance in [&cluster.old, &cluster.new, &late[0], &late[1]] {
        let mut stream = resumed(instance, &plain(instance).await, first).await;
        assert_eq!(next_ids(&mut stream, default.len() - 1).await, default[1..]);
    }
    for instance in [&cluster.new, &late[1]] {
        let mut stream = resumed(instance, &granted(instance, &["orders/*"]).await.token, first).await;
        assert_eq!(next_ids(&mut stream, orders.len()).await, *orders);
        let mut stream = resumed(instance, &granted(instance, &["*"]).await.token, first).await;
        assert_eq!(next_ids(&mut stream, all.len() - 1).await, all[1..]);
    }

    // Nothing follows on any stream but the next event of its topics.
    let last = publish(&cluster.new, &OF_BOTH, &json!("the last")).await;
    let streams: [&mut EventStream; 4] = [&mut of_the_old, &mut of_the_new, &mut of_orders, &mut of_all];
    for stream in streams {
        assert_eq!(next_ids(stream, 1).await, std::slice::from_ref(&last));
    }
}

#[tokio::test]
async fn no_event_is_lost_and_none_is_foreign_after_a_flush() {
    nothing_is_lost(async |redis: &mut RedisServer| redis.flush().await).await;
}

#[tokio::test]
async fn no_event_is_lost_and_none_is_foreign_after_redis_was_killed_and_came_back_empty() {
    nothing_is_lost(async |redis: &mut RedisServer| redis.restart().await).await;
}

#[tokio::test]
async fn a_key_is_known_with_its_topics_after_redis_has_lost_it() {
    let mut cluster = Mixed::start().await;
    let mut stream = of_default(&cluster.old).await;
    let data = json!({ "order": 2 });
    let id = acknowledged("key", &cluster.new, &OF_BOTH, &data).await;
    // The other instance holds it, too, without topics, and may bring it back first.
    assert_eq!(next_ids(&mut stream, 1).await, [id.to_string()]);
    for _ in 0..2 {
        cluster.redis.restart().await;
        publish(&cluster.old, &[], &json!(1)).await;
        let again = publish_under("key", &cluster.new, &OF_BOTH, &data).await;
        assert_eq!(again, Answer::Acknowledged { id, replayed: true });
        assert!(is_reused(&publish_under("key", &cluster.old, &[], &data).await));
    }
}
