//! Streams through an nginx in its default configuration in front of the shipped one.

use serde_json::json;
use tokio::time::timeout;
use vx11_kit::{EventStream, PATIENCE, StockNginx};

use crate::support::Cluster;

#[tokio::test]
async fn a_stream_passes_a_stock_nginx_in_front_at_once_event_by_event() {
    let cluster = Cluster::of(1).await;
    let token = cluster.issue().await;
    for shipped in [cluster.nginx.balancer(), cluster.nginx.gateway()] {
        let front = StockNginx::start(&shipped).await;
        let address = format!("{}/operator/api/events/stream", front.base());
        let opening = cluster.client.get(address).query(&[("token", &token)]).send();
        let answer = timeout(PATIENCE, opening).await.expect("the front passes the head on").unwrap();
        let mut stream = EventStream::connected(answer).await;
        for data in ["first", "second"] {
            cluster.publish_event(json!(data)).await;
            // The front passes it on before another comes.
            while stream.next_published().await.json() != data {}
        }
    }
}
