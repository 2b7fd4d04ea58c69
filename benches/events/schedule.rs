//! Events at moments that were fixed before, whether those before have arrived or not.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::server::{Channel, Publisher};

/// Schedule of the events.
pub(crate) struct Schedule {
    /// From the beginning.
    moments: Vec<Duration>,
    /// Bytes of an event's data.
    size: usize,
    /// Channel of each event.
    channels: Vec<Channel>,
}

impl Schedule {
    /// So many events, one after the other.
    pub(crate) fn regular(events: u32, every: Duration, size: usize) -> Self {
        Self::at((0..events).map(|event| every * event).collect(), size)
    }

    /// Events of many publishers who know nothing of each other: gaps are distributed
    /// exponentially, as in a Poisson process, with the mean `every`. The same `seed` gives the
    /// same moments.
    pub(crate) fn random(events: u32, every: Duration, size: usize, seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let mut moment = Duration::ZERO;
        let mut next = |_| {
            // Of (0, 1], which has a logarithm.
            moment += every.mul_f64(-(1.0 - chance.f64()).ln());
            moment
        };
        Self::at((0..events).map(&mut next).collect(), size)
    }

    fn at(moments: Vec<Duration>, size: usize) -> Self {
        Self { channels: vec![None; moments.len()], moments, size }
    }

    /// The same moments; each event goes to the channel that `channel` says.
    pub(crate) fn each_to(mut self, channel: impl FnMut() -> Channel) -> Self {
        self.channels.fill_with(channel);
        self
    }

    pub(crate) fn events(&self) -> u32 {
        u32::try_from(self.moments.len()).expect("a number of events is small")
    }

    /// Publishes all events on a separate thread, which returns the times at which they were due:
    /// an event that waits for its publisher is late. The publishers take turns, so that a slow
    /// answer does not delay the next event; a single one keeps the order.
    pub(crate) fn run(&self, mut publishers: Vec<Publisher>) -> JoinHandle<Vec<Instant>> {
        let (moments, size, channels) = (self.moments.clone(), self.size, self.channels.clone());
        thread::spawn(move || {
            let started = Instant::now();
            let due: Vec<_> = moments.iter().map(|moment| started + *moment).collect();
            for (number, due) in due.iter().enumerate() {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let turn = number % publishers.len();
                publishers[turn].send(channels[number], &data(number, size));
            }
            publishers.iter_mut().for_each(Publisher::settle);
            due
        })
    }
}

/// JSON of `size` bytes.
fn data(number: usize, size: usize) -> String {
    let opening = format!(r#"{{"number":{number},"filling":""#);
    let filling = ".".repeat(size.saturating_sub(opening.len() + 2));
    format!(r#"{opening}{filling}"}}"#)
}
