//! The effective configuration for people, without secrets.

use super::raw::Raw;

const REDACTED: &str = "***";

pub(super) fn redacted(raw: &Raw) -> String {
    let mut shown = raw.clone();
    let hide = |secret: &mut String| {
        if !secret.is_empty() {
            REDACTED.clone_into(secret);
        }
    };
    hide(&mut shown.principal_token);
    shown.principals.iter_mut().for_each(|principal| hide(&mut principal.token));
    shown.token.signing_keys.iter_mut().for_each(hide);
    hide(&mut shown.redis.url);
    hide(&mut shown.redis.password);
    hide(&mut shown.redis.sentinel_password);
    toml::to_string(&shown).unwrap_or_else(|error| format!("# cannot be shown as TOML: {error}\n"))
}
