//! Commands of a page: its blocks marked `sh`, by section. A block that no test can run has a line
//! `<!-- only an operator: REASON -->` directly before it. Text between backticks cannot be marked,
//! and is no command.

use std::path::Path;

const BEGIN: &str = "```sh";
const END: &str = "```";
const MARK: &str = "<!-- only an operator:";
/// Beginnings of commands, in addition to scripts in `deploy/`.
const PROGRAMS: [&str; 20] = [
    "cat",
    "chronyc",
    "curl",
    "docker",
    "docker-compose",
    "grep",
    "jq",
    "journalctl",
    "kill",
    "kubectl",
    "nginx",
    "promtool",
    "redis-cli",
    "redis-server",
    "sed",
    "ss",
    "systemctl",
    "tail",
    "timedatectl",
    "vx11-operator",
];

/// Commands of a block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The heading above them; empty before the first.
    pub(crate) section: String,
    /// The page, and the line on which they begin.
    pub(crate) place: String,
    /// Reason why only a person can run them, if there is one.
    pub(crate) only_operator: Option<String>,
    pub(crate) commands: String,
}

/// All blocks of a page, in order.
pub(crate) fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let shown = page.file_name().unwrap().display();
    let blocks = blocks_of(&shown.to_string(), &text);
    assert!(
        text.matches(BEGIN).count() == blocks.len(),
        "{shown}: a block does not begin a line, or never ends"
    );
    assert!(
        text.matches(MARK).count() == blocks.iter().filter(|block| block.only_operator.is_some()).count(),
        "{shown}: a mark is not directly before a block"
    );
    for block in &blocks {
        let reason = block.only_operator.as_deref();
        assert!(reason.is_none_or(|reason| reason.len() > 10), "{}: the mark gives no reason", block.place);
    }
    blocks
}

/// Commands of the blocks that a test can run, as one script.
pub(crate) fn script<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> String {
    let ours = blocks.into_iter().filter(|block| block.only_operator.is_none());
    ours.map(|block| block.commands.as_str()).collect()
}

/// Commands in a page's text, between backticks.
pub(crate) fn commands_in_text(page: &Path) -> Vec<String> {
    commands_outside(&std::fs::read_to_string(page).unwrap())
}

fn commands_outside(text: &str) -> Vec<String> {
    let mut fenced = false;
    let prose = text.lines().filter(|line| {
        let fence = line.starts_with(END);
        fenced ^= fence;
        !fenced && !fence
    });
    let prose = prose.collect::<Vec<_>>().join(" ");
    let is_command = |code: &&str| {
        // A program's name alone is not run.
        code.split_once(' ')
            .is_some_and(|(first, _)| PROGRAMS.contains(&first) || first.starts_with("deploy/"))
    };
    prose.split('`').skip(1).step_by(2).filter(is_command).map(str::to_owned).collect()
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let (mut section, mut before) = ("", "");
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        } else if line == BEGIN {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != END);
            let commands = inside.flat_map(|line| [line, "\n"]).collect();
            let reason = before.strip_prefix(MARK).and_then(|reason| reason.strip_suffix("-->"));
            let only_operator = reason.map(|reason| reason.trim().to_owned());
            let place = format!("{page}:{number}");
            blocks.push(Block { section: section.to_owned(), place, only_operator, commands });
        }
        before = line;
    }
    blocks
}

#[test]
fn a_page_is_read_by_sections_and_marks() {
    let page = "# Page\n```sh\none\n```\n## Two\n<!-- only an operator: there is no cluster -->\n```sh\ntwo\n\nmore\n```\n";
    let blocks = blocks_of("page.md", page);
    let seen: Vec<_> =
        blocks.iter().map(|it| [&it.section, &it.place, &it.commands].map(String::as_str)).collect();
    assert_eq!(seen, [["", "page.md:2", "one\n"], ["Two", "page.md:7", "two\n\nmore\n"]]);
    assert_eq!(blocks[1].only_operator.as_deref(), Some("there is no cluster"));
    assert_eq!(script(&blocks), "one\n");
}

#[test]
fn a_command_in_the_text_is_seen() {
    let text = "`jq` and `make cluster`\n```sh\njq .\n```\n| `jq -r .a` | `deploy/compose/update\n--rollback` | `up` |\n";
    assert_eq!(commands_outside(text), ["jq -r .a", "deploy/compose/update --rollback"]);
}
