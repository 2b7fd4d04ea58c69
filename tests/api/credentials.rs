//! Accepted credentials and their places, and the answers to others.

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use vx11_kit::remember_secret;

use crate::support::{Instance, exchange, problem, random_hex};

const STREAM: &str = "/operator/api/events/stream";
const AUTHORISE: &str = "/operator/internal/authorise";
/// Answer to a proxy about a credential that cannot be checked.
const FORBIDDEN: (StatusCode, &str) = (StatusCode::FORBIDDEN, "token_refused");
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A call that needs a principal: method, path, type and content of its body, status when it is let
/// in.
type Call = (Method, &'static str, &'static str, &'static str, StatusCode);

/// Every call that needs a principal.
const CALLS: [Call; 7] = [
    (Method::POST, "/operator/api/events/sse-token", FORM, "", StatusCode::OK),
    (Method::GET, "/operator/api/events/sse-token", FORM, "", StatusCode::OK),
    (Method::POST, "/operator/api/events", JSON, r#"{"data": 1}"#, StatusCode::ACCEPTED),
    (Method::POST, "/operator/api/tokens/revoke", FORM, "token_id=0123456789abcdef", StatusCode::OK),
    (Method::POST, "/operator/api/tokens/introspect", FORM, "token=x", StatusCode::OK),
    (Method::GET, "/operator/internal/cache-stats", FORM, "", StatusCode::OK),
    (Method::GET, "/operator/internal/instance-id", FORM, "", StatusCode::OK),
];

fn call(instance: &Instance, (method, path, content_type, body, _): &Call) -> RequestBuilder {
    instance
        .client
        .request(method.clone(), format!("{}{path}", instance.base))
        .header("Content-Type", *content_type)
        .body(*body)
}

fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value).expect("a header value"));
    }
    headers
}

/// Asserts the problem on each call, on the stream, and where a proxy asks: it understands 401 and
/// 403 only.
async fn refused_everywhere(instance: &Instance, with: &HeaderMap, status: StatusCode, code: &str) {
    for known in &CALLS {
        let request = call(instance, known).headers(with.clone());
        problem(request.send().await.expect("an answer"), status, code).await;
    }
    let refused = if status == StatusCode::BAD_REQUEST { FORBIDDEN } else { (status, code) };
    for (path, (status, code)) in [(STREAM, (status, code)), (AUTHORISE, refused)] {
        let request = instance.get(path).headers(with.clone());
        problem(request.send().await.expect("an answer"), status, code).await;
    }
}

#[tokio::test]
async fn no_empty_and_foreign_kinds_of_credentials_are_answered_with_401_and_how_to_authenticate() {
    let instance = Instance::start().await;
    let principal = instance.principal.as_bytes();
    let basic = [b"Basic ".as_slice(), principal].concat();
    let glued = [b"Bearer".as_slice(), principal].concat();
    let tab = [b"Bearer\t".as_slice(), principal].concat();
    let cases: [&[(&'static str, &[u8])]; 8] = [
        &[],
        &[("X-VX11-Token", b"")],
        &[("Authorization", b"")],
        &[("Authorization", b"Bearer")],
        &[("Authorization", b"Bearer   ")],
        &[("X-VX11-Token", b""), ("Authorization", b"bearer ")],
        &[("Authorization", &glued)],
        &[("Authorization", &tab)],
    ];
    for case in cases {
        let with = headers(case);
        refused_everywhere(&instance, &with, StatusCode::UNAUTHORIZED, "credential_missing").await;
    }
    for known in &CALLS {
        let answer = call(&instance, known).headers(headers(&[("Authorization", &basic)])).send().await;
        // OAuth clients may authenticate by Basic there.
        let is_for_clients =
            ["/tokens/revoke", "/tokens/introspect"].iter().any(|end| known.1.ends_with(end));
        let code = if is_for_clients { "credential_wrong" } else { "credential_missing" };
        problem(answer.unwrap(), StatusCode::UNAUTHORIZED, code).await;
    }
    let empty_query = instance.get(&format!("{STREAM}?token=&token=")).send().await.unwrap();
    problem(empty_query, StatusCode::UNAUTHORIZED, "credential_missing").await;
}

#[tokio::test]
async fn a_stream_without_a_credential_asks_for_a_stream_token_that_the_backend_issues() {
    let instance = Instance::start().await;
    for path in [STREAM, AUTHORISE] {
        let answer = instance.get(path).send().await.unwrap();
        let refusal = problem(answer, StatusCode::UNAUTHORIZED, "credential_missing").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.contains("stream token") && detail.contains("backend"), "{detail}");
        assert!(!detail.contains("principal"), "{detail}");
    }
    for known in &CALLS {
        let answer = call(&instance, known).send().await.unwrap();
        let refusal = problem(answer, StatusCode::UNAUTHORIZED, "credential_missing").await;
        assert!(refusal["detail"].as_str().unwrap().contains("principal's credential"), "{refusal}");
    }
}

#[tokio::test]
async fn a_wrong_principal_is_answered_with_401_whatever_it_looks_like() {
    let instance = Instance::start().await;
    let right = instance.principal.clone();
    let stranger = random_hex();
    remember_secret(&stranger);
    let almost = [&right[..right.len() - 1], if right.ends_with('0') { "1" } else { "0" }].concat();
    remember_secret(&almost);
    let long = "k".repeat(8 * 1024);
    let wrong: [&[u8]; 9] = [
        stranger.as_bytes(),
        almost.as_bytes(),
        &right.as_bytes()[..right.len() - 1],
        &[right.as_bytes(), b"0"].concat(),
        &[right.as_bytes(), b" ", right.as_bytes()].concat(),
        long.as_bytes(),
        b"\xff\xfe\x80",
        "schl\u{fc}ssel \u{1F511}".as_bytes(),
        &[b"Bearer ", right.as_bytes()].concat(),
    ];
    for credential in wrong {
        let bearer = [b"Bearer ".as_slice(), credential].concat();
        for case in [("X-VX11-Token", credential), ("Authorization", bearer.as_slice())] {
            let with = headers(&[case]);
            refused_everywhere(&instance, &with, StatusCode::UNAUTHORIZED, "credential_wrong").await;
        }
    }
}

#[tokio::test]
async fn the_principal_is_let_in_as_header_and_as_bearer_of_any_case_and_given_twice_is_one() {
    let instance = Instance::start().await;
    let principal = instance.principal.as_bytes();
    let scheme = |name: &str| [name.as_bytes(), b" ", principal].concat();
    let cases: [&[(&'static str, &[u8])]; 8] = [
        &[("X-VX11-Token", principal)],
        &[("Authorization", &scheme("Bearer"))],
        &[("Authorization", &scheme("bearer"))],
        &[("Authorization", &scheme("BEARER  "))],
        &[("X-VX11-Token", principal), ("X-VX11-Token", principal)],
        &[("X-VX11-Token", principal), ("Authorization", &scheme("Bearer"))],
        &[("X-VX11-Token", b""), ("Authorization", &scheme("Bearer"))],
        &[("X-VX11-Token", principal), ("Authorization", b"Basic YTpi")],
    ];
    for case in cases {
        for known in &CALLS {
            let answer = call(&instance, known).headers(headers(case)).send().await.unwrap();
            assert_eq!(answer.status(), known.4, "{} {}", known.0, known.1);
            assert_eq!(answer.headers()["cache-control"], "no-store", "{}", known.1);
            if known.1.ends_with("/sse-token") {
                let body: serde_json::Value = answer.json().await.unwrap();
                remember_secret(body["sse_token"].as_str().unwrap());
            }
        }
        let stream = instance.get(STREAM).headers(headers(case)).send().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn credentials_that_disagree_are_answered_with_400_even_if_one_of_them_is_right() {
    let instance = Instance::start().await;
    let right = instance.principal.as_bytes();
    let wrong = random_hex();
    remember_secret(&wrong);
    let wrong = wrong.as_bytes();
    let bearer = |credential: &[u8]| [b"Bearer ".as_slice(), credential].concat();
    let cases: [&[(&'static str, &[u8])]; 5] = [
        &[("X-VX11-Token", right), ("X-VX11-Token", wrong)],
        &[("X-VX11-Token", right), ("Authorization", &bearer(wrong))],
        &[("X-VX11-Token", wrong), ("Authorization", &bearer(right))],
        &[("Authorization", &bearer(right)), ("Authorization", &bearer(wrong))],
        &[("X-VX11-Token", right), ("X-VX11-Token", right), ("X-VX11-Token", b"\xff")],
    ];
    for case in cases {
        let with = headers(case);
        refused_everywhere(&instance, &with, StatusCode::BAD_REQUEST, "credentials_conflict").await;
    }
}

#[tokio::test]
async fn on_the_stream_the_query_counts_as_one_more_credential() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let principal = instance.principal.clone();
    let ask = |header: &str, query: &[&str]| {
        let query: Vec<_> = query.iter().map(|value| ("token", *value)).collect();
        let request = instance.get(STREAM).query(&query);
        if header.is_empty() { request } else { request.header("X-VX11-Token", header) }.send()
    };
    for (header, query) in [
        ("", vec![token.as_str()]),
        ("", vec![&token, &token]),
        ("", vec![&token, ""]),
        (&token, vec![]),
        (&token, vec![&token]),
        // Clients of the predecessor put the principal itself into the URL.
        ("", vec![&principal]),
        (&principal, vec![&principal]),
    ] {
        assert_eq!(ask(header, &query).await.unwrap().status(), StatusCode::OK);
    }
    for (header, query) in [
        (principal.as_str(), vec![token.as_str()]),
        (&token, vec![&principal]),
        ("", vec![&token, &principal]),
        ("", vec![&token, "nonsense"]),
    ] {
        let answer = ask(header, &query).await.unwrap();
        problem(answer, StatusCode::BAD_REQUEST, "credentials_conflict").await;
    }
}

#[tokio::test]
async fn where_it_is_forbidden_a_principal_in_the_url_is_refused_and_asked_to_issue_a_token() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "false")]).await;
    let (token, principal) = (instance.issue().await.token, instance.principal.clone());
    for path in [STREAM, AUTHORISE] {
        let in_query = || instance.get(path).query(&[("token", &principal)]);
        // In a header as well it is in the URL all the same.
        for request in [in_query(), in_query().header("X-VX11-Token", &principal)] {
            let answer = request.send().await.unwrap();
            let refusal = problem(answer, StatusCode::FORBIDDEN, "principal_in_query").await;
            assert!(
                refusal["detail"].as_str().unwrap().contains("/operator/api/events/sse-token"),
                "{refusal}"
            );
            assert!(!refusal.to_string().contains(&principal), "{refusal}");
        }
        let opened = [
            instance.get(path).query(&[("token", &token)]),
            instance.get(path).header("X-VX11-Token", &principal),
            instance.get(path).bearer_auth(&principal),
        ];
        for request in opened {
            assert!(request.send().await.unwrap().status().is_success(), "{path}");
        }
        let almost = instance.get(path).query(&[("token", &principal[1..])]).send().await.unwrap();
        problem(almost, StatusCode::FORBIDDEN, "token_refused").await;
    }
    let refused = r#"vx11_operator_ephemeral_tokens_invalid_total{reason="principal_in_query""#;
    assert_eq!(instance.metric(refused).await, 4);
    // By its id the client can be found; by its credential nobody should find it.
    instance.logs("credential refused in the URL principal=operator").await;
}

#[tokio::test]
async fn the_query_is_no_place_for_a_credential_except_on_the_stream() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    for known in &CALLS {
        for value in [&instance.principal, &token] {
            let request = call(&instance, known).query(&[("token", value)]);
            problem(request.send().await.unwrap(), StatusCode::UNAUTHORIZED, "credential_missing").await;
        }
        let both = call(&instance, known)
            .query(&[("token", "something else")])
            .header("X-VX11-Token", &instance.principal);
        // An unknown parameter is refused wherever access is granted or an event published.
        let is_strict = known.1.starts_with("/operator/api/events");
        let expected = if is_strict { StatusCode::BAD_REQUEST } else { known.4 };
        assert_eq!(both.send().await.unwrap().status(), expected, "{}", known.1);
    }
}

#[tokio::test]
async fn an_ephemeral_token_opens_streams_and_nothing_else() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let bearer = format!("Bearer {token}");
    for header in [("X-VX11-Token", token.as_str()), (AUTHORIZATION.as_str(), &bearer)] {
        for known in &CALLS {
            let request = call(&instance, known).header(header.0, header.1);
            problem(request.send().await.unwrap(), StatusCode::UNAUTHORIZED, "credential_wrong").await;
        }
        let stream = instance.get(STREAM).header(header.0, header.1);
        assert_eq!(stream.send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_credential_too_long_for_a_header_is_refused_before_it_is_read_and_hurts_nobody() {
    let instance = Instance::start().await;
    let endless = "k".repeat(200 * 1024);
    for request in [
        format!("GET {STREAM} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {endless}\r\n\r\n"),
        format!("POST /operator/api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {endless}\r\n\r\n"),
        format!("GET {STREAM}?token={endless} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET {STREAM}?token={} HTTP/1.1\r\nHost: x\r\n\r\n", &endless[..70_000]),
    ] {
        // A server that stops reading may reset the connection, and the reset may overtake its
        // answer.
        let answer = exchange(&instance, request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or("431");
        assert!(["400", "431"].contains(&status), "{answer}");
        instance.issue().await;
    }
}
