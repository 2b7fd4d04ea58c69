//! Foundation of these tests: a cluster behind nginx, backends with faults, and strict parsing of
//! problems.

mod backend;
mod cluster;
mod problem;
mod raw;
mod sooner;

pub use backend::{Act, Backend};
pub use cluster::{Cluster, is_deadline};
pub use problem::{problem, problem_in};
pub use raw::{exchange, status_of};
pub use sooner::sooner;
