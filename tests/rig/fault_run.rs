//! A fault run: a load, a fault at a random moment, a wait for recovery, and a verdict.

use std::io::Write;
use std::sync::{Arc, Once};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;
use vx11_kit::{Api, Operator, eventually, report};

use crate::chart::chart;
use crate::checker::{
    Targets, Verdict, all_open, all_reached, any_degraded, check, is_settled, last_acknowledged,
};
use crate::history::{History, HistoryRecorder};
use crate::load::{Load, Measure, Member, Stage};
use crate::summary::Summary;

/// Tokens issued per second.
const RATE: u32 = 150;
/// Streams on each instance.
const STREAMS: usize = 10;
/// Time before the first fault.
const WARM_UP: Duration = Duration::from_secs(1);
/// Bound of the wait for recovery.
const LOST: Duration = Duration::from_secs(30);
/// Bound of an answer: by then client and nginx have given up.
const LONGEST_ANSWER: Duration = Duration::from_secs(6);
/// Bound of a delivery.
const LAST_DELIVERY: Duration = Duration::from_secs(30);
/// Interval of checks of the history.
const POLL: Duration = Duration::from_millis(10);

/// A fault run in progress.
pub struct FaultRun {
    name: String,
    seed: u64,
    rng: Rng,
    stage: Arc<Stage>,
    load: Load,
    complaints: Vec<String>,
    notes: Vec<String>,
    /// Of a run with its own instances.
    operators: Vec<Operator>,
}

impl FaultRun {
    /// Starts the load on healthy instances, without a load balancer.
    pub async fn begin(name: &str, operators: Vec<Operator>) -> Self {
        for operator in &operators {
            operator.await_well().await;
        }
        let members = operators.iter().map(Member::from).collect();
        let subscribers = STREAMS * operators.len();
        let measure =
            Measure { rate: RATE, subscribers, events: 0, event_bytes: 0, pausing: 0, topics: None };
        Self { operators, ..Self::over(name, members, None, measure).await }
    }

    /// Starts a load on existing instances, behind a load balancer if there is one. `SEED` in the
    /// environment repeats times and durations of an earlier run, which printed it.
    pub async fn over(name: &str, members: Vec<Member>, balancer: Option<Api>, measure: Measure) -> Self {
        let seed = std::env::var("SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a number"));
        let mut rng = Rng::with_seed(seed);
        let stage = Arc::new(Stage::new(members, balancer, measure.topics));
        let load = Load::start(&stage, measure, rng.fork()).await;
        sleep(WARM_UP).await;
        stage.recorder.calm();
        let (complaints, notes, operators) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.to_owned(), seed, rng, stage, load, complaints, notes, operators }
    }

    /// The history.
    #[must_use]
    pub fn recorder(&self) -> &HistoryRecorder {
        &self.stage.recorder
    }

    /// Targets of requests, and the history of what they answer.
    pub(crate) fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// Random numbers from the seed.
    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Adds a violation that the history does not show.
    pub fn complain(&mut self, words: String) {
        self.complaints.push(words);
    }

    /// Adds a note to the figures.
    pub fn note(&mut self, words: String) {
        self.notes.push(words);
    }

    /// Makes pausing subscribers stop or continue reading.
    pub(crate) fn pause_reading(&self, pause: bool) {
        self.load.pause_reading(pause);
    }

    /// Waits for a random moment and records the start of the fault; the caller then breaks
    /// something.
    pub async fn begin_fault(&mut self) {
        let phase = self.rng.u64(50..500);
        sleep(Duration::from_millis(phase)).await;
        self.stage.recorder.broken();
    }

    /// Lets the fault last 0.3 to 1.5 s, more often short than long.
    pub async fn last(&mut self) {
        let part = self.rng.f64();
        sleep(Duration::from_millis(300) + Duration::from_millis(1200).mul_f64(part * part)).await;
    }

    /// Records the repair and waits for recovery.
    pub async fn recover(&mut self) {
        self.stage.recorder.repaired();
        self.settle(LOST).await;
    }

    /// Waits until all instances are healthy for a while and all streams are open, or until the
    /// bound.
    pub async fn settle(&mut self, at_most: Duration) {
        let recorder = &self.stage.recorder;
        let until = recorder.now() + at_most;
        let is_over = |history: &History| is_settled(history, recorder.now()) && all_open(history);
        while !recorder.look(is_over) && recorder.now() < until {
            sleep(POLL).await;
        }
        recorder.over();
    }

    /// Waits, within a bound, until every subscriber has `recovered` and all acknowledged events.
    pub(crate) async fn catch_up(&self) {
        self.load.roam(false);
        catch_up(&self.stage.recorder).await;
        self.load.roam(true);
    }

    /// Ends the load and checks the history.
    pub async fn close(self, targets: Targets) -> Report {
        let Self { name, seed, stage, mut load, complaints, mut notes, operators, .. } = self;
        load.stop_publishing().await;
        load.roam(false);
        catch_up(&stage.recorder).await;
        // A request that hangs must not be missing from the history.
        stage.recorder.await_answers(LONGEST_ANSWER).await;
        load.stop().await;
        let mut figures = Vec::new();
        for instance in stage.instances() {
            figures.push(eventually("metrics to answer", async || instance.figures().await.ok()).await);
        }
        // They have reported everything.
        drop(operators);
        let history = stage.recorder.close(figures);
        let mut verdict = check(&history, targets);
        verdict.violations.extend(complaints);
        notes.extend(verdict.summary.control.lines());
        Report { name, seed, verdict, notes, chart: chart(&history) }
    }

    /// Ends the load, prints and writes the report, and fails if a target was missed.
    pub async fn judge(self, targets: Targets) {
        self.close(targets).await.publish("faults");
    }
}

async fn catch_up(recorder: &HistoryRecorder) {
    // Instances use the event log later than the store.
    let until = recorder.now() + LOST;
    while recorder.look_at_events(|_, deliveries| any_degraded(deliveries)) && recorder.now() < until {
        sleep(POLL).await;
    }
    let until = recorder.now() + LAST_DELIVERY;
    let Some(last) = recorder.look_at_events(last_acknowledged) else { return };
    while !recorder.look_at_events(|_, deliveries| all_reached(deliveries, last)) && recorder.now() < until {
        sleep(POLL).await;
    }
}

/// Report of a fault run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The fault.
    pub name: String,
    /// Seed that repeats it.
    pub seed: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// Notes.
    pub notes: Vec<String>,
    /// Chart of the first round, as text.
    pub chart: String,
}

impl Report {
    /// Prints a line, writes the report into a folder of the artefacts, and panics if a target was
    /// missed.
    pub fn publish(&self, folder: &str) {
        let Self { name, seed, verdict, .. } = self;
        let row = verdict.summary.row(name);
        print(&row);
        let file = format!("{}.json", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        std::fs::write(report(folder, &file), format!("{:#}\n", self.json()))
            .expect("the report can be written");
        assert!(
            verdict.violations.is_empty(),
            "{name} (SEED={seed}):\n{}\n{row}\n- {}",
            Summary::header(),
            verdict.violations.join("\n- ")
        );
    }

    /// Adds the places in which secrets were found.
    pub(crate) fn leaked(&mut self, places: &[String]) {
        self.verdict.summary.leaks = Some(places.len());
        let found = places.iter().take(5).map(|place| format!("a secret in {place}"));
        self.verdict.violations.extend(found);
    }

    /// The whole report.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "fault": self.name,
            "seed": self.seed,
            "violations": self.verdict.violations,
            "late": self.verdict.late,
            "notes": self.notes,
            "summary": self.verdict.summary.json(),
        })
    }
}

/// Written past the test harness, which would capture it.
fn print(row: &str) {
    static HEADER: Once = Once::new();
    let mut lines = String::new();
    HEADER.call_once(|| lines = format!("\n{}\n", Summary::header()));
    lines.push_str(row);
    let mut output = std::io::stdout().lock();
    writeln!(output, "{lines}").expect("there is someone to print for");
}
