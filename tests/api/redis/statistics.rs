//! `vx11-operator stats` of instances that share a Redis, through nginx as people ask it.

use serde_json::{Value, json};
use vx11_kit::Nginx;

use super::{Cluster, backend_becomes};
use crate::support::{Instance, Terminal};

const PAGE: &str = include_str!("../../../docs/command-line.md");
const HEADINGS: &str = "INSTANCE  BACKEND  BREAKER  TOKENS  STREAMS  SEEN";

async fn nginx(instances: &[Instance]) -> Nginx {
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_owned()).collect();
    Nginx::start(&addresses).await
}

async fn three(cluster: &Cluster) -> Vec<Instance> {
    vec![cluster.instance("1").await, cluster.instance("2").await, cluster.instance("3").await]
}

fn terminal(nginx: &Nginx, cluster: &Cluster) -> Terminal {
    Terminal::bare()
        .with("VX11_OPERATOR_URL", &nginx.balancer())
        .with("VX11_PRINCIPAL_TOKEN", &cluster.principal)
}

/// Asks for JSON until it is so.
async fn until(what: &str, terminal: &Terminal, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    vx11_kit::until(what, async || {
        let ended = terminal.run(&["stats", "--json"]).await;
        assert_eq!(ended.code, 0, "{}", ended.errors);
        last = serde_json::from_str(&ended.output).unwrap();
        is_so(&last)
    })
    .await;
    last
}

/// Name, backend and breaker of each row.
fn states(stats: &Value) -> Vec<Value> {
    let rows = stats["instances"].as_array().unwrap().iter();
    rows.map(|row| json!([row["instance_id"], row["own"]["backend"], row["own"]["breaker"]])).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn each_instance_is_asked_and_has_a_row() {
    let cluster = Cluster::start().await;
    let instances = three(&cluster).await;
    let nginx = nginx(&instances).await;
    let terminal = terminal(&nginx, &cluster);
    let issued = instances[1].issue().await;
    instances[2].issue().await;
    let _stream = instances[1].open_stream(&issued.token).await;
    let stats = until("both tokens and the stream", &terminal, |stats| {
        (&stats["cache_size"], &stats["streams"]) == (&json!(2), &json!(1))
            && stats["instances"].as_array().is_some_and(|rows| rows.len() == 3)
    })
    .await;
    let closed = |id: &str| json!([id, "redis", "closed"]);
    assert_eq!(states(&stats), [closed("1"), closed("2"), closed("3")]);
    assert!(stats["redis_memory_bytes"].as_u64().unwrap() > 100_000 && stats["redis_ops_per_sec"].is_u64());

    // The tokens of all are counted by the one that answered last, which may have heard of the
    // others a second ago; on a busy machine an answer may be older.
    let mut output = String::new();
    vx11_kit::until("the last to know of both tokens, and three new answers", async || {
        let ended = terminal.run(&["stats"]).await;
        assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
        output = ended.output;
        output.starts_with("backend redis   tokens 2   streams 1   Redis ")
            && output.lines().skip(2).all(|line| line.ends_with("  now"))
    })
    .await;
    let lines: Vec<_> = output.lines().collect();
    assert!(lines[0].ends_with(" commands/s"), "{}", lines[0]);
    assert_eq!(lines[1], HEADINGS);
    assert!(PAGE.lines().any(|line| words(line) == words(HEADINGS)), "the page shows the table as it is");
    assert_eq!(words(lines[2]), ["1", "redis", "closed", "0", "0", "now"]);
    assert_eq!(words(lines[3]), ["2", "redis", "closed", "1", "1", "now"]);
    assert_eq!(words(lines[4]), ["3", "redis", "closed", "1", "0", "now"]);
    assert_eq!(lines.len(), 5);
}

#[tokio::test]
async fn of_an_instance_that_only_others_tell_of_backend_and_breaker_are_not_known() {
    let cluster = Cluster::start().await;
    let (one, _two) = (cluster.instance("1").await, cluster.instance("2").await);
    let direct = Terminal::of(&one);
    let stats = until("the other", &direct, |stats| stats["instances"][1]["instance_id"] == "2").await;
    assert_eq!(stats["instances"][1]["own"], Value::Null);
    let output = direct.run(&["stats"]).await.output;
    let rows: Vec<_> = output.lines().skip(2).map(words).collect();
    assert_eq!(rows[0][..3], ["1", "redis", "closed"]);
    assert_eq!(rows[1][..3], ["2", "?", "?"]);
}

#[tokio::test]
async fn a_killed_instance_is_shown_as_gone_and_the_others_as_before() {
    let cluster = Cluster::start().await;
    let mut instances = three(&cluster).await;
    let nginx = nginx(&instances).await;
    let terminal = terminal(&nginx, &cluster);
    let mut watch = terminal.start(&["stats", "--watch", "1"]);
    while !words(&watch.line().await).starts_with(&["3", "redis", "closed", "0", "+0", "0"]) {}
    instances.remove(2).kill().await;
    loop {
        let line = watch.line().await;
        assert!(!line.starts_with("no answer"), "{line}");
        if line.contains("not seen for ") {
            assert_eq!(words(&line)[..6], ["3", "-", "-", "-", "-", "gone,"]);
            break;
        }
    }
    let stats = until("the dead one to leave", &terminal, |stats| {
        stats["instances"].as_array().is_some_and(|rows| rows.len() == 2)
    })
    .await;
    let closed = |id: &str| json!([id, "redis", "closed"]);
    assert_eq!(states(&stats), [closed("1"), closed("2")]);
}

#[tokio::test]
async fn an_instance_cut_off_from_redis_is_named_with_the_time_until_it_is_back() {
    let cluster = Cluster::start().await;
    let (two, way) = cluster.instance_with_way("2", &[]).await;
    let instances = [cluster.instance("1").await, two];
    let nginx = nginx(&instances).await;
    let terminal = terminal(&nginx, &cluster);
    way.refuse();
    backend_becomes(&instances[1], "fallback-memory").await;
    instances[1].issue().await;
    let stats = until("the record that waits", &terminal, |stats| {
        stats["instances"][1]["own"]["fallback_entries"] == json!(1)
    })
    .await;
    assert_eq!(states(&stats)[0], json!(["1", "redis", "closed"]));
    assert_eq!(stats["backends"], json!(["fallback-memory", "redis"]));
    assert!(stats["redis_memory_bytes"].is_u64(), "the other still sees Redis");
    let since = stats["degraded_since"].as_str().expect("a time");
    assert_eq!(since, stats["instances"][1]["own"]["degraded_since"]);
    let ended = terminal.run(&["stats"]).await;
    let lines: Vec<_> = ended.output.lines().collect();
    assert_eq!(lines[1], format!("degraded since {since}: instance 2"));
    assert_eq!(lines[2], "records that wait for Redis: 1");
    way.pass();
    until("it to be back", &terminal, |stats| stats["degraded_since"] == Value::Null).await;
}

#[tokio::test]
async fn while_redis_is_unavailable_each_instance_is_shown_by_its_own_answer() {
    let mut cluster = Cluster::start().await;
    let instances = three(&cluster).await;
    let nginx = nginx(&instances).await;
    let terminal = terminal(&nginx, &cluster);
    instances[0].issue().await;
    cluster.redis.kill();
    let cut_off = |stats: &Value, id: &str| {
        states(stats).iter().any(|row| *row == json!([id, "fallback-memory", "open"]))
    };
    // Heartbeats are believed for three seconds. An instance that has not noticed yet may answer
    // before the others, with figures of Redis for all.
    let stats = until("all to be cut off, and none to have figures of Redis", &terminal, |stats| {
        ["1", "2", "3"].iter().all(|id| cut_off(stats, id))
            && stats["instances"].as_array().is_some_and(|rows| rows.len() == 3)
            && stats["redis_memory_bytes"] == Value::Null
    })
    .await;
    assert_eq!(stats["backends"], json!(["fallback-memory"]));
    assert_eq!(stats["cache_size"], json!(1), "what each has issued is what there is");
}
