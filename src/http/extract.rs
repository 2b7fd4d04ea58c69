//! Extraction from requests: credentials, body, client address. No error repeats input, except the
//! plain name of an unknown parameter and topics that are not permitted.
//!
//! A credential is checked for the right that the table of URLs demands, here and nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpMessage, HttpRequest};
use ipnet::IpNet;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::AppState;
use super::error::Problem;
use super::permission::{has_right, not_permitted};
use super::routes::{Caller, Callers};
use crate::audit::{Act, Asker};
use crate::limits::LARGEST_BODY;
use crate::principal::{Principal, Right};
use crate::service::Refusal;
use crate::telemetry::RequestId;
use crate::token::{Verified, is_token_shaped};

const X_VX11_TOKEN: HeaderName = HeaderName::from_static("x-vx11-token");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Longest name of an unknown parameter that an error repeats: shorter than a token (with or
/// without hyphens) and than a strong credential.
const LONGEST_SHOWN_NAME: usize = 24;
const FORM_OR_JSON: &str = "application/x-www-form-urlencoded or application/json";

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
    let Some(Caller::Principal(right)) = Callers::of(request) else { return Err(not_in_the_table()) };
    let presented = presented(request, Places::Headers).map_err(|problem| failed(request, state, problem))?;
    let credential = presented.ok_or(Problem::CredentialMissing)?;
    let principal = state.tokens.authenticate(&credential.value);
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
    if let Some(principal) = state.tokens.authenticate(&credential.value) {
        if credential.in_query && !state.principal_in_query {
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
    let verified = state.tokens.verify(text).map_err(|refusal| failed(request, state, refusal.into()))?;
    Ok((Bearer::Token(verified), shown))
}

/// The problem of a failed authentication, or 429 if the client's address has caused too many. A
/// store that is unavailable is no failure of the client.
pub(super) fn failed(request: &HttpRequest, state: &AppState, problem: Problem) -> Problem {
    if matches!(problem, Problem::StoreUnavailable) {
        return problem;
    }
    if matches!(problem, Problem::CredentialWrong | Problem::PrincipalInQuery) {
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
    let extensions = request.extensions();
    let client = client_address(request, &state.trusted_proxies);
    state.audit.note(act, Asker { client, request_id: extensions.get::<RequestId>() });
}

/// The client's address: the peer's, or the one that trusted proxies report. From the right, it is
/// the first address in `X-Forwarded-For` that is not a trusted proxy's. Anybody may have written
/// the addresses left of it.
pub(super) fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer_address(request.peer_addr());
    if !is_trusted(&peer) {
        return peer;
    }
    let mut client = peer;
    let headers: Vec<_> =
        request.headers().get_all(X_FORWARDED_FOR).filter_map(|value| value.to_str().ok()).collect();
    for hop in headers.iter().rev().flat_map(|header| header.rsplit(',')) {
        match hop_address(hop.trim()) {
            Some(address) if is_trusted(&address) => client = address,
            Some(address) => return address,
            None => break,
        }
    }
    client
}

/// Parses an address in `X-Forwarded-For`. Some proxies add the port, `192.0.2.1:5678` or
/// `[2001:db8::1]:5678`, or only brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The peer's address. A socket that listens on `[::]` reports IPv4 addresses as
/// `::ffff:192.0.2.1`.
pub(super) fn peer_address(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

/// Parses a JSON body.
pub(super) async fn json_body(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    if !is_json(request) {
        return Err(Problem::UnsupportedMediaType("application/json"));
    }
    read_body(request, payload, timeout).await
}

/// Parses a body as form or JSON.
pub(super) async fn form_or_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
    expected: &'static str,
) -> Result<T, Problem> {
    let json = is_json(request);
    if !json && !is_form(request) {
        return Err(Problem::UnsupportedMediaType(FORM_OR_JSON));
    }
    let body = read_body(request, payload, timeout).await?;
    let parsed = if json { from_json(&body) } else { from_form(&body) };
    parsed.ok_or(Problem::BadRequest(Cow::Borrowed(expected)))
}

/// The members of a JSON object, in their order.
#[derive(Default)]
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a member.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Refuses a member that is not `known`, or a second one of the same name. Ignoring it would
    /// look like granting it. `taken` says what the call takes.
    pub(super) fn only(&self, known: &[&str], taken: &str) -> Result<(), Problem> {
        let names = || self.0.iter().map(|(name, _)| name.as_str());
        if let Some(name) = names().filter(|name| !known.contains(name)).min() {
            return Err(unknown(name, taken));
        }
        let twice = known.iter().find(|known| names().filter(|name| name == *known).count() > 1);
        twice.map_or(Ok(()), |name| Err(Problem::bad_request(format!("{name} occurs more than once"))))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The members of a body that is a JSON object. Some clients always send a body, of any type; one
/// without fields has no members. A form with a field is refused.
pub(super) async fn members(
    request: &HttpRequest,
    payload: Payload,
    timeout: Duration,
) -> Result<Members, Problem> {
    let body = read_body(request, payload, timeout).await?;
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" {
        return Ok(Members::default());
    }
    if is_json(request) || is_object(body) {
        return from_json(body).ok_or(Problem::bad_request("the body is not a JSON object"));
    }
    if !is_form(request) {
        return Err(Problem::UnsupportedMediaType("application/json"));
    }
    let fields: Option<Vec<(String, IgnoredAny)>> = from_form(body);
    let fields = fields.ok_or(Problem::bad_request("the body is neither a JSON object nor an empty form"))?;
    fields.first().map_or(Ok(Members::default()), |(name, _)| {
        Err(unknown(name, "this call takes fields in a JSON object only"))
    })
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    is_object(body).then(|| serde_json::from_slice(body).ok())?
}

fn from_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_urlencoded::from_bytes(body).ok()
}

/// Whether a JSON text is an object. The deserialiser would also accept a list as the members in
/// order.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Media types are case-insensitive (RFC 9110 §8.3.1).
fn is_json(request: &HttpRequest) -> bool {
    let content_type = request.content_type().to_ascii_lowercase();
    content_type == "application/json" || content_type.ends_with("+json")
}

fn is_form(request: &HttpRequest) -> bool {
    let content_type = request.content_type();
    content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

async fn read_body(request: &HttpRequest, payload: Payload, timeout: Duration) -> Result<Bytes, Problem> {
    let declared =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > LARGEST_BODY) {
        return Err(Problem::BodyTooLarge);
    }
    match tokio::time::timeout(timeout, payload.to_bytes_limited(LARGEST_BODY)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(_))) => {
            Err(Problem::bad_request("the request body broke off or is not encoded as announced"))
        }
        Ok(Err(_)) => Err(Problem::BodyTooLarge),
        Err(_) => Err(Problem::BodyTimeout),
    }
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

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_peers_only() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let address = |peer: &str, forwarded: &str| {
            let peer: IpAddr = peer.parse().unwrap();
            let request = TestRequest::default()
                .peer_addr((peer, 1).into())
                .insert_header(("X-Forwarded-For", forwarded))
                .to_http_request();
            client_address(&request, &trusted).to_string()
        };
        assert_eq!(address("192.0.2.1", "198.51.100.1"), "192.0.2.1");
        assert_eq!(address("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "nonsense"), "10.0.0.1");
        // With ports, as of some proxies.
        assert_eq!(address("10.0.0.1", "203.0.113.9, 198.51.100.1:5678, 10.0.0.2:80"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "[2001:db8::1]:5678, 10.0.0.2"), "2001:db8::1");
        assert_eq!(address("10.0.0.1", "[2001:db8::1],10.0.0.2"), "2001:db8::1");
        assert_eq!(address("10.0.0.1", "[::ffff:198.51.100.1]:1, 10.0.0.2"), "198.51.100.1");
        for nonsense in ["198.51.100.1:", "198.51.100.1:65536", "2001:db8::1]:1", "[2001:db8::1", "[]", ":1"]
        {
            assert_eq!(address("10.0.0.1", &format!("{nonsense}, 10.0.0.2")), "10.0.0.2", "{nonsense}");
        }
        // As a socket on [::] reports them.
        assert_eq!(address("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(address("::ffff:192.0.2.1", "198.51.100.1"), "192.0.2.1");
        assert_eq!(address("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2"), "198.51.100.1");
    }

    /// Like the bodies of revocation and introspection.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Parameter {
        token: Option<String>,
        token_id: Option<String>,
    }

    fn forwarded(peer: IpAddr, headers: &[Vec<u8>]) -> IpAddr {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut request = TestRequest::default().peer_addr((peer, 1).into());
        for header in headers {
            if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(header) {
                request = request.append_header((X_FORWARDED_FOR, value));
            }
        }
        client_address(&request.to_http_request(), &trusted)
    }

    fn trusted_hop() -> impl Strategy<Value = IpAddr> {
        let mapped = |last: u8| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d])),
            any::<u16>().prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
            any::<u8>().prop_map(move |last| IpAddr::from(mapped(last))),
        ]
    }

    fn stranger() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|last| IpAddr::from([198, 51, 100, last])),
            any::<u16>().prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
        ]
    }

    proptest! {
        #[test]
        fn a_parameter_survives_both_encodings(token: Option<String>, token_id: Option<String>) {
            let parameter = Parameter { token, token_id };
            let form = serde_urlencoded::to_string(&parameter).unwrap();
            prop_assert_eq!(from_form(form.as_bytes()), Some(parameter.clone()));
            let json = serde_json::to_vec(&parameter).unwrap();
            prop_assert_eq!(from_json(&json), Some(parameter));
        }

        #[test]
        fn no_body_makes_a_parameter_panic_and_only_objects_are_read_as_json(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            text in r#"[\[\]{}",:=&%+a-f0-9\\ ]{0,60}|\{"token(_id)?": ?[\[{"a-z0-9,:\\]{0,20}\}?"#,
        ) {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let _ = from_form::<Parameter>(body);
                if from_json::<Parameter>(body).is_some() {
                    let ends = (body.trim_ascii().first(), body.trim_ascii().last());
                    prop_assert_eq!(ends, (Some(&b'{'), Some(&b'}')));
                }
            }
        }

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
        fn a_stranger_is_itself_whatever_it_says_of_others(peer in stranger(), headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3)) {
            prop_assert_eq!(forwarded(peer, &headers), peer);
        }

        #[test]
        fn behind_trusted_proxies_the_client_is_the_first_stranger_from_the_right(
            peer in trusted_hop(),
            lies in "[ -~]{0,40}",
            client in stranger(),
            hops in prop::collection::vec(trusted_hop(), 0..4),
            split in any::<bool>(),
            ports in any::<bool>(),
        ) {
            let written = |address: &IpAddr| {
                if ports { SocketAddr::from((*address, 5678)).to_string() } else { address.to_string() }
            };
            let proxies: Vec<_> = hops.iter().map(|hop| format!(" ,{} ", written(hop))).collect();
            let proxies = proxies.concat();
            let headers = if split {
                vec![format!("{lies},{}", written(&client)).into_bytes(), proxies.trim_start_matches(" ,").into()]
            } else {
                vec![format!("{lies},{}{proxies}", written(&client)).into_bytes()]
            };
            let headers: Vec<_> = headers.into_iter().filter(|header: &Vec<u8>| !header.is_empty()).collect();
            prop_assert_eq!(forwarded(peer, &headers), client);
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
