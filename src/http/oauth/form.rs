//! The form of a request for a token (RFC 6749 §3.2).

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::Payload;

use super::error::OAuthError;
use crate::http::extract::{is_form, read_body};

/// Parameters that may occur more than once (RFC 8693 §2.1, RFC 8707 §2).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters of a request.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body. A query is refused: logs would keep the secrets in it.
    pub(super) async fn read(
        request: &HttpRequest,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Self, super::Failure> {
        if !request.query_string().is_empty() {
            return Err(OAuthError::invalid_request("parameters belong into the body").into());
        }
        if !is_form(request) {
            let expected = "the body has to be application/x-www-form-urlencoded";
            return Err(OAuthError::invalid_request(expected).into());
        }
        let body = read_body(request, payload, timeout).await.map_err(super::Failure::from)?;
        Ok(Self::parse(&body)?)
    }

    fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let all: Vec<(String, String)> = serde_urlencoded::from_bytes(body)
            .map_err(|_| OAuthError::invalid_request("the body cannot be read as a form"))?;
        // RFC 6749 §3.2: a parameter without a value counts as absent.
        let all: Vec<_> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let mut names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1] && !REPEATABLE.contains(&pair[0]));
        if twice.is_some() {
            return Err(OAuthError::invalid_request("a parameter occurs more than once"));
        }
        Ok(Self(all))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Checks that the token is to be used at this service, whose address is `here`.
    pub(super) fn check_target(&self, here: Option<&str>) -> Result<(), OAuthError> {
        let mut targets = self.0.iter().filter(|(name, _)| REPEATABLE.contains(&name.as_str()));
        let is_here = |target: &str| {
            let rest = here.and_then(|here| target.strip_prefix(here));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if targets.all(|(_, target)| is_here(target)) { Ok(()) } else { Err(OAuthError::InvalidTarget) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_counts_once_and_without_a_value_not_at_all() {
        let form = Form::parse(b"grant_type=client_credentials&scope=&scope=read%3Aa+read%3Ab").unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("read:a read:b"));
        assert_eq!(form.get("client_id"), None);
        for twice in ["scope=a&scope=a", "x=1&y=2&x=3", "grant_type=a&grant_type=b"] {
            assert!(Form::parse(twice.as_bytes()).is_err(), "{twice}");
        }
        assert!(Form::parse(b"resource=a&resource=b&audience=c&audience=d").is_ok());
    }

    #[test]
    fn a_target_is_an_address_of_this_service() {
        let check = |body: &str, here| Form::parse(body.as_bytes()).unwrap().check_target(here);
        let here = Some("https://events.example");
        assert_eq!(check("", None), Ok(()));
        for mine in ["https://events.example", "https://events.example/operator/api/events/stream"] {
            assert_eq!(check(&format!("resource={mine}"), here), Ok(()), "{mine}");
            assert_eq!(check(&format!("resource={mine}"), None), Err(OAuthError::InvalidTarget), "{mine}");
        }
        for other in
            ["https://events.example.org/", "https://other.example", "/reports", "http://events.example"]
        {
            assert_eq!(check(&format!("resource={other}"), here), Err(OAuthError::InvalidTarget), "{other}");
        }
        let mixed = "resource=https://events.example&audience=https://other.example";
        assert_eq!(check(mixed, here), Err(OAuthError::InvalidTarget));
    }

    proptest! {
        #[test]
        fn no_body_makes_parsing_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Form::parse(&body).map(|form| form.check_target(Some("https://a")));
        }
    }
}
