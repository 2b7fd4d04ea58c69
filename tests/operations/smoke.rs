//! `deploy/smoke` says what is so, of whole deployments and of broken ones, and gives no secret
//! away.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;
use vx11_kit::{Operator, Port, Secrets, Site, new_principal, until};

use crate::cluster::Cluster;
use crate::shipped;

/// Expiry is waited for at most ten seconds unless asked otherwise.
const SHORT_LIFE: u64 = 4;
const LONG_LIFE: u64 = 60;

/// Result of a smoke test.
struct Run {
    code: i32,
    report: String,
    /// Every command line and environment of curl.
    calls: String,
    /// Remaining traces.
    left: usize,
}

impl Run {
    /// Result of a check in the report: `ok`, `FAILED` or `skipped`, and the reason.
    fn of(&self, check: &str) -> (&str, &str) {
        let line = self
            .report
            .lines()
            .find(|line| line.split_at_checked(9).is_some_and(|it| it.1.starts_with(check)));
        let line = line.unwrap_or_else(|| panic!("no word on {check:?}:\n{}", self.report));
        (line[..9].trim(), line[9..].trim())
    }

    /// The checks of which it says this.
    fn with(&self, word: &str) -> usize {
        self.report.lines().filter(|line| line.starts_with(word)).count()
    }
}

/// Runs it with a credential.
async fn smoke(arguments: &[&str], principal: &str) -> Run {
    run(arguments, &[("VX11_PRINCIPAL_TOKEN", principal)]).await
}

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, calls) = (folder.path().join("tmp"), folder.path().join("calls"));
    std::fs::create_dir(&temporary).unwrap();
    let output = Command::new(shipped("deploy/smoke"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .env("PATH", watched_curl(&folder, &calls))
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let run = Run {
        code: output.status.code().unwrap(),
        report: said,
        calls: std::fs::read_to_string(&calls).unwrap_or_default(),
        left: std::fs::read_dir(&temporary).unwrap().count(),
    };
    assert_eq!(run.left, 0, "files are left behind");
    let given = environment.iter().map(|(name, value)| match *name {
        "VX11_PRINCIPAL_TOKEN_FILE" => std::fs::read_to_string(value).unwrap_or_default(),
        _ => (*value).to_owned(),
    });
    let given: Vec<_> = given.collect();
    let secrets = Secrets::new(given.iter().map(|credential| credential.trim()));
    for shown in [&run.report, &run.calls] {
        assert_eq!(secrets.occurrences(shown.as_bytes()), 0, "the credential is shown");
        assert!(!shown.split(|c: char| !c.is_ascii_hexdigit() && c != '-').any(is_token), "a token is shown");
    }
    run
}

fn is_token(word: &str) -> bool {
    word.len() == 36 && word.matches('-').count() == 4
}

/// A `PATH` on which curl notes what others on the machine could see of it.
fn watched_curl(folder: &TempDir, calls: &Path) -> String {
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let curl = programs.join("curl");
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/bash\n{{ printf '%s\\n' \"$*\"; env; }} >> '{}'\nPATH='{path}' exec curl \"$@\"\n",
        calls.display()
    );
    std::fs::write(&curl, script).unwrap();
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{path}", programs.display())
}

#[tokio::test]
async fn a_whole_cluster_passes_every_check_and_nothing_stays_open() {
    let cluster = Cluster::start(SHORT_LIFE, Site::default()).await;
    let run = smoke(&["--url", &cluster.nginx.balancer()], &cluster.principal()).await;
    assert_eq!((run.code, run.with("ok"), run.with("FAILED")), (0, 16, 0), "{}", run.report);
    assert!(run.report.contains("16 ok, 0 failed, 0 skipped"), "{}", run.report);
    assert!(run.calls.lines().count() > 20, "curl was watched");
    until("the streams to be closed", async || {
        let mut open = 0.0;
        for instance in &cluster.instances {
            let page = instance.metrics().await.unwrap();
            let line = page.lines().find(|line| line.starts_with("vx11_operator_sse_streams_open")).unwrap();
            open += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
        open == 0.0
    })
    .await;
}

#[tokio::test]
async fn the_gateway_passes_with_a_credential_from_a_file_and_an_expiry_not_waited_for_is_skipped() {
    let cluster = Cluster::start(LONG_LIFE, Site::default()).await;
    let file = cluster.secrets().join("principal-token");
    let environment = [("VX11_PRINCIPAL_TOKEN_FILE", file.to_str().unwrap())];
    let run = run(&["--url", &cluster.nginx.gateway()], &environment).await;
    assert_eq!((run.code, run.with("FAILED")), (0, 0), "{}", run.report);
    let (word, why) = run.of("expiry");
    assert!(word == "skipped" && why.contains("60 s"), "{}", run.report);
    assert!(run.report.contains("15 ok, 0 failed, 1 skipped"), "{}", run.report);
}

#[tokio::test]
async fn a_single_instance_passes_as_such_and_as_a_balancer_fails_for_its_metrics_alone() {
    let principal = new_principal();
    let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
    let life = SHORT_LIFE.to_string();
    let instance = Operator::start(binary, &principal, &[("EPHEMERAL_TOKEN_TTL_SEC", &life)]).await;
    let direct = smoke(&["--direct", "--url", instance.base()], &principal).await;
    assert_eq!((direct.code, direct.with("ok")), (0, 16), "{}", direct.report);
    let run = smoke(&["--url", instance.base()], &principal).await;
    assert_eq!((run.code, run.with("FAILED"), run.of("metrics").0), (1, 1, "FAILED"), "{}", run.report);
}

#[tokio::test]
async fn a_wrong_principal_fails_and_what_needs_none_is_checked_all_the_same() {
    let cluster = Cluster::start(LONG_LIFE, Site::default()).await;
    let run = smoke(&["--url", &cluster.nginx.balancer()], &new_principal()).await;
    assert_eq!((run.code, run.with("FAILED")), (1, 1), "{}", run.report);
    let (word, why) = run.of("issue");
    assert!(word == "FAILED" && why.contains("401 credential_wrong"), "{}", run.report);
    for check in ["health", "no credential", "metrics", "no error"] {
        assert_eq!(run.of(check).0, "ok", "{}", run.report);
    }
    for check in ["stream", "fallback", "a forged", "publish", "revoke", "expiry"] {
        assert_eq!(run.of(check).0, "skipped", "{}", run.report);
    }
}

#[tokio::test]
async fn where_nothing_listens_one_check_fails_and_for_the_rest_nobody_is_asked() {
    let port = Port::reserve();
    let run = smoke(&["--url", &format!("http://127.0.0.1:{}", port.number())], &new_principal()).await;
    assert_eq!((run.code, run.with("FAILED"), run.with("ok")), (1, 1, 0), "{}", run.report);
    let (word, why) = run.of("health");
    assert!(word == "FAILED" && why.contains("no answer"), "{}", run.report);
    let asked = run.calls.lines().filter(|line| line.contains("--config -")).count();
    assert_eq!(asked, 1, "{}", run.calls);
}

#[tokio::test]
async fn without_redis_it_says_degraded_and_passes_what_holds() {
    let mut cluster = Cluster::start(SHORT_LIFE, Site::default()).await;
    cluster.redis.kill();
    for instance in &cluster.instances {
        until("an instance to notice", async || instance.standing().await.is_ok_and(|it| !it.on_redis)).await;
    }
    let run = smoke(&["--url", &cluster.nginx.balancer()], &cluster.principal()).await;
    assert_eq!((run.code, run.with("FAILED")), (1, 1), "{}", run.report);
    let (word, why) = run.of("health");
    assert!(word == "FAILED" && why.contains("degraded, backend fallback-memory"), "{}", run.report);
    let (word, why) = run.of("publish");
    assert!(word == "skipped" && why.contains("503 log_unavailable"), "{}", run.report);
    for check in ["issue", "stream", "fallback", "a forged", "introspect", "cache-stats", "expiry"] {
        assert_eq!(run.of(check).0, "ok", "{}", run.report);
    }
}

#[tokio::test]
async fn an_nginx_that_exposes_metrics_fails() {
    let port = Port::reserve();
    let careless = format!(
        "server {{ listen 127.0.0.1:{}; location / {{ proxy_pass http://vx11_operator; }} }}\n",
        port.number()
    );
    let files = vec![("servers/careless.conf".to_owned(), careless)];
    let cluster = Cluster::start(LONG_LIFE, Site { files, ..Site::default() }).await;
    let url = format!("http://127.0.0.1:{}", port.number());
    let run = smoke(&["--url", &url], &cluster.principal()).await;
    assert_eq!((run.code, run.with("FAILED"), run.of("metrics").0), (1, 1, "FAILED"), "{}", run.report);
}

#[tokio::test]
async fn wrong_use_and_a_bad_deployment_have_different_exit_codes_and_no_credential_is_an_argument() {
    let principal = new_principal();
    let good = [("VX11_PRINCIPAL_TOKEN", principal.as_str())];
    let both = [good[0], ("VX11_PRINCIPAL_TOKEN_FILE", "/dev/null")];
    let missing = [("VX11_PRINCIPAL_TOKEN_FILE", "/nonexistent")];
    let empty = [("VX11_PRINCIPAL_TOKEN_FILE", "/dev/null")];
    let blank = [("VX11_PRINCIPAL_TOKEN", "with a blank")];
    for (arguments, environment) in [
        (&["--url"][..], &good[..]),
        (&["--url", "ftp://127.0.0.1"], &good),
        (&["--url", "http://user@127.0.0.1"], &good),
        (&["--token", &principal], &good),
        (&[&principal], &good),
        (&[], &[]),
        (&[], &both),
        (&[], &missing),
        (&[], &empty),
        (&[], &blank),
    ] {
        let run = run(arguments, environment).await;
        assert_eq!((run.code, run.calls.as_str()), (2, ""), "{arguments:?}: {}", run.report);
        assert!(run.report.starts_with("smoke: "), "{}", run.report);
    }
    let help = run(&["--help"], &[]).await;
    assert!(help.code == 0 && help.report.contains("--wait-for-expiry"), "{}", help.report);
}
