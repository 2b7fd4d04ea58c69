//! An instance of the previous release, built by `.ci/build-previous --release`.

use std::net::SocketAddr;

use tokio::runtime::Builder;
use vx11_kit::{Operator, new_principal, previous_release};

/// The instance; it ends when this is dropped.
pub(crate) struct Previous {
    process: Operator,
    principal: String,
}

impl Previous {
    /// Starts one with `settings` beside its defaults.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let (executable, principal) = (previous_release("release"), new_principal());
        let process = runtime.block_on(Operator::start(&executable, &principal, settings));
        Self { process, principal }
    }

    /// Target of the load, and its credential.
    pub(crate) fn server(&self) -> (SocketAddr, &str) {
        (self.process.address().parse().expect("an address"), &self.principal)
    }
}
