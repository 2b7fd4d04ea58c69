//! The effective configuration for people, without secrets, and its differences.

use super::folder::PrincipalFile;
use super::keys::{Keys, is_reloaded};
use super::raw::Raw;
use super::sources::value;

const REDACTED: &str = "***";

/// The configuration as TOML. Principals of the folder follow those of the file.
pub(super) fn redacted(raw: &Raw, files: &[PrincipalFile]) -> String {
    let mut shown = raw.clone();
    let hide = |secret: &mut String| {
        if !secret.is_empty() {
            REDACTED.clone_into(secret);
        }
    };
    hide(&mut shown.principal_token);
    shown.principals.extend(files.iter().map(PrincipalFile::to_entry));
    shown.principals.iter_mut().for_each(|principal| hide(&mut principal.token));
    shown.token.signing_keys.iter_mut().for_each(hide);
    hide(&mut shown.redis.url);
    hide(&mut shown.redis.password);
    hide(&mut shown.redis.sentinel_password);
    toml::to_string(&shown).unwrap_or_else(|error| format!("# cannot be shown as TOML: {error}\n"))
}

/// Keys that a reload does not read again, and whose values differ between two redacted
/// configurations.
pub(super) fn differences(one: &str, other: &str) -> Vec<String> {
    let [one, other] = [one, other].map(|text| text.parse::<toml::Table>().unwrap_or_default());
    let keys = Keys::of_defaults();
    let fixed = keys.all().filter(|key| !is_reloaded(key));
    fixed.filter(|key| value(&one, key) != value(&other, key)).map(str::to_owned).collect()
}
