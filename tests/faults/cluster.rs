//! A Redis Cluster of three masters without replicas, of which one dies. Redis is back when all
//! nodes say so.

use vx11_kit::RedisCluster;

use crate::instances::together;
use crate::{rounds, targets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_no_node_answers() {
    a_node_is_killed("cluster node killed, full coverage", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_the_others_answer() {
    a_node_is_killed("cluster node killed, partial", false).await;
}

async fn a_node_is_killed(fault: &str, full_coverage: bool) {
    let mut cluster = RedisCluster::start(full_coverage).await;
    let nodes = cluster.addresses().join(",");
    let mut fault_run = together(fault, &[("REDIS_CLUSTER_NODES", &nodes)]).await;
    for round in 0..rounds() {
        let node = usize::try_from(round).unwrap_or(0) % cluster.nodes().len();
        fault_run.begin_fault().await;
        cluster.kill(node);
        fault_run.last().await;
        cluster.restart(node).await;
        cluster.await_ok().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}
