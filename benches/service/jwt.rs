//! Issuing for a JWT (ES256) beside issuing for a credential, both with a grant of the same size.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::http::ISSUE;
use crate::instance::{CONFIG, Instance};
use crate::load::Load;
use crate::report::Row;
use crate::rounds::{alternate, costed, median};
use crate::{GRANT, JSON, ROUND_SECONDS, ROUNDS, SETTINGS};

const ISSUER: &str = "https://id.example/";
/// Signs tokens; configured, because issuers need it.
const SIGNING_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A configuration with an issuer, and a JWT of it that lives an hour.
#[expect(clippy::disallowed_methods, reason = "the JWT is for an instance, which has the real time")]
fn issuer() -> (TempDir, String, String) {
    let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a new key");
    let key = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("the key is read");
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = key.public_key().as_ref();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y }] });

    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    let (keys_file, config) = (folder.path().join("keys.json"), folder.path().join("config.toml"));
    std::fs::write(&keys_file, keys.to_string()).expect("the keys can be written");
    let content = format!(
        "[[issuers]]\nid = 'users'\nissuer = '{ISSUER}'\naudience = 'events'\njwks_file = '{}'\n\
         topics = ['users/{{sub}}/*', 'news']\nsubject = 'user-{{sub}}'\n[token]\nsigning_keys = ['{SIGNING_KEY}']\n",
        keys_file.display()
    );
    std::fs::write(&config, content).expect("the configuration can be written");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs();
    let claims = json!({ "iss": ISSUER, "aud": "events", "sub": "7", "iat": now, "exp": now + 3600 });
    let header = json!({ "alg": "ES256", "kid": "a", "typ": "at+jwt" });
    let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
    let text = format!("{header}.{claims}");
    let signature = key.sign(&random, text.as_bytes()).expect("a signature");
    let jwt = format!("{text}.{}", encode(signature.as_ref()));
    (folder, config.display().to_string(), jwt)
}

/// The difference of both in processor time for one request.
pub(crate) fn measure() -> Vec<Row> {
    let (_folder, config, jwt) = issuer();
    let mut settings = SETTINGS.to_vec();
    settings.push((CONFIG, config.as_str()));
    let instance = Instance::start("service-jwt", &settings);
    let of_user = (instance.address, jwt.as_str());
    let loads =
        || [Load::post(instance.server(), ISSUE, JSON, GRANT), Load::post(of_user, ISSUE, JSON, GRANT)];
    let rounds = alternate(ROUNDS, loads, |load| costed(&instance, load, ROUND_SECONDS));
    vec![
        Row::judged(
            "issue for a JWT, processor time more than for a credential",
            "<= 60 µs",
            median(&rounds, |[credential, jwt]| jwt.1 - credential.1),
        ),
        Row::figure("issue for a JWT, requests a second", median(&rounds, |[_, jwt]| jwt.0.per_second), ""),
    ]
}
