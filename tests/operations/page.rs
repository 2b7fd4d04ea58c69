//! The commands of a page: its blocks marked `sh`, by the sections they stand in. A block that no test can run has a line
//! `<!-- only an operator: REASON -->` right before it.

use std::path::Path;

const BEGIN: &str = "```sh";
const END: &str = "```";
const MARK: &str = "<!-- only an operator:";

/// Commands that stand together.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The heading above them; empty before the first.
    pub(crate) section: String,
    /// Where they begin.
    pub(crate) line: usize,
    /// Why only an operator can run them, if that is so.
    pub(crate) only_operator: Option<String>,
    pub(crate) commands: String,
}

/// All blocks of a page, in order.
pub(crate) fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let blocks = blocks_of(&text);
    let shown = page.display();
    assert!(
        text.matches(BEGIN).count() == blocks.len(),
        "{shown}: a block does not begin a line, or never ends"
    );
    assert!(
        text.matches(MARK).count() == blocks.iter().filter(|block| block.only_operator.is_some()).count(),
        "{shown}: a mark does not stand right before a block"
    );
    for block in &blocks {
        let reason = block.only_operator.as_deref();
        assert!(
            reason.is_none_or(|reason| reason.len() > 10),
            "{shown}:{}: the mark gives no reason",
            block.line
        );
    }
    blocks
}

/// The commands of the blocks that are not left to an operator, as one script.
pub(crate) fn script<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> String {
    let ours = blocks.into_iter().filter(|block| block.only_operator.is_none());
    ours.map(|block| block.commands.as_str()).collect()
}

fn blocks_of(text: &str) -> Vec<Block> {
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
            blocks.push(Block { section: section.to_owned(), line: number, only_operator, commands });
        }
        before = line;
    }
    blocks
}

#[test]
fn a_page_is_read_by_sections_and_marks() {
    let page = "# Page\n```sh\none\n```\n## Two\n<!-- only an operator: there is no cluster -->\n```sh\ntwo\n\nmore\n```\n";
    let blocks = blocks_of(page);
    let seen: Vec<_> = blocks.iter().map(|it| (it.section.as_str(), it.line, it.commands.as_str())).collect();
    assert_eq!(seen, [("", 2, "one\n"), ("Two", 7, "two\n\nmore\n")]);
    assert_eq!(blocks[1].only_operator.as_deref(), Some("there is no cluster"));
    assert_eq!(script(&blocks), "one\n");
}
