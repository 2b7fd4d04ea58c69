//! SIGHUP: an instance reads principals and signing keys again. No stream ends, and a configuration
//! that cannot be used changes nothing.

use std::os::unix::fs::symlink;
use std::path::Path;

use futures_util::FutureExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use vx11_kit::{eventually, remember_secret, until};

use crate::support::{Instance, file, planted, problem};

const ISSUE: &str = "/operator/api/events/sse-token";
const FOLDER: &str = "VX11_OPERATOR__PRINCIPALS_DIR";
const CREDENTIAL_FILE: &str = "VX11_PRINCIPAL_TOKEN_FILE";
/// In the log after a reload.
const REPLACED: &str = "principals and signing keys were read again";
/// In the log after a reload that was refused.
const REFUSED: &str = "principals and signing keys stay as they are";
/// Longer than any wait of a test.
const LONG_DRAIN: (&str, &str) = ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "300");

/// Sends SIGHUP and waits until its effect is logged.
async fn reload(instance: &Instance) {
    signal_until(instance, REPLACED).await;
}

/// Sends SIGHUP and waits for a further log line with this text.
async fn signal_until(instance: &Instance, text: &str) {
    let lines = || instance.log_text().matches(text).count();
    let before = lines();
    instance.hang_up();
    until(&format!("a log line with {text:?}"), async || lines() > before).await;
}

/// A token issued with a credential, or the status of the refusal.
async fn issue(instance: &Instance, credential: &str) -> Result<String, StatusCode> {
    let answer = instance.post(ISSUE).bearer_auth(credential).send().await.unwrap();
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(status);
    }
    let issued: Value = answer.json().await.unwrap();
    let token = issued["sse_token"].as_str().unwrap().to_owned();
    remember_secret(&token);
    Ok(token)
}

async fn is_active(instance: &Instance, token: &str) -> bool {
    instance.introspect(token).await["active"] == true
}

#[tokio::test]
async fn after_a_reload_a_new_credential_is_accepted_and_the_old_one_is_not() {
    let [old, new] = [planted(), planted()];
    let (_folder, credentials) = file(&old);
    let instance = Instance::with(&[("VX11_PRINCIPAL_TOKEN", ""), (CREDENTIAL_FILE, &credentials)]).await;
    assert!(issue(&instance, &old).await.is_ok());
    assert_eq!(issue(&instance, &new).await, Err(StatusCode::UNAUTHORIZED));
    std::fs::write(&credentials, format!("{old}\n{new}\n")).unwrap();
    reload(&instance).await;
    for credential in [&old, &new] {
        assert!(issue(&instance, credential).await.is_ok());
    }
    std::fs::write(&credentials, format!("{new}\n")).unwrap();
    reload(&instance).await;
    assert!(issue(&instance, &new).await.is_ok());
    assert_eq!(issue(&instance, &old).await, Err(StatusCode::UNAUTHORIZED));
    instance.logs("principals=1 credentials=1 signing_keys=1").await;
}

#[tokio::test]
async fn a_stream_stays_open_while_its_principal_is_removed_and_its_tokens_are_refused() {
    let page = planted();
    let folder = tempfile::tempdir().unwrap();
    let removed = folder.path().join("page.toml");
    std::fs::write(&removed, format!("id = 'page'\ntoken = '{page}'\n")).unwrap();
    let instance = Instance::with(&[(FOLDER, folder.path().to_str().unwrap())]).await;
    let token = issue(&instance, &page).await.unwrap();
    let [mut by_token, mut by_credential] =
        [instance.open_stream(&token).await, instance.open_stream(&page).await];

    std::fs::remove_file(removed).unwrap();
    reload(&instance).await;
    for _ in 0..2 {
        let published = instance.publish(json!("after the reload")).await;
        for stream in [&mut by_token, &mut by_credential] {
            assert_eq!(stream.next_published().await.id, published);
        }
    }
    assert!(!is_active(&instance, &token).await);
    problem(instance.ask_for_stream(&token).await, StatusCode::FORBIDDEN, "token_refused").await;
    assert_eq!(issue(&instance, &page).await, Err(StatusCode::UNAUTHORIZED));
    assert_eq!(instance.metric("vx11_operator_sse_streams_open").await, 2);
    // A token that does not verify any more can still be revoked, which ends its streams.
    let revoked = instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &token)]);
    assert_eq!(revoked.send().await.unwrap().status(), StatusCode::OK);
    let last = by_token.rest().await.pop().unwrap();
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!("revoked")));
}

#[tokio::test]
async fn signing_keys_are_replaced_without_a_restart() {
    let [old, new] = [planted(), planted()];
    let (_folder, keys) = file(&old);
    let instance = Instance::with(&[("VX11_OPERATOR_SIGNING_KEYS_FILE", &keys)]).await;
    let before = instance.issue().await.token;
    for both in [format!("{old}\n{new}\n"), format!("{new}\n{old}\n")] {
        std::fs::write(&keys, both).unwrap();
        reload(&instance).await;
        assert!(is_active(&instance, &before).await);
    }
    let after = instance.issue().await.token;
    std::fs::write(&keys, &new).unwrap();
    reload(&instance).await;
    assert!(is_active(&instance, &after).await, "signed with the first key");
    assert!(!is_active(&instance, &before).await, "nobody accepts the old key");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing_and_is_logged_in_one_line() {
    let [secret, other] = [planted(), planted()];
    let (_folder, config) = file(&format!("[[principals]]\nid = 'shop'\ntoken = '{secret}'\n"));
    let instance = Instance::start_with_arguments(&["--config", &config]).await;
    let token = issue(&instance, &secret).await.unwrap();
    let entry = format!("[[principals]]\nid = 'shop'\ntoken = '{other}'\n");
    for (content, parts) in [
        (
            format!("{entry}rights = ['isue']\n[http]\nworkers = 'x'\n"),
            ["principals[0].rights (", "\"isue\" is no right; allowed are issue, ", "http.workers ("],
        ),
        (format!("{entry}rights = ['issue'\n[http]\n"), [config.as_str(), "line ", "column "]),
    ] {
        std::fs::write(&config, &content).unwrap();
        signal_until(&instance, REFUSED).await;
        let log = instance.log_text();
        let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
        assert!(line.contains("ERROR"), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(issue(&instance, &secret).await.is_ok());
        assert_eq!(issue(&instance, &other).await, Err(StatusCode::UNAUTHORIZED));
        assert!(is_active(&instance, &token).await);
    }
    let log = instance.log_text();
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");
    assert!(!log.contains(&other[..8]) && !log.contains(REPLACED), "{log}");
    // Repaired.
    std::fs::write(&config, entry).unwrap();
    reload(&instance).await;
    assert!(issue(&instance, &other).await.is_ok());
}

#[tokio::test]
async fn an_instance_whose_principals_are_all_gone_keeps_them() {
    let (secret, folder) = (planted(), tempfile::tempdir().unwrap());
    let only = folder.path().join("only.toml");
    std::fs::write(&only, format!("id = 'only'\ntoken = '{secret}'\n")).unwrap();
    let name = folder.path().to_str().unwrap();
    let instance = Instance::with(&[("VX11_PRINCIPAL_TOKEN", ""), (FOLDER, name)]).await;
    std::fs::remove_file(only).unwrap();
    signal_until(&instance, REFUSED).await;
    instance.logs("the folder has no file of a principal (*.toml)").await;
    assert!(issue(&instance, &secret).await.is_ok());
}

#[tokio::test]
async fn plain_tokens_of_the_first_16_principals_stay_valid_while_principals_are_appended() {
    // `operator` is the first.
    let mut credentials: Vec<_> = (1..16).map(|_| planted()).collect();
    let entries = |credentials: &[String]| -> String {
        let entry = |(n, secret)| format!("[[principals]]\nid = 'p{n}'\ntoken = '{secret}'\n");
        credentials.iter().enumerate().map(entry).collect()
    };
    let (_folder, config) = file(&entries(&credentials));
    let instance = Instance::start_with_arguments(&["--config", &config]).await;
    let mut tokens = vec![instance.issue().await.token];
    for credential in &credentials {
        tokens.push(issue(&instance, credential).await.unwrap());
    }
    let is_plain = |token: &String| !token.contains('.');
    assert!(tokens.iter().all(is_plain));
    credentials.extend([planted(), planted()]);
    std::fs::write(&config, entries(&credentials)).unwrap();
    reload(&instance).await;
    for token in &tokens {
        assert_eq!(instance.ask_for_stream(token).await.status(), StatusCode::OK);
    }
    for appended in &credentials[15..] {
        let token = issue(&instance, appended).await.unwrap();
        assert!(!is_plain(&token));
        assert_eq!(instance.ask_for_stream(&token).await.status(), StatusCode::OK);
    }
}

/// Mounts a version of a secret with a principal, as the kubelet does: its files are links to a
/// hidden link to a hidden folder, and that link is replaced.
fn mount(folder: &TempDir, version: &str, credential: &str) {
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path(version)).unwrap();
    let principal =
        "id = 'shop'\ntoken_file = 'shop.token'\nrights = ['issue']\ntopics = ['orders/*', 'default']\n";
    for (name, content) in [("shop.toml", principal), ("shop.token", credential)] {
        std::fs::write(path(version).join(name), content).unwrap();
        // Exists since the first version.
        let _ = symlink(Path::new("..data").join(name), path(name));
    }
    symlink(version, path("..data_tmp")).unwrap();
    std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
}

#[tokio::test]
async fn a_folder_that_kubernetes_mounts_is_read_and_read_again() {
    let [old, new, key] = [planted(), planted(), planted()];
    let folder = tempfile::tempdir().unwrap();
    let versions = ["..2026_10_04_12_00_00.1", "..2026_10_05_12_00_00.2"];
    mount(&folder, versions[0], &old);
    let name = folder.path().to_str().unwrap();
    let instance = Instance::with(&[(FOLDER, name), ("VX11_OPERATOR_SIGNING_KEYS", &key)]).await;
    let token = issue(&instance, &old).await.unwrap();
    assert_eq!(instance.introspect(&token).await["sub"], "shop");

    mount(&folder, versions[1], &new);
    std::fs::remove_dir_all(folder.path().join(versions[0])).unwrap();
    assert!(issue(&instance, &old).await.is_ok(), "nothing is read before the signal");
    reload(&instance).await;
    assert!(issue(&instance, &new).await.is_ok());
    assert_eq!(issue(&instance, &old).await, Err(StatusCode::UNAUTHORIZED));
    assert!(is_active(&instance, &token).await, "the principal and the signing key are the same");
}

#[tokio::test]
async fn a_generated_credential_stays_the_same_over_a_reload() {
    let instance = Instance::with(&[("VX11_PRINCIPAL_TOKEN", "")]).await;
    // Not a secret to look for in logs: it is shown there.
    let credential = eventually("the credential to be shown", async || {
        let label = "Credential of principal \"operator\": ";
        let log = instance.log_text();
        log.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::to_owned)
    })
    .await;
    let token = issue(&instance, &credential).await.unwrap();
    reload(&instance).await;
    assert!(issue(&instance, &credential).await.is_ok());
    let introspect = instance.post("/operator/api/tokens/introspect").bearer_auth(&credential);
    let answer: Value = introspect.form(&[("token", &token)]).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["active"], true);
    assert_eq!(instance.log_text().matches(&credential).count(), 1, "shown once");
}

#[tokio::test]
async fn other_keys_that_changed_are_named_and_take_effect_after_a_restart() {
    let (_folder, config) = file("[drain]\nwindow_seconds = 1\n[log]\nformat = 'text'\n");
    let instance = Instance::start_with_arguments(&["--config", &config]).await;
    std::fs::write(&config, "[drain]\nwindow_seconds = 2\n[streams]\nmax = 100\n").unwrap();
    reload(&instance).await;
    let log = instance.log_text();
    for key in ["drain.window_seconds", "streams.max"] {
        let line = format!("{key} changed; it takes effect after a restart");
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
    assert_eq!(log.matches("takes effect after a restart").count(), 2, "{log}");
}

#[tokio::test]
async fn a_signal_while_the_instance_drains_reloads_and_neither_ends_nor_cuts_anything() {
    let [old, new] = [planted(), planted()];
    let (_folder, credentials) = file(&old);
    let environment = [("VX11_PRINCIPAL_TOKEN", ""), (CREDENTIAL_FILE, &credentials), LONG_DRAIN];
    let mut instance = Instance::with(&environment).await;
    let token = issue(&instance, &old).await.unwrap();
    let mut streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    instance.terminate();
    instance.logs("draining").await;
    std::fs::write(&credentials, &new).unwrap();
    reload(&instance).await;
    // The first ends when the window begins, the second half a window later.
    let open = streams.iter_mut().filter_map(|stream| stream.next().now_or_never().is_none().then_some(()));
    assert!(open.count() > 0, "a stream is still open");
    // It was not the second signal, which stops an instance at once.
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(1));
}

#[tokio::test]
async fn signals_around_a_stop_leave_it_clean() {
    let mut instance = Instance::with(&[LONG_DRAIN]).await;
    instance.hang_up();
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(0));
}

/// A named pipe in place of a secret file: whoever reads it waits for a writer.
fn named_pipe() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("credential").to_str().unwrap().to_owned();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    (folder, pipe)
}

/// The writing end of a pipe, as soon as an instance reads the other one.
async fn to_its_reader(pipe: &str) -> pipe::Sender {
    eventually("the pipe to be read", async || pipe::OpenOptions::new().open_sender(pipe).ok()).await
}

/// Writes a credential to the reader of a pipe, and the end.
async fn hand_over(mut pipe: pipe::Sender, credential: &str) {
    pipe.write_all(credential.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_signal_while_the_instance_starts_does_not_end_it_and_reloads_when_it_is_ready() {
    let [old, new] = [planted(), planted()];
    let (_folder, pipe) = named_pipe();
    let process = Instance::spawn(&[(CREDENTIAL_FILE, &pipe)]);
    let reading = to_its_reader(&pipe).await;
    process.hang_up();
    hand_over(reading, &old).await;
    let address = process.ready().await.expect("the instance starts");
    hand_over(to_its_reader(&pipe).await, &new).await;
    until("the reload", async || process.log().contains(REPLACED)).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask =
        |credential: &str| client.post(format!("http://{address}{ISSUE}")).bearer_auth(credential).send();
    let issued = ask(&new).await.unwrap();
    assert_eq!(issued.status(), StatusCode::OK);
    remember_secret(issued.json::<Value>().await.unwrap()["sse_token"].as_str().unwrap());
    assert_eq!(ask(&old).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_delays_later_signals_and_swallows_none() {
    let [old, new] = [planted(), planted()];
    let (_folder, pipe) = named_pipe();
    let process = Instance::spawn(&[(CREDENTIAL_FILE, &pipe)]);
    hand_over(to_its_reader(&pipe).await, &old).await;
    process.ready().await.expect("the instance starts");
    process.hang_up();
    let _never_written = to_its_reader(&pipe).await;
    std::fs::remove_file(&pipe).unwrap();
    std::fs::write(&pipe, &new).unwrap();
    process.hang_up();
    until("the reload", async || process.log().contains(REPLACED)).await;
    let log = process.log();
    let line = log.lines().find(|line| line.contains(REFUSED)).unwrap();
    assert!(line.contains("ERROR") && line.contains("SIGHUP"), "{line}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_does_not_hold_up_the_stop() {
    let (_folder, pipe) = named_pipe();
    let process = Instance::spawn(&[(CREDENTIAL_FILE, &pipe)]);
    hand_over(to_its_reader(&pipe).await, &planted()).await;
    process.ready().await.expect("the instance starts");
    process.hang_up();
    let _never_written = to_its_reader(&pipe).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
}
