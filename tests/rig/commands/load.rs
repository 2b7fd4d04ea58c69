//! A load on a deployment that somebody else started and breaks.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use vx11_kit::Api;

use super::{Stop, say};
use crate::checker::Targets;
use crate::fault_run::FaultRun;
use crate::history::Endpoint;
use crate::load::{Measure, Member};
use crate::summary::Summary;

/// Target and size of a load.
#[derive(clap::Args)]
pub struct Options {
    /// The load balancer, such as `http://127.0.0.1:8001`.
    #[arg(long)]
    balancer: String,
    /// An instance behind it; give all of them. None of them needs to answer at all times.
    #[arg(long = "instance", required = true)]
    instances: Vec<String>,
    /// A file with the principal's credential.
    #[arg(long)]
    principal_file: PathBuf,
    /// Bound of the duration. SIGTERM ends the load earlier; it is checked in both cases.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Tokens issued a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Streams that are kept open.
    #[arg(long, default_value_t = 30)]
    subscribers: usize,
    /// Events published a second; 0 for none.
    #[arg(long, default_value_t = 20)]
    events: u32,
    /// The life of a token, in seconds, as the instances are configured.
    #[arg(long, default_value_t = 60)]
    life: u64,
    /// A file for all secrets that were used, for whoever searches logs for them.
    #[arg(long)]
    secrets: Option<PathBuf>,
}

/// Whether what holds under any single fault held: no valid token refused, no request through the
/// balancer lost, and in the end everything well. What breaks when is not known here, so revoked
/// tokens that were accepted are only listed.
pub(super) async fn run(options: Options) -> Result<bool, String> {
    let principal = std::fs::read_to_string(&options.principal_file)
        .map_err(|error| format!("{}: {error}", options.principal_file.display()))?;
    let (principal, life) = (principal.trim(), Duration::from_secs(options.life));
    vx11_kit::remember_secret(principal);
    let traces = vx11_kit::Traces::begin();
    let members: Vec<_> =
        options.instances.iter().map(|base| Member::from_afar(Api::new(base, principal, life))).collect();
    let balancer = Api::new(&options.balancer, principal, life);
    balancer.issue().await.map_err(|words| format!("{} gives no token: {words}", options.balancer))?;
    let Options { rate, subscribers, events, seconds, .. } = options;
    say(&format!(
        "{rate} tokens and {events} events a second and {subscribers} streams for at most {seconds} s on {} ...",
        options.balancer
    ));
    let mut stop = Stop::listen()?;
    let count = members.len();
    let measure = Measure { rate, subscribers, events, event_bytes: 0, pausing: 0, topics: None };
    let mut fault_run = FaultRun::over("load", members, Some(balancer), measure).await;
    for instance in 0..count {
        fault_run.recorder().down(Endpoint::Instance(instance));
    }
    fault_run.recorder().broken();
    // The caller knows when its faults are over.
    let _ = timeout(Duration::from_secs(seconds), stop.wait()).await;
    fault_run.recover().await;
    let report = fault_run
        .close(Targets {
            longest: None,
            recovery: Duration::from_secs(6),
            revocation: None,
            openings: u64::MAX,
            reconnects: usize::MAX,
            ..Targets::of_rounds(1)
        })
        .await;
    if let Some(file) = options.secrets {
        let all = [traces.secrets(), vec![principal.to_owned()]].concat().join("\n");
        std::fs::write(&file, all).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    say(&Summary::header());
    say(&report.verdict.summary.row("load"));
    for violation in &report.verdict.violations {
        say(&format!("- {violation}"));
    }
    Ok(report.verdict.violations.is_empty())
}
