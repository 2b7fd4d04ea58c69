//! JWTs that are accepted, and every attack that is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use strum::VariantArray;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::testing::{es256_public, key_set_of, key_set_of_all_kinds, signed, signed_by};
use super::*;
use crate::clock::{ManualClock, UnixMillis};
use crate::principal::{PrincipalId, Right};

const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const ISSUER: &str = "https://id.example/";

fn settings(keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        id: PrincipalId::parse("id-example").unwrap(),
        issuer: ISSUER.to_owned(),
        audience: "events".to_owned(),
        keys,
        algorithms: Algorithm::VARIANTS.to_vec(),
        rights: [Right::Issue].into_iter().collect(),
        topics: vec![TopicTemplate::parse("users/{sub}/*").unwrap(), TopicTemplate::parse("news").unwrap()],
        subject: SubjectTemplate::parse("{sub}").unwrap(),
    }
}

fn file(document: &str) -> KeySource {
    KeySource::File(KeySet::parse(document.as_bytes()).unwrap())
}

fn identity_of(issuers: Vec<IssuerSettings>) -> (Arc<Identity>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(NOW));
    let identity = Identity::new(IdentityDeps {
        issuers,
        clock: clock.clone(),
        jitter: Arc::new(Jitter::seeded(1)),
        metrics: Arc::new(Metrics::new().unwrap()),
    });
    (Arc::new(identity), clock)
}

fn identity() -> Arc<Identity> {
    identity_of(vec![settings(file(&key_set_of_all_kinds()))]).0
}

fn header(algorithm: &str, key: &str) -> Value {
    json!({ "alg": algorithm, "kid": key, "typ": "at+jwt" })
}

fn claims() -> Value {
    let now = NOW.seconds();
    json!({ "iss": ISSUER, "aud": "events", "sub": "7", "iat": now, "nbf": now, "exp": now + 300 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn refusal(identity: &Identity, jwt: &str) -> Option<JwtRefusal> {
    identity.authenticate(jwt).err().map(|refused| refused.reason)
}

#[test]
fn a_jwt_of_each_algorithm_is_its_issuer_for_its_user() {
    let identity = identity();
    for (algorithm, key) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let principal = identity.authenticate(&signed(&header(algorithm, key), &claims())).unwrap();
        assert_eq!(principal.id().as_str(), "id-example", "{algorithm}");
        assert!(principal.may(Right::Issue) && !principal.may(Right::Publish));
        let topics: Vec<_> = principal.topics().iter().map(ToString::to_string).collect();
        assert_eq!(topics, ["news", "users/7/*"]);
        let user = principal.user().unwrap();
        assert_eq!((user.subject.as_str(), user.until), ("7", NOW.plus(Duration::from_mins(5))));
    }
}

#[test]
fn an_algorithm_without_a_public_key_is_refused_also_with_the_public_key_as_secret() {
    let identity = identity();
    let text = |header: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(&claims()))
    };
    for name in ["none", "None", "NONE", "nOnE"] {
        let jwt = format!("{}.", text(&json!({ "alg": name })));
        assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Algorithm), "{name}");
    }
    // RFC 8725 §2.1: the public key, which everybody knows, as the secret of an HMAC.
    let public = es256_public("ec").to_string();
    let text = text(&header("HS256", "ec"));
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(public.as_bytes()).unwrap();
    let mac = mac.chain_update(&text).finalize().into_bytes();
    let jwt = format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac));
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Algorithm));
}

#[test]
fn an_algorithm_counts_only_with_a_key_of_its_kind_and_if_the_issuer_allows_it() {
    let identity = identity();
    for (algorithm, key) in [("ES256", "rsa"), ("RS256", "ec"), ("EdDSA", "ec"), ("PS256", "ed")] {
        let jwt = signed_by("ec", Algorithm::Es256, &header(algorithm, key), &claims());
        assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::UnknownKey), "{algorithm} {key}");
    }
    // The right key with the padding of the other algorithm.
    let jwt = signed_by("rsa", Algorithm::Rs256, &header("PS256", "rsa"), &claims());
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Signature));
    let mut strict = settings(file(&key_set_of_all_kinds()));
    strict.algorithms = vec![Algorithm::EdDsa];
    let (identity, _) = identity_of(vec![strict]);
    let jwt = signed(&header("ES256", "ec"), &claims());
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Algorithm));
}

#[test]
fn a_key_of_the_sender_is_never_used() {
    let identity = identity();
    let mut with_key = header("ES256", "attacker");
    with_key["jwk"] = es256_public("attacker");
    assert_eq!(refusal(&identity, &signed(&with_key, &claims())), Some(JwtRefusal::Header));
    for (name, value) in [
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/certificate")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
    ] {
        let mut header = header("ES256", "ec");
        header[name] = value;
        assert_eq!(refusal(&identity, &signed(&header, &claims())), Some(JwtRefusal::Header), "{name}");
    }
    let jwt = signed(&header("ES256", "attacker"), &claims());
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::UnknownKey));
    let jwt = signed_by("attacker", Algorithm::Es256, &header("ES256", "ec"), &claims());
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Signature));
}

#[test]
fn a_jwt_without_a_key_id_is_verified_with_each_key_of_its_kind() {
    let (identity, _) = identity_of(vec![settings(file(&key_set_of(&["a", "b"])))]);
    let without = json!({ "alg": "ES256" });
    for (key, expected) in [("a", None), ("b", None), ("c", Some(JwtRefusal::Signature))] {
        let jwt = signed_by(key, Algorithm::Es256, &without, &claims());
        assert_eq!(refusal(&identity, &jwt), expected, "{key}");
    }
}

#[test]
fn changed_claims_and_a_signature_that_is_cut_or_missing_are_refused() {
    let identity = identity();
    let jwt = signed(&header("ES256", "ec"), &claims());
    let (text, signature) = jwt.rsplit_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(with("sub", json!("8")).to_string());
    let changed = format!("{}.{other}.{signature}", text.split_once('.').unwrap().0);
    for (jwt, expected) in [
        (changed, JwtRefusal::Signature),
        (format!("{text}."), JwtRefusal::Signature),
        (format!("{text}.{}", &signature[..40]), JwtRefusal::Signature),
        (format!("{text}.{signature}="), JwtRefusal::Malformed),
    ] {
        assert_eq!(refusal(&identity, &jwt), Some(expected), "{jwt}");
    }
}

#[test]
fn issuer_audience_times_and_type_are_checked() {
    use JwtRefusal::{Audience, Bound, Expired, Issuer, Malformed, NotYetValid, Type};
    let identity = identity();
    let now = NOW.seconds();
    for (claims, expected) in [
        (with("iss", json!("https://id.example")), Issuer),
        (with("iss", json!(null)), Malformed),
        (with("aud", json!("other")), Audience),
        (with("aud", json!(null)), Audience),
        (with("exp", json!(now)), Expired),
        (with("nbf", json!(now + 61)), NotYetValid),
        (with("iat", json!(now + 61)), NotYetValid),
        (with("cnf", json!({ "jkt": "x" })), Bound),
    ] {
        assert_eq!(refusal(&identity, &signed(&header("ES256", "ec"), &claims)), Some(expected), "{claims}");
    }
    let mut logout = header("ES256", "ec");
    logout["typ"] = json!("logout+jwt");
    assert_eq!(refusal(&identity, &signed(&logout, &claims())), Some(Type));
    let long = with("padding", json!("x".repeat(LONGEST_JWT)));
    assert_eq!(refusal(&identity, &signed(&header("ES256", "ec"), &long)), Some(JwtRefusal::TooLong));
}

#[test]
fn a_claim_that_cannot_be_used_is_named_and_not_repeated() {
    let identity = identity();
    for (claims, expected) in [
        (with("sub", json!("")), "the claim sub is empty"),
        (with("sub", json!(["xylophone"])), "the claim sub is no text and no whole number"),
        (
            with("sub", json!("xylophone".repeat(20))),
            "the values of the claims are too long for a topic or a subject",
        ),
    ] {
        let refused = identity.authenticate(&signed(&header("ES256", "ec"), &claims)).unwrap_err();
        assert_eq!((refused.reason, refused.to_string().as_str()), (JwtRefusal::Claims, expected));
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("sub");
    let refused = identity.authenticate(&signed(&header("ES256", "ec"), &without)).unwrap_err();
    assert_eq!(refused.to_string(), "the JWT has no claim sub");
}

#[test]
fn a_verified_jwt_is_accepted_until_its_end_and_refused_from_then_on() {
    let (identity, clock) = identity_of(vec![settings(file(&key_set_of_all_kinds()))]);
    let jwt = signed(&header("ES256", "ec"), &claims());
    let first = identity.authenticate(&jwt).unwrap();
    clock.advance(Duration::from_secs(299));
    assert!(Arc::ptr_eq(&identity.authenticate(&jwt).unwrap(), &first), "verified once");
    clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Expired));
}

#[test]
fn after_a_reload_a_verified_jwt_is_judged_by_the_new_issuers() {
    let identity = identity();
    let jwt = signed(&header("ES256", "ec"), &claims());
    assert!(identity.authenticate(&jwt).is_ok());
    identity.replace(vec![settings(file(&key_set_of(&["other"])))]);
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::UnknownKey));
    let other = IssuerSettings { audience: "other".to_owned(), ..settings(file(&key_set_of_all_kinds())) };
    identity.replace(vec![other]);
    assert_eq!(refusal(&identity, &jwt), Some(JwtRefusal::Audience));
    identity.replace(Vec::new());
    assert!(!identity.is_for_us(jwt.as_bytes()));
}

#[test]
fn issuers_of_one_name_are_told_apart_by_audience() {
    let other = IssuerSettings {
        id: PrincipalId::parse("other").unwrap(),
        audience: "other".to_owned(),
        ..settings(file(&key_set_of_all_kinds()))
    };
    let (identity, _) = identity_of(vec![settings(file(&key_set_of_all_kinds())), other]);
    let jwt = signed(&header("ES256", "ec"), &with("aud", json!(["x", "other"])));
    assert_eq!(identity.authenticate(&jwt).unwrap().id().as_str(), "other");
}

#[test]
fn the_topics_of_an_issuer_cover_those_of_each_of_its_jwts() {
    let settings = settings(file(&key_set_of_all_kinds()));
    let issuer = settings.principal();
    let topics: Vec<_> = issuer.topics().iter().map(ToString::to_string).collect();
    assert_eq!(topics, ["users/*", "news"]);
    let (identity, _) = identity_of(vec![settings]);
    let jwt = signed(&header("ES256", "ec"), &with("sub", json!("*/$")));
    let user = identity.authenticate(&jwt).unwrap();
    assert!(issuer.topics().first_beyond(user.topics()).is_none());
}

/// An issuer that answers each request with the latest document, or not at all, and reports it.
struct Server {
    url: hyper::Uri,
    document: watch::Sender<Option<String>>,
    requests: mpsc::UnboundedReceiver<()>,
}

impl Server {
    async fn start(document: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let (document, latest) = watch::channel(document);
        let (asked, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let _ = client.read(&mut [0; 4096]).await;
                let _ = asked.send(());
                let document = latest.borrow().clone();
                if let Some(body) = document {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = client.write_all((head + &body).as_bytes()).await;
                    let _ = client.read(&mut [0; 16]).await;
                }
            }
        });
        Self { url, document, requests }
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_at_once_and_not_again_for_ten_seconds() {
    let mut server = Server::start(Some(key_set_of(&["a"]))).await;
    let (identity, _) = identity_of(vec![settings(KeySource::Url(server.url.clone()))]);
    let [by_a, by_b, by_c] = ["a", "b", "c"].map(|key| signed(&header("ES256", key), &claims()));
    assert_eq!(refusal(&identity, &by_a), Some(JwtRefusal::NoKeys));
    let task = tokio::spawn(identity.key_task().run());
    identity.learn_key_of(&by_a).await;
    assert_eq!(refusal(&identity, &by_a), None);
    // The first fetch was that of the start, or the one that was asked for.
    while server.requests.try_recv().is_ok() {}
    server.document.send_replace(Some(key_set_of(&["b"])));
    let issuers = identity.issuers.borrow().clone();
    issuers[0].keys.forget_refresh();
    identity.learn_key_of(&by_b).await;
    assert_eq!(refusal(&identity, &by_b), None, "the issuer has changed its key");
    assert_eq!(refusal(&identity, &by_a), Some(JwtRefusal::UnknownKey), "the old key is gone");
    while server.requests.try_recv().is_ok() {}
    server.document.send_replace(Some(key_set_of(&["c"])));
    identity.learn_key_of(&by_c).await;
    assert_eq!(refusal(&identity, &by_c), Some(JwtRefusal::UnknownKey));
    assert!(server.requests.try_recv().is_err(), "no second fetch within ten seconds");
    task.abort();
}

#[tokio::test]
async fn keys_stay_valid_while_the_issuer_is_away_and_after_a_reload() {
    let mut server = Server::start(Some(key_set_of(&["a"]))).await;
    let issuer = settings(KeySource::Url(server.url.clone()));
    let (identity, _) = identity_of(vec![issuer.clone()]);
    let task = tokio::spawn(identity.key_task().run());
    let [by_a, by_b] = ["a", "b"].map(|key| signed(&header("ES256", key), &claims()));
    identity.learn_key_of(&by_a).await;
    server.document.send_replace(None);
    let issuers = identity.issuers.borrow().clone();
    issuers[0].keys.forget_refresh();
    identity.learn_key_of(&by_b).await;
    while server.requests.try_recv().is_ok() {}
    assert_eq!(refusal(&identity, &by_b), Some(JwtRefusal::UnknownKey));
    assert_eq!(refusal(&identity, &by_a), None);
    identity.replace(vec![issuer]);
    assert_eq!(refusal(&identity, &by_a), None);
    server.requests.recv().await.expect("a reload fetches the keys again");
    task.abort();
}
