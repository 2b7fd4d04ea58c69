//! `.ci/prose` fails on text that breaks a rule of CONTRIBUTING.md, "How to write". The tests write
//! such text to files of empty repositories.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const EXCEPTIONS: &str = ".ci/prose.toml";

/// A command without the variables that name another repository, as a hook of git has them.
fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
}

/// A repository with these files.
fn repository(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let initialised = command("git", folder.path()).args(["init", "--quiet"]).status().unwrap();
    assert!(initialised.success(), "git init: {initialised}");
    for (name, text) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    folder
}

/// Runs `.ci/prose` in a repository. Returns its lines without the last, which counts findings.
fn check(repository: &TempDir, paths: &[&str]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/prose");
    let checked = command(script, repository.path()).args(paths).output().unwrap();
    let printed = String::from_utf8(checked.stdout).unwrap();
    let mut lines: Vec<_> = printed.lines().map(str::to_owned).collect();
    let count = lines.pop().unwrap_or_default();
    assert!(count.contains(" findings in "), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(checked.status.code(), Some(i32::from(!lines.is_empty())), "{lines:#?}");
    lines
}

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    check(&repository(files), &[])
}

#[test]
fn text_that_follows_the_rules_has_no_findings() {
    let page = r"# A page

See [its section](#a-section), [the other page](folder/other.md#top) and `told.rs`.

```sh
# What a block of code contains is no prose: anew, told, and lines of more than a hundred columns, as this one
```

| a table |
|---|
| cannot be wrapped, so that its rows may be longer than the hundred columns that a line of prose may have |

## A section

When a page begins a sentence like this one, it is no comment.
";
    let source = "//! Revokes tokens, which `told.rs` does not.\n\nconst TEXT: &str = \"told anew\";\n";
    let found = findings(&[("page.md", page), ("folder/other.md", "# Top\n"), ("source.rs", source)]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_line_of_prose_over_100_columns_is_a_finding() {
    let fits = format!("{}x\n", "ab ".repeat(33));
    let page = format!("{}xy\n", "ab ".repeat(33));
    let comment = format!("// {}xy\n", "ab ".repeat(32));
    let files = [("fits.md", fits.as_str()), ("page.md", page.as_str()), ("source.rs", comment.as_str())];
    let expected =
        ["page.md:1: long: 101 columns: wrap at 100", "source.rs:1: long: 101 columns: wrap at 100"];
    assert_eq!(findings(&files), expected);
}

#[test]
fn a_link_that_leads_nowhere_is_a_finding() {
    let page = "# Page\n\n[1](missing.md) [2](#no-section) [3](other.md#other) [4](other.md#nothing)\n";
    let expected = [
        "page.md:3: link: missing.md: there is no such file",
        "page.md:3: link: #no-section: there is no such heading",
        "page.md:3: link: other.md#nothing: there is no such heading",
    ];
    assert_eq!(findings(&[("page.md", page), ("other.md", "# Other\n")]), expected);
}

#[test]
fn an_avoided_word_is_a_finding_in_a_page_and_in_a_comment() {
    const AVOIDED: [&str; 9] =
        ["anew", "told", "stands", "hears", "word", "in one go", "of its own", "as it belongs", "let go of"];
    for (name, mark) in [
        ("page.md", ""),
        ("source.rs", "/// "),
        ("panel.js", " * "),
        ("types.d.ts", "// "),
        ("style.css", "/* "),
        ("script.lua", "-- "),
        ("site.conf", "# "),
        ("values.toml", "key = 1 # "),
        ("Makefile", "# "),
    ] {
        let text = AVOIDED.map(|words| format!("{mark}This is {words}.\n")).concat();
        let found = findings(&[(name, text.as_str())]);
        assert_eq!(found.len(), AVOIDED.len(), "{found:#?}");
        for ((line, words), found) in (1..).zip(AVOIDED).zip(found) {
            assert!(found.starts_with(&format!("{name}:{line}: avoid: {words}: ")), "{found}");
        }
    }
}

#[test]
fn a_comment_that_begins_with_a_question_word_is_a_finding() {
    const OPENINGS: [&str; 7] = ["What", "Where", "How", "When", "Whoever", "So long", "Of the"];
    let source = OPENINGS.map(|opening| format!("// {opening} it is.\nlet x = 1;\n")).concat();
    let finding = |(line, opening)| format!("source.rs:{line}: opening: {opening}: start with the noun");
    let expected: Vec<_> = (1..).step_by(2).zip(OPENINGS).map(finding).collect();
    let second_line = "// A limit.\n// When it is reached, requests are refused.\n";
    assert_eq!(findings(&[("source.rs", source.as_str()), ("second.rs", second_line)]), expected);
}

#[test]
fn a_replaced_term_is_a_finding_in_its_old_sense() {
    let files = [
        ("page.md", "The gate is open.\nThe operator has a lane.\n"),
        ("src/log.rs", "// The journal of systemd, and a trial of a migration.\n"),
        ("tests/rig/log.rs", "// The journal of a trial.\n"),
    ];
    let expected = [
        "page.md:1: term: gate: circuit breaker",
        "page.md:2: term: lane: worker connection",
        "page.md:2: term: The operator: instance",
        "tests/rig/log.rs:1: term: journal: fault run, fault, history",
        "tests/rig/log.rs:1: term: trial: fault run, fault, history",
    ];
    assert_eq!(findings(&files), expected);
}

/// An exception for a text of `page.md`.
fn exception(reason: &str) -> String {
    format!("[[allow]]\nfile = \"page.md\"\ntext = \"The word is a key\"\nreason = \"{reason}\"\n")
}

#[test]
fn an_exception_allows_a_text_of_its_file_and_nothing_else() {
    let page = "The word is a key of the wire.\n\nThis word is none.\n";
    let other = "The word is a key.\n";
    let exceptions = exception("The wire has this key.");
    let found = findings(&[(EXCEPTIONS, exceptions.as_str()), ("page.md", page), ("other.md", other)]);
    let expected = [
        "other.md:1: avoid: word: message, text, sentence",
        "page.md:3: avoid: word: message, text, sentence",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_exception_that_nothing_needs_is_a_finding_unless_only_some_paths_are_checked() {
    let exceptions = exception("The wire has this key.");
    let repository = repository(&[(EXCEPTIONS, exceptions.as_str()), ("page.md", "The key is here.\n")]);
    let expected = [".ci/prose.toml: nothing in page.md needs the exception for 'The word is a key'"];
    assert_eq!(check(&repository, &[]), expected);
    assert_eq!(check(&repository, &["page.md"]), Vec::<String>::new());
}

#[test]
fn an_exception_without_a_reason_allows_nothing() {
    let exceptions = exception("");
    let found = findings(&[(EXCEPTIONS, exceptions.as_str()), ("page.md", "The word is a key.\n")]);
    assert_eq!(found[0], "page.md:1: avoid: word: message, text, sentence");
    assert!(found[1].starts_with(".ci/prose.toml: an exception needs file, text and reason: "), "{found:#?}");
    assert_eq!(found.len(), 2);
}
