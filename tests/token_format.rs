//! `docs/token-format.md` says what the code does: its test vectors are minted and verified here, and its Python is run.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::process::Command;

use vx11_operator::ambient::UnixMillis;
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

#[test]
fn the_documents_python_mints_its_vectors() {
    let code = DOCUMENT.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for vector in vectors() {
        let output =
            Command::new("python3").args(["-c", code]).args(&vector.inputs).output().expect("python3 runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim(), format!("{} {}", vector.token, vector.id));
    }
}
