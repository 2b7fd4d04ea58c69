//! Queries of an instance's state, many times a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use vx11_kit::starved;

use super::Stage;
use crate::history::Endpoint;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(20);

/// An instance whose threads have waited so long for a processor since the last look was starved.
const STARVED: Duration = Duration::from_millis(10);

/// Looks for ever. An answer is worth noting where it differs from the one before; that none comes
/// always is.
pub(super) async fn watch(stage: Arc<Stage>, instance: usize) {
    let (member, recorder) = (&stage.members[instance], &stage.recorder);
    let starved_so_far =
        || member.pid.as_ref().map(|pid| starved(pid.load(Ordering::Relaxed))).unwrap_or_default();
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    let (mut looked, mut waited) = (recorder.now(), starved_so_far());
    loop {
        clock.tick().await;
        let (now, waits) = (recorder.now(), starved_so_far());
        // A look that comes late was starved itself.
        if waits.saturating_sub(waited) > STARVED || now.saturating_sub(looked) > 2 * PERIOD + STARVED {
            recorder.starved(looked);
        }
        (looked, waited) = (now, waits);
        let look = async {
            let standing = member.api.standing().await?;
            if before.replace(standing) != Some(standing) {
                recorder.observe(instance, standing);
            }
            Ok(true)
        };
        recorder.look_at(Endpoint::Instance(instance), look).await;
    }
}
