//! The panel of instances that share a Redis, through nginx where there are several.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use vx11_kit::Nginx;

use super::Cluster;
use crate::support::{Browser, Instance, Panel};

/// Instances named 1, 2, …, and nginx in front of them.
async fn balanced(cluster: &Cluster, count: usize) -> (Vec<Instance>, Nginx) {
    let mut instances = Vec::new();
    for number in 1..=count {
        instances.push(cluster.instance(&number.to_string()).await);
    }
    let nginx = nginx(&instances).await;
    (instances, nginx)
}

async fn nginx(instances: &[Instance]) -> Nginx {
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_owned()).collect();
    Nginx::start(&addresses).await
}

/// A panel behind nginx, signed in and connected.
async fn connected(nginx: &Nginx, cluster: &Cluster, browser: Browser) -> Panel {
    let panel = Panel::open_at(&nginx.balancer(), browser).await;
    panel.sign_in(&cluster.principal).await;
    panel.see_open().await;
    panel
}

/// A selector of the row of an instance.
fn row(id: &str) -> String {
    format!("#cluster-rows tr[data-instance='{id}']")
}

/// Publishes a number under a separate key, until it is accepted.
async fn publish(instance: &Instance, number: usize) {
    vx11_kit::until("the event to be taken", async || {
        let request = instance.post_as_principal("/operator/api/events");
        let request = request.header("Idempotency-Key", format!("number-{number}"));
        let answer = request.json(&json!({ "data": number })).send().await.unwrap();
        answer.status() == StatusCode::ACCEPTED
    })
    .await;
}

/// Publishes the numbers from 0 on, 20 a second.
async fn publish_numbers(instance: &Instance, count: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..count {
        ticks.tick().await;
        publish(instance, number).await;
    }
}

/// Waits until the newest event that the panel shows is this number.
async fn newest_is(panel: &Panel, number: usize) {
    let shown = "document.querySelector('#events li:first-child .event-data')?.textContent";
    panel.until(&format!("{shown} === '{number}'")).await;
}

#[tokio::test]
async fn two_browsers_on_one_cluster_see_every_number_once_and_the_kill_of_an_instance_as_one_reconnect() {
    // Fewer than the panel shows.
    const NUMBERS: usize = 150;
    let cluster = Cluster::start().await;
    let (mut instances, nginx) = balanced(&cluster, 3).await;
    let (one, two) = (Browser::start().await, Browser::start().await);
    let panels = [connected(&nginx, &cluster, one).await, connected(&nginx, &cluster, two).await];
    let mut served_by = Vec::new();
    for panel in &panels {
        served_by.push(panel.text("#instance").await);
    }
    let killed = served_by[0].clone();
    let victim = instances.remove(killed.parse::<usize>().unwrap() - 1);

    let publishing = publish_numbers(&instances[0], NUMBERS);
    let killing = async {
        for panel in &panels {
            panel.until("document.querySelectorAll('#events li').length > 40").await;
        }
        victim.kill().await;
    };
    tokio::join!(publishing, killing);

    let all: Vec<_> = (0..NUMBERS).rev().map(|number| number.to_string()).collect();
    for (panel, instance) in panels.iter().zip(&served_by) {
        newest_is(panel, NUMBERS - 1).await;
        assert_eq!(panel.events().await, json!(all), "every number, once, the newest first");
        assert_eq!(panel.history("reset").await, []);
        let reconnects = panel.history("reconnect").await;
        if *instance == killed {
            let [(what, why)] = reconnects.try_into().expect("one line");
            let begins = format!("Reconnected from instance {killed} to instance ");
            assert!(what.starts_with(&begins), "{what}");
            assert!(why.starts_with("the connection was cut; resumed after "), "{why}");
            assert!(why.ends_with(", nothing missed"), "{why}");
        } else {
            assert_eq!(reconnects, []);
        }
    }
    panels[0].screenshot("after-a-kill").await;
    for panel in panels {
        panel.close().await;
    }
}

#[tokio::test]
async fn every_instance_is_shown_with_what_it_said_last_and_one_that_is_gone_as_gone() {
    let cluster = Cluster::start().await;
    let (mut instances, nginx) = balanced(&cluster, 3).await;
    let panel = connected(&nginx, &cluster, Browser::start().await).await;
    for id in ["1", "2", "3"] {
        panel.see_text(&row(id), "redisbreaker closed").await;
    }
    panel.see_text("#count-instances", "3").await;
    let serving = panel.text("#instance").await;
    panel.see_text(&row(&serving), "this stream").await;

    let gone = if serving == "3" { "2" } else { "3" };
    instances.remove(gone.parse::<usize>().unwrap() - 1).kill().await;
    panel.see_text(&format!("{}.gone", row(gone)), "not seen for").await;
    panel.see_text("#count-instances", "2 of 3").await;
    assert_eq!(panel.value("document.querySelectorAll('#cluster-rows .gone').length").await, json!(1));
    panel.see_text(&row(gone), "redisbreaker closed").await;
    panel.screenshot("an-instance-gone").await;
    panel.resize(400, 1500).await;
    assert_eq!(panel.sideways().await, json!(0));
    panel.screenshot("an-instance-gone-narrow").await;
    panel.close().await;
}

#[tokio::test]
async fn streams_are_shown_for_each_instance_as_a_number_and_as_a_length() {
    let cluster = Cluster::start().await;
    let (instances, nginx) = balanced(&cluster, 2).await;
    let panel = connected(&nginx, &cluster, Browser::start().await).await;
    let serving = panel.text("#instance").await.parse::<usize>().unwrap() - 1;
    let (busy, idle) = (&instances[serving], &instances[1 - serving]);
    panel.see_text("#count-streams", "1").await;
    assert_eq!(panel.value("document.querySelector('#cluster-summary').textContent").await, json!(""));
    let mut streams = Vec::new();
    for _ in 0..7 {
        streams.push(busy.open_stream(&busy.issue().await.token).await);
    }
    streams.push(idle.open_stream(&idle.issue().await.token).await);
    streams.push(idle.open_stream(&idle.issue().await.token).await);
    panel.see_text("#cluster-summary", "10 streams: 2 to 8 on an instance, 5 each if spread evenly").await;
    panel.see_text("#count-streams", "10").await;
    let width = |at: usize| {
        format!(
            "document.querySelector(\"{} .share\").style.getPropertyValue('--share')",
            row(&(at + 1).to_string())
        )
    };
    assert_eq!(panel.value(&width(serving)).await, json!("1"));
    assert_eq!(panel.value(&width(1 - serving)).await, json!("0.25"));
    panel.close().await;
}

#[tokio::test]
async fn an_instance_cut_off_from_redis_is_named_until_it_is_back() {
    let cluster = Cluster::start().await;
    let (two, way) = cluster.instance_with_way("2", &[]).await;
    let instances = [cluster.instance("1").await, two];
    let nginx = nginx(&instances).await;
    let panel = connected(&nginx, &cluster, Browser::start().await).await;
    // However busy it is, and whichever serves this stream, each is heard.
    panel.see_text(&row("2"), "redisbreaker closed").await;
    way.refuse();
    panel.see_text("#degraded:not([hidden])", "degraded: instance 2").await;
    panel.see_text(&row("2"), "fallback-memorybreaker open").await;
    panel.see_text(&row("1"), "redisbreaker closed").await;
    panel.see_text("#backend", "redis on 1 of 2").await;
    panel.screenshot("an-instance-cut-off").await;
    way.pass();
    panel.see_text(&row("2"), "redisbreaker closed").await;
    panel.see("#degraded[hidden]").await;
    panel.close().await;
}

#[tokio::test]
async fn while_the_log_is_away_the_panel_says_so_keeps_its_stream_and_publishes_once_when_it_is_back() {
    let mut cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let panel = Panel::connected(&instance).await;
    instance.publish(json!("before")).await;
    panel.see_event("before").await;
    cluster.redis.kill();
    panel.see_history("degraded", "Event log unavailable").await;
    panel.see_text("#log-problem:not([hidden])", "The event log is unavailable to instance 1 since").await;
    panel.screenshot("log-unavailable").await;
    panel.publish("message", &json!("meanwhile")).await;
    panel.see_text("#publish-result", "Try 2 of 5 in ").await;

    cluster.redis.restart().await;
    panel.see_history("recovered", "Event log available again after ").await;
    panel.see("#log-problem[hidden]").await;
    panel.see_text("#publish-result", "Published as ").await;
    panel.see_event("meanwhile").await;
    assert_eq!(panel.events().await, json!([r#""meanwhile""#, r#""before""#]));
    assert_eq!(panel.text("#reconnects").await, "0");
    assert_eq!(panel.history("reconnect").await, []);
    assert_eq!(panel.history("reset").await, []);
    panel.close().await;
}

/// Positions of the parts of the page that must not move, and whether the right column has to be
/// scrolled.
const PLACES: &str = "[
    ...['main', '.stats', '.cluster', '.events', '.side', '.history'].map((part) => {
        const { top, bottom } = document.querySelector(part).getBoundingClientRect();
        return [part, Math.round(top), Math.round(bottom)];
    }),
    document.querySelector('.side').scrollHeight > document.querySelector('.side').clientHeight,
]";

#[tokio::test]
async fn nothing_moves_and_nothing_is_green_while_redis_is_away() {
    let mut cluster = Cluster::start().await;
    let (instances, nginx) = balanced(&cluster, 3).await;
    let panel = Panel::open_at(&nginx.balancer(), Browser::start().await).await;
    panel.resize(1280, 757).await;
    panel.sign_in(&cluster.principal).await;
    panel.see_open().await;
    for id in ["1", "2", "3"] {
        panel.see_text(&row(id), "redisbreaker closed").await;
    }
    let colour = "getComputedStyle(document.querySelector('#state')).color";
    let good = panel.value(colour).await;
    let before = panel.value(PLACES).await;
    panel.screenshot("small-window").await;

    cluster.redis.kill();
    panel.see_history("degraded", "Event log unavailable").await;
    panel.see_text("#state[data-state=open]", "log unavailable").await;
    panel.see_text("#degraded:not([hidden])", "degraded: instance ").await;
    panel.see_text("#backend", "fallback-memory").await;
    assert_ne!(panel.value(colour).await, good);
    assert_eq!(panel.value(PLACES).await, before, "what moved");
    let newest_is_on_screen =
        "document.querySelector('#history li').getBoundingClientRect().bottom <= innerHeight";
    assert_eq!(panel.value(newest_is_on_screen).await, json!(true));
    panel.publish("message", &json!("meanwhile")).await;
    panel.see_text("#publish-result", "Try 2 of 5 in ").await;
    assert_eq!(panel.value(newest_is_on_screen).await, json!(true));
    panel.screenshot("small-window-log-unavailable").await;
    panel.resize(390, 844).await;
    assert_eq!(panel.sideways().await, json!(0));
    panel.screenshot("phone-log-unavailable").await;
    // Every try was answered that nothing was published.
    panel.see_text("#publish-result", "Not published. The event log is unavailable").await;

    cluster.redis.restart().await;
    panel.see_text("#state[data-state=open]:not([data-degraded])", "connected").await;
    drop(instances);
    panel.close().await;
}

#[tokio::test]
async fn a_panel_opened_while_the_log_is_unavailable_shows_that_at_once() {
    let mut cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    cluster.redis.kill();
    super::backend_becomes(&instance, "fallback-memory").await;
    let panel = Panel::connected(&instance).await;
    panel
        .see_history("degraded", "instance 1 cannot reach it (log_unavailable); the stream stays open")
        .await;
    panel.see("#log-problem:not([hidden])").await;
    cluster.redis.restart().await;
    panel.see_history("recovered", "Event log available again after ").await;
    panel.see("#log-problem[hidden]").await;
    panel.close().await;
}

#[tokio::test]
async fn a_gap_in_the_middle_of_a_stream_is_a_line_of_its_own_and_no_reconnect() {
    let mut cluster = Cluster::start().await;
    let (one, way_of_one) = cluster.instance_with_way("1", &[]).await;
    let (two, way_of_two) = cluster.instance_with_way("2", &[]).await;
    let panel = Panel::connected(&two).await;
    publish(&one, 0).await;
    newest_is(&panel, 0).await;
    // Events that only one instance has come too late: Redis has lost them, and continues with two.
    way_of_two.refuse();
    publish(&one, 1).await;
    way_of_one.refuse();
    cluster.redis.restart().await;
    way_of_two.pass();
    publish(&two, 2).await;
    newest_is(&panel, 2).await;
    way_of_one.pass();
    panel.see_history("reset", "Reset: events may have been missed").await;
    let [(_, why)] = panel.history("reset").await.try_into().expect("one line");
    assert!(why.starts_with("the event log was lost and started again (epoch); last seen "), "{why}");
    publish(&one, 3).await;
    newest_is(&panel, 3).await;
    assert_eq!(panel.history("reconnect").await, []);
    panel.screenshot("a-gap").await;
    panel.close().await;
}
