//! `deploy/systemd`: the unit by systemd's own verdict, and an instance under the environment that
//! the unit makes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use vx11_kit::{RedisServer, new_principal};

use crate::instance::{Environment, Instance, check_config, replace};
use crate::shipped;

const NAME: &str = "vx11-operator@.service";
/// Path of the program in the unit.
const INSTALLED: &str = "/usr/local/bin/vx11-operator";
/// systemd's figure for how much a service could do if it were taken over, times ten: 0 is nothing,
/// 100 everything.
const MOST_EXPOSURE: u64 = 15;

fn unit() -> String {
    std::fs::read_to_string(shipped("deploy/systemd").join(NAME)).unwrap()
}

/// Values of a key, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// A number of seconds such as `30s`.
fn seconds(unit: &str, key: &str) -> u64 {
    let [value] = values(unit, key)[..] else { panic!("not one {key}") };
    value.trim_end_matches('s').parse().unwrap()
}

/// Asks systemd about a unit of this text, whose program is the one built here.
fn analyze(text: &str, arguments: &[&str], name: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let text = text.replace(INSTALLED, env!("CARGO_BIN_EXE_vx11-operator"));
    std::fs::write(folder.path().join(NAME), text).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(folder.path().join(name)).output().expect("systemd-analyze; `make packages`")
}

/// Errors of systemd, without lines about other units of this machine.
fn complaints(text: &str) -> Vec<String> {
    let output = analyze(text, &["verify", "--man=no"], "vx11-operator@1.service");
    let printed = String::from_utf8(output.stderr).unwrap();
    let ours: Vec<_> =
        printed.lines().filter(|line| line.contains("vx11-operator@")).map(str::to_owned).collect();
    assert!(output.status.success() || !ours.is_empty(), "{printed}");
    ours
}

#[test]
fn systemd_accepts_every_line_of_the_unit() {
    assert_eq!(complaints(&unit()), Vec::<String>::new());
}

#[test]
fn systemd_names_a_misspelt_key_and_a_program_that_is_not_there() {
    let mistakes = [
        ("ProtectHome=yes", "ProtectHom=yes", "Unknown key"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@system-servants", "system-servants"),
        (INSTALLED, "/usr/local/bin/vx11-operateur", "not executable"),
    ];
    for (right, wrong, complaint) in mistakes {
        let text = unit();
        assert!(text.contains(right), "{right}");
        let found = complaints(&text.replace(right, wrong));
        assert!(found.iter().any(|line| line.contains(complaint)), "{wrong}: {found:?}");
    }
}

#[test]
fn the_unit_leaves_the_service_little_to_do_harm_with() {
    let exposed = |text: &str, most: u64| {
        let threshold = format!("--threshold={most}");
        !analyze(text, &["security", "--offline=true", &threshold], NAME).status.success()
    };
    assert!(!exposed(&unit(), MOST_EXPOSURE), "more exposed than 1.5 of 10");
    for line in [
        "NoNewPrivileges=yes",
        "SystemCallFilter=@system-service",
        "CapabilityBoundingSet=",
        "PrivateUsers=yes",
    ] {
        assert!(unit().lines().any(|own| own == line), "{line}");
    }
    let without_filter = unit().replace("SystemCallFilter=", "#SystemCallFilter=");
    assert!(exposed(&without_filter, MOST_EXPOSURE), "the threshold would not notice a missing filter");
}

#[test]
fn a_reload_sends_the_signal_that_reads_principals_again_and_ends_nothing() {
    assert_eq!(values(&unit(), "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
}

#[test]
fn a_crash_leaves_no_secrets_on_the_disk() {
    assert_eq!(values(&unit(), "LimitCORE"), ["0"]);
}

#[test]
fn a_crash_is_restarted_for_ever_and_a_bad_configuration_never() {
    let unit = unit();
    assert_eq!(values(&unit, "Restart"), ["on-failure"]);
    assert_eq!(values(&unit, "StartLimitIntervalSec"), ["0"]);
    assert_eq!(values(&unit, "KillSignal"), ["SIGTERM"]);
    let mut environment = environment(&unit, "1", Path::new("/nonexistent"));
    let (code, _) = check_config(&environment);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), [code.to_string()], "a missing secret");
    environment.push(("VX11_OPERATOR_LISTEM".into(), "127.0.0.1:8011".into()));
    let (code, complaint) = check_config(&environment);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), [code.to_string()], "{complaint}");
}

/// `NAME=value` lines of the environment file.
fn file() -> Environment {
    let text = std::fs::read_to_string(shipped("deploy/systemd/operator.env")).unwrap();
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Environment of instance `number` by systemd: the unit's variables, then the file's.
fn environment(unit: &str, number: &str, credentials: &Path) -> Environment {
    let own = values(unit, "Environment").into_iter().map(|setting| {
        let setting = setting.replace("%i", number).replace("%d", credentials.to_str().unwrap());
        let (name, value) = setting.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    own.chain(file()).collect()
}

/// The credentials of the unit as systemd lays them out: files that may be read and nothing else,
/// in a folder likewise.
fn credentials(unit: &str, folder: &Path, secrets: &[(&str, &str)]) {
    for loaded in values(unit, "LoadCredential") {
        let (name, source) = loaded.split_once(':').unwrap();
        assert_eq!(source, format!("/etc/vx11-operator/{name}"));
        let secret =
            secrets.iter().find(|(known, _)| *known == name).expect("a secret that the test knows").1;
        std::fs::write(folder.join(name), format!("{secret}\n")).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o400)).unwrap();
    }
}

#[test]
fn what_the_unit_and_its_environment_file_set_is_known_and_fits_together() {
    let (unit, folder) = (unit(), tempfile::tempdir().unwrap());
    credentials(
        &unit,
        folder.path(),
        &[("principal-token", &new_principal()), ("redis-password", &new_principal())],
    );
    for number in ["1", "2", "9"] {
        let (code, effective) = check_config(&environment(&unit, number, folder.path()));
        assert_eq!(code, 0, "{effective}");
        let effective: toml::Table = effective.parse().unwrap();
        assert_eq!(effective["instance"]["id"].as_str(), Some(number));
        assert_eq!(effective["http"]["listen"].as_str(), Some(format!("127.0.0.1:801{number}").as_str()));
        let number_of =
            |section: &str, key: &str| effective[section][key].as_integer().unwrap().cast_unsigned();
        assert!(number_of("limits", "failed_auth_per_minute") > 0, "wrong credentials are not limited");
        assert_eq!(effective["http"]["trusted_proxies"].as_array().unwrap().len(), 1, "nginx on this host");
        let drain = number_of("drain", "window_seconds");
        assert!(seconds(&unit, "TimeoutStopSec") > drain + 10, "killed while draining for {drain} s");
        let files: u64 = values(&unit, "LimitNOFILE")[0].parse().unwrap();
        // 1,024 are kept for what is no stream.
        assert!(files >= number_of("streams", "max") + 2 * 1024, "{files} files");
        let bounds = number_of("streams", "max") * 14 * 1024
            + 2 * number_of("memory", "max_bytes")
            + number_of("events", "ring_bytes");
        assert_eq!(values(&unit, "MemoryMax"), ["1G"]);
        assert!(1 << 30 >= bounds + bounds / 2, "a gigabyte for one and a half times {bounds}");
    }
}

#[test]
fn nginx_as_it_ships_names_the_instances_that_the_guide_starts() {
    let upstream = std::fs::read_to_string(shipped("nginx/site/instances.conf")).unwrap();
    let unit = unit();
    let listen =
        values(&unit, "Environment").into_iter().find_map(|set| set.strip_prefix("VX11_OPERATOR_LISTEN="));
    for number in 1..=3 {
        let address = listen.unwrap().replace("%i", &number.to_string());
        assert!(upstream.contains(&format!("server {address} ")), "{address}");
    }
}

#[tokio::test]
async fn an_instance_with_the_units_environment_and_credentials_uses_redis() {
    let (unit, folder, password, principal) =
        (unit(), tempfile::tempdir().unwrap(), new_principal(), new_principal());
    credentials(&unit, folder.path(), &[("principal-token", &principal), ("redis-password", &password)]);
    let redis = RedisServer::with(&["--requirepass", &password]).await;
    let mut environment = environment(&unit, "2", folder.path());
    replace(&mut environment, "REDIS_PORT", redis.port().to_string());
    replace(&mut environment, "VX11_OPERATOR_LISTEN", "127.0.0.1:0");
    let instance = Instance::start(&environment).await;
    assert_eq!(instance.health_with_backend("redis").await["instance_id"], "2");
    assert_eq!(instance.issue(&principal).await["backend"], "redis");
}
