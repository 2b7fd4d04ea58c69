//! Which alerts there are, against which there have to be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vx11_rig::{PATIENCE, Prometheus};

use crate::promtool::WATCHDOG;

/// Alerts on how long things take. Where builds without optimisation and other tests share two processors that is
/// nobody's fault, and says nothing about what a test did.
const BY_THE_MACHINE: [&str; 7] = [
    "GatewayLatencyHigh",
    "SSEStreamOpenLatencyBudgetBurn",
    "SSEStreamOpenSlow",
    "TokenIssueLatencyBudgetBurn",
    "TokenIssueSlow",
    "TokenLookupLatencyBudgetBurn",
    "TokenLookupSlow",
];
/// Between two looks.
const POLL: Duration = Duration::from_millis(200);

/// Waits until all of these alerts fire, beside the one that always does, and no other one is even pending; then none
/// other has ever fired.
pub(crate) async fn await_exactly(prometheus: &Prometheus, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().chain(&[WATCHDOG]).map(|name| (*name).to_owned()).collect();
    await_alerts(prometheus, &expected, "ALERTS").await;
    let ever = r#"count_over_time(ALERTS{alertstate="firing"}[1h])"#;
    assert_eq!(names(prometheus, ever).await, expected, "these have fired");
}

/// Waits until no alert fires any more but the one that always does.
pub(crate) async fn await_none(prometheus: &Prometheus) {
    await_alerts(prometheus, &[WATCHDOG.to_owned()].into(), r#"ALERTS{alertstate="firing"}"#).await;
}

async fn await_alerts(prometheus: &Prometheus, expected: &BTreeSet<String>, of: &str) {
    let started = Instant::now();
    loop {
        let (firing, all) =
            (names(prometheus, r#"ALERTS{alertstate="firing"}"#).await, names(prometheus, of).await);
        if firing == *expected && all == *expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{firing:?} fire, of {all:?}; not {expected:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// The alerts that an expression finds.
async fn names(prometheus: &Prometheus, expression: &str) -> BTreeSet<String> {
    let samples = prometheus.query(expression).await.unwrap();
    let names = samples.into_iter().filter_map(|mut sample| sample.labels.remove("alertname"));
    names.filter(|name| !BY_THE_MACHINE.contains(&name.as_str())).collect()
}
