//! An identity provider whose keys are in a file: signs JWTs for users.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use vx11_kit::{new_principal, remember_secret};

use super::instance::Instance;

/// The claim `iss` of its JWTs.
pub const ISSUER: &str = "https://id.example/";

/// An identity provider with one key for ES256.
pub struct Issuer {
    key: EcdsaKeyPair,
    folder: TempDir,
}

impl Issuer {
    pub fn new() -> Self {
        let issuer = Self { key: new_key(), folder: tempfile::tempdir().expect("a folder") };
        issuer.write_keys();
        issuer
    }

    /// Takes another key and writes it in place of the old one.
    pub fn rotate(&mut self) {
        self.key = new_key();
        self.write_keys();
    }

    fn write_keys(&self) {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y }] });
        std::fs::write(self.keys(), keys.to_string()).expect("the keys can be written");
    }

    fn keys(&self) -> std::path::PathBuf {
        self.folder.path().join("keys.json")
    }

    /// The file of a configuration with this issuer, and with `more` of its fields.
    pub fn config(&self, more: &str) -> String {
        let file = self.folder.path().join("config.toml");
        let keys = self.keys().display().to_string();
        let signing_key = new_principal();
        let content = format!(
            "[[issuers]]\nid = 'shop-users'\nissuer = '{ISSUER}'\naudience = 'events'\njwks_file = '{keys}'\n\
             topics = ['users/{{sub}}/*', 'news']\n{more}\n[token]\nsigning_keys = ['{signing_key}']\n"
        );
        std::fs::write(&file, content).expect("the configuration can be written");
        file.display().to_string()
    }

    /// An instance that knows this issuer, with `more` of its fields.
    pub async fn instance(&self, more: &str) -> Instance {
        Instance::start_with_arguments(&["--config", &self.config(more)]).await
    }

    /// A JWT of a user, valid for five minutes.
    pub fn jwt(&self, subject: &str) -> String {
        self.jwt_with(&json!({ "sub": subject }))
    }

    /// A JWT with these claims in addition, or in place of the usual ones.
    pub fn jwt_with(&self, more: &Value) -> String {
        let now = now().as_secs();
        let mut claims = json!({ "iss": ISSUER, "aud": "events", "iat": now, "exp": now + 300 });
        let more = more.as_object().expect("an object").clone();
        claims.as_object_mut().expect("an object").extend(more);
        let header = json!({ "alg": "ES256", "kid": "a", "typ": "at+jwt" });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        let jwt = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
        remember_secret(&jwt);
        jwt
    }
}

fn new_key() -> EcdsaKeyPair {
    let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a new key");
    EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("the key is read")
}

/// Time since 1970.
#[expect(clippy::disallowed_methods, reason = "the JWT is for an instance, which has the real time")]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}
