//! The monitor: hands the reports of the health check to the tasks that have a session with Redis.
//!
//! The health check of the store asks Redis and the sentinels every 250 ms and reports here. The
//! event log and the reader of revocations do not ask themselves. A [`Watcher`] shows them that
//! Redis is now another server or data set than that of their session. If the health check ends,
//! the instance stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::info::MastersState;
use super::settings::HostPort;

/// A session younger than this ignores reports that say the same as the last one before the
/// session: the session may have found the new server first. Longer than the interval of the
/// reports, 250 ms.
const SESSION_IS_NEWER: Duration = Duration::from_millis(500);

/// Result of a health check: what Redis says about itself. A check in which Redis refused a write
/// has one, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) masters: Arc<MastersState>,
    /// The master that a majority of the sentinels names; `None` without sentinels or majority, and
    /// after a refused write.
    pub(crate) master: Option<HostPort>,
}

/// Hands reports of the health check on.
pub struct Monitor(watch::Sender<Option<Report>>);

impl Default for Monitor {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Monitor {
    /// Hands a report on.
    pub(crate) fn report(&self, masters: MastersState, master: Option<HostPort>) {
        self.0.send_replace(Some(Report { masters: Arc::new(masters), master }));
    }

    /// Watches for a session with the data set `data_id` on `server`, which is `None` for a Redis
    /// Cluster.
    pub(crate) fn watch(&self, data_id: String, server: Option<HostPort>) -> Watcher {
        let mut reports = self.0.subscribe();
        let at_start = reports.borrow_and_update().clone();
        Watcher { reports, data_id, server, at_start, began: Instant::now() }
    }
}

/// Watches the reports for one session.
pub(crate) struct Watcher {
    reports: watch::Receiver<Option<Report>>,
    data_id: String,
    server: Option<HostPort>,
    /// Last report before the session.
    at_start: Option<Report>,
    began: Instant,
}

impl Watcher {
    /// Waits for the next report. `None` if it shows another server or data set than the session's.
    ///
    /// Cancel safe: a report is taken when the future completes.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        loop {
            // Without a monitor, nobody would notice that Redis has moved.
            self.reports.changed().await.ok()?;
            let report = self.reports.borrow_and_update().clone();
            if let Some(report) = report {
                return (!self.shows_another(&report)).then_some(report);
            }
        }
    }

    /// Whether the last report shows another server or data set than the session's.
    pub(crate) fn has_moved(&self) -> bool {
        self.reports.borrow().as_ref().is_some_and(|report| self.shows_another(report))
    }

    fn shows_another(&self, report: &Report) -> bool {
        let is_other_data = report.masters.data_id != self.data_id;
        let is_other_server = report.master.is_some() && report.master != self.server;
        let is_older = self.began.elapsed() < SESSION_IS_NEWER
            && self.at_start.as_ref().is_none_or(|before| {
                before.masters.data_id == report.masters.data_id && before.master == report.master
            });
        (is_other_data || is_other_server) && !is_older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(data_id: &str) -> MastersState {
        let answer = format!("role:master\r\nrun_id:{data_id}\r\nmaster_replid:r\r\n");
        MastersState::read(&[answer]).unwrap()
    }

    fn server(port: u16) -> Option<HostPort> {
        HostPort::parse(&format!("127.0.0.1:{port}"), 0).ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_the_first_report_of_another_data_set_or_master() {
        for (data_id, master) in [("b", server(1)), ("a", server(2))] {
            let monitor = Monitor::default();
            monitor.report(masters("a"), server(1));
            let mut watcher = monitor.watch("a:r".to_owned(), server(1));
            monitor.report(masters("a"), server(1));
            assert!(watcher.next().await.is_some() && !watcher.has_moved());
            // Without a majority of the sentinels.
            monitor.report(masters("a"), None);
            assert!(watcher.next().await.is_some());
            monitor.report(masters(data_id), master);
            assert!(watcher.has_moved());
            assert_eq!(watcher.next().await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_found_the_new_server_first_waits_for_the_monitor_and_not_for_ever() {
        let monitor = Monitor::default();
        monitor.report(masters("a"), server(1));
        let mut watcher = monitor.watch("b:r".to_owned(), server(2));
        monitor.report(masters("a"), server(1));
        assert!(watcher.next().await.is_some() && !watcher.has_moved());
        tokio::time::advance(SESSION_IS_NEWER).await;
        assert!(watcher.has_moved(), "the monitor is right");
        let mut watcher = monitor.watch("b:r".to_owned(), server(2));
        monitor.report(masters("b"), server(2));
        tokio::time::advance(SESSION_IS_NEWER).await;
        assert!(watcher.next().await.is_some() && !watcher.has_moved());
    }

    #[tokio::test]
    async fn without_a_monitor_a_session_ends() {
        let monitor = Monitor::default();
        let mut watcher = monitor.watch("a:r".to_owned(), None);
        drop(monitor);
        assert_eq!(watcher.next().await, None);
    }
}
