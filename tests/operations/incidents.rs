//! The steps of `docs/operations/security.md` for a secret that has leaked: whoever has it is let
//! in nowhere afterwards.

use vx11_kit::EventStream;

use crate::cluster::Cluster;
use crate::page;
use crate::shipped;
use crate::terminal::{self, Errand};

const LIFE: u64 = 60;
/// Pages with the functions that the page calls.
const FUNCTIONS: [(&str, &str); 2] = [("README.md", "Before you run anything"), ("rotation.md", "Before")];
const PAGE: &str = "security.md";

/// Runs the commands of the page of which `picked` is true.
async fn respond(cluster: &mut Cluster, token_id: &str, picked: fn(&str) -> bool) {
    let folder = shipped("docs/operations");
    let mut script = String::new();
    for (name, section) in FUNCTIONS {
        let blocks = page::blocks(&folder.join(name));
        let of_section = page::script(blocks.iter().filter(|block| block.section == section));
        assert!(!of_section.is_empty(), "{name} has no {section}");
        script += &of_section;
    }
    let blocks = page::blocks(&folder.join(PAGE));
    let steps = page::script(blocks.iter().filter(|block| picked(&block.commands)));
    assert!(!steps.is_empty());
    script += &steps;
    let mut environment = cluster.environment();
    environment.push(("TOKEN_ID", token_id.to_owned()));
    let run = terminal::run(&script, &environment, async |errand| match errand {
        // Not before they know it: whoever asks while they restart presents what was.
        Errand::RestartAtOnce => {
            cluster.move_clients();
            cluster.restart_at_once().await;
        }
        Errand::MoveClients => cluster.move_clients(),
        Errand::RollingRestart => panic!("nobody waits"),
    });
    run.await.unwrap_or_else(|words| panic!("{words}"));
    for secret in ["principal-token", "signing-keys"] {
        cluster.secret(secret);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_leaked_opens_nothing_once_its_id_is_revoked() {
    let mut cluster = Cluster::with_signing_keys(LIFE).await;
    let token = cluster.balancer().issue().await.unwrap();
    let answer = cluster.balancer().open_stream(&token.token).await.unwrap().unwrap();
    let mut stream = EventStream::connected(answer).await;
    respond(&mut cluster, &token.id, |commands| !commands.contains("restart_at_once")).await;
    for instance in &cluster.instances {
        assert!(instance.open_stream(&token.token).await.unwrap().is_none());
    }
    // The stream gets its reason, and is closed.
    stream.rest().await;
    assert!(!stream.is_cut());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_that_leaked_is_refused_by_all_instances_once_it_is_replaced() {
    let mut cluster = Cluster::with_signing_keys(LIFE).await;
    let leaked = cluster.principal();
    respond(&mut cluster, "", |commands| commands.contains("principal-token")).await;
    assert_eq!(cluster.secret("principal-token").len(), 1);
    for instance in &cluster.instances {
        assert!(instance.issue().await.is_ok(), "the new one is accepted");
        instance.present(&leaked);
        assert!(instance.issue().await.unwrap_err().contains("401"), "the one that leaked is not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_that_was_signed_by_a_key_that_leaked() {
    let mut cluster = Cluster::with_signing_keys(LIFE).await;
    let forged = cluster.balancer().issue().await.unwrap();
    respond(&mut cluster, "", |commands| commands.contains("signing-keys")).await;
    for instance in &cluster.instances {
        assert!(instance.open_stream(&forged.token).await.unwrap().is_none());
        let token = instance.issue().await.unwrap();
        assert!(instance.open_stream(&token.token).await.unwrap().is_some());
    }
}

#[test]
fn every_command_of_the_page_is_run_here_or_left_to_an_operator() {
    for block in page::blocks(&shipped("docs/operations").join(PAGE)) {
        let known = ["$instance/metrics", "${TOKEN_ID", "principal-token", "signing-keys"];
        let is_run = known.iter().any(|part| block.commands.contains(part));
        assert!(is_run || block.only_operator.is_some(), "{}", block.place);
    }
}
