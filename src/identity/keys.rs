//! The public keys of an issuer (RFC 7517), and signatures that they verify (RFC 7518, RFC 8037).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// Bound of the keys of an issuer that are used.
const MOST_KEYS: usize = 32;
/// Length of the shortest RSA modulus: 2,048 bits.
const SHORTEST_MODULUS: usize = 256;

/// Algorithm of a signature. All are asymmetric: no secret of an issuer is ever needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[strum(serialize = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[strum(serialize = "PS256")]
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    #[strum(serialize = "ES256")]
    Es256,
    /// Ed25519.
    #[strum(serialize = "EdDSA")]
    EdDsa,
}

/// Reason why a document has no keys that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The document is no JSON object with a list `keys`.
    #[error("it is no JWK set, a JSON object with a list \"keys\" (RFC 7517)")]
    NoSet,
    /// No key of the set can be used.
    #[error("it has no key for RS256, PS256, ES256 or EdDSA (RSA keys need at least 2,048 bits)")]
    NoKey,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The only algorithm that the issuer uses it for, if it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

impl Key {
    /// Reads a key; `None` if it is for another purpose or of another kind (RFC 7517 §5: such keys
    /// are ignored).
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_absent_or = |name: &str, expected: &str| key.get(name).is_none_or(|value| value == expected);
        let verifies = key.get("key_ops").is_none_or(|operations| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|it| it == "verify"))
        });
        if !(is_absent_or("use", "sig") && verifies) {
            return None;
        }
        let algorithm = match key.get("alg") {
            None => None,
            Some(name) => Some(name.as_str()?.parse().ok()?),
        };
        let coordinate = |name: &str| bytes(name).filter(|bytes| bytes.len() == 32);
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let modulus = bytes("n")?;
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                let n = modulus.get(zeros..)?.to_vec();
                Material::Rsa { n, e: bytes("e")? }
            }
            ("EC", Some("P-256")) => Material::P256([vec![4], coordinate("x")?, coordinate("y")?].concat()),
            ("OKP", Some("Ed25519")) => Material::Ed25519(coordinate("x")?),
            _ => return None,
        };
        let is_long = !matches!(&material, Material::Rsa { n, .. } if n.len() < SHORTEST_MODULUS);
        let key = Self { id: text("kid").map(ToOwned::to_owned), algorithm, material };
        let is_consistent = Algorithm::VARIANTS.iter().any(|algorithm| key.fits(*algorithm));
        (is_long && is_consistent).then_some(key)
    }

    /// Whether the key is of the kind that an algorithm needs, and the issuer allows it. A key of
    /// another kind is never tried, so that a public key cannot become a secret (RFC 8725 §2.1).
    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => matches!(self.material, Material::Rsa { .. }),
            Algorithm::Es256 => matches!(self.material, Material::P256(_)),
            Algorithm::EdDsa => matches!(self.material, Material::Ed25519(_)),
        };
        is_of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Material::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

/// The public keys of an issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set. Keys of other kinds and for other purposes are ignored.
    ///
    /// # Errors
    /// There is no key that can be used.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Written {
            keys: Vec<Value>,
        }
        let Written { keys } = serde_json::from_slice(document).map_err(|_| KeySetError::NoSet)?;
        let keys: Vec<_> = keys.iter().filter_map(Key::read).take(MOST_KEYS).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// Number of the keys.
    pub(super) fn number(&self) -> usize {
        self.0.len()
    }

    /// Whether there is a key for a JWT with this `kid`. Without a `kid`, each key that fits the
    /// algorithm may be meant.
    pub(super) fn has(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.fitting(id, algorithm).next().is_some()
    }

    /// Whether one of the keys that are meant verifies a signature.
    pub(super) fn verifies(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.fitting(id, algorithm).any(|key| key.verifies(algorithm, message, signature))
    }

    fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let is_meant = move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        self.0.iter().filter(is_meant).filter(move |key| key.fits(algorithm))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.number())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::testing::{RSA_N, RSA_PUBLIC, es256_public};

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    /// RFC 7515 §A.2 and §A.3, RFC 8037 §A.4.
    #[test]
    fn the_signatures_of_the_standards_verify() {
        let rsa = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let ec = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let ed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let ec_key = json!({ "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
        let edwards =
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        let keys = set(&[serde_json::from_str(RSA_PUBLIC).unwrap(), ec_key, edwards]).unwrap();
        for (algorithm, jws) in [(Algorithm::Rs256, rsa), (Algorithm::Es256, ec), (Algorithm::EdDsa, ed)] {
            let (message, signature) = jws.rsplit_once('.').unwrap();
            let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(keys.verifies(None, algorithm, message.as_bytes(), &signature), "{algorithm:?}");
            assert!(!keys.verifies(None, algorithm, &message.as_bytes()[1..], &signature), "{algorithm:?}");
            signature[9] ^= 1;
            assert!(!keys.verifies(None, algorithm, message.as_bytes(), &signature), "{algorithm:?}");
        }
    }

    #[test]
    fn keys_of_other_kinds_and_for_other_purposes_are_ignored() {
        let rsa = |more: Value| {
            let mut key: Value = serde_json::from_str(RSA_PUBLIC).unwrap();
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        for used in
            [json!({}), json!({ "use": "sig" }), json!({ "alg": "PS256" }), json!({ "key_ops": ["verify"] })]
        {
            assert_eq!(set(&[json!(null), rsa(used.clone())]).map(|set| set.number()), Ok(1), "{used}");
        }
        for ignored in [
            rsa(json!({ "use": "enc" })),
            rsa(json!({ "key_ops": ["encrypt"] })),
            rsa(json!({ "alg": "RSA-OAEP" })),
            rsa(json!({ "alg": "ES256" })),
            rsa(json!({ "alg": 1 })),
            rsa(json!({ "n": URL_SAFE_NO_PAD.encode([0xff; 128]) })),
            rsa(json!({ "n": format!("{RSA_N}=") })),
            json!({ "kty": "oct", "k": "AAAA", "alg": "HS256" }),
            json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
            json!({}),
            json!([]),
        ] {
            assert_eq!(set(std::slice::from_ref(&ignored)), Err(KeySetError::NoKey), "{ignored}");
        }
        for document in ["", "[]", "{}", "{\"keys\": {}}", "<html>"] {
            assert_eq!(KeySet::parse(document.as_bytes()), Err(KeySetError::NoSet), "{document}");
        }
    }

    #[test]
    fn a_key_is_meant_by_its_id_or_each_of_the_right_kind() {
        let [one, other] = ["a", "b"].map(es256_public);
        let both = set(&[one.clone(), other]).unwrap();
        assert!(both.has(Some("a"), Algorithm::Es256) && both.has(Some("b"), Algorithm::Es256));
        assert!(!both.has(Some("c"), Algorithm::Es256) && both.has(None, Algorithm::Es256));
        assert!(!both.has(Some("a"), Algorithm::Rs256), "a key of another kind");
        let only = set(&[one, serde_json::from_str(RSA_PUBLIC).unwrap()]).unwrap();
        assert!(only.has(None, Algorithm::Es256) && only.has(None, Algorithm::Ps256));
    }

    #[test]
    fn the_keys_of_an_issuer_are_bounded() {
        let keys: Vec<_> = (0..100).map(|n| es256_public(&n.to_string())).collect();
        assert_eq!(set(&keys).map(|set| set.number()), Ok(MOST_KEYS));
    }
}
