//! Tokens that open nothing. From outside they are all alike; why one was refused, only the metrics
//! tell.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::{Instance, problem};

const STREAM: &str = "/operator/api/events/stream";

/// Spellings of the same sixteen bytes that a lenient parser of UUIDs would take, and near misses.
fn aliases(token: &str) -> Vec<String> {
    let simple = token.replace('-', "");
    let moved_hyphen = format!("{}-{}", &simple[..9], &simple[9..]);
    vec![
        token.to_uppercase(),
        format!("{{{token}}}"),
        format!("urn:uuid:{token}"),
        format!(
            "{}-{}-{}-{}-{}",
            &simple[..7],
            &simple[7..12],
            &simple[12..16],
            &simple[16..20],
            &simple[20..]
        ),
        moved_hyphen,
        simple,
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}\0"),
        token[..35].to_owned(),
        format!("{token}0"),
        token.replace('-', "\u{2010}"),
        format!("{}4{}", &token[..14], &token[15..]),
    ]
}

fn form_fits(token: &str) -> bool {
    token.as_bytes()[14] == b'8' && matches!(token.as_bytes()[19], b'8' | b'9' | b'a' | b'b')
}

/// `token` with one of its 128 bits flipped, for each of them.
fn bit_flips(token: &str) -> Vec<String> {
    let digits = (0..token.len()).filter(|&at| token.as_bytes()[at] != b'-');
    let flips = digits.flat_map(|at| [1, 2, 4, 8].map(|bit| (at, bit)));
    flips
        .map(|(at, bit)| {
            let digit = u8::from_str_radix(&token[at..=at], 16).expect("a hexadecimal digit") ^ bit;
            format!("{}{digit:x}{}", &token[..at], &token[at + 1..])
        })
        .collect()
}

/// Asserts that the token was refused as all are; returns what a client could tell it apart by.
async fn refusal(response: Response, token: &str) -> (Value, Vec<(String, String)>) {
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| name != "date")
        .collect();
    headers.sort();
    let mut body = problem(response, StatusCode::FORBIDDEN, "token_refused").await;
    // Random digits, in which four of the token's may be by chance.
    body["request_id"] = Value::Null;
    let text = body.to_string().to_lowercase();
    for piece in token.split('-').filter(|piece| piece.len() >= 4) {
        assert!(!text.contains(&piece.to_lowercase()), "{text} repeats {piece}");
    }
    (body, headers)
}

async fn reasons(instance: &Instance) -> [u64; 4] {
    let mut counts = [0; 4];
    for (count, reason) in counts.iter_mut().zip(["malformed", "forged", "expired", "revoked"]) {
        let name = format!("vx11_operator_ephemeral_tokens_invalid_total{{reason=\"{reason}\"}}");
        *count = instance.metric(&name).await;
    }
    counts
}

/// An instance with its own principal, and an expired token. The token comes from another instance
/// with the same principal, whose tokens live for a second; tokens of the returned instance live
/// long enough for any test.
async fn with_expired_token() -> (Instance, String) {
    let instance = Instance::start().await;
    let brief = [("VX11_PRINCIPAL_TOKEN", instance.principal.as_str()), ("EPHEMERAL_TOKEN_TTL_SEC", "1")];
    let token = Instance::with(&brief).await.issue().await.token;
    // Asking does not count as an attempt to enter.
    instance.expires(&token).await;
    (instance, token)
}

#[tokio::test]
async fn malformed_forged_foreign_expired_and_revoked_tokens_get_one_identical_answer() {
    let (instance, expired) = with_expired_token().await;
    let foreign = Instance::start().await.issue().await.token;
    let forged = bit_flips(&expired).pop().unwrap();
    remember_secret(&forged);
    let revoked = instance.issue().await;
    let revocation =
        instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &revoked.token)]);
    assert_eq!(revocation.send().await.unwrap().status(), StatusCode::OK);
    let first = refusal(instance.ask_for_stream(&revoked.token).await, &revoked.token).await;
    assert_eq!(reasons(&instance).await, [0, 0, 0, 1]);

    let mut counts = [0, 0, 0, 1];
    let no_uuid = "secret-but-no-uuid".to_owned();
    for (reason, token) in [(0, no_uuid), (1, forged), (1, foreign), (2, expired)] {
        assert_eq!(refusal(instance.ask_for_stream(&token).await, &token).await, first);
        counts[reason] += 1;
        assert_eq!(reasons(&instance).await, counts);
    }
}

#[tokio::test]
async fn no_alias_of_a_valid_token_is_a_token() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let mut refused = 0;
    for alias in aliases(&token) {
        refusal(instance.ask_for_stream(&alias).await, &token).await;
        refused += 1;
        // In a header nobody can tell a malformed token from a wrong principal. Blanks around a
        // header's value are not part of it (RFC 9110 §5.5).
        if alias.trim() != token
            && let Ok(header) = reqwest::header::HeaderValue::from_bytes(alias.as_bytes())
        {
            let answer = instance.get(STREAM).header("X-VX11-Token", header).send().await.unwrap();
            problem(answer, StatusCode::UNAUTHORIZED, "credential_wrong").await;
        }
        assert_eq!(instance.introspect(&alias).await, json!({ "active": false }));
    }
    assert_eq!(reasons(&instance).await, [refused, 0, 0, 0]);
    // The token itself was never in question.
    assert_eq!(instance.ask_for_stream(&token).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_no_token() {
    let instance = Instance::start().await;
    for query in ["token=%ff%fe", "token=%00", "token=%", "token=%zz", "token=%F0%9F%94%91", "token=+"] {
        let answer = instance.get(&format!("{STREAM}?{query}")).send().await.unwrap();
        problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
    }
}

#[tokio::test]
async fn no_bit_of_a_token_can_be_changed() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let flips = bit_flips(&token);
    assert_eq!(flips.len(), 128);
    let (mut malformed, mut forged) = (0, 0);
    for flip in &flips {
        remember_secret(flip);
        refusal(instance.ask_for_stream(flip).await, flip).await;
        *(if form_fits(flip) { &mut forged } else { &mut malformed }) += 1;
    }
    assert_eq!((malformed, forged), (6, 122));
    assert_eq!(reasons(&instance).await, [malformed, forged, 0, 0]);
}

#[tokio::test]
async fn a_refused_token_is_refused_alike_in_a_header() {
    let (instance, expired) = with_expired_token().await;
    let forged = bit_flips(&expired).swap_remove(0);
    remember_secret(&forged);
    let in_query = refusal(instance.ask_for_stream(&expired).await, &expired).await;
    for token in [&expired, &forged] {
        for request in
            [instance.get(STREAM).header("X-VX11-Token", token), instance.get(STREAM).bearer_auth(token)]
        {
            assert_eq!(refusal(request.send().await.unwrap(), token).await, in_query);
        }
    }
    assert_eq!(reasons(&instance).await, [0, 2, 3, 0]);
}

#[tokio::test]
async fn revoking_by_token_or_by_id_refuses_the_next_stream_and_no_other() {
    let instance = Instance::start().await;
    let (by_token, by_id, kept) = (instance.issue().await, instance.issue().await, instance.issue().await);
    for form in [("token", &by_token.token), ("token_id", &by_id.id)] {
        let request = instance.post_as_principal("/operator/api/tokens/revoke").form(&[form]);
        assert_eq!(
            request.send().await.unwrap().json::<Value>().await.unwrap(),
            json!({"effective": "cluster"})
        );
    }
    for revoked in [&by_token, &by_id] {
        refusal(instance.ask_for_stream(&revoked.token).await, &revoked.token).await;
        assert_eq!(instance.introspect(&revoked.token).await, json!({ "active": false }));
    }
    assert_eq!(instance.ask_for_stream(&kept.token).await.status(), StatusCode::OK);
    assert_eq!(reasons(&instance).await, [0, 0, 0, 2]);
}
