//! Commands in documents: what stands between "```sh" and "```".

use std::path::Path;

/// What stands right before a block that no test runs, and before its reason.
const MARK: &str = "<!-- only an operator:";

/// One block.
#[derive(Debug)]
pub(crate) struct Block {
    /// The page, and the line on which the block begins.
    pub(crate) place: String,
    pub(crate) commands: String,
    /// Why only an operator can run it.
    pub(crate) reason: Option<String>,
}

/// The blocks of a page, in order. Anything else that is fenced in would look like commands to whoever reads it.
pub(crate) fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let (mut blocks, mut open, mut before) = (Vec::new(), None::<Block>, "");
    for (number, line) in (1..).zip(text.lines()) {
        match (open.take(), line.strip_prefix("```")) {
            (None, Some(language)) => {
                let place = format!("{}:{number}", page.file_name().unwrap().display());
                assert_eq!(language, "sh", "{place}");
                open = Some(Block { place, commands: String::new(), reason: reason(before) });
            }
            (Some(block), Some(_)) => blocks.push(block),
            (Some(mut block), None) => {
                block.commands += line;
                block.commands.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "{}: a block does not end", page.display());
    blocks
}

fn reason(before: &str) -> Option<String> {
    let reason = before.strip_prefix(MARK)?.strip_suffix("-->").unwrap_or_default().trim();
    assert!(!reason.is_empty(), "no reason why only an operator can run it: {before}");
    Some(reason.to_owned())
}
