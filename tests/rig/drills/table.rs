//! All drills: what breaks, on what it stands, and what has to hold.

use std::time::Duration;

use super::Length;
use crate::checker::{Resumption, Since, Targets};
use crate::cluster::{Backing, Ways};

/// A drill.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// By which it is called.
    pub number: u8,
    /// What breaks.
    pub fault: &'static str,
    /// What the instances share.
    pub(super) backing: Backing,
    /// What is on the ways between the processes.
    pub(super) ways: Ways,
}

/// Redis alone, with nothing on the ways.
const fn drill(number: u8, fault: &'static str) -> Drill {
    Drill { number, fault, backing: Backing::Single, ways: Ways::Direct }
}

const fn on_ways(ways: Ways, drill: Drill) -> Drill {
    Drill { ways, ..drill }
}

const fn on_sentinel(drill: Drill) -> Drill {
    Drill { backing: Backing::Sentinel, ..drill }
}

/// In the order of their numbers. Those that are about events alone are not among them.
pub const DRILLS: [Drill; 20] = [
    drill(1, "kill -9 Redis, back empty"),
    drill(2, "SIGSTOP Redis, CONT"),
    on_ways(Ways::Breakable, drill(3, "all instances cut off from Redis")),
    on_ways(Ways::Breakable, drill(4, "one instance cut off from Redis")),
    on_ways(Ways::Breakable, drill(5, "80 ms and 1 % stalls to Redis")),
    drill(6, "Redis flaps, 1 s up, 1 s down"),
    drill(7, "FLUSHALL, restart empty"),
    drill(8, "READONLY, OOM, LOADING, NOAUTH"),
    on_sentinel(drill(9, "Sentinel: kill -9 the master")),
    on_sentinel(drill(10, "Sentinel: master demoted")),
    drill(11, "kill -9 one instance"),
    drill(12, "rolling restart"),
    drill(13, "SIGSTOP one instance"),
    drill(14, "Redis down, an instance killed"),
    drill(15, "boot while Redis is down"),
    on_ways(Ways::Resettable, drill(16, "3 requests reset connections")),
    drill(17, "forged tokens at full speed"),
    drill(19, "nginx killed and restarted"),
    drill(20, "signing key rotated, one late"),
    drill(21, "clock of one instance 5 s ahead"),
];

/// So soon 99 of a hundred streams are open again after an instance was lost.
const RESUMED: Duration = Duration::from_secs(3);
/// So soon all are after nginx was lost.
const ALL_BACK: Duration = Duration::from_secs(10);
/// So soon they are open elsewhere after their instance stopped.
const LEFT_A_HUNG_ONE: Duration = Duration::from_secs(45);
/// So far the clock of one instance is ahead.
pub(super) const CLOCK_OFF: Duration = Duration::from_secs(5);
/// Between the death of a master and the Sentinels' word on it.
pub(super) const DOWN_AFTER: Duration = Duration::from_secs(1);

impl Drill {
    /// The drill of this number.
    #[must_use]
    pub fn numbered(number: u8) -> Option<&'static Self> {
        DRILLS.iter().find(|drill| drill.number == number)
    }

    /// What has to hold.
    pub(super) fn targets(&self, length: Length) -> Targets {
        let base = Targets::of_rounds(length.rounds);
        let ms = Duration::from_millis;
        let resumed = |hundredths, within, since| Some(Resumption { hundredths, within, since });
        let once = Targets { reconnects: 1, resumption: resumed(99, RESUMED, Since::Loss), ..base };
        match self.number {
            1 => Targets { detection: Some(ms(300)), ..base },
            2 | 3 => Targets { detection: Some(ms(1000)), p99: Some(ms(250)), ..base },
            // Nothing may open, and nothing is lost that could recover.
            5 => Targets { openings: 0, ..base },
            6 => Targets { openings: length.rounds * super::redis::FLAPS, ..base },
            10 => Targets { recovery: Duration::from_secs(2), ..base },
            11 => once,
            // Whoever moves from an instance that ends to one that ends next does so again.
            12 => Targets { reconnects: 3, ..once },
            // One that was stopped itself took long for what it had been asked before.
            13 => Targets { longest: None, resumption: resumed(100, LEFT_A_HUNG_ONE, Since::Fault), ..once },
            // What only the killed instance knew of is gone with it.
            14 | 15 => Targets { revocation: None, ..once },
            // The flood and the load share the machine with the instances.
            17 => Targets { longest: None, p99_times: Some(2), ..base },
            19 => Targets { resumption: resumed(100, ALL_BACK, Since::Repair), ..once },
            // What one clock is off, beside what clocks may always be.
            21 => Targets { clocks: base.clocks + CLOCK_OFF, ..once },
            20 => Targets { reconnects: 6, ..once },
            _ => base,
        }
    }
}
