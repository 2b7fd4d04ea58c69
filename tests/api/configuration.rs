//! Errors that stop the start: exit code 2, and a message with key, problem and allowed values,
//! without secrets.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Instance, complaint, complaint_about_file, file, planted, run};

const RANGE: &str = "out of range";
const NUMBER: &str = "expected: a whole number";
const TOO_LONG: &str = "a-name-with-one-character-more-than-the-sixty-four-that-it-may-be";
/// The variable that names the folder of principals.
const FOLDER: &str = "VX11_OPERATOR__PRINCIPALS_DIR";
const CORS: &str = "VX11_OPERATOR__HTTP__CORS_ORIGINS";
/// A variable, a bad value, how the complaint begins, and something of what it says.
const BAD: [(&str, &str, &str, &str); 50] = [
    ("EPHEMERAL_TOKEN_TTL_SEC", "0", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "901", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "-1", "token.ttl_seconds", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "abc", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "1.5", "token.ttl_seconds", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "true", "token.ttl_seconds", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "99999999999999999999", "token.ttl_seconds", NUMBER),
    ("INSTANCE_ID", "a b", "instance.id (INSTANCE_ID)", "1 to 64 characters"),
    ("INSTANCE_ID", TOO_LONG, "instance.id", "1 to 64 characters"),
    ("VX11_OPERATOR_LISTEN", "8001", "http.listen (VX11_OPERATOR_LISTEN)", "address:port"),
    ("VX11_OPERATOR_LISTEN", "127.0.0.1:65536", "http.listen", "address:port"),
    (
        "VX11_OPERATOR_LOG_LEVEL",
        "loud",
        "log.level (VX11_OPERATOR_LOG_LEVEL)",
        "error, warn, info, debug, trace",
    ),
    ("VX11_OPERATOR_LOG_LEVEL", "info,", "log.level", "error, warn, info, debug, trace"),
    ("VX11_OPERATOR_LOG_LEVEL", "info,actix=loud", "log.level", "error, warn, info, debug, trace"),
    ("VX11_OPERATOR__AUDIT__CLIENT_ADDRESS", "half", "audit.client_address", "full, network and none"),
    ("VX11_OPERATOR_LOG_FORMAT", "xml", "log.format (VX11_OPERATOR_LOG_FORMAT)", "text and json"),
    (
        "VX11_OPERATOR_SIGNING_KEYS",
        "abc",
        "token.signing_keys (VX11_OPERATOR_SIGNING_KEYS)",
        "64 hexadecimal",
    ),
    ("VX11_OPERATOR__HTTP__WORKERS", "513", "http.workers", "0 to 512 threads"),
    ("VX11_OPERATOR__HTTP__BODY_TIMEOUT_SECONDS", "0", "http.body_timeout_seconds", "1 to 300 seconds"),
    ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "10.0.0.0/33", "http.trusted_proxies", "such as 10.0.0.0/8"),
    ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "::1,localhost", "http.trusted_proxies", "such as 10.0.0.0/8"),
    (CORS, "https://app.example/", "http.cors_origins", "write \"https://app.example\""),
    (CORS, "https://app.example,https://b.example:443", "http.cors_origins", "write \"https://b.example\""),
    (CORS, "app.example", "http.cors_origins (VX11_OPERATOR__HTTP__CORS_ORIGINS)", "https://app.example"),
    (CORS, "null", "http.cors_origins", "\"null\" is no origin; expected: https://app.example"),
    (CORS, "https://*.example", "http.cors_origins", "list each origin"),
    (CORS, "https://app.example,*", "http.cors_origins", "write it alone"),
    ("VX11_OPERATOR__HTTP__COOKIE_SAME_SITE", "lax", "http.cookie_same_site", "strict and none"),
    ("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "0", "memory.max_entries", "any positive number"),
    ("VX11_OPERATOR__MEMORY__MAX_BYTES", "-1", "memory.max_bytes", "160 bytes"),
    ("VX11_OPERATOR__EVENTS__LOG_ENTRIES", "0", "events.log_entries", "any positive number"),
    ("VX11_OPERATOR__EVENTS__LOG_BYTES", "1048575", "events.log_bytes", "1048576 to 4294967295 bytes"),
    ("VX11_OPERATOR__EVENTS__RING_ENTRIES", "0", "events.ring_entries", "any positive number"),
    ("VX11_OPERATOR__EVENTS__RING_BYTES", "0", "events.ring_bytes", RANGE),
    ("VX11_OPERATOR__STREAMS__MAX", "0", "streams.max", "1 to 1000000 streams"),
    ("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "-1", "streams.max_per_token", "0 to 1000000 streams"),
    ("VX11_OPERATOR__STREAMS__MAX_PER_PRINCIPAL", "1000001", "streams.max_per_principal", RANGE),
    ("VX11_OPERATOR__STREAMS__PER_SUBJECT", "1001", "streams.per_subject", RANGE),
    (
        "VX11_OPERATOR__STREAMS__PER_SUBJECT_POLICY",
        "newest",
        "streams.per_subject_policy",
        "\"newest\" is unknown; allowed are refuse and replace_oldest",
    ),
    ("VX11_OPERATOR__EVENTS__STREAM_TOPICS", "1", "events.stream_topics", "expected: true or false"),
    (
        "VX11_OPERATOR__REDIS__WHEN_LOST",
        "wait",
        "redis.when_lost",
        "\"wait\" is unknown; allowed are accept and refuse",
    ),
    ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "31", "streams.heartbeat_seconds", "1 to 30"),
    ("VX11_OPERATOR__STREAMS__GATHER_MILLISECONDS", "1001", "streams.gather_milliseconds", "0 to 1000"),
    ("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "86401", "streams.max_age_seconds", "1 to 86400"),
    ("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "no", "streams.principal_in_query", "true or false"),
    ("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "0", "streams.principal_in_query", "true or false"),
    ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "0", "streams.retry_milliseconds", "1 to 60000"),
    ("VX11_OPERATOR__LIMITS__ISSUE_PER_SECOND", "-1", "limits.issue_per_second", "0 to 1000000"),
    ("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "1000001", "limits.failed_auth_per_minute", RANGE),
    ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "301", "drain.window_seconds", "0 to 300 seconds"),
];

#[tokio::test]
async fn each_bad_value_is_named_with_its_key_and_what_is_allowed() {
    for (variable, value, key, allowed) in BAD {
        let complaint = complaint(&[(variable, value)]).await;
        let line = complaint.lines().find(|line| line.trim_start().starts_with(key));
        let line = line.unwrap_or_else(|| panic!("{variable}={value}: {complaint}"));
        assert!(line.contains(allowed), "{variable}={value}: {line}");
        assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
    }
}

#[tokio::test]
async fn the_ends_of_a_range_belong_to_it_and_an_empty_variable_is_not_set() {
    for value in ["1", "900", " 60 ", ""] {
        let (code, printed) = run(&["check-config"], &[("EPHEMERAL_TOKEN_TTL_SEC", value)]).await;
        assert_eq!(code, 0, "{printed}");
    }
}

#[tokio::test]
async fn unknown_variables_are_named_with_what_was_probably_meant() {
    for (variable, named) in [
        ("VX11_OPERATOR_FOO", "VX11_OPERATOR_FOO: unknown variable; allowed are VX11_PRINCIPAL_TOKEN, "),
        ("VX11_OPERATOR_TTL", "VX11_OPERATOR_TTL: unknown variable; allowed are "),
        ("VX11_PRINCIPAL_TOKN", "VX11_PRINCIPAL_TOKN: unknown variable; did you mean VX11_PRINCIPAL_TOKEN?"),
        (
            "EPHEMERAL_TOKEN_TTL",
            "EPHEMERAL_TOKEN_TTL: unknown variable; did you mean EPHEMERAL_TOKEN_TTL_SEC?",
        ),
        (
            "VX11_OPERATOR_HTTP_WORKERS",
            "VX11_OPERATOR_HTTP_WORKERS: unknown variable; did you mean VX11_OPERATOR__HTTP__WORKERS?",
        ),
        (
            "VX11_OPERATOR__TOKEN__TTL",
            "VX11_OPERATOR__TOKEN__TTL: unknown variable; did you mean VX11_OPERATOR__TOKEN__TTL_SECONDS?",
        ),
        (
            "VX11_OPERATOR__WORKERS",
            "VX11_OPERATOR__WORKERS: unknown variable; did you mean VX11_OPERATOR__HTTP__WORKERS?",
        ),
        (
            "VX11_OPERATOR__HTTP__FOO",
            "VX11_OPERATOR__HTTP__FOO: unknown variable; keys of http are body_timeout_seconds, cookie_same_site, ",
        ),
        ("VX11_OPERATOR__FOO", "VX11_OPERATOR__FOO: unknown variable; sections are audit, drain, "),
        ("VX11_OPERATOR__FOO__BAR", "VX11_OPERATOR__FOO__BAR: unknown variable; sections are audit, drain, "),
        ("VX11_OPERATOR__DRAIN", "VX11_OPERATOR__DRAIN: drain is a section; its keys are window_seconds"),
        ("VX11_OPERATOR__PRINCIPALS", "VX11_OPERATOR__PRINCIPALS: only a file can list principals"),
    ] {
        let complaint = complaint(&[(variable, "1")]).await;
        assert!(complaint.contains(&format!("\n  {named}")), "{complaint}");
        assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
    }
}

#[tokio::test]
async fn unknown_and_ill_typed_keys_are_named_with_their_file() {
    for (content, key, problem) in [
        ("foo = 1", "foo", "unknown key; allowed here are issuers, principal_token, "),
        ("[htpp]\nlisten = '[::]:1'", "htpp", "unknown key; did you mean http?"),
        ("listen = '[::]:1'", "listen", "unknown key; did you mean http.listen?"),
        ("log_level = 'info'", "log_level", "unknown key; did you mean log.level?"),
        (
            "\"\\u001b[31m\" = 1",
            r#""\u{1b}[31m""#,
            "unknown key; allowed here are issuers, principal_token, ",
        ),
        (
            "[http]\nfoo = 1",
            "http.foo",
            "unknown key; keys of http are body_timeout_seconds, cookie_same_site, ",
        ),
        ("[redis]\nhots = 'a'", "redis.hots", "unknown key; did you mean redis.host?"),
        (
            "[[principals]]\nid = 'a'\ntoken = 'a-credential-that-is-hard-to-guess'\ntokn = 'b'",
            "principals[0].tokn",
            "unknown key; did you mean token?",
        ),
        ("[http]\nworkers = 1.5", "http.workers", "1.5 is not allowed; expected: a whole number"),
        ("[http]\nworkers = true", "http.workers", "true is not allowed; expected: a whole number"),
        ("[http]\nworkers = [1]", "http.workers", "this value is not allowed; expected: a whole number"),
        ("[http]\ntrusted_proxies = 5", "http.trusted_proxies", "5 is not allowed; expected: a list"),
        ("drain = 5", "drain", "this value is not allowed; expected: a section"),
        ("[[principals]]\ntoken = 'b'", "principals[0].id", "is missing"),
        ("[[principals]]\nid = 'b'", "principals[0]", "\"b\" needs a token or a token_file"),
        (
            "[[principals]]\nid = 'b'\ntoken = 'a-credential-that-is-hard-to-guess'\n\
             [[principals]]\nid = 'my app'\ntoken = 'd'",
            "principals[1].id",
            "\"my app\" is no id; allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ),
        ("principals_dr = '/tmp'", "principals_dr", "unknown key; did you mean principals_dir?"),
    ] {
        let (_folder, file) = file(content);
        let (code, printed) = run(&["check-config", "--config", &file], &[]).await;
        assert_eq!(code, 2, "{printed}");
        assert!(printed.contains(&format!("\n  {key} ({file}): {problem}")), "{content}: {printed}");
        assert_eq!(printed.lines().count(), 2, "one problem, one complaint: {printed}");
    }
}

#[tokio::test]
async fn rights_and_topics_that_cannot_be_meant_are_named_with_what_is_allowed() {
    const ALL_RIGHTS: &str = "issue, publish, subscribe, introspect, observe, control";
    let long =
        format!("topics = [{}]", (0..17).map(|number| format!("'t{number}'")).collect::<Vec<_>>().join(","));
    for (line, key, problem) in [
        ("rights = ['isue']", "rights", format!("\"isue\" is no right; allowed are {ALL_RIGHTS}")),
        ("rights = ['Issue']", "rights", format!("\"Issue\" is no right; allowed are {ALL_RIGHTS}")),
        ("rights = ['issue', '']", "rights", format!("\"\" is no right; allowed are {ALL_RIGHTS}")),
        (
            "rights = []",
            "rights",
            format!("the list is empty; remove the key to give all rights, or list some of {ALL_RIGHTS}"),
        ),
        ("rights = 'issue'", "rights", "this value is not allowed; expected: a list of texts".to_owned()),
        ("rights = { issue = true }", "rights", "this value is not allowed; expected: a list".to_owned()),
        (
            "topics = ['orders*']",
            "topics",
            "\"orders*\" is not allowed: a pattern is a topic, a prefix".to_owned(),
        ),
        ("topics = ['a//b']", "topics", "\"a//b\" is not allowed: a pattern is a topic, a prefix".to_owned()),
        (
            "topics = ['$streams/*']",
            "topics",
            "\"$streams/*\" belongs to the service; the right observe".to_owned(),
        ),
        ("topics = ['a', 'a']", "topics", "a topic occurs twice".to_owned()),
        (
            "topics = []",
            "topics",
            "the list is empty; remove the key to allow all topics, or list some".to_owned(),
        ),
        (&long, "topics", "1 to 16 topics are allowed".to_owned()),
    ] {
        let entry = format!("id = 'a'\ntoken = '{}'\n{line}\n", planted());
        let printed = complaint_about_file(&format!("[[principals]]\n{entry}")).await;
        let place = format!("  principals[0].{key} (");
        let is_named =
            |printed: &str| printed.lines().any(|line| line.starts_with(&place) && line.contains(&problem));
        assert!(is_named(&printed) && printed.lines().count() == 2, "{line}: {printed}");
        // The same in a file of the folder.
        let (_folder, name) = folder_with(&[("a.toml", &entry)]);
        let printed = complaint(&[(FOLDER, &name)]).await;
        let place = format!("  {key} ({name}/a.toml): ");
        let is_named =
            |printed: &str| printed.lines().any(|line| line.starts_with(&place) && line.contains(&problem));
        assert!(is_named(&printed) && printed.lines().count() == 2, "{line}: {printed}");
    }
}

/// A folder with these files, and its name.
fn folder_with(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let name = folder.path().to_str().unwrap().to_owned();
    (folder, name)
}

#[tokio::test]
async fn a_bad_file_of_a_principal_is_named_with_the_key_and_never_with_a_secret() {
    let [secret, other] = [planted(), planted()];
    let good = format!("id = 'good'\ntoken = '{other}'\n");
    for (content, place, problem) in [
        (format!("token = '{secret}'"), "id (@/a.toml): ", "is missing"),
        (format!("id = 'a b'\ntoken = '{secret}'"), "id (@/a.toml): ", "\"a b\" is no id"),
        (format!("id = 'a'\ntokn = '{secret}'"), "tokn (@/a.toml): ", "unknown key; did you mean token?"),
        (
            format!("id = 'a'\nsecret = '{secret}'"),
            "secret (@/a.toml): ",
            "fields of a principal are id, token,",
        ),
        (format!("id = 'a'\ntoken = ['{secret}']"), "token (@/a.toml): ", "expected: a text"),
        ("id = 'a'".to_owned(), "@/a.toml: ", "\"a\" needs a token or a token_file"),
        (
            format!("id = 'a'\ntoken = '{secret}'\ntoken_file = 'x'"),
            "token (@/a.toml): ",
            "is given both directly and by file (token_file); keep one",
        ),
        (
            "id = 'a'\ntoken_file = 'missing'".to_owned(),
            "token_file (@/a.toml): ",
            "cannot read the file \"missing\": ",
        ),
        (
            "id = 'a'\ntoken_file = 'empty'".to_owned(),
            "token_file (@/a.toml): ",
            "the file \"empty\" is empty",
        ),
        (
            format!("id = 'a'\ntoken_file = '{secret}'"),
            "token_file (@/a.toml): ",
            "cannot read the file of this name (not shown: it may be the secret itself",
        ),
        (format!("id = 'a'\ntoken = '{secret} x'"), "token (@/a.toml): ", "cannot be sent in a header"),
        (
            format!("id = 'a'\ntoken = '{other}'"),
            "token (@/good.toml): ",
            "principal good has the same credential as another principal",
        ),
        (
            format!("id = 'good'\ntoken = '{secret}'\nrights = ['issue']"),
            "@/good.toml: ",
            "principal good has other rights or topics in another entry",
        ),
        (format!("id = 'a'\ntoken = '{secret}"), "@/a.toml, line 2, column ", ""),
    ] {
        let (_folder, name) = folder_with(&[("a.toml", &content), ("good.toml", &good), ("empty", "\n")]);
        let complaint = complaint(&[(FOLDER, &name)]).await;
        let begins = format!("  {}", place.replace('@', &name));
        let line = complaint.lines().find(|line| line.starts_with(&begins));
        assert!(line.is_some_and(|line| line.contains(problem)), "{begins}{problem}: {complaint}");
        for secret in [&secret, &other] {
            assert!(!complaint.contains(&secret[..8]), "{content}: {complaint}");
        }
    }
}

#[tokio::test]
async fn a_folder_of_principals_that_cannot_be_read_or_is_empty_is_named() {
    let (folder, empty) = folder_with(&[]);
    let missing = folder.path().join("missing").display().to_string();
    let mistaken = planted();
    for (name, problem) in [
        (&missing, format!("cannot read the folder {missing}: ")),
        (&mistaken, "cannot read the folder of this name (not shown: it may be the secret itself".to_owned()),
        (&empty, "the folder has no file of a principal (*.toml)".to_owned()),
    ] {
        let complaint = complaint(&[(FOLDER, name)]).await;
        assert!(complaint.contains(&format!("\n  principals_dir ({FOLDER}): {problem}")), "{complaint}");
        assert!(!complaint.contains(&mistaken[..8]), "{complaint}");
        assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
    }
}

#[tokio::test]
async fn check_config_shows_the_rights_and_topics_of_all_principals_and_no_secret() {
    let [listed, in_folder, key] = [planted(), planted(), planted()];
    let shop = "id = 'shop'\ntoken_file = 'shop.token'\nrights = ['publish', 'issue']\n";
    let (folder, name) = folder_with(&[
        ("shop.toml", shop),
        ("shop.token", &in_folder),
        (".hidden.toml", "no TOML"),
        ("notes.txt", "no TOML"),
    ]);
    let (_folder, file) =
        file(&format!("[[principals]]\nid = 'page'\ntoken = '{listed}'\ntopics = ['orders/*', 'users/7']\n"));
    let environment = [(FOLDER, name.as_str()), ("VX11_OPERATOR_SIGNING_KEYS", &key)];
    let (code, printed) = run(&["check-config", "--config", &file], &environment).await;
    assert_eq!(code, 0, "{printed}");
    let shown: toml::Table = printed.parse().unwrap();
    let texts = |principal: usize, field: &str| {
        let list = shown["principals"][principal][field].as_array().unwrap();
        list.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all_rights = ["issue", "publish", "subscribe", "introspect", "observe", "control"];
    assert_eq!(shown["principals"][0]["id"].as_str(), Some("page"));
    assert_eq!(
        (texts(0, "rights"), texts(0, "topics")),
        (all_rights.map(str::to_owned).to_vec(), ["orders/*", "users/7"].map(str::to_owned).to_vec(),)
    );
    assert_eq!(shown["principals"][1]["id"].as_str(), Some("shop"));
    assert_eq!(texts(1, "rights"), ["publish", "issue"]);
    assert_eq!(texts(1, "topics"), ["*"]);
    let by_file = folder.path().join("shop.token").display().to_string();
    assert_eq!(shown["principals"][1]["token_file"].as_str(), Some(by_file.as_str()));
    for secret in [listed, in_folder, key] {
        assert!(!printed.contains(&secret[..8]), "{printed}");
    }
}

#[tokio::test]
async fn all_mistakes_of_a_file_are_reported_at_once() {
    let content = "colour = 'red'\n[http]\nlisten = '8001'\n[token]\nttl_seconds = '1h'\n[redis]\n\
                   url = 'redis://redis'\nhost = 'redis'\n";
    let (_folder, file) = file(content);
    let (code, printed) =
        run(&["check-config", "--config", &file], &[("VX11_OPERATOR_LISTEN", ""), ("REDIS_DB", "-1")]).await;
    assert_eq!(code, 2);
    for line in [
        format!("\n  colour ({file}): unknown key"),
        format!("\n  token.ttl_seconds ({file}): \"1h\" is not allowed; expected: a whole number"),
        format!("\n  http.listen ({file}): \"8001\" is no address to listen on"),
        format!("\n  redis.host ({file}): redis.url is set, too"),
        "\n  redis.db (REDIS_DB): -1 is out of range".to_owned(),
    ] {
        assert!(printed.contains(&line), "{line}: {printed}");
    }
    assert_eq!(printed.lines().count(), 6, "{printed}");
}

#[tokio::test]
async fn a_value_that_is_no_secret_is_repeated_escaped_and_cut_short() {
    let long = "no number ".repeat(100);
    for (variable, value, repeated) in [
        ("EPHEMERAL_TOKEN_TTL_SEC", "1h", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC): \"1h\" is"),
        (
            "REDIS_PORT",
            "tcp://10.96.0.1:6379",
            "redis.port (REDIS_PORT): \"tcp://10.96.0.1:6379\" is not allowed; expected: a whole number",
        ),
        ("REDIS_PORT", "redis://:pass@redis", "redis.port (REDIS_PORT): this value is not allowed"),
        ("EPHEMERAL_TOKEN_TTL_SEC", "\u{1b}[31m6\u{7}", r#": "\u{1b}[31m6\u{7}" is not allowed"#),
        ("EPHEMERAL_TOKEN_TTL_SEC", &long, ": \"no number no number "),
        ("VX11_OPERATOR_LISTEN", &long, ": \"no number no number "),
        ("VX11_OPERATOR_LOG_LEVEL", &long, ": \"no number no number "),
        ("VX11_OPERATOR_LOG_FORMAT", &long, ": \"no number no number "),
        ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", &long, ": \"no number no number "),
        ("VX11_OPERATOR__AUDIT__CLIENT_ADDRESS", &long, ": \"no number no number "),
    ] {
        let complaint = complaint(&[(variable, value)]).await;
        assert!(complaint.contains(repeated), "{variable}: {complaint}");
        assert!(complaint.lines().all(|line| line.chars().count() < 300), "{variable}: {complaint}");
    }
}

#[tokio::test]
async fn a_syntax_error_is_shown_with_its_file_its_place_and_what_was_expected() {
    for (content, shown) in [
        (
            "[http]\nlisten = 0.0.0.0:8001\n",
            &[", line 2, column 13: ", "\n    2 | listen = 0.0.0.0:8001\n      |             ^"][..],
        ),
        ("[http\nworkers = 1\n", &[", line 1, column ", "unclosed table, expected `]`", "\n    1 | [http\n"]),
        (
            "[token]\nsigning_keys = ['a' 'b']\n",
            &[", line 2, column 21: missing comma", "\n    2 | signing_keys = …\n"],
        ),
        ("[http]\nworkers 1\n", &[", line 2, column ", "expected `=`"]),
        ("[log]\nlevel = \"info\n", &[", line 2, column ", "\n    2 | level = \"info\n"]),
        ("[http]\nworkers = 1\nworkers = 2\n", &[", line 3, column 1: duplicate key"]),
    ] {
        let (_folder, file) = file(content);
        let (code, printed) = run(&["check-config", "--config", &file], &[]).await;
        assert_eq!(code, 2, "{printed}");
        assert!(printed.contains(&format!("\n  {file}{}", shown[0])), "{content}: {printed}");
        for text in shown {
            assert!(printed.contains(text), "{content}: {text}: {printed}");
        }
    }
}

#[tokio::test]
async fn a_configuration_file_that_cannot_be_read_is_named_with_the_reason() {
    let (folder, missing) = file("");
    let folder = folder.path().to_str().unwrap();
    std::fs::remove_file(&missing).unwrap();
    let (_other, bytes) = file("");
    std::fs::write(&bytes, b"[http]\nlisten = \"\xff\"").unwrap();
    for (name, reason) in [
        (folder, "is a folder; --config expects a TOML file"),
        (&missing, "not found"),
        (&bytes, "is no text in UTF-8"),
    ] {
        let environment = [("EPHEMERAL_TOKEN_TTL", "1")];
        let (code, printed) = run(&["check-config", "--config", name], &environment).await;
        assert_eq!(code, 2, "{printed}");
        assert!(printed.contains(&format!("\n  {name}: {reason}")), "{printed}");
        assert!(printed.contains("\n  EPHEMERAL_TOKEN_TTL: unknown variable"), "{printed}");
    }
}

#[tokio::test]
async fn variables_of_others_are_none_of_our_business() {
    let (mut command, log) =
        Instance::command(&[("VX11_OPERATOR_PROXY_ENABLED", "1"), ("PATH", "/bin"), ("FOO", "1")]);
    command.env("STRAY", OsStr::from_bytes(b"\xff\xfe"));
    let status = command.arg("check-config").status().await.unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(log).unwrap());
}

#[tokio::test]
async fn several_problems_are_reported_at_once() {
    let environment = [
        ("EPHEMERAL_TOKEN_TTL_SEC", "0"),
        ("VX11_OPERATOR_LOG_FORMAT", "xml"),
        ("INSTANCE_ID", "?"),
        ("VX11_PRINCIPAL_TOKEN_FILE", "/nonexistent/principal"),
    ];
    let complaint = complaint(&environment).await;
    for key in ["token.ttl_seconds", "log.format", "instance.id", "principal_token_file"] {
        assert_eq!(complaint.matches(&format!("\n  {key}")).count(), 1, "{complaint}");
    }
}

#[tokio::test]
async fn serving_refuses_what_check_config_refuses() {
    let (status, printed) = Instance::try_with(&[("EPHEMERAL_TOKEN_TTL_SEC", "901")]).await.err().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(printed.contains("allowed are 1 to 900 seconds"), "{printed}");
    let (folder, missing) = file("");
    drop(folder);
    for arguments in [["serve", "--config", &missing], ["--config", &missing, "healthcheck"]] {
        let (code, printed) = run(&arguments, &[]).await;
        assert!(code == 2 && printed.contains("not found"), "{printed}");
    }
}

#[tokio::test]
async fn a_redis_that_cannot_be_meant_stops_the_start_and_no_password_is_repeated() {
    let password = planted();
    let url = format!("redis://user:{password}@redis");
    let (url, password) = (url.as_str(), password.as_str());
    for (variables, expected) in [
        (
            &[("REDIS_HOST", url)][..],
            "redis.host (REDIS_HOST): expected: host or host:port, without a scheme",
        ),
        (&[("REDIS_URL", "http://redis")], "redis.url (REDIS_URL): cannot be read; expected: redis://"),
        (&[("REDIS_URL", url), ("REDIS_PASSWORD", password)], "redis.url contains a password, too"),
        (&[("REDIS_URL", url), ("REDIS_HOST", "redis")], "redis.url is set, too; set only one of the two"),
        (&[("REDIS_PASSWORD", password)], "redis.password (REDIS_PASSWORD): is set, but no Redis is"),
        (&[("REDIS_SENTINELS", "one,two")], "redis.sentinel_master (REDIS_SENTINEL_MASTER): is needed"),
        (&[("REDIS_SENTINELS", url)], "redis.sentinels (REDIS_SENTINELS): expected: host or host:port"),
        (&[("REDIS_CLUSTER_NODES", "one:0")], "redis.cluster_nodes (REDIS_CLUSTER_NODES): expected: host"),
        (
            &[("REDIS_HOST", "redis"), ("REDIS_PORT", "70000")],
            "redis.port (REDIS_PORT): 70000 is out of range",
        ),
        (&[("REDIS_HOST", "redis"), ("REDIS_DB", "-1")], "redis.db (REDIS_DB): -1 is out of range"),
        (
            &[("REDIS_HOST", "redis"), ("VX11_OPERATOR__REDIS__NAMESPACE", "{vx11}")],
            "redis.namespace (VX11_OPERATOR__REDIS__NAMESPACE): allowed are 1 to 32 characters of a-z 0-9 -",
        ),
        (&[("REDIS_HOST", "redis"), ("REDIS_USERNAME", "sse")], "a user needs a password (REDIS_PASSWORD)"),
        (
            &[("REDIS_HOST", "redis"), ("VX11_OPERATOR__REDIS__CA_FILE", "./none.pem")],
            "redis.ca_file (VX11_OPERATOR__REDIS__CA_FILE): cannot read the file ./none.pem",
        ),
        (&[("REDIS_HOST", "redis"), ("VX11_OPERATOR__REDIS__TLS", "yes")], "expected: true or false"),
        (
            &[("VX11_OPERATOR__REDIS__WHEN_LOST", "refuse")],
            "redis.when_lost (VX11_OPERATOR__REDIS__WHEN_LOST): is set, but no Redis is",
        ),
    ] {
        let printed = complaint(variables).await;
        assert!(printed.contains(expected) && !printed.contains(password), "{variables:?}: {printed}");
    }
}

#[tokio::test]
async fn with_redis_a_principal_is_needed_because_all_instances_share_it() {
    let (code, printed) = run(&["serve"], &[("REDIS_HOST", "127.0.0.1")]).await;
    assert_eq!(code, 2);
    assert!(printed.contains("principal_token (VX11_PRINCIPAL_TOKEN): is needed with Redis"), "{printed}");
}
