//! `docs/runbooks`: every command that a page gives is run against a cluster by who may only look
//! into Redis, every figure it asks for is there, and every line it looks for in a log is one that
//! we write.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use vx11_kit::{Api, Prometheus, Secrets, new_principal, until};

use crate::cluster::Cluster;
use crate::expressions::selectors;
use crate::observing::{await_data, observed, service};
use crate::page::{Block, blocks};
use crate::rights;
use crate::shipped;

/// Number of pages that run at once: most commands wait for something.
const READERS: usize = 4;
/// Its first block is run before anything else.
pub(crate) const INDEX: &str = "docs/runbooks/README.md";
/// Level in a log line, which the subscriber writes.
const LEVELS: [&str; 2] = ["WARN", "ERROR"];
/// In front of a program: other users of a machine can read command lines, so no argument has the
/// shape of a token, a principal or a password.
const GUARD: &str = r#"#!/bin/bash
for argument; do
  # A key in Redis is named by a hash, which is none of these.
  if [[ $argument != token:* && $argument =~ [0-9a-f]{8}(-[0-9a-f]{4}){3}-|[0-9a-f]{32} ]]; then
    echo "$PLACE: ${0##*/} has a secret on its command line" >> "${0%/*}/shown"
  fi
done
"#;

/// The pages, without the index.
pub(crate) fn pages() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(shipped("docs/runbooks")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<_> = entries.filter(|page| !page.ends_with("README.md")).collect();
    assert!(pages.len() > 40);
    pages
}

/// Blocks that a test can run.
pub(crate) fn commands() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks(page)).filter(|block| block.only_operator.is_none()).collect()
}

/// Text in single quotes after `beginning`, anywhere.
fn quoted<'a>(commands: &'a str, beginning: &str) -> Vec<&'a str> {
    let quoted = commands.split(beginning).skip(1).filter_map(|rest| rest.strip_prefix('\''));
    quoted.map(|rest| rest.split('\'').next().unwrap()).collect()
}

/// Surroundings of an on-call person: the folder of `make cluster`, and the programs.
struct Desk {
    folder: TempDir,
    /// Commands that the index lists first.
    preamble: String,
    /// One that nobody else uses.
    token_id: String,
}

impl Desk {
    async fn at(cluster: &Cluster, prometheus: &Prometheus) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("principal.header", &format!("X-VX11-Token: {}\n", cluster.principal()));
        write("redis-password", &rights::let_people_in(&cluster.redis).await);
        for (number, instance) in (1..).zip(&cluster.instances) {
            write(&format!("operator-{number}.log"), &instance.log());
        }
        write("nginx-access.log", &cluster.nginx.access_log());
        write("nginx.log", &cluster.nginx.log());
        write("redis.log", &cluster.redis.log());
        // The only one whose port cannot be said by a variable; a refusal by Redis is to be seen.
        let redis_cli =
            format!("/usr/bin/redis-cli -e -p {} --user {}", cluster.redis.port(), rights::PEOPLE);
        for (name, program) in [("redis-cli", redis_cli.as_str()), ("curl", "/usr/bin/curl")] {
            write(name, &format!("{GUARD}exec {program} \"$@\"\n"));
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.path().join(name), executable).unwrap();
        }
        let preamble = preamble(cluster, prometheus, folder.path());
        let token_id = service(cluster).issue().await.unwrap().id;
        Self { folder, preamble, token_id }
    }

    /// Who put a secret on a command line so far.
    fn shown(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("shown")).unwrap_or_default()
    }

    /// Runs a block unchanged.
    async fn run(&self, block: &Block) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{}\n{}", self.preamble, block.commands)])
            .current_dir(shipped(""))
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("PLACE", &block.place)
            .env("TOKEN_ID", &self.token_id)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap()
    }
}

/// The block of the index, with this cluster's addresses in place of those of `make cluster`.
fn preamble(cluster: &Cluster, prometheus: &Prometheus, folder: &Path) -> String {
    let mut here = vec![
        ("http://127.0.0.1:8001".to_owned(), cluster.nginx.balancer()),
        ("http://127.0.0.1:9090".to_owned(), prometheus.base().to_owned()),
        ("target/cluster".to_owned(), folder.display().to_string()),
    ];
    for (port, instance) in (8011..).zip(&cluster.instances) {
        here.push((format!("http://127.0.0.1:{port}"), instance.base().to_owned()));
    }
    let index = blocks(&shipped(INDEX));
    here.iter().fold(index[0].commands.clone(), |text, (there, here)| {
        assert!(text.contains(there), "the index does not say {there}");
        text.replace(there, here)
    })
}

/// The figures that pages ask Prometheus for.
fn figures() -> Vec<String> {
    let figures = commands().into_iter().flat_map(|block| {
        let queries = quoted(&block.commands, "promtool query instant $PROMETHEUS ");
        queries.into_iter().flat_map(selectors).collect::<Vec<_>>()
    });
    figures.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Fields that pages read in nginx's log: `.client`.
fn fields() -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphabetic() || c == '_';
    let of_nginx = |line: &&str| line.contains("access_log |");
    let mut fields = BTreeSet::new();
    for block in commands() {
        for filter in block.commands.lines().filter(of_nginx).flat_map(|line| quoted(line, "jq -r ")) {
            let names = filter.split('.').skip(1).map(|rest| rest.split(|c| !is_part(c)).next().unwrap());
            fields.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    fields
}

/// Patterns that pages search in the log of an instance, with their places: `/one\|another/p`, or
/// `s/.*one.*field=…/`.
fn words() -> BTreeSet<(String, String)> {
    let mut words = BTreeSet::new();
    for block in commands() {
        for script in quoted(&block.commands, "sed -n ") {
            let script = script.trim_start_matches("s/.*").trim_start_matches('/').trim_end_matches("/p");
            let sought = script.split(".*").next().unwrap().split("\\|");
            words.extend(sought.map(|words| (words.trim().to_owned(), block.place.clone())));
        }
    }
    words
}

/// The code below a folder, without its comments.
fn code(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        lines.join("\n")
    };
    entries.map(|path| if path.is_dir() { code(&path) } else { read(path) }).collect()
}

#[tokio::test]
async fn every_command_succeeds_and_shows_something() {
    let (cluster, prometheus, _traffic) = observed().await;
    // Events that some of them search: a refused token and a refused principal.
    let service = service(&cluster);
    assert!(service.open_stream("nonsense").await.unwrap().is_none());
    let stranger = Api::new(service.base(), &new_principal(), service.life());
    assert!(stranger.issue().await.is_err());
    until("nginx to have noted it", async || cluster.nginx.access_log().contains(r#""status":"401""#)).await;
    let (figures, fields) = (figures(), fields());
    assert!(figures.len() > 30 && fields.len() > 5, "{figures:?}, {fields:?}");
    await_data(&prometheus, &figures).await;
    let log = cluster.nginx.access_log();
    let noted: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let unknown: Vec<_> = fields.iter().filter(|field| noted.get(field).is_none()).collect();
    assert!(unknown.is_empty(), "nginx does not note {unknown:?}");

    let desk = Desk::at(&cluster, &prometheus).await;
    let secrets = Secrets::new([cluster.principal().as_str()]);
    let complaint = async |block: Block| {
        let output = desk.run(&block).await;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = shown.clone() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(secrets.occurrences(told.as_bytes()), 0, "{} shows the principal", block.place);
        let works = output.status.success() && !shown.trim().is_empty();
        (!works).then(|| format!("{}: {}\n{told}", block.place, output.status))
    };
    let complaints = iter(commands()).map(complaint).buffer_unordered(READERS);
    let complaints: Vec<_> = complaints.filter_map(async |complaint| complaint).collect().await;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(desk.shown(), "");
}

#[test]
fn what_is_looked_for_in_the_log_of_an_instance_is_something_it_writes() {
    let (code, words) = (code(&shipped("src")), words());
    assert!(words.len() >= 10, "{words:?}");
    for (words, place) in words.iter().filter(|(words, _)| !LEVELS.contains(&words.as_str())) {
        assert!(code.contains(words), "{place}: no instance writes {words:?}");
    }
}
