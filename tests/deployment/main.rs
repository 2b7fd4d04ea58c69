//! Promises of `deploy/`: the manifests for Kubernetes, the Compose file and the unit for systemd
//! are valid by their own tools, keep the rules that no schema knows, and configure a real instance
//! that works. Also promises of `.ci/` about dependencies.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod advisories;
mod cached;
mod compose;
mod compose_rules;
mod instance;
mod kubernetes;
mod rendered;
mod rules;
mod systemd;

use std::path::{Path, PathBuf};

/// A path below the root of the repository.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
