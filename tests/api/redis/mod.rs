//! Instances that share a Redis.

mod beginnings;
mod bounds;
mod catch_up;
mod client;
mod client_certificates;
mod cluster_view;
mod deployments;
mod events;
mod forged_tokens;
mod hung_up;
mod list_limits;
mod log_available;
mod log_pages;
mod log_scripts;
mod log_size;
mod lost_data;
mod narrow_link;
mod odd_events;
mod outage;
mod panel;
mod revocations;
mod rings;
mod sharing;
mod statistics;
mod streams_of_all;
mod subject_caps;
mod subjects;
mod suspended;
mod tickets;
mod topologies;
mod troubles;
mod when_lost;

use serde_json::{Value, json};
use vx11_kit::{FaultProxy, RedisServer};

use crate::support::{Instance, planted, random_hex};

/// An instance's figures.
async fn figures(instance: &Instance) -> Value {
    let answer = instance.get_as_principal("/operator/internal/cache-stats").send().await;
    answer.expect("figures are given").json().await.expect("as JSON")
}

/// Several instances that share a principal and a Redis.
struct Cluster {
    redis: RedisServer,
    principal: String,
}

impl Cluster {
    async fn start() -> Self {
        Self { redis: RedisServer::start().await, principal: random_hex() }
    }

    async fn instance(&self, id: &str) -> Instance {
        self.instance_with(id, &[]).await
    }

    /// A further instance, with these settings.
    async fn instance_with(&self, id: &str, settings: &[(&str, &str)]) -> Instance {
        let port = self.redis.port().to_string();
        let mut environment = vec![
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", port.as_str()),
            ("VX11_PRINCIPAL_TOKEN", self.principal.as_str()),
            ("INSTANCE_ID", id),
        ];
        environment.extend_from_slice(settings);
        Instance::with(&environment).await
    }

    /// One more instance, and the way on which alone it reaches Redis.
    async fn instance_with_way(&self, id: &str, settings: &[(&str, &str)]) -> (Instance, FaultProxy) {
        let way = FaultProxy::start(self.redis.address());
        let port = way.port().to_string();
        let settings = [settings, &[("REDIS_PORT", port.as_str())]].concat();
        (self.instance_with(id, &settings).await, way)
    }
}

/// The user of docs/redis.md.
struct DocumentedUser {
    password: String,
    line: String,
}

impl DocumentedUser {
    fn new() -> Self {
        let lines = include_str!("../../../docs/redis.md").lines();
        let mut users = lines.into_iter().filter(|line| line.starts_with("ACL SETUSER sse"));
        let password = planted();
        Self { line: users.next().expect("the line of the user").replace("PASSWORD", &password), password }
    }

    fn without(mut self, right: &str) -> Self {
        self.line = self.line.replace(&format!(" {right} "), " ");
        self
    }

    /// The same user with other patterns of keys.
    fn with_keys(&self, patterns: &str) -> Self {
        let line = self.line.replace("~token:* ~revoked:* ~epoch:* ~{vx11}:*", patterns);
        Self { password: self.password.clone(), line }
    }

    async fn create(&self, redis: &RedisServer) {
        redis.command(&self.line.split(' ').collect::<Vec<_>>()).await;
    }

    /// With which an instance is that user.
    fn settings(&self) -> [(&str, &str); 2] {
        [("REDIS_USERNAME", "sse"), ("REDIS_PASSWORD", &self.password)]
    }
}

/// Nothing was tried that the user may not do.
async fn nothing_was_denied(redis: &RedisServer) {
    let denied = redis.command(&["ACL", "LOG"]).await;
    assert_eq!(denied, redis::Value::Array(Vec::new()));
}

/// Number of entries in a stream.
async fn entries_in(cluster: &Cluster, stream: &str) -> usize {
    redis::from_redis_value(cluster.redis.command(&["XLEN", stream]).await).unwrap()
}

/// Waits until the instance is on the backend of this name.
async fn backend_becomes(instance: &Instance, backend: &str) {
    vx11_kit::until(&format!("backend {backend}"), async || figures(instance).await["backend"] == backend)
        .await;
}

/// Answer to the revocation of a token or token id.
async fn revoke(instance: &Instance, parameter: (&str, &str)) -> Value {
    let request = instance.post_as_principal("/operator/api/tokens/revoke").form(&[parameter]);
    request.send().await.unwrap().json().await.unwrap()
}

/// Revokes until Redis has the revocation: a busy machine may miss the deadline for it.
async fn revoke_everywhere(instance: &Instance, parameter: (&str, &str)) {
    vx11_kit::until("a revocation on all instances", async || {
        revoke(instance, parameter).await == json!({"effective": "cluster"})
    })
    .await;
}
