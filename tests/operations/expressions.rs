//! Metrics in expressions, and whether they exist.

use vx11_kit::Prometheus;

/// Prefixes of series, ours and those of the rules.
const NAMES: [&str; 4] = ["vx11_", "job:", "job_le:", "process_"];

/// The selectors in an expression, without times: `up{job="vx11-operator"}`.
///
/// Statuses other than success are left out: there is no series of what nobody was answered with.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(begin) = rest.find(is_part) {
        rest = &rest[begin..];
        let (name, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let (matchers, after) = match after.strip_prefix('{') {
            Some(inside) => inside.split_once('}').unwrap(),
            None => ("", after),
        };
        if name == "up" || NAMES.iter().any(|begin| name.starts_with(begin)) {
            let kept = matchers.split(',').map(str::trim).filter(|matcher| !is_of_failures(matcher));
            found.push(format!("{name}{{{}}}", kept.collect::<Vec<_>>().join(",")));
        }
        rest = after;
    }
    found
}

fn is_of_failures(matcher: &str) -> bool {
    matcher.strip_prefix("status=").is_some_and(|value| !value.trim_start_matches('~').starts_with("\"2"))
}

/// Those of the expressions that have nothing to say, or nothing but NaN, and those that are wrong.
pub(crate) async fn silent(prometheus: &Prometheus, expressions: &[String]) -> Vec<String> {
    let mut silent = Vec::new();
    for expression in expressions {
        match prometheus.query(expression).await {
            Ok(samples) if samples.iter().any(|sample| !sample.value.is_nan()) => {}
            Ok(_) => silent.push(expression.clone()),
            Err(error) => silent.push(format!("{expression}: {error}")),
        }
    }
    silent
}

#[test]
fn selectors_are_found_where_they_are() {
    let expression = r#"sum by (job, le) (rate(vx11_a_bucket{status="200", le="0.05"}[5m])) / on (job) job:vx11_b:rate5m
        > 0.5 * up{job="vx11-operator"} offset 5m unless vx11_c{status=~"5..", route!~"/operator/api|/x"}"#;
    let expected = [
        r#"vx11_a_bucket{status="200",le="0.05"}"#,
        "job:vx11_b:rate5m{}",
        r#"up{job="vx11-operator"}"#,
        r#"vx11_c{route!~"/operator/api|/x"}"#,
    ];
    assert_eq!(selectors(expression), expected);
}

#[test]
fn a_hurry_shortens_times_and_nothing_else() {
    let rule = "for: 5m\nexpr: rate(a:rate5m[1d] offset 5m) > 5m\nscrape_interval: 15s\n";
    let hurried = vx11_kit::hurried(rule);
    let expected =
        "for: 10000ms\nexpr: rate(a:rate5m[2880000ms] offset 10000ms) > 5m\nscrape_interval: 500ms\n";
    assert_eq!(hurried, expected);
}
