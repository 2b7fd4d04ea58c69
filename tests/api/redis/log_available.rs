//! The log can be out of reach while the store of tokens is well, and that shows.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Cluster, figures};
use crate::support::Panel;

/// Takes the right from every user, or gives it back, without which the log cannot be read and
/// tokens can be recorded.
async fn may_read_the_log(cluster: &Cluster, may: bool) {
    let right = if may { "+xrange" } else { "-xrange" };
    cluster.redis.command(&["ACL", "SETUSER", "default", right]).await;
}

#[tokio::test]
async fn an_instance_that_reaches_its_store_and_not_the_log_is_degraded_and_ready() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let state = async || {
        let health = one.get("/operator/api/health").send().await.unwrap();
        let health: Value = health.json().await.expect("JSON");
        ["status", "backend", "event_log_in_reach"].map(|name| health[name].clone())
    };
    let well = [json!("ok"), json!("redis"), json!(true)];
    vx11_kit::until("all to be well", async || state().await == well).await;
    may_read_the_log(&cluster, false).await;
    let without_log = [json!("degraded"), json!("redis"), json!(false)];
    vx11_kit::until("the log to be missed", async || state().await == without_log).await;
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(one.get(path).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
    assert_eq!(figures(&one).await["instance"]["event_log_in_reach"], json!(false));
    may_read_the_log(&cluster, true).await;
    vx11_kit::until("all to be well again", async || state().await == well).await;
}

#[tokio::test]
async fn the_panel_names_an_instance_that_reaches_its_store_and_not_the_log() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let panel = Panel::connected(&instance).await;
    let row = "#cluster-rows tr[data-instance='1']";
    panel.see_text(row, "redisbreaker closed").await;
    may_read_the_log(&cluster, false).await;
    panel.see_text(row, "redisevent log unavailable").await;
    panel.see_text("#degraded:not([hidden])", "degraded").await;
    panel.see("#log-problem:not([hidden])").await;
    may_read_the_log(&cluster, true).await;
    panel.see_text(row, "redisbreaker closed").await;
    panel.see("#degraded[hidden]").await;
    panel.see("#log-problem[hidden]").await;
    panel.close().await;
}
