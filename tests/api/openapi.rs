//! `/openapi.json` describes the service as it is: what each operation takes, and everything it
//! answers. Two programs that are not ours judge that, one the document itself, one the answers of
//! a real instance to requests made from it.

use std::fs;
use std::time::Duration;

use regex_lite::Regex;
use serde_json::{Value, json};
use tokio::process::Command;
use vx11_operator::events::Earlier;

use crate::support::{Instance, python_environment, run_to_end};

const REQUIREMENTS: &str = include_str!("openapi/requirements.txt");
const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/openapi/schemathesis.toml");
const STREAM: &str = "/operator/api/events/stream";
const AUTHORISE: &str = "/operator/internal/authorise";
const ISSUE: &str = "/operator/api/events/sse-token";
const COOKIE: &str = "/operator/api/events/cookie";
const PUBLISH: &str = "/operator/api/events";
const REVOKE: &str = "/operator/api/tokens/revoke";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const TOKEN: &str = "/oauth/token";
/// Orders about streams and subjects.
const ORDERS: [&str; 4] = [
    "/operator/api/streams/end",
    "/operator/api/subjects/revoke",
    "/operator/api/subjects/block",
    "/operator/api/subjects/unblock",
];
/// Seed of the generated requests: each run makes the same ones.
const SEED: &str = "20260101";
/// Requests for each operation in the phase that invents them.
const EXAMPLES: &str = "20";
/// The line of a run that tested every operation but the stream, and the fewest requests that it
/// makes.
const OPERATIONS: &str = "Tested: 26";
const REQUESTS: u32 = 200;
/// For one run on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

async fn document(instance: &Instance) -> Value {
    instance.get("/openapi.json").send().await.unwrap().json().await.unwrap()
}

/// Each operation with its path and method.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[tokio::test]
async fn each_operation_documents_every_problem_it_can_answer() {
    let instance = Instance::start().await;
    let document = document(&instance).await;
    for (path, method, operation) in operations(&document) {
        let mut expected = match path {
            // Not passed on by nginx, which answers 429 and 503 itself.
            AUTHORISE => vec![401, 403, 429, 503],
            "/metrics" | "/health" | "/health/live" => vec![],
            "/health/ready" => vec![503],
            STREAM => vec![400, 401, 403, 429, 503, 505],
            TOKEN => vec![400, 401, 408, 413, 429, 503],
            _ if path.starts_with("/.well-known/") => vec![404, 429, 503],
            _ if operation.get("security").is_some() => vec![400, 401, 403, 429, 503],
            _ => vec![429, 503],
        };
        if [ISSUE, COOKIE, PUBLISH, REVOKE, INTROSPECT].contains(&path) || ORDERS.contains(&path) {
            expected.extend([408, 413, 415]);
        }
        if path == PUBLISH {
            expected.extend([422, 502, 504]);
        }
        if path.ends_with("{file}") {
            expected.push(404);
        }
        expected.sort_unstable();
        let answers = operation["responses"].as_object().unwrap();
        let problems: Vec<u16> =
            answers.keys().map(|status| status.parse().unwrap()).filter(|status| *status >= 400).collect();
        assert_eq!(problems, expected, "{method} {path}");
        for status in problems {
            let content = &answers[&status.to_string()]["content"];
            if path == TOKEN && [400, 401].contains(&status) {
                let schema = &content["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ErrorBody", "an error of OAuth");
                continue;
            }
            let schema = &content["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/ProblemBody", "{method} {path} {status}");
        }
    }
}

#[tokio::test]
async fn the_pattern_of_a_beginning_takes_what_the_service_takes() {
    let instance = Instance::start().await;
    let document = document(&instance).await;
    let parameters = document["paths"][STREAM]["get"]["parameters"].as_array().unwrap();
    let from = parameters.iter().find(|parameter| parameter["name"] == "from").unwrap();
    let pattern = Regex::new(from["schema"]["pattern"].as_str().unwrap()).unwrap();
    let numbers = (0..=1100).flat_map(|n| [format!("-{n}"), format!("-0{n}"), n.to_string()]);
    let others = ["", "-", "start", "Start", "start ", " start", "-1 ", "--1", "-1.5", "-10000", "-1001"];
    for text in numbers.chain(others.map(str::to_owned)) {
        assert_eq!(pattern.is_match(&text), Earlier::parse(&text).is_some(), "{text:?}");
    }
}

#[tokio::test]
async fn the_schemas_take_what_the_service_takes() {
    let instance = Instance::start().await;
    let document = document(&instance).await;
    let schemas = &document["components"]["schemas"];
    let publish = &schemas["PublishBody"];
    assert_eq!(publish["properties"]["data"].get("type"), None, "any JSON");
    assert_eq!(publish["required"], json!(["data"]));
    assert_eq!(publish["additionalProperties"], json!(false));
    let event = &publish["properties"]["event"];
    assert_eq!(event["pattern"], "^[A-Za-z0-9._:/-]{1,64}$");
    assert!(event["not"]["enum"].as_array().unwrap().contains(&json!("recovered")), "{event}");
    assert_eq!(publish["not"], json!({ "required": ["topic", "topics"] }));
    for (field, limit) in [("topic", "maxLength"), ("topics", "maxItems")] {
        assert!(publish["properties"][field][limit].is_u64(), "{field}");
    }
    let issue = &schemas["IssueBody"];
    assert_eq!((issue.get("required"), &issue["additionalProperties"]), (None, &json!(false)));
    let names: Vec<_> = issue["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(issue["properties"]["expires_in"]["maximum"], json!(900));
    let of_issuing = &document["paths"][ISSUE]["post"]["requestBody"];
    assert_ne!(of_issuing["required"], json!(true), "a token needs no body");
    let end = &schemas["EndBody"];
    assert_eq!((&end["minProperties"], &end["maxProperties"]), (&json!(1), &json!(1)));
    for (schema, required) in
        [("SubjectBody", json!(["subject"])), ("BlockBody", json!(["subject", "seconds"]))]
    {
        assert_eq!(schemas[schema]["required"], required, "{schema}");
        assert_eq!(schemas[schema]["additionalProperties"], json!(false), "{schema}");
    }
    assert_eq!(schemas["BlockBody"]["properties"]["seconds"]["maximum"], json!(86_400));
    let one = json!([{ "required": ["token"] }, { "required": ["token_id"] }]);
    assert_eq!(schemas["TokenForm"]["oneOf"], one);
    let in_json = &schemas["TokenParameter"]["oneOf"];
    assert_eq!((&in_json[0]["required"], &in_json[1]["required"]), (&json!(["token"]), &json!(["token_id"])));
    assert_eq!(schemas["IntrospectParameter"]["required"], json!(["token"]));
    for (schema, field) in [
        ("IssuedBody", "expires_at"),
        ("HealthBody", "timestamp"),
        ("InstanceBody", "degraded_since"),
        ("IssueBody", "stream_until"),
        ("StreamBody", "opened_at"),
        ("BlockedBody", "until"),
    ] {
        assert_eq!(schemas[schema]["properties"][field]["format"], "date-time", "{schema}.{field}");
    }
    let header = &document["paths"][PUBLISH]["post"]["parameters"][0];
    assert_eq!(header["name"], "Idempotency-Key");
    assert_eq!((&header["schema"]["minLength"], &header["schema"]["maxLength"]), (&json!(1), &json!(128)));
    assert_eq!(header["schema"]["pattern"], "^[!-~]{1,128}$");
    assert_eq!(document["servers"][0]["url"], "/");
}

#[tokio::test]
async fn the_main_operations_have_examples_and_the_service_takes_them() {
    let instance = Instance::start().await;
    let document = document(&instance).await;
    let resolved = |schema: &Value| -> Value {
        let reference = schema["$ref"].as_str().unwrap().trim_start_matches('#');
        document.pointer(reference).unwrap().clone()
    };
    let of = |path: &str| {
        let content = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        resolved(&content["schema"])
    };
    for path in [PUBLISH, REVOKE, INTROSPECT].into_iter().chain(ORDERS) {
        let schema = of(path);
        let body = schema.get("example").or(schema["examples"].get(0)).expect("an example");
        let answer = instance.post_as_principal(path).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path} {body}: {}", answer.status());
    }
    let issue = &document["components"]["schemas"]["IssueBody"]["examples"][0];
    let issued = instance.post_as_principal(ISSUE).json(issue).send().await.unwrap();
    assert_eq!(issued.status(), reqwest::StatusCode::OK, "{issue}");
    let issued: Value = issued.json().await.unwrap();
    vx11_kit::remember_secret(issued["sse_token"].as_str().unwrap());
    assert_eq!((&issued["subject"], &issued["topics"]), (&issue["subject"], &issue["topics"]));
    for (schema, field) in [
        ("IssuedBody", "sse_token"),
        ("IssuedBody", "token_id"),
        ("PublishedBody", "id"),
        ("IntrospectionBody", "sub"),
    ] {
        let property = &document["components"]["schemas"][schema]["properties"][field];
        assert!(property["example"].is_string(), "{schema}.{field}");
    }
    let stream = &document["paths"][STREAM]["get"]["responses"]["200"]["content"]["text/event-stream"];
    assert!(stream["example"].as_str().unwrap().contains("connected"));
}

#[tokio::test]
async fn requests_made_from_the_document_find_no_difference_to_the_service() {
    let tools = python_environment("openapi", REQUIREMENTS).await;
    let instance = Instance::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    fs::write(&file, document(&instance).await.to_string()).unwrap();
    run(Command::new(tools.join("openapi-spec-validator")).arg(&file)).await;

    let address = format!("{}/openapi.json", instance.base);
    let credential = format!("X-VX11-Token: {}", instance.principal);
    for credentials in [["--header", &credential].as_slice(), &[]] {
        let mut command = Command::new(tools.join("schemathesis"));
        command.current_dir(folder.path()).arg("--config-file").arg(CONFIGURATION);
        command.args(["run", &address]).args(credentials);
        // No credentials are invented: two that disagree are refused with 400, whatever else is
        // right.
        command.args(["--generation-with-security-parameters", "false"]);
        command.args(["--exclude-path", STREAM, "--phases", "examples,coverage,fuzzing"]);
        command.args(["--seed", SEED, "--max-examples", EXAMPLES, "--generation-database", "none"]);
        let report = run(command.arg("--continue-on-failure")).await;
        let requests = report.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok());
        assert!(
            report.contains(OPERATIONS) && requests.is_some_and(|count: u32| count >= REQUESTS),
            "{report}"
        );
    }
}

/// Runs a program to its end; returns what it printed, or fails with it.
async fn run(command: &mut Command) -> String {
    run_to_end(command, PATIENCE).await
}
