//! The configuration itself: nginx takes it, as it ships and with each example.

use vx11_kit::{Nginx, shipped_nginx, test_configuration};

use crate::tls::certificate;

#[test]
fn nginx_takes_the_configuration_as_it_ships() {
    let said = test_configuration(&[]).unwrap_or_else(|said| panic!("{said}"));
    assert!(!said.contains("[warn]"), "{said}");
}

#[test]
fn nginx_takes_it_with_either_value_of_the_switch() {
    for value in ["0", "1"] {
        let switch = read(&format!("switch/operator-proxy-{value}.conf"));
        test_configuration(&[("site/operator-proxy.conf", switch)]).unwrap_or_else(|said| panic!("{said}"));
    }
    let shipped = read("site/operator-proxy.conf");
    assert_eq!(shipped, read("switch/operator-proxy-1.conf"), "what ships is one of the two");
}

#[test]
fn nginx_takes_each_example() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let place = format!("{}/", folder.path().display());
    let tls = read("examples/tls.conf").replace("site/tls/", &place);
    let protect = read("examples/protect-backend.conf");
    let examples = [("site/balancer-listen.conf", tls), ("site/servers/protect-backend.conf", protect)];
    let said = test_configuration(&examples).unwrap_or_else(|said| panic!("{said}"));
    assert!(!said.contains("[warn]"), "{said}");
    let count = std::fs::read_dir(shipped_nginx().join("examples")).unwrap().count();
    assert_eq!(count, examples.len(), "an example that is not tried");
}

#[test]
fn both_lists_of_instances_name_the_same_ones() {
    let [list, anew] = ["site/instances.conf", "site/instances-anew.conf"].map(|file| {
        let text = read(file);
        let servers = text.lines().filter_map(|line| line.strip_prefix("server "));
        servers.filter_map(|server| server.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(list.len() == 3 && list == anew, "{list:?} {anew:?}");
}

#[test]
fn a_configuration_with_a_mistake_is_not_taken() {
    let said = test_configuration(&[("site/instances.conf", "sever 127.0.0.1:1;".to_owned())]);
    assert!(said.expect_err("it is wrong").contains("sever"));
}

/// Only there may deployments differ: nothing else says where something listens, or which instances
/// there are.
#[test]
fn only_files_of_site_contain_what_differs_between_deployments() {
    for folder in [".", "http", "locations"] {
        for entry in std::fs::read_dir(shipped_nginx().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                let says = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
                for word in ["listen ", "server ", "access_log ", "limit_req_zone ", "set_real_ip_from "] {
                    assert!(
                        !says(word) || word == "server " && says("server {"),
                        "{}: {word}",
                        path.display()
                    );
                }
            }
        }
    }
}

/// Timeouts promised for slow clients and for instances that hang. The comments of these files have
/// the sums.
#[test]
fn nginx_waits_as_long_as_is_promised() {
    for (file, setting) in [
        ("http/clients.conf", "client_header_timeout 10s;"),
        ("http/clients.conf", "client_body_timeout 10s;"),
        ("http/proxying.conf", "proxy_connect_timeout 300ms;"),
        ("http/proxying.conf", "proxy_read_timeout 2s;"),
        ("http/proxying.conf", "proxy_next_upstream_tries 2;"),
        ("http/proxying.conf", "proxy_next_upstream_timeout 5s;"),
        ("locations/publish.conf", "proxy_read_timeout 1s;"),
        // Longer than an instance's 15 s between two heartbeats; twice this is below 45 s.
        ("locations/streaming.conf", "proxy_read_timeout 20s;"),
        ("locations/streaming.conf", "proxy_next_upstream_timeout 25s;"),
    ] {
        let text = read(file);
        let is_set = text.lines().any(|line| line.split_whitespace().eq(setting.split(' ')));
        assert!(is_set, "{file}: {setting}");
    }
}

/// With fewer, a busy worker takes connections that were made long ago for timed out, those to all
/// instances at once.
#[test]
fn a_worker_handles_every_ready_connection_before_it_looks_at_timeouts() {
    let number = |file: &str, name: &str| {
        let text = read(file);
        let value = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_suffix(';')?.parse::<u32>().ok());
        value.unwrap_or_else(|| panic!("{file} sets {name}"))
    };
    let connections = number("site/connections.conf", "worker_connections ");
    assert!(number("nginx.conf", "epoll_events ") >= connections);
}

fn read(file: &str) -> String {
    std::fs::read_to_string(shipped_nginx().join(file)).unwrap()
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
