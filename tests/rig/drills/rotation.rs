//! The signing key is replaced while the service runs: first every instance learns to verify with
//! the new key, then they sign with it one after the other, the last one late.

use super::drilling::Drilling;

const VARIABLE: &str = "VX11_OPERATOR_SIGNING_KEYS";

/// Back and forth between two keys.
pub(super) async fn one_instance_late(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    let [first, second] = &drilling.cluster.signing_keys;
    let (old, new) = if round.is_multiple_of(2) {
        (first.clone(), second.clone())
    } else {
        (second.clone(), first.clone())
    };
    let all = drilling.cluster.instances.len();
    for instance in 0..all {
        reconfigure(drilling, instance, &format!("{old},{new}")).await;
    }
    let late = all - 1;
    for instance in 0..late {
        reconfigure(drilling, instance, &format!("{new},{old}")).await;
    }
    drilling.last(1.0).await;
    reconfigure(drilling, late, &format!("{new},{old}")).await;
    drilling.recover().await;
}

async fn reconfigure(drilling: &mut Drilling, instance: usize, keys: &str) {
    drilling.cluster.instances[instance].configure(VARIABLE, keys);
    drilling.restart(instance).await;
}
