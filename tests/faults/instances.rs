//! The two instances.

use std::path::Path;

use vx11_kit::{Operator, new_principal};
use vx11_rig::FaultRun;

/// Environment that names Redis.
pub(crate) type Environment<'a> = [(&'a str, &'a str)];

/// Tokens of the first run are old at the end. Tokens of the second run have the longest lifetime:
/// only for these an absent record counts, from three seconds after the data began.
const LIVES: [&str; 2] = ["10", "900"];

/// Puts the load on two instances, each of which finds Redis in its own way.
pub(crate) async fn apart(fault: &str, environments: [&Environment<'_>; 2]) -> FaultRun {
    let principal = new_principal();
    let mut operators = Vec::new();
    for (index, environment) in environments.into_iter().enumerate() {
        let id = (index + 1).to_string();
        let own = [("INSTANCE_ID", id.as_str()), ("EPHEMERAL_TOKEN_TTL_SEC", LIVES[index])];
        let environment = [&own, environment].concat();
        let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
        operators.push(Operator::start(binary, &principal, &environment).await);
    }
    FaultRun::begin(fault, operators).await
}

/// Puts the load on two instances that find Redis in the same way.
pub(crate) async fn together(fault: &str, environment: &Environment<'_>) -> FaultRun {
    apart(fault, [environment, environment]).await
}

/// Puts the load on two instances of one Redis on a port.
pub(crate) async fn on_port(fault: &str, port: u16) -> FaultRun {
    together(fault, &[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port.to_string())]).await
}
