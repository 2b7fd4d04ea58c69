//! The executable of the previous release, which `.ci/build-previous` builds.

use std::path::PathBuf;

use crate::artefacts::target;

/// The commit, below lines of comment.
const PINNED: &str = include_str!("../../.ci/previous-release");

/// The previous release, built with this profile: `debug` or `release`.
#[must_use]
pub fn previous_release(profile: &str) -> PathBuf {
    let commit = PINNED.lines().find(|line| !line.starts_with('#')).expect("a commit is pinned");
    let executable = target().join("previous").join(commit).join(profile).join("vx11-operator");
    let option = if profile == "release" { " --release" } else { "" };
    assert!(executable.exists(), "the previous release is not built: run .ci/build-previous{option}");
    executable
}
