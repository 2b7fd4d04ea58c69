//! Redis itself fails.

use std::time::Duration;

use tokio::time::sleep;
use vx11_kit::new_principal;

use super::drilling::Drilling;

/// Half of an up and down of a Redis that flaps.
pub(super) const FLAP: Duration = Duration::from_secs(1);

pub(super) async fn killed(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.cluster.redis().kill();
    drilling.last(1.0).await;
    drilling.cluster.redis().restart().await;
    drilling.recover().await;
}

pub(super) async fn stopped(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.cluster.redis().stop().await;
    drilling.last(1.0).await;
    drilling.cluster.redis().cont();
    drilling.recover().await;
}

pub(super) async fn flapping(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    let flaps = drilling.length.flaps;
    for flap in 0..flaps {
        drilling.cluster.redis().kill();
        sleep(FLAP).await;
        drilling.cluster.redis().restart().await;
        if flap + 1 < flaps {
            sleep(FLAP).await;
        }
    }
    drilling.recover().await;
}

pub(super) async fn emptied(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    lose_data(drilling, round).await;
    drilling.recover().await;
    // Long enough for tokens to be issued that Redis has to know.
    drilling.last(0.5).await;
}

/// Redis loses its data, in turn by FLUSHALL and by a restart.
pub(super) async fn lose_data(drilling: &mut Drilling, round: usize) {
    if round.is_multiple_of(2) {
        drilling.cluster.redis().flush().await;
    } else {
        drilling.cluster.redis().restart().await;
    }
}

/// One refusal after the other; each has to be counted under its reason.
pub(super) async fn refusing(drilling: &mut Drilling, round: usize) {
    let reason = ["readonly", "out_of_memory", "loading", "authentication"][round % 4];
    let before = count(drilling, reason).await;
    drilling.begin_fault().await;
    match reason {
        "readonly" => {
            drilling.cluster.redis().become_replica().await;
            drilling.last(1.0).await;
            drilling.cluster.redis().become_master().await;
        }
        "out_of_memory" => {
            drilling.cluster.redis().refuse_memory().await;
            drilling.last(1.0).await;
            drilling.cluster.redis().allow_memory().await;
        }
        "loading" => {
            drilling.cluster.redis().restart_loading().await;
            drilling.last(1.0).await;
            drilling.cluster.redis().finish_loading().await;
        }
        _ => {
            let own = drilling.cluster.redis().password().expect("it has a password").to_owned();
            drilling.cluster.redis().require_password(&new_principal()).await;
            drilling.last(1.0).await;
            drilling.cluster.redis().require_password(&own).await;
        }
    }
    drilling.recover().await;
    let counted = count(drilling, reason).await;
    if counted <= before {
        drilling.fault_run.complain(format!("no instance counted a fault with the reason {reason}"));
    }
}

/// Number of this reason on all instances.
async fn count(drilling: &Drilling, reason: &str) -> u64 {
    let mut all = 0;
    for instance in &drilling.cluster.instances {
        let figures = instance.figures().await.expect("metrics answer");
        all += figures.faults.get(reason).copied().unwrap_or(0);
    }
    all
}
