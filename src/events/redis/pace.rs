//! Page size, adapted to the link: smaller after slow answers, larger again after quick ones.

use std::time::Duration;

use crate::limits::LARGEST_BODY;

/// Deadline for a page. The largest event arrives in time at 13 kB/s, a whole page at 52 kB/s. The
/// session checks its other connection meanwhile.
pub(super) const PAGE_DEADLINE: Duration = Duration::from_secs(5);
/// Bounds of the page size in bytes. The first event of a page may be larger.
const MOST: usize = 256 * 1024;
const LEAST: usize = 4 * 1024;
/// A quicker answer doubles the next page; a slower one halves it.
const QUICK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(250);

/// Page size of one instance. It outlives sessions: after a timeout the next session begins with
/// the smallest page.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: usize,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { bytes: MOST }
    }

    /// Bytes of the next page.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events that fit into a page whatever their size: for a command that takes no number of
    /// bytes.
    pub(super) fn events(&self) -> usize {
        (self.bytes / LARGEST_BODY).max(1)
    }

    /// Adapts the size to the time that a page took.
    pub(super) fn took(&mut self, time: Duration) {
        if time < QUICK {
            self.bytes = (self.bytes * 2).min(MOST);
        } else if time > SLOW {
            self.bytes = (self.bytes / 2).max(LEAST);
        }
    }

    /// Resets the size after a timeout, which a page that filled the link may have caused.
    pub(super) const fn timed_out(&mut self) {
        self.bytes = LEAST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page size after many pages over a link of `bytes_per_second`.
    fn settled(pace: &mut Pace, bytes_per_second: f64) -> usize {
        for _ in 0..50 {
            let seconds = f64::from(u32::try_from(pace.bytes()).unwrap()) / bytes_per_second;
            pace.took(Duration::from_secs_f64(seconds));
        }
        pace.bytes()
    }

    #[test]
    fn pages_are_as_large_as_the_link_carries_in_a_quarter_of_a_second() {
        let mut pace = Pace::new();
        assert_eq!(settled(&mut pace, 1e7), MOST);
        let narrow = settled(&mut pace, 1e5);
        assert!((8_000..=25_000).contains(&narrow), "{narrow}");
        assert_eq!(settled(&mut pace, 1e7), MOST);
    }

    #[test]
    fn after_a_timeout_one_large_event_is_read_at_a_time_and_soon_more() {
        let mut pace = Pace::new();
        pace.timed_out();
        assert!(pace.bytes() < LARGEST_BODY);
        assert_eq!(pace.events(), 1);
        for _ in 0..6 {
            pace.took(Duration::from_millis(1));
        }
        assert_eq!((pace.bytes(), pace.events()), (MOST, 4));
    }

    #[test]
    fn no_page_is_so_large_that_a_link_of_100_kilobytes_a_second_misses_its_deadline() {
        let seconds = u32::try_from(MOST).map(f64::from).unwrap() / 1e5;
        assert!(Duration::from_secs_f64(seconds) < PAGE_DEADLINE);
    }
}
