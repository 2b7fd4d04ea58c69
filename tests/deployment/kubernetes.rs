//! `deploy/kubernetes`: schemas, rules, and an instance and a Redis that run on what was rendered.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vx11_kit::{RedisServer, remember_secret};

use crate::instance::{Environment, Instance, check_config, replace};
use crate::rendered::{Objects, SHIPPED, validate, validated};
use crate::rules::violations;
use crate::shipped;

/// As the deployment controller makes them: the longest names that there are.
const POD: &str = "vx11-operator-7d9c5b4f68-x2k9q";

fn operator() -> &'static Objects {
    &SHIPPED[0]
}

/// A folder with fresh secrets, made as the guide says.
fn secrets(folder: &Path) -> PathBuf {
    let made = folder.join("secrets");
    let run = Command::new(shipped("deploy/kubernetes/make-secrets")).arg(&made).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let printed = String::from_utf8(run.stdout).unwrap();
    for name in ["principal-token", "redis-password", "oncall-password"] {
        let secret = secret(&made, name);
        remember_secret(&secret);
        assert!(secret.len() == 64 && !printed.contains(&secret), "{name}");
    }
    made
}

fn secret(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap().trim().to_owned()
}

/// The environment of a pod, with the mounted secrets where this machine has them.
fn environment(secrets: &Path) -> Environment {
    let mount = operator().container()["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let here = |value: String| value.replace(mount, secrets.to_str().unwrap());
    operator().environment(POD).into_iter().map(|(name, value)| (name, here(value))).collect()
}

#[test]
fn every_manifest_satisfies_the_schemas_of_the_oldest_and_the_newest_kubernetes() {
    assert_eq!(validated().map(|objects| objects.0.len()), [7, 4, 4]);
}

#[test]
fn a_misspelt_field_and_a_wrong_type_are_refused_by_name() {
    let mistakes = [
        ("deployment.yaml", "periodSeconds: 10", "periodSecond: 10", "'periodSecond' was unexpected"),
        ("autoscaler.yaml", "minReplicas: 3", "minReplicas: three", "minReplicas"),
    ];
    for (file, right, wrong, complaint) in mistakes {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(shipped("deploy/kubernetes")).unwrap().flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        let broken = folder.path().join(file);
        let text = std::fs::read_to_string(&broken).unwrap();
        assert!(text.contains(right), "{file}");
        std::fs::write(&broken, text.replace(right, wrong)).unwrap();
        let refused = validate(folder.path()).err().expect("the broken manifest is refused");
        assert!(refused.contains(complaint), "{refused}");
    }
}

#[test]
fn the_manifests_keep_the_rules_that_no_schema_knows() {
    assert_eq!(violations(operator()), Vec::<String>::new());
}

#[test]
fn each_rule_notices_when_it_is_broken() {
    let container = "/spec/template/spec/containers/0";
    let in_pod = |path: &str| format!("/spec/template/spec{path}");
    let in_container = |path: &str| format!("{container}{path}");
    let mistakes = [
        ("Deployment", in_pod("/terminationGracePeriodSeconds"), json!(30), "grace period"),
        ("ConfigMap", "/data/VX11_OPERATOR__DRAIN__WINDOW_SECONDS".into(), json!("60"), "grace period"),
        ("Deployment", in_container("/lifecycle/preStop/sleep/seconds"), json!(0), "preStop"),
        ("Service", "/spec/selector/app.kubernetes.io~1name".into(), json!("operator"), "selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels".into(), json!({}), "selector"),
        ("Deployment", "/spec/replicas".into(), json!(3), "replicas"),
        ("HorizontalPodAutoscaler", "/spec/scaleTargetRef/name".into(), json!("operator"), "autoscaler"),
        ("HorizontalPodAutoscaler", "/spec/minReplicas".into(), json!(2), "budget"),
        ("PodDisruptionBudget", "/spec/maxUnavailable".into(), json!(0), "budget"),
        ("Deployment", "/spec/strategy/rollingUpdate/maxUnavailable".into(), json!(1), "update"),
        ("ConfigMap", "/data/VX11_OPERATOR_LISTEN".into(), json!("0.0.0.0:8000"), "port"),
        ("Deployment", in_container("/livenessProbe/httpGet/path"), json!("/operator/api/health"), "probe"),
        ("Deployment", in_container("/securityContext/readOnlyRootFilesystem"), json!(false), "rights"),
        ("Deployment", in_pod("/hostNetwork"), json!(true), "rights"),
        ("Deployment", in_pod("/enableServiceLinks"), json!(true), "environment"),
        ("Deployment", in_container("/resources/limits/memory"), json!("512Mi"), "memory"),
        ("Deployment", in_container("/resources/limits/cpu"), json!("1"), "processor"),
        ("ConfigMap", "/data/VX11_OPERATOR__HTTP__TRUSTED_PROXIES".into(), json!("10.0.0.0/8"), "proxies"),
        ("ConfigMap", "/data/VX11_OPERATOR__HTTP__TRUSTED_PROXIES".into(), json!("fd00::/8"), "proxies"),
        ("ConfigMap", "/data/VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE".into(), json!("0"), "failures"),
        ("ConfigMap", "/data/REDIS_PASSWORD".into(), json!("x"), "secret"),
        ("Deployment", in_container("/volumeMounts/0/mountPath"), json!("/run/elsewhere"), "secret"),
        ("ConfigMap", "/kind".into(), json!("Secret"), "secret"),
    ];
    for (kind, path, value, complaint) in mistakes {
        let mut objects = operator().clone();
        if path == "/kind" {
            // Beside the others, not instead of one.
            objects.0.push(json!({"kind": value}));
        } else {
            set(objects.only_mut(kind), &path, value);
        }
        let found = violations(&objects);
        assert!(found.iter().any(|found| found.starts_with(complaint)), "{kind}{path}: {found:?}");
    }
}

/// Sets the value at a JSON pointer, which need not exist.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {pointer}"));
    parent[name.replace("~1", "/")] = value;
}

#[test]
fn the_service_knows_every_variable_that_the_manifests_set() {
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(&secrets(folder.path()));
    let (code, effective) = check_config(&environment);
    assert_eq!(code, 0, "{effective}");
    let effective: toml::Table = effective.parse().unwrap();
    assert_eq!(effective["instance"]["id"].as_str(), Some(POD));
    assert_eq!(effective["log"]["format"].as_str(), Some("json"));
    assert_eq!(effective["redis"]["host"].as_str(), Some("vx11-redis"));
}

#[test]
fn redis_is_given_hashes_of_its_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = secrets(folder.path());
    let users = secret(&secrets, "users.acl");
    for (user, name) in [("default", "redis-password"), ("oncall", "oncall-password")] {
        let password = secret(&secrets, name);
        assert!(!users.contains(&password), "{name} is in clear");
        let known = format!("user {user} on #{} ", hex::encode(Sha256::digest(&password)));
        assert!(users.lines().any(|line| line.starts_with(&known)), "{user} has another password");
    }
    assert!(!users.contains('>'), "a password in clear begins with this sign");
}

#[test]
fn a_variable_that_kubernetes_would_add_for_the_service_stops_the_start() {
    // Why enableServiceLinks has to be off.
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(&secrets(folder.path()));
    environment.push(("VX11_OPERATOR_PORT".into(), "tcp://10.96.0.17:8001".into()));
    let (code, complaint) = check_config(&environment);
    assert_eq!(code, 2);
    assert!(complaint.contains("VX11_OPERATOR_PORT: unknown variable"), "{complaint}");
}

#[test]
fn the_example_redis_is_the_one_the_instances_ask_and_may_ask() {
    let redis = &SHIPPED[1];
    let configured = &operator().only("ConfigMap")["data"];
    let service = redis.only("Service");
    assert_eq!(service["metadata"]["name"], configured["REDIS_HOST"]);
    assert_eq!(service["spec"]["ports"][0]["port"].to_string(), configured["REDIS_PORT"].as_str().unwrap());
    let labels = &redis.only("Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(service["spec"]["selector"], *labels);
    let egress = operator().only("NetworkPolicy")["spec"]["egress"].as_array().unwrap();
    let to_redis = |rule: &&Value| rule["to"][0]["podSelector"]["matchLabels"] == *labels;
    assert!(egress.iter().any(|rule| to_redis(&rule) && rule["ports"][0]["port"] == 6379), "{egress:?}");
    let ours = &operator().only("Deployment")["spec"]["template"]["metadata"]["labels"];
    let from = &redis.only("NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(from, ours);
}

#[test]
fn the_ingress_publishes_only_public_paths_and_never_repeats_an_event() {
    let mut published = Vec::new();
    for ingress in &SHIPPED[2].0 {
        let retries =
            ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-next-upstream"].as_str();
        let repeats = retries.unwrap().contains("non_idempotent");
        for path in ingress["spec"]["rules"][0]["http"]["paths"].as_array().unwrap() {
            let backend = &path["backend"]["service"];
            assert_eq!(backend["name"], operator().only("Service")["metadata"]["name"]);
            assert_eq!(backend["port"]["name"], operator().only("Service")["spec"]["ports"][0]["name"]);
            let path = path["path"].as_str().unwrap().to_owned();
            let harmless = ["/sse-token", "/cookie", "/oauth/token", "/tokens", "/streams", "/subjects"];
            let harmless = harmless.iter().any(|end| path.ends_with(end));
            assert!(harmless || !repeats, "{path} is repeated");
            // Queries with a token, or with an end user.
            let is_private = path.ends_with("/stream") || path.ends_with("/streams");
            let log = &ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/enable-access-log"];
            assert!(!is_private || log == "false", "the query of {path} is logged");
            published.push(path);
        }
    }
    published.sort_unstable();
    let public = [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/client",
        "/health",
        "/oauth/token",
        "/operator/api",
        "/operator/api/events/cookie",
        "/operator/api/events/sse-token",
        "/operator/api/events/stream",
        "/operator/api/streams",
        "/operator/api/subjects",
        "/operator/api/tokens",
    ];
    assert_eq!(published, public);
}

/// Settings of the rendered `redis.conf` as arguments, with the secret where this machine has it.
fn redis_arguments(secrets: &Path) -> Vec<String> {
    let text = SHIPPED[1].only("ConfigMap")["data"]["redis.conf"].as_str().unwrap();
    let mount = "/run/secrets/vx11-redis";
    assert!(
        SHIPPED[1].container()["volumeMounts"].as_array().unwrap().iter().any(|at| at["mountPath"] == mount)
    );
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let here = |value: &str| value.replace(mount, secrets.to_str().unwrap()).replace('"', "");
    settings.flat_map(|(name, value)| [format!("--{name}"), here(value)]).collect()
}

#[tokio::test]
async fn an_instance_of_the_rendered_pod_shares_tokens_in_the_rendered_redis() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = secrets(folder.path());
    let mut arguments = redis_arguments(&secrets);
    // For the rig's own questions; the user's rights come from the file all the same.
    arguments.extend(["--requirepass".to_owned(), secret(&secrets, "redis-password")]);
    let redis = RedisServer::with(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut environment = environment(&secrets);
    replace(&mut environment, "REDIS_HOST", "127.0.0.1");
    replace(&mut environment, "REDIS_PORT", redis.port().to_string());
    replace(&mut environment, "VX11_OPERATOR_LISTEN", "127.0.0.1:0");
    let instance = Instance::start(&environment).await;
    let health = instance.health_with_backend("redis").await;
    assert_eq!((health["status"].as_str(), health["instance_id"].as_str()), (Some("ok"), Some(POD)));
    let issued = instance.issue(&secret(&secrets, "principal-token")).await;
    assert_eq!(issued["backend"], "redis", "the rights in users.acl are enough");

    // The probe of the Redis: answered without a password, and by one that hangs not at all.
    let probe = SHIPPED[1].container()["livenessProbe"]["exec"]["command"].as_array().unwrap();
    let words: Vec<_> = probe.iter().map(|word| word.as_str().unwrap()).collect();
    let asked =
        Command::new(words[0]).args(["-p", &redis.port().to_string()]).args(&words[1..]).output().unwrap();
    let answer = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success() && answer.contains("NOAUTH"), "{answer}");
}

#[tokio::test]
async fn probes_find_a_pod_without_redis_alive_and_ready() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(&secrets(folder.path()));
    let mut redis = RedisServer::start().await;
    redis.kill();
    replace(&mut environment, "REDIS_HOST", "127.0.0.1");
    replace(&mut environment, "REDIS_PORT", redis.port().to_string());
    replace(&mut environment, "VX11_OPERATOR_LISTEN", "127.0.0.1:0");
    let instance = Instance::start(&environment).await;
    instance.health_with_backend("fallback-memory").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = operator().container()[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(instance.get(path).await.status(), 200, "{probe}");
    }
    let notes = &operator().only("Deployment")["spec"]["template"]["metadata"]["annotations"];
    let metrics = instance.get(notes["prometheus.io/path"].as_str().unwrap()).await.text().await.unwrap();
    assert!(metrics.contains("vx11_operator_store_degraded"), "{metrics}");
}
