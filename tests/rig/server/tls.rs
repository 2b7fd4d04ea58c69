//! A server that speaks TLS only, with a certificate of an authority that nobody else knows.

use std::path::Path;
use std::process::Command;

use super::RedisServer;

/// For which names the server's certificate is good.
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

impl RedisServer {
    /// A Redis that speaks TLS, and asks clients for no certificate.
    pub async fn with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let path = folder.path().to_owned();
        openssl(
            &path,
            &["req", "-x509", "-days", "2", "-subj", "/CN=Rig CA", "-keyout", "ca.key", "-out", "ca.crt"],
        );
        openssl(&path, &["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"]);
        std::fs::write(path.join("names"), NAMES).expect("the folder can be written");
        let signed = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key"];
        openssl(
            &path,
            &[&signed[..], &["-CAcreateserial", "-extfile", "names", "-out", "server.crt"]].concat(),
        );
        let arguments =
            ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt"];
        let arguments = arguments.iter().chain(&["--tls-auth-clients", "no"]);
        let arguments = arguments.map(|argument| (*argument).to_owned()).collect();
        Self::launch(arguments, folder, Some(path.join("ca.crt"))).await
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    if arguments[0] == "req" {
        command.args(KEY);
    }
    let output = command.output().expect("openssl can be run; `make packages`");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
