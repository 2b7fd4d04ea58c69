//! Secrets: credentials of principals and signing keys, given directly or by file, generated or
//! derived. No error repeats one.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use strum::VariantArray;

use super::ErrorCollector;
use super::folder::{self, PrincipalFile};
use super::raw::{Raw, RawPrincipal, RawPrincipals};
use super::sources::{Shown, quoted};
use crate::principal::{Principal, PrincipalId, Right, Rights};
use crate::token::SigningKeys;
use crate::topic::{Pattern, Patterns, TopicError};

/// The principal of `VX11_PRINCIPAL_TOKEN`.
const DEFAULT_PRINCIPAL: &str = "operator";

/// Reaction to a configuration without any principal.
#[derive(Clone, Copy)]
pub(super) enum WithoutPrincipals<'a> {
    /// Generate a credential.
    Generate,
    /// Keep the credential that was generated at start.
    Keep(&'a SecretString),
    /// Report an error: a generated credential would be known to nobody.
    Refuse,
}

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
    files: &[PrincipalFile],
    without: WithoutPrincipals<'_>,
    complaints: &mut ErrorCollector,
    warnings: &mut Vec<String>,
) -> (Vec<(Principal, SecretString)>, bool) {
    let mut weak = Vec::new();
    let mut principals = configured(&RawPrincipals::from(raw), files, complaints, &mut weak);
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
    if !principals.is_empty() || !complaints.is_empty() {
        return (principals, false);
    }
    match only_credential(raw, without) {
        Ok(secret) => {
            principals.extend(operator().map(|operator| (operator, secret)));
            (principals, true)
        }
        Err((key, problem)) => {
            complaints.add(key, problem);
            (principals, false)
        }
    }
}

/// The credential of an instance whose configuration has none; otherwise a key and its problem.
fn only_credential(
    raw: &Raw,
    without: WithoutPrincipals<'_>,
) -> Result<SecretString, (&'static str, String)> {
    if !raw.principals_dir.is_empty() {
        let problem = "the folder has no file of a principal (*.toml), and none is configured elsewhere";
        return Err((folder::KEY, problem.to_owned()));
    }
    let problem = match without {
        WithoutPrincipals::Keep(secret) => return Ok(secret.clone()),
        WithoutPrincipals::Generate => match generated_secret() {
            Ok(secret) => return Ok(secret),
            Err(error) => format!("none is set, and none can be generated: {error}"),
        },
        WithoutPrincipals::Refuse => {
            "none is set any more, and a generated one would be known to nobody; restart to have one"
                .to_owned()
        }
    };
    Err(("principal_token", problem))
}

/// The principal of `principal_token`, with all rights.
fn operator() -> Option<Principal> {
    PrincipalId::parse(DEFAULT_PRINCIPAL).map(|id| Principal::new(id, Rights::all(), Patterns::all()))
}

/// Principals with their credentials: that of `principal_token`, then the entries of `principals`,
/// then the files of the folder. Weak credentials are left to the caller.
pub(super) fn configured(
    raw: &RawPrincipals,
    files: &[PrincipalFile],
    complaints: &mut ErrorCollector,
    weak: &mut Vec<Weak>,
) -> Vec<(Principal, SecretString)> {
    let mut table = Table { principals: Vec::new(), weak, complaints };
    if let Some(operator) = operator() {
        table.add_operator(&operator, raw);
    }
    for (number, entry) in raw.principals.iter().enumerate() {
        table.add(entry, &Source::Entry(number));
    }
    for file in files {
        table.add(&file.principal, &Source::File(file));
    }
    table.principals
}

/// Source of a principal in the configuration.
enum Source<'a> {
    /// A number in the list `principals`.
    Entry(usize),
    /// A file of the folder.
    File(&'a PrincipalFile),
}

impl Source<'_> {
    /// A field for errors. A field of a file has the file's name here, because no other source
    /// knows it.
    fn key(&self, field: &str) -> String {
        match self {
            Self::Entry(number) => format!("principals[{number}].{field}"),
            Self::File(file) => format!("{field} ({})", file.name),
        }
    }

    /// The source as a whole, for errors.
    fn name(&self) -> String {
        match self {
            Self::Entry(number) => format!("principals[{number}]"),
            Self::File(file) => file.name.clone(),
        }
    }
}

/// Collects principals.
struct Table<'a> {
    principals: Vec<(Principal, SecretString)>,
    weak: &'a mut Vec<Weak>,
    complaints: &'a mut ErrorCollector,
}

impl Table<'_> {
    fn add_operator(&mut self, operator: &Principal, raw: &RawPrincipals) {
        let RawPrincipals { principal_token, principal_token_file, .. } = raw;
        let given = secret("principal_token", principal_token, principal_token_file, self.complaints);
        if let Some(given) = given {
            self.add_credentials(operator, &given, !principal_token_file.is_empty());
        }
    }

    fn add(&mut self, entry: &RawPrincipal, source: &Source<'_>) {
        let Some(id) = PrincipalId::parse(&entry.id) else {
            self.complaints.add(
                &source.key("id"),
                format_args!(
                    "{} is no id; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -",
                    Shown(&entry.id)
                ),
            );
            return;
        };
        if entry.rights.is_empty() {
            let names = Right::VARIANTS.iter().map(|right| right.name()).collect::<Vec<_>>().join(", ");
            self.complaints.add(
                &source.key("rights"),
                format_args!("the list is empty; remove the key to give all rights, or list some of {names}"),
            );
        }
        let rights = rights(&entry.rights, &source.key("rights"), self.complaints);
        let topics = topics(&entry.topics, &source.key("topics"), self.complaints);
        let principal = Principal::new(id, rights, topics);
        let mut others = self.principals.iter().map(|(other, _)| other);
        if others.any(|other| other.id() == principal.id() && *other != principal) {
            self.complaints.add(
                &source.name(),
                format_args!(
                    "principal {} has other rights or topics in another entry; give all its entries the same ones",
                    principal.id()
                ),
            );
        }
        if entry.token.is_empty() && entry.token_file.is_empty() {
            self.complaints
                .add(&source.name(), format_args!("{} needs a token or a token_file", Shown(&entry.id)));
        }
        let given = match source {
            Source::Entry(_) => {
                secret(&source.key("token"), &entry.token, &entry.token_file, self.complaints)
            }
            Source::File(file) => secret_of_file(file, source, self.complaints),
        };
        if let Some(given) = given {
            self.add_credentials(&principal, &given, !entry.token_file.is_empty());
        }
    }

    /// A file may contain several credentials, one per line; all are accepted, for rotation.
    fn add_credentials(&mut self, principal: &Principal, Given { text, key }: &Given, is_file: bool) {
        let id = principal.id();
        let credentials: Vec<_> = if is_file { lines(text).collect() } else { vec![&**text] };
        for secret in credentials {
            if secret.bytes().any(|byte| !byte.is_ascii_graphic()) {
                self.complaints.add(
                    key,
                    "the credential cannot be sent in a header; use printable ASCII without spaces only",
                );
            } else if is_weak(secret) {
                self.weak.push(Weak { principal: id.clone(), key: key.clone() });
            }
            let taken = |(other, known): &(Principal, SecretString)| {
                other.id() != id && known.expose_secret() == secret
            };
            if self.principals.iter().any(taken) {
                self.complaints
                    .add(key, format_args!("principal {id} has the same credential as another principal"));
            }
            self.principals.push((principal.clone(), SecretString::from(secret)));
        }
    }
}

/// Parses rights; unknown ones are left out after the error.
pub(super) fn rights(texts: &[String], key: &str, complaints: &mut ErrorCollector) -> Rights {
    let allowed = || Right::VARIANTS.iter().map(|right| right.name()).collect::<Vec<_>>().join(", ");
    let mut rights = Vec::with_capacity(texts.len());
    for text in texts {
        match text.parse::<Right>() {
            Ok(right) => rights.push(right),
            Err(_) => {
                complaints.add(key, format_args!("{} is no right; allowed are {}", Shown(text), allowed()));
            }
        }
    }
    rights.into_iter().collect()
}

/// Parses topics; after an error, any.
fn topics(texts: &[String], key: &str, complaints: &mut ErrorCollector) -> Patterns {
    let mut add = |problem: &dyn Display| complaints.add(key, problem);
    if texts.is_empty() {
        add(&"the list is empty; remove the key to allow all topics, or list some, such as [\"orders/*\"]");
        return Patterns::all();
    }
    for text in texts {
        match Pattern::parse(text) {
            Ok(pattern) if pattern.is_of_service() => add(&format_args!(
                "{} belongs to the service; the right observe alone decides about such topics",
                Shown(text)
            )),
            Ok(_) => {}
            Err(problem) => {
                add(&format_args!("{} is not allowed: {problem}; {}", Shown(text), TopicError::Topic));
            }
        }
    }
    match Patterns::new(texts.iter().map(String::as_str)) {
        Ok(patterns) => patterns,
        Err(TopicError::Topic | TopicError::Pattern) => Patterns::all(),
        Err(problem) => {
            add(&problem);
            Patterns::all()
        }
    }
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
    principals: &[(Principal, SecretString)],
    complaints: &mut ErrorCollector,
) -> Option<SigningKeys> {
    let inline = raw.token.signing_keys.join("\n");
    let keys = secret("token.signing_keys", &inline, &raw.token.signing_keys_file, complaints);
    let keys = match keys {
        Some(Given { text, key }) => (SigningKeys::from_hex(lines(&text)), key),
        // Errors about principals were reported already.
        None if principals.is_empty() => return None,
        None => {
            let credentials = principals
                .iter()
                .map(|(owner, secret)| (owner.id().clone(), secret.expose_secret().as_bytes()));
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
            let file = PathBuf::from(file);
            read_secret(&by_file, &file, &shown(&file), complaints).map(|text| Given { text, key: by_file })
        }
        _ => {
            let by_file = complaints.sources.set_by(&by_file).unwrap_or(&by_file).to_owned();
            complaints.add(key, format_args!("is given both directly and by file ({by_file}); keep one"));
            None
        }
    }
}

/// The credential of a principal in a file of the folder, given there or by a further file.
fn secret_of_file(
    file: &PrincipalFile,
    source: &Source<'_>,
    complaints: &mut ErrorCollector,
) -> Option<Given> {
    let [key, by_file] = ["token", "token_file"].map(|field| source.key(field));
    match (file.principal.token.as_str(), file.principal.token_file.as_str()) {
        ("", "") => None,
        (token, "") => Some(Given { text: token.to_owned(), key }),
        ("", name) => {
            // Most are a name in the folder.
            let shown =
                quoted(name).map_or_else(|| shown(Path::new(name)), |name| format!("the file {name}"));
            let text = read_secret(&by_file, &file.resolve(name), &shown, complaints)?;
            Some(Given { text, key: by_file })
        }
        _ => {
            complaints.add(&key, "is given both directly and by file (token_file); keep one");
            None
        }
    }
}

/// Content of a file that errors call `shown`.
fn read_secret(key: &str, file: &Path, shown: &str, complaints: &mut ErrorCollector) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            complaints.add(key, format_args!("{shown} is empty"));
            None
        }
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) => {
            complaints.add(key, format_args!("cannot read {shown}: {error}"));
            None
        }
    }
}

/// The name of a file for an error, unless it may be the secret itself, given instead of the file's
/// name.
pub(super) fn shown(file: &Path) -> String {
    shown_as("file", file)
}

/// The same for a file or folder.
pub(super) fn shown_as(kind: &str, path: &Path) -> String {
    if path.components().nth(1).is_some() {
        format!("the {kind} {}", path.display())
    } else {
        format!(
            "the {kind} of this name (not shown: it may be the secret itself; give a path such as ./name)"
        )
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
