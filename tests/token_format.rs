//! `docs/token-format.md` says what the code does: its test vectors are minted and verified here,
//! and its Python is run. No text is a token but the one that was minted.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde::Deserialize;
use vx11_operator::clock::UnixMillis;
use vx11_operator::principal::{Principal, PrincipalId, Principals, Rights};
use vx11_operator::token::{
    Claims, Codec, CodecError, Grant, GrantText, Nonce, Resource, SigningKeys, Subject, Token, Verified,
    is_token_shaped, written,
};
use vx11_operator::topic::Patterns;

const DOCUMENT: &str = include_str!("../docs/token-format.md");

/// A token of the document.
struct Vector {
    /// As the Python takes them: principal, key, expiry, offline, nonce, and the text of the grant
    /// if there is one.
    inputs: Vec<String>,
    /// The whole token.
    token: String,
    id: &'static str,
}

impl Vector {
    fn principal(&self) -> PrincipalId {
        PrincipalId::parse(&self.inputs[0]).unwrap()
    }

    fn codec(&self) -> Codec {
        Codec::new(SigningKeys::from_hex([self.inputs[1].as_str()]).unwrap())
    }

    fn claims(&self) -> Claims {
        Claims {
            expires_at: self.inputs[2].parse().unwrap(),
            offline: self.inputs[3] == "1",
            nonce: Nonce::from_bits(self.inputs[4].parse().unwrap()),
        }
    }

    fn grant(&self) -> Option<Grant> {
        self.inputs.get(5).map(|text| Grant::decode(text).unwrap())
    }
}

/// A grant as the document writes it in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGrant {
    principal: String,
    issued_at: u64,
    subject: Option<String>,
    topics: Vec<String>,
    stream_until: Option<u64>,
    #[serde(default)]
    single_use: bool,
    resource: Option<String>,
}

impl JsonGrant {
    fn grant(self) -> Grant {
        Grant {
            principal: PrincipalId::parse(&self.principal).unwrap(),
            issued_at: UnixMillis(self.issued_at),
            subject: self.subject.map(|subject| Subject::parse(&subject).unwrap()),
            topics: Patterns::new(self.topics.iter().map(String::as_str)).unwrap(),
            stream_until: self.stream_until.map(UnixMillis),
            single_use: self.single_use,
            resource: self.resource.map(|resource| Resource::parse(&resource).unwrap()),
        }
    }
}

/// The text below a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    let rest = DOCUMENT.split(&format!("\n{heading}\n")).nth(1).unwrap();
    rest.split("\n#").next().unwrap()
}

/// The cells of the table below a heading, row by row.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let rows = section(heading).lines().filter(|line| line.starts_with('|')).skip(2);
    let cells =
        |row: &'static str| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
    rows.map(|row| cells(row).collect()).collect()
}

/// The Python below a heading.
fn python(heading: &str) -> &'static str {
    section(heading).split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap()
}

/// The output of the Python below a heading for these arguments.
fn run_python(heading: &str, arguments: &[String]) -> String {
    let output =
        Command::new("python3").args(["-c", python(heading)]).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The JSON and the text of each grant.
fn grants() -> Vec<(&'static str, &'static str)> {
    let grants: Vec<_> = table("### Grants").iter().map(|cells| (cells[1], cells[2])).collect();
    assert!(grants.len() >= 4);
    grants
}

fn vectors() -> Vec<Vector> {
    let plain = table("### Tokens without a grant").into_iter().map(|cells| Vector {
        inputs: cells[..5].iter().map(|&cell| cell.to_owned()).collect(),
        token: cells[5].to_owned(),
        id: cells[6],
    });
    let grants = grants();
    let with_grant = table("### Tokens with a grant").into_iter().map(|cells| {
        let (json, text) = grants[cells[0].parse::<usize>().unwrap() - 1];
        let JsonGrant { principal, .. } = serde_json::from_str(json).unwrap();
        let claims = cells[1..5].iter().map(|&cell| cell.to_owned());
        Vector {
            inputs: std::iter::once(principal).chain(claims).chain([text.to_owned()]).collect(),
            token: format!("{}.{text}", cells[5]),
            id: cells[6],
        }
    });
    let vectors: Vec<_> = plain.chain(with_grant).collect();
    assert!(vectors.len() >= 9);
    vectors
}

/// Principals with these ids, and with all rights for all topics.
fn principals(ids: &[&str]) -> Principals {
    let with_all = |id| Principal::new(PrincipalId::parse(id).unwrap(), Rights::all(), Patterns::all());
    Principals::new(ids.iter().map(|&id| (with_all(id), id)))
}

#[test]
fn the_codec_writes_and_reads_the_documents_grants() {
    for (json, text) in grants() {
        let grant = serde_json::from_str::<JsonGrant>(json).unwrap().grant();
        assert_eq!(grant.encode().unwrap().as_str(), text);
        assert_eq!(Grant::decode(text), Ok(grant));
    }
}

#[test]
fn the_documents_malformed_grants_are_refused() {
    let malformed = table("### Malformed grants");
    assert!(malformed.len() >= 14);
    for cells in malformed {
        assert_eq!(Grant::decode(cells[0]), Err(CodecError::Malformed), "{}", cells[1]);
    }
    let good = section("### Malformed grants").split('`').nth(1).unwrap();
    assert!(Grant::decode(good).is_ok());
}

#[test]
fn the_codec_mints_the_documents_vectors() {
    for vector in vectors() {
        let grant = vector.grant().map(|grant| grant.encode().unwrap());
        let token = vector.codec().mint(&vector.principal(), vector.claims(), grant.as_ref());
        assert_eq!(written(&token, grant.as_ref()), vector.token);
        assert_eq!(token.digest().id().to_string(), vector.id);
    }
}

#[test]
fn the_codec_verifies_the_documents_vectors() {
    for vector in vectors() {
        let just_before = UnixMillis((vector.claims().expires_at - 1) * 1000);
        let principals = principals(&[&vector.inputs[0]]);
        let verified = vector.codec().verify(&vector.token, just_before, &principals).unwrap();
        assert_eq!(verified.claims, vector.claims());
        assert_eq!(verified.principal, vector.principal());
        assert_eq!(verified.grant.map(|grant| *grant), vector.grant());
    }
}

#[test]
fn the_documents_python_mints_its_vectors() {
    for vector in vectors() {
        let printed = run_python("### Tokens without a grant", &vector.inputs);
        assert_eq!(printed, format!("{} {}", vector.token, vector.id));
    }
}

#[test]
fn the_documents_python_writes_its_grants() {
    for (json, text) in grants() {
        assert_eq!(run_python("### Grants", &[json.to_owned()]), text);
    }
}

#[test]
fn the_documents_python_derives_the_key_of_its_example_and_so_does_an_instance() {
    let example = DOCUMENT.split("The credential `").nth(1).unwrap();
    let quoted: Vec<_> = example.split('`').step_by(2).take(2).collect();
    let [credential, key] = quoted[..] else { panic!("{quoted:?}") };
    let mut command = Command::new("python3");
    command.args(["-c", python("## Signing keys")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("python3 runs");
    writeln!(process.stdin.take().unwrap(), "{credential}").unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), key);

    let owner = PrincipalId::parse("operator").unwrap();
    let derived = SigningKeys::derived([(owner.clone(), credential.as_bytes())]).unwrap();
    let claims = Claims { expires_at: 1_767_470_460, offline: false, nonce: Nonce::from_bits(1) };
    let by_hand = Codec::new(SigningKeys::from_hex([key]).unwrap()).mint(&owner, claims, None);
    assert_eq!(Codec::new(derived).mint(&owner, claims, None), by_hand);
}

const NOW: UnixMillis = UnixMillis(1_767_470_400_500);
const KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// Two principals, and a codec that signs for both with the same key.
struct Deployment {
    codec: Codec,
    principals: Principals,
}

impl Deployment {
    fn new() -> Self {
        let codec = Codec::new(SigningKeys::from_hex([KEY]).unwrap());
        Self { codec, principals: principals(&["alice", "bob"]) }
    }

    /// The text of a token that ends in a minute.
    fn issue(&self, nonce: u32, principal: &PrincipalId, grant: Option<&GrantText>) -> String {
        let claims =
            Claims { expires_at: NOW.seconds() + 60, offline: false, nonce: Nonce::from_bits(nonce) };
        written(&self.codec.mint(principal, claims, grant), grant)
    }

    fn verify(&self, text: &str) -> Result<Verified, CodecError> {
        self.codec.verify(text, NOW, &self.principals)
    }

    fn refusal(&self, text: &str) -> Option<CodecError> {
        self.verify(text).err()
    }
}

prop_compose! {
    /// A grant as an instance gives it, and its text.
    fn any_grant()(
        principal in prop::sample::select(&["alice", "bob"][..]),
        age in 0_u64..60_000,
        subject in prop::option::of("[!-~]{1,40}"),
        topics in prop::collection::btree_set("[a-z]{1,8}(/[a-z]{1,3}){0,3}(/\\*)?|\\*", 1..=8),
        stream_until in prop::option::of(0_u64..1 << 48),
        single_use in any::<bool>(),
        resource in prop::option::of("/[!-~]{0,60}"),
    ) -> (Grant, GrantText) {
        let topics = topics.into_iter().collect();
        let (principal, issued_at) = (principal.to_owned(), NOW.0 - age);
        let json = JsonGrant { principal, issued_at, subject, topics, stream_until, single_use, resource };
        let grant = json.grant();
        let text = grant.encode().unwrap();
        (grant, text)
    }
}

/// The same ASCII text with another character at one place, for each place. `other` is 1 to 127.
fn with_another_byte(text: &str, other: u8) -> impl Iterator<Item = String> {
    (0..text.len()).map(move |at| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= other;
        String::from_utf8(bytes).unwrap()
    })
}

proptest! {
    #[test]
    fn a_token_with_a_grant_verifies_with_that_grant((grant, text) in any_grant(), nonce in 0_u32..1 << 27) {
        let deployment = Deployment::new();
        let token = deployment.issue(nonce, &grant.principal, Some(&text));
        prop_assert!(is_token_shaped(&token));
        let verified = deployment.verify(&token).unwrap();
        prop_assert_eq!(&verified.principal, &grant.principal);
        prop_assert_eq!(verified.patterns(), grant.topics.clone());
        prop_assert_eq!(verified.grant.as_deref(), Some(&grant));
    }

    #[test]
    fn a_token_with_any_changed_character_is_refused((grant, text) in any_grant(), other in 1_u8..128) {
        let deployment = Deployment::new();
        let token = deployment.issue(1, &grant.principal, Some(&text));
        for changed in with_another_byte(&token, other) {
            prop_assert!(deployment.verify(&changed).is_err(), "{} became {}", token, changed);
        }
    }

    #[test]
    fn a_token_with_any_changed_byte_of_its_grant_is_refused((grant, text) in any_grant(), other in 1_u8..=255) {
        let deployment = Deployment::new();
        let token = deployment.issue(1, &grant.principal, Some(&text));
        let (uuid, _) = token.split_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text.as_str()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= other;
            let changed = format!("{uuid}.{}", URL_SAFE_NO_PAD.encode(changed));
            prop_assert!(deployment.verify(&changed).is_err(), "{} became {}", token, changed);
        }
    }

    #[test]
    fn a_token_with_a_character_more_or_less_is_refused((grant, text) in any_grant(), more in "[A-Za-z0-9_.=%-]") {
        let deployment = Deployment::new();
        let token = deployment.issue(1, &grant.principal, Some(&text));
        for at in 0..=token.len() {
            let (before, after) = token.split_at(at);
            let longer = format!("{before}{more}{after}");
            prop_assert!(deployment.verify(&longer).is_err(), "{} became {}", token, longer);
            let shorter = format!("{before}{}", after.get(1..).unwrap_or_default());
            prop_assert!(shorter == token || deployment.verify(&shorter).is_err(), "{}", shorter);
            prop_assert!(before == token || deployment.verify(before).is_err(), "{}", before);
        }
    }

    #[test]
    fn a_token_whose_grant_is_dropped_swapped_or_added_is_forged(
        (grant, text) in any_grant(), (other_grant, other_text) in any_grant(),
    ) {
        prop_assume!(grant != other_grant);
        let deployment = Deployment::new();
        let tokens = [
            deployment.issue(1, &grant.principal, Some(&text)),
            deployment.issue(2, &other_grant.principal, Some(&other_text)),
            deployment.issue(3, &grant.principal, None),
        ];
        let uuids = tokens.each_ref().map(|token| &token[..36]);
        let forged = [
            uuids[0].to_owned(),
            format!("{}.{}", uuids[0], other_text.as_str()),
            format!("{}.{}", uuids[1], text.as_str()),
            format!("{}.{}", uuids[2], text.as_str()),
        ];
        for token in tokens {
            prop_assert!(deployment.verify(&token).is_ok(), "{}", token);
        }
        for token in forged {
            prop_assert_eq!(deployment.refusal(&token), Some(CodecError::Forged), "{}", token);
        }
    }

    #[test]
    fn a_doubled_empty_or_over_long_grant_is_malformed((grant, text) in any_grant(), filling in "[A-Za-z0-9_-]") {
        let deployment = Deployment::new();
        let token = deployment.issue(1, &grant.principal, Some(&text));
        let (uuid, text) = (&token[..36], text.as_str());
        for malformed in [
            format!("{token}{text}"),
            format!("{token}.{text}"),
            format!("{token}."),
            format!("{token}.{uuid}"),
            format!("{uuid}."),
            format!("{uuid}.."),
            format!("{uuid}..{text}"),
            format!("{uuid}.{uuid}.{text}"),
            format!("{token}{}", filling.repeat(1025 - text.len())),
            format!("{uuid}.{}", filling.repeat(1025)),
            format!("{uuid}.{}", filling.repeat(65536)),
        ] {
            prop_assert!(is_token_shaped(&malformed));
            prop_assert_eq!(deployment.refusal(&malformed), Some(CodecError::Malformed), "{}", malformed);
        }
    }

    #[test]
    fn no_grant_makes_a_uuid_a_token_that_no_instance_signed((_, text) in any_grant(), bytes in any::<[u8; 16]>()) {
        let mut bytes = bytes;
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let hex = hex::encode(bytes);
        let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        let token = Token::parse(&groups.join("-")).unwrap();
        prop_assert_eq!(Deployment::new().refusal(&written(&token, Some(&text))), Some(CodecError::Forged));
    }
}
