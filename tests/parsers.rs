//! Properties of everything that reads from the network, through a running instance. The parsers
//! have property tests in `src`; these test them together. `make fuzz` runs both with more cases.
#![expect(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "`support` belongs to the other test binary, too, which uses all of it"
)]

#[path = "api/support/mod.rs"]
mod support;

use std::fmt::{Debug, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use support::{Instance, Issuer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vx11_kit::{EventStream, PATIENCE};

const STREAM: &str = "/operator/api/events/stream";
/// The form of a token without a grant.
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

/// Holds `property` against one instance for many cases; at last the instance must be as good as
/// new.
fn holds<S>(strategy: &S, property: impl AsyncFn(&Instance, S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy<Value: Debug>,
{
    holds_with(Instance::start(), strategy, property);
}

#[expect(clippy::needless_pass_by_value, reason = "a property reads best where it is called upon")]
/// The same against an instance of the test.
fn holds_with<S>(
    start: impl Future<Output = Instance>,
    strategy: &S,
    property: impl AsyncFn(&Instance, S::Value) -> Result<(), TestCaseError>,
) where
    S: Strategy<Value: Debug>,
{
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let instance = runtime.block_on(start);
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(strategy, |case| runtime.block_on(property(&instance, case)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(async {
        let stream = instance.open_stream(&instance.issue().await.token).await;
        assert_eq!(stream.greeting.event, "message");
    });
    assert!(!instance.log_text().contains("panic"), "see {}", instance.log.display());
}

/// Sends bytes, says that no more will come, and returns what is answered.
async fn say(instance: &Instance, bytes: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(instance.address()).await.expect("a connection");
    let _ = connection.write_all(bytes).await;
    let _ = connection.shutdown().await;
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    // A reset after the answer leaves what was read.
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("the server hangs up");
    answer
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut encoded, byte| {
        let _ = write!(encoded, "%{byte:02x}");
        encoded
    })
}

/// Requests, most of them nearly right.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), "[A-Z]{1,9}", "[ -~]{0,5}"];
    let path = prop_oneof![
        Just(STREAM.to_owned()),
        Just("/operator/api/events".to_owned()),
        Just("/operator/api/tokens/revoke".to_owned()),
        Just("/health".to_owned()),
        "/(operator|api|events|stream|\\.\\.|%2e|%2f|/|\\?token=|&|=|%[0-9a-f]{2}|[ -~]){0,8}",
    ];
    let header = prop_oneof![
        "X-VX11-Token: [ -~]{0,40}",
        "Authorization: [Bb]earer [ -~]{0,40}",
        "Content-Length: -?[0-9]{0,20}",
        "Transfer-Encoding: (chunked|gzip|identity|, ){0,3}",
        "Content-Type: (application/json|application/x-www-form-urlencoded|[a-z/+;=]{0,20})",
        "Last-Event-ID: [ -~]{0,40}",
        "Connection: (close|upgrade|keep-alive)",
        "Upgrade: (h2c|websocket)",
        "Expect: (100-continue|[a-z]{0,5})",
        "[A-Za-z-]{0,10}:? ?[ -~]{0,20}",
    ];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[0-9a-f]{0,3}\r\n[{}\"a-z:]{0,10}\r\n0\r\n\r\n".prop_map(String::into_bytes),
    ];
    let line_end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n")];
    (method, path, prop::collection::vec(header, 0..6), body, line_end, any::<bool>()).prop_map(
        |(method, path, headers, body, line_end, host)| {
            let mut request = format!("{method} {path} HTTP/1.1{line_end}");
            for header in headers.iter().map(String::as_str).chain(host.then_some("Host: x")) {
                request += header;
                request += line_end;
            }
            request += line_end;
            [request.into_bytes(), body].concat()
        },
    )
}

#[test]
fn no_bytes_bring_an_instance_down_or_make_it_blame_itself() {
    let bytes = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        4 => request(),
        1 => prop::collection::vec(request(), 2..4).prop_map(|requests| requests.concat()),
    ];
    holds(&bytes, async |instance, bytes| {
        let answer = say(instance, &bytes).await;
        let text = String::from_utf8_lossy(&answer);
        prop_assert!(text.is_empty() || text.starts_with("HTTP/1."), "{}", text);
        prop_assert!(!text.contains("HTTP/1.1 5") && !text.contains("HTTP/1.0 5"), "{}", text);
        Ok(())
    });
}

/// Grants, most of them nearly right.
fn grant() -> impl Strategy<Value = String> {
    let right = [
        (1_u8, b"operator".to_vec()),
        (2, b"\x01\x9b\x85\x72\x02\x00".to_vec()),
        (3, b"user-42".to_vec()),
        (4, b"\x07default\x08orders/*".to_vec()),
        (5, vec![0xff; 6]),
        (6, Vec::new()),
        (7, b"/reports/7".to_vec()),
    ];
    let right = prop::sample::subsequence(right.to_vec(), 0..=right.len());
    let field = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20));
    let another = prop::option::of((any::<prop::sample::Index>(), field));
    let version = prop_oneof![4 => Just(1_u8), 1 => any::<u8>()];
    let encoded = (version, right, another).prop_map(|(version, mut fields, another)| {
        if let Some((at, field)) = another {
            fields.insert(at.index(fields.len() + 1), field);
        }
        let mut bytes = vec![version];
        for (number, value) in fields {
            bytes.push(number);
            bytes.extend(u16::try_from(value.len()).expect("a short value").to_be_bytes());
            bytes.extend(value);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    });
    prop_oneof![4 => encoded, 1 => "[A-Za-z0-9_-]{0,1100}", 1 => "[ -~]{0,40}"]
}

#[test]
fn no_grant_but_its_own_goes_with_a_token() {
    holds(&grant(), async |instance, grant| {
        let token = format!("{}.{grant}", instance.issue().await.token);
        let query = percent_encoded(token.as_bytes());
        let in_url = instance.get(&format!("{STREAM}?token={query}"));
        let in_header = instance.get(STREAM).header("X-VX11-Token", &token);
        for request in [in_url, in_header] {
            let answer = request.send().await.expect("an answer");
            prop_assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        }
        let introspect = instance.post_as_principal("/operator/api/tokens/introspect");
        let answer = introspect.form(&[("token", &token)]).send().await.expect("an answer");
        prop_assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({ "active": false }));
        Ok(())
    });
}

#[test]
fn only_the_right_credential_is_accepted_in_any_place() {
    let credential = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[0-9a-f]{32}".prop_map(String::into_bytes),
        UUID.prop_map(String::into_bytes),
        (UUID, grant()).prop_map(|(uuid, grant)| format!("{uuid}.{grant}").into_bytes()),
        "([Bb]earer )?[ -~]{0,60}".prop_map(String::into_bytes),
    ];
    holds(&credential, async |instance, credential| {
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        let query = percent_encoded(&credential);
        let in_url = instance.get(&format!("{STREAM}?token={query}")).send().await.expect("an answer");
        prop_assert!(refused.contains(&in_url.status()), "{}", in_url.status());
        let Ok(header) = HeaderValue::from_bytes(&credential) else {
            return Ok(());
        };
        let cookie = [b"__Host-vx11-stream=", header.as_bytes()].concat();
        let stream = instance.get(STREAM).header("Cookie", cookie).send().await.expect("an answer");
        prop_assert!(refused.contains(&stream.status()), "{}", stream.status());
        for name in ["X-VX11-Token", "Authorization"] {
            let stream = instance.get(STREAM).header(name, &header).send().await.expect("an answer");
            prop_assert!(refused.contains(&stream.status()), "{}", stream.status());
            let issue = instance.get("/operator/api/events/sse-token").header(name, &header);
            let issue = issue.send().await.expect("an answer");
            prop_assert_eq!(issue.status(), StatusCode::UNAUTHORIZED);
        }
        Ok(())
    });
}

/// JWTs, most of them nearly right: the parts of a good one, with another in place of one of them.
fn jwt(good: &str) -> impl Strategy<Value = String> + use<> {
    let parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    let header = r#"\{"alg": ?"(none|ES256|HS256|RS256)"(, ?"(kid|typ|jwk|jku|crit|b64)": ?("[a-z+/:.]{0,12}"|null|\[\]|\{\}))?\}"#;
    let claims = r#"\{("(iss|aud|sub|exp|nbf|iat|cnf)": ?("(https://id.example/|events|[a-z*$/%]{0,9})"|-?[0-9]{1,12}(e9)?|\[\]|null),? ?){0,4}\}"#;
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let part = prop_oneof![
        header.prop_map(encode),
        claims.prop_map(encode),
        "[A-Za-z0-9_=-]{0,90}",
        prop::collection::vec(any::<u8>(), 0..90).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
    ];
    (0..3_usize, part).prop_map(move |(place, part)| {
        let mut parts = parts.clone();
        parts[place] = part;
        parts.join(".")
    })
}

#[test]
fn no_jwt_but_those_of_the_issuer_is_a_credential() {
    let issuer = Issuer::new();
    let good = issuer.jwt("7");
    holds_with(issuer.instance(""), &jwt(&good), async |instance, jwt| {
        prop_assume!(jwt != good);
        let issue = instance.post("/operator/api/events/sse-token").header("X-VX11-Token", &jwt);
        let answer = issue.send().await.expect("an answer");
        prop_assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let stream = instance.get(STREAM).bearer_auth(&jwt).send().await.expect("an answer");
        prop_assert_eq!(stream.status(), StatusCode::UNAUTHORIZED);
        let exchange = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", jwt.as_str()),
        ];
        let answer = instance.post("/oauth/token").form(&exchange).send().await.expect("an answer");
        prop_assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        Ok(())
    });
}

#[test]
fn no_form_and_no_basic_makes_the_token_endpoint_fail() {
    let form = r"(grant_type|scope|client_id|client_secret|resource|subject_token|x|%zz)=(client_credentials|read:[a-z/*$]{0,6}|operator|[ -~]{0,9}|%[0-9a-f]{2})&?";
    let body = prop_oneof![
        prop::collection::vec(form, 0..6).prop_map(|fields| fields.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..90),
    ];
    let basic = prop::option::of(prop_oneof!["[A-Za-z0-9+/=]{0,40}", "[ -~]{0,20}"]);
    holds(&(body, basic), async |instance, (body, basic)| {
        let mut request = instance.post("/oauth/token");
        if let Some(Ok(basic)) = basic.map(|basic| HeaderValue::from_str(&format!("Basic {basic}"))) {
            request = request.header("Authorization", basic);
        }
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.expect("an answer");
        prop_assert!([400, 401].contains(&answer.status().as_u16()), "{}", answer.status());
        let error: Value = answer.json().await.expect("JSON");
        prop_assert!(error["error"].is_string() && error["error_description"].is_string(), "{}", error);
        Ok(())
    });
}

#[test]
fn whatever_a_client_saw_last_it_gets_a_stream() {
    let id = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[0-9a-f]{7,9}-[0-9+]{0,21}-[0-9]{0,21}(-[0-9])?".prop_map(String::into_bytes),
    ];
    holds(&id, async |instance, id| {
        let query = percent_encoded(&id);
        let by_query = instance.get_as_principal(&format!("{STREAM}?last_event_id={query}"));
        let mut requests = vec![by_query];
        if let Ok(header) = HeaderValue::from_bytes(&id) {
            requests.push(instance.get_as_principal(STREAM).header("Last-Event-ID", header));
        }
        for request in requests {
            // Its greeting included.
            EventStream::connected(request.send().await.expect("an answer")).await;
        }
        Ok(())
    });
}

#[test]
fn topics_and_beginnings_of_a_stream_are_read_or_refused() {
    let value = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "\\$?[a-z/*%.]{0,20}|start|-[0-9]{0,5}".prop_map(String::into_bytes),
        ]
    };
    let name = || prop::sample::select(&["topic", "from"][..]);
    holds(&prop::collection::vec((name(), value()), 0..4), async |instance, parameters| {
        let parameters = parameters.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        let query: Vec<_> = parameters.collect();
        let request = instance.get_as_principal(&format!("{STREAM}?{}", query.join("&")));
        let answer = request.send().await.expect("an answer");
        if answer.status() == StatusCode::OK {
            EventStream::connected(answer).await;
        } else {
            prop_assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        }
        Ok(())
    });
}

#[test]
fn no_body_is_more_than_a_bad_request() {
    let text = r#"[\[\]{}",:a-z0-9\\ &=%+-]{0,60}|\{("(event|data|topics?|token|token_id|subject|expires_in)": ?["\[{a-z0-9/*]{0,9}[,}]? ?){0,3}\}?"#;
    let body = prop_oneof![prop::collection::vec(any::<u8>(), 0..100), text.prop_map(String::into_bytes)];
    let path =
        prop::sample::select(&["events", "events/sse-token", "tokens/revoke", "tokens/introspect"][..]);
    let content_type = prop::sample::select(&["application/json", "application/x-www-form-urlencoded"][..]);
    holds(&(path, content_type, body), async |instance, (path, content_type, body)| {
        let request = instance.post_as_principal(&format!("/operator/api/{path}"));
        let answer = request.header("Content-Type", content_type).body(body).send().await.expect("an answer");
        let expected = [200, 202, 400, 415];
        prop_assert!(expected.contains(&answer.status().as_u16()), "{}", answer.status());
        Ok(())
    });
}

/// Any JSON of moderate size.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\r\n: a-z\u{85}\u{2028}]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn what_is_published_arrives_as_it_was_however_it_was_laid_out() {
    let event = "[A-Za-z0-9._:/-]{1,64}";
    let reserved = ["reset", "reconnect", "open", "error"];
    let event = event.prop_filter("reserved", move |event| !reserved.contains(&event.as_str()));
    holds(&(event, any_json(), any::<bool>()), async |instance, (event, data, pretty)| {
        let mut stream = instance.open_stream(&instance.principal).await;
        let data = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) };
        let data = data.expect("JSON");
        let request =
            instance.post_as_principal("/operator/api/events").header("Content-Type", "application/json");
        let body = format!(r#"{{"event": "{event}", "data": {data}}}"#);
        let answer = request.body(body).send().await.expect("an answer");
        prop_assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let frame = stream.next().await.expect("the event");
        prop_assert_eq!(&frame.event, &event);
        prop_assert_eq!(frame.data, data);
        Ok(())
    });
}
