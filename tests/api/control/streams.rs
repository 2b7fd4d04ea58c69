//! Listing and ending streams.

use serde_json::{Value, json};

use super::{END, Token, are_open, ends, issue, list, order, token_of};
use crate::support::{Instance, with_principals};

/// The values of a field in a list.
fn values<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    let streams = list["streams"].as_array().expect("a list");
    streams.iter().map(|stream| stream[field].as_str().unwrap_or("none")).collect()
}

#[tokio::test]
async fn a_list_has_each_open_stream_with_what_it_is_for_the_oldest_first() {
    let instance = Instance::with(&[("INSTANCE_ID", "seven")]).await;
    assert_eq!(list(&instance, &[]).await, json!({ "streams": [], "missing": [] }));
    let granted = issue(&instance, &json!({ "subject": "user-7", "topics": ["users/7/*", "news"] })).await;
    let plain = instance.issue().await;
    let first = instance.open_stream(&granted.text).await;
    let _others = [instance.open_stream(&plain.token).await, instance.open_stream(&instance.principal).await];
    let all = list(&instance, &[]).await;
    assert_eq!(all["missing"], json!([]));
    assert_eq!(all.get("more"), None, "{all}");
    assert_eq!(values(&all, "token_id"), [granted.id.as_str(), &plain.id, "none"]);
    assert_eq!(values(&all, "subject"), ["user-7", "none", "none"]);
    assert_eq!(values(&all, "principal"), ["operator"; 3]);
    assert_eq!(values(&all, "instance_id"), ["seven"; 3]);
    assert_eq!(all["streams"][0]["topics"], json!(["users/7/*", "news"]));
    assert_eq!(all["streams"][1]["topics"], json!(["default"]));
    let ids = values(&all, "stream_id");
    assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let opened = values(&all, "opened_at");
    assert!(opened.is_sorted() && opened.iter().all(|at| at.ends_with('Z')), "{opened:?}");
    // A stream that its client has closed is no longer open.
    drop(first);
    instance.metric_becomes("vx11_operator_sse_streams_open", 2).await;
    assert_eq!(values(&list(&instance, &[]).await, "subject"), ["none", "none"]);
}

#[tokio::test]
async fn a_list_has_the_streams_that_match_all_parameters_up_to_its_limit() {
    let (instance, credentials) = with_principals(&[("shop", &["subscribe"], &["*"])], "").await;
    let mut streams = Vec::new();
    for (subject, topics) in [("a", json!(["news"])), ("a", json!(["users/*"])), ("b", json!(["news"]))] {
        let token = issue(&instance, &json!({ "subject": subject, "topics": topics })).await;
        streams.push(instance.open_stream(&token.text).await);
    }
    streams.push(instance.open_stream(&credentials[0]).await);
    for (parameters, subjects) in [
        (&[][..], &["a", "a", "b", "none"][..]),
        (&[("subject", "a")], &["a", "a"]),
        (&[("topic", "news")], &["a", "b"]),
        (&[("topic", "users/7")], &["a"]),
        (&[("topic", "users")], &[]),
        (&[("subject", "a"), ("topic", "news")], &["a"]),
        (&[("principal", "shop")], &["none"]),
        (&[("principal", "operator"), ("subject", "b")], &["b"]),
        (&[("subject", "c")], &[]),
        (&[("instance", "1"), ("topic", "default")], &["none"]),
        (&[("instance", "2")], &[]),
    ] {
        let list = list(&instance, parameters).await;
        // Streams of the same millisecond are in any order.
        let mut found = values(&list, "subject");
        found.sort_unstable();
        assert_eq!(found, subjects, "{parameters:?}");
        assert_eq!(list.get("more"), None, "{parameters:?}");
    }
    for (limit, more) in [("3", Some(&json!(true))), ("4", None), ("10000", None)] {
        let list = list(&instance, &[("limit", limit)]).await;
        assert_eq!(list["streams"].as_array().unwrap().len(), limit.parse().unwrap_or(4).min(4));
        assert_eq!(list.get("more"), more, "{limit}");
    }
}

#[tokio::test]
async fn streams_end_by_each_selector_and_no_others_do() {
    let (instance, credentials) = with_principals(&[("shop", &["subscribe"], &["*"])], "").await;
    let mut others = [
        instance.open_stream(&instance.issue().await.token).await,
        instance.open_stream(&instance.principal).await,
    ];
    for by in ["subject", "token_id", "stream_id", "principal", "topic"] {
        let fields = json!({ "subject": "user-7", "topics": ["users/7/*"] });
        let Token { text, id } = issue(&instance, &fields).await;
        let is_principal = by == "principal";
        let mut stream = instance.open_stream(if is_principal { &credentials[0] } else { &text }).await;
        let selected = if is_principal { ("principal", "shop") } else { ("subject", "user-7") };
        let listed = list(&instance, &[selected]).await;
        let value = match by {
            "subject" => "user-7",
            "token_id" => &id,
            "stream_id" => values(&listed, "stream_id")[0],
            "principal" => "shop",
            _ => "users/7/orders",
        };
        let answer = order(&instance, END, &json!({ by: value })).await;
        assert_eq!(answer, json!({ "ended": 1, "effective": "cluster", "missing": [] }), "{by}");
        ends(&mut stream, "ended").await;
        // Again, there is nothing left to end.
        assert_eq!(order(&instance, END, &json!({ by: value })).await["ended"], 0, "{by}");
        // A token that is not revoked opens another stream.
        if !is_principal {
            drop(instance.open_stream(&text).await);
        }
        instance.metric_becomes("vx11_operator_sse_streams_open", 2).await;
    }
    instance.stream_ends_are("ended", 5).await;
    are_open(&instance, &mut others).await;
}

#[tokio::test]
async fn all_streams_of_a_subject_end_at_once() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let token = token_of(&instance, "user-7").await;
        for _ in 0..10 {
            streams.push(instance.open_stream(&token.text).await);
        }
    }
    let mut other = [instance.open_stream(&token_of(&instance, "user-70").await.text).await];
    assert_eq!(order(&instance, END, &json!({ "subject": "user-7" })).await["ended"], 50);
    for stream in &mut streams {
        ends(stream, "ended").await;
    }
    are_open(&instance, &mut other).await;
}
