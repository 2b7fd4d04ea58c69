//! Variables that a client does not read although somebody set them for one: a slip would lead an event elsewhere.

use std::collections::HashMap;

use vx11_operator::config::Config;

/// The variables of a client.
const VARIABLES: [&str; 4] =
    ["VX11_OPERATOR_URL", "VX11_OPERATOR_CA", "VX11_PRINCIPAL_TOKEN", "VX11_PRINCIPAL_TOKEN_FILE"];
/// The others of our prefixes are the service's alone.
const PREFIX: &str = "VX11_";
/// Most characters that a slip gets wrong.
const SLIP: usize = 3;

/// Refuses unknown variables. Those of the service are known: environment files are often shared.
pub(super) fn check(environment: &HashMap<String, String>) -> Result<(), String> {
    let unknown = Config::unknown_variables(environment).into_iter().filter(|name| name.starts_with(PREFIX));
    let complaints: Vec<_> = unknown.map(complaint).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n  ")) }
}

fn complaint(name: &str) -> String {
    let by_distance = VARIABLES.map(|known| (strsim::osa_distance(name, known), known));
    match by_distance.into_iter().min() {
        Some((wrong, known)) if wrong <= SLIP => format!("{name}: unknown variable; did you mean {known}?"),
        _ => format!("{name}: unknown variable; a client reads {}", VARIABLES.join(", ")),
    }
}
