//! Abuse by others: clients that hang up or send half a request, another deployment in the same
//! database, and foreign data in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ::redis::from_redis_value;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use vx11_kit::{Answer, Api, Frames, PATIENCE, eventually, until};

use super::drilling::Drilling;
use super::redis as faults;

/// The event log, the announced revocations and the tombstones, as docs/redis.md names them.
const LOG: &str = "{vx11}:events";
const REVOCATIONS: &str = "{vx11}:revocations";
/// Followed by the id of a token. A tombstone by id lives 2,052 s.
const TOMBSTONE: &str = "revoked:";

/// Requests whose clients leave before they are answered: directly to instances, and as many
/// through nginx.
const HANGING_UP: usize = 150;
/// Of these, so many are sent at the same time.
const AT_ONCE: usize = 8;
/// The longest wait before a client leaves.
const LONGEST_WAIT: Duration = Duration::from_millis(2);

/// Clients publish and revoke, and leave at once. Each effect has to have one line in one audit
/// trail.
pub(super) async fn hang_up(drilling: &mut Drilling, round: usize) {
    let principal = drilling.cluster.principal().to_owned();
    let balancer = drilling.cluster.balancer();
    let mark = format!("hang-up-{round}-");
    drilling.begin_fault().await;
    let mut revoked = Vec::new();
    let mut leaving: JoinSet<()> = JoinSet::new();
    for number in 0..2 * HANGING_UP {
        let instance = &drilling.cluster.instances[number % drilling.cluster.instances.len()];
        let to = if number < HANGING_UP { instance.address() } else { balancer.authority() }.to_owned();
        let (publish, issued) =
            (number % 3 < 2, eventually("a token", async || balancer.issue().await.ok()).await);
        let request = if publish {
            let body = format!(r#"{{"data":"{mark}{number}."}}"#);
            request("/operator/api/events", &principal, "application/json", &body)
        } else {
            let body = format!("token_id={}", issued.id);
            revoked.push(issued);
            request("/operator/api/tokens/revoke", &principal, "application/x-www-form-urlencoded", &body)
        };
        leaving.spawn(async move { leave(&to, &request).await });
        if leaving.len() >= AT_ONCE {
            leaving.join_next().await;
        }
    }
    leaving.join_all().await;
    drilling.recover().await;
    let trails = drilling.audit_trails();
    let published = published(drilling, &mark).await;
    let mut carried_out = Vec::new();
    for issued in &revoked {
        // A token that is not active may as well have expired; its tombstone outlives it.
        let key = format!("{TOMBSTONE}{}", issued.id);
        let exists = drilling.cluster.redis().command(&["EXISTS", &key]).await;
        if from_redis_value(exists).expect("a number of keys") {
            carried_out.push(issued.id.clone());
        }
    }
    let mut lines = AuditLines::default();
    let audited = timeout(
        PATIENCE / 4,
        until("each effect to be audited", async || {
            lines = AuditLines::read(&trails);
            lines.without(&published) <= lines.unknown && lines.without(&carried_out) == 0
        }),
    );
    // Missing lines are reported below.
    let _ = audited.await;
    let mut wrong: Vec<String> = Vec::new();
    let (missing, unknown) = (lines.without(&published), lines.unknown);
    if missing > unknown {
        let all = published.len();
        wrong.push(format!(
            "{missing} of {all} published events have no audit line, {unknown} lines name no event"
        ));
    }
    let twice = published.iter().filter(|id| lines.count(id) > 1).count();
    if twice > 0 {
        wrong.push(format!("{twice} published events have more than one audit line"));
    }
    for id in &carried_out {
        let count = lines.count(id);
        if count != 1 {
            wrong.push(format!("a revocation has {count} audit lines"));
        }
    }
    let carried_out = carried_out.len();
    drilling.fault_run.note(format!(
        "of clients that left {} events were published, {carried_out} tokens revoked",
        published.len()
    ));
    if published.is_empty() || carried_out == 0 {
        wrong.push("nothing took effect that a client left behind".to_owned());
    }
    wrong.into_iter().take(5).for_each(|words| drilling.fault_run.complain(words));
}

fn request(path: &str, principal: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {principal}\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

async fn leave(address: &str, request: &str) {
    let Ok(mut socket) = TcpStream::connect(address).await else { return };
    let _ = socket.write_all(request.as_bytes()).await;
    sleep(LONGEST_WAIT.mul_f64(fastrand::f64())).await;
}

/// Places in the log (`<ms>-<seq>`) of the events with this mark.
async fn published(drilling: &mut Drilling, mark: &str) -> BTreeSet<String> {
    let answer = drilling.cluster.redis().command(&["XRANGE", LOG, "-", "+"]).await;
    let entries: Vec<(String, Vec<String>)> = from_redis_value(answer).expect("entries of a stream");
    let marked = entries.into_iter().filter(|(_, fields)| fields.iter().any(|field| field.contains(mark)));
    marked.map(|(id, _)| id).collect()
}

/// Content of the audit trails.
#[derive(Default)]
struct AuditLines {
    /// Lines of an event, by its place in the log, and of a revoked token, by its id.
    named: BTreeMap<String, usize>,
    /// Lines of an event that Redis answered for too late: they cannot name it.
    unknown: usize,
}

impl AuditLines {
    fn read(trails: &[PathBuf]) -> Self {
        let mut lines = Self::default();
        for trail in trails {
            let text = std::fs::read_to_string(trail).expect("an audit trail can be read");
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                let of = match line["action"].as_str() {
                    Some("publish") if line["event_id"].is_null() => {
                        lines.unknown += usize::from(line["outcome"] == "unknown");
                        None
                    }
                    Some("publish") => {
                        line["event_id"].as_str().and_then(|id| id.split_once('-')).map(|(_, place)| place)
                    }
                    Some("revoke") => line["token_id"].as_str(),
                    _ => None,
                };
                if let Some(of) = of {
                    *lines.named.entry(of.to_owned()).or_default() += 1;
                }
            }
        }
        lines
    }

    fn count(&self, of: &str) -> usize {
        self.named.get(of).copied().unwrap_or(0)
    }

    /// Number of these ids without a line.
    fn without<'a>(&self, all: impl IntoIterator<Item = &'a String>) -> usize {
        all.into_iter().filter(|of| self.count(of) == 0).count()
    }
}

/// Files that an instance may open, and connections of one client: more than there is room for.
pub(super) const OPEN_FILES: u64 = 1400;
/// Worker threads of an instance. Files are reserved for each, so the room would depend on the
/// processor cores.
pub(super) const WORKERS: u64 = 2;
const CONNECTIONS: usize = 1500;
/// After so many that were not answered, each within 5 s, nobody tries any more.
const LOCKED_OUT: usize = 10;
/// Streams of the load, so that there is room for others.
pub(super) const SUBSCRIBERS: usize = 300;
/// Load of the drill with a ring of 10 events: subscribers, and events per second. A stream that is
/// later than the ring holds is cut, and on a machine without a free processor streams are late.
pub(super) const SMALL_RING_SUBSCRIBERS: usize = 60;
pub(super) const SMALL_RING_EVENTS: u32 = 10;
/// A whole request, and behind it the beginning of the next.
const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HALF: &[u8] = b"G";
/// Between two looks whether the instance answers others.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A client holds half a second request on as many connections as there can be.
pub(super) async fn half_heads(drilling: &mut Drilling, round: usize) {
    let instance = round % drilling.cluster.instances.len();
    let api = drilling.cluster.instances[instance].api().clone();
    drilling.begin_fault().await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..CONNECTIONS {
        match hold(api.authority()).await {
            Ok(socket) => held.push(socket),
            Err(_) => refused += 1,
        }
        if refused == LOCKED_OUT {
            break;
        }
    }
    let opened = held.len();
    let (mut clock, began, mut locked_out) = (interval(BETWEEN_LOOKS), Instant::now(), 0);
    while began.elapsed() < drilling.length.fault {
        clock.tick().await;
        locked_out += usize::from(api.standing().await.is_err());
    }
    let mut closing = JoinSet::new();
    for mut socket in held {
        closing.spawn(async move { timeout(PATIENCE, ended(&mut socket)).await.is_ok() });
    }
    let open = closing.join_all().await.into_iter().filter(|closed| !closed).count();
    drilling.recover().await;
    drilling.fault_run.note(format!("{opened} connections with half a request, {refused} refused"));
    if locked_out > 0 {
        drilling.fault_run.complain(format!("others were not answered {locked_out} times"));
    }
    if open > 0 {
        drilling.fault_run.complain(format!("{open} connections with half a request stayed open"));
    }
}

async fn hold(address: &str) -> std::io::Result<TcpStream> {
    let mut socket = timeout(Duration::from_secs(5), TcpStream::connect(address)).await??;
    socket.write_all(REQUEST).await?;
    let mut answer = [0; 1024];
    if timeout(Duration::from_secs(5), socket.read(&mut answer)).await?? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    socket.write_all(HALF).await?;
    Ok(socket)
}

async fn ended(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// An instance with another principal and other keys uses the same database, and leaves everything
/// as it is.
pub(super) async fn other_deployment(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    let other = drilling.cluster.start_another().await;
    let reason = "other_deployment";
    let says = until("the other instance to say whose Redis it is", async || {
        other.figures().await.is_ok_and(|figures| figures.faults.get(reason).is_some_and(|count| *count > 0))
    });
    let mut wrong = BTreeSet::new();
    if timeout(PATIENCE / 8, says).await.is_err() {
        wrong.insert("the other deployment does not say that Redis is not its own");
    }
    let own = drilling.cluster.instances[0].api().clone();
    let issued = eventually("a token", async || own.issue().await.ok()).await;
    let began = Instant::now();
    while began.elapsed() < drilling.length.fault {
        if let (Answer::Acknowledged { .. }, _) = other.publish("others", &Value::Null).await {
            wrong.insert("an event of the other deployment was taken");
        }
        if other.standing().await.is_ok_and(|standing| standing.on_redis) {
            wrong.insert("the other deployment uses Redis");
        }
        let _ = other.revoke("token_id", &issued.id).await;
        if own.introspect(&issued.token).await == Ok(false)
            && began.elapsed() + Duration::from_secs(2) < own.life()
        {
            wrong.insert("the other deployment revoked a token");
        }
        sleep(BETWEEN_LOOKS).await;
    }
    for words in wrong {
        drilling.fault_run.complain(words.to_owned());
    }
    drop(other);
    drilling.recover().await;
}

/// An end that no revocation has, and an entry that is none.
const FAR: &str = "18446744073709551615";
const POISONED_ID: &str = "00000000000000ab";
/// So many announcements may be repeated: one whose request was answered too late (ADR 0031).
const ANNOUNCED_AGAIN: usize = 5;

/// Somebody writes revocations that cannot be carried out, and then Redis loses its data.
pub(super) async fn poisoned_revocation(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    let server = drilling.cluster.redis();
    server.command(&["XADD", REVOCATIONS, "*", "id", POISONED_ID, "until", FAR]).await;
    server.command(&["XADD", REVOCATIONS, "*", "neither", "nor"]).await;
    drilling.last(0.5).await;
    faults::lose_data(drilling, round).await;
    drilling.recover().await;
    let answer = drilling.cluster.redis().command(&["XRANGE", REVOCATIONS, "-", "+"]).await;
    let entries: Vec<(String, Vec<String>)> = from_redis_value(answer).expect("entries of a stream");
    let mut announced: BTreeMap<String, usize> = BTreeMap::new();
    for (_, fields) in &entries {
        let id = fields.chunks(2).find(|pair| pair.first().is_some_and(|name| name == "id"));
        *announced.entry(id.and_then(|pair| pair.get(1)).cloned().unwrap_or_default()).or_default() += 1;
    }
    let again: usize = announced.values().map(|count| count - 1).sum();
    drilling.fault_run.note(format!("{} revocations announced {} times", announced.len(), entries.len()));
    let by_all = announced.values().filter(|count| **count >= drilling.cluster.instances.len()).count();
    if by_all > 0 || again > ANNOUNCED_AGAIN {
        drilling.fault_run.complain(format!(
            "{again} announcements too many, {by_all} revocations as often as there are instances"
        ));
    }
    let mut counted = 0;
    for instance in &drilling.cluster.instances {
        let page = eventually("metrics", async || instance.metrics().await.ok()).await;
        counted += usize::from(counts(&page, "vx11_operator_revocations_invalid_total"));
    }
    if counted < drilling.cluster.instances.len() {
        drilling.fault_run.complain(format!("{counted} instances counted what they could not carry out"));
    }
}

/// Whether a counter of this name, with any labels, is not zero.
fn counts(page: &str, name: &str) -> bool {
    page.lines().filter(|line| line.starts_with(name)).any(|line| !line.ends_with(" 0"))
}

/// Ring of the first instance in events; the others have far more.
pub(super) const SMALL_RING: u32 = 10;
/// Events published before the data is lost.
const BEFORE: usize = 60;

/// Redis loses its data, and the instances bring it back from rings of different sizes.
pub(super) async fn two_ring_sizes(drilling: &mut Drilling, round: usize) {
    let balancer = drilling.cluster.balancer();
    // Streams of the instance with the small ring may already be cut by the events.
    drilling.begin_fault().await;
    let mut first = None;
    for number in 0..BEFORE {
        let key = format!("ring-{round}-{number}");
        let id =
            eventually("an event to be taken", async || match balancer.publish(&key, &Value::Null).await {
                (Answer::Acknowledged { id, .. }, _) => Some(id),
                _ => None,
            })
            .await;
        first.get_or_insert(id);
    }
    let first = first.expect("events were published").to_string();
    faults::lose_data(drilling, round).await;
    drilling.recover().await;
    let apis: Vec<Api> = drilling.cluster.instances.iter().map(|instance| instance.api().clone()).collect();
    for (number, api) in apis.iter().enumerate() {
        let issued = eventually("a token", async || api.issue().await.ok()).await;
        let mut stream =
            eventually("a stream", async || api.resume_stream(&issued.token, &first).await.ok().flatten())
                .await;
        let (mut frames, mut events, mut is_reset, want) = (Frames::default(), 0, false, BEFORE - 1);
        let read = timeout(PATIENCE, async {
            while !is_reset && events < want {
                let Ok(Some(bytes)) = stream.chunk().await else { break };
                frames.read(&bytes, |frame| {
                    is_reset |= frame.event == "reset";
                    events += usize::from(frame.data == "null");
                });
            }
        });
        let in_time = read.await.is_ok();
        if !in_time || is_reset || events < want {
            drilling.fault_run.complain(format!("instance {number} resumed {events} of {want} events"));
        }
    }
}
