//! An instance with a principal that may not do everything.

use super::configure::{file, planted};
use super::instance::Instance;

/// An instance that also knows a principal with these `rights` and `topics`, as in a configuration
/// file, and the credential of that principal.
pub async fn limited(limits: &str) -> (Instance, String) {
    let secret = planted();
    let (_folder, config) = file(&format!("[[principals]]\nid = 'limited'\ntoken = '{secret}'\n{limits}\n"));
    (Instance::start_with_arguments(&["--config", &config]).await, secret)
}
