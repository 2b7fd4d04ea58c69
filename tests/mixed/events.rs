//! Events on streams of both releases.

use serde_json::json;
use vx11_kit::Answer;

use crate::cluster::{
    Mixed, acknowledged, beginning, granted, is_reused, next_ids, of_default, of_topics, plain, publish,
    publish_under, resumed,
};

#[tokio::test]
async fn an_event_to_a_topic_reaches_streams_of_this_release_only_and_resets_none() {
    let cluster = Mixed::start().await;
    let (old, new) = (&cluster.old, &cluster.new);
    let mut of_the_old = of_default(old).await;
    let mut of_the_new = of_default(new).await;
    let mut of_one = of_topics(new, &["orders/1"]).await;
    let mut of_orders = of_topics(new, &["orders/*"]).await;
    let mut of_all = of_topics(new, &["*"]).await;

    let one = publish(new, &["orders/1"], &json!(1)).await;
    let other = publish(new, &["orders/2"], &json!(2)).await;
    let both = publish(new, &["orders/1", "default"], &json!(3)).await;
    let foreign = publish(new, &["users/7"], &json!(4)).await;
    let last_of_old = publish(old, &[], &json!(5)).await;
    let last_of_new = publish(new, &[], &json!(6)).await;
    let last = publish(new, &["orders/1", "orders/2"], &json!(7)).await;

    for stream in [&mut of_the_old, &mut of_the_new] {
        assert_eq!(next_ids(stream, 3).await, [&both, &last_of_old, &last_of_new].map(String::as_str));
    }
    assert_eq!(next_ids(&mut of_one, 3).await, [&one, &both, &last].map(String::as_str));
    assert_eq!(next_ids(&mut of_orders, 4).await, [&one, &other, &both, &last].map(String::as_str));
    let all = [one, other, both, foreign, last_of_old, last_of_new, last];
    assert_eq!(next_ids(&mut of_all, all.len()).await, all);
    // The last event was of other topics: nothing is between it and the next one.
    let end = publish(old, &[], &json!(8)).await;
    for stream in [&mut of_the_old, &mut of_the_new] {
        assert_eq!(next_ids(stream, 1).await, std::slice::from_ref(&end));
    }
}

#[tokio::test]
async fn events_of_default_reach_both_releases_in_one_order_and_are_resumed_on_both() {
    let cluster = Mixed::start().await;
    let mut streams = Vec::new();
    for instance in cluster.both() {
        streams.push(of_default(instance).await);
    }
    let (mut all, mut default, mut orders) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..24 {
        let data = json!(number);
        let id = match number % 4 {
            0 => publish(&cluster.old, &[], &data).await,
            1 => publish(&cluster.new, &[], &data).await,
            2 => publish(&cluster.new, &["default", "orders/1"], &data).await,
            _ => publish(&cluster.new, &["orders/1"], &data).await,
        };
        if number % 4 != 3 {
            default.push(id.clone());
        }
        if number % 4 >= 2 {
            orders.push(id.clone());
        }
        all.push(id);
    }
    for stream in &mut streams {
        assert_eq!(next_ids(stream, default.len()).await, default);
    }
    // From the rings of the two, and from the log on instances that have just started.
    let late = cluster.late().await;
    for instance in [&cluster.old, &cluster.new, &late[0], &late[1]] {
        let mut stream = resumed(instance, &plain(instance).await, &all[0]).await;
        assert_eq!(next_ids(&mut stream, default.len() - 1).await, default[1..]);
    }
    for instance in [&cluster.new, &late[1]] {
        // The position is that of an event which this stream may not read.
        let mut stream = resumed(instance, &granted(instance, &["orders/*"]).await.token, &all[0]).await;
        assert_eq!(next_ids(&mut stream, orders.len()).await, orders);
    }
}

#[tokio::test]
async fn a_stream_begins_with_earlier_events_of_both_releases() {
    let cluster = Mixed::start().await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let publisher = cluster.both()[number % 2];
        ids.push(publish(publisher, &[], &json!(number)).await);
    }
    publish(&cluster.new, &["orders/1"], &json!("of another topic")).await;
    let late = cluster.late().await;
    for instance in [&cluster.new, &late[1]] {
        for (from, expected) in [("start", &ids[..]), ("-2", &ids[4..]), ("-1000", &ids)] {
            let token = plain(instance).await;
            let mut stream = beginning(instance, &token, from).await;
            assert_eq!(next_ids(&mut stream, expected.len()).await, expected, "{from}");
        }
    }
}

#[tokio::test]
async fn the_previous_release_publishes_nothing_that_names_a_topic() {
    let cluster = Mixed::start().await;
    let mut streams = [of_default(&cluster.old).await, of_topics(&cluster.new, &["*"]).await];
    for topics in [&["orders/1"][..], &["default"], &["default", "orders/1"]] {
        let answer = publish_under("key", &cluster.old, topics, &json!(1)).await;
        assert!(matches!(&answer, Answer::Unanswered(words) if words.contains("bad_request")), "{answer:?}");
    }
    let next = publish(&cluster.old, &[], &json!(2)).await;
    for stream in &mut streams {
        assert_eq!(next_ids(stream, 1).await, std::slice::from_ref(&next));
    }
}

#[tokio::test]
async fn an_idempotency_key_holds_on_both_releases_and_for_the_same_topics_only() {
    let cluster = Mixed::start().await;
    let (old, new, data) = (&cluster.old, &cluster.new, json!({ "order": 1 }));
    for (key, publisher) in [("of-the-old", old), ("of-the-new", new)] {
        let id = acknowledged(key, publisher, &[], &data).await;
        for instance in cluster.both() {
            let again = publish_under(key, instance, &[], &data).await;
            assert_eq!(again, Answer::Acknowledged { id, replayed: true }, "{key}");
        }
        assert!(is_reused(&publish_under(key, new, &["orders/1"], &data).await), "{key}");
    }
    for topics in [&["orders/1"][..], &["default", "orders/1"]] {
        let key = topics.join("-");
        let id = acknowledged(&key, new, topics, &data).await;
        let again = publish_under(&key, new, topics, &data).await;
        assert_eq!(again, Answer::Acknowledged { id, replayed: true }, "{key}");
        assert!(is_reused(&publish_under(&key, old, &[], &data).await), "{key}");
    }
}
