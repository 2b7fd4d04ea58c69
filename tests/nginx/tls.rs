//! `examples/tls.conf`: TLS and HTTP/2.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use vx11_kit::{Port, Site, shipped_nginx};

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

/// A certificate for localhost as `fullchain.pem` and `privkey.pem`, signed by an authority of its
/// own, `authority.pem`.
fn signed_certificate(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    // Two of one name would be taken for each other, and the signature for a bad one.
    let name = folder.file_name().unwrap().display();
    for arguments in [
        format!("req -x509 {KEY} -days 2 -subj /CN={name} -keyout authority.key -out authority.pem"),
        format!("req {KEY} -subj /CN=localhost -keyout privkey.pem -out request.pem"),
        "x509 -req -days 2 -in request.pem -CA authority.pem -CAkey authority.key -CAcreateserial -extfile names \
         -out fullchain.pem"
            .to_owned(),
    ] {
        std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
        let made = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
        let made = made.expect("openssl can be run: `make packages`");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// Runs curl with a configuration that no list of processes shows.
fn curl(configuration: &str) -> Output {
    start_curl(configuration).wait_with_output().unwrap()
}

/// Reads a stream up to the end of its greeting, or to its end.
fn until_connected(stream: impl Read) -> String {
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        text += &line.unwrap();
        text.push('\n');
        if text.contains(r#""type":"connected""#) {
            break;
        }
    }
    text
}

fn start_curl(configuration: &str) -> Child {
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl can be run: `make packages`");
    curl.stdin.take().unwrap().write_all(configuration.as_bytes()).unwrap();
    curl
}

/// Two instances behind the example, with the certificate in `folder`; its port, and the plain one
/// beside it, through which the rig sees that nginx has started.
async fn serving(folder: &Path) -> (Cluster, Port, Port) {
    let (port, plain) = (Port::reserve(), Port::reserve());
    let example = std::fs::read_to_string(shipped_nginx().join("examples/tls.conf")).unwrap();
    let tls = example
        .replace("listen 8443 ", &format!("listen 127.0.0.1:{} ", port.number()))
        .replace("site/tls/", &format!("{}/", folder.display()));
    let also_plain = format!("{tls}\ninclude site/plain-listen.conf;\n");
    let site = Site {
        balancer_port: Some(plain.number()),
        files: vec![
            ("balancer-listen.conf".to_owned(), also_plain),
            ("plain-listen.conf".to_owned(), format!("listen 127.0.0.1:{};\n", plain.number())),
        ],
        ..Site::default()
    };
    (Cluster::with(2, site, &[]).await, port, plain)
}

#[tokio::test]
async fn the_example_serves_streams_over_http_2() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (cluster, port, _plain) = serving(folder.path()).await;
    let token = cluster.issue().await;
    let base = format!("https://localhost:{}", port.number());
    let trust =
        format!("cacert = \"{}/fullchain.pem\"\nhttp2\nipv4\nnoproxy = \"*\"\n", folder.path().display());

    let health = curl(&format!("{trust}url = \"{base}/health\"\ninclude\n"));
    let text = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(text.starts_with("HTTP/2 200"), "{text}{}", String::from_utf8_lossy(&health.stderr));
    assert!(text.contains("strict-transport-security:"), "{text}");
    assert!(text.ends_with(r#"{"status":"ok","module":"operator"}"#), "{text}");

    let url = format!("{base}/operator/api/events/stream?token={token}");
    let mut stream = start_curl(&format!("{trust}url = \"{url}\"\nno-buffer\ninclude\n"));
    let text = until_connected(stream.stdout.take().unwrap());
    stream.kill().unwrap();
    stream.wait().unwrap();
    assert!(text.starts_with("HTTP/2 200") && text.contains(r#""type":"connected""#), "{text}");

    // Plain HTTP on the same port gets an explanation.
    let plain = curl(&format!("url = \"http://127.0.0.1:{}/health\"\ninclude\n", port.number()));
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("bad_request"), "{text}");
}

#[tokio::test]
async fn the_command_line_client_trusts_the_authority_it_is_given_else_the_systems_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    signed_certificate(folder.path());
    let other = tempfile::tempdir().unwrap();
    signed_certificate(other.path());
    let (cluster, port, _plain) = serving(folder.path()).await;
    // Path in which rustls-native-certs finds the certificates of the system.
    let system = ("SSL_CERT_FILE", other.path().join("authority.pem"));
    let publish = |host: &str, authority: Option<&Path>| {
        let mut publish = Command::new(env!("CARGO_BIN_EXE_vx11-operator"));
        publish
            .args(["publish", "--patience", "5", "--url", &format!("https://{host}:{}/", port.number()), "1"])
            .env_clear()
            .env("VX11_PRINCIPAL_TOKEN", &cluster.principal)
            .env(system.0, &system.1);
        publish.args(authority.iter().flat_map(|file| ["--ca", file.to_str().unwrap()]));
        let publish = publish.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (publish.status.code(), text(publish.stdout), text(publish.stderr))
    };
    let (code, id, errors) = publish("localhost", Some(&folder.path().join("authority.pem")));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(id.matches('-').count(), 2, "{id}");

    let unknown = publish("localhost", None);
    assert!(unknown.2.contains("give that one's certificate as --ca"), "{}", unknown.2);
    let misnamed = publish("127.0.0.1", Some(&folder.path().join("authority.pem")));
    for (code, id, errors) in [unknown, misnamed] {
        assert_eq!((code, id.as_str()), (Some(1), ""));
        // By the first attempt: the last may have too little time left to fail like the others.
        let shown = errors.lines().next().unwrap();
        assert!(shown.contains(": cannot connect: ") && shown.contains("certificate"), "{errors}");
    }
    std::fs::copy(folder.path().join("authority.pem"), &system.1).unwrap();
    let trusted = publish("localhost", None);
    assert_eq!((trusted.0, trusted.2.as_str()), (Some(0), ""));
    for (file, complaint) in [("privkey.pem", "no certificate in PEM form"), ("missing", "cannot be read")] {
        let (code, _, errors) = publish("localhost", Some(&folder.path().join(file)));
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("--ca (VX11_OPERATOR_CA)") && errors.contains(complaint), "{errors}");
    }
}
