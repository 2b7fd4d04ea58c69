//! The streams of all instances: their list, and ending them everywhere.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::EventStream;

use super::{Cluster, backend_becomes};
use crate::support::{Instance, issue_with};

/// Bound of the time in which an instance waits for the answers of the others, with its own time to
/// answer on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// The list with these parameters.
async fn list(instance: &Instance, parameters: &[(&str, &str)]) -> Value {
    let request = instance.get_as_principal("/operator/api/streams").query(parameters);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{parameters:?}");
    response.json().await.unwrap()
}

/// Ends streams; returns the answer.
async fn end(instance: &Instance, selector: &Value) -> Value {
    let request = instance.post_as_principal("/operator/api/streams/end").json(selector);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{selector}");
    response.json().await.unwrap()
}

/// Subject and instance of each stream in a list.
fn streams(list: &Value) -> Vec<(String, String)> {
    let text = |stream: &Value, field: &str| stream[field].as_str().unwrap_or("none").to_owned();
    let streams = list["streams"].as_array().unwrap().iter();
    streams.map(|stream| (text(stream, "subject"), text(stream, "instance_id"))).collect()
}

fn of(subject: &str, instance: &str) -> (String, String) {
    (subject.to_owned(), instance.to_owned())
}

fn missing(list: &Value) -> BTreeSet<&str> {
    list["missing"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// Opens a stream for a subject.
pub(super) async fn open(instance: &Instance, subject: &str) -> EventStream {
    let issued = issue_with(instance, &json!({ "subject": subject })).await;
    instance.open_stream(issued["sse_token"].as_str().unwrap()).await
}

async fn ends(stream: &mut EventStream, reason: &str) {
    let last = stream.rest().await.pop().expect("a last frame");
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!(reason)));
}

/// Asserts that a stream of `default` is open.
async fn is_open(instance: &Instance, stream: &mut EventStream) {
    let data = json!(super::random_hex());
    instance.publish(data.clone()).await;
    while stream.next_published().await.json() != data {}
}

pub(super) async fn three(cluster: &Cluster) -> [Instance; 3] {
    [cluster.instance("1").await, cluster.instance("2").await, cluster.instance("3").await]
}

/// Waits until a list is complete, and returns it: on a busy machine an instance may be late.
pub(super) async fn complete(instance: &Instance, parameters: &[(&str, &str)]) -> Value {
    lacking(instance, parameters, &[]).await
}

/// Waits until exactly these instances are missing in a list, and returns it.
pub(super) async fn lacking(instance: &Instance, parameters: &[(&str, &str)], absent: &[&str]) -> Value {
    vx11_kit::eventually(&format!("a list in which {absent:?} are missing"), async || {
        let list = list(instance, parameters).await;
        missing(&list).into_iter().eq(absent.iter().copied()).then_some(list)
    })
    .await
}

#[tokio::test]
async fn every_instance_lists_the_open_streams_of_all_the_oldest_first() {
    let cluster = Cluster::start().await;
    let instances = three(&cluster).await;
    let [one, two, three] = &instances;
    let mut open_streams = vec![open(three, "c").await, open(one, "a").await, open(two, "b").await];
    let all = [of("c", "3"), of("a", "1"), of("b", "2")];
    for instance in &instances {
        let list = complete(instance, &[]).await;
        assert_eq!((streams(&list), list.get("more")), (all.to_vec(), None));
        let limited = complete(instance, &[("limit", "2")]).await;
        assert_eq!((streams(&limited), &limited["more"]), (all[..2].to_vec(), &json!(true)));
        for (parameters, found) in [
            (&[("subject", "b")][..], &all[2..]),
            (&[("instance", "3")], &all[..1]),
            (&[("topic", "default"), ("instance", "1")], &all[1..2]),
            (&[("topic", "other")], &[]),
            (&[("principal", "operator")], &all),
            (&[("principal", "nobody")], &[]),
        ] {
            assert_eq!(streams(&complete(instance, parameters).await), found, "{parameters:?}");
        }
    }
    open_streams.remove(0);
    vx11_kit::until("the closed stream to leave the list", async || {
        streams(&complete(one, &[]).await) == all[1..]
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_is_stopped_or_killed_is_named_as_missing() {
    let cluster = Cluster::start().await;
    let [one, two, three] = three(&cluster).await;
    let _streams = [open(&one, "a").await, open(&two, "b").await, open(&three, "c").await];
    two.suspend().await;
    let shown = lacking(&one, &[], &["2"]).await;
    assert_eq!(streams(&shown), [of("a", "1"), of("c", "3")]);
    let began = Instant::now();
    list(&one, &[]).await;
    assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
    // Also when its member record is outdated: its streams are still open.
    vx11_kit::until("the stopped one to leave the view of the cluster", async || {
        super::figures(&one).await["cluster"].as_array().unwrap().len() == 2
    })
    .await;
    lacking(&one, &[], &["2"]).await;
    two.resume();
    complete(&one, &[]).await;
    three.kill().await;
    lacking(&one, &[], &["3"]).await;
    // Another start of the same instance is the one that was missing.
    let _three = cluster.instance("3").await;
    assert_eq!(streams(&complete(&one, &[]).await), [of("a", "1"), of("b", "2")]);
}

#[tokio::test]
async fn an_instance_that_was_stopped_in_order_is_missing_in_no_list_and_a_killed_one_is() {
    let cluster = Cluster::start().await;
    let [one, mut two, three] = three(&cluster).await;
    let streams_of_one = [open(&one, "a").await, open(&one, "b").await];
    let _of_the_others = [open(&two, "a").await, open(&three, "c").await];
    let issued = two.issue().await;
    complete(&one, &[]).await;
    two.terminate();
    two.ended().await;
    let shown = list(&one, &[]).await;
    assert_eq!(
        (streams(&shown), missing(&shown)),
        (vec![of("a", "1"), of("b", "1"), of("c", "3")], [].into())
    );
    let answer = end(&one, &json!({ "subject": "b" })).await;
    assert_eq!(answer, json!({ "ended": 1, "effective": "cluster", "missing": [] }));
    // Its tokens count until they expire.
    assert!(one.introspect(&issued.token).await["active"] == json!(true));
    three.kill().await;
    lacking(&one, &[], &["3"]).await;
    drop(streams_of_one);
}

#[tokio::test]
async fn while_redis_is_away_an_instance_lists_its_streams_and_names_all_others_as_missing() {
    let mut cluster = Cluster::start().await;
    let [one, two, _three] = three(&cluster).await;
    let _streams = [open(&one, "a").await, open(&two, "b").await];
    vx11_kit::until("all in the view of the cluster", async || {
        super::figures(&one).await["cluster"].as_array().unwrap().len() == 3
    })
    .await;
    cluster.redis.kill();
    let at_once = list(&one, &[]).await;
    assert_eq!((streams(&at_once), missing(&at_once)), (vec![of("a", "1")], ["2", "3"].into()));
    backend_becomes(&one, "fallback-memory").await;
    let began = Instant::now();
    let shown = list(&one, &[]).await;
    assert_eq!((streams(&shown), missing(&shown)), (vec![of("a", "1")], ["2", "3"].into()));
    assert!(began.elapsed() < Duration::from_secs(1), "nobody is waited for who cannot answer");
    cluster.redis.restart().await;
    assert_eq!(streams(&complete(&one, &[]).await), [of("a", "1"), of("b", "2")]);
}

#[tokio::test]
async fn an_order_ends_streams_on_all_instances_counts_them_and_ends_no_others() {
    let cluster = Cluster::start().await;
    let instances = three(&cluster).await;
    let (mut ended, mut others) = (Vec::new(), Vec::new());
    for instance in &instances {
        for _ in 0..5 {
            ended.push(open(instance, "user-7").await);
        }
        others.push(open(instance, "user-70").await);
        others.push(instance.open_stream(&instance.issue().await.token).await);
    }
    let answer = end(&instances[0], &json!({ "subject": "user-7" })).await;
    assert_eq!(answer, json!({ "ended": 15, "effective": "cluster", "missing": [] }));
    for stream in &mut ended {
        ends(stream, "ended").await;
    }
    for stream in &mut others {
        is_open(&instances[0], stream).await;
    }
    // One that is opened afterwards stays, also when the order is read late.
    let mut later = open(&instances[2], "user-7").await;
    is_open(&instances[1], &mut later).await;
}

#[tokio::test]
async fn an_order_that_an_instance_was_cut_off_from_ends_its_streams_after_the_cut() {
    let cluster = Cluster::start().await;
    let one = &cluster.instance("1").await;
    let (two, way) = &cluster.instance_with_way("2", &[]).await;
    let mut stream = open(two, "user-7").await;
    let mut other = open(two, "user-70").await;
    way.black_hole();
    backend_becomes(two, "fallback-memory").await;
    let answer = end(one, &json!({ "subject": "user-7" })).await;
    assert_eq!(answer, json!({ "ended": 0, "effective": "cluster", "missing": ["2"] }));
    is_open_without_the_log(two, "user-7").await;
    way.pass();
    ends(&mut stream, "ended").await;
    backend_becomes(two, "redis").await;
    is_open(one, &mut other).await;
}

/// Asserts that a subject has a stream on an instance that is cut off.
async fn is_open_without_the_log(instance: &Instance, subject: &str) {
    assert_eq!(streams(&list(instance, &[("subject", subject)]).await).len(), 1);
}

#[tokio::test]
async fn openings_and_ends_of_streams_are_events_where_that_is_configured() {
    let cluster = Cluster::start().await;
    let setting = [("VX11_OPERATOR__EVENTS__STREAM_TOPICS", "true")];
    let (one, two) = (cluster.instance_with("1", &setting).await, cluster.instance_with("2", &setting).await);
    let request = one.get("/operator/api/events/stream").header("X-VX11-Token", &one.principal);
    let response = request.query(&[("topic", "$streams/*")]).send().await.unwrap();
    let mut watching = EventStream::connected(response).await;
    let opened_by_itself = watching.next_published().await.json();
    assert_eq!(opened_by_itself["topics"], json!(["$streams/*"]));
    let mut stream = open(&two, "user-7").await;
    let opened = watching.next_published().await.json();
    let listed = complete(&one, &[("subject", "user-7")]).await["streams"][0].clone();
    assert_eq!(opened, listed);
    end(&one, &json!({ "subject": "user-7" })).await;
    ends(&mut stream, "ended").await;
    let mut closed = listed;
    closed["reason"] = json!("ended");
    assert_eq!(watching.next_published().await.json(), closed);
}

/// Any program with access to Redis may have written them.
#[tokio::test]
async fn questions_and_answers_that_cannot_be_read_are_passed_over_and_counted() {
    let cluster = Cluster::start().await;
    let instances = [cluster.instance("1").await, cluster.instance("2").await];
    let _stream = open(&instances[1], "user-7").await;
    for fields in [&["kind", "list"][..], &["\\xff", "\\xfe"], &["kind", "list", "id", "x", "limit", "1"]] {
        let command = [&["XADD", "{vx11}:questions", "*"], fields].concat();
        cluster.redis.command(&command).await;
    }
    assert_eq!(streams(&complete(&instances[0], &[]).await), [of("user-7", "2")]);
    instances[1].metric_becomes("vx11_operator_orders_invalid_total", 3).await;
}
