//! Each secret is replaced in a running deployment by the commands of
//! `docs/operations/rotation.md`, under load, and nobody notices.

use std::path::Path;
use std::time::Duration;

use vx11_kit::{Operator, PATIENCE, RedisServer, Site, until};
use vx11_rig::{Endpoint, FaultRun, Measure, Member, Report, Targets, Times};

use crate::cluster::Cluster;
use crate::page::{self, Block};
use crate::shipped;
use crate::terminal::{self, Errand};

/// Long enough for tokens to be older than a restart of all instances takes.
const LIFE: u64 = 15;
const MEASURE: Measure =
    Measure { rate: 100, subscribers: 30, events: 20, event_bytes: 0, pausing: 0, topics: None };
/// Of all instances, in a rotation. Whoever moves from one that ends to one that ends next does so
/// again.
const RESTARTS: usize = 3;
const INSTANCES: usize = 3;
/// Longest wait for streams that ended to be open again and for all instances to be well.
const SETTLED: Duration = PATIENCE;

/// Streams end in order and resume; nothing is refused, lost, or left unanswered, events included.
/// How long anything takes is noted and not judged; `make drill` judges it (12 and 20).
fn targets() -> Targets {
    Targets {
        longest: None,
        refusals: None,
        reconnects: RESTARTS * INSTANCES,
        in_order: true,
        losses: true,
        gaps: Some(0),
        times: Times::AreReported,
        ..Targets::of_rounds(1)
    }
}

fn blocks() -> Vec<Block> {
    page::blocks(&shipped("docs/operations/rotation.md"))
}

const PREPARATION: &str = "Before";
const PRINCIPAL: &str = "The principal's credential";
const SIGNING_KEY: &str = "The signing key";
const REDIS_PASSWORD: &str = "The password of Redis";

/// The commands that prepare, and those of a section.
fn commands(section: &str) -> String {
    let blocks = blocks();
    let own = page::script(blocks.iter().filter(|block| block.section == section));
    assert!(!own.is_empty(), "{section}: no commands");
    page::script(blocks.iter().filter(|block| block.section == PREPARATION)) + &own
}

/// Runs commands on a deployment under load, in which every instance uses Redis again after its
/// restart, and judges.
async fn rotate(cluster: &mut Cluster, name: &str, commands: &str) -> Report {
    rotate_until(cluster, name, commands, Operator::await_well).await
}

/// Runs commands on a deployment under load, waits for `returned` after each restart of an
/// instance, and judges.
async fn rotate_until(
    cluster: &mut Cluster,
    name: &str,
    commands: &str,
    returned: impl AsyncFn(&Operator),
) -> Report {
    let balancer = cluster.balancer();
    let members = cluster.instances.iter().map(Member::from).collect();
    let mut fault_run = FaultRun::over(name, members, Some(balancer.clone()), MEASURE).await;
    fault_run.begin_fault().await;
    let environment = cluster.environment();
    let mut errands = Vec::new();
    let run = terminal::run(commands, &environment, async |errand| {
        errands.push(errand);
        match errand {
            Errand::RollingRestart => {
                for instance in 0..INSTANCES {
                    // Clients that have not restarted yet, like the rig, need the password that
                    // they know.
                    cluster.redis.command(&["PING"]).await;
                    fault_run.recorder().down(Endpoint::Instance(instance));
                    cluster.restart(instance).await;
                    returned(&cluster.instances[instance]).await;
                    fault_run.recorder().up(Endpoint::Instance(instance));
                }
            }
            Errand::MoveClients => {
                balancer.present(&cluster.principal());
                cluster.move_clients();
            }
            Errand::RestartAtOnce => panic!("nothing has leaked"),
        }
    });
    run.await.unwrap_or_else(|words| panic!("{name}: {words}"));
    let restarts = errands.iter().filter(|errand| **errand == Errand::RollingRestart).count();
    assert!((1..=RESTARTS).contains(&restarts), "restarted {restarts} times");
    for secret in ["principal-token", "redis-password"] {
        cluster.secret(secret);
    }
    fault_run.recorder().repaired();
    fault_run.settle(SETTLED).await;
    fault_run.close(targets()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_principals_credential_is_replaced_and_nobody_notices() {
    let mut cluster = Cluster::start(LIFE, Site::default()).await;
    let before = cluster.principal();
    rotate(&mut cluster, "rotation: principal", &commands(PRINCIPAL)).await.publish("operations");
    let after = cluster.secret("principal-token");
    assert!(after.len() == 1 && after[0] != before, "one credential is left, a new one");
    let client = cluster.balancer();
    assert!(client.issue().await.is_ok(), "the new one is accepted");
    client.present(&before);
    assert!(client.issue().await.unwrap_err().contains("401"), "the old one is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signing_key_is_replaced_and_nobody_notices() {
    let mut cluster = Cluster::with_signing_keys(LIFE).await;
    let before = cluster.secret("signing-keys");
    rotate(&mut cluster, "rotation: signing key", &commands(SIGNING_KEY)).await.publish("operations");
    let after = cluster.secret("signing-keys");
    assert!(after.len() == 1 && after != before, "one key is left, a new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_of_redis_is_replaced_and_nobody_notices() {
    let mut cluster = Cluster::start(LIFE, Site::default()).await;
    let before = cluster.secret("redis-password");
    rotate(&mut cluster, "rotation: Redis password", &commands(REDIS_PASSWORD)).await.publish("operations");
    assert_ne!(cluster.secret("redis-password"), before);
    // The rig knows the old one only.
    let redis: &RedisServer = &cluster.redis;
    let refused = redis.try_command(&["PING"]).await.unwrap_err();
    assert!(refused.to_string().contains("AuthenticationFailed"), "{refused}");
}

/// Waits until the instance has found that Redis belongs to the others.
async fn is_kept_out(instance: &Operator) {
    until("an instance to be kept out of Redis", async || {
        let figures = instance.figures().await;
        figures.is_ok_and(|figures| figures.faults.get("other_deployment").is_some_and(|count| *count > 0))
    })
    .await;
}

/// That the test can fail, and why the page has as many steps as it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_replaced_in_one_step_is_noticed() {
    let mut cluster = Cluster::with_signing_keys(LIFE).await;
    let hasty = "openssl rand -hex 32 > \"$SECRETS/signing-keys\"; rolling_restart";
    let report = rotate_until(&mut cluster, "rotation in one step", hasty, is_kept_out).await;
    let violations = report.verdict.violations.join("\n");
    assert!(violations.contains("valid tokens refused"), "{violations}");
    cluster.secret("signing-keys");
}

fn with_secret(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), text).unwrap();
    folder
}

/// Runs commands that restart nothing, with the functions of the page: what is left in the file, or
/// the error.
async fn step(secrets: &Path, commands: &str) -> Result<Vec<String>, String> {
    let environment = [("SECRETS", secrets.display().to_string())];
    let script = page::script(blocks().iter().filter(|block| block.section == PREPARATION)) + commands;
    terminal::run(&script, &environment, async |_| unreachable!("nothing is restarted")).await?;
    Ok(std::fs::read_to_string(secrets.join("secret")).unwrap().lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn a_step_that_is_done_twice_is_done_once() {
    let folder = with_secret("old");
    let secrets = folder.path();
    let both = step(secrets, "add_new $SECRETS/secret; add_new $SECRETS/secret").await.unwrap();
    assert_eq!((both.len(), both[0].as_str()), (2, "old"));
    let turned = step(secrets, "new_first $SECRETS/secret; new_first $SECRETS/secret").await.unwrap();
    assert_eq!(turned, [both[1].as_str(), "old"]);
    let alone = step(secrets, "new_alone $SECRETS/secret; new_alone $SECRETS/secret").await.unwrap();
    assert_eq!(alone, [both[1].as_str()]);
}

#[tokio::test]
async fn a_rotation_that_is_not_over_is_not_begun_again() {
    let folder = with_secret("old\n");
    let secrets = folder.path();
    let turned = step(secrets, "add_new $SECRETS/secret; new_first $SECRETS/secret").await.unwrap();
    let words = step(secrets, "add_new $SECRETS/secret").await.unwrap_err();
    assert!(words.contains("a rotation is under way"), "{words}");
    assert_eq!(step(secrets, ":").await.unwrap(), turned);
}

#[tokio::test]
async fn a_step_that_cannot_make_or_find_a_secret_changes_nothing() {
    let folder = with_secret("old\n");
    let secrets = folder.path();
    for failing in [
        "new_secret() { false; }; add_new $SECRETS/secret",
        "new_secret() { false; }; new_secret | replace $SECRETS/secret",
        "new_first $SECRETS/secret",
        "new_alone $SECRETS/secret",
        "URL=http://127.0.0.1:1; tokens_expire && : > $SECRETS/secret",
        "hash=$(hash_of $SECRETS/none) && : > $SECRETS/secret",
    ] {
        // As it is pasted into a shell, which goes on after a command that failed.
        step(secrets, &format!("set +eE +o pipefail; trap - ERR; {failing}; true")).await.unwrap();
        assert_eq!(step(secrets, ":").await.unwrap(), ["old"], "{failing}");
        assert!(!secrets.join("secret.before").exists(), "{failing}");
    }
}

#[test]
fn every_command_of_the_page_is_run_here_or_left_to_an_operator() {
    let known = [PREPARATION, PRINCIPAL, SIGNING_KEY, REDIS_PASSWORD];
    for block in blocks().iter().filter(|block| block.only_operator.is_none()) {
        assert!(known.contains(&block.section.as_str()), "{}: {}", block.place, block.section);
    }
}
