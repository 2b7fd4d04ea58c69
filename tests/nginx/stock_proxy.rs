//! Streams through an nginx in its default configuration in front of the shipped one.

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::timeout;
use vx11_kit::{PATIENCE, StockNginx};

use crate::support::Cluster;

#[tokio::test]
async fn a_stream_passes_a_stock_nginx_in_front_at_once_event_by_event() {
    let cluster = Cluster::of(1).await;
    let token = cluster.issue().await;
    for shipped in [cluster.nginx.balancer(), cluster.nginx.gateway()] {
        let front = StockNginx::start(&shipped).await;
        let address = format!("{}/operator/api/events/stream", front.base());
        let opening = cluster.client.get(address).query(&[("token", &token)]).send();
        let mut stream = timeout(PATIENCE, opening).await.expect("the front passes the head on").unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        let mut seen = String::new();
        for data in ["first", "second"] {
            cluster.publish_event(json!(data)).await;
            while !seen.contains(&format!("data: \"{data}\"")) {
                let chunk = timeout(PATIENCE, stream.chunk()).await.expect("the front passes events on");
                let chunk = chunk.unwrap().expect("the stream goes on");
                seen.push_str(&String::from_utf8_lossy(&chunk));
            }
        }
    }
}
