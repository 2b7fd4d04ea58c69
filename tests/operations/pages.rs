//! The commands of `docs/operations/` do what they say on a deployment, or are left to an operator for a reason.

use std::collections::BTreeSet;

use vx11_rig::Site;

use crate::cluster::Cluster;
use crate::page;
use crate::shipped;
use crate::terminal::{self, Errand};

/// What sets the variables of all pages.
const INDEX: &str = "README.md";
/// Short, so that smoke tests see tokens expire.
const LIFE: u64 = 4;
/// Those that are run here. `rotation.md` is run under load, by a test of its own.
const RUN: [&str; 7] =
    ["adoption.md", "deploying.md", "retention.md", "security.md", "sizing.md", "smoke.md", "updating.md"];
const RUN_ELSEWHERE: &str = "rotation.md";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_every_page_succeed_or_are_left_to_an_operator() {
    let mut cluster = Cluster::start(LIFE, Site::default()).await;
    let environment = [
        ("SECRETS", cluster.secrets().display().to_string()),
        ("URL", cluster.nginx.balancer()),
        ("INSTANCES", cluster.instances.iter().map(|it| it.base()).collect::<Vec<_>>().join(" ")),
        ("REDIS_PORT", cluster.redis.port().to_string()),
    ];
    let folder = shipped("docs/operations");
    let preparation = page::script(&page::blocks(&folder.join(INDEX)));
    assert!(!preparation.is_empty());
    for name in RUN {
        let commands = preparation.clone() + &page::script(&page::blocks(&folder.join(name)));
        let run = terminal::run(&commands, &environment, async |errand| {
            assert_eq!(errand, Errand::RollingRestart, "{name}");
            // It may be another one from this restart on.
            let principal = cluster.principal();
            for instance in 0..cluster.instances.len() {
                cluster.instances[instance].present(&principal);
                cluster.restart(instance).await;
            }
        });
        run.await.unwrap_or_else(|words| panic!("{name}: {words}"));
        // A page may have written another.
        cluster.secret("principal-token");
    }
}

#[test]
fn every_page_is_run_and_is_in_the_index() {
    let index = std::fs::read_to_string(shipped("docs/operations").join(INDEX)).unwrap();
    let entries = std::fs::read_dir(shipped("docs/operations")).unwrap();
    let names: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<_> = RUN.into_iter().chain([INDEX, RUN_ELSEWHERE]).map(str::to_owned).collect();
    assert_eq!(names, known);
    for name in names.iter().filter(|name| *name != INDEX) {
        assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
    }
}
