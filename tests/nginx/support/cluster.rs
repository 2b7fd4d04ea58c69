//! Instances that share a Redis, with nginx in front.

use std::path::Path;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use vx11_kit::{
    EventStream, Nginx, Operator, Port, RedisServer, Site, eventually, new_principal, remember_secret,
};

/// All parts of `docker-compose`, on free ports.
pub struct Cluster {
    pub nginx: Nginx,
    pub instances: Vec<Operator>,
    pub principal: String,
    pub client: Client,
    pub redis: RedisServer,
    environment: Vec<(String, String)>,
    ports: Vec<Port>,
}

impl Cluster {
    /// As many instances as asked for, with defaults.
    pub async fn of(count: usize) -> Self {
        Self::with(count, Site::default(), &[]).await
    }

    /// Instances with further environment variables, and nginx as `site` says.
    pub async fn with(count: usize, site: Site, environment: &[(&str, &str)]) -> Self {
        let ports = (0..count).map(|_| Port::reserve()).collect();
        Self::on(ports, site, environment).await
    }

    /// As many instances, each of which nginx leaves alone for a time such as `10m` after it has
    /// failed, instead of two seconds.
    pub async fn left_alone_for(count: usize, time: &str) -> Self {
        let ports: Vec<_> = (0..count).map(|_| Port::reserve()).collect();
        let servers = ports
            .iter()
            .map(|port| format!("server 127.0.0.1:{} max_fails=3 fail_timeout={time};\n", port.number()));
        let files = vec![("instances.conf".to_owned(), servers.collect())];
        Self::on(ports, Site { files, ..Site::default() }, &[]).await
    }

    async fn on(ports: Vec<Port>, site: Site, environment: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start().await;
        let principal = new_principal();
        let mut variables = vec![
            ("REDIS_URL".to_owned(), redis.url()),
            ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES".to_owned(), "127.0.0.0/8".to_owned()),
            ("VX11_OPERATOR_LOG_LEVEL".to_owned(), "debug".to_owned()),
        ];
        variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut instances = Vec::new();
        for (at, port) in ports.iter().enumerate() {
            instances.push(start(at, port, &principal, &variables).await);
        }
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{}", port.number())).collect();
        let nginx = Nginx::with(Site { instances: addresses, ..site }).await;
        let client = Client::builder().no_proxy().build().unwrap();
        Self { nginx, instances, principal, client, redis, environment: variables, ports }
    }

    /// Starts an instance that has ended again, at its address.
    pub async fn restart(&mut self, at: usize) {
        self.instances[at] = start(at, &self.ports[at], &self.principal, &self.environment).await;
    }

    /// A GET through the load balancer, without a credential.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.nginx.balancer()))
    }

    /// A GET through the load balancer with the principal's credential.
    pub fn get_as_principal(&self, path: &str) -> RequestBuilder {
        self.get(path).header("X-VX11-Token", &self.principal)
    }

    /// A POST through the load balancer with the principal's credential.
    pub fn post_as_principal(&self, path: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.nginx.balancer()));
        request.header("X-VX11-Token", &self.principal)
    }

    /// Asks for an event to be published.
    pub fn publish(&self, number: usize) -> RequestBuilder {
        self.post_as_principal("/operator/api/events").json(&json!({ "data": number }))
    }

    /// Publishes an event and returns its id. The first attempt has no key, so that nginx sends it
    /// to one instance only. While an instance answers that the log is unavailable or the outcome
    /// unknown, as on a busy machine that misses the deadline for Redis, it repeats under a key.
    /// Any other answer fails the test, one that nginx gives included.
    pub async fn publish_event(&self, data: Value) -> String {
        let (key, mut attempts) = (new_principal(), 0);
        eventually("an event to be published", async || {
            let mut request = self.post_as_principal("/operator/api/events").json(&json!({ "data": data }));
            attempts += 1;
            if attempts > 1 {
                request = request.header("Idempotency-Key", &key);
            }
            let answer = request.send().await.unwrap();
            let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
            if is_deadline(status, &body) {
                return None;
            }
            assert_eq!(status, StatusCode::ACCEPTED, "{body}");
            Some(body["id"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// A token, issued through nginx.
    pub async fn issue(&self) -> String {
        let answer = self.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.unwrap();
        let token = body["sse_token"].as_str().unwrap().to_owned();
        remember_secret(&token);
        token
    }

    /// Opens a stream through nginx and reads its greeting; says which instance greets.
    pub async fn open_stream(&self, token: &str) -> (String, EventStream) {
        let request = self.get("/operator/api/events/stream").query(&[("token", token)]);
        let stream = EventStream::connected(request.send().await.unwrap()).await;
        (stream.greeting.json()["instance_id"].as_str().unwrap().to_owned(), stream)
    }
}

/// Whether an answer to publishing may be due to a Redis that was slow. Only instances give it:
/// nginx says 502 or 504 where it does not know the outcome.
pub fn is_deadline(status: StatusCode, body: &Value) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE
        && ["log_unavailable", "outcome_unknown"].contains(&body["code"].as_str().unwrap_or_default())
}

async fn start(at: usize, port: &Port, principal: &str, environment: &[(String, String)]) -> Operator {
    let listen = format!("127.0.0.1:{}", port.number());
    let id = (at + 1).to_string();
    let mut variables = vec![("INSTANCE_ID", id.as_str())];
    variables.extend(environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
    let instance = Operator::start_at(&listen, binary, principal, &variables).await;
    instance.await_well().await;
    instance
}
