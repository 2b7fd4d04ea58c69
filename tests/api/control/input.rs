//! Requests that are refused, and have no effect.

use reqwest::StatusCode;
use serde_json::json;

use super::{BLOCK, END, REVOKE, STREAMS, UNBLOCK, are_open, ask, token_of};
use crate::support::{Instance, problem};

/// A text in refused requests that must be in no answer.
const WORD: &str = "xylophone";

#[tokio::test]
async fn an_order_with_a_bad_field_is_refused_by_its_name_and_does_nothing() {
    let instance = Instance::start().await;
    let mut streams = [instance.open_stream(&token_of(&instance, "user-7").await.text).await];
    let long = WORD.repeat(15);
    let id = "0123456789abcdef";
    for (path, body, name) in [
        (REVOKE, json!({}), "subject"),
        (REVOKE, json!({ "subject": null }), "subject"),
        (REVOKE, json!({ "subject": "" }), "subject"),
        (REVOKE, json!({ "subject": "xylo phone" }), "subject"),
        (REVOKE, json!({ "subject": long }), "subject"),
        (REVOKE, json!({ "subject": ["user-7"] }), "subject"),
        (UNBLOCK, json!({}), "subject"),
        (UNBLOCK, json!({ "subject": 7 }), "subject"),
        (BLOCK, json!({ "seconds": 60 }), "subject"),
        (BLOCK, json!({ "subject": null, "seconds": 60 }), "subject"),
        (BLOCK, json!({ "subject": "user-7" }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": null }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": 0 }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": -1 }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": 86_401 }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": 1.5 }), "seconds"),
        (BLOCK, json!({ "subject": "user-7", "seconds": "60" }), "seconds"),
        (END, json!({}), "name the streams by exactly one of subject, token_id, stream_id, "),
        (END, json!({ "subject": "user-7", "token_id": id }), "subject and token_id"),
        (END, json!({ "topic": "default", "stream_id": id }), "stream_id and topic"),
        (END, json!({ "subject": "user-7", "principal": null }), "subject and principal"),
        (END, json!({ "subject": null }), "subject"),
        (END, json!({ "token_id": "0123456789ABCDEF" }), "token_id"),
        (END, json!({ "token_id": 7 }), "token_id"),
        (END, json!({ "stream_id": "0123456789abcde" }), "stream_id"),
        (END, json!({ "stream_id": null }), "stream_id"),
        (END, json!({ "principal": "xylo/phone" }), "principal"),
        (END, json!({ "principal": ["operator"] }), "principal"),
        (END, json!({ "topic": "xylophone/*" }), "topic"),
        (END, json!({ "topic": "*" }), "topic"),
        (END, json!({ "topic": "xylo phone" }), "topic"),
        (END, json!({ "topic": null }), "topic"),
    ] {
        let refusal =
            problem(ask(&instance, path, &body).await, StatusCode::BAD_REQUEST, "bad_request").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.starts_with(name), "{path} {body}: {detail}");
        assert!(!refusal.to_string().contains("xylo"), "{path} {body}: {refusal}");
    }
    for path in [REVOKE, UNBLOCK, BLOCK, END] {
        let bodies: [&[u8]; 8] = [
            b"",
            b"null",
            b"[]",
            br#"["subject"]"#,
            b"\"xylophone\"",
            b"{",
            b"7",
            b"{\"subject\": \"xylo\xff\"}",
        ];
        for body in bodies {
            let request = instance.post_as_principal(path).header("Content-Type", "application/json");
            let refusal = request.body(body).send().await.unwrap();
            let refusal = problem(refusal, StatusCode::BAD_REQUEST, "bad_request").await;
            assert!(!refusal.to_string().contains("xylo"), "{path} {body:?}: {refusal}");
        }
        let twice = instance.post_as_principal(path).header("Content-Type", "application/json");
        let twice = twice.body(r#"{"subject": "user-7", "subject": "user-8", "seconds": 1}"#).send().await;
        assert_eq!(twice.unwrap().status(), StatusCode::BAD_REQUEST, "{path}");
    }
    are_open(&instance, &mut streams).await;
    assert_eq!(instance.metric("vx11_operator_subjects_blocked").await, 0);
}

#[tokio::test]
async fn an_unknown_field_or_parameter_is_refused_by_its_name() {
    let instance = Instance::start().await;
    for (path, body, name) in [
        (REVOKE, json!({ "subject": "user-7", "seconds": 60 }), "seconds"),
        (UNBLOCK, json!({ "subject": "user-7", "reason": WORD }), "reason"),
        (BLOCK, json!({ "subject": "user-7", "seconds": 60, "until": WORD }), "until"),
        (BLOCK, json!({ "Subject": WORD, "seconds": 60 }), "Subject"),
        (END, json!({ "subject": "user-7", "reason": WORD }), "reason"),
        (END, json!({ "instance": "1" }), "instance"),
        (END, json!({ "topics": ["default"] }), "topics"),
    ] {
        let answer = ask(&instance, path, &body).await;
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "unknown_parameter").await;
        assert!(
            refusal["detail"].as_str().unwrap().starts_with(&format!("`{name}` is unknown")),
            "{refusal}"
        );
        assert!(!refusal.to_string().contains(WORD), "{refusal}");
    }
    for path in [REVOKE, UNBLOCK, BLOCK, END] {
        let body = json!({ "subject": "user-7", "seconds": 60 });
        let answer = ask(&instance, &format!("{path}?subject=user-7"), &body).await;
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "unknown_parameter").await;
        assert!(refusal["detail"].as_str().unwrap().contains("`subject`"), "{refusal}");
    }
    for query in ["token_id=0123456789abcdef", "topics=default", "Limit=1", "token=x", "_=1735689600000"] {
        let answer = instance.get_as_principal(&format!("{STREAMS}?{query}")).send().await.unwrap();
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "unknown_parameter").await;
        let detail = refusal["detail"].as_str().unwrap();
        let name = query.split('=').next().unwrap();
        assert!(detail.starts_with(&format!("`{name}` is unknown")), "{detail}");
        assert!(detail.ends_with("subject, topic, principal, instance, limit"), "{detail}");
    }
    // Fields are in a JSON object only.
    for path in [REVOKE, UNBLOCK, BLOCK, END] {
        let form = instance.post_as_principal(path).form(&[("subject", "user-7")]).send().await.unwrap();
        problem(form, StatusCode::BAD_REQUEST, "unknown_parameter").await;
        let text = instance.post_as_principal(path).header("Content-Type", "text/plain").body(WORD);
        let text = text.send().await.unwrap();
        problem(text, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    }
    assert_eq!(instance.metric("vx11_operator_subjects_blocked").await, 0);
}

#[tokio::test]
async fn a_list_with_a_bad_parameter_is_refused_by_its_name() {
    let instance = Instance::start().await;
    for (query, name) in [
        ("subject=", "subject"),
        ("subject=xylo%20phone", "subject"),
        ("subject=a&subject=b", "subject"),
        ("topic=", "topic"),
        ("topic=xylophone/*", "topic"),
        ("topic=*", "topic"),
        ("topic=a&topic=b", "topic"),
        ("principal=xylo%2Fphone", "principal"),
        ("principal=", "principal"),
        ("instance=xylo%20phone", "instance"),
        ("instance=a&instance=a", "instance"),
        ("limit=", "limit"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=xylophone", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=1", "limit"),
    ] {
        let answer = instance.get_as_principal(&format!("{STREAMS}?{query}")).send().await.unwrap();
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.starts_with(name) && !detail.contains("xylo"), "{query}: {detail}");
    }
}
