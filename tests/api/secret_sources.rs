//! Sources of secrets; no error repeats one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use reqwest::StatusCode;
use vx11_kit::remember_secret;

use crate::support::{Instance, complaint, complaint_about_file, file, planted};

#[tokio::test]
async fn a_secret_from_a_file_works_and_may_end_with_a_newline() {
    let (principal, key) = (planted(), planted() + &planted());
    remember_secret(&key);
    let (_folder, principal_file) = file(&format!("{principal}\r\n"));
    let (_other, keys_file) = file(&format!("{key}\n\n{key}\n"));
    let environment = [
        ("VX11_PRINCIPAL_TOKEN", ""),
        ("VX11_PRINCIPAL_TOKEN_FILE", &principal_file),
        ("VX11_OPERATOR_SIGNING_KEYS_FILE", &keys_file),
    ];
    let instance = Instance::with(&environment).await;
    let issued =
        instance.post("/operator/api/events/sse-token").bearer_auth(&principal).send().await.unwrap();
    assert_eq!(issued.status(), StatusCode::OK);
    let issued: serde_json::Value = issued.json().await.unwrap();
    let token = issued["sse_token"].as_str().unwrap();
    remember_secret(token);
    // Who has the same keys, given directly, accepts what it signed.
    let other =
        Instance::with(&[("VX11_PRINCIPAL_TOKEN", &principal), ("VX11_OPERATOR_SIGNING_KEYS", &key)]).await;
    assert_eq!(other.introspect(token).await["active"], true);
}

#[tokio::test]
async fn every_credential_of_a_file_is_accepted_and_tokens_are_signed_with_a_key_of_the_first() {
    let (old, new) = (planted(), planted());
    let (_folder, both) = file(&format!("{old}\n\n  {new}\r\n"));
    let instance =
        Instance::with(&[("VX11_PRINCIPAL_TOKEN", ""), ("VX11_PRINCIPAL_TOKEN_FILE", &both)]).await;
    let only_old = Instance::with(&[("VX11_PRINCIPAL_TOKEN", &old)]).await;
    for credential in [&old, &new] {
        let issued =
            instance.post("/operator/api/events/sse-token").bearer_auth(credential).send().await.unwrap();
        assert_eq!(issued.status(), StatusCode::OK);
        let issued: serde_json::Value = issued.json().await.unwrap();
        let token = issued["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert_eq!(only_old.introspect(token).await["active"], true);
    }
    // Only a file is read line by line.
    let complaint = complaint(&[("VX11_PRINCIPAL_TOKEN", &format!("{old}\n{new}"))]).await;
    assert!(complaint.contains("printable ASCII without spaces only"), "{complaint}");
}

#[tokio::test]
async fn a_secret_file_must_be_readable_and_hold_something_and_must_be_the_only_source() {
    let secret = planted();
    let (folder, empty) = file(" \n");
    let missing = folder.path().join("missing");
    let (missing, directory) = (missing.to_str().unwrap(), folder.path().to_str().unwrap());
    for (name, key, good) in [
        ("VX11_PRINCIPAL_TOKEN", "principal_token", &secret),
        ("VX11_OPERATOR_SIGNING_KEYS", "token.signing_keys", &(secret.clone() + &secret)),
        ("REDIS_PASSWORD", "redis.password", &secret),
        ("REDIS_URL", "redis.url", &format!("redis://:{secret}@redis")),
        ("VX11_OPERATOR__REDIS__SENTINEL_PASSWORD", "redis.sentinel_password", &secret),
    ] {
        let by_file = format!("{name}_FILE");
        // Passwords are read where a Redis is set.
        let redis = if key.ends_with("password") { ("REDIS_HOST", "redis") } else { ("REDIS_HOST", "") };
        let principal = ("VX11_PRINCIPAL_TOKEN", if key.starts_with("redis") { &*secret } else { "" });
        let alone = |file| [redis, principal, (by_file.as_str(), file)];
        for (file, problem) in
            [(missing, "cannot read the file"), (directory, "cannot read the file"), (&*empty, "the file")]
        {
            let complaint = complaint(&alone(file)).await;
            let blamed = format!("\n  {key}_file ({by_file}): {problem} {file}");
            assert!(complaint.contains(&blamed), "{blamed}: {complaint}");
            assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
        }
        let mistaken = complaint(&alone(&secret)).await;
        assert!(
            mistaken.contains("it may be the secret itself") && !mistaken.contains(&secret),
            "{mistaken}"
        );
        let complaint = complaint(&[redis, principal, (by_file.as_str(), &empty), (name, good)]).await;
        let both = format!("\n  {key} ({name}): is given both directly and by file ({by_file}); keep one");
        assert!(complaint.contains(&both), "{complaint}");
        assert!(!complaint.contains(good.as_str()), "{complaint}");
    }
}

#[tokio::test]
async fn what_a_secret_file_holds_is_blamed_on_the_variable_that_names_the_file() {
    let (_folder, poor) = file("a b\n");
    for (variable, key, problem) in [
        ("VX11_PRINCIPAL_TOKEN_FILE", "principal_token_file", "the credential cannot be sent in a header"),
        ("VX11_OPERATOR_SIGNING_KEYS_FILE", "token.signing_keys_file", "64 hexadecimal"),
        ("REDIS_URL_FILE", "redis.url_file", "cannot be read; expected: redis://"),
    ] {
        let complaint = complaint(&[(variable, &poor)]).await;
        let line = complaint.lines().find(|line| line.starts_with(&format!("  {key} ({variable}): ")));
        assert!(line.is_some_and(|line| line.contains(problem)), "{complaint}");
    }
}

#[tokio::test]
async fn no_complaint_repeats_a_secret_wherever_it_was_written() {
    // No signing key either.
    let secret = planted() + "x";
    let files = [
        "principal_token = '@",
        "principal_token = @",
        "principal_token = '@ @'",
        "principal_token = ['@']",
        "principal_token = 'a'\nprincipal_token = '@'",
        "[principal_token]\nvalue = '@'",
        "principal_token_file = ['@']",
        "principals = '@'",
        "principals = ['@']",
        "[principals]\nid = 'a'\ntoken = '@'",
        "[[principals]]\nid = 'a'\ntokn = '@'",
        "[[principals]]\nid = 'a'\ntoken = ['@']",
        "[[principals]]\nid = 'a'\ntoken = { value = '@' }",
        "[[principals]]\nid = 'a b'\ntoken = '@'",
        "[[principals]]\ntoken = '@'",
        "[[principals]]\nid = 'a'\ntoken = '@ @'",
        "[[principals]]\nid = 'a'\ntoken = '@'\ntoken_file = '/nonexistent'",
        "[[principals]]\nid = 'a'\ntoken = '@",
        "[token]\nsigning_keys = '@'",
        "[token]\nsigning_keys = ['@']",
        "[token]\nsigning_keys = [['@']]",
        "[token]\nsigning_keys = { first = '@' }",
        "[token]\nsigning_keys = ['@',,]",
        "token = '@'",
        "http = '@'",
        // The line that is shown of a file that is no TOML.
        "principal_token = '@'x",
        "[http]\nlisten = '[::]:1' principal_token = '@'",
        "[http]\nlisten = \"[::]:1 @\nworkers = 1",
        "[http]\nlisten = '[::]:1' x # @",
        "[http]\nlisten = x # @",
        "[http]\nworkers = 1 @",
        "[http]\n@ = = 1",
        "@==",
        "[@",
        "@ = 1",
        "[@]",
        "[http]\n@ = 1",
        "[[principals]]\nid = 'a'\n@ = 1",
        "principal_token = \"\"\"\nworkers = @",
        "[token]\nsigning_keys = [\n'@'\n'@'\n]",
        "[token]\nsigning_keys = ['@' '@']",
        "[redis]\nurl = redis://:@@redis",
        "[redis]\nhost = redis://:@@redis",
        "redis = { password = '@', ",
        "[http]\nlisten = { password = @ }",
        "[redis]\npasword = @",
        "[[principals]]\nid = 'a' token = '@'",
    ];
    for content in files {
        let complaint = complaint_about_file(&content.replace('@', &secret)).await;
        assert!(!complaint.contains(&secret[..8]), "{content}: {complaint}");
    }
    for variable in [
        "VX11_OPERATOR_SIGNING_KEYS",
        "VX11_OPERATOR__TOKEN__SIGNING_KEYS",
        "VX11_OPERATOR__TOKEN__SIGNING_KEYS__FIRST",
        "VX11_OPERATOR__TOKEN",
        "VX11_OPERATOR__PRINCIPALS",
        "VX11_OPERATOR__PRINCIPALS__TOKEN",
        "VX11_OPERATOR__PRINCIPAL_TOKEN__VALUE",
        "VX11_OPERATOR__PRINCIPAL_TOKN",
        "VX11_PRINCIPAL_TOKN",
        "REDIS_PASSWORD",
        "REDIS_PASSWORD_FILE",
        "REDIS_SENTINEL_PASSWORD",
        "REDIS_URL",
        "REDIS_PORT",
        "VX11_OPERATOR__REDIS",
        "VX11_OPERATOR__REDIS__PASWORD",
    ] {
        let complaint = complaint(&[(variable, &secret)]).await;
        assert!(!complaint.contains(&secret[..8]), "{variable}: {complaint}");
    }
    let (mut command, log) = Instance::command(&[]);
    let bytes = [b"\xff", secret.as_bytes()].concat();
    command.env("VX11_PRINCIPAL_TOKEN", OsStr::from_bytes(&bytes));
    assert_eq!(command.status().await.unwrap().code(), Some(2));
    assert!(!printed(&log).contains(&secret[..8]));
}

fn printed(log: &Path) -> String {
    std::fs::read_to_string(log).expect("the log can be read")
}
