//! The token endpoint, as an OAuth client sees it.

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::{Instance, Issuer, issuer_now, planted, problem, publish_to, with_principals};

const TOKEN: &str = "/oauth/token";
const INTROSPECT: &str = "/operator/api/tokens/introspect";
const REVOKE: &str = "/operator/api/tokens/revoke";
const CLIENT_CREDENTIALS: (&str, &str) = ("grant_type", "client_credentials");
const EXCHANGE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: (&str, &str) = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");

async fn issued(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    let token = body["access_token"].as_str().unwrap();
    remember_secret(token);
    remember_secret(token.split('.').next().unwrap());
    body
}

/// Asserts an error of OAuth, and returns its description.
async fn refused(request: RequestBuilder, error: &str) -> String {
    let response = request.send().await.unwrap();
    let is_client = error == "invalid_client";
    let expected = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    assert_eq!(response.status(), expected, "{error}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let challenge =
        response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.as_deref(), is_client.then_some("Basic realm=\"vx11-operator\""));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"], error, "{body}");
    assert_eq!(body.as_object().unwrap().len(), 2);
    body["error_description"].as_str().unwrap().to_owned()
}

fn ask(instance: &Instance, form: &[(&str, &str)]) -> RequestBuilder {
    instance.post(TOKEN).form(form)
}

#[tokio::test]
async fn a_principal_is_a_client_by_basic_by_form_and_by_header() {
    let (instance, credentials) =
        with_principals(&[("shop", &["issue"], &["orders/*", "default"])], "").await;
    let secret = credentials[0].as_str();
    let form = [CLIENT_CREDENTIALS, ("scope", "read:orders/7 read:orders/8/*")];
    let by_form = [form[0], form[1], ("client_id", "shop"), ("client_secret", secret)];
    for request in [
        ask(&instance, &form).basic_auth("shop", Some(secret)),
        ask(&instance, &[form[0], form[1], ("client_id", "shop")]).basic_auth("shop", Some(secret)),
        ask(&instance, &by_form),
        ask(&instance, &form).header("X-VX11-Token", secret),
        ask(&instance, &form).bearer_auth(secret),
    ] {
        let body = issued(request.send().await.unwrap()).await;
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(60)));
        assert_eq!(body["scope"], "read:orders/7 read:orders/8/*");
        assert_eq!(body.get("issued_token_type"), None);
        let introspected = instance.introspect(body["access_token"].as_str().unwrap()).await;
        assert_eq!((&introspected["active"], &introspected["client_id"]), (&json!(true), &json!("shop")));
    }
    let plain = ask(&instance, &[CLIENT_CREDENTIALS]).basic_auth("shop", Some(secret)).send().await.unwrap();
    let plain = issued(plain).await;
    assert_eq!(
        (plain["access_token"].as_str().unwrap().len(), &plain["scope"]),
        (36, &json!("read:default"))
    );
}

#[tokio::test]
async fn a_client_that_is_not_authenticated_is_invalid() {
    let (instance, credentials) =
        with_principals(&[("shop", &["issue"], &["*"]), ("other", &["issue"], &["*"])], "").await;
    let (secret, wrong) = (credentials[0].as_str(), planted());
    let form = [CLIENT_CREDENTIALS];
    let by_form = |id: &'static str, secret: &str| {
        ask(&instance, &[CLIENT_CREDENTIALS, ("client_id", id), ("client_secret", secret)])
    };
    for request in [
        ask(&instance, &form),
        ask(&instance, &[CLIENT_CREDENTIALS, ("client_id", "shop")]),
        ask(&instance, &form).basic_auth("shop", Some(&wrong)),
        ask(&instance, &form).basic_auth("other", Some(secret)),
        ask(&instance, &form).basic_auth("shop", None::<&str>),
        ask(&instance, &form).header("Authorization", "Basic !"),
        ask(&instance, &form).bearer_auth(&wrong),
        by_form("shop", &wrong),
        by_form("other", secret),
        ask(&instance, &[CLIENT_CREDENTIALS, ("client_secret", secret)]),
    ] {
        refused(request, "invalid_client").await;
    }
    for request in [
        by_form("shop", secret).basic_auth("shop", Some(secret)),
        ask(&instance, &form).basic_auth("shop", Some(secret)).header("X-VX11-Token", secret),
        ask(&instance, &[CLIENT_CREDENTIALS, ("client_id", "other")]).basic_auth("shop", Some(secret)),
    ] {
        refused(request, "invalid_request").await;
    }
}

#[tokio::test]
async fn errors_have_the_names_of_oauth() {
    let principals: [(&str, &[&str], &[&str]); 2] =
        [("shop", &["issue"], &["orders/*"]), ("reader", &["subscribe"], &["*"])];
    let (instance, credentials) = with_principals(&principals, "").await;
    let as_shop = |form: &[(&str, &str)]| ask(&instance, form).basic_auth("shop", Some(&credentials[0]));
    let scope = |scope: &'static str| as_shop(&[CLIENT_CREDENTIALS, ("scope", scope)]);
    for wrong in ["openid", "read:", "read:a/ read:b", "write:orders/7"] {
        refused(scope(wrong), "invalid_scope").await;
    }
    let beyond = refused(scope("read:orders/7 read:users/7"), "invalid_scope").await;
    assert_eq!(beyond, "the topics of this principal do not include users/7");
    refused(as_shop(&[CLIENT_CREDENTIALS]), "invalid_scope").await;
    refused(as_shop(&[("grant_type", "password")]), "unsupported_grant_type").await;
    for form in [
        &[][..],
        &[("scope", "read:orders/7")],
        &[("grant_type", "")],
        &[CLIENT_CREDENTIALS, CLIENT_CREDENTIALS],
        &[CLIENT_CREDENTIALS, ("scope", "read:orders/7"), ("scope", "read:orders/7")],
    ] {
        refused(as_shop(form), "invalid_request").await;
    }
    refused(as_shop(&[CLIENT_CREDENTIALS, ("resource", "https://other.example/")]), "invalid_target").await;
    let reader = ask(&instance, &[CLIENT_CREDENTIALS]).basic_auth("reader", Some(&credentials[1]));
    refused(reader, "unauthorized_client").await;
    let json = instance.post(TOKEN).json(&json!({ "grant_type": "client_credentials" }));
    refused(json.basic_auth("shop", Some(&credentials[0])), "invalid_request").await;
    let in_url = instance.post(&format!("{TOKEN}?grant_type=client_credentials"));
    refused(in_url.basic_auth("shop", Some(&credentials[0])), "invalid_request").await;
    let large = "x".repeat(70_000);
    let large = as_shop(&[CLIENT_CREDENTIALS, ("x", large.as_str())]).send().await.unwrap();
    problem(large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    let get = instance.get(TOKEN).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_jwt_is_exchanged_for_a_token_of_its_user() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let jwt = issuer.jwt("7");
    let form = [EXCHANGE, ("subject_token", jwt.as_str()), JWT];
    let requests = [
        ask(&instance, &form),
        ask(
            &instance,
            &[form[0], form[1], ("subject_token_type", ACCESS_TOKEN), ("requested_token_type", ACCESS_TOKEN)],
        ),
        ask(&instance, &[form[0], form[1], form[2], ("client_id", "a-page"), ("unknown", "x")]),
        ask(&instance, &form).basic_auth("operator", Some(&instance.principal)),
    ];
    for request in requests {
        let body = issued(request.send().await.unwrap()).await;
        assert_eq!(
            (&body["issued_token_type"], &body["token_type"]),
            (&json!(ACCESS_TOKEN), &json!("Bearer"))
        );
        assert_eq!(body["scope"], "read:news read:users/7/*");
        let introspected = instance.introspect(body["access_token"].as_str().unwrap()).await;
        assert_eq!((&introspected["sub"], &introspected["client_id"]), (&json!("7"), &json!("shop-users")));
    }
    let narrowed = [form[0], form[1], form[2], ("scope", "read:users/7/chat")];
    let body = issued(ask(&instance, &narrowed).send().await.unwrap()).await;
    assert_eq!(body["scope"], "read:users/7/chat");
    let mut stream = instance.open_stream(body["access_token"].as_str().unwrap()).await;
    publish_to(&instance, "users/7/other", "not asked for").await;
    publish_to(&instance, "users/7/chat", "hello").await;
    assert_eq!(stream.next_published().await.json(), "hello");
}

#[tokio::test]
async fn a_jwt_that_cannot_be_exchanged_is_an_invalid_request() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let (jwt, stranger) = (issuer.jwt("7"), Issuer::new().jwt("7"));
    let expired = issuer.jwt_with(&json!({ "sub": "7", "exp": issuer_now().as_secs() - 1 }));
    for (token, description) in [
        (expired.as_str(), "the JWT has expired"),
        (stranger.as_str(), "the signature of the JWT is wrong"),
        ("x", "subject_token is no JWT of an issuer that is configured"),
        (instance.principal.as_str(), "subject_token is no JWT of an issuer that is configured"),
    ] {
        let request = ask(&instance, &[EXCHANGE, ("subject_token", token), JWT]);
        assert_eq!(refused(request, "invalid_request").await, description);
    }
    let subject = ("subject_token", jwt.as_str());
    for form in [
        &[EXCHANGE, JWT][..],
        &[EXCHANGE, subject],
        &[EXCHANGE, subject, ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")],
        &[EXCHANGE, subject, JWT, ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
        &[EXCHANGE, subject, JWT, ("actor_token", jwt.as_str())],
        &[EXCHANGE, subject, JWT, ("subject_token", jwt.as_str())],
    ] {
        refused(ask(&instance, form), "invalid_request").await;
    }
    let beyond = ask(&instance, &[EXCHANGE, subject, JWT, ("scope", "read:users/8/*")]);
    refused(beyond, "invalid_scope").await;
    let wrong = ask(&instance, &[EXCHANGE, subject, JWT]).basic_auth("operator", Some(planted()));
    refused(wrong, "invalid_client").await;
    let block = instance.post_as_principal("/operator/api/subjects/block");
    let block = block.json(&json!({ "subject": "7", "seconds": 60 })).send().await.unwrap();
    assert_eq!(block.status(), StatusCode::OK);
    let blocked = refused(ask(&instance, &[EXCHANGE, subject, JWT]), "invalid_request").await;
    assert_eq!(blocked, "the subject is blocked");
}

#[tokio::test]
async fn a_client_introspects_and_revokes_by_basic() {
    let public_url = [("VX11_OPERATOR__HTTP__PUBLIC_URL", "https://Events.example/")];
    let instance = Instance::with(&public_url).await;
    let client = |path: &str| instance.post(path).basic_auth("operator", Some(&instance.principal));
    let scope = [
        CLIENT_CREDENTIALS,
        ("scope", "read:news"),
        ("resource", "https://events.example/operator/api/events/stream"),
    ];
    let body = issued(client(TOKEN).form(&scope).send().await.unwrap()).await;
    let form = [("token", body["access_token"].as_str().unwrap()), ("token_type_hint", "access_token")];
    let introspected: Value = client(INTROSPECT).form(&form).send().await.unwrap().json().await.unwrap();
    for (name, value) in [
        ("active", json!(true)),
        ("iss", json!("https://events.example")),
        ("client_id", json!("operator")),
        ("sub", json!("operator")),
        ("scope", json!("news")),
        ("token_type", json!("sse")),
    ] {
        assert_eq!(introspected[name], value, "{introspected}");
    }
    let revoked = client(REVOKE).form(&form).send().await.unwrap();
    assert_eq!(revoked.status(), StatusCode::OK);
    let after: Value = client(INTROSPECT).form(&form).send().await.unwrap().json().await.unwrap();
    assert_eq!(after, json!({ "active": false }));
}

#[tokio::test]
async fn basic_counts_for_clients_only_and_alone() {
    let instance = Instance::start().await;
    let form = [("token", "x")];
    let wrong = instance.post(INTROSPECT).basic_auth("operator", Some(planted())).form(&form);
    let wrong = wrong.send().await.unwrap();
    assert_eq!(wrong.headers()["www-authenticate"], "Basic realm=\"vx11-operator\"");
    problem(wrong, StatusCode::UNAUTHORIZED, "credential_wrong").await;
    // The Basic of a proxy in front does not disturb.
    let both = instance.post_as_principal(REVOKE).basic_auth("somebody", Some(planted())).form(&form);
    assert_eq!(both.send().await.unwrap().status(), StatusCode::OK);
    let issue =
        instance.post("/operator/api/events/sse-token").basic_auth("operator", Some(&instance.principal));
    problem(issue.send().await.unwrap(), StatusCode::UNAUTHORIZED, "credential_missing").await;
}

#[tokio::test]
async fn the_service_describes_itself_under_its_address() {
    let url = "https://events.example";
    let instance = Instance::with(&[("VX11_OPERATOR__HTTP__PUBLIC_URL", url)]).await;
    let document = async |name: &str| -> Value {
        let answer = instance.get(&format!("/.well-known/{name}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/json");
        answer.json().await.unwrap()
    };
    let server = document("oauth-authorization-server").await;
    assert_eq!((&server["issuer"], &server["response_types_supported"]), (&json!(url), &json!([])));
    assert_eq!(server["grant_types_supported"], json!(["client_credentials", EXCHANGE.1]));
    for (name, path) in [("token", TOKEN), ("introspection", INTROSPECT), ("revocation", REVOKE)] {
        assert_eq!(server[format!("{name}_endpoint")], format!("{url}{path}"));
        assert!(server[format!("{name}_endpoint_auth_methods_supported")][0] == "client_secret_basic");
    }
    let resource = document("oauth-protected-resource").await;
    assert_eq!((&resource["resource"], &resource["authorization_servers"]), (&json!(url), &json!([url])));
    let refused = instance.get("/operator/api/events/stream").send().await.unwrap();
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    let expected = format!(
        "Bearer realm=\"vx11-operator\", resource_metadata=\"{url}/.well-known/oauth-protected-resource\""
    );
    assert_eq!(challenge, expected);
}

#[tokio::test]
async fn without_an_address_there_is_nothing_to_describe() {
    let instance = Instance::start().await;
    for name in ["oauth-authorization-server", "oauth-protected-resource"] {
        let answer = instance.get(&format!("/.well-known/{name}")).send().await.unwrap();
        problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    }
    let refused = instance.get("/operator/api/events/stream").send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"vx11-operator\"");
}
