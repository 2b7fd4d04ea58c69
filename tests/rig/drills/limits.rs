//! More than there is room for: log lines that nobody reads, events that fill Redis or a narrow
//! link, and streams of one token.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use vx11_kit::{Answer, Api, EventId, FaultProxy, PATIENCE, eventually, until};

use super::drilling::Drilling;
use crate::checker::{Times, percentile};

/// Streams of the drills with large events, each of which is sent all of them.
pub(super) const SUBSCRIBERS: usize = 3;

/// An instance has ended so long after its drain.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A full pipe has 16 pages, with more than this together: a line that does not fit into a page
/// begins the next one.
const PIPE_FULL: u64 = 32 * 1024;
/// A pipe with so much that gets nothing more for so long, while its instance logs, is full.
const PIPE_SETTLED: Duration = Duration::from_secs(2);
/// So many clients of each instance open streams that they close at once, which it logs.
const TALKERS: usize = 2;
/// Openings with one token, which lives longer.
const OPENINGS: usize = 50;
/// Between two of them once the pipe is full: as fast as they can, they would take the machine from
/// the load for a minute.
const BETWEEN_OPENINGS: Duration = Duration::from_millis(5);
/// For so long the readers hang in the first round at full length.
const LONG_HANG: Duration = Duration::from_mins(1);

/// The logs of all instances go through readers that hang, as if the container engine or its disk
/// hung.
pub(super) async fn log_reader_hangs(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    let mut talkers = JoinSet::new();
    let (full, are_full) = watch::channel(false);
    for instance in &drilling.cluster.instances {
        instance.log_reader().hang();
        for _ in 0..TALKERS {
            talkers.spawn(talk(instance.api().clone(), are_full.clone()));
        }
    }
    for instance in &drilling.cluster.instances {
        let (reader, mut before) = (instance.log_reader(), (0, Instant::now()));
        until("a pipe to be full", async || {
            let unread = reader.unread();
            if unread != before.0 {
                before = (unread, Instant::now());
            }
            unread > PIPE_FULL && before.1.elapsed() > PIPE_SETTLED
        })
        .await;
    }
    full.send_replace(true);
    if round == 0 && drilling.length.is_full {
        sleep(LONG_HANG).await;
    } else {
        drilling.last(1.0).await;
    }
    talkers.shutdown().await;
    let instance = round % drilling.cluster.instances.len();
    let took = drilling.stop(instance).await;
    let bound = Duration::from_secs(drilling.length.drain) + LAST_WORDS;
    if took > bound && drilling.length.times == Times::Count {
        drilling.fault_run.complain(format!("instance {instance} took {took:?} to end, over {bound:?}"));
    }
    drilling.boot(instance).await;
    drilling.cluster.instances.iter().for_each(|instance| instance.log_reader().go_on());
    drilling.recover().await;
}

/// Opens streams and leaves them; an instance logs both.
async fn talk(api: Api, pipes_are_full: watch::Receiver<bool>) {
    loop {
        let Ok(issued) = api.issue().await else { continue };
        for _ in 0..OPENINGS {
            drop(api.open_stream(&issued.token).await);
            if *pipes_are_full.borrow() {
                sleep(BETWEEN_OPENINGS).await;
            }
        }
    }
}

/// Memory of Redis in this drill, and the bound of the log in it.
pub(super) const MAX_MEMORY: &str = "12mb";
pub(super) const LOG_BYTES: u64 = 3 * 1024 * 1024;
/// More than Redis has room for.
const FILLING: Flood = Flood { events: 250, bytes: 60_000, a_second: 25 };

pub(super) async fn filled_by_events(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    let flood = FILLING.publish(&drilling.cluster.balancer(), &format!("filling-{round}")).await;
    drilling.last(0.5).await;
    drilling.recover().await;
    if flood.acknowledged() < FILLING.events {
        let others = flood.others.join("; ");
        drilling
            .fault_run
            .complain(format!("of {} large events some were not taken: {others}", FILLING.events));
    }
    let memory = drilling.cluster.redis().info("memory").await["used_memory_human"].clone();
    drilling.fault_run.note(format!("Redis uses {memory} of {MAX_MEMORY} after the events"));
}

/// Of each connection of one instance to Redis, in bytes a second.
const LINK: u32 = 10_000_000;
/// For so long it is cut off, so that it has a backlog.
const CUT: Duration = Duration::from_millis(600);
/// More than comes over the link within any deadline of Redis.
const BACKLOG: Flood = Flood { events: 150, bytes: 65_000, a_second: 250 };

/// One instance has a narrow link and a backlog, and then boots on it.
pub(super) async fn narrow_link(drilling: &mut Drilling, round: usize) {
    let all = drilling.cluster.instances.len();
    let instance = round % all;
    let elsewhere = drilling.cluster.instances[(instance + 1) % all].api().clone();
    drilling.begin_fault().await;
    drilling.cluster.detours.to_redis[instance].black_hole();
    let backlog = async {
        sleep(CUT).await;
        drilling.cluster.detours.to_redis[instance].pass();
        drilling.cluster.detours.to_redis[instance].narrow(LINK);
    };
    let name = format!("backlog-{round}");
    let ((), flood) = tokio::join!(backlog, BACKLOG.publish(&elsewhere, &name));
    in_reach(drilling, instance).await;
    drilling.last(0.5).await;
    drilling.restart(instance).await;
    in_reach(drilling, instance).await;
    drilling.last(0.5).await;
    drilling.cluster.detours.to_redis[instance].pass();
    drilling.recover().await;
    if flood.acknowledged() < BACKLOG.events {
        let others = flood.others.join("; ");
        drilling
            .fault_run
            .complain(format!("of {} large events some were not taken: {others}", BACKLOG.events));
    }
}

/// Waits until an instance reads the log; notes how long that took.
async fn in_reach(drilling: &mut Drilling, instance: usize) {
    let (began, api) = (Instant::now(), drilling.cluster.instances[instance].api().clone());
    until("the log to be in reach over a narrow link", async || api.is_log_available().await == Ok(true))
        .await;
    drilling.fault_run.note(format!("the log was in reach after {:?} on the narrow link", began.elapsed()));
}

/// A ring that holds the last third of the events that the flood reads: the others are in Redis
/// only.
pub(super) const SMALL_RING_BYTES: u64 = 2 * 1024 * 1024;
/// Events that the flood reads repeatedly.
const HISTORY: Flood = Flood { events: 300, bytes: 20_000, a_second: 50 };
/// The most readers, and for how many subscribers there is one: a few at brief length.
const READERS: usize = 100;
const SUBSCRIBERS_OF_A_READER: usize = 20;
/// Of each connection of an instance to Redis during the flood, in bytes a second.
const FLOODED_LINK: u32 = 40_000_000;
/// Between two chunks that a reader takes: as many readers as fast as they can take the machine.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(100);
/// Small events whose times are compared, and how many are sent a second.
const TIMED: usize = 100;
const TIMED_A_SECOND: u32 = 40;
/// So many times as long they may take during the flood; what is shorter than the second is not
/// compared.
const PUBLISHING: u32 = 2;
const COMPARABLE: Duration = Duration::from_millis(5);
/// So many times what the readers received Redis may send for it.
const OUTPUT: f64 = 1.5;

/// All streams of one token resume far behind.
pub(super) async fn resume_flood(drilling: &mut Drilling, round: usize) {
    let balancer = drilling.cluster.balancer();
    let history = HISTORY.publish(&balancer, &format!("history-{round}")).await;
    let Some(first) = history.first else {
        drilling.fault_run.complain("no event was taken that streams could resume behind".to_owned());
        return;
    };
    let before = Output::of(drilling).await;
    let calm = Flood::times(&balancer, &format!("calm-{round}")).await;
    let calmly = Output::of(drilling).await.since(&before);
    drilling.begin_fault().await;
    drilling.cluster.detours.to_redis.iter().for_each(|way| way.narrow(FLOODED_LINK));
    let issued = eventually("a token", async || balancer.issue().await.ok()).await;
    let before = Output::of(drilling).await;
    let (ends, ending) = watch::channel(false);
    let mut readers = JoinSet::new();
    for reader in 0..READERS.min(drilling.length.subscribers / SUBSCRIBERS_OF_A_READER) {
        let api = drilling.cluster.instances[reader % drilling.cluster.instances.len()].api().clone();
        readers.spawn(read_history(api, issued.token.clone(), first.to_string(), ending.clone()));
    }
    let during = Flood::times(&balancer, &format!("during-{round}")).await;
    drilling.last(0.5).await;
    // The clients receive everything that Redis has sent for them before both are compared.
    ends.send_replace(true);
    let received = timeout(PATIENCE, readers.join_all()).await;
    let sent = Output::of(drilling).await.since(&before);
    drilling.cluster.detours.to_redis.iter().for_each(FaultProxy::pass);
    drilling.recover().await;
    let (calm, during) = (percentile(calm, 99), percentile(during, 99));
    drilling.fault_run.note(format!("99 of 100 small events took {calm:?} at most, in the flood {during:?}"));
    let bound = PUBLISHING * calm.max(COMPARABLE);
    if during > bound && drilling.length.times == Times::Count {
        drilling.fault_run.complain(format!("publishing took {during:?} in the flood, over {bound:?}"));
    }
    let Ok(received) = received else {
        drilling.fault_run.complain("readers did not get the events that they resumed behind".to_owned());
        return;
    };
    let (received, sent) = (megabytes(received.into_iter().sum()), sent.beyond(&calmly));
    if received < megabytes(HISTORY.events * HISTORY.bytes) {
        drilling.fault_run.complain(format!("readers received {received:.1} MB: there was no flood"));
        return;
    }
    let times = sent / received;
    drilling.fault_run.note(format!(
        "for the flood Redis sent {sent:.1} MB, {times:.2} times the {received:.1} MB that readers received"
    ));
    if drilling.length.is_full && times > OUTPUT {
        drilling
            .fault_run
            .complain(format!("Redis sent {times:.2} times what readers received, over {OUTPUT}"));
    }
}

/// Resumes behind an event and reads, again and again until the token is refused or all is to end;
/// then to the end of the events, without pauses. Answers how many bytes it received.
async fn read_history(api: Api, token: String, after: String, mut ending: watch::Receiver<bool>) -> usize {
    let mut received = 0;
    while !*ending.borrow() {
        let Ok(Some(mut stream)) = api.resume_stream(&token, &after).await else { break };
        let mut read = 0;
        while let Ok(Some(chunk)) = stream.chunk().await {
            read += chunk.len();
            if read > HISTORY.events * HISTORY.bytes {
                break;
            }
            // Returns early when all is to end.
            let _ = timeout(BETWEEN_CHUNKS, ending.wait_for(|ending| *ending)).await;
        }
        received += read;
    }
    received
}

fn megabytes(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1000.0
}

/// Megabytes that Redis has sent, at a moment or within some time.
struct Output<T> {
    at: T,
    sent: f64,
}

impl Output<Instant> {
    async fn of(drilling: &mut Drilling) -> Self {
        let stats = drilling.cluster.redis().info("stats").await;
        let bytes = stats["total_net_output_bytes"].parse().expect("a number of bytes");
        Self { at: Instant::now(), sent: megabytes(bytes) }
    }

    fn since(&self, before: &Self) -> Output<Duration> {
        Output { at: self.at - before.at, sent: self.sent - before.sent }
    }
}

impl Output<Duration> {
    /// Without what it would have been as in another time.
    fn beyond(&self, other: &Self) -> f64 {
        self.sent - other.sent * self.at.div_duration_f64(other.at)
    }
}

/// The streams that one token may have open on an instance, by default, and far more.
const PLACES: usize = 8;
const WANTED: usize = 400;

/// One token opens as many streams as it can, and everybody else goes on.
pub(super) async fn one_token_for_all_places(drilling: &mut Drilling, round: usize) {
    let instance = round % drilling.cluster.instances.len();
    let api = drilling.cluster.instances[instance].api().clone();
    drilling.begin_fault().await;
    let issued = eventually("a token", async || api.issue().await.ok()).await;
    let mut openings = JoinSet::new();
    for _ in 0..WANTED {
        let (api, token) = (api.clone(), issued.token.clone());
        openings.spawn(async move { api.open_stream(&token).await });
    }
    let (mut open, mut refused, mut otherwise) = (Vec::new(), 0, Vec::new());
    for opening in openings.join_all().await {
        match opening {
            Ok(Some(stream)) => open.push(stream),
            Err(words) if words.starts_with("429") => refused += 1,
            Ok(None) => otherwise.push("refused".to_owned()),
            Err(words) => otherwise.push(words),
        }
    }
    let other = eventually("another token", async || api.issue().await.ok()).await;
    let others = api.open_stream(&other.token).await;
    drilling.last(1.0).await;
    if open.len() != PLACES || refused != WANTED - PLACES {
        let (open, otherwise) = (open.len(), otherwise.join("; "));
        drilling
            .fault_run
            .complain(format!("one token opened {open} streams, {refused} got 429: {otherwise}"));
    }
    if !matches!(others, Ok(Some(_))) {
        drilling.fault_run.complain(format!("another token could not open a stream: {:?}", others.err()));
    }
    drop(open);
    drilling.recover().await;
}

/// Events at a fixed rate, each sent again until it is taken.
#[derive(Clone, Copy)]
struct Flood {
    events: usize,
    bytes: usize,
    a_second: u32,
}

/// Results of the events.
#[derive(Default)]
struct Flooded {
    first: Option<EventId>,
    times: Vec<Duration>,
    others: Vec<String>,
}

impl Flooded {
    fn acknowledged(&self) -> usize {
        self.times.len()
    }
}

impl Flood {
    /// Latencies of small events.
    async fn times(api: &Api, name: &str) -> Vec<Duration> {
        Self { events: TIMED, bytes: 0, a_second: TIMED_A_SECOND }.publish(api, name).await.times
    }

    async fn publish(self, api: &Api, name: &str) -> Flooded {
        let (mut clock, mut events) = (interval(Duration::from_secs(1) / self.a_second), JoinSet::new());
        for number in 0..self.events {
            clock.tick().await;
            let (api, key) = (api.clone(), format!("{name}-{number}"));
            let data = json!({ "flood": key, "padding": "x".repeat(self.bytes) });
            events.spawn(async move { (number, taken(&api, &key, &data).await) });
        }
        let mut flooded = Flooded::default();
        for (number, taken) in events.join_all().await {
            match taken {
                Ok((id, took)) => {
                    flooded.times.push(took);
                    flooded.first = if number == 0 { Some(id) } else { flooded.first };
                }
                Err(answer) => flooded.others.push(format!("{answer:?}")),
            }
        }
        flooded
    }
}

/// The id of an event and how long it took, with its repetitions; or the last answer.
async fn taken(api: &Api, key: &str, data: &Value) -> Result<(EventId, Duration), Answer> {
    let began = Instant::now();
    loop {
        let (answer, wait) = api.publish(key, data).await;
        if let Answer::Acknowledged { id, .. } = answer {
            return Ok((id, began.elapsed()));
        }
        if began.elapsed() > PATIENCE {
            return Err(answer);
        }
        sleep(wait.unwrap_or(Duration::from_millis(100))).await;
    }
}
