//! How much of the log an instance reads at once: less where the link is slow, more again after quick answers.

use std::time::Duration;

/// Deadline for a page. One event of the largest size arrives within it at 13 KB a second, a whole page at 52. That Redis is
/// still there is found out meanwhile on another connection.
pub(super) const PAGE_DEADLINE: Duration = Duration::from_secs(5);
/// The largest event that can be published.
const LARGEST_EVENT: usize = 64 * 1024;
/// Bytes of a page, at most and at least. Its first event is read whatever its size.
const MOST: usize = 256 * 1024;
const LEAST: usize = 4 * 1024;
/// An answer that took less, or more, changes the size of the next page.
const QUICK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(250);

/// Size of the pages that one instance reads. It outlives sessions: one that ended with a timeout is followed by one that
/// asks for less.
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

    /// Events that fit into a page whatever their size: for a command that takes no number of bytes.
    pub(super) fn events(&self) -> usize {
        (self.bytes / LARGEST_EVENT).max(1)
    }

    /// A page took so long.
    pub(super) fn took(&mut self, time: Duration) {
        if time < QUICK {
            self.bytes = (self.bytes * 2).min(MOST);
        } else if time > SLOW {
            self.bytes = (self.bytes / 2).max(LEAST);
        }
    }

    /// Redis has not answered in time, perhaps because the link was busy with a page.
    pub(super) const fn timed_out(&mut self) {
        self.bytes = LEAST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pages over a link of so many bytes a second, until nothing changes.
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
        assert!(pace.bytes() < LARGEST_EVENT);
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
