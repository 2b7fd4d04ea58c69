//! Unknown variables with the client's prefix: a misspelt one could send an event to another
//! service.

use std::collections::HashMap;

/// The variables of a client.
const VARIABLES: [&str; 4] =
    ["VX11_OPERATOR_URL", "VX11_OPERATOR_CA", "VX11_PRINCIPAL_TOKEN", "VX11_PRINCIPAL_TOKEN_FILE"];
/// Variables with our other prefixes belong to the service.
const PREFIX: &str = "VX11_";
/// Bound of the wrong characters of a misspelt name.
const SLIP: usize = 3;

/// Refuses unknown variables: those that neither the service nor a client reads. Variables of the
/// service are allowed, because environment files are often shared, and so are those that
/// Kubernetes sets for a Service named `vx11-operator`.
pub(super) fn check(environment: &HashMap<String, String>, unknown: &[&str]) -> Result<(), String> {
    let unknown = unknown.iter().copied().filter(|name| name.starts_with(PREFIX));
    let doubled = environment.keys().map(String::as_str).filter(|name| is_doubled(name));
    let mut complaints: Vec<_> =
        unknown.filter(|name| !is_service_link(name)).chain(doubled).map(complaint).collect();
    complaints.sort_unstable();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n  ")) }
}

/// A variable of the client with `__`, as in the service's long names.
fn is_doubled(name: &str) -> bool {
    name.contains("__") && VARIABLES.contains(&name.replace("__", "_").as_str())
}

/// A variable that Kubernetes sets in every pod for a Service, such as
/// `VX11_OPERATOR_PORT_8001_TCP`.
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("VX11_OPERATOR_") else { return false };
    rest == "SERVICE_HOST" || rest == "PORT" || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT_")
}

fn complaint(name: &str) -> String {
    let by_distance = VARIABLES.map(|known| (strsim::osa_distance(name, known), known));
    match by_distance.into_iter().min() {
        Some((wrong, known)) if wrong <= SLIP => format!("{name}: unknown variable; did you mean {known}?"),
        _ => format!("{name}: unknown variable; a client reads {}", VARIABLES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Result for a variable that the service does not know.
    fn complaints(name: &str) -> Result<(), String> {
        check(&HashMap::from([(name.to_owned(), "x".to_owned())]), &[name])
    }

    #[test]
    fn a_slip_is_refused_with_the_name_that_was_meant() {
        let meant = |name: &str| format!("{name}: unknown variable; did you mean VX11_OPERATOR_URL?");
        assert_eq!(complaints("VX11_OPERATOR_URI"), Err(meant("VX11_OPERATOR_URI")));
        // The service counts this form among its long names.
        let doubled = "VX11_OPERATOR__URL".to_owned();
        let complaint = meant(&doubled);
        assert_eq!(check(&HashMap::from([(doubled, "x".to_owned())]), &[]), Err(complaint));
    }

    #[test]
    fn variables_of_a_kubernetes_service_and_with_other_prefixes_are_passed_over() {
        for name in [
            "EPHEMERAL_TOKEN_TTL",
            "VX11_OPERATOR_SERVICE_HOST",
            "VX11_OPERATOR_SERVICE_PORT_HTTP",
            "VX11_OPERATOR_PORT",
            "VX11_OPERATOR_PORT_8001_TCP_ADDR",
        ] {
            assert_eq!(complaints(name), Ok(()), "{name}");
        }
    }
}
