//! Deployments that have a Redis in common: each keeps to its own, and one that is given the data
//! of another stays away from it and says why.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;

use super::{Cluster, backend_becomes, figures, revoke};
use crate::support::{Instance, file, planted, problem};

/// Whose data it is.
const DEPLOYMENT: &str = "{vx11}:deployment";
const HEARTBEATS: &str = "{vx11}:instances";
const NAMESPACE: &str = "VX11_OPERATOR__REDIS__NAMESPACE";
const SIGNING_KEYS: &str = "VX11_OPERATOR_SIGNING_KEYS";
const SIGNING_KEYS_FILE: &str = "VX11_OPERATOR_SIGNING_KEYS_FILE";
const OTHER_DEPLOYMENT: &str = "vx11_operator_store_faults_total{reason=\"other_deployment\"";

/// An instance of another deployment, with another principal and other signing keys.
async fn stranger(cluster: &Cluster, id: &str, settings: &[(&str, &str)]) -> Instance {
    let principal = planted();
    let own = [("VX11_PRINCIPAL_TOKEN", principal.as_str())];
    cluster.instance_with(id, &[&own, settings].concat()).await
}

/// Waits until the instance has asked a few times more whose data it is.
async fn asks_again(instance: &Instance) {
    let before = instance.metric(OTHER_DEPLOYMENT).await;
    vx11_kit::until("it to ask again", async || instance.metric(OTHER_DEPLOYMENT).await >= before + 4).await;
}

/// The names in a hash.
async fn names(cluster: &Cluster, hash: &str) -> BTreeSet<String> {
    let names: Vec<String> =
        redis::from_redis_value(cluster.redis.command(&["HKEYS", hash]).await).expect("names");
    names.into_iter().collect()
}

#[tokio::test]
async fn an_instance_of_another_deployment_neither_joins_the_log_nor_writes_and_says_why() {
    let cluster = Cluster::start().await;
    let ours = cluster.instance("ours").await;
    backend_becomes(&ours, "redis").await;
    let token = ours.issue().await;
    let monitor = cluster.redis.monitor().await;

    let mut theirs = stranger(&cluster, "theirs", &[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1")]).await;
    let health = theirs.get("/health/ready").send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK, "it serves on its own memory");
    theirs.logs("belongs to another deployment").await;
    let issued = theirs.issue().await;
    assert_eq!(theirs.introspect(&issued.token).await["active"], json!(true));
    let mut stream = theirs.open_stream(&issued.token).await;
    let publish = theirs.post_as_principal("/operator/api/events").json(&json!({"data": "theirs"}));
    problem(publish.send().await.unwrap(), StatusCode::SERVICE_UNAVAILABLE, "log_unavailable").await;
    assert_eq!(revoke(&theirs, ("token_id", &token.id)).await, json!({"effective": "instance"}));
    ours.publish(json!({"iban": "of production"})).await;
    asks_again(&theirs).await;

    assert_eq!(ours.introspect(&token.token).await["active"], json!(true), "it revokes nothing of ours");
    let stats = figures(&theirs).await;
    assert_eq!(stats["backend"], "fallback-memory");
    assert_eq!(stats["cluster"].as_array().unwrap().len(), 1, "it sees itself alone: {stats}");
    let health = theirs.get("/operator/api/health").send().await.unwrap();
    assert_eq!(health.json::<serde_json::Value>().await.unwrap()["status"], "degraded");
    theirs.terminate();
    let frames = stream.rest().await;
    assert!(frames.iter().all(|frame| !frame.data.contains("iban")), "{frames:?}");
    assert!(theirs.ended().await.success());

    let commands = monitor.stop().await;
    for its in ["theirs", issued.id.as_str()] {
        assert!(commands.iter().all(|line| !line.contains(its)), "{its}: {commands:#?}");
    }
    let heartbeats = names(&cluster, HEARTBEATS).await;
    assert!(heartbeats.iter().all(|name| name.starts_with("ours ")), "{heartbeats:?}");
    assert_eq!(names(&cluster, DEPLOYMENT).await.len(), 2, "a key of ours, and the schema");
    let log = theirs.log_text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("another deployment")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for words in ["ERROR", "redis.namespace", "REDIS_DB", SIGNING_KEYS] {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
    assert!(!log.contains("the event log is available"), "it does not enter the log");
    assert!(!ours.log_text().contains("another deployment"), "ours notices nothing");
}

#[tokio::test]
async fn a_deployment_may_have_more_keys_than_a_call_of_redis_takes_values_from_lua() {
    let cluster = Cluster::start().await;
    // Lua 5.1 unpacks fewer than 8,000 values; a key takes two of them.
    let keys: Vec<_> = (0..5_000).map(|n| format!("{n:064x}")).collect();
    let (_folder, keys) = file(&keys.join("\n"));
    let gone: Vec<_> = (0..10_000).flat_map(|n| [format!("gone{n}"), "1".to_owned()]).collect();
    let command = [&["HSET".to_owned(), DEPLOYMENT.to_owned()], gone.as_slice()].concat();
    cluster.redis.command(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let instance = cluster.instance_with("1", &[(SIGNING_KEYS_FILE, &keys)]).await;
    backend_becomes(&instance, "redis").await;
    let named = names(&cluster, DEPLOYMENT).await;
    assert_eq!(named.len(), 5_001, "each key, and the schema");
    assert!(!named.iter().any(|name| name.starts_with("gone")));
}

#[tokio::test]
async fn two_namespaces_share_a_database_without_meeting() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let two = stranger(&cluster, "2", &[(NAMESPACE, "staging-2")]).await;
    let mut tokens = Vec::new();
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
        let issued = instance.issue().await;
        vx11_kit::until("a revocation of the whole cluster", async || {
            let issued = instance.issue().await;
            revoke(instance, ("token_id", &issued.id)).await == json!({"effective": "cluster"})
        })
        .await;
        tokens.push(issued);
    }
    let mut streams = [one.open_stream(&tokens[0].token).await, two.open_stream(&tokens[1].token).await];
    for (n, instance) in [&one, &two].into_iter().enumerate() {
        instance.publish(json!(n)).await;
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.next_published().await.data, n.to_string(), "each gets what its own published");
    }
    for instance in [&one, &two] {
        let stats = figures(instance).await;
        assert_eq!(
            (stats["cluster"].as_array().unwrap().len(), &stats["warnings"]),
            (1, &json!([])),
            "{stats}"
        );
        assert_eq!(instance.metric(OTHER_DEPLOYMENT).await, 0);
    }
    let keys = cluster.redis.keys().await;
    let (others, ours): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| key.starts_with("staging-2:") || key.starts_with("{staging-2}:"));
    for name in ["token:", "revoked:", "epoch:"] {
        assert!(ours.iter().any(|key| key.starts_with(name)), "{name}: {ours:?}");
        assert!(others.iter().any(|key| key.starts_with(&format!("staging-2:{name}"))), "{name}: {others:?}");
    }
    for name in ["deployment", "events", "instances", "log", "revocations"] {
        assert!(ours.contains(&&format!("{{vx11}}:{name}")), "{name}: {ours:?}");
        assert!(others.contains(&&format!("{{staging-2}}:{name}")), "{name}: {others:?}");
    }
    let known = ["token:", "revoked:", "epoch:", "{vx11}:"];
    assert!(ours.iter().all(|key| known.iter().any(|begins| key.starts_with(begins))), "{ours:?}");
}

#[tokio::test]
async fn instances_that_share_one_key_are_one_deployment() {
    let cluster = Cluster::start().await;
    let [first, second, third] = [(); 3].map(|()| planted());
    let (old, both) = (format!("{first},{second}"), format!("{third},{second}"));
    let one = cluster.instance_with("1", &[(SIGNING_KEYS, &old)]).await;
    backend_becomes(&one, "redis").await;
    let two = cluster.instance_with("2", &[(SIGNING_KEYS, &both)]).await;
    backend_becomes(&two, "redis").await;
    assert_eq!(names(&cluster, DEPLOYMENT).await.len(), 4, "three keys, and the schema");
    // The first key may go: the identity has moved on.
    one.kill().await;
    let three = cluster.instance_with("3", &[(SIGNING_KEYS, &third)]).await;
    backend_becomes(&three, "redis").await;
    for instance in [&two, &three] {
        assert_eq!(instance.metric(OTHER_DEPLOYMENT).await, 0);
    }
}

#[tokio::test]
async fn of_two_deployments_that_come_at_once_one_gets_the_database() {
    let cluster = Cluster::start().await;
    let both = tokio::join!(stranger(&cluster, "1", &[]), stranger(&cluster, "2", &[]));
    vx11_kit::until("one of them to use Redis and one to say why it does not", async || {
        let of = async |instance: &Instance| {
            (figures(instance).await["backend"] == "redis", instance.metric(OTHER_DEPLOYMENT).await > 0)
        };
        let found = (of(&both.0).await, of(&both.1).await);
        [((true, false), (false, true)), ((false, true), (true, false))].contains(&found)
    })
    .await;
    assert_eq!(names(&cluster, HEARTBEATS).await.len(), 1);
}

/// A heartbeat as releases wrote it that named no keys.
async fn old_heartbeat(cluster: &Cluster) {
    let time: Vec<String> = redis::from_redis_value(cluster.redis.command(&["TIME"]).await).unwrap();
    let heartbeat = json!({
        "at": time[0].parse::<u64>().unwrap() * 1000, "active": 3, "streams": 2, "first": 1, "lives": [], "sample": [],
    });
    let name = "old 00000000000000aa";
    cluster.redis.command(&["HSET", HEARTBEATS, name, &heartbeat.to_string()]).await;
}

#[tokio::test]
async fn an_instance_of_the_previous_release_beside_it_is_not_another_deployment() {
    let cluster = Cluster::start().await;
    old_heartbeat(&cluster).await;
    let instance = cluster.instance("1").await;
    backend_becomes(&instance, "redis").await;
    let row = vx11_kit::eventually("the old instance in the list", async || {
        old_heartbeat(&cluster).await;
        let stats = figures(&instance).await;
        assert_eq!(stats["warnings"], json!([]));
        let rows = stats["cluster"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["instance_id"] == "old")
    })
    .await;
    assert_eq!((&row["active"], &row["version"]), (&json!(3), &json!(null)));
    assert_eq!(instance.metric(OTHER_DEPLOYMENT).await, 0);
}

#[tokio::test]
async fn a_deployment_that_is_gone_leaves_the_database_to_the_next() {
    let cluster = Cluster::start().await;
    let ours = cluster.instance("1").await;
    backend_becomes(&ours, "redis").await;
    let theirs = stranger(&cluster, "2", &[]).await;
    asks_again(&theirs).await;
    ours.kill().await;
    backend_becomes(&theirs, "redis").await;
    theirs.publish(json!(1)).await;
    assert_eq!(names(&cluster, DEPLOYMENT).await.len(), 2, "a key of theirs, and the schema");
}

#[tokio::test]
async fn after_a_loss_of_data_the_deployment_that_was_there_comes_first() {
    let cluster = Cluster::start().await;
    let ours = cluster.instance("1").await;
    backend_becomes(&ours, "redis").await;
    let theirs = stranger(&cluster, "2", &[]).await;
    for _ in 0..3 {
        asks_again(&theirs).await;
        cluster.redis.flush().await;
        vx11_kit::until("ours to be back", async || !names(&cluster, DEPLOYMENT).await.is_empty()).await;
    }
    asks_again(&theirs).await;
    backend_becomes(&ours, "redis").await;
    assert_eq!(ours.metric(OTHER_DEPLOYMENT).await, 0);
}

#[tokio::test]
async fn a_newer_schema_keeps_an_instance_out() {
    let cluster = Cluster::start().await;
    cluster.redis.command(&["HSET", DEPLOYMENT, "schema", "2"]).await;
    let instance = cluster.instance("1").await;
    instance.logs("written by a later release (schema 2)").await;
    vx11_kit::until("it to be counted", async || {
        instance.metric("vx11_operator_store_faults_total{reason=\"newer_schema\"").await > 3
    })
    .await;
    instance.issue().await;
    assert_eq!(figures(&instance).await["backend"], "fallback-memory");
    assert_eq!(cluster.redis.keys().await, [DEPLOYMENT]);
    assert_eq!(names(&cluster, DEPLOYMENT).await, BTreeSet::from(["schema".to_owned()]));
    cluster.redis.command(&["HSET", DEPLOYMENT, "schema", "1"]).await;
    backend_becomes(&instance, "redis").await;
}

#[tokio::test]
async fn a_full_redis_can_be_claimed_so_that_its_log_can_make_room() {
    let cluster = Cluster::start().await;
    cluster.redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;
    let instance = cluster.instance("1").await;
    instance.logs("the memory is full").await;
    assert_eq!(names(&cluster, DEPLOYMENT).await.len(), 2);
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    backend_becomes(&instance, "redis").await;
}

/// Waits until the instance warns of exactly this.
async fn warns(instance: &Instance, warnings: &[(&str, &str)]) {
    let warnings: Vec<_> =
        warnings.iter().map(|(warning, id)| json!({"warning": warning, "instance_id": id})).collect();
    vx11_kit::until("the warnings", async || figures(instance).await["warnings"] == json!(warnings)).await;
}

#[tokio::test]
async fn settings_that_differ_between_instances_are_warned_about() {
    let cluster = Cluster::start().await;
    let [first, second] = [(); 2].map(|()| planted());
    let both = format!("{first},{second}");
    let one = cluster.instance_with("1", &[(SIGNING_KEYS, &first)]).await;
    let two = cluster.instance_with("2", &[(SIGNING_KEYS, &both), ("EPHEMERAL_TOKEN_TTL_SEC", "30")]).await;
    warns(&one, &[("other_signing_keys", "2"), ("other_token_life", "2")]).await;
    warns(&two, &[("other_signing_keys", "1"), ("other_token_life", "1")]).await;
    for instance in [&one, &two] {
        instance.logs("accepts other signing keys than this one").await;
        instance.logs("gives tokens another lifetime than this one").await;
    }
    let versions = figures(&one).await["cluster"].clone();
    let version = json!(env!("CARGO_PKG_VERSION"));
    assert!(versions.as_array().unwrap().iter().all(|row| row["version"] == version), "{versions}");
    two.kill().await;
    warns(&one, &[]).await;
}

#[tokio::test]
async fn keys_that_a_reload_replaces_are_in_the_claim_and_compared_with_those_of_the_others() {
    let cluster = Cluster::start().await;
    let [old, new] = [(); 2].map(|()| planted());
    let (_folder, keys) = file(&old);
    let one = cluster.instance_with("1", &[(SIGNING_KEYS_FILE, &keys)]).await;
    let two = cluster.instance_with("2", &[(SIGNING_KEYS, &old)]).await;
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
    }
    let claimed = names(&cluster, DEPLOYMENT).await;
    std::fs::write(&keys, format!("{old}\n{new}\n")).unwrap();
    one.hang_up();
    warns(&one, &[("other_signing_keys", "2")]).await;
    warns(&two, &[("other_signing_keys", "1")]).await;
    vx11_kit::until("the claim to name both keys", async || {
        let named = names(&cluster, DEPLOYMENT).await;
        named.len() == claimed.len() + 1 && named.is_superset(&claimed)
    })
    .await;
    // The old key still signs, so that the other instance accepts the token.
    let issued = one.issue().await;
    assert_eq!(two.introspect(&issued.token).await["active"], json!(true));
    std::fs::write(&keys, &old).unwrap();
    one.hang_up();
    for instance in [&one, &two] {
        warns(instance, &[]).await;
        backend_becomes(instance, "redis").await;
    }
}

#[tokio::test]
async fn an_instance_id_used_twice_is_warned_about() {
    let cluster = Cluster::start().await;
    let (one, twin) = (cluster.instance("1").await, cluster.instance("1").await);
    let other = cluster.instance("2").await;
    for instance in [&one, &twin, &other] {
        warns(instance, &[("instance_id_used_twice", "1")]).await;
        instance.logs("two instances have this name").await;
    }
    twin.kill().await;
    for instance in [&one, &other] {
        warns(instance, &[]).await;
    }
}
