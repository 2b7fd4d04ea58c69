//! Traffic of clients while Prometheus scrapes.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;
use vx11_kit::Api;

use crate::cluster::Cluster;

/// Of every token here. Times of Prometheus's are a thirtieth; less than this would be less than
/// clocks may differ.
pub(crate) const LIFE: u64 = 10;
/// Between two clients: 240 tokens a minute, half of what an alert begins at.
const BETWEEN: Duration = Duration::from_millis(250);
/// So many streams stay open; each further one takes the place of the oldest.
const STREAMS: usize = 6;
/// Tasks that share the requests of [`Traffic::many`].
const TASKS: u32 = 16;

/// Clients at work; they stop when this is dropped.
pub(crate) struct Traffic {
    _tasks: JoinSet<()>,
}

/// A service as its clients see it: through nginx.
pub(crate) fn service(cluster: &Cluster) -> Api {
    Api::new(&cluster.nginx.balancer(), &cluster.principal(), Duration::from_secs(LIFE))
}

impl Traffic {
    /// Permanent traffic: tokens are issued, looked up, shown to open streams and to a reverse
    /// proxy, and events are published. Failures are not repeated.
    pub(crate) fn steady(cluster: &Cluster) -> Self {
        let (service, proxy) = (service(cluster), Client::builder().no_proxy().build().unwrap());
        let authorise = format!("{}/operator/internal/authorise", cluster.instances[0].base());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut streams, mut clock) = (VecDeque::new(), tokio::time::interval(BETWEEN));
            for number in 0_u64.. {
                clock.tick().await;
                // Nobody waits for it: it takes a while where the log is out of reach.
                let publisher = service.clone();
                tokio::spawn(
                    async move { publisher.publish(&format!("event-{number}"), &json!(number)).await },
                );
                let Ok(issued) = service.issue().await else { continue };
                let _ = service.introspect(&issued.token).await;
                let _ = proxy.get(&authorise).bearer_auth(&issued.token).send().await;
                if let Ok(Some(stream)) = service.open_stream(&issued.token).await {
                    streams.push_back(stream);
                }
                if streams.len() > STREAMS {
                    streams.pop_front();
                }
            }
        });
        Self { _tasks: tasks }
    }

    /// So many a second of the same request.
    pub(crate) fn many<R: Future<Output: Send> + Send + 'static>(
        rate: u32,
        request: impl Fn() -> R + Clone + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let request = request.clone();
            tasks.spawn(async move {
                let mut clock = tokio::time::interval(Duration::from_secs(1) * TASKS / rate);
                loop {
                    clock.tick().await;
                    request().await;
                }
            });
        }
        Self { _tasks: tasks }
    }
}
