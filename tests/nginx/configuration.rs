//! The configuration itself: nginx takes it, as it ships and with each example.

use vx11_rig::{Nginx, shipped_nginx, test_configuration};

#[test]
fn nginx_takes_the_configuration_as_it_ships() {
    let said = test_configuration(&shipped_nginx()).unwrap_or_else(|said| panic!("{said}"));
    assert!(!said.contains("[warn]"), "{said}");
}

#[test]
fn a_configuration_with_a_mistake_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nginx.conf"), "events {} http { least_conn; }").unwrap();
    let said = test_configuration(folder.path()).expect_err("it is wrong");
    assert!(said.contains("least_conn"), "{said}");
}

#[tokio::test]
async fn nginx_starts_reloads_is_killed_and_starts_again() {
    let instances = ["127.0.0.1:1".to_owned()];
    let mut nginx = Nginx::start(&instances).await;
    nginx.reload(&instances).await;
    nginx.kill().await;
    nginx.restart().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = client.get(format!("{}/health", nginx.gateway())).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), r#"{"status":"ok","module":"tentaculo_link"}"#);
}
