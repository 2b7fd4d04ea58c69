//! Issuers of tests: keys that sign, and their public halves.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::Algorithm;

/// Modulus of the RSA key of RFC 7515 §A.2.
pub(super) const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
/// The RSA key of RFC 7515 §A.2.
pub(super) const RSA_PUBLIC: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;

/// An RSA key that is used nowhere else. It takes seconds to generate one.
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| {
    let der = STANDARD.decode(include_str!("testing_rsa_key.txt").replace('\n', "")).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap()
});

/// The P-256 key with this id, the same for the whole test.
fn es256(id: &str) -> Arc<EcdsaKeyPair> {
    static KEYS: LazyLock<Mutex<HashMap<String, Arc<EcdsaKeyPair>>>> = LazyLock::new(Mutex::default);
    let generate = || {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Arc::new(EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap())
    };
    Arc::clone(KEYS.lock().unwrap().entry(id.to_owned()).or_insert_with(generate))
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// The public half of a P-256 key.
pub(super) fn es256_public(id: &str) -> Value {
    let key = es256(id);
    let point = key.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": x, "y": y })
}

/// A set of P-256 keys with these ids.
pub(super) fn key_set_of(ids: &[&str]) -> String {
    json!({ "keys": ids.iter().map(|id| es256_public(id)).collect::<Vec<_>>() }).to_string()
}

/// A set with a key of each kind: `rsa`, `ec` and `ed`.
pub(super) fn key_set_of_all_kinds() -> String {
    let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(RSA.public());
    let [n, e] = [n, e].map(|part| URL_SAFE_NO_PAD.encode(part));
    let x = URL_SAFE_NO_PAD.encode(ed25519().public_key());
    let keys = json!([
        { "kty": "RSA", "kid": "rsa", "n": n, "e": e },
        es256_public("ec"),
        { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x },
    ]);
    json!({ "keys": keys }).to_string()
}

/// A JWT with this header and these claims, signed by the key that the header names.
pub(super) fn signed(header: &Value, claims: &Value) -> String {
    let algorithm = header["alg"].as_str().unwrap().parse().unwrap();
    let key = header["kid"].as_str().unwrap_or("ec");
    signed_by(key, algorithm, header, claims)
}

/// A JWT that this key has signed with this algorithm, whatever its header says.
pub(super) fn signed_by(key: &str, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let (message, random) = (text.as_bytes(), SystemRandom::new());
    let rsa = |padding: &'static dyn RsaEncoding| {
        let mut signature = vec![0; RSA.public().modulus_len()];
        RSA.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    let signature = match algorithm {
        Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
        Algorithm::Es256 => es256(key).sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::EdDsa => ed25519().sign(message).as_ref().to_vec(),
    };
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
