//! Configurations from files and variables, good and damaged.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const SECRET: &str = "c0ffee11c0ffee22c0ffee33c0ffee44c0ffee55c0ffee66c0ffee77c0ffee88";

/// Loads, and checks that no error contains a piece of the secret.
fn load(file: Option<&Path>, environment: &HashMap<String, String>) -> Result<(), TestCaseError> {
    if let Err(errors) = Config::load(file, environment) {
        let text = errors.to_string();
        let pieces = SECRET.as_bytes().chunks(8).map(|piece| std::str::from_utf8(piece).unwrap());
        for piece in pieces {
            prop_assert!(!text.contains(piece), "{}", text);
        }
        prop_assert!(!errors.0.is_empty() && errors.0.iter().all(|line| !line.trim().is_empty()));
    }
    Ok(())
}

#[test]
fn debug_output_and_the_redacted_configuration_show_no_secret() {
    let set = |name: &str| (name.to_owned(), SECRET.to_owned());
    let environment = HashMap::from([set("VX11_PRINCIPAL_TOKEN"), set("VX11_OPERATOR_SIGNING_KEYS")]);
    let config = Config::load(None, &environment).unwrap();
    assert!(config.redacted.contains("principal_token = \"***\""));
    for shown in [format!("{config:?}"), config.redacted] {
        assert!(!shown.contains("c0ffee"), "{shown}");
    }
}

#[test]
fn what_could_never_work_is_refused() {
    let twins = format!(
        "[[principals]]\nid = 'a'\ntoken = '{SECRET}'\n[[principals]]\nid = 'b'\ntoken = '{SECRET}'\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.toml");
    for (text, complaint) in [
        (&*twins, "the same credential"),
        ("[memory]\nmax_bytes = 1", "one record"),
        ("[http]\ntrusted_proxies = [\"::ffff:10.0.0.0/104\"]", "IPv4 form"),
    ] {
        std::fs::write(&file, text).unwrap();
        let errors = Config::load(Some(&file), &HashMap::new()).unwrap_err();
        assert!(errors.to_string().contains(complaint), "{errors}");
    }
}

#[test]
fn a_generated_credential_stays_the_same_when_everything_is_read_again() {
    let nothing = HashMap::new();
    let first = Config::load(None, &nothing).unwrap();
    let again = first.load_again(None, &nothing).unwrap();
    let credential = |config: &Config| config.principals[0].1.expose_secret().to_owned();
    assert!(first.generated_principal && again.generated_principal);
    assert_eq!(credential(&again), credential(&first));
    assert_ne!(credential(&Config::load(None, &nothing).unwrap()), credential(&first));
}

#[test]
fn no_generated_credential_takes_the_place_of_configured_principals() {
    let configured = [("VX11_PRINCIPAL_TOKEN".to_owned(), SECRET.to_owned())].into();
    let config = Config::load(None, &configured).unwrap();
    assert!(config.load_again(None, &configured).is_ok());
    let errors = config.load_again(None, &HashMap::new()).unwrap_err();
    assert!(errors.in_one_line().contains("principal_token (VX11_PRINCIPAL_TOKEN): none is set any more"));
}

#[test]
fn keys_that_need_a_restart_are_all_but_those_of_principals_and_signing_keys() {
    let load = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, &pairs.collect()).unwrap()
    };
    let running = load(&[("VX11_PRINCIPAL_TOKEN", SECRET)]);
    let other = load(&[
        ("VX11_OPERATOR_SIGNING_KEYS", SECRET),
        ("VX11_OPERATOR__TOKEN__ALLOW_WEAK_PRINCIPALS", "true"),
        ("EPHEMERAL_TOKEN_TTL_SEC", "61"),
        ("VX11_OPERATOR__STREAMS__MAX", "1"),
    ]);
    assert_eq!(other.keys_that_need_a_restart(&running), ["streams.max", "token.ttl_seconds"]);
    assert!(running.keys_that_need_a_restart(&running).is_empty());
}

#[test]
fn all_errors_make_one_line_without_lines_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.toml");
    std::fs::write(&file, "[http]\nlisten = 0.0.0.0:8001\n").unwrap();
    let environment = [("EPHEMERAL_TOKEN_TTL".to_owned(), "1".to_owned())].into();
    let errors = Config::load(Some(&file), &environment).unwrap_err();
    assert!(errors.to_string().contains("| listen = 0.0.0.0:8001"), "{errors}");
    let line = errors.in_one_line();
    assert!(line.contains("EPHEMERAL_TOKEN_TTL: unknown variable") && line.contains("line 2, column"));
    assert!(!line.contains("| listen") && !line.contains('\n'), "{line}");
}

#[test]
fn a_folder_without_a_principal_is_refused_unless_one_is_configured_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap().to_owned();
    let mut environment = HashMap::from([("VX11_OPERATOR__PRINCIPALS_DIR".to_owned(), name)]);
    let errors = Config::load(None, &environment).unwrap_err();
    assert!(errors.to_string().contains("the folder has no file of a principal (*.toml)"), "{errors}");
    assert_eq!(errors.0.len(), 1, "{errors}");
    environment.insert("VX11_PRINCIPAL_TOKEN".to_owned(), SECRET.to_owned());
    assert!(!Config::load(None, &environment).unwrap().generated_principal);
}

/// A variable with our prefix or a similar one, without the address, whose value would be
/// resolved.
fn variable() -> impl Strategy<Value = (String, String)> {
    let of_secrets = prop_oneof![
        prop::sample::select(&["VX11_PRINCIPAL_TOKEN", "VX11_OPERATOR_SIGNING_KEYS", "REDIS_PASSWORD"][..])
            .prop_map(str::to_owned),
        "VX11_OPERATOR__(PRINCIPALS|PRINCIPAL_TOKEN|TOKEN|TOKEN__SIGNING_KEYS)((__|\\[[0-9]?\\]|\\.)[A-Z_]{0,4})?",
    ];
    let of_others = prop_oneof![
        prop::sample::select(
            &[
                "VX11_PRINCIPAL_TOKEN_FILE",
                "EPHEMERAL_TOKEN_TTL_SEC",
                "INSTANCE_ID",
                "VX11_OPERATOR_LOG_LEVEL",
                "VX11_OPERATOR_LOG_FORMAT",
                "VX11_OPERATOR__HTTP__TRUSTED_PROXIES",
                "VX11_OPERATOR__STREAMS__MAX",
            ][..]
        )
        .prop_map(str::to_owned),
        "VX11_OPERATOR(_|__)(HTTP|LOG|[A-Z]{0,3})(__|\\[[0-9]?\\]|\\.)?[A-Z_]{0,5}",
        "(VX11_PRINCIPAL|EPHEMERAL_TOKEN)_[A-Z_]{0,10}",
    ];
    let value = prop_oneof![any::<String>(), "-?[0-9]{0,25}", "[a-z0-9=,./: -]{0,20}"];
    prop_oneof![(of_secrets, Just(SECRET.to_owned())), (of_others, value)]
}

/// A valid file with secrets, and a few characters removed, added or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let good = format!(
        "principal_token = \"{SECRET}\"\n[[principals]]\nid = \"a\"\ntoken = '{SECRET}'\n\
         rights = [\"issue\"]\ntopics = ['orders/*']\n[token]\n\
         signing_keys = [\"{SECRET}\"]\nttl_seconds = 60\n[log]\nlevel = \"info\"\n"
    );
    let damage = (any::<prop::sample::Index>(), 0_usize..3, "[\\[\\]{}\"'=,.#a \n0-9]{0,2}");
    prop::collection::vec(damage, 0..4).prop_map(move |damages| {
        damages.into_iter().fold(good.clone(), |text, (at, gone, new)| {
            let at = at.index(text.len());
            format!("{}{new}{}", &text[..at], &text[(at + gone).min(text.len())..])
        })
    })
}

proptest! {
    #[test]
    fn no_environment_makes_loading_panic_or_tell_a_secret(variables in prop::collection::vec(variable(), 0..5)) {
        load(None, &variables.into_iter().collect())?;
    }

    #[test]
    fn no_file_makes_loading_panic_or_tell_a_secret(content in prop_oneof![damaged(), any::<String>()]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("operator.toml");
        std::fs::write(&file, content).unwrap();
        load(Some(&file), &HashMap::new())?;
    }

    #[test]
    fn every_number_within_its_range_is_taken_and_no_other(ttl in -2000_i64..2000) {
        let environment = [("EPHEMERAL_TOKEN_TTL_SEC".to_owned(), ttl.to_string())].into();
        prop_assert_eq!(Config::load(None, &environment).is_ok(), (1..=900).contains(&ttl));
    }
}
