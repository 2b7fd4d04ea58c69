//! Two releases at once, as during a rolling update: an instance of the previous release, an
//! instance of this one, and one Redis. `.ci/previous-release` says which release that is, and
//! `.ci/build-previous` builds it.
//!
//! The previous release knows neither grants nor topics. It may refuse what it does not know, and
//! it never opens more than was granted. `docs/operations/updating.md` describes what holds.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod cluster;
mod events;
mod lost_data;
mod tokens;
mod update;

use std::path::Path;

/// The executable of this release.
fn this_release() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vx11-operator"))
}
