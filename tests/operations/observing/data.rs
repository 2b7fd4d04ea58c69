//! Waiting until there is something to see.

use std::time::Duration;

use tokio::time::timeout;
use vx11_kit::{PATIENCE, Prometheus};

use crate::expressions::silent;

/// Between two looks.
const POLL: Duration = Duration::from_millis(300);
/// Waits until each of the expressions says something.
pub(crate) async fn await_data(prometheus: &Prometheus, expressions: &[String]) {
    let mut left = silent(prometheus, expressions).await;
    // A quarter of an hour of Prometheus's is half a minute here.
    let awaited = async {
        while !left.is_empty() {
            tokio::time::sleep(POLL).await;
            left = silent(prometheus, expressions).await;
        }
    };
    let came = timeout(PATIENCE, awaited).await;
    assert!(came.is_ok(), "nothing comes of:\n{}", left.join("\n"));
}
