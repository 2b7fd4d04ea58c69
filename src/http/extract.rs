//! Extraction from requests: credentials, body, client address. No error repeats input, except the
//! plain name of an unknown parameter and topics that are not permitted.
//!
//! A credential is checked for the right that the table of URLs demands, here and nowhere else.

mod address;
mod body;

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};

pub(super) use self::address::{client_address, peer_address};
pub(super) use self::body::{Members, form_or_json, is_form, is_object, json_body, members, read_body};
use super::AppState;
use super::cookie;
use super::error::Problem;
use super::jwt::{acting_user, holder};
use super::oauth::client_of;
use super::permission::{has_right, not_permitted};
use super::routes::{Caller, Callers};
use crate::audit::{Act, Asker};
use crate::principal::{Principal, Right};
use crate::service::Refusal;
use crate::telemetry::RequestId;
use crate::token::{Verified, is_token_shaped};

const X_VX11_TOKEN: HeaderName = HeaderName::from_static("x-vx11-token");
/// Longest name of an unknown parameter that an error repeats: shorter than a token (with or
/// without hyphens) and than a strong credential.
const LONGEST_SHOWN_NAME: usize = 24;

/// A credential that was not checked yet.
#[derive(Debug)]
pub(super) struct Presented {
    /// Bytes of the credential; a header may contain anything but control characters.
    pub(super) value: Vec<u8>,
    /// In a header.
    pub(super) in_header: bool,
    /// In `?token=`, alone or in addition to a header.
    pub(super) in_query: bool,
}

/// Places in which a credential is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// In `X-VX11-Token` or `Authorization: Bearer`.
    Headers,
    /// In a header or in `?token=`, because a browser cannot put a header on an `EventSource`.
    HeadersAndQuery,
}

/// The credential of a request, if there is one. The same credential twice counts as one.
pub(super) fn presented(request: &HttpRequest, places: Places) -> Result<Option<Presented>, Problem> {
    let headers = request.headers();
    let own = headers.get_all(X_VX11_TOKEN).map(HeaderValue::as_bytes);
    let bearers = headers.get_all(AUTHORIZATION).filter_map(|value| bearer(value.as_bytes()));
    let in_headers =
        own.chain(bearers).map(|value| Presented { value: value.to_vec(), in_header: true, in_query: false });
    let parameter = (places == Places::HeadersAndQuery).then(|| query_values(request, "token"));
    let in_query = parameter.into_iter().flatten();
    let in_query =
        in_query.map(|value| Presented { value: value.into_bytes(), in_header: false, in_query: true });

    let mut found: Option<Presented> = None;
    for candidate in in_headers.chain(in_query).filter(|candidate| !candidate.value.is_empty()) {
        match &mut found {
            None => found = Some(candidate),
            Some(first) if first.value == candidate.value => first.in_query |= candidate.in_query,
            Some(_) => return Err(Problem::CredentialsConflict),
        }
    }
    Ok(found)
}

/// The credential of an `Authorization` header with the scheme Bearer (RFC 6750 §2.1), which is
/// case-insensitive (RFC 9110 §11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, credential) = header.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| credential.trim_ascii())
}

/// All values of a query parameter, percent-decoded.
pub(super) fn query_values(request: &HttpRequest, name: &'static str) -> impl Iterator<Item = String> {
    query_pairs(request).filter(move |(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The parameters of a query, percent-decoded. Every text is a query (WHATWG URL §5.1): bytes that
/// are no UTF-8 become U+FFFD, which no parameter takes. No query therefore counts as one without
/// parameters because it cannot be parsed.
fn query_pairs(request: &HttpRequest) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(request.query_string().as_bytes())
}

/// Refuses a query parameter that is not `known`. Ignoring it would look like granting it.
pub(super) fn only_parameters(request: &HttpRequest, known: &[&str]) -> Result<(), Problem> {
    let mut names = query_pairs(request).map(|(name, _)| name);
    let Some(name) = names.find(|name| !known.contains(&name.as_ref())) else { return Ok(()) };
    let taken = if known.is_empty() {
        "this call takes no query parameters".to_owned()
    } else {
        format!("this call takes the query parameters {}", known.join(", "))
    };
    Err(unknown(&name, &taken))
}

/// Repeats the name of an unknown parameter if it is a plain name that is no token or credential.
fn unknown(name: &str, taken: &str) -> Problem {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    let is_shown = (1..=LONGEST_SHOWN_NAME).contains(&name.len()) && name.bytes().all(is_plain);
    let what =
        if is_shown { format!("`{name}`") } else { "a parameter that is not repeated here".to_owned() };
    Problem::UnknownParameter(format!("{what} is unknown; {taken}"))
}

/// The principal whose credential is in a header, with the right that the call needs. Failures of
/// authentication count against the limit of the client's address. Two different credentials count
/// as a failure: nginx may have seen only the first and taken it for a backend's.
pub(super) fn principal(request: &HttpRequest, state: &AppState) -> Result<Arc<Principal>, Problem> {
    let (right, may_be_client) = match Callers::of(request) {
        Some(Caller::Principal(right)) => (right, false),
        Some(Caller::Client(right)) => (right, true),
        _ => return Err(not_in_the_table()),
    };
    if may_be_client && let Some(client) = client_of(request, state)? {
        return permit(request, state, client, right);
    }
    let presented = presented(request, Places::Headers).map_err(|problem| failed(request, state, problem))?;
    let credential = presented.ok_or(Problem::CredentialMissing)?;
    let principal = holder(request, state, &credential.value)?;
    let principal = principal.ok_or_else(|| failed(request, state, Problem::CredentialWrong))?;
    permit(request, state, principal, right)
}

/// A handler asks for another kind of caller than the table of URLs names.
fn not_in_the_table() -> Problem {
    tracing::error!("a handler authenticates a caller that the table of URLs does not name");
    Problem::Internal
}

/// Returns the principal if it has the right.
fn permit(
    request: &HttpRequest,
    state: &AppState,
    principal: Arc<Principal>,
    right: Right,
) -> Result<Arc<Principal>, Problem> {
    match has_right(&principal, right) {
        Ok(()) => Ok(principal),
        Err(lack) => Err(not_permitted(request, state, principal.id(), None, right, lack)),
    }
}

/// Holder of a credential, on a path that accepts principals and tokens. A token is verified
/// without asking the store.
pub(super) enum Bearer {
    /// A principal with the right that the call needs.
    Principal(Arc<Principal>),
    /// The holder of a token.
    Token(Verified),
}

/// The holder of the credential in a header or `?token=`. Failures of authentication count against
/// the limit of the client's address.
pub(super) fn credential(request: &HttpRequest, state: &AppState) -> Result<(Bearer, &'static str), Problem> {
    let Some(Caller::TokenOr(right)) = Callers::of(request) else { return Err(not_in_the_table()) };
    let credential = presented(request, Places::HeadersAndQuery)?.ok_or(Problem::StreamTokenMissing)?;
    let shown = if credential.in_query { "?token=***" } else { "header" };
    if let Some(principal) = holder(request, state, &credential.value)? {
        // The URL of a page would keep a JWT, which opens more than this service.
        let may_be_in_query = state.principal_in_query && principal.user().is_none();
        if credential.in_query && !may_be_in_query {
            tracing::info!(principal = %principal.id(), "credential refused in the URL");
            state.metrics.token_refused(Refusal::PrincipalInQuery);
            return Err(failed(request, state, Problem::PrincipalInQuery));
        }
        return Ok((Bearer::Principal(permit(request, state, principal, right)?), shown));
    }
    let text = std::str::from_utf8(&credential.value).unwrap_or_default();
    if credential.in_header && !is_token_shaped(text) {
        return Err(failed(request, state, Problem::CredentialWrong));
    }
    Ok((Bearer::Token(verified(request, state, &credential.value)?), shown))
}

/// The holder of the credential of a request for a stream. Only here a cookie counts, and only
/// without a credential in a header or in `?token=`. It never contains a principal's credential.
pub(super) fn stream_credential(
    request: &HttpRequest,
    state: &AppState,
) -> Result<(Bearer, &'static str), Problem> {
    match cookie::token(request) {
        Some(token) if presented(request, Places::HeadersAndQuery)?.is_none() => {
            Ok((Bearer::Token(verified(request, state, token)?), "cookie"))
        }
        _ => credential(request, state),
    }
}

/// The token in a header, as text and verified, on a path that accepts nothing else.
pub(super) fn token(request: &HttpRequest, state: &AppState) -> Result<(String, Verified), Problem> {
    let Some(Caller::Token) = Callers::of(request) else { return Err(not_in_the_table()) };
    let presented = presented(request, Places::Headers)?.ok_or(Problem::StreamTokenMissing)?;
    let verified = verified(request, state, &presented.value)?;
    Ok((String::from_utf8(presented.value).unwrap_or_default(), verified))
}

/// Verifies a token without asking the store. A text of another form is a malformed token.
fn verified(request: &HttpRequest, state: &AppState, token: &[u8]) -> Result<Verified, Problem> {
    let text = std::str::from_utf8(token).unwrap_or_default();
    state.tokens.verify(text).map_err(|refusal| refused(request, state, refusal))
}

/// The problem of a token that is refused. Some refusals prove that the token is genuine, or say
/// nothing about it: these are no failed authentications. Otherwise a page that repeats its request
/// would lock out all other users of its address.
pub(super) fn refused(request: &HttpRequest, state: &AppState, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Used | Refusal::Blocked | Refusal::Unproven => refusal.into(),
        _ => failed(request, state, refusal.into()),
    }
}

/// The problem of a failed authentication, or 429 if the client's address has caused too many. An
/// issuer that is unavailable is no failure of the client.
pub(super) fn failed(request: &HttpRequest, state: &AppState, problem: Problem) -> Problem {
    if matches!(problem, Problem::IssuerUnavailable) {
        return problem;
    }
    if matches!(
        problem,
        Problem::CredentialWrong | Problem::ClientWrong | Problem::JwtRefused(_) | Problem::PrincipalInQuery
    ) {
        audit_event(request, state, Act::RefusePrincipal { code: problem.code() });
    }
    let client = client_address(request, &state.trusted_proxies);
    state.limits.failed_auth(client).err().map_or(problem, |retry_after| Problem::RateLimited { retry_after })
}

/// Writes an act of this request's client to the audit trail.
pub(super) fn audit_event(request: &HttpRequest, state: &AppState, act: Act<'_>) {
    // Without an audit trail the client's address is not needed.
    if !state.audit.is_kept() {
        return;
    }
    let user = acting_user(request, state);
    let extensions = request.extensions();
    let client = client_address(request, &state.trusted_proxies);
    let asker = Asker { client, request_id: extensions.get::<RequestId>(), user: user.as_deref() };
    state.audit.note(act, asker);
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn found(request: TestRequest, places: Places) -> Result<Option<(String, bool)>, &'static str> {
        presented(&request.to_http_request(), places)
            .map(|found| found.map(|it| (String::from_utf8_lossy(&it.value).into_owned(), it.in_query)))
            .map_err(|problem| problem.code())
    }

    #[test]
    fn the_same_credential_twice_is_one_and_different_ones_conflict() {
        let both = |a: &str, b: &str| {
            TestRequest::default()
                .insert_header(("X-VX11-Token", a))
                .insert_header(("Authorization", format!("bEARER {b}")))
        };
        assert_eq!(found(both("a", "a"), Places::Headers), Ok(Some(("a".into(), false))));
        assert_eq!(found(both("a", "b"), Places::Headers), Err("credentials_conflict"));
        let doubled =
            TestRequest::default().append_header(("X-VX11-Token", "a")).append_header(("X-VX11-Token", "b"));
        assert_eq!(found(doubled, Places::Headers), Err("credentials_conflict"));
    }

    #[test]
    fn the_query_counts_only_where_it_may() {
        let request = || TestRequest::with_uri("/?token=a%20b&other=c");
        assert_eq!(found(request(), Places::HeadersAndQuery), Ok(Some(("a b".into(), true))));
        assert_eq!(found(request(), Places::Headers), Ok(None));
        let twice = TestRequest::with_uri("/?token=a&token=b");
        assert_eq!(found(twice, Places::HeadersAndQuery), Err("credentials_conflict"));
    }

    #[test]
    fn no_query_counts_as_one_without_parameters_because_of_its_encoding() {
        for query in ["token=%FF&x=1", "%FF=1", "x=%", "x=%zz", "&&x", "=", "x%00"] {
            let request = TestRequest::with_uri(&format!("/?{query}")).to_http_request();
            assert!(only_parameters(&request, &["token"]).is_err(), "{query}");
        }
        let request = TestRequest::with_uri("/?token=%FF").to_http_request();
        assert_eq!(query_values(&request, "token").collect::<Vec<_>>(), ["\u{fffd}"]);
    }

    #[test]
    fn empty_credentials_and_other_schemes_are_none() {
        let request = TestRequest::with_uri("/?token=")
            .insert_header(("X-VX11-Token", ""))
            .insert_header(("Authorization", "Basic YTpi"));
        assert_eq!(found(request, Places::HeadersAndQuery), Ok(None));
    }

    proptest! {
        #[test]
        fn a_bearer_credential_is_what_follows_the_scheme_in_any_case(
            scheme in "[bB][eE][aA][rR][eE][rR]",
            blanks in " {0,3}",
            credential in "[!-~]{1,40}",
        ) {
            let header = format!("{scheme} {blanks}{credential}{blanks}");
            prop_assert_eq!(bearer(header.as_bytes()), Some(credential.as_bytes()));
        }

        #[test]
        fn anything_else_in_an_authorization_header_is_no_bearer_credential(header in prop::collection::vec(any::<u8>(), 0..20)) {
            let looks_like_one = header.to_ascii_lowercase().starts_with(b"bearer ");
            prop_assert_eq!(bearer(&header).is_some(), looks_like_one);
        }

        #[test]
        fn no_query_or_header_makes_extraction_panic(query in "[ -~]{0,80}", header in "[ -~\u{80}-\u{ff}]{0,40}") {
            let uri: String = query.chars().filter(char::is_ascii_graphic).collect();
            if let Ok(uri) = format!("/?{uri}").parse::<actix_web::http::Uri>() {
                let header: Vec<u8> = header.chars().map(|c| c as u8).collect();
                if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(&header) {
                    let request = TestRequest::with_uri(&uri.to_string())
                        .insert_header((AUTHORIZATION, value.clone()))
                        .insert_header((X_VX11_TOKEN, value))
                        .to_http_request();
                    let _ = presented(&request, Places::HeadersAndQuery);
                }
            }
        }
    }
}
