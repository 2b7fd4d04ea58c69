//! Calls from the predecessor's documents (000, 003 and 004), in the shell of its administrators,
//! so that scripts with these calls keep working. Only host, port, credential and curl's limit
//! differ.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use vx11_kit::{PATIENCE, remember_secret};

use crate::support::Instance;

/// A shell in a folder with the predecessor's `tokens.env`.
struct Shell {
    instance: Instance,
    folder: TempDir,
}

impl Shell {
    async fn with(environment: &[(&str, &str)]) -> Self {
        let instance = Instance::with(environment).await;
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = format!("OTHER=1\nVX11_PRINCIPAL_TOKEN={}\n", instance.principal);
        std::fs::write(folder.path().join("tokens.env"), tokens).expect("the folder can be written");
        Self { instance, folder }
    }

    /// Streams have a heartbeat each second: curl notices by the next write that `head` has ended.
    async fn start() -> Self {
        Self::with(&[("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1")]).await
    }

    /// The command for `script`, with this instance in the place of gateway and backend. `curl`
    /// prints without a buffer, and its limit is one that a busy machine does not reach: the last
    /// `--max-time` counts.
    fn command(&self, script: &str) -> Command {
        let script = ["localhost:8000", "localhost:8001", "staging-api:8000", "staging-api:8001"]
            .iter()
            .fold(script.to_owned(), |script, host| script.replace(host, self.instance.address()))
            .replace("--max-time 2", "--max-time 10")
            .replace("--max-time 3", "--max-time 10")
            .replace("principal-token-here", &self.instance.principal)
            .replace("<principal>", &self.instance.principal);
        let seconds = PATIENCE.as_secs();
        let script = format!("curl() {{ command curl --no-buffer \"$@\" --max-time {seconds}; }}\n{script}");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .kill_on_drop(true);
        command
    }

    /// Runs `script` to its end; returns what it prints.
    async fn run(&self, script: &str) -> String {
        let output = tokio::time::timeout(PATIENCE, self.command(script).output()).await;
        let output = output.expect("the script ends in time").expect("bash can be run");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// Runs `script` until it has printed the end of a frame, or has ended; returns what it has
    /// printed.
    async fn first_frame(&self, script: &str) -> String {
        let mut child = self
            .command(script)
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("bash can be run");
        let mut output = child.stdout.take().expect("the output is piped");
        let mut printed = Vec::new();
        let is_frame = |printed: &[u8]| {
            let text = String::from_utf8_lossy(printed);
            text.contains("data: ") && text.ends_with("\n\n")
        };
        let reading = async {
            while !is_frame(&printed) && output.read_buf(&mut printed).await.expect("a pipe") > 0 {}
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a frame or the end in time");
        // The group: bash may have started curl as another process.
        if let Some(pid) = child.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
        }
        child.wait().await.expect("the shell can be waited for");
        String::from_utf8(printed).expect("UTF-8")
    }

    /// 000 §2.3 step 2: asks for a token as the documents do.
    async fn token(&self) -> String {
        let token = self
            .run(
                r#"TOKEN=$(curl -s http://localhost:8001/operator/api/events/sse-token \
  -H "X-VX11-Token: $(cat tokens.env | grep VX11_PRINCIPAL_TOKEN | cut -d= -f2)" | jq -r .sse_token)

echo "Token: $TOKEN""#,
            )
            .await;
        let token = token.strip_prefix("Token: ").expect("the echo").to_owned();
        remember_secret(&token);
        token
    }
}

#[tokio::test]
async fn health_says_ok_and_names_its_module() {
    let shell = Shell::start().await;
    // 000 §2.1.
    assert_eq!(shell.run("curl -s http://staging-api:8000/health | jq .status").await, r#""ok""#);
    // 000 §2.3; the gateway in front says "tentaculo_link".
    assert_eq!(shell.run("curl -s http://localhost:8000/health | jq .module").await, r#""operator""#);
    // 004, phase 1: plain, and the container's probe, which sends HEAD.
    assert!(shell.run("curl http://localhost:8001/health").await.contains(r#""status":"ok""#));
    assert!(shell.run("curl -s --head http://localhost:8001/health").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_health_report_has_the_fields_of_old_by_post_and_by_get() {
    let shell = Shell::start().await;
    shell.token().await;
    for method in ["POST", "GET"] {
        let report =
            shell.run(&format!("curl -s -X {method} http://localhost:8001/operator/api/health")).await;
        let report: Value = serde_json::from_str(&report).unwrap();
        // 003, health checks.
        assert_eq!((&report["status"], &report["service"]), (&json!("ok"), &json!("operator_backend")));
        assert_eq!(report["ephemeral_token_cache_size"], 1);
        assert!(report["version"].is_string() && report["timestamp"].is_string(), "{report}");
    }
}

#[tokio::test]
async fn a_token_is_36_characters_long_whether_asked_for_by_get_or_by_post() {
    let shell = Shell::start().await;
    // 000 §2.1: a string in the form of a UUID.
    let quoted = shell
        .run(
            r#"curl -s http://staging-api:8001/operator/api/events/sse-token \
  -H "X-VX11-Token: principal-token-here" | jq .sse_token"#,
        )
        .await;
    remember_secret(quoted.trim_matches('"'));
    assert_eq!((quoted.len(), quoted.matches('-').count()), (38, 4));
    // 000 §2.3.
    let length = r#"curl -s METHOD http://localhost:8001/operator/api/events/sse-token \
  -H "X-VX11-Token: $(cat tokens.env | grep VX11_PRINCIPAL_TOKEN | cut -d= -f2)" \
  -H "Content-Type: application/json" | jq '.sse_token | length'"#;
    for method in ["", "-X POST", "-X POST -d '{}'"] {
        assert_eq!(shell.run(&length.replace("METHOD", method)).await, "36", "{method}");
    }
}

#[tokio::test]
async fn a_stream_opened_with_a_token_in_its_url_begins_with_a_message() {
    let shell = Shell::start().await;
    let token = shell.token().await;
    // 000 §2.3 step 2, and 004 phase 2.
    for call in [
        r#"curl -s http://localhost:8000/operator/api/events/stream?token=$TOKEN \
  -H "Accept: text/event-stream" \
  --max-time 3 | head -5"#,
        r#"curl -s "http://localhost:8000/operator/api/events/stream?token=$TOKEN" \
  -H "Accept: text/event-stream" --max-time 2 | head -5"#,
    ] {
        let lines = shell.run(&format!("TOKEN={token}\n{call}")).await;
        let follows = lines.split_once("event: message\ndata: {").map(|(_, data)| data);
        assert!(follows.is_some_and(|data| data.contains(r#""connected""#)), "{lines}");
    }
}

#[tokio::test]
async fn an_expired_token_is_answered_with_403() {
    let shell = Shell::with(&[("EPHEMERAL_TOKEN_TTL_SEC", "1")]).await;
    let token = shell.token().await;
    shell.instance.expires(&token).await;
    // 000 §2.3 step 3.
    let answer = shell
        .run(&format!(
            r#"TOKEN={token}
curl -s http://localhost:8000/operator/api/events/stream?token=$TOKEN \
  -H "Accept: text/event-stream" \
  --max-time 3"#
        ))
        .await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["status"], &answer["title"]), (&json!(403), &json!("Forbidden")));
}

#[tokio::test]
async fn without_a_credential_the_answer_is_401() {
    let shell = Shell::start().await;
    for path in ["api/events/sse-token", "api/events/stream", "internal/cache-stats", "internal/instance-id"]
    {
        let call = format!("curl -s -o /dev/null -w '%{{http_code}}' http://localhost:8001/operator/{path}");
        assert_eq!(shell.run(&call).await, "401", "{path}");
    }
}

#[tokio::test]
async fn the_principal_opens_streams_as_bearer_as_header_and_in_the_url() {
    let shell = Shell::start().await;
    let (bearer, header, query) = tokio::join!(
        // 000 §6.1: "fallback to header-only SSE".
        shell.first_frame(
            r#"curl -s http://localhost:8000/operator/api/events/stream \
     -H "Authorization: Bearer <principal>" --max-time 3"#
        ),
        // 000 §1.3: "principal token fallback works (header + query)".
        shell.first_frame(
            r#"curl -s http://localhost:8000/operator/api/events/stream -H "X-VX11-Token: <principal>" --max-time 3"#
        ),
        shell.first_frame(r#"curl -s "http://localhost:8000/operator/api/events/stream?token=<principal>" --max-time 3"#),
    );
    for stream in [bearer, header, query] {
        assert!(stream.contains("event: message\ndata: {"), "{stream}");
    }
    let counted = shell.instance.metric("vx11_operator_sse_connections_principal_total").await;
    assert_eq!(counted, 3);
}

#[tokio::test]
async fn a_principal_gets_cache_statistics_and_the_instance_id() {
    let shell = Shell::with(&[("INSTANCE_ID", "3")]).await;
    shell.token().await;
    // 004, phases 2 and 3.
    let statistics = r#"curl -s http://localhost:8001/operator/internal/cache-stats \
  -H "X-VX11-Token: $(cat tokens.env | grep VX11_PRINCIPAL_TOKEN | cut -d= -f2)" | jq "#;
    assert_eq!(shell.run(&format!("{statistics} .backend")).await, r#""memory""#);
    assert_eq!(shell.run(&format!("{statistics} .cache_size")).await, "1");
    let instances = shell
        .run(
            r#"for i in {1..10}; do
  curl -s http://localhost:8001/operator/internal/instance-id \
    -H "X-VX11-Token: <principal>" | jq .instance_id
done"#,
        )
        .await;
    assert_eq!(instances.lines().collect::<Vec<_>>(), [r#""3""#; 10]);
}

#[tokio::test]
async fn the_log_shows_tokens_as_stars_only() {
    let shell = Shell::start().await;
    let token = shell.token().await;
    let wrong = format!("{token}0");
    let opened = [&token, &shell.instance.principal, &wrong].map(async |value| {
        let call =
            format!("curl -s --max-time 3 http://localhost:8001/operator/api/events/stream?token={value}");
        assert!(!shell.first_frame(&call).await.is_empty());
    });
    futures_util::future::join_all(opened).await;
    std::fs::copy(&shell.instance.log, shell.folder.path().join("operator.log")).unwrap();
    // 000 §2.3 step 4.
    let lines = shell.run(r#"cat operator.log | grep -i "token""#).await;
    assert!(lines.contains("token=***"), "{lines}");
    for secret in [&token, &shell.instance.principal] {
        assert_eq!(shell.run(&format!("grep -c {} operator.log", &secret[..8])).await, "0");
    }
}
