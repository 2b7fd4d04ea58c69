//! Problems in `/openapi.json`: groups that several calls have in common.
//!
//! A call names its groups in `responses(…)`, and after them its own problems. A test compares the
//! document with the answers of a real instance.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

/// Problems of every call through the shipped nginx, which also answers these itself.
pub(super) struct Proxied;

impl IntoResponses for Proxied {
    fn responses() -> Described {
        described(&[
            (429, "Too many requests or failures of this client; wait for Retry-After"),
            (503, "The service cannot answer at present; wait for Retry-After"),
        ])
    }
}

/// Problems of every call that needs a principal.
pub(super) struct NeedsPrincipal;

impl IntoResponses for NeedsPrincipal {
    fn responses() -> Described {
        described(&[
            (400, "The credentials disagree (credentials_conflict)"),
            (401, "No credential, not that of a known principal, or a JWT that is refused"),
            (403, "The principal lacks the right for this call, or a topic (not_permitted)"),
        ])
    }
}

/// Problems of every call that reads a body.
pub(super) struct ReadsBody;

impl IntoResponses for ReadsBody {
    fn responses() -> Described {
        described(&[
            (408, "The body did not arrive in time"),
            (413, "The body is larger than 64 KiB"),
            (415, "The body has another type; the detail names the accepted types"),
        ])
    }
}

/// Problems of issuing, by either method.
pub(super) struct Issuing;

impl IntoResponses for Issuing {
    fn responses() -> Described {
        let mut all = NeedsPrincipal::responses();
        all.extend(ReadsBody::responses());
        all.extend(Proxied::responses());
        all.extend(described(&[
            (
                400,
                "An unknown field, or a query parameter, of which this call has none (unknown_parameter), a bad value, \
                 a body that is no JSON object, or a grant that is too long (bad_request), or credentials that \
                 disagree (credentials_conflict)",
            ),
            (
                403,
                "The principal lacks the right for this call, or a topic (not_permitted), or the subject is blocked \
                 (subject_blocked)",
            ),
            (503, "No further token can be recorded at present; wait for Retry-After"),
        ]));
        all
    }
}

/// Problems of orders about subjects and streams.
pub(super) struct Controlling;

impl IntoResponses for Controlling {
    fn responses() -> Described {
        let mut all = NeedsPrincipal::responses();
        all.extend(ReadsBody::responses());
        all.extend(Proxied::responses());
        all.extend(described(&[
            (
                400,
                "An unknown field, or a query parameter, of which this call has none (unknown_parameter), a bad or \
                 missing value, or a body that is no JSON object (bad_request), or credentials that disagree \
                 (credentials_conflict)",
            ),
            (503, "The order cannot be remembered at present; wait for Retry-After"),
        ]));
        all
    }
}

type Described = BTreeMap<String, RefOr<Response>>;

fn described(problems: &[(u16, &str)]) -> Described {
    let problem = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody"))).build();
        ResponseBuilder::new().description(description).content("application/problem+json", content).build()
    };
    problems.iter().map(|(status, description)| (status.to_string(), problem(description).into())).collect()
}
