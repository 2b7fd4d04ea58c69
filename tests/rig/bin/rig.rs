//! Program for `make cluster`, `make drill` and `make compose-test`.

use std::process::ExitCode;

use clap::Parser;
use vx11_rig::Command;

/// Starts and breaks real deployments of vx11-operator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse().command.run().await
}
