//! Rules about the pages of `docs/runbooks` as texts: diagnosis changes nothing, every command is
//! in a block that is run or marked, and no failure is ignored.

use std::collections::BTreeSet;
use std::process::Command;

use crate::page::{Block, blocks, commands_in_text};
use crate::runbooks::{INDEX, commands, pages};
use crate::shipped;

/// The section of a page that changes nothing.
const LOOKING: &str = "What to run";
/// Beginnings of commands that change something.
const CHANGES: [&str; 9] =
    ["tokens/revoke", "CONFIG SET", "FLUSH", " DEL ", " restart", " delete ", " undo", "--rollback", "kill "];

#[test]
fn every_command_is_in_a_block() {
    for page in pages().into_iter().chain([shipped(INDEX)]) {
        let loose = commands_in_text(&page);
        assert!(loose.is_empty(), "{}: nobody runs {loose:?}", page.display());
    }
}

#[test]
fn what_looks_changes_nothing() {
    let blocks: Vec<_> = pages().iter().flat_map(|page| blocks(page)).collect();
    let looking: Vec<_> = blocks.iter().filter(|block| block.section == LOOKING).collect();
    assert!(looking.len() > 40);
    for block in looking {
        let commands = block.commands.replace("\\\n", "");
        let change = CHANGES.iter().find(|change| commands.contains(**change));
        assert!(change.is_none(), "{}: {change:?} belongs below, into what to do", block.place);
        for publish in commands.lines().filter(|line| line.contains("$URL/operator/api/events ")) {
            let is_a_look = publish.contains(r#""event": "smoke""#) && publish.contains("Idempotency-Key: ");
            assert!(is_a_look, "{}: pages listen to this, or it is there twice when repeated", block.place);
        }
    }
}

/// The status of a command substitution is ignored, except in an assignment; so is that of a
/// command before `|| true`.
#[test]
fn every_failing_command_is_noticed() {
    for block in commands() {
        assert!(!block.commands.contains("|| true"), "{}: || true", block.place);
        for (at, begin) in block.commands.match_indices("$(") {
            let inside = &block.commands[at + begin.len()..];
            let is_assigned = block.commands[..at].ends_with('=');
            assert!(is_assigned || inside.starts_with("date "), "{}: $({inside}", block.place);
        }
    }
}

#[test]
fn what_only_an_operator_can_run_is_shell() {
    let marked: Vec<_> = pages().iter().chain([&shipped(INDEX)]).flat_map(|page| blocks(page)).collect();
    for block in marked.iter().filter(|block| block.only_operator.is_some()) {
        let output = Command::new("bash").args(["-n", "-c", &block.commands]).output().unwrap();
        assert!(output.status.success(), "{}: {}", block.place, String::from_utf8_lossy(&output.stderr));
    }
}

/// The functions that a block defines.
fn functions(block: &Block) -> BTreeSet<&str> {
    block.commands.lines().filter_map(|line| Some(line.split_once("() {")?.0)).collect()
}

#[test]
fn every_deployment_defines_what_pages_call() {
    let bound = commands().into_iter().find(|block| block.commands.contains("$LOGS"));
    assert!(bound.is_none(), "{bound:?}: these files are there on one deployment alone");
    let index = blocks(&shipped(INDEX));
    let elsewhere: Vec<_> = index.iter().filter(|block| block.section == "The same elsewhere").collect();
    let called = functions(&index[0]);
    assert!(called.len() == 5 && elsewhere.len() == 3, "{called:?}");
    for block in elsewhere {
        assert!(functions(block).is_superset(&called), "{} defines {:?}", block.place, functions(block));
    }
}
