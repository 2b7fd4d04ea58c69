//! "Is it all right?", as the first panel of the dashboards asks it: whatever goes wrong, its
//! answer says so.

use serde_json::json;

use crate::dashboards::question;
use crate::promtool::content;
use crate::shipped;

/// A series with its values, as promtool writes them; all are of one job.
type Series = (&'static str, &'static str);

/// Two instances that are well.
const WELL: [Series; 7] = [
    (A_UP, "1x40"),
    (r#"up{instance="b"}"#, "1x40"),
    (DEGRADED, "0x40"),
    (LOG_IN_REACH, "1x40"),
    (UNKNOWN, "0x40"),
    (FAILED, "0x40"),
    (
        r#"vx11_operator_http_request_duration_seconds_count{instance="a", route="/operator/api/events/stream", status="200"}"#,
        "0+199x40",
    ),
];
const A_UP: &str = r#"up{instance="a"}"#;
const DEGRADED: &str = r#"vx11_operator_store_degraded{instance="a"}"#;
const LOG_IN_REACH: &str = r#"vx11_operator_event_log_in_reach{instance="a"}"#;
const UNKNOWN: &str = r#"vx11_operator_ephemeral_tokens_invalid_total{instance="a", reason="unknown"}"#;
const FAILED: &str = r#"vx11_operator_http_request_duration_seconds_count{instance="a", route="/operator/api/events/stream", status="503"}"#;
const NOT_ARRIVING: Series =
    (r#"ALERTS{alertname="RequestsNotArriving", alertstate="firing", severity="critical"}"#, "1x40");

const ALL_RIGHT: u8 = 0;
const IS_DEGRADED: u8 = 1;
const IS_FAILING: u8 = 2;
/// A difference, and the required answer.
const STATES: [(&[Series], u8); 11] = [
    (&[], ALL_RIGHT),
    // One request in two hundred.
    (&[(FAILED, "0+1x40")], ALL_RIGHT),
    (&[(A_UP, "0x40")], IS_DEGRADED),
    (&[(DEGRADED, "1x40")], IS_DEGRADED),
    (&[(LOG_IN_REACH, "0x40")], IS_DEGRADED),
    (&[(A_UP, "0x40"), (DEGRADED, "1x40"), (LOG_IN_REACH, "0x40")], IS_DEGRADED),
    (&[(A_UP, "0x40"), (r#"up{instance="b"}"#, "0x40")], IS_FAILING),
    (&[(UNKNOWN, "0x30 1x10")], IS_FAILING),
    (&[(FAILED, "0+3x40")], IS_FAILING),
    (&[NOT_ARRIVING], IS_FAILING),
    (&[NOT_ARRIVING, (A_UP, "0x40")], IS_FAILING),
];

#[test]
fn whatever_goes_wrong_the_answer_is_degraded_or_failing() {
    let question = question();
    let test = |(different, answer): &(&[Series], u8)| {
        let stays = |(name, _): &&Series| different.iter().all(|(changed, _)| changed != name);
        let series = WELL.iter().filter(stays).chain(*different).map(|(name, values)| {
            json!({ "series": name.replace('{', r#"{job="vx11-operator", "#), "values": values })
        });
        let expected = json!({ "labels": "{}", "value": answer });
        let asked = json!({ "expr": question, "eval_time": "9m", "exp_samples": [expected] });
        json!({ "interval": "15s", "input_series": series.collect::<Vec<_>>(), "promql_expr_test": [asked] })
    };
    let tests: Vec<_> = STATES.iter().map(test).collect();
    let rules = shipped("deploy/prometheus/rules/recording.yml");
    let all = json!({ "rule_files": [rules], "evaluation_interval": "15s", "tests": tests });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer.yml");
    // JSON is YAML, too.
    std::fs::write(&file, all.to_string()).unwrap();
    content("promtool", &["test", "rules"], &[file]);
}
