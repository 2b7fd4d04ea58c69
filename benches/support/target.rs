//! Folder of the benchmarks' traces.

use std::path::{Path, PathBuf};

/// Cargo's target folder. Known at compile time, so that it does not depend on the working
/// directory.
pub(crate) fn target_directory() -> PathBuf {
    let inside = Path::new(env!("CARGO_TARGET_TMPDIR"));
    inside.parent().unwrap_or(inside).to_owned()
}
