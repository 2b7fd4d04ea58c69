//! Authentication of OAuth clients: a client is a principal, its id and credential are the client's
//! id and secret (RFC 6749 §2.3.1).

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use super::form::Form;
use crate::http::AppState;
use crate::http::error::Problem;
use crate::http::extract::{Places, failed, presented};
use crate::http::jwt::holder;
use crate::principal::Principal;

/// Id and secret of a client. `Debug` would show the secret, so there is none.
struct Basic {
    id: String,
    secret: String,
    /// Both as they are written in the header: many clients leave out the encoding.
    written: Option<(String, String)>,
}

/// Id and secret in the `Authorization` header with the scheme Basic (RFC 7617), if there is one.
///
/// # Errors
/// There is more than one, or it cannot be read.
fn basic(request: &HttpRequest) -> Result<Option<Basic>, Problem> {
    const SCHEME: &[u8] = b"basic ";
    let headers = request.headers().get_all(AUTHORIZATION);
    let mut found = headers.filter_map(|header| {
        let (scheme, value) = header.as_bytes().split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| value.trim_ascii())
    });
    let Some(value) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Problem::CredentialsConflict);
    }
    read(value).map(Some).ok_or(Problem::ClientWrong)
}

/// Reads id and secret. Each is encoded as in a form before they are joined (RFC 6749 §2.3.1).
fn read(value: &[u8]) -> Option<Basic> {
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |part: &str| {
        let part = part.replace('+', " ");
        percent_decode_str(&part).decode_utf8_lossy().into_owned()
    };
    let written = Some((id.to_owned(), secret.to_owned()));
    Some(Basic { id: decoded(id), secret: decoded(secret), written })
}

/// The principal with this id and secret.
///
/// # Errors
/// There is none. That counts as a failed authentication.
fn with_secret(
    request: &HttpRequest,
    state: &AppState,
    Basic { id, secret, written }: &Basic,
) -> Result<Arc<Principal>, Problem> {
    let find = |id: &str, secret: &str| {
        let principal = state.tokens.authenticate(secret.as_bytes());
        principal.filter(|principal| principal.id().as_str() == id)
    };
    let as_written = || written.as_ref().and_then(|(id, secret)| find(id, secret));
    find(id, secret).or_else(as_written).ok_or_else(|| failed(request, state, Problem::ClientWrong))
}

/// The client that authenticates by HTTP Basic, if one does. Beside a credential in another header
/// Basic is ignored: a proxy in front may use it for its own purposes.
///
/// # Errors
/// It is no principal. That counts as a failed authentication.
pub(in crate::http) fn client_of(
    request: &HttpRequest,
    state: &AppState,
) -> Result<Option<Arc<Principal>>, Problem> {
    if !matches!(presented(request, Places::Headers), Ok(None)) {
        return Ok(None);
    }
    let client = basic(request).map_err(|problem| failed(request, state, problem))?;
    client.map(|client| with_secret(request, state, &client)).transpose()
}

/// The client of a request for a token by its headers: HTTP Basic, or a credential as everywhere,
/// but not both (RFC 6749 §2.3). `None`: they have none.
pub(super) fn by_header(request: &HttpRequest, state: &AppState) -> Result<Option<Arc<Principal>>, Problem> {
    let header = presented(request, Places::Headers).map_err(|problem| failed(request, state, problem))?;
    let Some(header) = header else { return client_of(request, state) };
    if !matches!(basic(request), Ok(None)) {
        return Err(failed(request, state, Problem::CredentialsConflict));
    }
    let principal = holder(request, state, &header.value)?;
    principal.map(Some).ok_or_else(|| failed(request, state, Problem::CredentialWrong))
}

/// The client of a request, which its headers or its form name. A `client_id` alone is no
/// authentication.
pub(super) fn client(
    request: &HttpRequest,
    state: &AppState,
    by_header: Option<Arc<Principal>>,
    form: &Form,
) -> Result<Option<Arc<Principal>>, Problem> {
    let conflict = || failed(request, state, Problem::CredentialsConflict);
    match (form.get("client_id"), form.get("client_secret"), by_header) {
        (_, Some(_), Some(_)) => Err(conflict()),
        (Some(id), None, Some(client)) if id != client.id().as_str() => Err(conflict()),
        (_, None, client) => Ok(client),
        (id, Some(secret), None) => {
            let id = id.unwrap_or_default().to_owned();
            let client = Basic { id, secret: secret.to_owned(), written: None };
            with_secret(request, state, &client).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn basic_of(value: &str) -> Result<Option<(String, String)>, &'static str> {
        let request = TestRequest::default().insert_header(("Authorization", value)).to_http_request();
        let found = basic(&request).map_err(|problem| problem.code())?;
        Ok(found.map(|Basic { id, secret, .. }| (id, secret)))
    }

    fn encoded(text: &str) -> String {
        format!("bAsIC {}", STANDARD.encode(text))
    }

    #[test]
    fn id_and_secret_are_decoded_as_in_a_form() {
        for (text, id, secret) in [
            ("shop:secret", "shop", "secret"),
            ("shop:a:b", "shop", "a:b"),
            ("sh%6Fp:a%3Ab%2B+%25", "shop", "a:b+ %"),
            ("shop:100%", "shop", "100%"),
            ("shop:%zz%4", "shop", "%zz%4"),
            (":", "", ""),
        ] {
            assert_eq!(basic_of(&encoded(text)), Ok(Some((id.into(), secret.into()))), "{text}");
        }
        for other in ["Bearer x", "Basic", "x"] {
            assert_eq!(basic_of(other), Ok(None), "{other}");
        }
        for wrong in ["Basic !", "Basic c2hvcA==", "Basic /w=="] {
            assert_eq!(basic_of(wrong), Err("credential_wrong"), "{wrong}");
        }
    }

    #[test]
    fn two_clients_conflict() {
        let request = TestRequest::default()
            .append_header(("Authorization", encoded("a:b")))
            .append_header(("Authorization", encoded("a:b")));
        let problem = basic(&request.to_http_request()).err().map(|problem| problem.code());
        assert_eq!(problem, Some("credentials_conflict"));
    }

    proptest! {
        #[test]
        fn no_header_makes_parsing_panic(text in any::<Vec<u8>>(), raw in "[ -~]{0,40}") {
            let _ = read(STANDARD.encode(text).as_bytes());
            let _ = basic_of(&format!("Basic {raw}"));
        }
    }
}
