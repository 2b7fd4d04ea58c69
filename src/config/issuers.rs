//! Identity providers, whose JWTs are credentials.

use std::path::Path;

use hyper::Uri;
use secrecy::SecretString;
use strum::VariantArray;

use super::ErrorCollector;
use super::raw::{Raw, RawIssuer};
use super::secrets::{rights, shown};
use super::sources::Shown;
use crate::identity::{Algorithm, IssuerSettings, KeySet, KeySource, SubjectTemplate, TopicTemplate};
use crate::principal::{Principal, PrincipalId};
use crate::topic::MOST_TOPICS;

/// Longest `issuer` and `audience`.
const LONGEST_NAME: usize = 512;
const URL_EXPECTED: &str = "expected: https://host[:port]/path; http only to this machine (localhost, 127.0.0.1, [::1]), because \
     an attacker who changes the keys on their way can sign for every user";

/// The issuers. They need configured signing keys: there is no credential that their tokens' keys
/// could be derived from.
pub(super) fn issuers(
    raw: &Raw,
    principals: &[(Principal, SecretString)],
    complaints: &mut ErrorCollector,
) -> Vec<IssuerSettings> {
    let derives_keys = raw.token.signing_keys.is_empty() && raw.token.signing_keys_file.is_empty();
    if !raw.issuers.is_empty() && derives_keys {
        complaints.add(
            "token.signing_keys",
            "are needed with [[issuers]]: an issuer has no credential that a key could be derived from (openssl rand -hex 32 \
             makes one, the same on all instances)",
        );
    }
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for (number, entry) in raw.issuers.iter().enumerate() {
        let Some(issuer) = issuer(entry, number, complaints) else { continue };
        let is_taken = principals.iter().any(|(principal, _)| *principal.id() == issuer.id)
            || issuers.iter().any(|other| other.id == issuer.id);
        if is_taken {
            let problem =
                format!("{} is the id of another issuer or of a principal; choose another", issuer.id);
            complaints.add(&format!("issuers[{number}].id"), problem);
        }
        if issuers.iter().any(|other| (&other.issuer, &other.audience) == (&issuer.issuer, &issuer.audience))
        {
            complaints.add(&format!("issuers[{number}]"), "another entry has the same issuer and audience");
        }
        issuers.push(issuer);
    }
    issuers
}

/// Checks an entry; `None` after an error.
fn issuer(entry: &RawIssuer, number: usize, complaints: &mut ErrorCollector) -> Option<IssuerSettings> {
    let key = |field: &str| format!("issuers[{number}].{field}");
    let errors = complaints.lines.len();
    let id = PrincipalId::parse(&entry.id);
    if id.is_none() {
        let problem = "is no id; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -";
        complaints.add(&key("id"), format_args!("{} {problem}", Shown(&entry.id)));
    }
    for (field, value) in [("issuer", &entry.issuer), ("audience", &entry.audience)] {
        if !(1..=LONGEST_NAME).contains(&value.len()) {
            let claim = if field == "issuer" { "iss" } else { "aud" };
            let problem =
                format!("is needed: the value of {claim} in the JWTs, 1 to {LONGEST_NAME} characters");
            complaints.add(&key(field), problem);
        }
    }
    let keys = key_source(entry, number, complaints);
    let algorithms = algorithms(&entry.algorithms, &key("algorithms"), complaints);
    let topics = topics(&entry.topics, &key("topics"), complaints);
    if entry.rights.is_empty() {
        complaints.add(&key("rights"), "the list is empty; remove the key to allow issue only");
    }
    let rights = rights(&entry.rights, &key("rights"), complaints);
    let subject = SubjectTemplate::parse(&entry.subject)
        .map_err(|error| complaints.add(&key("subject"), format_args!("{}: {error}", Shown(&entry.subject))));
    let settings = IssuerSettings {
        id: id?,
        issuer: entry.issuer.clone(),
        audience: entry.audience.clone(),
        keys: keys?,
        algorithms,
        rights,
        topics,
        subject: subject.ok()?,
    };
    (complaints.lines.len() == errors).then_some(settings)
}

fn key_source(entry: &RawIssuer, number: usize, complaints: &mut ErrorCollector) -> Option<KeySource> {
    let [by_url, by_file] = ["jwks_url", "jwks_file"].map(|field| format!("issuers[{number}].{field}"));
    match (entry.jwks_url.as_str(), entry.jwks_file.as_str()) {
        ("", "") => {
            complaints.add(&by_url, "is needed, or jwks_file: the public keys of the issuer");
            None
        }
        (url, "") => {
            let parsed = key_url(url);
            if parsed.is_none() {
                complaints.add(&by_url, format_args!("{} is no address of keys; {URL_EXPECTED}", Shown(url)));
            }
            parsed.map(KeySource::Url)
        }
        ("", file) => {
            let file = Path::new(file);
            let document =
                std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", shown(file)));
            let keys = document.and_then(|document| {
                KeySet::parse(&document).map_err(|error| format!("{} has no keys: {error}", shown(file)))
            });
            keys.map_err(|problem| complaints.add(&by_file, problem)).ok().map(KeySource::File)
        }
        _ => {
            complaints.add(&by_url, "is given, and jwks_file as well; keep one");
            None
        }
    }
}

fn key_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let host = authority.host().trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_protected = match uri.scheme_str()? {
        "https" => true,
        "http" => is_here,
        _ => false,
    };
    // An invalid port would silently become the default of the scheme.
    let port = authority.as_str().strip_prefix(authority.host())?.strip_prefix(':');
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_protected && has_port && !host.is_empty() && !text.contains(['@', '#'])).then_some(uri)
}

fn algorithms(texts: &[String], key: &str, complaints: &mut ErrorCollector) -> Vec<Algorithm> {
    let allowed = Algorithm::VARIANTS.iter().map(<&str>::from).collect::<Vec<_>>().join(", ");
    if texts.is_empty() {
        complaints.add(key, format_args!("the list is empty; allowed are {allowed}"));
    }
    let parsed = texts.iter().map(|text| {
        text.parse::<Algorithm>().map_err(|_| {
            let reason = "is no algorithm that can be allowed";
            complaints.add(key, format_args!("{} {reason}; allowed are {allowed}", Shown(text)));
        })
    });
    parsed.filter_map(Result::ok).collect()
}

fn topics(texts: &[String], key: &str, complaints: &mut ErrorCollector) -> Vec<TopicTemplate> {
    if !(1..=MOST_TOPICS).contains(&texts.len()) {
        complaints.add(key, format_args!("1 to {MOST_TOPICS} are needed, such as [\"users/{{sub}}/*\"]"));
    }
    let parsed = texts.iter().map(|text| {
        TopicTemplate::parse(text)
            .map_err(|error| complaints.add(key, format_args!("{}: {error}", Shown(text))))
    });
    parsed.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{Config, ConfigErrors};
    use super::*;

    const KEYS: &str = "signing_keys = ['00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff']";
    const GOOD: &str = "id = 'id'\nissuer = 'https://id.example/'\naudience = 'events'\n\
        jwks_url = 'https://id.example/keys'\ntopics = ['users/{sub}/*']\n";

    fn load(token: &str, issuers: &[&str]) -> Result<Config, ConfigErrors> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let issuers = issuers.iter().flat_map(|issuer| ["[[issuers]]\n", issuer, "\n"]).collect::<String>();
        std::fs::write(&file, format!("{issuers}[token]\n{token}\n")).unwrap();
        Config::load(Some(&file), &HashMap::new())
    }

    #[test]
    fn an_issuer_may_only_issue_by_default_with_all_algorithms_and_the_claim_sub() {
        let config = load(KEYS, &[GOOD]).unwrap();
        let [issuer] = config.issuers.as_slice() else { panic!("{:?}", config.issuers) };
        let principal = issuer.principal();
        assert!(principal.may(crate::principal::Right::Issue));
        assert_eq!(format!("{:?}", issuer.rights), "{Issue}");
        assert_eq!(issuer.algorithms, Algorithm::VARIANTS);
        assert_eq!(issuer.subject, SubjectTemplate::parse("{sub}").unwrap());
        assert!(config.redacted.contains("https://id.example/keys"));
    }

    #[test]
    fn issuers_need_signing_keys() {
        let ConfigErrors(lines) = load("", &[GOOD]).unwrap_err();
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(
            line.starts_with("token.signing_keys (VX11_OPERATOR_SIGNING_KEYS): are needed with [[issuers]]"),
            "{line}"
        );
    }

    #[test]
    fn each_mistake_of_an_issuer_is_named() {
        let change = |from: &str, to: &str| GOOD.replace(from, to);
        for (issuer, key, problem) in [
            (change("'id'", "'my id'"), "id", "\"my id\" is no id"),
            (
                change("issuer = 'https://id.example/'\n", "issuer = ''\n"),
                "issuer",
                "is needed: the value of iss",
            ),
            (change("audience = 'events'\n", ""), "audience", "is missing"),
            (change("jwks_url = 'https://id.example/keys'\n", ""), "jwks_url", "is needed, or jwks_file"),
            (
                change("https://id.example/keys", "http://id.example/keys"),
                "jwks_url",
                "\"http://id.example/keys\" is no",
            ),
            (
                change("https://id.example/keys", "https://me:pw@id.example/"),
                "jwks_url",
                "this value is no address",
            ),
            (
                change("https://id.example/keys", "https://id.example:x/"),
                "jwks_url",
                "\"https://id.example:x/\" is no",
            ),
            (
                change("jwks_url = 'https://id.example/keys'", "jwks_file = '/nonexistent/keys'"),
                "jwks_file",
                "cannot read the file /nonexistent/keys",
            ),
            (format!("{GOOD}jwks_file = 'keys.json'"), "jwks_url", "is given, and jwks_file as well"),
            (
                format!("{GOOD}algorithms = ['HS256']"),
                "algorithms",
                "\"HS256\" is no algorithm that can be allowed; allowed are RS256, PS256, ES256, EdDSA",
            ),
            (format!("{GOOD}algorithms = []"), "algorithms", "the list is empty"),
            (format!("{GOOD}rights = ['admin']"), "rights", "\"admin\" is no right"),
            (format!("{GOOD}rights = []"), "rights", "the list is empty"),
            (change("['users/{sub}/*']", "[]"), "topics", "1 to 16 are needed"),
            (
                change("users/{sub}/*", "users/x{sub}"),
                "topics",
                "\"users/x{sub}\": a claim is a whole segment",
            ),
            (format!("{GOOD}subject = 'someone'"), "subject", "\"someone\": a subject needs a claim"),
            (format!("{GOOD}topic = []"), "topic", "unknown key; did you mean topics?"),
        ] {
            let ConfigErrors(lines) = load(KEYS, &[&issuer]).unwrap_err();
            let begins = format!("issuers[0].{key} (");
            let is_named = lines.iter().any(|line| line.starts_with(&begins) && line.contains(problem));
            assert!(is_named, "{key}: {problem}\n{lines:#?}");
        }
    }

    #[test]
    fn issuers_have_different_ids_and_pairs_of_issuer_and_audience() {
        let ConfigErrors(lines) = load(KEYS, &[GOOD, &GOOD.replace("'id'", "'other'")]).unwrap_err();
        assert!(lines[0].contains("another entry has the same issuer and audience"), "{lines:?}");
        let ConfigErrors(lines) = load(KEYS, &[GOOD, &GOOD.replace("events", "other")]).unwrap_err();
        assert!(lines[0].contains("id is the id of another issuer or of a principal"), "{lines:?}");
        assert!(load(KEYS, &[GOOD, &GOOD.replace("'id'", "'b'").replace("events", "other")]).is_ok());
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://id.example/keys?x=y",
            "http://localhost:8080/keys",
            "http://127.0.0.1/k",
            "http://[::1]:1/k",
        ] {
            assert!(key_url(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/keys",
            "id.example/keys",
            "http://127.0.0.1.example/",
            "ftp://localhost/",
            "https://",
            "https://id.example/#a",
        ] {
            assert!(key_url(bad).is_none(), "{bad}");
        }
    }
}
