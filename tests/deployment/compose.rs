//! `docker-compose.scale.yml`: valid for both generations of Compose, and the rules that no schema
//! knows. What needs an engine is `make compose-test`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::cached::cached;
use crate::compose_rules::{INSTANCES, violations};
use crate::instance::{Environment, check_config, replace};
use crate::shipped;

/// The file with every variable at its default, read once for all tests.
static SHIPPED: LazyLock<Value> = LazyLock::new(|| {
    let sources =
        ["docker-compose.scale.yml", "deploy/compose/validate", "deploy/compose/validate-requirements.txt"];
    let text = cached("compose", &sources.map(shipped), validated);
    serde_json::from_str(&text).unwrap()
});

/// The same as JSON, validated now.
fn validated() -> String {
    let output = validate(&shipped("docker-compose.scale.yml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn validate(file: &Path) -> Output {
    Command::new(shipped("deploy/compose/validate")).arg(file).output().unwrap()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap()
}

fn make_secrets(folder: &Path) -> String {
    let run = Command::new(shipped("deploy/compose/make-secrets")).arg(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// Names of variables in a text: `${NAME:-default}`, or those of `.env` lines.
fn variables(text: &str) -> BTreeSet<(String, String)> {
    let in_braces = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    in_braces
        .filter_map(|(inside, _)| inside.split_once(":-"))
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

#[test]
fn both_generations_of_compose_accept_the_file_and_it_keeps_the_rules() {
    let file = serde_json::from_str(&validated()).unwrap();
    assert_eq!(violations(&file), Vec::<String>::new());
}

#[test]
fn a_key_that_compose_does_not_know_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("docker-compose.scale.yml");
    std::fs::write(
        &broken,
        text("docker-compose.scale.yml").replace("stop_grace_period:", "stop_grace_perod:"),
    )
    .unwrap();
    let output = validate(&broken);
    let complaint = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && complaint.contains("stop_grace_perod"), "{complaint}");
}

#[test]
fn every_rule_notices_when_it_is_broken() {
    type Break = fn(&mut Value);
    let mistakes: [(&str, Break); 19] = [
        ("services", |file| drop(file["services"].as_object_mut().unwrap().remove("vx11-operator-3"))),
        ("ports", |file| file["services"]["vx11-operator-2"]["ports"] = json!(["127.0.0.1:8013:8001"])),
        ("ports", |file| file["services"]["vx11-nginx-lb"]["ports"] = json!(["127.0.0.1:8001:8001"])),
        ("published", |file| file["services"]["vx11-redis"]["ports"] = json!(["6379:6379"])),
        ("published", |file| file["services"]["vx11-operator-1"]["ports"] = json!(["8011:8001"])),
        ("grace", |file| file["services"]["vx11-operator-1"]["stop_grace_period"] = json!("20s")),
        ("grace", |file| {
            let environment = &mut file["services"]["vx11-operator-1"]["environment"];
            environment["VX11_OPERATOR__DRAIN__WINDOW_SECONDS"] = json!(30);
        }),
        ("rights", |file| file["services"]["vx11-redis"]["read_only"] = json!(false)),
        ("rights", |file| {
            drop(file["services"]["vx11-nginx-lb"].as_object_mut().unwrap().remove("user"));
        }),
        ("limits", |file| {
            drop(file["services"]["vx11-operator-3"].as_object_mut().unwrap().remove("pids_limit"));
        }),
        ("limits", |file| {
            drop(file["services"]["vx11-redis"]["ulimits"].as_object_mut().unwrap().remove("core"));
        }),
        ("failures", |file| {
            let environment = &mut file["services"]["vx11-operator-2"]["environment"];
            environment["VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE"] = json!(0);
        }),
        ("health", |file| {
            drop(file["services"]["vx11-operator-1"].as_object_mut().unwrap().remove("healthcheck"));
        }),
        ("order", |file| {
            file["services"]["vx11-nginx-lb"]["depends_on"]["vx11-operator-2"]["condition"] =
                json!("service_started");
        }),
        ("secret", |file| file["services"]["vx11-operator-1"]["environment"]["REDIS_PASSWORD"] = json!("x")),
        ("secret", |file| file["services"]["vx11-operator-2"]["secrets"] = json!(["principal-token"])),
        ("address", |file| {
            let networks = &mut file["services"]["vx11-operator-2"]["networks"];
            networks["vx11-net"]["ipv4_address"] = json!("172.30.11.11");
        }),
        ("address", |file| {
            let environment = &mut file["services"]["vx11-operator-1"]["environment"];
            environment["VX11_OPERATOR__HTTP__TRUSTED_PROXIES"] = json!("172.30.11.0/24");
        }),
        ("memory", |file| file["services"]["vx11-operator-1"]["mem_limit"] = json!("512m")),
    ];
    for (rule, mistake) in mistakes {
        let mut broken = SHIPPED.clone();
        mistake(&mut broken);
        let found = violations(&broken);
        assert!(!found.is_empty() && found.iter().all(|words| words.starts_with(rule)), "{rule}: {found:?}");
    }
}

#[test]
fn the_service_accepts_the_environment_of_every_instance() {
    let folder = tempfile::tempdir().unwrap();
    make_secrets(folder.path());
    for number in INSTANCES {
        let given = SHIPPED["services"][format!("vx11-operator-{number}")]["environment"].clone();
        let given = given.as_object().unwrap().iter();
        let mut environment: Environment = given
            .map(|(name, value)| {
                (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        let files =
            [("VX11_PRINCIPAL_TOKEN_FILE", "principal-token"), ("REDIS_PASSWORD_FILE", "redis-password")];
        for (variable, file) in files {
            remember_secret(std::fs::read_to_string(folder.path().join(file)).unwrap().trim());
            replace(&mut environment, variable, folder.path().join(file).to_str().unwrap());
        }
        let (code, printed) = check_config(&environment);
        assert!(code == 0 && printed.contains(&format!("id = \"{number}\"")), "{printed}");
        assert!(printed.contains("host = \"vx11-redis\"") && printed.contains("172.30.11.20"), "{printed}");
    }
}

#[test]
fn secrets_are_made_once_readable_in_a_closed_folder_and_not_printed() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("secrets");
    let printed = make_secrets(&folder);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let read = || {
        ["principal-token", "redis-password"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap())
    };
    let made = read();
    for (name, secret) in ["principal-token", "redis-password"].iter().zip(&made) {
        remember_secret(secret.trim());
        assert_eq!(std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(secret.trim().len() == 64 && !printed.contains(secret.trim()), "{name}");
    }
    make_secrets(&folder);
    assert_eq!(read(), made);
}

#[test]
fn the_example_names_every_variable_with_its_default() {
    let lines: BTreeSet<_> = text(".env.example")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(lines, variables(&text("docker-compose.scale.yml")));
}

#[test]
fn the_image_is_built_from_the_same_defaults_and_has_this_version() {
    let dockerfile = text("Dockerfile");
    let arguments = SHIPPED["services"]["vx11-operator-1"]["build"]["args"].as_object().unwrap();
    assert_eq!(arguments.len(), 2);
    for (name, value) in arguments {
        let line = format!("ARG {name}={}", value.as_str().unwrap());
        assert!(dockerfile.lines().any(|found| found == line), "{line}");
    }
    assert!(dockerfile.contains(&format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn nginx_knows_every_instance_and_its_switches_exist() {
    let lists = ["instances.conf", "instances-anew.conf"]
        .map(|name| text(&format!("deploy/compose/nginx-site/{name}")));
    let hosts = SHIPPED["services"]["vx11-nginx-lb"]["extra_hosts"].as_array().unwrap();
    for number in INSTANCES {
        let server = format!("server vx11-operator-{number}:8001 ");
        assert!(lists.iter().all(|list| list.contains(&server)), "{server}");
        let address =
            &SHIPPED["services"][format!("vx11-operator-{number}")]["networks"]["vx11-net"]["ipv4_address"];
        let line = format!("vx11-operator-{number}:{}", address.as_str().unwrap());
        assert!(hosts.contains(&json!(line)), "{line}");
    }
    for switch in [0, 1] {
        assert!(shipped(&format!("nginx/switch/operator-proxy-{switch}.conf")).is_file());
    }
}

#[test]
fn every_list_of_instances_that_nginx_ships_is_replaced() {
    let mounts = SHIPPED["services"]["vx11-nginx-lb"]["volumes"].as_array().unwrap();
    let replaced =
        |name: &str| mounts.iter().any(|mount| mount["target"] == format!("/etc/nginx/site/{name}"));
    let mut checked = 0;
    for entry in std::fs::read_dir(shipped("nginx/site")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("instances") {
            assert!(replaced(&name), "{name}: still has addresses that are not there");
            checked += 1;
        }
    }
    assert!(checked > 0 && replaced("logs.conf") && replaced("operator-proxy.conf"));
}
