//! A real Firefox, driven by the protocol that is built into it (Marionette): Debian has no
//! geckodriver.
//!
//! A message is its length in bytes, a colon, and JSON: `[0, id, name, parameters]`, answered by
//! `[1, id, error, result]`.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use vx11_kit::{PATIENCE, eventually};

/// Preferences of the profile: any free port for the driver, no proxy, nobody else to ask.
const PREFERENCES: &str = r#"
user_pref("marionette.port", 0);
user_pref("network.proxy.type", 0);
user_pref("app.update.auto", false);
user_pref("browser.region.network.url", "");
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("toolkit.telemetry.enabled", false);
"#;
/// File of the profile with the port of the driver.
const PORT_FILE: &str = "MarionetteActivePort";

/// A browser with one tab; killed when dropped.
pub struct Firefox {
    driver: Mutex<TcpStream>,
    _process: Child,
    _profile: TempDir,
}

impl Firefox {
    /// A browser with an empty profile.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        std::fs::write(profile.path().join("user.js"), PREFERENCES).expect("the profile can be written");
        let process = Command::new("firefox-esr")
            .args(["--headless", "--marionette", "--no-remote", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("firefox does not start: {error}; install firefox-esr"));
        let port_file = profile.path().join(PORT_FILE);
        let mut driver = eventually("firefox to take commands", async || {
            let port: u16 = std::fs::read_to_string(&port_file).ok()?.trim().parse().ok()?;
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        let greeting = receive(&mut driver).await;
        assert_eq!(greeting["marionetteProtocol"], 3, "{greeting}");
        let firefox = Self { driver: Mutex::new(driver), _process: process, _profile: profile };
        firefox.command("WebDriver:NewSession", json!({})).await;
        firefox
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, address: &str) {
        self.command("WebDriver:Navigate", json!({ "url": address })).await;
    }

    /// Runs a script that calls its last argument with a result.
    pub async fn execute_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        let parameters = json!({ "script": script, "args": arguments });
        self.command("WebDriver:ExecuteAsyncScript", parameters).await["value"].clone()
    }

    async fn command(&self, name: &str, parameters: Value) -> Value {
        let mut driver = self.driver.lock().await;
        let message = json!([0, 1, name, parameters]).to_string();
        let message = format!("{}:{message}", message.len());
        driver.write_all(message.as_bytes()).await.expect("firefox takes commands");
        let answer = tokio::time::timeout(PATIENCE, receive(&mut driver)).await;
        let answer = answer.unwrap_or_else(|_| panic!("firefox does not answer {name}"));
        assert_eq!(answer[2], Value::Null, "{name}");
        answer[3].clone()
    }
}

async fn receive(driver: &mut TcpStream) -> Value {
    let mut length = 0;
    loop {
        match driver.read_u8().await.expect("firefox answers") {
            b':' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut message = vec![0; length];
    driver.read_exact(&mut message).await.expect("firefox answers");
    serde_json::from_slice(&message).expect("firefox answers in JSON")
}
