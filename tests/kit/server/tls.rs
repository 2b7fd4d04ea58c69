//! A server that speaks TLS only, with a certificate of an authority that nobody else knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::RedisServer;

/// For which names the server's certificate is good.
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

impl RedisServer {
    /// A Redis that speaks TLS, and asks clients for no certificate.
    pub async fn with_tls() -> Self {
        Self::asking_for_certificates("no").await
    }

    /// A Redis that speaks TLS with clients that show a certificate of its authority, and with no
    /// others.
    pub async fn with_mutual_tls() -> Self {
        Self::asking_for_certificates("yes").await
    }

    /// A certificate of the server's authority for clients, and its private key, of a server [with
    /// TLS](Self::with_tls).
    #[must_use]
    pub fn client_certificate(&self) -> [PathBuf; 2] {
        ["client.crt", "client.key"].map(|name| self.ca_file().with_file_name(name))
    }

    async fn asking_for_certificates(from_clients: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let path = folder.path().to_owned();
        openssl(
            &path,
            &["req", "-x509", "-days", "2", "-subj", "/CN=Rig CA", "-keyout", "ca.key", "-out", "ca.crt"],
        );
        std::fs::write(path.join("names"), NAMES).expect("the folder can be written");
        for name in ["server", "client"] {
            sign(&path, name);
        }
        let files =
            ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt"];
        let clients = ["--tls-auth-clients", from_clients];
        let arguments = files.iter().chain(&clients).map(|argument| (*argument).to_owned()).collect();
        Self::launch(arguments, folder, Some(path.join("ca.crt"))).await
    }
}

/// Makes a key and a certificate for it.
fn sign(folder: &Path, name: &str) {
    let [key, request, certificate] = ["key", "csr", "crt"].map(|ending| format!("{name}.{ending}"));
    openssl(folder, &["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request]);
    let authority = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    let signed = ["x509", "-req", "-days", "2", "-in", &request, "-out", &certificate];
    openssl(folder, &[&signed[..], &authority].concat());
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
