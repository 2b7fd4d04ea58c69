//! Search for secrets in artefacts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;

/// Shorter texts, such as a test's "wrong", occur in logs by themselves.
const SHORTEST_SECRET: usize = 16;

/// The secrets to look for.
pub struct Secrets {
    count: usize,
    search: AhoCorasick,
}

impl Secrets {
    /// One a line, or one an item.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets: BTreeSet<_> =
            secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
        let needles = secrets.iter().flat_map(|secret| spellings(secret));
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(needles);
        Self { count: secrets.len(), search: search.expect("not too many secrets") }
    }

    /// Number of secrets, without those that are too short to be distinguished from other text.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of occurrences of a secret, in any spelling.
    #[must_use]
    pub fn occurrences(&self, haystack: &[u8]) -> usize {
        self.search.find_iter(haystack).count()
    }

    /// Lines that contain a secret, as `file:line`.
    pub fn in_files<'a>(&self, files: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
        files.into_iter().flat_map(|file| self.in_file(file)).collect()
    }

    fn in_file(&self, file: &Path) -> Vec<String> {
        let text = std::fs::read(file).expect("a log can be read");
        let lines = (1..).zip(text.split(|byte| *byte == b'\n'));
        let leaking = lines.filter(|(_, line)| self.search.is_match(line));
        leaking.map(|(number, _)| format!("{}:{number}", file.display())).collect()
    }
}

/// The ways in which a secret may be written down by accident; letters may be of either case.
fn spellings(secret: &str) -> [String; 3] {
    [secret.to_owned(), secret.replace('-', ""), secret.replace('-', "%2D")]
}
