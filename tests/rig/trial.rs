//! A fault is tried: a load, something that breaks at a random moment, a wait until all is well again, a verdict.

use std::io::Write;
use std::sync::{Arc, Once};
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

use crate::artefacts::report;
use crate::checker::{Targets, Verdict, check, is_settled};
use crate::load::{Load, Stage};
use crate::operator::Operator;
use crate::summary::Summary;

/// Tokens issued a second.
const RATE: u32 = 150;
/// Before the first fault.
const WARM_UP: Duration = Duration::from_secs(1);
/// Nobody waits longer than that for instances that should have been well for seconds.
const LOST: Duration = Duration::from_secs(6);
/// Between two looks at the journal.
const POLL: Duration = Duration::from_millis(10);

/// The right to load this machine: what is measured beside many other loads is not worth much. One takes a third of a
/// core, unless it waits for something to recover, which it does most of the time.
pub struct Turn {
    _place: SemaphorePermit<'static>,
}

impl Turn {
    /// Waits for it.
    pub async fn wait() -> Self {
        static PLACES: Semaphore = Semaphore::const_new(2);
        Self { _place: PLACES.acquire().await.expect("the semaphore is never closed") }
    }
}

/// A fault being tried.
pub struct Trial {
    name: String,
    seed: u64,
    rng: Rng,
    stage: Arc<Stage>,
    load: Load,
    _turn: Turn,
}

impl Trial {
    /// Puts the load on instances that are well. `SEED` in the environment repeats the moments and durations of an
    /// earlier run, which printed it.
    pub async fn begin(turn: Turn, name: &str, operators: Vec<Operator>) -> Self {
        for operator in &operators {
            operator.await_well().await;
        }
        let seed = std::env::var("SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a number"));
        let mut rng = Rng::with_seed(seed);
        let stage = Arc::new(Stage { operators, journal: crate::journal::Journal::default() });
        let load = Load::start(&stage, RATE, rng.fork()).await;
        sleep(WARM_UP).await;
        Self { name: name.to_owned(), seed, rng, stage, load, _turn: turn }
    }

    /// Waits for a random moment, after which something is to be broken, and notes that it is.
    pub async fn strike(&mut self) {
        let phase = self.rng.u64(50..500);
        sleep(Duration::from_millis(phase)).await;
        self.stage.journal.broken();
    }

    /// Lets it last for 0.3 to 1.5 seconds, more often short than long.
    pub async fn last(&mut self) {
        let part = self.rng.f64();
        sleep(Duration::from_millis(300) + Duration::from_millis(1200).mul_f64(part * part)).await;
    }

    /// Notes that Redis is back, and waits until all instances have been well for a while, or are lost.
    pub async fn recover(&mut self) {
        let journal = &self.stage.journal;
        journal.repaired();
        let back = journal.now();
        while !journal.look(|account| is_settled(account, journal.now())) && journal.now() < back + LOST {
            sleep(POLL).await;
        }
        journal.over();
    }

    /// Ends the load, prints a line, writes everything down, and fails if a target was missed.
    pub async fn judge(self, targets: Targets) {
        let Self { name, seed, stage, load, .. } = self;
        load.stop().await;
        let mut figures = Vec::new();
        for operator in &stage.operators {
            figures.push(operator.figures().await.expect("metrics answer"));
        }
        let verdict = check(&stage.journal.close(figures), targets);
        let row = verdict.summary.row(&name);
        print(&row);
        write_down(&name, seed, &verdict);
        assert!(
            verdict.violations.is_empty(),
            "{name} (SEED={seed}):\n{}\n{row}\n- {}",
            Summary::header(),
            verdict.violations.join("\n- ")
        );
    }
}

/// Past the test harness, which would keep it to itself: the summary is what this is for.
fn print(row: &str) {
    static HEADER: Once = Once::new();
    let mut lines = String::new();
    HEADER.call_once(|| lines = format!("\n{}\n", Summary::header()));
    lines.push_str(row);
    let mut output = std::io::stdout().lock();
    writeln!(output, "{lines}").expect("there is someone to print for");
}

fn write_down(name: &str, seed: u64, verdict: &Verdict) {
    let file = format!("{}.json", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let all = json!({
        "fault": name,
        "seed": seed,
        "violations": verdict.violations,
        "summary": verdict.summary.json(),
    });
    std::fs::write(report("faults", &file), format!("{all:#}\n")).expect("the report can be written");
}
