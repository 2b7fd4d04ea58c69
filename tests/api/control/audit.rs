//! Orders in the audit trail.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{BLOCK, END, REVOKE, UNBLOCK, ask, order, token_of};
use crate::support::Instance;

async fn audited(file: &Path, shown: bool) -> Instance {
    let shown = if shown { "true" } else { "false" };
    let settings =
        [("VX11_OPERATOR__AUDIT__FILE", file.to_str().unwrap()), ("VX11_OPERATOR__LOG__SUBJECTS", shown)];
    Instance::with(&settings).await
}

/// The lines of an instance that has stopped.
async fn lines(mut instance: Instance, file: &Path) -> Vec<Value> {
    instance.terminate();
    instance.ended().await;
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_order_is_a_line_with_its_outcome_and_refused_ones_are_none() {
    for is_shown in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let instance = audited(&file, is_shown).await;
        let token = token_of(&instance, "xylophone-7").await;
        let _stream = instance.open_stream(&token.text).await;
        let subject = json!({ "subject": "xylophone-7" });
        order(&instance, END, &subject).await;
        order(&instance, REVOKE, &subject).await;
        order(&instance, BLOCK, &json!({ "subject": "xylophone-7", "seconds": 60 })).await;
        order(&instance, UNBLOCK, &subject).await;
        order(&instance, END, &json!({ "token_id": token.id })).await;
        order(&instance, END, &json!({ "stream_id": "0123456789abcdef" })).await;
        order(&instance, END, &json!({ "principal": "shop" })).await;
        order(&instance, END, &json!({ "topic": "users/xylophone-7" })).await;
        for path in [END, REVOKE, BLOCK, UNBLOCK] {
            let refused = ask(&instance, path, &json!({ "subject": "xylo phone" })).await;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        }
        let mut lines = lines(instance, &file).await;
        assert_eq!(lines.remove(0)["action"], "issue");
        let hash = lines[0]["subject"].clone();
        let topic = json!("users/xylophone-7");
        for line in &mut lines {
            for (name, value) in [("principal", "operator"), ("client", "127.0.0.1"), ("instance", "1")] {
                assert_eq!(line[name], value, "{line}");
            }
            assert!(line["time"].is_string() && line["request_id"].is_string(), "{line}");
            let line = line.as_object_mut().unwrap();
            line.retain(|name, _| {
                !["time", "request_id", "principal", "client", "instance"].contains(&name.as_str())
            });
        }
        let ended = |by: &str, ended: u64| json!({ "action": "end_streams", "by": by, "ended": ended, "effective": "cluster" });
        let with = |mut line: Value, more: &[(&str, &Value)]| {
            for (name, value) in more {
                line[name] = (*value).clone();
            }
            line
        };
        let of_topic = with(ended("topic", 0), &[("topics", &json!(1))]);
        let of_topic = if is_shown { with(of_topic, &[("topic_names", &topic)]) } else { of_topic };
        let done = |action: &str| json!({ "action": action, "effective": "cluster", "subject": hash });
        let expected = [
            with(ended("subject", 1), &[("subject", &hash)]),
            done("revoke_subject"),
            with(done("block_subject"), &[("seconds", &json!(60))]),
            done("unblock_subject"),
            with(ended("token_id", 0), &[("selected", &json!(token.id))]),
            with(ended("stream_id", 0), &[("selected", &json!("0123456789abcdef"))]),
            with(ended("principal", 0), &[("selected", &json!("shop"))]),
            of_topic,
        ];
        assert_eq!(lines, expected);
        let hash = hash.as_str().unwrap();
        if is_shown {
            assert_eq!(hash, "xylophone-7");
        } else {
            assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            assert!(!std::fs::read_to_string(&file).unwrap().contains("xylophone"));
        }
    }
}
