//! Tokens that the holder of a principal's credential can sign without an instance. Without
//! configured signing keys each holder can derive a key from its credential, as
//! `docs/token-format.md` says.

use hkdf::Hkdf;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use vx11_kit::remember_secret;
use vx11_operator::clock::{Clock, SystemClock};
use vx11_operator::principal::{Principal, PrincipalId, Principals, Rights};
use vx11_operator::token::{Claims, Codec, Nonce, SigningKeys};
use vx11_operator::topic::Patterns;

use crate::support::{Instance, file, planted, problem};

const STREAM: &str = "/operator/api/events/stream";
const AUTHORISE: &str = "/operator/internal/authorise";
/// A life that an instance could give a token, and long enough for any test.
const LONG: u64 = 600;

/// Somebody who has a credential and signs tokens with the key that is derived from it.
struct Holder(Codec);

impl Holder {
    fn of(credential: &str) -> Self {
        let mut key = [0; 32];
        let extracted = Hkdf::<Sha256>::new(None, credential.as_bytes());
        extracted.expand(b"vx11-operator signing-key v1", &mut key).unwrap();
        Self(Codec::new(SigningKeys::from_hex([hex::encode(key).as_str()]).unwrap()))
    }

    /// A token that names `principal` and ends `life` seconds from now. It has the offline bit, so
    /// no record has to exist.
    fn sign(&self, principal: &str, life: u64) -> String {
        let expires_at = SystemClock.now().seconds() + life;
        let claims = Claims { expires_at, offline: true, nonce: Nonce::from_bits(7) };
        let token = self.0.mint(&id(principal), claims, None).reveal();
        remember_secret(&token);
        token
    }

    /// Whether the token is signed with this holder's key.
    fn has_signed(&self, principal: &str, token: &str) -> bool {
        let owner = Principal::new(id(principal), Rights::all(), Patterns::all());
        self.0.verify(token, SystemClock.now(), &Principals::new([(owner, "secret")])).is_ok()
    }
}

fn id(principal: &str) -> PrincipalId {
    PrincipalId::parse(principal).unwrap()
}

/// An instance with the principals `operator`, `dashboard` and `billing`, without signing keys; and
/// their credentials.
async fn with_three_principals() -> (Instance, [(&'static str, String); 3]) {
    let [dashboard, billing] = [planted(), planted()];
    let (_folder, config) = file(&format!(
        "[[principals]]\nid = 'dashboard'\ntoken = '{dashboard}'\n[[principals]]\nid = 'billing'\ntoken = '{billing}'\n"
    ));
    let instance = Instance::start_with_arguments(&["--config", &config]).await;
    let operator = instance.principal.clone();
    (instance, [("operator", operator), ("dashboard", dashboard), ("billing", billing)])
}

async fn is_refused(instance: &Instance, token: &str) {
    assert_eq!(instance.introspect(token).await, json!({ "active": false }));
    for path in [STREAM, AUTHORISE] {
        let answer = instance.get(path).query(&[("token", token)]).send().await.unwrap();
        problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
    }
}

async fn is_accepted_as(instance: &Instance, principal: &str, token: &str) {
    assert_eq!(instance.introspect(token).await["sub"], principal);
    let answer = instance.get(AUTHORISE).query(&[("token", token)]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["x-vx11-principal"], principal);
    instance.open_stream(token).await;
}

#[tokio::test]
async fn the_key_of_one_principal_signs_for_no_other() {
    let (instance, principals) = with_three_principals().await;
    for (owner, credential) in &principals {
        let holder = Holder::of(credential);
        for (named, _) in &principals {
            let token = holder.sign(named, LONG);
            if named == owner {
                is_accepted_as(&instance, owner, &token).await;
            } else {
                is_refused(&instance, &token).await;
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_signed_with_the_key_of_the_principal_that_it_is_issued_to() {
    let (instance, principals) = with_three_principals().await;
    for (owner, credential) in &principals {
        let issued = instance.post("/operator/api/events/sse-token").bearer_auth(credential).send().await;
        let issued: Value = issued.unwrap().json().await.unwrap();
        let token = issued["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert!(Holder::of(credential).has_signed(owner, token), "{owner}");
        is_accepted_as(&instance, owner, token).await;
    }
}

#[tokio::test]
async fn a_token_that_lives_longer_than_any_issued_is_refused() {
    let instance = Instance::start().await;
    let holder = Holder::of(&instance.principal);
    // Far from the bound, so that it does not matter how long a request takes.
    for life in [1500, 2000] {
        is_refused(&instance, &holder.sign("operator", life)).await;
    }
    is_accepted_as(&instance, "operator", &holder.sign("operator", LONG)).await;
    assert!(instance.metric("vx11_operator_ephemeral_tokens_invalid_total{reason=\"forged\"}").await > 0);
}
