//! Waiting until there is something to see.

use std::time::{Duration, Instant};

use vx11_rig::{PATIENCE, Prometheus};

use crate::expressions::silent;

/// Between two looks.
const POLL: Duration = Duration::from_millis(300);
/// Until there is: a quarter of an hour of Prometheus's is half a minute here.
const LONGEST: Duration = PATIENCE.saturating_mul(2);

/// Waits until each of the expressions says something.
pub(crate) async fn await_data(prometheus: &Prometheus, expressions: &[String]) {
    let (started, mut left) = (Instant::now(), silent(prometheus, expressions).await);
    while !left.is_empty() {
        assert!(started.elapsed() < LONGEST, "nothing comes of:\n{}", left.join("\n"));
        tokio::time::sleep(POLL).await;
        left = silent(prometheus, expressions).await;
    }
}
