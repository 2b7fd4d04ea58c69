//! In which condition the network is.

use std::time::Duration;

/// Treatment of commands and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They pass.
    Pass,
    /// They are lost.
    BlackHole,
    /// There are no connections on which they could be sent.
    Refuse,
}

/// Requests of a test.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Pass,
    BlackHole,
    Refuse,
    Delay(Duration),
    Stall(f64, Duration),
    Narrow(u32),
}

/// The condition of the network; connections watch it.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) mode: Mode,
    /// Number of black holes so far: connections that notice one too late are killed, too.
    pub(super) black_holes: u64,
    delay: Duration,
    stall: (f64, Duration),
    /// Bytes a second in either direction, on each connection.
    rate: Option<u32>,
}

impl Condition {
    pub(super) fn good() -> Self {
        let stall = (0.0, Duration::ZERO);
        Self { mode: Mode::Pass, black_holes: 0, delay: Duration::ZERO, stall, rate: None }
    }

    pub(super) fn change(&mut self, change: Change) {
        // Any other condition ends delay and stall.
        let (delay, stall) = (self.delay, self.stall);
        *self = Self { black_holes: self.black_holes, ..Self::good() };
        match change {
            Change::Pass => {}
            Change::BlackHole => {
                self.mode = Mode::BlackHole;
                self.black_holes += 1;
            }
            Change::Refuse => self.mode = Mode::Refuse,
            Change::Delay(by) => (self.delay, self.stall) = (by, stall),
            Change::Stall(probability, by) => (self.delay, self.stall) = (delay, (probability, by)),
            Change::Narrow(rate) => self.rate = Some(rate),
        }
    }

    /// Delay towards Redis.
    pub(super) fn way_there(&self) -> Duration {
        self.delay / 2
    }

    /// Time for which a link is busy with so many bytes.
    pub(super) fn busy_with(&self, bytes: usize) -> Duration {
        let seconds = |rate: u32| Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / rate;
        self.rate.map(seconds).unwrap_or_default()
    }

    /// Delay from Redis, which is random.
    pub(super) fn way_back(&self) -> Duration {
        let (probability, stall) = self.stall;
        let unlucky = probability > 0.0 && fastrand::f64() < probability;
        self.delay / 2 + if unlucky { stall } else { Duration::ZERO }
    }
}
