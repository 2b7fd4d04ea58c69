//! A rolling update from the previous release, and the way back, under load behind nginx.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vx11_kit::{Api, Nginx, Operator, PATIENCE, RedisServer, new_principal, previous_release};
use vx11_rig::{Endpoint, FaultRun, Measure, Member, Targets, Times};

use crate::cluster::{of_topics, publish};
use crate::this_release;

const MEASURE: Measure =
    Measure { rate: 100, subscribers: 30, events: 20, event_bytes: 0, pausing: 0, topics: None };
const INSTANCES: [&str; 2] = ["1", "2"];
/// Seconds: tokens are older than the update takes, and expire in it.
const LIFE: u64 = 15;

/// Streams end in order and resume; nothing is refused, lost, or left unanswered, events included.
/// Times are noted and not judged, as in all tests.
fn targets() -> Targets {
    Targets {
        longest: None,
        refusals: None,
        // A client that moves to the instance that ends next moves again.
        reconnects: INSTANCES.len(),
        in_order: true,
        losses: true,
        gaps: Some(0),
        times: Times::AreReported,
        ..Targets::of_rounds(1)
    }
}

/// A deployment of one release.
struct Deployment {
    instances: Vec<Operator>,
    nginx: Nginx,
    balancer: Api,
    _redis: RedisServer,
}

impl Deployment {
    async fn of(release: &Path) -> Self {
        let (redis, principal) = (RedisServer::start().await, new_principal());
        let (port, life) = (redis.port().to_string(), LIFE.to_string());
        let mut instances = Vec::new();
        for id in INSTANCES {
            let environment = [
                ("INSTANCE_ID", id),
                ("EPHEMERAL_TOKEN_TTL_SEC", &life),
                ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1"),
                ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1/32"),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PORT", &port),
            ];
            instances.push(Operator::start(release, &principal, &environment).await);
        }
        for instance in &instances {
            instance.await_well().await;
        }
        let addresses: Vec<_> = instances.iter().map(|instance| instance.address().to_owned()).collect();
        let nginx = Nginx::start(&addresses).await;
        let balancer = Api::new(&nginx.balancer(), &principal, Duration::from_secs(LIFE));
        Self { instances, nginx, balancer, _redis: redis }
    }

    /// Replaces one instance after the other under load, and judges.
    async fn move_to(&mut self, release: &Path, name: &str) {
        let members = self.instances.iter().map(Member::from).collect();
        let mut fault_run = FaultRun::over(name, members, Some(self.balancer.clone()), MEASURE).await;
        fault_run.begin_fault().await;
        for (number, instance) in self.instances.iter_mut().enumerate() {
            fault_run.recorder().down(Endpoint::Instance(number));
            instance.replace(release);
            instance.terminate();
            instance.ended().await;
            instance.restart().await;
            instance.await_well().await;
            fault_run.recorder().up(Endpoint::Instance(number));
        }
        fault_run.recorder().repaired();
        fault_run.settle(PATIENCE).await;
        fault_run.close(targets()).await.publish("mixed");
        assert!(self.nginx.ended().is_none(), "nginx has ended:\n{}", self.nginx.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_refuses_and_loses_nothing_and_brings_topics() {
    let mut deployment = Deployment::of(&previous_release("debug")).await;
    deployment.move_to(this_release(), "update from the previous release").await;
    let balancer = &deployment.balancer;
    let mut stream = of_topics(balancer, &["orders/*"]).await;
    publish(balancer, &["users/7"], &json!(1)).await;
    let id = publish(balancer, &["orders/1"], &json!(2)).await;
    assert_eq!(stream.next_published().await.id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_to_the_previous_release_refuses_and_loses_nothing_of_default() {
    let mut deployment = Deployment::of(this_release()).await;
    // Events of other topics are in the log, and in the rings of those that go.
    for number in 0..20 {
        publish(&deployment.balancer, &["orders/1"], &json!(number)).await;
    }
    deployment.move_to(&previous_release("debug"), "return to the previous release").await;
}
