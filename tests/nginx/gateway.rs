//! The gateway: its own health, and a switch for the service's routes.

use reqwest::StatusCode;
use vx11_kit::Site;

use crate::support::{Cluster, problem};

#[tokio::test]
async fn the_gateway_is_well_by_itself_and_passes_the_operators_routes_on() {
    let mut cluster = Cluster::of(1).await;
    let at_gateway = |cluster: &Cluster, path: &str| {
        let request = cluster.client.get(format!("{}{path}", cluster.nginx.gateway()));
        request.header("X-VX11-Token", &cluster.principal).send()
    };
    let answer = at_gateway(&cluster, "/operator/internal/instance-id").await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"instance_id":"1"}"#);
    cluster.instances[0].kill();
    let health = at_gateway(&cluster, "/health").await.unwrap();
    assert_eq!(health.headers()["content-type"], "application/json");
    assert_eq!(health.text().await.unwrap(), r#"{"status":"ok","module":"tentaculo_link"}"#);
    problem(at_gateway(&cluster, "/operator/internal/instance-id").await.unwrap(), 503, "no_instance").await;
}

#[tokio::test]
async fn switched_off_the_gateway_says_so_and_stays_well() {
    let site = Site { proxy_enabled: false, ..Site::default() };
    let cluster = Cluster::with(1, site, &[]).await;
    for path in ["/operator/api/events/stream?token=x", "/operator/api/health", "/operator/anything"] {
        let answer = cluster.client.get(format!("{}{path}", cluster.nginx.gateway())).send().await.unwrap();
        problem(answer, 503, "operator_proxy_disabled").await;
    }
    let health = cluster.client.get(format!("{}/health", cluster.nginx.gateway())).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    // The balancer has no switch.
    assert_eq!(cluster.get("/operator/api/health").send().await.unwrap().status(), StatusCode::OK);
}
