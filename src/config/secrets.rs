//! Secrets: credentials of principals and signing keys, given directly or by file, generated or
//! derived. No error repeats one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::ErrorCollector;
use super::raw::{Raw, RawPrincipals};
use super::sources::Shown;
use crate::principal::PrincipalId;
use crate::token::SigningKeys;

/// The principal of `VX11_PRINCIPAL_TOKEN`.
const DEFAULT_PRINCIPAL: &str = "operator";

/// A weak credential.
pub(super) struct Weak {
    principal: PrincipalId,
    /// The key that sets it.
    key: String,
}

/// Principals with their credentials, and whether the only credential was generated because none is
/// configured.
pub(super) fn principals(
    raw: &Raw,
    complaints: &mut ErrorCollector,
    warnings: &mut Vec<String>,
) -> (Vec<(PrincipalId, SecretString)>, bool) {
    let mut weak = Vec::new();
    let mut principals = configured(&RawPrincipals::from(raw), complaints, &mut weak);
    let derives_keys = raw.token.signing_keys.is_empty() && raw.token.signing_keys_file.is_empty();
    for Weak { principal, key } in weak {
        let problem = format!(
            "the credential of principal {principal} is easy to guess: its length times log2 of its different characters is \
             below 128 bits; openssl rand -hex 32 makes a good one"
        );
        if derives_keys && !raw.token.allow_weak_principals.0 {
            complaints.add(
                &key,
                format_args!(
                    "{problem}. Or set token.signing_keys: without them tokens are signed with a key that is derived from the \
                     credential, so anybody who sees a token can guess it. For development, \
                     token.allow_weak_principals = true permits it"
                ),
            );
        } else {
            warnings.push(problem);
        }
    }
    let generate = principals.is_empty() && complaints.is_empty();
    if generate {
        match generated_secret() {
            Ok(secret) => principals.extend(PrincipalId::parse(DEFAULT_PRINCIPAL).map(|id| (id, secret))),
            Err(error) => complaints
                .add("principal_token", format_args!("none is set, and none can be generated: {error}")),
        }
    }
    (principals, generate)
}

/// Principals with their credentials, in configured order. Weak ones are left to the caller.
pub(super) fn configured(
    raw: &RawPrincipals,
    complaints: &mut ErrorCollector,
    weak: &mut Vec<Weak>,
) -> Vec<(PrincipalId, SecretString)> {
    let mut principals = Vec::new();
    let mut add = |key: &str, id: &PrincipalId, inline: &str, file: &str, complaints: &mut ErrorCollector| {
        let Some(Given { text, key }) = secret(key, inline, file, complaints) else {
            return;
        };
        // A file may contain several, one per line; all are accepted, for rotation.
        let credentials: Vec<_> = if file.is_empty() { vec![&*text] } else { lines(&text).collect() };
        for secret in credentials {
            if secret.bytes().any(|byte| !byte.is_ascii_graphic()) {
                complaints.add(
                    &key,
                    "the credential cannot be sent in a header; use printable ASCII without spaces only",
                );
            } else if is_weak(secret) {
                weak.push(Weak { principal: id.clone(), key: key.clone() });
            }
            let taken =
                |(other, known): &(PrincipalId, SecretString)| other != id && known.expose_secret() == secret;
            if principals.iter().any(taken) {
                complaints
                    .add(&key, format_args!("principal {id} has the same credential as another principal"));
            }
            principals.push((id.clone(), SecretString::from(secret)));
        }
    };
    if let Some(id) = PrincipalId::parse(DEFAULT_PRINCIPAL) {
        add("principal_token", &id, &raw.principal_token, &raw.principal_token_file, complaints);
    }
    for (number, listed) in raw.principals.iter().enumerate() {
        let key = format!("principals[{number}]");
        let Some(id) = PrincipalId::parse(&listed.id) else {
            complaints.add(
                &format!("{key}.id"),
                format_args!(
                    "{} is no id; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -",
                    Shown(&listed.id)
                ),
            );
            continue;
        };
        if listed.token.is_empty() && listed.token_file.is_empty() {
            complaints.add(&key, format_args!("{} needs a token or a token_file", Shown(&listed.id)));
        }
        add(&format!("{key}.token"), &id, &listed.token, &listed.token_file, complaints);
    }
    principals
}

/// Whether length × log2(number of distinct characters) is below 128 bits. The estimate is
/// generous: it takes every credential for random.
fn is_weak(secret: &str) -> bool {
    let different = secret.bytes().collect::<HashSet<_>>().len() as u128;
    u32::try_from(secret.len()).is_ok_and(|length| different.checked_pow(length).is_some())
}

fn generated_secret() -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes).into())
}

/// The signing keys: configured ones, or keys derived from the principals' credentials.
pub(super) fn signing_keys(
    raw: &Raw,
    principals: &[(PrincipalId, SecretString)],
    complaints: &mut ErrorCollector,
) -> Option<SigningKeys> {
    let inline = raw.token.signing_keys.join("\n");
    let keys = secret("token.signing_keys", &inline, &raw.token.signing_keys_file, complaints);
    let keys = match keys {
        Some(Given { text, key }) => (SigningKeys::from_hex(lines(&text)), key),
        // Errors about principals were reported already.
        None if principals.is_empty() => return None,
        None => {
            let credentials =
                principals.iter().map(|(owner, secret)| (owner.clone(), secret.expose_secret().as_bytes()));
            (SigningKeys::derived(credentials), "token.signing_keys".to_owned())
        }
    };
    let (keys, key) = keys;
    keys.map_err(|error| complaints.add(&key, error)).ok()
}

/// Secrets, one per line.
fn lines(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// A secret and the key that sets it.
pub(super) struct Given {
    pub(super) text: String,
    pub(super) key: String,
}

/// A secret from `key` or from the file `key_file`; `None` without both.
pub(super) fn secret(key: &str, inline: &str, file: &str, complaints: &mut ErrorCollector) -> Option<Given> {
    let by_file = format!("{key}_file");
    match (inline, file) {
        ("", "") => None,
        (inline, "") => Some(Given { text: inline.to_owned(), key: key.to_owned() }),
        ("", file) => {
            read_secret(&by_file, &PathBuf::from(file), complaints).map(|text| Given { text, key: by_file })
        }
        _ => {
            let by_file = complaints.sources.set_by(&by_file).unwrap_or(&by_file).to_owned();
            complaints.add(key, format_args!("is given both directly and by file ({by_file}); keep one"));
            None
        }
    }
}

fn read_secret(key: &str, file: &Path, complaints: &mut ErrorCollector) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            complaints.add(key, format_args!("{} is empty", shown(file)));
            None
        }
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) => {
            complaints.add(key, format_args!("cannot read {}: {error}", shown(file)));
            None
        }
    }
}

/// The name of a file for an error, unless it may be the secret itself, given instead of the file's
/// name.
pub(super) fn shown(file: &Path) -> String {
    if file.components().nth(1).is_some() {
        format!("the file {}", file.display())
    } else {
        "the file of this name (not shown: it may be the secret itself; give a path such as ./name)"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_weak_below_128_bits() {
        let hex = "0123456789abcdef";
        let four = "acgt".repeat(16);
        for strong in ["2Vv1pQzWk0mXr8LbTn5YfHs7Jd3Gc9Ae", &hex.repeat(2), &hex.repeat(4), &four] {
            assert!(!is_weak(strong), "{strong}");
        }
        let almost = hex.repeat(2);
        for weak in ["", "a", "vx11-local-token", &almost[1..], &four[1..], &"a".repeat(200)] {
            assert!(is_weak(weak), "{weak}");
        }
    }
}
