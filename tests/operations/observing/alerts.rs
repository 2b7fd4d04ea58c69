//! Which alerts there are, against which there have to be.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;
use vx11_kit::{PATIENCE, Prometheus};

use crate::promtool::WATCHDOG;

/// Alerts on how long things take. Where builds without optimisation and other tests share two
/// processors that is nobody's fault, and says nothing about what a test did.
const BY_THE_MACHINE: [&str; 7] = [
    "GatewayLatencyHigh",
    "SSEStreamOpenLatencyBudgetBurn",
    "SSEStreamOpenSlow",
    "TokenIssueLatencyBudgetBurn",
    "TokenIssueSlow",
    "TokenLookupLatencyBudgetBurn",
    "TokenLookupSlow",
];
/// Alerts on what is not there. In a hurry an instance has a third of a second to answer
/// Prometheus, and as always 150 ms to be answered by Redis: where both processors are busy, these
/// may fire for a moment before they are looked for.
const FOR_A_MOMENT: [&str; 7] = [
    "EventLogOutOfReach",
    "EventsRefused",
    "InstanceCutOffFromRedis",
    "RedisBreakerFlapping",
    "RedisUnavailable",
    "VX11OperatorAllDown",
    "VX11OperatorDown",
];
/// Between two looks.
const POLL: Duration = Duration::from_millis(200);

/// Waits until all of these alerts fire, beside the one that always does, and no other one is even
/// pending; then none other has ever fired that could not have done so for a moment.
pub(crate) async fn await_exactly(prometheus: &Prometheus, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().chain(&[WATCHDOG]).map(|name| (*name).to_owned()).collect();
    await_alerts(prometheus, &expected, "ALERTS").await;
    let ever = r#"count_over_time(ALERTS{alertstate="firing"}[1h])"#;
    let mut others = names(prometheus, ever).await;
    others.retain(|name| !expected.contains(name) && !FOR_A_MOMENT.contains(&name.as_str()));
    assert_eq!(others, BTreeSet::new(), "these have fired, too");
}

/// Waits until no alert fires any more but the one that always does.
pub(crate) async fn await_none(prometheus: &Prometheus) {
    await_alerts(prometheus, &[WATCHDOG.to_owned()].into(), r#"ALERTS{alertstate="firing"}"#).await;
}

async fn await_alerts(prometheus: &Prometheus, expected: &BTreeSet<String>, of: &str) {
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    let awaited = async {
        loop {
            seen = (names(prometheus, r#"ALERTS{alertstate="firing"}"#).await, names(prometheus, of).await);
            if seen.0 == *expected && seen.1 == *expected {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let came = timeout(PATIENCE, awaited).await;
    assert!(came.is_ok(), "{:?} fire, of {:?}; not {expected:?}", seen.0, seen.1);
}

/// The alerts that an expression finds.
async fn names(prometheus: &Prometheus, expression: &str) -> BTreeSet<String> {
    let samples = prometheus.query(expression).await.unwrap();
    let names = samples.into_iter().filter_map(|mut sample| sample.labels.remove("alertname"));
    names.filter(|name| !BY_THE_MACHINE.contains(&name.as_str())).collect()
}
