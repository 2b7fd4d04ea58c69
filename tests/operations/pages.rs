//! The commands of `docs/operations/` have the described effects on a deployment, or are left to a
//! person for a reason.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream::iter;
use vx11_kit::Site;

use crate::cluster::Cluster;
use crate::page;
use crate::shipped;
use crate::terminal;

/// Page that sets the variables of all pages.
const INDEX: &str = "README.md";
/// Short, so that smoke tests see tokens expire.
const LIFE: u64 = 4;
/// Those that are run here.
const RUN: [&str; 6] =
    ["adoption.md", "deploying.md", "retention.md", "sizing.md", "smoke.md", "updating.md"];
/// `rotation` is run under load, `incidents` looks at who is let in afterwards.
const RUN_ELSEWHERE: [&str; 2] = ["rotation.md", "security.md"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_every_page_succeed_or_are_left_to_an_operator() {
    let cluster = Cluster::start(LIFE, Site::default()).await;
    let environment = cluster.environment();
    let folder = shipped("docs/operations");
    let preparation = page::script(&page::blocks(&folder.join(INDEX)));
    assert!(!preparation.is_empty());
    // Two at a time: most of them wait for something.
    iter(RUN)
        .for_each_concurrent(2, async |name| {
            let commands = preparation.clone() + &page::script(&page::blocks(&folder.join(name)));
            let run = terminal::run(&commands, &environment, async |errand| panic!("{name}: {errand:?}"));
            run.await.unwrap_or_else(|words| panic!("{name}: {words}"));
        })
        .await;
}

#[test]
fn every_page_is_run_and_is_in_the_index() {
    let index = std::fs::read_to_string(shipped("docs/operations").join(INDEX)).unwrap();
    let entries = std::fs::read_dir(shipped("docs/operations")).unwrap();
    let names: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<_> = RUN.into_iter().chain([INDEX]).chain(RUN_ELSEWHERE).map(str::to_owned).collect();
    assert_eq!(names, known);
    for name in names.iter().filter(|name| *name != INDEX) {
        assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
    }
}
