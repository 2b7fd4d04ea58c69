//! A real Prometheus looks at a real cluster by the rules that ship, in a hurry: half a second
//! between two scrapes, ten seconds for five minutes.

mod alerts;
mod data;
mod traffic;

use vx11_kit::{Operator, Prometheus, Rule, Site, hurried};

use crate::cluster::Cluster;
use crate::dashboards::{Panel, panels, question};
use crate::expressions::selectors;

use alerts::{await_exactly, await_none};
pub(crate) use data::await_data;
pub(crate) use traffic::{LIFE, Traffic, service};

/// A cluster with clients, and Prometheus beside it.
pub(crate) async fn observed() -> (Cluster, Prometheus, Traffic) {
    let cluster = Cluster::start(LIFE, Site::default()).await;
    let addresses: Vec<_> = cluster.instances.iter().map(|instance| instance.address().to_owned()).collect();
    let prometheus = Prometheus::start(&addresses).await;
    let traffic = Traffic::steady(&cluster);
    await_data(&prometheus, &["sum(rate(vx11_operator_events_delivered_total[2s])) > 0".to_owned()]).await;
    (cluster, prometheus, traffic)
}

/// Result of a recording rule, as a selector.
fn recorded(rule: &Rule) -> String {
    let labels: Vec<_> = rule.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{}{{{}}}", rule.name, labels.join(","))
}

fn expressions(panels: impl Iterator<Item = Panel>) -> Vec<String> {
    panels.flat_map(|panel| panel.expressions).collect()
}

/// Waits until the first panel answers "is it all right?" like this: 0 yes, 1 degraded, 2 failing.
async fn await_answer(prometheus: &Prometheus, answer: u8) {
    await_data(prometheus, &[format!("{} == {answer}", hurried(&question()))]).await;
}

#[tokio::test]
async fn while_clients_are_served_every_rule_and_panel_says_something() {
    let (_cluster, prometheus, _traffic) = observed().await;
    let (alerts, records): (Vec<_>, Vec<_>) =
        prometheus.rules().await.into_iter().partition(|rule| rule.is_alert);
    assert!(alerts.len() > 40 && records.len() > 20, "{} alerts, {} records", alerts.len(), records.len());
    // An alert says nothing while all is well, but all that it looks at does.
    let asked = alerts.iter().flat_map(|alert| selectors(&alert.expression));
    let shown = expressions(panels().into_iter().filter(|panel| !panel.is_empty_while_all_is_well()));
    let all: Vec<_> = records.iter().map(recorded).chain(asked).chain(shown).collect();
    await_data(&prometheus, &all).await;
    await_answer(&prometheus, 0).await;
    let wrong: Vec<_> = prometheus.rules().await.into_iter().filter(|rule| rule.error.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn without_redis_three_alerts_fire_and_panels_that_were_empty_are_not_until_it_is_back() {
    let (mut cluster, prometheus, _traffic) = observed().await;
    cluster.redis.kill();
    await_exactly(&prometheus, &["RedisUnavailable", "EventLogOutOfReach", "EventsRefused"]).await;
    let were_empty = expressions(panels().into_iter().filter(Panel::is_empty_while_all_is_well));
    assert!(!were_empty.is_empty());
    await_data(&prometheus, &were_empty).await;
    await_answer(&prometheus, 1).await;
    cluster.redis.restart().await;
    await_none(&prometheus).await;
}

#[tokio::test]
async fn forged_tokens_make_the_alerts_on_refused_tokens_fire_and_burn_no_budget() {
    let (cluster, prometheus, _traffic) = observed().await;
    let service = service(&cluster);
    let mut forged = service.issue().await.unwrap().token;
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    let _flood = Traffic::many(20, move || {
        let (service, forged) = (service.clone(), forged.clone());
        async move { service.open_stream(&forged).await }
    });
    await_exactly(&prometheus, &["HighTokenValidationFailureRate", "SSEValidationFailureSpike"]).await;
}

#[tokio::test]
async fn issuing_too_fast_makes_the_alerts_on_issuing_fire() {
    let (cluster, prometheus, _traffic) = observed().await;
    let service = service(&cluster);
    let _flood = Traffic::many(150, move || {
        let service = service.clone();
        async move { service.issue().await }
    });
    let expected = ["ExcessiveSSETokenIssuance", "HighEphemeralTokenRequestRate", "UnusuallyHighCacheSize"];
    await_exactly(&prometheus, &expected).await;
}

#[tokio::test]
async fn a_killed_instance_makes_one_alert_fire_until_it_is_back() {
    let (mut cluster, prometheus, _traffic) = observed().await;
    cluster.instances[2].kill();
    await_exactly(&prometheus, &["VX11OperatorDown"]).await;
    await_answer(&prometheus, 1).await;
    cluster.instances[2].restart().await;
    await_none(&prometheus).await;
}

#[tokio::test]
async fn without_an_instance_two_alerts_fire_and_the_answer_is_failing_until_they_are_back() {
    let (mut cluster, prometheus, _traffic) = observed().await;
    cluster.instances.iter_mut().for_each(Operator::kill);
    await_exactly(&prometheus, &["VX11OperatorAllDown", "VX11OperatorDown"]).await;
    await_answer(&prometheus, 2).await;
    for instance in &mut cluster.instances {
        instance.restart().await;
    }
    await_none(&prometheus).await;
}

#[tokio::test]
async fn without_nginx_one_alert_fires_and_the_answer_is_failing_until_it_is_back() {
    let (mut cluster, prometheus, _traffic) = observed().await;
    await_data(&prometheus, &["job:vx11_client_requests:min15m * 300 > 20".to_owned()]).await;
    cluster.nginx.kill().await;
    await_exactly(&prometheus, &["RequestsNotArriving"]).await;
    await_answer(&prometheus, 2).await;
    cluster.nginx.restart().await;
    await_none(&prometheus).await;
    await_answer(&prometheus, 0).await;
}

#[tokio::test]
async fn while_redis_answers_and_takes_no_tokens_the_alerts_say_that_it_is_stuck() {
    let (cluster, prometheus, _traffic) = observed().await;
    // All keys but those of tokens.
    cluster.redis.command(&["ACL", "SETUSER", "default", "resetkeys", "~{vx11}:*", "~epoch:*"]).await;
    await_exactly(&prometheus, &["RedisUnavailable", "RedisBreakerFlapping", "ReconciliationStuck"]).await;
    cluster.redis.permit_data().await;
    await_data(&prometheus, &["max(vx11_operator_breaker_state) == 0".to_owned()]).await;
}
