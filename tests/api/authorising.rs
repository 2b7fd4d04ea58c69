//! Answers to a reverse proxy about a credential that a client has shown to it.

use reqwest::{Response, StatusCode};

use crate::support::{Instance, problem};

const AUTHORISE: &str = "/operator/internal/authorise";

/// The names an answer of 204 carries: the principal's, and the token's if there is one.
fn names(response: &Response) -> (Option<&str>, Option<&str>) {
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let name = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
    (name("x-vx11-principal"), name("x-vx11-token-id"))
}

#[tokio::test]
async fn a_token_is_accepted_in_each_place_and_answered_with_its_principal_and_its_id() {
    let instance = Instance::start().await;
    let issued = instance.issue().await;
    for request in [
        instance.get(AUTHORISE).query(&[("token", &issued.token)]),
        instance.get(AUTHORISE).header("X-VX11-Token", &issued.token),
        instance.get(AUTHORISE).bearer_auth(&issued.token),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(names(&answer), (Some("operator"), Some(issued.id.as_str())));
        assert_eq!(answer.text().await.unwrap(), "");
    }
    assert_eq!(
        instance.metric("vx11_operator_sse_connections_ephemeral_total").await,
        0,
        "no stream was opened"
    );
}

#[tokio::test]
async fn a_principal_is_accepted_and_answered_with_its_name_alone() {
    let instance = Instance::start().await;
    for request in [
        instance.get_as_principal(AUTHORISE),
        instance.get(AUTHORISE).bearer_auth(&instance.principal),
        instance.get(AUTHORISE).query(&[("token", &instance.principal)]),
    ] {
        assert_eq!(names(&request.send().await.unwrap()), (Some("operator"), None));
    }
}

#[tokio::test]
async fn what_opens_no_stream_is_refused_here_alike_and_counted() {
    let instance = Instance::start().await;
    let forged = Instance::start().await.issue().await.token;
    let revoked = instance.issue().await;
    let form = [("token", &revoked.token)];
    let revocation =
        instance.post_as_principal("/operator/api/tokens/revoke").form(&form).send().await.unwrap();
    assert_eq!(revocation.status(), StatusCode::OK);
    for token in [&forged, &revoked.token] {
        let answer = instance.get(AUTHORISE).query(&[("token", token)]).send().await.unwrap();
        problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
    }
    for reason in ["forged", "revoked"] {
        let name = format!("vx11_operator_ephemeral_tokens_invalid_total{{reason=\"{reason}\"}}");
        assert_eq!(instance.metric(&name).await, 1, "{reason}");
    }
    let conflict = instance.get_as_principal(AUTHORISE).query(&[("token", &forged)]).send().await.unwrap();
    problem(conflict, StatusCode::FORBIDDEN, "token_refused").await;
}
