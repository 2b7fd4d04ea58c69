//! An instance of the service with its defaults and without Redis: the shipped binary.

use std::net::SocketAddr;
use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use vx11_kit::{Operator, new_principal};

use crate::http::Client;
use crate::server::{Channel, Publisher, Server};

/// An instance that runs.
pub(crate) struct Instance {
    process: Operator,
    principal: String,
    address: SocketAddr,
    /// Working directory of the processes.
    runtime: Runtime,
}

impl Instance {
    /// Starts one with `settings` beside the defaults. A token may open all of its streams.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_vx11-operator")), settings)
    }

    /// The same of another program.
    pub(crate) fn of(program: &Path, settings: &[(&str, &str)]) -> Self {
        let settings = [settings, &[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]].concat();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let principal = new_principal();
        let process = runtime.block_on(Operator::start(program, &principal, &settings));
        let address = process.address().parse().expect("an address");
        Self { process, principal, address, runtime }
    }

    /// Waits until it uses Redis.
    pub(crate) fn await_well(&self) {
        self.runtime.block_on(self.process.await_well());
    }

    fn client(&self) -> Client {
        Client::connect((self.address, &self.principal))
    }
}

impl Server for Instance {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn targets(&self, channels: impl Iterator<Item = Channel>) -> impl Iterator<Item = String> {
        let mut client = self.client();
        channels.map(move |channel| {
            let token = match channel {
                None => client.issue(),
                Some(number) => client.issue_with(&format!(r#"{{"topics": ["{}"]}}"#, topic(number))),
            };
            format!("/operator/api/events/stream?token={token}")
        })
    }

    fn publisher(&self) -> Publisher {
        let request = |_: Channel| "POST /operator/api/events".to_owned();
        let body = |channel: Channel, data: &str| match channel {
            None => format!(r#"{{"data": {data}}}"#),
            Some(number) => format!(r#"{{"topic": "{}", "data": {data}}}"#, topic(number)),
        };
        Publisher::new(self.client(), request, body)
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.process.process()]
    }
}

/// Two segments: an event is entered under its topic, one prefix, and `*`.
fn topic(number: u32) -> String {
    format!("users/{number}")
}
