//! Promises of the documents about themselves.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The lines of a document that are not fenced in: in commands `#` begins a comment.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors of a document's headings, as the forges make them: small letters, digits and hyphens
/// for blanks.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut counts) = (BTreeSet::new(), BTreeMap::<String, usize>::new());
    for heading in prose(text).filter(|line| line.starts_with('#')) {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        let anchor = words.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "");
        let again = counts.entry(anchor.clone()).or_default();
        anchors.insert(if *again == 0 { anchor } else { format!("{anchor}-{again}") });
        *again += 1;
    }
    anchors
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    documents(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    let (mut checked, mut checked_anchors) = (0, 0);
    for document in &found {
        let text = std::fs::read_to_string(document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            checked += 1;
            assert!(there.exists(), "{}: {target}", document.display());
            if !anchor.is_empty() {
                checked_anchors += 1;
                let anchors = anchors(&std::fs::read_to_string(&there).unwrap());
                assert!(anchors.contains(anchor), "{}: {target}; there are {anchors:?}", document.display());
            }
        }
    }
    assert!(found.len() >= 10 && checked >= 15, "{} documents, {checked} links", found.len());
    assert!(checked_anchors >= 10, "{checked_anchors} anchors");
}

#[test]
fn anchors_are_made_of_headings() {
    let text = "# Streams: who, and `how`?\n```sh\n# no heading\n```\n## Again\n## Again\n";
    assert_eq!(anchors(text), ["again", "again-1", "streams-who-and-how"].map(str::to_owned).into());
}

#[test]
fn every_decision_has_a_status_below_its_title_and_is_in_the_index() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adr");
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name == "README.md" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let title = lines.next().and_then(|line| line.strip_prefix("# ")?.split_once(": "));
        let (number, title) = title.unwrap_or_default();
        let status = lines.next().and_then(|line| line.strip_prefix("Status: ")).unwrap_or_default();
        assert!(status.starts_with("accepted, 20"), "{name}: no `Status: accepted, <date>` below the title");
        let row = format!("| [{number}]({name}) | {title} | {status} |");
        assert!(index.lines().any(|line| line == row), "docs/adr/README.md lacks the row {row}");
    }
}
