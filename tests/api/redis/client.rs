//! The command-line client where any one part may fail: nothing missing, nothing twice.

use serde_json::json;
use tokio::net::TcpListener;
use vx11_kit::Nginx;

use super::Cluster;
use crate::support::Terminal;

const EVENTS: u32 = 30;

#[tokio::test]
async fn tail_goes_on_at_another_instance_without_a_missing_number_when_its_own_is_killed() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let nginx = Nginx::start(&[one.address().to_owned(), two.address().to_owned()]).await;
    let terminal = Terminal::of(&one).with("VX11_OPERATOR_URL", &nginx.balancer());
    let mut tail = terminal.start(&["tail", "--json"]);
    let said = tail.says("connected to instance ").await;
    let (serving, (_other, number)) = if said.ends_with('1') { (one, (two, 2)) } else { (two, (one, 1)) };

    let publishing = async {
        for n in 0..EVENTS {
            let published = terminal.run(&["publish", &n.to_string()]).await;
            assert_eq!(published.code, 0, "{}", published.errors);
        }
    };
    let following = async {
        let mut serving = Some(serving);
        for n in 0..EVENTS {
            assert_eq!(tail.json().await["data"], json!(n), "in order, once");
            if n == EVENTS / 3 {
                serving.take().expect("it is killed once").kill().await;
            }
        }
    };
    tokio::join!(publishing, following);
    tail.says(&format!("connected to instance {number}, after event ")).await;
    tail.interrupt();
    let ended = tail.ended().await;
    assert_eq!((ended.code, ended.output.as_str()), (0, ""));
    let summary = format!("vx11-operator: {EVENTS} events, 1 reconnect, 0 resets\n");
    assert!(ended.errors.ends_with(&summary), "{}", ended.errors);
}

#[tokio::test]
async fn while_the_log_is_away_tail_says_so_and_publish_waits_for_it() {
    let mut cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail"]);
    tail.says("connected").await;
    cluster.redis.kill();
    tail.says("degraded (log_unavailable): ").await;
    let mut publish = terminal.start(&["publish", "1"]);
    publish.says(&format!("not published yet at {}: 503 ", instance.base)).await;
    cluster.redis.restart().await;
    let published = publish.ended().await;
    assert_eq!(published.code, 0, "{}", published.errors);
    assert_eq!(tail.line().await, format!("{} message 1", published.output.trim()));
    tail.says("recovered: ").await;
    tail.interrupt();
    assert!(
        tail.ended().await.errors.ends_with(" 1 event, 0 reconnects, 0 resets\n"),
        "the stream has stayed open"
    );
}

#[tokio::test]
async fn while_the_log_is_away_publish_that_gives_up_says_that_nothing_was_published() {
    let mut cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let terminal = Terminal::of(&instance);
    let mut tail = terminal.start(&["tail"]);
    tail.says("connected").await;
    cluster.redis.kill();
    tail.says("degraded (log_unavailable): ").await;
    let ended = terminal.run_without_silence(&["publish", "--patience", "2", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{}", ended.errors);
    let last = ended.errors.lines().last().unwrap();
    let words = format!("vx11-operator: not published at {}: 503 log_unavailable: ", instance.base);
    assert!(last.starts_with(&words), "{last}");
}

#[tokio::test]
async fn after_an_instance_that_took_the_event_and_hangs_it_is_not_known_whether_it_was_published() {
    let mut cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let mut tail = Terminal::of(&instance).start(&["tail"]);
    tail.says("connected").await;
    cluster.redis.kill();
    tail.says("degraded (log_unavailable): ").await;
    // Connections are accepted by the kernel, and nobody answers.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nginx = Nginx::start(&[hung.local_addr().unwrap().to_string(), instance.address().to_owned()]).await;
    let terminal = Terminal::of(&instance).with("VX11_OPERATOR_URL", &nginx.balancer());
    let words = "503 log_unavailable: the event log is unavailable, so the event was not published (from the second \
                 instance that was asked; what the first did is not known)";
    vx11_kit::until("an attempt that is sent to the hung instance first", async || {
        let ended = terminal.run(&["publish", "--patience", "6", "1"]).await;
        let is_second = ended.errors.contains(words);
        assert!(!is_second || (ended.code, ended.output.as_str()) == (3, ""), "{}", ended.errors);
        is_second
    })
    .await;
}
