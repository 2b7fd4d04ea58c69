//! `docs/token-format.md` says what the code does: its test vectors are minted and verified here,
//! and its Python is run.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::io::Write;
use std::process::{Command, Stdio};

use vx11_operator::clock::UnixMillis;
use vx11_operator::principal::PrincipalId;
use vx11_operator::token::{Claims, Codec, Nonce, SigningKeys};

const DOCUMENT: &str = include_str!("../docs/token-format.md");

struct Vector {
    /// The cells as written: principal, key, expiry, offline, nonce.
    inputs: Vec<&'static str>,
    token: &'static str,
    id: &'static str,
}

impl Vector {
    fn principal(&self) -> PrincipalId {
        PrincipalId::parse(self.inputs[0]).unwrap()
    }

    fn codec(&self) -> Codec {
        Codec::new(SigningKeys::from_hex([self.inputs[1]]).unwrap())
    }

    fn claims(&self) -> Claims {
        Claims {
            expires_at: self.inputs[2].parse().unwrap(),
            offline: self.inputs[3] == "1",
            nonce: Nonce::from_bits(self.inputs[4].parse().unwrap()),
        }
    }
}

fn vectors() -> Vec<Vector> {
    let section = DOCUMENT.split("## Test vectors").nth(1).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let vectors: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> =
                row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            Vector { inputs: cells[..5].to_vec(), token: cells[5], id: cells[6] }
        })
        .collect();
    assert!(vectors.len() >= 5);
    vectors
}

#[test]
fn the_codec_mints_the_documents_vectors() {
    for vector in vectors() {
        let token = vector.codec().mint(&vector.principal(), vector.claims());
        assert_eq!(
            (token.reveal().as_str(), token.digest().id().to_string().as_str()),
            (vector.token, vector.id)
        );
    }
}

#[test]
fn the_codec_verifies_the_documents_vectors() {
    for vector in vectors() {
        let just_before = UnixMillis((vector.claims().expires_at - 1) * 1000);
        let principal = vector.principal();
        let verified = vector.codec().verify(vector.token, just_before, [&principal].into_iter()).unwrap();
        assert_eq!(verified.claims, vector.claims());
    }
}

/// The Python in the section with this heading.
fn python(heading: &str) -> &'static str {
    let section = DOCUMENT.split(heading).nth(1).unwrap();
    section.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap()
}

#[test]
fn the_documents_python_mints_its_vectors() {
    let code = python("## Test vectors");
    for vector in vectors() {
        let output =
            Command::new("python3").args(["-c", code]).args(&vector.inputs).output().expect("python3 runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim(), format!("{} {}", vector.token, vector.id));
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
    let by_hand = Codec::new(SigningKeys::from_hex([key]).unwrap()).mint(&owner, claims);
    assert_eq!(Codec::new(derived).mint(&owner, claims), by_hand);
}
