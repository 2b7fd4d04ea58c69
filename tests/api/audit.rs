//! The audit trail: who was let do what, and nothing by which anyone could do it again.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::{Instance, ask_for_token, issue_with, problem, publish_to, stream, with_principals};

async fn lines(file: &Path, count: usize) -> Vec<Value> {
    let text = vx11_kit::eventually("lines of the audit trail", async || {
        let text = std::fs::read_to_string(file).ok()?;
        (text.lines().count() >= count && text.ends_with('\n')).then_some(text)
    });
    text.await.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

async fn audited(file: &Path, more: &[(&str, &str)]) -> Instance {
    let mut settings = vec![("VX11_OPERATOR__AUDIT__FILE", file.to_str().unwrap()), ("INSTANCE_ID", "7")];
    settings.extend_from_slice(more);
    Instance::with(&settings).await
}

#[tokio::test]
async fn every_token_event_revocation_and_refused_principal_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let instance = audited(&file, &[]).await;
    let issued = instance.issue().await;
    let event_id = instance.publish(json!("the content is nobody's business")).await;
    let revoke = instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &issued.token)]);
    assert_eq!(revoke.send().await.unwrap().status(), StatusCode::OK);
    let refused = instance.post("/operator/api/events/sse-token").header("X-VX11-Token", "not-the-principal");
    let refused: Value = refused.send().await.unwrap().json().await.unwrap();
    // A stream's token that is refused is nobody's principal, and counted elsewhere.
    instance.ask_for_stream(&issued.token).await;

    let lines = lines(&file, 4).await;
    let said = |n: usize, key: &str| lines[n][key].as_str().unwrap_or_default().to_owned();
    let acts: Vec<_> = (0..lines.len()).map(|n| said(n, "action")).collect();
    assert_eq!(acts, ["issue", "publish", "revoke", "refuse_principal"]);
    for line in &lines {
        let said = |key: &str| line[key].as_str().unwrap_or_default();
        assert_eq!((said("instance"), said("client")), ("7", "127.0.0.1"));
        assert!(said("time").ends_with('Z') && said("request_id").len() == 16, "{line}");
    }
    for n in 0..3 {
        assert_eq!(said(n, "principal"), "operator");
    }
    assert_eq!((said(0, "token_id"), said(2, "token_id")), (issued.id.clone(), issued.id));
    assert_eq!((said(1, "event_id"), said(1, "outcome")), (event_id, "published".to_owned()));
    assert_eq!(said(2, "effective"), "cluster");
    assert_eq!(
        (said(3, "code"), said(3, "request_id")),
        ("credential_wrong".to_owned(), refused["request_id"].as_str().unwrap().to_owned())
    );
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in [&issued.token, &instance.principal, "not-the-principal", "nobody's business"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_line_has_a_hash_of_the_subject_and_the_number_of_the_topics_unless_it_may_have_the_texts() {
    for is_shown in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let shown = if is_shown { "true" } else { "false" };
        let instance = audited(&file, &[("VX11_OPERATOR__LOG__SUBJECTS", shown)]).await;
        let fields = json!({ "subject": "xylophone-7", "topics": ["users/xylophone", "news"] });
        issue_with(&instance, &fields).await;
        publish_to(&instance, "users/xylophone", "an event").await;
        // Plain tokens and events of `default` have the lines of before.
        instance.issue().await;
        instance.publish(json!(1)).await;
        let lines = lines(&file, 4).await;
        let (issued, published) = (&lines[0], &lines[1]);
        assert_eq!((&issued["topics"], &published["topics"]), (&json!(2), &json!(1)));
        if is_shown {
            assert_eq!(issued["subject"], "xylophone-7");
            assert_eq!(issued["topic_names"], "users/xylophone news");
            assert_eq!(published["topic_names"], "users/xylophone");
        } else {
            let hash = issued["subject"].as_str().unwrap();
            assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            assert!(!std::fs::read_to_string(&file).unwrap().contains("xylophone"));
        }
        for line in &lines[2..] {
            for name in ["subject", "topics", "topic_names"] {
                assert_eq!(line.get(name), None, "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_is_not_permitted_is_a_line_with_its_principal_and_the_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let more = format!("[audit]\nfile = {file:?}\n");
    let rights: &[&str] = &["issue", "publish", "subscribe"];
    let (instance, credentials) = with_principals(&[("shop", rights, &["orders/*"])], &more).await;
    let (shop, of_another) = (credentials[0].as_str(), json!({ "topics": ["users/xylophone"] }));
    let permitted = ask_for_token(&instance, shop, &json!({ "topics": ["orders/7"] })).await;
    let permitted: Value = permitted.json().await.unwrap();
    let token = permitted["sse_token"].as_str().unwrap();
    remember_secret(token);
    let another = ("topic", "users/xylophone");
    let publish = json!({ "topic": "users/xylophone", "data": 1 });
    for request in [
        instance.post("/operator/api/events/sse-token").bearer_auth(shop).json(&of_another),
        instance.post("/operator/api/events").bearer_auth(shop).json(&publish),
        stream(&instance, &[("token", shop), another]),
        stream(&instance, &[("token", token), another]),
        instance.post("/operator/api/tokens/revoke").bearer_auth(shop).form(&[("token_id", "00")]),
    ] {
        problem(request.send().await.unwrap(), StatusCode::FORBIDDEN, "not_permitted").await;
    }
    let mut lines = lines(&file, 6).await;
    let issued = lines.remove(0);
    assert_eq!((&issued["action"], &issued["token_id"]), (&json!("issue"), &permitted["token_id"]));
    let rights: Vec<_> = lines.iter().map(|line| line["right"].as_str().unwrap()).collect();
    assert_eq!(rights, ["issue", "publish", "subscribe", "subscribe", "control"]);
    for (number, line) in lines.iter().enumerate() {
        let (action, code) = (json!("refuse_request"), json!("not_permitted"));
        assert_eq!((&line["action"], &line["code"], &line["principal"]), (&action, &code, &json!("shop")));
        let token_id = (number == 3).then_some(&permitted["token_id"]);
        assert_eq!(line.get("token_id"), token_id, "{line}");
        assert!(line["request_id"].is_string() && line["client"] == "127.0.0.1", "{line}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("xylophone"), "a topic may name a user: {text}");
}

#[tokio::test]
async fn a_principal_that_is_refused_in_the_url_is_a_line_without_its_credential() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let instance = audited(&file, &[("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "false")]).await;
    let refused = instance.ask_for_stream(&instance.principal).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let line = lines(&file, 1).await.remove(0);
    assert_eq!((&line["action"], &line["code"]), (&json!("refuse_principal"), &json!("principal_in_query")));
    assert!(!line.to_string().contains(&instance.principal), "{line}");
}

#[tokio::test]
async fn a_clients_address_is_cut_or_left_out_as_configured() {
    for (how, shown) in [("network", json!("127.0.0.0")), ("none", Value::Null)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let instance = audited(&file, &[("VX11_OPERATOR__AUDIT__CLIENT_ADDRESS", how)]).await;
        instance.issue().await;
        assert_eq!(lines(&file, 1).await[0]["client"], shown);
    }
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, rotated) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let instance = audited(&file, &[]).await;
    let first = instance.issue().await.id;
    lines(&file, 1).await;
    std::fs::rename(&file, &rotated).unwrap();
    let mut issued = vec![first];
    vx11_kit::until("a new file", async || {
        issued.push(instance.issue().await.id);
        file.exists()
    })
    .await;
    let old = lines(&rotated, 1).await.len();
    let mut all = lines(&rotated, old).await;
    all.extend(lines(&file, issued.len() - old).await);
    let ids: Vec<_> = all.iter().map(|line| line["token_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, issued, "no line is lost, none is there twice");
}

#[tokio::test]
async fn what_was_done_before_the_end_is_written_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let mut instance = audited(&file, &[]).await;
    for _ in 0..200 {
        instance.issue().await;
    }
    instance.terminate();
    instance.ended().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 200);
}

#[tokio::test]
async fn a_full_disk_is_logged_and_counted_and_stops_nobody() {
    let instance = audited(Path::new("/dev/full"), &[]).await;
    for _ in 0..3 {
        instance.issue().await;
    }
    instance.metric_becomes("vx11_operator_audit_lines_lost_total", 3).await;
    instance.logs("the audit trail cannot be written").await;
    assert_eq!(instance.log_text().matches("the audit trail cannot be written").count(), 1);
}

#[tokio::test]
async fn with_the_audit_trail_on_a_pipe_that_nobody_reads_the_instance_stops() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("audit");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // For reading and writing, so that opening does not wait for a writer (fifo(7)).
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let mut instance = audited(&pipe, &[]).await;
    // More lines than a pipe holds.
    for _ in 0..1000 {
        instance.issue().await;
    }
    instance.terminate();
    assert_eq!(instance.ended().await.code(), Some(0));
}

/// A disk that is full takes a part of a line. Here that part is written by the test.
#[tokio::test]
async fn what_follows_a_line_that_was_cut_begins_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let (file, disk) = (folder.path().join("audit.jsonl"), folder.path().join("disk"));
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let instance = audited(&file, &[]).await;
    instance.issue().await;
    instance.metric_becomes("vx11_operator_audit_lines_lost_total", 1).await;
    std::fs::write(&disk, "{\"time\":").unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&disk, &file).unwrap();
    let issued = instance.issue().await.id;
    let text = vx11_kit::eventually("a line", async || {
        std::fs::read_to_string(&disk).ok().filter(|text| text.ends_with('\n'))
    });
    let text = text.await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "{\"time\":"));
    assert_eq!(serde_json::from_str::<Value>(lines[1]).unwrap()["token_id"], json!(issued));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_the_start_with_what_to_do() {
    let settings = [("VX11_OPERATOR__AUDIT__FILE", "/nonexistent/audit.jsonl")];
    let (status, said) = Instance::try_with(&settings).await.err().expect("it does not start");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("/nonexistent/audit.jsonl") && said.contains("set audit.file"), "{said}");
}
