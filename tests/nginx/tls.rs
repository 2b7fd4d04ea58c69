//! `examples/tls.conf`: TLS and HTTP/2.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use vx11_rig::{Port, Site, shipped_nginx};

use crate::support::Cluster;

/// A certificate for localhost that signs itself, as `fullchain.pem` and `privkey.pem`.
pub fn certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", "privkey.pem", "-out", "fullchain.pem"])
        .current_dir(folder)
        .output()
        .expect("openssl can be run: `make packages`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Runs curl with a configuration that no list of processes shows.
fn curl(configuration: &str) -> Output {
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl can be run: `make packages`");
    curl.stdin.take().unwrap().write_all(configuration.as_bytes()).unwrap();
    curl.wait_with_output().unwrap()
}

#[tokio::test]
async fn the_example_serves_streams_over_http_2() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let port = Port::reserve();
    let example = std::fs::read_to_string(shipped_nginx().join("examples/tls.conf")).unwrap();
    let tls = example
        .replace("listen 8443 ", &format!("listen 127.0.0.1:{} ", port.number()))
        .replace("site/tls/", &format!("{}/", folder.path().display()));
    // Beside the plain one, through which the rig sees that nginx has started.
    let also_plain = format!("{tls}\ninclude site/plain-listen.conf;\n");
    let plain = Port::reserve();
    let site = Site {
        balancer_port: Some(plain.number()),
        files: vec![
            ("balancer-listen.conf".to_owned(), also_plain),
            ("plain-listen.conf".to_owned(), format!("listen 127.0.0.1:{};\n", plain.number())),
        ],
        ..Site::default()
    };
    let cluster = Cluster::with(2, site, &[]).await;
    let token = cluster.issue().await;
    let base = format!("https://localhost:{}", port.number());
    let trust =
        format!("cacert = \"{}/fullchain.pem\"\nhttp2\nipv4\nnoproxy = \"*\"\n", folder.path().display());

    let health = curl(&format!("{trust}url = \"{base}/health\"\ninclude\n"));
    let text = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(text.starts_with("HTTP/2 200"), "{text}{}", String::from_utf8_lossy(&health.stderr));
    assert!(text.contains("strict-transport-security:"), "{text}");
    assert!(text.ends_with(r#"{"status":"ok","module":"operator"}"#), "{text}");

    let stream = curl(&format!(
        "{trust}url = \"{base}/operator/api/events/stream?token={token}\"\nmax-time = 2\ninclude\n"
    ));
    let text = String::from_utf8_lossy(&stream.stdout).into_owned();
    assert!(text.starts_with("HTTP/2 200") && text.contains(r#""type":"connected""#), "{text}");

    // Plain HTTP on the same port is told what is wrong.
    let plain = curl(&format!("url = \"http://127.0.0.1:{}/health\"\ninclude\n", port.number()));
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("bad_request"), "{text}");
}
