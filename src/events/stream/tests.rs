//! Open streams on a hub in memory, or on a log that does not answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use async_trait::async_trait;

use super::*;
use crate::events::frame::EventType;
use crate::events::hub::{LogPlace, SharedLog};
use crate::events::id::{Epoch, Position};
use crate::events::log::{LogReader, Page, Unreachable};
use crate::events::publication::Publication;
use crate::events::selection::Selector;
use crate::principal::PrincipalId;
use crate::telemetry::RequestIds;
use crate::token::TokenId;
use crate::topic::Topics;

/// Number of streams with which coalescing reaches its bound, 30 ms.
const MANY: usize = 1_000;

fn hub() -> Arc<Hub> {
    hub_of(LogPlace::Own(Epoch(1)))
}

fn hub_of(log: LogPlace) -> Arc<Hub> {
    let mut deps = HubDeps::for_tests(log);
    deps.ring.entries = 100;
    deps.streams.coalesce = Duration::from_millis(30);
    Arc::new(Hub::new(deps))
}

/// A log that is asked, counts that, and does not answer.
#[derive(Default)]
struct Silent(AtomicUsize);

#[async_trait]
impl LogReader for Silent {
    async fn after(
        &self,
        _seen: EventId,
        _patterns: &Patterns,
        _token: Option<TokenId>,
    ) -> Result<Page, Unreachable> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn before_last(
        &self,
        _horizon: EventId,
        _patterns: &Patterns,
        _number: usize,
        _token: Option<TokenId>,
    ) -> Result<Position, Unreachable> {
        std::future::pending().await
    }
}

fn opening(hub: &Arc<Hub>, token: Option<TokenId>) -> StreamOpening {
    let principal = PrincipalId::parse("operator").unwrap();
    StreamOpening::take(
        hub,
        Opener {
            principal,
            token,
            subject: None,
            patterns: Patterns::default(),
            issued_at: None,
            until: None,
        },
    )
    .unwrap()
}

fn stream(hub: &Arc<Hub>, token: Option<TokenId>) -> EventStream {
    opening(hub, token).open(Start::default(), RequestIds::new(1).draw())
}

fn publish(hub: &Hub, data: &str) {
    hub.append(&Publication::new(EventType::default(), data, Topics::default(), None));
}

async fn elapse(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Reads a stream as a connection does; each frame with the milliseconds since now.
fn read(mut stream: EventStream) -> tokio::task::JoinHandle<Vec<(u128, String)>> {
    let began = Instant::now();
    tokio::spawn(async move {
        let mut seen = Vec::new();
        // The greeting is of no interest.
        stream.next().await;
        while let Some(frame) = stream.next().await {
            seen.push((began.elapsed().as_millis(), String::from_utf8(frame.to_vec()).unwrap()));
        }
        seen
    })
}

fn moments(seen: &[(u128, String)], words: &[&str]) -> Vec<u128> {
    let found = words.iter().map(|word| seen.iter().find(|(_, frame)| frame.contains(word)).unwrap().0);
    found.collect()
}

/// Notes whether streams may open and events may be appended when a stream is woken.
struct WhenWoken {
    hub: Arc<Hub>,
    is_open: AtomicBool,
}

impl Wake for WhenWoken {
    fn wake(self: Arc<Self>) {
        self.is_open.store(!self.hub.is_locked(), Ordering::Relaxed);
    }
}

#[test]
fn streams_are_woken_without_a_lock_on_the_ring() {
    let hub = hub();
    let stream = stream(&hub, None);
    let when_woken = Arc::new(WhenWoken { hub: Arc::clone(&hub), is_open: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&when_woken));
    stream.place.signal().looks();
    let mut news = std::pin::pin!(stream.place.signal().news());
    assert!(news.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    publish(&hub, "news");
    assert!(when_woken.is_open.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn events_that_follow_closely_share_a_write_where_streams_are_many() {
    let hub = hub();
    let token = TokenId::parse("0123456789abcdef").unwrap();
    let _others: Vec<_> = (1..MANY).map(|_| stream(&hub, None)).collect();
    let reading = read(stream(&hub, Some(token)));
    elapse(100).await;
    // The first at once; the next two 30 ms after it; one 30 ms after these, and one after a
    // pause, at once again.
    for (n, wait) in [10, 10, 30, 150, 10].into_iter().enumerate() {
        publish(&hub, &format!("event-{n}"));
        elapse(wait).await;
    }
    // A reason to end arrives in the coalescing delay.
    publish(&hub, "event-5");
    elapse(1).await;
    hub.end_streams_of(token);
    let seen = reading.await.unwrap();
    let at = moments(&seen, &["event-0", "event-1", "event-2", "event-3", "event-4", "revoked"]);
    assert_eq!(at, [100, 130, 130, 150, 300, 311]);
}

#[tokio::test(start_paused = true)]
async fn events_of_few_streams_never_wait() {
    let hub = hub();
    let token = TokenId::parse("0123456789abcdef").unwrap();
    let reading = read(stream(&hub, Some(token)));
    for n in 0..3 {
        elapse(1).await;
        publish(&hub, &format!("event-{n}"));
    }
    elapse(1).await;
    hub.end_streams_of(token);
    let at = moments(&reading.await.unwrap(), &["event-0", "event-1", "event-2"]);
    assert!(at.iter().zip([1, 2, 3]).all(|(seen, sent)| seen - sent <= 1), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_a_page_asks_for_it_once_gets_heartbeats_and_can_be_ended() {
    let log = Arc::new(Silent::default());
    let hub = hub_of(LogPlace::Shared(SharedLog(Arc::clone(&log) as Arc<dyn LogReader>)));
    let [horizon, head] = [10, 12].map(|millis| Position { millis, seq: 0 });
    hub.restart(Epoch(1), ResetReason::Epoch, horizon, &[], head);
    hub.set_log_available(true);
    let token = TokenId::parse("0123456789abcdef").unwrap();
    let start = Start { last_event_id: Some("00000001-5-0"), earlier: None };
    let reading = read(opening(&hub, Some(token)).open(start, RequestIds::new(1).draw()));
    elapse(40_000).await;
    hub.end_streams_of(token);
    let seen = reading.await.unwrap();
    let beats: Vec<_> = seen.iter().filter(|(_, frame)| frame.starts_with(": heartbeat")).collect();
    assert_eq!(beats.iter().map(|(at, _)| at / 1000).collect::<Vec<_>>(), [15, 30]);
    assert_eq!(moments(&seen, &["revoked"]), [40_000]);
    assert_eq!(log.0.load(Ordering::Relaxed), 1);
}

fn until(hub: &Arc<Hub>, until: UnixMillis) -> EventStream {
    let principal = PrincipalId::parse("operator").unwrap();
    let opener = Opener {
        principal,
        token: None,
        subject: None,
        patterns: Patterns::default(),
        issued_at: None,
        until: Some(until),
    };
    StreamOpening::take(hub, opener).unwrap().open(Start::default(), RequestIds::new(1).draw())
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_grant_and_gets_the_events_until_then() {
    let hub = hub();
    let now = hub.settings().clock.now();
    let reading = read(until(&hub, now.plus(Duration::from_secs(20))));
    elapse(19_000).await;
    publish(&hub, "last");
    let seen = reading.await.unwrap();
    let at = moments(&seen, &["last", "\"grant_ended\""]);
    assert_eq!(at[0], 19_000);
    // The clock of the grant goes on while tokio's is paused.
    assert!((19_000..=20_000).contains(&at[1]), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_grant_has_ended_ends_at_once_and_one_with_a_later_end_at_its_maximum_age() {
    let hub = hub();
    let now = hub.settings().clock.now();
    let over = read(until(&hub, now.minus(Duration::from_secs(1)))).await.unwrap();
    assert!(over.last().unwrap().1.contains("grant_ended") && over.last().unwrap().0 == 0, "{over:?}");
    let later = read(until(&hub, now.plus(Duration::from_hours(1)))).await.unwrap();
    assert!(later.last().unwrap().1.contains("max_age"), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_ended_ends_at_once_without_the_events_that_are_due() {
    for reason in [EndReason::Revoked, EndReason::Blocked, EndReason::Ended, EndReason::Replaced] {
        let hub = hub();
        let mut stream = stream(&hub, None);
        let _greeting = stream.next().await;
        publish(&hub, "due");
        let selector = Selector::Stream(stream.place.id());
        assert_eq!(hub.end(&selector, UnixMillis(u64::MAX), reason), 1);
        let last = String::from_utf8(stream.next().await.unwrap().to_vec()).unwrap();
        assert!(last.contains(reason.as_str()) && !last.contains("due"), "{last}");
        assert_eq!(stream.next().await, None);
    }
}

#[test]
fn a_stream_keeps_its_companion_until_it_ends() {
    let hub = hub();
    let companion = Arc::new(());
    for is_opened in [true, false] {
        let mut opening = opening(&hub, None);
        opening.keep(Some(Box::new(Arc::clone(&companion))));
        if is_opened {
            let stream = opening.open(Start::default(), RequestIds::new(1).draw());
            assert_eq!(Arc::strong_count(&companion), 2);
            drop(stream);
        } else {
            drop(opening);
        }
        assert_eq!(Arc::strong_count(&companion), 1);
    }
}

fn topic_stream(hub: &Arc<Hub>, patterns: &[&str], start: Start<'_>) -> EventStream {
    let principal = PrincipalId::parse("operator").unwrap();
    let patterns = Patterns::new(patterns.iter().copied()).unwrap();
    let opening = StreamOpening::take(
        hub,
        Opener { principal, token: None, subject: None, patterns, issued_at: None, until: None },
    )
    .unwrap();
    opening.open(start, RequestIds::new(1).draw())
}

fn publish_to(hub: &Hub, topics: &str, data: &str) -> EventId {
    let topics = Topics::parse(topics).unwrap();
    hub.append(&Publication::new(EventType::default(), data, topics, None))
}

/// The frames that a stream has to send now, after its greeting, without their `id` lines.
async fn frames(stream: &mut EventStream) -> Vec<String> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(100), stream.next()).await {
        let text = String::from_utf8(frame.to_vec()).unwrap();
        frames.push(text.lines().filter(|line| !line.starts_with("id: ")).collect::<Vec<_>>().join("|"));
    }
    frames.into_iter().filter(|frame| !frame.contains("connected")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_gets_the_events_of_its_topics_once_and_no_others() {
    let hub = hub();
    let mut orders = topic_stream(&hub, &["orders/*", "orders/1"], Start::default());
    let mut everything = topic_stream(&hub, &["*"], Start::default());
    let mut plain = stream(&hub, None);
    for (topics, data) in
        [("orders/1 orders/2", "1"), ("default", "2"), ("users/1", "3"), ("$streams/opened", "4")]
    {
        publish_to(&hub, topics, data);
    }
    let line = |topic: &str, data: &str| format!("event: message|{topic}data: {data}|");
    assert_eq!(frames(&mut orders).await, [line("topic: orders/1|", "1")]);
    assert_eq!(frames(&mut plain).await, [line("", "2")]);
    let all = [line("topic: orders/1|", "1"), line("", "2"), line("topic: users/1|", "3")];
    assert_eq!(frames(&mut everything).await, all);
}

#[tokio::test(start_paused = true)]
async fn events_of_others_wake_no_stream_and_do_not_delay_it() {
    let hub = hub();
    let _others: Vec<_> = (0..MANY).map(|_| stream(&hub, None)).collect();
    let mut quiet = topic_stream(&hub, &["quiet"], Start::default());
    let _greeting = quiet.next().await;
    {
        let mut next = Box::pin(quiet.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        for _ in 0..3 {
            publish_to(&hub, "default", "1");
        }
    }
    assert!(!quiet.place.signal().has_unseen_news());
    // Three in a row, each at once: the thousand streams of other topics do not count.
    for data in ["2", "3", "4"] {
        publish_to(&hub, "quiet", data);
        let began = Instant::now();
        assert!(quiet.next().await.unwrap().ends_with(format!("data: {data}\n\n").as_bytes()));
        assert!(began.elapsed() <= Duration::from_millis(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_has_the_newest_position_and_a_quiet_stream_never_falls_out_of_the_ring() {
    let hub = hub();
    let mut quiet = topic_stream(&hub, &["quiet"], Start::default());
    let _greeting = quiet.next().await;
    let mut newest = None;
    // More than the ring holds.
    for _ in 0..150 {
        newest = Some(publish_to(&hub, "default", "1"));
    }
    let beat = quiet.next().await.unwrap();
    assert_eq!(beat, format!(": heartbeat\nid: {}\n\n", newest.unwrap()));
    let own = publish_to(&hub, "quiet", "2");
    let frame = quiet.next().await.unwrap();
    assert!(frame.starts_with(format!("id: {own}\n").as_bytes()));
    // One that does not read while its own event leaves the ring has lost it.
    publish_to(&hub, "quiet", "3");
    for _ in 0..150 {
        publish_to(&hub, "default", "1");
    }
    assert!(String::from_utf8_lossy(&quiet.next().await.unwrap()).contains("\"slow\""));
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_earlier_events_of_its_topics() {
    let hub = hub();
    let ids: Vec<_> =
        (0..6).map(|n| publish_to(&hub, if n % 2 == 0 { "a" } else { "b" }, &n.to_string())).collect();
    let data = async |start| {
        let mut stream = topic_stream(&hub, &["a"], start);
        let frames = frames(&mut stream).await;
        frames.iter().map(|frame| frame.split("data: ").nth(1).unwrap()[..1].to_owned()).collect::<Vec<_>>()
    };
    let from = |earlier| Start { last_event_id: None, earlier };
    assert_eq!(data(from(Earlier::parse("start"))).await, ["0", "2", "4"]);
    assert_eq!(data(from(Earlier::parse("-2"))).await, ["2", "4"]);
    assert_eq!(data(from(Earlier::parse("-9"))).await, ["0", "2", "4"]);
    let id = ids[2].to_string();
    let both = Start { last_event_id: Some(&id), earlier: Some(Earlier::All) };
    assert_eq!(data(both).await, ["4"], "the last event id wins");
}

#[test]
fn earlier_events_are_named_in_one_way() {
    assert_eq!(Earlier::parse("start"), Some(Earlier::All));
    assert_eq!(Earlier::parse("-1000"), Some(Earlier::Last(1000)));
    for bad in ["", "-", "-0", "-1001", "1", "--1", "-+1", "-01", "Start", "-1.0", "-99999999999"] {
        assert_eq!(Earlier::parse(bad), None, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_follows_the_position_if_everything_was_sent() {
    let hub = hub();
    let token = TokenId::parse("0123456789abcdef").unwrap();
    let mut quiet = stream(&hub, Some(token));
    let _greeting = quiet.next().await;
    let newest = publish_to(&hub, "other", "1");
    hub.end_streams_of(token);
    let last = String::from_utf8(quiet.next().await.unwrap().to_vec()).unwrap();
    assert!(last.starts_with(&format!(": heartbeat\nid: {newest}\n\nretry: ")), "{last}");
    // One that has not been sent its event must resume before it.
    let mut unread = stream(&hub, Some(token));
    let _greeting = unread.next().await;
    publish(&hub, "2");
    hub.end_streams_of(token);
    let last = String::from_utf8(unread.next().await.unwrap().to_vec()).unwrap();
    assert!(last.starts_with("retry: "), "{last}");
}
