//! One look at the cluster: as many answers as it takes to know every instance.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::{Cluster, FORBEARANCE};
use crate::failure::Failure;
use crate::session::Session;

/// Deadline of a look. nginx waits two seconds for an instance that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks until every known instance has answered, and one of them twice: while Redis is unavailable
/// each knows only itself. Bounded, because not every URL leads to all instances.
pub(super) async fn look(session: &Session, cluster: &mut Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut answered = HashSet::new();
    let mut asked = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = session.statistics(left).await?;
        let is_first = answered.insert(answer.instance.instance_id.clone());
        cluster.add(answer, Instant::now());
        asked += 1;
        let have_all = cluster.present().all(|id| answered.contains(id));
        if (have_all && !is_first) || asked >= cluster.present().count() + FORBEARANCE {
            return Ok(());
        }
    }
}
