//! As whom a command acts: the principal comes from the environment or a file, never from an
//! argument, and is never shown.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Front, Instance, Terminal, file, planted};

const COMMANDS: [&[&str]; 10] = [
    &["tail"],
    &["publish", "1"],
    &["token", "issue"],
    &["streams"],
    &["end", "--subject", "ada"],
    &["block", "--subject", "ada", "--seconds", "60"],
    &["unblock", "--subject", "ada"],
    &["revoke", "--subject", "ada"],
    &["stats"],
    &["stats", "--watch"],
];

#[tokio::test]
async fn without_a_principal_it_ends_with_2_and_says_what_to_set() {
    for command in COMMANDS {
        for terminal in [Terminal::bare(), Terminal::bare().with("VX11_PRINCIPAL_TOKEN", "")] {
            let ended = terminal.run(command).await;
            assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}");
            for word in ["VX11_PRINCIPAL_TOKEN ", "VX11_PRINCIPAL_TOKEN_FILE ", "--config", "No argument"] {
                assert!(ended.errors.contains(word), "{}", ended.errors);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_principal_ends_it_with_2_at_the_first_attempt_and_is_not_shown() {
    let instance = Instance::start().await;
    let wrong = planted();
    for command in COMMANDS {
        let ended = Terminal::of(&instance).with("VX11_PRINCIPAL_TOKEN", &wrong).run(command).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}");
        assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
        for word in [&instance.base, "401 credential_wrong", "VX11_PRINCIPAL_TOKEN"] {
            assert!(ended.errors.contains(word), "{}", ended.errors);
        }
        assert!(!ended.errors.contains(&wrong), "{}", ended.errors);
    }
}

#[tokio::test]
async fn the_principal_comes_from_the_environment_a_file_or_the_services_own_configuration() {
    let instance = Instance::start().await;
    let principal = &instance.principal;
    let url = || Terminal::bare().with("VX11_OPERATOR_URL", &instance.base);
    let (_a, secret) = file(&format!("{principal}\n"));
    let (_b, listed) = file(&format!(
        "[[principals]]\nid = 'a'\ntoken = '{principal}'\n[[principals]]\nid = 'b'\ntoken = 'x'"
    ));
    let (_c, by_file) = file(&format!("principal_token_file = '{secret}'"));
    for (terminal, arguments) in [
        (url().with("VX11_PRINCIPAL_TOKEN", principal), vec!["publish", "1"]),
        (url().with("VX11_PRINCIPAL_TOKEN_FILE", &secret), vec!["publish", "1"]),
        (url().with("VX11_OPERATOR__PRINCIPAL_TOKEN", principal), vec!["publish", "1"]),
        (url(), vec!["--config", &listed, "publish", "1"]),
        (url(), vec!["publish", "1", "--config", &by_file]),
    ] {
        let ended = terminal.run(&arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.errors);
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_rest_of_the_configuration_is_no_concern_of_a_client() {
    let instance = Instance::start().await;
    let content = format!("principal_token = '{}'\nunknown = 1\n[redis]\nport = 'x'\n", instance.principal);
    let (_folder, config) = file(&content);
    let terminal = Terminal::bare()
        .with("VX11_OPERATOR_URL", &instance.base)
        .with("REDIS_PORT", "no number")
        .with("VX11_OPERATOR_LOG_LEVEL", "deafening")
        .with("VX11_OPERATOR__UNKNOWN__KEY", "1")
        .with("VX11_OPERATOR_PROXY_ENABLED", "1")
        .with("EPHEMERAL_TOKEN_UNKNOWN", "1");
    let ended = terminal.run(&["publish", "1", "--config", &config]).await;
    assert_eq!(ended.code, 0, "{}", ended.errors);
    // The error is about the principal.
    let both = terminal.with("VX11_PRINCIPAL_TOKEN_FILE", "/nonexistent/principal");
    for (arguments, complaint) in [
        (vec!["publish", "1"], "cannot read the file /nonexistent/principal"),
        (vec!["publish", "1", "--config", &config], "given both directly and by file"),
        (vec!["publish", "1", "--config", "/nonexistent/operator.toml"], "operator.toml"),
    ] {
        let ended = both.run(&arguments).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(complaint), "{}", ended.errors);
    }
}

#[tokio::test]
async fn no_argument_takes_a_credential_and_none_shows_it() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance);
    for command in [["tail"].as_slice(), &["publish"], &["token", "issue"], &["stats"]] {
        let help = terminal.run(&[command, &["--help"]].concat()).await.output;
        let options: Vec<_> = help.lines().filter_map(|line| line.trim().strip_prefix("--")).collect();
        assert!(options.len() >= 5, "{help}");
        for option in options {
            let name = option.split(' ').next().unwrap();
            assert!(
                !["token", "principal", "credential", "secret"].iter().any(|word| name.contains(word)),
                "{help}"
            );
        }
        assert!(!help.contains(&instance.principal), "{help}");
    }
    let mut tail = terminal.start(&["tail"]);
    tail.says("connected").await;
    let shown = std::fs::read(format!("/proc/{}/cmdline", tail.pid())).unwrap();
    assert!(!String::from_utf8(shown).unwrap().contains(&instance.principal));
    // tests/secrets_stay_secret.rs searches logs and output.
    instance.publish(json!(1)).await;
    tail.line().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_for_it_would_hand_the_principal_to_another() {
    let elsewhere = Front::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/operator/api/events\r\nContent-Length: 0\r\n\r\n",
        elsewhere.base
    );
    let front = Front::answering(&[&redirect]).await;
    let terminal =
        Terminal::bare().with("VX11_OPERATOR_URL", &front.base).with("VX11_PRINCIPAL_TOKEN", &planted());
    let ended = terminal.run(&["publish", "1"]).await;
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("307 is a redirect, and none is followed"), "{}", ended.errors);
    let mut tail = terminal.start(&["tail"]);
    let shown = tail.says(&format!("no token from {}: 307 is a redirect", front.base)).await;
    assert!(!shown.contains("reconnecting"), "{shown}");
    assert_eq!(tail.ended().await.code, 1);
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_url_that_is_none_or_holds_a_password_is_refused_with_2() {
    let secret = planted();
    for (url, complaint) in [
        ("localhost:8001", "no URL of a service"),
        ("http://127.0.0.1:8001/?a=b", "no URL of a service"),
        (&format!("http://user:{secret}@127.0.0.1"), "takes no user or password"),
    ] {
        for command in COMMANDS {
            let terminal =
                Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", url);
            let ended = terminal.run(command).await;
            assert_eq!(ended.code, 2, "{}", ended.errors);
            assert!(ended.errors.contains(complaint) && !ended.errors.contains(&secret), "{}", ended.errors);
        }
    }
}

#[tokio::test]
async fn a_variable_of_ours_that_nothing_knows_is_refused_and_the_nearest_named() {
    let instance = Instance::start().await;
    for (name, advice) in [
        ("VX11_OPERATOR_URI", "did you mean VX11_OPERATOR_URL?"),
        ("VX11_PRINCIPAL_TOKENS", "did you mean VX11_PRINCIPAL_TOKEN?"),
        (
            "VX11_OPERATOR_HOST",
            "a client reads VX11_OPERATOR_URL, VX11_OPERATOR_CA, VX11_PRINCIPAL_TOKEN, VX11_PRINCIPAL_TOKEN_FILE",
        ),
    ] {
        let secret = planted();
        for command in COMMANDS {
            let ended = Terminal::of(&instance).with(name, &secret).run(command).await;
            assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{command:?}: {}", ended.errors);
            let expected = format!("vx11-operator: {name}: unknown variable; {advice}\n");
            assert_eq!(ended.errors, expected);
        }
    }
    assert_eq!(instance.metric("vx11_operator_events_published_total").await, 0);
}

#[tokio::test]
async fn the_variables_of_the_client_do_not_disturb_the_service() {
    let instance =
        Instance::with(&[("VX11_OPERATOR_URL", "http://127.0.0.1:1"), ("VX11_OPERATOR_CA", "/nonexistent")])
            .await;
    let health = instance.get("/health").send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}
