//! `publish` repeats what was not answered, under one key, and never claims more than it knows.

use crate::support::{Front, Instance, Terminal, planted};

/// Someone with a credential at a front that does not look at it.
fn at(front: &Front) -> Terminal {
    Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", &front.base)
}

/// The values of a header in a request.
fn keys(requests: &[String]) -> Vec<String> {
    let all = requests.concat();
    all.lines().filter_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned)).collect()
}

fn is_random_uuid(key: &str) -> bool {
    uuid::Uuid::parse_str(key).is_ok_and(|key| key.get_version_num() == 4)
}

fn problem(status: &str, code: &str) -> String {
    problem_with("", status, code)
}

fn problem_with(headers: &str, status: &str, code: &str) -> String {
    let body = format!(r#"{{"code": "{code}", "detail": "try later"}}"#);
    format!(
        "HTTP/1.1 {status}\r\n{headers}Retry-After: 1\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_sent_again_under_the_same_key_and_published_once() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    let front = Front::losing(instance.address(), 2).await;
    let terminal = Terminal::of(&instance).with("VX11_OPERATOR_URL", &front.base);
    let ended = terminal.run(&["publish", "1"]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(ended.output.lines().count(), 1, "{}", ended.output);
    let shown: Vec<_> = ended
        .errors
        .lines()
        .filter(|line| {
            line.contains(&format!("not published yet at {}: the connection was lost", front.base))
        })
        .collect();
    assert_eq!(shown.len(), 2, "{}", ended.errors);
    assert!(ended.errors.contains("an earlier attempt under this key had published it"), "{}", ended.errors);
    let keys = keys(&front.requests());
    assert_eq!(keys.len(), 3);
    assert!(is_random_uuid(&keys[0]) && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let first = stream.next().await.unwrap();
    assert_eq!(ended.output, format!("{}\n", first.id));
    // Another event, another key, even where it says the same.
    let other = terminal.run(&["publish", "1"]).await;
    let second = stream.next().await.unwrap();
    assert_eq!(other.output, format!("{}\n", second.id), "and nothing in between");
}

#[tokio::test]
async fn a_command_that_is_repeated_with_its_key_tells_the_id_and_with_another_event_is_refused() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    let publish = async |data| terminal.run(&["publish", "--key", "order-17", data]).await;
    let (first, again, other) = (publish("1").await, publish("1").await, publish("2").await);
    assert_eq!((first.code, first.errors.as_str()), (0, ""));
    assert_eq!((again.code, &again.output), (0, &first.output));
    assert!(again.errors.contains("an earlier attempt"), "{}", again.errors);
    assert_eq!((other.code, other.output.as_str()), (1, ""));
    let words = format!("not published at {}: 422 idempotency_key_reused: ", instance.base);
    assert!(other.errors.contains(&words), "{}", other.errors);
    assert_eq!(instance.metric("vx11_operator_events_published_total").await, 1);
}

#[tokio::test]
async fn what_may_have_been_published_when_patience_ends_is_called_so_and_its_key_given() {
    let instance = Instance::start().await;
    let front = Front::losing(instance.address(), usize::MAX).await;
    let terminal = Terminal::of(&instance).with("VX11_OPERATOR_URL", &front.base);
    let others = Front::losing(instance.address(), usize::MAX).await;
    let mut patient = Terminal::of(&instance).with("VX11_OPERATOR_URL", &others.base).start(&[
        "publish",
        "--patience",
        "600",
        "2",
    ]);
    patient.says("not published yet").await;
    // An attempt that patience cuts short ends as unknown, too, whether or not its connection was
    // lost.
    let ended = terminal.run(&["publish", "--patience", "2", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (3, ""));
    let last = ended.errors.lines().last().unwrap();
    let words = format!("vx11-operator: not known whether it was published at {}: ", front.base);
    assert!(last.starts_with(&words), "{last}");
    let key = last.split("--key ").nth(1).and_then(|rest| rest.split(' ').next()).expect("its key");
    assert!(is_random_uuid(key), "{last}");
    assert!(keys(&front.requests()).iter().all(|sent| sent == key), "{last}");
    assert!(patient.runs(), "whoever has more patience, and began before, still tries");
}

/// The end of a patience on 503 and 429 is tested in `crates/cli`, where time can be stopped.
/// Here the second answer is final.
#[tokio::test]
async fn an_event_is_reported_as_not_published_if_every_attempt_was_refused() {
    let refused = problem("400 Bad Request", "bad_request");
    for first in [
        problem("503 Service Unavailable", "log_unavailable"),
        problem("429 Too Many Requests", "rate_limited"),
    ] {
        let front = Front::answering(&[&first, &refused]).await;
        let ended = at(&front).run(&["publish", "--patience", "60", "1"]).await;
        assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{}", ended.errors);
        let last = ended.errors.lines().last().unwrap();
        assert!(last.starts_with(&format!("vx11-operator: not published at {}: ", front.base)), "{last}");
        assert!(!ended.errors.contains("not known"), "{}", ended.errors);
        assert_eq!(front.requests().len(), 2, "{}", ended.errors);
    }
}

#[tokio::test]
async fn an_attempt_whose_outcome_nobody_knows_is_named_when_the_last_one_was_refused() {
    let unknown = problem("503 Service Unavailable", "outcome_unknown");
    for (then, refused) in [
        (problem("400 Bad Request", "bad_request"), "400 bad_request: try later"),
        (problem("401 Unauthorized", "credential_wrong"), "401 credential_wrong: try later"),
    ] {
        let front = Front::answering(&[&unknown, &then]).await;
        let ended = at(&front).run(&["publish", "--patience", "60", "--key", "order-17", "1"]).await;
        assert_eq!((ended.code, ended.output.as_str()), (3, ""), "{}", ended.errors);
        let expected = format!(
            "vx11-operator: not known whether it was published at {}: an earlier attempt (503 outcome_unknown: try \
             later) may have published it, the last one ({refused}) did not; the same command with --key order-17 \
             publishes it now, or tells its id",
            front.base
        );
        assert_eq!(ended.errors.lines().last(), Some(expected.as_str()));
    }
}

#[tokio::test]
async fn a_refusal_after_an_instance_that_did_not_answer_does_not_say_that_nothing_was_published() {
    let second =
        problem_with("X-VX11-Asked-Before: true\r\n", "422 Unprocessable Entity", "idempotency_key_reused");
    let front = Front::answering(&[&second]).await;
    let ended = at(&front).run(&["publish", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (3, ""), "{}", ended.errors);
    assert!(
        ended.errors.contains(
            "422 idempotency_key_reused: try later (from the second instance that was asked; what the first did is \
             not known)"
        ),
        "{}",
        ended.errors
    );
}

#[tokio::test]
async fn an_event_that_could_not_be_sent_is_reported_as_not_published() {
    let port = vx11_kit::Port::reserve();
    let url = format!("http://127.0.0.1:{}", port.number());
    let terminal = Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", &url);
    let ended = terminal.run_without_silence(&["publish", "--patience", "1", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (1, ""));
    let last = ended.errors.lines().last().unwrap();
    let words = format!("vx11-operator: not published at {url}: cannot connect: Connection refused");
    assert!(last.starts_with(&words), "{last}");
}

#[tokio::test]
async fn a_server_that_starts_in_time_is_waited_for() {
    let port = vx11_kit::Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = planted();
    let terminal = Terminal::bare()
        .with("VX11_PRINCIPAL_TOKEN", &principal)
        .with("VX11_OPERATOR_URL", &format!("http://{address}"));
    let mut publish = terminal.start(&["publish", "1"]);
    publish.says(&format!("not published yet at http://{address}: cannot connect")).await;
    let _instance = Instance::in_place_of(&address, &principal).await;
    let ended = publish.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
}

#[tokio::test]
async fn a_server_that_cannot_at_present_is_asked_again_no_sooner_than_it_says() {
    let accepted = "HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\n\r\n{\"id\":\"e-1\"}";
    let (unavailable, unknown) = (
        problem("503 Service Unavailable", "log_unavailable"),
        problem("504 Gateway Timeout", "outcome_unknown"),
    );
    let front = Front::answering(&[&unavailable, &unknown, accepted]).await;
    let ended = at(&front).run(&["publish", "1"]).await;
    assert_eq!((ended.code, ended.output.as_str()), (0, "e-1\n"), "{}", ended.errors);
    // It prints the wait; `crates/cli` tests that the wait is at least as long as requested.
    for words in ["503 log_unavailable: try later; again in 1", "504 outcome_unknown: try later; again in 1"]
    {
        assert!(ended.errors.contains(words), "{}", ended.errors);
    }
    let keys = keys(&front.requests());
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}
