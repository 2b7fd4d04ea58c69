//! Instructions for administrators, carried out: `deploy/smoke` against whole and broken
//! deployments, and the commands of the runbooks. Also a real Prometheus that scrapes a real
//! cluster.
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed, and says where")]

mod answer;
mod cluster;
mod dashboards;
mod expressions;
mod incidents;
mod observe;
mod observing;
mod page;
mod pages;
mod promtool;
mod rights;
mod rotation;
mod runbook_rules;
mod runbooks;
mod smoke;
mod terminal;
mod update;

use std::path::{Path, PathBuf};

/// A path below the root of the repository.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
