//! The cookie with a token, which opens the stream of an `EventSource` without a token in its URL.
//!
//! Only the stream reads it, so that no other call can be made in the name of a user by a page that
//! does not know a credential (CSRF).

use actix_web::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::AppState;
use super::error::{Problem, ProblemBody};
use super::extract::{self, members, only_parameters, query_values, refused};
use super::problem_docs::{Proxied, ReadsBody};
use crate::clock::UnixMillis;
use crate::service::Issued;

/// Name of the cookie. A browser keeps a cookie with this prefix only if it was set over TLS by the
/// same host, without `Domain` and for all paths (RFC 6265bis §4.1.3.2).
pub(super) const NAME: &str = "__Host-vx11-stream";
/// Query parameter of issuing that asks for the cookie.
pub(super) const PARAMETER: &str = "cookie";

/// Set the cookie that opens the stream.
///
/// For a page whose backend issues its tokens: the page sends the token in a header, and its
/// `EventSource` then needs none in the URL. The cookie lives as long as the token.
#[utoipa::path(
    post, path = "/operator/api/events/cookie", tag = "events", security(("bearer" = []), ("principal" = [])),
    responses(
        (status = 204, description = "The cookie is set", headers(
            ("Set-Cookie" = String, description = "The token as a cookie"),
        )),
        Proxied, ReadsBody,
        (status = 400, description = "Credentials that disagree (credentials_conflict), a query parameter or a field, of which this call has none (unknown_parameter), or a body that is no JSON object (bad_request)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The token is not valid (token_refused); also the credential of a principal", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, Problem> {
    let (token, verified) = extract::token(&request, &state)?;
    only_parameters(&request, &[])?;
    members(&request, payload, state.body_timeout).await?.only(&[], "this call takes no fields")?;
    let granted = state.tokens.authorise(&verified).await;
    let granted = granted.map_err(|refusal| refused(&request, &state, refusal))?;
    Ok(HttpResponse::NoContent()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((SET_COOKIE, cookie(&state, &token, granted.expires_at)?))
        .finish())
}

/// Whether issuing is asked for the cookie, too.
pub(super) fn is_asked_for(request: &HttpRequest) -> Result<bool, Problem> {
    let values: Vec<_> = query_values(request, PARAMETER).collect();
    match values.as_slice() {
        [] => Ok(false),
        [value] if value == "1" => Ok(true),
        _ => Err(Problem::bad_request("cookie has to be given once, as 1")),
    }
}

/// The cookie of a token that was just issued.
pub(super) fn of_issued(state: &AppState, issued: &Issued) -> Result<HeaderValue, Problem> {
    let end = issued.grant.as_ref().and_then(|grant| grant.stream_until);
    let expires_at = end.map_or(issued.expires_at, |end| end.min(issued.expires_at));
    cookie(state, &issued.text, expires_at)
}

fn cookie(state: &AppState, token: &str, expires_at: UnixMillis) -> Result<HeaderValue, Problem> {
    let text = written(token, expires_at, state.clock.now(), state.cookie_for_other_sites);
    let mut value = HeaderValue::try_from(text).map_err(|error| {
        tracing::error!(%error, "a token cannot be written as a cookie");
        Problem::Internal
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The value of `Set-Cookie`. The rest of a second counts as one, because a browser removes a
/// cookie with `Max-Age=0`.
fn written(token: &str, expires_at: UnixMillis, now: UnixMillis, for_other_sites: bool) -> String {
    let same_site = if for_other_sites { "None; Partitioned" } else { "Strict" };
    let seconds = expires_at.0.saturating_sub(now.0).div_ceil(1000).max(1);
    format!("{NAME}={token}; Secure; HttpOnly; SameSite={same_site}; Path=/; Max-Age={seconds}")
}

/// The value of the cookie; `None` if there is none, or an empty one. The first one counts. A
/// browser has two of this name only for a while after `http.cookie_same_site` has changed, and
/// sends the older one first (RFC 6265 §5.4).
pub(super) fn token(request: &HttpRequest) -> Option<&[u8]> {
    let pairs =
        request.headers().get_all(COOKIE).flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let mut values =
        pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(NAME.as_bytes())?.strip_prefix(b"="));
    values.next().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn found(headers: &[&str]) -> Option<String> {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.append_header((COOKIE, *header));
        }
        token(&request.to_http_request()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_first_cookie_of_the_name_counts_among_all_headers() {
        for (headers, expected) in [
            (&["__Host-vx11-stream=a"][..], Some("a")),
            (&["x=1; __Host-vx11-stream=a; y=2"], Some("a")),
            (&["x=1;__Host-vx11-stream=a"], Some("a")),
            (&["__Host-vx11-stream=a; __Host-vx11-stream=b"], Some("a")),
            (&["x=1", "__Host-vx11-stream=a", "__Host-vx11-stream=b"], Some("a")),
            (&["__Host-vx11-stream=a=b"], Some("a=b")),
            (&["__Host-vx11-stream="], None),
            (&["__Host-vx11-stream"], None),
            (&["__host-vx11-stream=a"], None),
            (&["vx11-stream=a; x__Host-vx11-stream=a; __Host-vx11-streams=a"], None),
            (&["x=__Host-vx11-stream=a"], None),
            (&[], None),
        ] {
            assert_eq!(found(headers).as_deref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_cookie_lives_as_long_as_the_token_and_at_least_a_second() {
        for (left, seconds) in [(60_000, 60), (59_001, 60), (59_000, 59), (1, 1), (0, 1)] {
            let cookie = written("t", UnixMillis(1_000_000 + left), UnixMillis(1_000_000), false);
            assert!(cookie.ends_with(&format!("; Max-Age={seconds}")), "{cookie}");
        }
        let cookie = written("t", UnixMillis(0), UnixMillis(9), false);
        assert!(cookie.ends_with("; Max-Age=1"), "the token has expired meanwhile: {cookie}");
    }

    #[test]
    fn a_browser_sends_the_cookie_of_this_host_over_tls_and_from_other_sites_if_configured() {
        let cookie = |for_other_sites| written("t", UnixMillis(60_000), UnixMillis(0), for_other_sites);
        let strict = "__Host-vx11-stream=t; Secure; HttpOnly; SameSite=Strict; Path=/; Max-Age=60";
        assert_eq!(cookie(false), strict);
        assert_eq!(cookie(true), strict.replace("SameSite=Strict", "SameSite=None; Partitioned"));
    }

    proptest! {
        #[test]
        fn a_token_is_found_among_any_other_cookies(
            before in "([a-zA-Z_-]{1,9}=[!#-+./-:<-~-]{0,9}; ?){0,3}",
            token in "[0-9a-f.A-Z_-]{1,40}",
            after in "(; ?[ -~\u{80}-\u{ff}]{0,20}){0,3}",
        ) {
            let header = [before.as_bytes(), NAME.as_bytes(), b"=", token.as_bytes(), &after.chars().map(|c| c as u8).collect::<Vec<_>>()].concat();
            let value = HeaderValue::from_bytes(&header).unwrap();
            let request = TestRequest::default().insert_header((COOKIE, value)).to_http_request();
            prop_assert_eq!(super::token(&request), Some(token.as_bytes()));
        }
    }
}
