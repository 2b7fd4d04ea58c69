//! Revoking, blocking and unblocking subjects.

use reqwest::StatusCode;
use serde_json::json;
use vx11_kit::until;

use super::{BLOCK, REVOKE, UNBLOCK, are_open, ends, order, refused, token_of};
use crate::support::{Instance, ask_for_token, problem};

/// A subject as long as it may be, of characters that mean something elsewhere.
const ODD: &str = "!\"#$%&'()*+,-./0123456789:;<=>?@ABC[\\]^_`abc{|}~";

fn blocked_attempts(at: &str) -> String {
    format!("vx11_operator_blocked_attempts_total{{at=\"{at}\"}}")
}

#[tokio::test]
async fn revoking_a_subject_refuses_the_tokens_until_now_and_no_later_one() {
    let instance = Instance::start().await;
    for (n, subject) in ["user-7", ODD, &"x".repeat(128)].into_iter().enumerate() {
        let tokens = [token_of(&instance, subject).await, token_of(&instance, subject).await];
        let other = token_of(&instance, "user-70").await;
        let mut streams =
            [instance.open_stream(&tokens[0].text).await, instance.open_stream(&tokens[1].text).await];
        let mut others = [
            instance.open_stream(&other.text).await,
            instance.open_stream(&instance.issue().await.token).await,
        ];
        let answer = order(&instance, REVOKE, &json!({ "subject": subject })).await;
        assert_eq!(answer, json!({ "effective": "cluster" }));
        for (stream, token) in streams.iter_mut().zip(&tokens) {
            ends(stream, "revoked").await;
            let answer = instance.ask_for_stream(&token.text).await;
            problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
            assert_eq!(instance.introspect(&token.text).await, json!({ "active": false }));
        }
        assert_eq!(refused(&instance, "revoked").await, 2 * (n as u64 + 1));
        // Tokens that are issued afterwards are valid at once, even in the same millisecond.
        let later = token_of(&instance, subject).await;
        assert_eq!(instance.introspect(&later.text).await["active"], true);
        drop(instance.open_stream(&later.text).await);
        are_open(&instance, &mut others).await;
    }
}

#[tokio::test]
async fn a_blocked_subject_gets_no_token_and_its_tokens_open_nothing_until_it_is_unblocked() {
    let instance = Instance::start().await;
    let (token, other) = (token_of(&instance, "user-7").await, token_of(&instance, "user-70").await);
    let mut stream = instance.open_stream(&token.text).await;
    let mut others = [instance.open_stream(&other.text).await];
    let answer = order(&instance, BLOCK, &json!({ "subject": "user-7", "seconds": 86_400 })).await;
    assert_eq!(answer["effective"], "cluster");
    let until = answer["until"].as_str().unwrap();
    assert!(until.ends_with('Z') && until.len() == "2026-01-01T00:00:00.000Z".len(), "{answer}");
    ends(&mut stream, "blocked").await;
    instance.metric_becomes("vx11_operator_subjects_blocked", 1).await;

    let issuing = ask_for_token(&instance, &instance.principal, &json!({ "subject": "user-7" })).await;
    let refusal = problem(issuing, StatusCode::FORBIDDEN, "subject_blocked").await;
    assert!(!refusal.to_string().contains("user-7"), "{refusal}");
    problem(instance.ask_for_stream(&token.text).await, StatusCode::FORBIDDEN, "token_refused").await;
    let authorise = instance.get("/operator/internal/authorise").bearer_auth(&token.text).send().await;
    problem(authorise.unwrap(), StatusCode::FORBIDDEN, "token_refused").await;
    assert_eq!(instance.introspect(&token.text).await, json!({ "active": false }));
    assert_eq!(refused(&instance, "blocked").await, 2);
    assert_eq!(instance.metric(&blocked_attempts("issue")).await, 1);
    assert_eq!(instance.metric(&blocked_attempts("open")).await, 2);

    assert_eq!(
        order(&instance, UNBLOCK, &json!({ "subject": "user-7" })).await,
        json!({ "effective": "cluster" })
    );
    instance.metric_becomes("vx11_operator_subjects_blocked", 0).await;
    // A block revokes nothing.
    drop(instance.open_stream(&token.text).await);
    token_of(&instance, "user-7").await;
    are_open(&instance, &mut others).await;
    // Nothing was blocked any more.
    order(&instance, UNBLOCK, &json!({ "subject": "user-7" })).await;
    order(&instance, UNBLOCK, &json!({ "subject": "nobody" })).await;
}

#[tokio::test]
async fn a_block_ends_by_itself_and_the_last_one_counts() {
    let instance = Instance::start().await;
    order(&instance, BLOCK, &json!({ "subject": "user-7", "seconds": 86_400 })).await;
    order(&instance, BLOCK, &json!({ "subject": "user-7", "seconds": 1 })).await;
    until("the block to end", async || {
        let answer = ask_for_token(&instance, &instance.principal, &json!({ "subject": "user-7" })).await;
        answer.status() == StatusCode::OK
    })
    .await;
    instance.metric_becomes("vx11_operator_subjects_blocked", 0).await;
}

#[tokio::test]
async fn no_log_line_names_a_subject_unless_it_may() {
    for is_shown in [false, true] {
        let shown = if is_shown { "true" } else { "false" };
        let instance = Instance::with(&[("VX11_OPERATOR__LOG__SUBJECTS", shown)]).await;
        let body = json!({ "subject": "xylophone-7" });
        order(&instance, REVOKE, &body).await;
        order(&instance, BLOCK, &json!({ "subject": "xylophone-7", "seconds": 1 })).await;
        order(&instance, UNBLOCK, &body).await;
        order(&instance, super::END, &body).await;
        order(&instance, super::END, &json!({ "topic": "users/xylophone-7" })).await;
        super::list(&instance, &[("subject", "xylophone-7"), ("topic", "users/xylophone-7")]).await;
        instance.logs("by=\"topic\"").await;
        for order in ["revoke", "block", "unblock"] {
            instance.logs(&format!("order=\"{order}\"")).await;
        }
        let log = instance.log_text();
        assert_eq!(log.contains("xylophone-7"), is_shown, "{log}");
        assert!(!log.contains("users/xylophone"), "{log}");
    }
}
