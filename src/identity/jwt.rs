//! The text of a JWT: a JWS in compact form (RFC 7515 §7.1), and the checks of its claims (RFC
//! 7519, RFC 8725, RFC 9068).
//!
//! Nothing in the header chooses a key but `kid`, and only among the keys of the issuer.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

use super::keys::Algorithm;
use super::template::{ClaimError, Claims};
use crate::clock::UnixMillis;

/// Bound of a JWT, in bytes.
pub const LONGEST_JWT: usize = 8 * 1024;
/// Time by which the clock of an issuer may be ahead of this one, in seconds. The end of a JWT has
/// no such leeway, because no token may live longer.
const LEEWAY_SECONDS: f64 = 60.0;
/// Members of a header that would bring their own key, name an address to fetch it from, or change
/// how the text is read.
const REFUSED_MEMBERS: [&str; 8] = ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip", "enc"];

/// Kind of reason why a JWT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum JwtRefusal {
    /// Longer than [`LONGEST_JWT`].
    TooLong,
    /// Not the text of a JWT.
    Malformed,
    /// Its header has a key, an address, or an extension.
    Header,
    /// It is of another type, such as a logout token.
    Type,
    /// It comes from no issuer that is configured.
    Issuer,
    /// It is for another audience.
    Audience,
    /// Its algorithm is not allowed for its issuer.
    Algorithm,
    /// The issuer has no key with its `kid` for its algorithm.
    UnknownKey,
    /// Its signature is wrong.
    Signature,
    /// It has expired.
    Expired,
    /// It is not valid yet, or was issued in the future.
    NotYetValid,
    /// It is bound to a key of its sender, which is not checked here.
    Bound,
    /// Topics or subject cannot be made of its claims.
    Claims,
    /// The keys of its issuer were not fetched yet. It may be valid.
    NoKeys,
}

/// A JWT that is refused: the reason, and the claim that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedJwt {
    /// The reason.
    pub reason: JwtRefusal,
    /// The claim, if the reason is one.
    pub claim: Option<ClaimError>,
}

impl From<JwtRefusal> for RefusedJwt {
    fn from(reason: JwtRefusal) -> Self {
        Self { reason, claim: None }
    }
}

impl From<ClaimError> for RefusedJwt {
    fn from(claim: ClaimError) -> Self {
        Self { reason: JwtRefusal::Claims, claim: Some(claim) }
    }
}

impl fmt::Display for RefusedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(claim) = &self.claim {
            return claim.fmt(f);
        }
        f.write_str(match self.reason {
            JwtRefusal::TooLong => "the JWT is longer than 8,192 bytes",
            JwtRefusal::Malformed => "the JWT cannot be read, or lacks a claim that every JWT needs here",
            JwtRefusal::Header => "the header of the JWT has a key, an address or an extension",
            JwtRefusal::Type => "the JWT is of a type that is no access token",
            JwtRefusal::Issuer => "the JWT comes from an issuer that is not configured",
            JwtRefusal::Audience => "the JWT is for another audience",
            JwtRefusal::Algorithm => "the algorithm of the JWT is not allowed",
            JwtRefusal::UnknownKey => "the issuer of the JWT has no such key",
            JwtRefusal::Signature => "the signature of the JWT is wrong",
            JwtRefusal::Expired => "the JWT has expired",
            JwtRefusal::NotYetValid => "the JWT is not valid yet",
            JwtRefusal::Bound => "the JWT is bound to a key of its sender (cnf), which is not supported",
            JwtRefusal::Claims => "the claims of the JWT cannot be used",
            JwtRefusal::NoKeys => "the keys of the issuer were not fetched yet",
        })
    }
}

/// Whether a text is meant as a JWT: a JSON object in base64url, and two full stops.
#[must_use]
pub fn is_jwt_shaped(text: &[u8]) -> bool {
    text.starts_with(b"eyJ") && text.split(|byte| *byte == b'.').count() == 3
}

/// A JWT whose signature was not checked. `Debug` would show its claims, so there is none.
pub(super) struct Unverified<'a> {
    header: Header,
    claims: Object,
    /// The text that the signature covers.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

struct Header {
    algorithm: String,
    key_id: Option<String>,
}

impl<'a> Unverified<'a> {
    /// Reads the text of a JWT.
    pub(super) fn parse(text: &'a str) -> Result<Self, JwtRefusal> {
        if text.len() > LONGEST_JWT {
            return Err(JwtRefusal::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtRefusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtRefusal::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtRefusal::Malformed);
        let object = |part: &str| Object::parse(&decode(part)?).ok_or(JwtRefusal::Malformed);
        let header = Header::read(&object(header)?)?;
        Ok(Self { header, claims: object(claims)?, signed, signature: decode(signature)? })
    }

    /// The algorithm of its header.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.header.algorithm.parse().ok()
    }

    /// The name of its key.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.key_id.as_deref()
    }

    /// The issuer that it names.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Whether it is for this audience.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.claims.claim("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        }
    }

    /// Its end in whole seconds, if it is valid at the time `now`.
    pub(super) fn check_times(&self, now: UnixMillis) -> Result<UnixMillis, JwtRefusal> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
        let now_seconds = now.0 as f64 / 1000.0;
        let until = self.claims.moment("exp")?.ok_or(JwtRefusal::Malformed)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let until = UnixMillis((until as u64).saturating_mul(1000));
        if until <= now {
            return Err(JwtRefusal::Expired);
        }
        for name in ["nbf", "iat"] {
            if self.claims.moment(name)?.is_some_and(|moment| moment > now_seconds + LEEWAY_SECONDS) {
                return Err(JwtRefusal::NotYetValid);
            }
        }
        Ok(until)
    }

    /// Whether it may only be used by the holder of a key (RFC 7800).
    pub(super) fn is_bound(&self) -> bool {
        self.claims.claim("cnf").is_some()
    }
}

impl Claims for Unverified<'_> {
    fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.claim(name)
    }
}

impl Header {
    fn read(header: &Object) -> Result<Self, JwtRefusal> {
        if REFUSED_MEMBERS.iter().any(|name| header.claim(name).is_some()) {
            return Err(JwtRefusal::Header);
        }
        let optional = |name: &str| match header.claim(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(JwtRefusal::Malformed),
        };
        // RFC 7515 §4.1.9: a type without a slash is one below `application/`.
        let is_access_token = optional("typ")?.is_none_or(|name| {
            let name = name.to_ascii_lowercase();
            ["jwt", "at+jwt"].contains(&name.strip_prefix("application/").unwrap_or(&name))
        });
        if !is_access_token {
            return Err(JwtRefusal::Type);
        }
        let algorithm = optional("alg")?.ok_or(JwtRefusal::Malformed)?.to_owned();
        Ok(Self { algorithm, key_id: optional("kid")?.map(ToOwned::to_owned) })
    }
}

/// A JSON object whose members have different names. Readers may differ about a name that occurs
/// twice, so that is refused (RFC 8725 §2.6).
struct Object(Vec<(String, Value)>);

impl Object {
    fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.claim(name)?.as_str()
    }

    /// A moment in seconds, which may have a fraction (RFC 7519 §2).
    fn moment(&self, name: &str) -> Result<Option<f64>, JwtRefusal> {
        let moment = |value: &Value| value.as_f64().filter(|seconds| *seconds >= 0.0);
        self.claim(name).map(|value| moment(value).ok_or(JwtRefusal::Malformed)).transpose()
    }
}

impl Claims for Object {
    fn claim(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object(Vec::new());
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    object.0.push((name, value));
                }
                let mut names: Vec<_> = object.0.iter().map(|(name, _)| name.as_str()).collect();
                names.sort_unstable();
                let is_twice = names.windows(2).any(|pair| pair[0] == pair[1]);
                if is_twice { Err(A::Error::custom("a name occurs twice")) } else { Ok(object) }
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
    const NOW_SECONDS: u64 = NOW.0 / 1000;

    fn text(header: &str, claims: &str) -> String {
        format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn refusal(header: &Value) -> Option<JwtRefusal> {
        Unverified::parse(&text(&header.to_string(), "{}")).err()
    }

    #[test]
    fn a_header_with_a_key_an_address_or_an_extension_is_refused() {
        for name in REFUSED_MEMBERS {
            let header = json!({ "alg": "ES256", name: "https://attacker.example/keys" });
            assert_eq!(refusal(&header), Some(JwtRefusal::Header), "{name}");
        }
        assert_eq!(refusal(&json!({ "alg": "ES256", "x5t": "AA", "unknown": 1 })), None);
    }

    #[test]
    fn only_access_tokens_and_jwts_without_a_special_type_are_accepted() {
        for accepted in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
            assert_eq!(refusal(&json!({ "alg": "ES256", "typ": accepted })), None, "{accepted}");
        }
        for refused in ["", "logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", "at+jwt ", "text/jwt"] {
            assert_eq!(
                refusal(&json!({ "alg": "ES256", "typ": refused })),
                Some(JwtRefusal::Type),
                "{refused}"
            );
        }
    }

    #[test]
    fn algorithms_without_a_public_key_do_not_exist() {
        for name in ["none", "None", "HS256", "HS512", "RS512", "ES256K", "rs256", ""] {
            let text = text(&json!({ "alg": name }).to_string(), "{}");
            assert_eq!(Unverified::parse(&text).ok().and_then(|jwt| jwt.algorithm()), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_in_header_and_claims() {
        let malformed = |header: &str, claims: &str| {
            Unverified::parse(&text(header, claims)).err() == Some(JwtRefusal::Malformed)
        };
        assert!(malformed(r#"{"alg": "ES256", "alg": "none"}"#, "{}"));
        assert!(malformed(r#"{"alg": "ES256"}"#, r#"{"sub": "a", "exp": 1, "sub": "b"}"#));
        assert!(malformed(r#"{"alg": "ES256"}"#, r#"{"sub": "a", "s\u0075b": "b"}"#));
        assert!(!malformed(r#"{"alg": "ES256"}"#, r#"{"sub": "a"}"#));
    }

    #[test]
    fn a_text_that_is_no_jwt_is_malformed_and_a_long_one_is_not_read() {
        let good = text(r#"{"alg":"ES256"}"#, "{}");
        for bad in [
            "",
            ".",
            "..",
            "eyJ..",
            &good[1..],
            &format!("{good}="),
            &format!("{good}.AA"),
            &good.replacen('.', " .", 1),
            &text("[]", "{}"),
            &text("{}", "{}"),
            &text(r#"{"alg": 1}"#, "{}"),
            &text(r#"{"alg": "ES256", "kid": 1}"#, "{}"),
            &text(r#"{"alg": "ES256"}"#, "1"),
            &text(r#"{"alg": "ES256"}"#, "{"),
        ] {
            assert_eq!(Unverified::parse(bad).err(), Some(JwtRefusal::Malformed), "{bad}");
        }
        let long = format!("{good}{}", "A".repeat(LONGEST_JWT));
        assert_eq!(Unverified::parse(&long).err(), Some(JwtRefusal::TooLong));
    }

    #[test]
    fn a_jwt_is_valid_up_to_its_end_and_from_a_minute_before_its_beginning() {
        use JwtRefusal::{Expired, Malformed, NotYetValid};
        let check = |claims: &Value| {
            let text = text(r#"{"alg":"ES256"}"#, &claims.to_string());
            Unverified::parse(&text).unwrap().check_times(NOW)
        };
        let with = |name: &str, value: Value| {
            let mut claims = json!({ "exp": NOW_SECONDS + 300 });
            claims[name] = value;
            claims
        };
        assert_eq!(
            check(&json!({ "exp": NOW_SECONDS + 1 })),
            Ok(NOW.plus(std::time::Duration::from_secs(1)))
        );
        assert_eq!(check(&json!({ "exp": 1_767_470_401.5 })), Ok(UnixMillis(NOW.0 + 1000)));
        for (claims, expected) in [
            (json!({}), Malformed),
            (json!({ "exp": NOW_SECONDS }), Expired),
            (json!({ "exp": 1_767_470_400.5 }), Expired),
            (json!({ "exp": 0 }), Expired),
            (json!({ "exp": -1 }), Malformed),
            (json!({ "exp": "4102444800" }), Malformed),
            (json!({ "exp": null }), Malformed),
            (with("nbf", json!(NOW_SECONDS + 61)), NotYetValid),
            (with("iat", json!(NOW_SECONDS + 61)), NotYetValid),
            (with("nbf", json!("0")), Malformed),
            (with("iat", json!(null)), Malformed),
        ] {
            assert_eq!(check(&claims), Err(expected), "{claims}");
        }
        for name in ["nbf", "iat"] {
            assert!(check(&with(name, json!(NOW_SECONDS + 60))).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_audience_is_one_of_a_list_or_the_only_one() {
        let is_for = |claims: Value| {
            let text = text(r#"{"alg":"ES256"}"#, &claims.to_string());
            Unverified::parse(&text).unwrap().is_for("events")
        };
        for mine in [json!({ "aud": "events" }), json!({ "aud": ["other", "events"] })] {
            assert!(is_for(mine.clone()), "{mine}");
        }
        let others =
            [json!({}), json!({ "aud": [] }), json!({ "aud": "events2" }), json!({ "aud": { "events": 1 } })];
        for other in others {
            assert!(!is_for(other.clone()), "{other}");
        }
    }

    #[test]
    fn a_token_of_this_service_and_an_encrypted_jwt_are_not_meant_as_jwts() {
        assert!(is_jwt_shaped(b"eyJhbGciOiJub25lIn0.e30."));
        for other in [
            &b"0f0f0f0f-0f0f-8f0f-8f0f-0f0f0f0f0f0f.AQEACG"[..],
            b"eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
            b"eyJhbGciOiJub25lIn0",
            b"a.b.c",
            b"",
        ] {
            assert!(!is_jwt_shaped(other));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(
            text in "[A-Za-z0-9_.-]{0,60}",
            header in r#"\{("(alg|kid|typ|jwk)": ?("[A-Za-z0-9+]{0,5}"|[0-9]{1,3}|null),?){0,3}\}"#,
            claims in r#"\{("(exp|nbf|iat|aud|iss)": ?("[a-z]{0,5}"|-?[0-9]{1,25}(e[0-9]{1,3})?|\[\]|null),?){0,3}\}"#,
        ) {
            let _ = Unverified::parse(&text).is_ok();
            let whole = self::text(&header, &claims);
            if let Ok(jwt) = Unverified::parse(&whole) {
                let _ = (jwt.check_times(NOW), jwt.is_for("a"), jwt.issuer(), jwt.algorithm());
            }
        }
    }
}
