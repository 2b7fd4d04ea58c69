//! The view of the cluster that every instance reports.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, backend_becomes, figures};
use crate::support::Instance;

/// Names of the instances that this one lists.
async fn listed(instance: &Instance) -> Vec<String> {
    let figures = figures(instance).await;
    let members = figures["cluster"].as_array().expect("a list").clone();
    members.iter().map(|member| member["instance_id"].as_str().expect("a name").to_owned()).collect()
}

async fn cache_size_becomes(instance: &Instance, size: u64) {
    vx11_kit::until(&format!("{size} tokens"), async || figures(instance).await["cache_size"] == json!(size))
        .await;
}

#[tokio::test]
async fn each_instance_shows_all_their_tokens_and_their_streams() {
    let cluster = Cluster::start().await;
    // None expires on a busy machine while it is counted.
    let life = [("EPHEMERAL_TOKEN_TTL_SEC", "900")];
    let (one, two) = (cluster.instance_with("1", &life).await, cluster.instance_with("2", &life).await);
    let issued = one.issue().await;
    for _ in 0..4 {
        two.issue().await;
    }
    let _stream = two.open_stream(&issued.token).await;
    for instance in [&one, &two] {
        cache_size_becomes(instance, 5).await;
        vx11_kit::until("both in the list", async || listed(instance).await == ["1", "2"]).await;
        vx11_kit::until("the figures of both", async || {
            let figures = figures(instance).await;
            let of = |index: usize| {
                (figures["cluster"][index]["active"].clone(), figures["cluster"][index]["streams"].clone())
            };
            (of(0), of(1)) == ((json!(1), json!(0)), (json!(4), json!(1)))
        })
        .await;
    }
    let stats = figures(&one).await;
    assert!(stats["redis_memory_bytes"].as_u64().unwrap() > 100_000);
    assert!(stats["redis_ops_per_sec"].is_u64());
    let sample = stats["sample_tokens"].as_array().unwrap();
    assert!(sample.contains(&Value::from(issued.id)) && sample.len() <= 5, "{sample:?}");
    let revoke = two.post_as_principal("/operator/api/tokens/revoke");
    revoke.form(&[("token", &issued.token)]).send().await.unwrap();
    cache_size_becomes(&one, 4).await;
}

#[tokio::test]
async fn an_instance_that_died_leaves_the_list_while_its_tokens_count_on() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    for _ in 0..3 {
        two.issue().await;
    }
    vx11_kit::until("both in the list", async || listed(&one).await == ["1", "2"]).await;
    cache_size_becomes(&one, 3).await;
    two.kill().await;
    vx11_kit::until("the dead one to leave", async || listed(&one).await == ["1"]).await;
    assert_eq!(figures(&one).await["cache_size"], json!(3));
}

/// Commands that an instance sends by itself: for its health checks, for its record, and to read
/// the log. `SELECT` is from the monitor.
const BY_ITSELF: [&str; 15] = [
    "EVAL", "EXISTS", "EXPIRE", "HDEL", "HGET", "HGETALL", "HSET", "INFO", "PING", "SELECT", "SET", "TIME",
    "UNWATCH", "XRANGE", "XREAD",
];

/// Names of commands, each once.
fn names(commands: &[String]) -> BTreeSet<&str> {
    commands.iter().filter_map(|line| line.split('"').nth(1)).collect()
}

/// Number of requests for figures, at least.
const ASKED: usize = 50;

/// Asks for figures until every command of `BY_ITSELF` was seen; all commands that Redis was sent
/// meanwhile.
async fn asked_meanwhile(cluster: &Cluster, instance: &Instance) -> Vec<String> {
    let monitor = cluster.redis.monitor().await;
    for _ in 0..ASKED {
        figures(instance).await;
    }
    vx11_kit::until("all that an instance asks by itself", async || {
        figures(instance).await;
        let commands = monitor.lines().await;
        let seen = names(&commands);
        BY_ITSELF.iter().all(|name| seen.contains(name))
    })
    .await;
    monitor.stop().await
}

#[tokio::test]
async fn figures_walk_no_keyspace_and_ask_redis_nothing() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let mut commands = asked_meanwhile(&cluster, &instance).await;
    // On a busy machine an instance may connect again, which takes other commands. Not every time.
    for _ in 0..5 {
        if names(&commands) == BTreeSet::from(BY_ITSELF) {
            break;
        }
        commands = asked_meanwhile(&cluster, &instance).await;
    }
    assert_eq!(names(&commands), BTreeSet::from(BY_ITSELF));
    let count =
        |command: &str| commands.iter().filter(|line| line.contains(&format!("\"{command}\""))).count();
    // Health checks go on meanwhile, however long that takes: each asks once for the time and once
    // for the figures. The event log asks twice a second which Redis it is. Requests for figures
    // ask Redis nothing.
    assert!(count("INFO") < count("TIME") + ASKED / 2, "{commands:?}");
    // One exchange may have begun before, and another end afterwards.
    assert!(count("HGETALL").abs_diff(count("HSET")) <= 1, "{commands:?}");
}

#[tokio::test]
async fn while_redis_is_away_an_instance_shows_itself() {
    let mut cluster = Cluster::start().await;
    let (one, _two) = (cluster.instance("1").await, cluster.instance("2").await);
    vx11_kit::until("both in the list", async || listed(&one).await == ["1", "2"]).await;
    cluster.redis.kill();
    backend_becomes(&one, "fallback-memory").await;
    vx11_kit::until("the other to leave", async || listed(&one).await == ["1"]).await;
}

#[tokio::test]
async fn a_clock_that_differs_from_that_of_redis_is_measured_and_warned_about_once() {
    let cluster = Cluster::start().await;
    let right = cluster.instance("1").await;
    let library = faketime();
    let wrong = cluster
        .instance_with(
            "2",
            &[("LD_PRELOAD", library.as_str()), ("FAKETIME", "+5s"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")],
        )
        .await;
    wrong.logs("the clocks of this instance and of Redis differ").await;
    let skew = async |instance: &Instance| {
        let page = instance.get("/metrics").send().await.unwrap().text().await.unwrap();
        let line =
            page.lines().find(|line| line.starts_with("vx11_operator_redis_clock_skew_seconds{")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // Measured to half the time that an answer of Redis takes; a busy machine may make one
    // measurement worthless.
    vx11_kit::until("the difference to be shown", async || (skew(&wrong).await - 5.0).abs() < 0.5).await;
    vx11_kit::until("no difference to be shown", async || skew(&right).await.abs() < 0.5).await;
    assert_eq!(wrong.log_text().matches("the clocks of this instance and of Redis differ").count(), 1);
    assert!(!right.log_text().contains("the clocks of this instance and of Redis differ"));
}

/// The library that offsets the clock of a process.
fn faketime() -> String {
    let found = glob("/usr/lib", "faketime/libfaketime.so.1");
    found.expect("libfaketime is installed (make test does that)")
}

/// The file with this ending in `folder` or in one of the folders in it.
fn glob(folder: &str, ending: &str) -> Option<String> {
    let folders = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut candidates =
        std::iter::once(folder.into()).chain(folders).map(|folder: std::path::PathBuf| folder.join(ending));
    candidates.find(|path| path.exists()).map(|path| path.display().to_string())
}
