//! Memory of one record in the memory store.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/target.rs"]
mod target;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vx11_operator::clock::{Clock, ManualClock, UnixMillis};
use vx11_operator::principal::PrincipalId;
use vx11_operator::store::{ENTRY_BYTES, MemoryLimits, MemoryStore};
use vx11_operator::token::{Claims, Codec, NonceSource, Record, SigningKeys, TokenDigest};

use child::Measured;
use report::Row;

/// As in the real binary: it decides how closely records are packed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ABOUT: &str = "A million live records of one principal expire evenly over a minute. They \
                     are measured just after they were inserted (fresh), and after each was \
                     replaced five times (turnover).";
const RECORDS: u32 = 1_000_000;
const LIFE: Duration = Duration::from_mins(1);
const TURNOVERS: u32 = 5;

fn main() -> ExitCode {
    if child::is_measured() {
        fill();
        return ExitCode::SUCCESS;
    }
    report::run("store", ABOUT, || {
        let mut process = Measured::start("store", &[]);
        let mut figure = || process.line().parse().expect("each line is a figure");
        let bound = format!("<= {ENTRY_BYTES} B");
        vec![
            Row::judged("one record, fresh", &bound, figure()),
            Row::figure("recording one", figure(), "µs"),
            Row::judged("one record, after turnover", &bound, figure()),
            Row::figure("recording one, and removing one that expired", figure(), "µs"),
        ]
    })
}

/// Plays the measured process: fills a store and says what it takes, in bytes and microseconds for
/// one record.
fn fill() {
    let clock = Arc::new(ManualClock::at(UnixMillis(1_767_470_400_000)));
    let limits = MemoryLimits { entries: u64::from(RECORDS) * 2, bytes: u64::MAX };
    let store = MemoryStore::new(limits, Arc::<ManualClock>::clone(&clock));
    let keys = SigningKeys::from_hex(["5a".repeat(32).as_str()]).expect("32 bytes of hexadecimal");
    let issuer = Issuer {
        codec: Codec::new(keys),
        principal: PrincipalId::parse("operator").expect("a principal's name"),
        nonces: NonceSource::new("1", 0),
        clock,
    };
    let before = memory::resident_bytes("self");
    for turnovers in [1, TURNOVERS] {
        let recording: Duration = (0..turnovers).map(|_| issuer.issue_for_a_life(&store)).sum();
        let bytes = memory::resident_bytes("self") - before;
        say(bytes / f64::from(RECORDS));
        say(recording.as_secs_f64() * 1e6 / f64::from(RECORDS * turnovers));
    }
}

fn say(figure: f64) {
    writeln!(std::io::stdout(), "{figure}").expect("the parent listens");
}

struct Issuer {
    codec: Codec,
    principal: PrincipalId,
    nonces: NonceSource,
    clock: Arc<ManualClock>,
}

impl Issuer {
    fn mint(&self) -> (TokenDigest, Record) {
        let issued_at = self.clock.now();
        let expires_at = issued_at.plus(LIFE);
        let claims =
            Claims { expires_at: expires_at.seconds_rounded_up(), offline: false, nonce: self.nonces.draw() };
        let record = Record { issued_at, expires_at };
        (self.codec.mint(&self.principal, claims, None).digest(), record)
    }

    /// Records as many tokens as shall live at once, evenly over the life of one; says how long
    /// recording took.
    fn issue_for_a_life(&self, store: &MemoryStore) -> Duration {
        const BATCH: u32 = RECORDS / 1000;
        let mut recording = Duration::ZERO;
        for _ in 0..RECORDS / BATCH {
            let issued: Vec<_> = (0..BATCH).map(|_| self.mint()).collect();
            let started = Instant::now();
            for (digest, record) in issued {
                store.insert(digest, record).expect("there is room");
            }
            recording += started.elapsed();
            self.clock.advance(LIFE * BATCH / RECORDS);
        }
        recording
    }
}
