//! The program as a command: what it prints, and how it ends.

use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use vx11_kit::{PATIENCE, eventually, remember_secret};

use crate::support::{Instance, random_hex};

/// Runs to the end and returns exit code, standard output and standard error.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let (mut command, _) = Instance::command(environment);
    let command =
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("it ends in time").expect("it can be started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn help_names_every_command_and_exit_code() {
    let (code, help, _) = run(&["--help"], &[]).await;
    assert_eq!(code, 0);
    for word in [
        "serve",
        "healthcheck",
        "check-config",
        "tail",
        "publish",
        "token",
        "streams",
        "end",
        "block",
        "unblock",
        "revoke",
        "stats",
        "--config",
        "--version",
        "0 clean stop, 2 bad configuration",
    ] {
        assert!(help.contains(word), "{help}");
    }
}

#[tokio::test]
async fn the_help_of_publish_tells_the_exit_code_of_not_published_from_that_of_not_known() {
    let (code, help, _) = run(&["publish", "--help"], &[]).await;
    assert_eq!(code, 0);
    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    for words in ["0 published", "1 not published", "2 not published", "3 not known whether it was published"]
    {
        assert!(codes.contains(words), "{help}");
    }
}

#[tokio::test]
async fn the_help_of_each_command_names_its_options_about_topics_and_tokens() {
    for (command, options) in [
        (["tail"].as_slice(), ["--topic <PATTERN>", "--from <ID>", "orders/*", "-N"]),
        (&["publish"], ["--topic <TOPIC>", "--event <TYPE>", "orders/17", "\"default\""]),
        (&["token", "issue"], ["--subject <SUBJECT>", "--topic <PATTERN>", "--ttl <SECONDS>", "1 to 900"]),
        (&["streams"], ["--subject <SUBJECT>", "--topic <TOPIC>", "--limit <N>", "1 to 10000"]),
        (&["end"], ["--token-id <ID>", "--stream-id <ID>", "--principal <ID>", "new token"]),
        (&["block"], ["--subject <SUBJECT>", "--seconds <SECONDS>", "1 to 86400", "1 not done"]),
        (&["unblock"], ["--subject <SUBJECT>", "End the block", "does no harm", "--config"]),
        (&["revoke"], ["--subject <SUBJECT>", "until now", "does no harm", "--config"]),
        (&["token"], ["issue", "Issue a token", "--config", "--help"]),
    ] {
        let (code, help, _) = run(&[command, &["--help"]].concat(), &[]).await;
        assert_eq!(code, 0);
        for option in options {
            assert!(help.contains(option), "{option}: {help}");
        }
    }
}

#[tokio::test]
async fn version_is_that_of_the_package() {
    let (code, version, _) = run(&["--version"], &[]).await;
    assert_eq!((code, version.as_str()), (0, concat!("vx11-operator ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[tokio::test]
async fn what_the_command_line_does_not_know_ends_with_2_and_the_usage() {
    for arguments in [["--bogus"].as_slice(), &["bogus"], &["serve", "8001"], &["--config"]] {
        let (code, output, errors) = run(arguments, &[]).await;
        assert_eq!((code, output.as_str()), (2, ""), "{arguments:?}");
        assert!(errors.contains("--help"), "{errors}");
    }
}

#[tokio::test]
async fn a_port_in_use_ends_with_1_and_says_which_and_what_to_do() {
    let holder = Instance::start().await;
    let (status, printed) =
        Instance::try_with(&[("VX11_OPERATOR_LISTEN", holder.address())]).await.err().unwrap();
    assert_eq!(status.code(), Some(1));
    let line = printed.lines().last().unwrap();
    for word in [
        "cannot listen on",
        holder.address(),
        "in use",
        "is another process using it?",
        "VX11_OPERATOR_LISTEN",
    ] {
        assert!(line.contains(word), "{printed}");
    }
    holder.issue().await;
}

#[tokio::test]
async fn an_address_of_another_machine_ends_with_1_and_is_not_taken_for_one_in_use() {
    // An address for documentation, which no machine has.
    let foreign = [("VX11_OPERATOR_LISTEN", "192.0.2.1:8001")];
    let (status, printed) = Instance::try_with(&foreign).await.err().unwrap();
    assert_eq!(status.code(), Some(1));
    let line = printed.lines().last().unwrap();
    for text in
        ["cannot listen on 192.0.2.1:8001", "no interface of this machine has it", "VX11_OPERATOR_LISTEN"]
    {
        assert!(line.contains(text), "{printed}");
    }
    assert!(!line.contains("another process"), "{line}");
}

#[tokio::test]
async fn check_config_prints_what_is_in_effect_as_toml_and_secrets_as_stars() {
    let [principal, other, key] = [random_hex(), random_hex(), random_hex() + &random_hex()];
    for secret in [&principal, &other, &key] {
        remember_secret(secret);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.toml");
    let content = format!(
        "[[principals]]\nid = 'other'\ntoken = '{other}'\n[token]\nsigning_keys = ['{key}']\nttl_seconds = 30\n[log]\nformat = 'json'"
    );
    std::fs::write(&file, content).unwrap();
    let environment = [("VX11_PRINCIPAL_TOKEN", principal.as_str()), ("EPHEMERAL_TOKEN_TTL_SEC", "45")];
    let (code, output, errors) =
        run(&["check-config", "--config", file.to_str().unwrap()], &environment).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let shown: toml::Table = output.parse().unwrap();
    assert_eq!(shown["principal_token"].as_str(), Some("***"));
    assert_eq!(shown["principals"][0]["token"].as_str(), Some("***"));
    assert_eq!(shown["principals"][0]["id"].as_str(), Some("other"));
    assert_eq!(shown["token"]["signing_keys"][0].as_str(), Some("***"));
    // The environment wins over the file, the file over the defaults.
    assert_eq!(shown["token"]["ttl_seconds"].as_integer(), Some(45));
    assert_eq!(shown["log"]["format"].as_str(), Some("json"));
    assert_eq!(shown["drain"]["window_seconds"].as_integer(), Some(10));
    for secret in [principal, other, key] {
        assert!(!output.contains(&secret[..8]), "{output}");
    }
}

#[tokio::test]
async fn with_signing_keys_a_credential_that_can_be_guessed_is_warned_about_without_being_shown() {
    let key = random_hex();
    remember_secret(&key);
    let environment = [("VX11_PRINCIPAL_TOKEN", "shrt!"), ("VX11_OPERATOR_SIGNING_KEYS", key.as_str())];
    let (code, output, errors) = run(&["check-config"], &environment).await;
    assert_eq!(code, 0);
    assert!(errors.contains("warning: the credential of principal operator is easy to guess"), "{errors}");
    assert!(!errors.contains("shrt!") && !output.contains("shrt!"));
}

#[tokio::test]
async fn a_healthcheck_succeeds_while_the_instance_is_ready_and_only_then() {
    let instance = Instance::start().await;
    let address = instance.address().to_owned();
    let check = async || run(&["healthcheck"], &[("VX11_OPERATOR_LISTEN", &address)]).await;
    assert_eq!(check().await, (0, String::new(), String::new()));
    instance.kill().await;
    let (code, _, errors) = check().await;
    assert_eq!(code, 1);
    assert!(errors.contains("no answer from"), "{errors}");
}

#[tokio::test]
async fn a_healthcheck_fails_when_the_answer_is_no_200_or_none_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = [b"HTTP/1.1 503 Service Unavailable\r\n\r\n".as_slice(), b"", b"\xff\xff\xff\n"];
    let server = async {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(answer).await.unwrap();
        }
        // Accepted by the kernel, answered by nobody.
    };
    let checks = async {
        for _ in 0..=answers.len() {
            let (code, _, errors) = run(&["healthcheck"], &[("VX11_OPERATOR_LISTEN", &address)]).await;
            assert!(code == 1 && !errors.is_empty(), "{errors}");
        }
    };
    tokio::join!(server, checks);
}

#[tokio::test]
async fn each_line_of_a_json_log_is_an_object_and_those_of_a_request_carry_its_id() {
    let instance = Instance::with(&[("VX11_OPERATOR_LOG_FORMAT", "json")]).await;
    let stream = instance.open_stream(&instance.issue().await.token).await;
    drop(stream);
    instance.metric_becomes("vx11_operator_sse_streams_open", 0).await;
    let refused: Value = instance.ask_for_stream("x").await.json().await.unwrap();
    instance.logs(r#""status":403"#).await;
    let log = instance.log_text();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let with = |message: &str| lines.iter().find(|line| line["fields"]["message"] == message).expect(message);
    let (opened, ended) = (with("stream opened by token"), with("stream ended"));
    assert_eq!(opened["span"]["id"].as_str().unwrap().len(), 16);
    assert_eq!(opened["span"]["id"], ended["span"]["id"]);
    assert_eq!(ended["fields"]["reason"], "client");
    let answered = lines.iter().find(|line| line["span"]["id"] == refused["request_id"]);
    assert_eq!(answered.expect("the refusal is logged")["fields"]["status"], 403);
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
}

#[tokio::test]
async fn a_generated_principal_is_printed_once_and_not_as_a_log_line() {
    // Not for the ledger: this one secret is meant to be read there.
    for format in ["text", "json"] {
        let environment = [("VX11_PRINCIPAL_TOKEN", ""), ("VX11_OPERATOR_LOG_FORMAT", format)];
        let instance = Instance::with(&environment).await;
        let principal = eventually("the principal to be shown", async || {
            let log = instance.log_text();
            let label = "Credential of principal \"operator\": ";
            let found = log.lines().find_map(|line| line.trim().strip_prefix(label));
            found.filter(|_| log.contains("Set VX11_PRINCIPAL_TOKEN")).map(str::to_owned)
        })
        .await;
        assert_eq!(principal.len(), 64);
        let issued =
            instance.get("/operator/api/events/sse-token").bearer_auth(&principal).send().await.unwrap();
        assert_eq!(issued.status(), StatusCode::OK);
        let token = issued.json::<Value>().await.unwrap()["sse_token"].as_str().unwrap().to_owned();
        remember_secret(&token);
        let log = instance.log_text();
        assert_eq!(log.matches(&principal).count(), 1, "{log}");
        assert!(log.contains(&format!("http://{}/", instance.address())), "{log}");
    }
}

#[tokio::test]
async fn a_configured_principal_is_never_printed() {
    let instance = Instance::start().await;
    instance.issue().await;
    assert!(!instance.log_text().contains(&instance.principal[..8]));
}
