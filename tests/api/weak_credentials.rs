//! A credential that is easy to guess, where tokens are signed with a key derived from it: whoever
//! sees a token could find the credential.

use crate::support::{Instance, complaint, complaint_about_file, file, planted, run};

const WEAK: &str = "vx11-local-token";
const SWITCH: &str = "VX11_OPERATOR__TOKEN__ALLOW_WEAK_PRINCIPALS";

#[tokio::test]
async fn a_weak_credential_without_signing_keys_is_refused_with_advice() {
    for weak in [WEAK, "%", "0123456789abcdef0123456789abcde"] {
        let printed = complaint(&[("VX11_PRINCIPAL_TOKEN", weak)]).await;
        let blamed = "\n  principal_token (VX11_PRINCIPAL_TOKEN): the credential of principal operator is easy to guess";
        assert!(printed.contains(blamed), "{printed}");
        for advice in ["openssl rand -hex 32", "token.signing_keys", "token.allow_weak_principals = true"] {
            assert!(printed.contains(advice), "{printed}");
        }
        assert!(!printed.contains(weak), "{printed}");
        assert_eq!(printed.lines().count(), 2, "one problem, one complaint: {printed}");
    }
    let (status, printed) = Instance::try_with(&[("VX11_PRINCIPAL_TOKEN", WEAK)]).await.err().unwrap();
    assert_eq!(status.code(), Some(2), "{printed}");
}

#[tokio::test]
async fn each_credential_of_each_principal_is_judged() {
    let strong = planted();
    let (_folder, rotated) = file(&format!("{strong}\n{WEAK}\n"));
    let printed = complaint(&[("VX11_PRINCIPAL_TOKEN_FILE", &rotated)]).await;
    let blamed =
        "\n  principal_token_file (VX11_PRINCIPAL_TOKEN_FILE): the credential of principal operator is easy";
    assert!(printed.contains(blamed), "{printed}");
    let printed = complaint_about_file(&format!(
        "[[principals]]\nid = 'a'\ntoken = '{strong}'\n[[principals]]\nid = 'b'\ntoken = '{WEAK}'\n"
    ))
    .await;
    assert!(printed.contains("\n  principals[1].token ("), "{printed}");
    assert!(printed.contains("the credential of principal b is easy to guess"), "{printed}");
    assert!(!printed.contains("principal a ") && !printed.contains(WEAK), "{printed}");
}

#[tokio::test]
async fn the_switch_for_development_allows_it_with_a_warning() {
    let weak = [("VX11_PRINCIPAL_TOKEN", WEAK), (SWITCH, "true")];
    let (code, printed) = run(&["check-config"], &weak).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("warning: the credential of principal operator is easy to guess"), "{printed}");
    Instance::with(&weak).await.issue().await;
    // Switched off it changes nothing.
    let printed = complaint(&[("VX11_PRINCIPAL_TOKEN", WEAK), (SWITCH, "false")]).await;
    assert!(printed.contains("easy to guess"), "{printed}");
}
