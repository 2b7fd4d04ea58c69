//! A cluster on this machine, for a person to look at and to break.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use vx11_kit::{Site, keep_logs_in, new_principal, remember_secret, write_for_us_alone};

use super::{Binary, Stop, say};
use crate::cluster::{Backing, Cluster, ClusterPlan, Extras, Ports, Ways};

/// The ports of the documentation.
const REDIS: u16 = 6379;
const FIRST_INSTANCE: u16 = 8011;
const BALANCER: u16 = 8001;
const GATEWAY: u16 = 8000;
/// Files in the folder of a cluster, in addition to the logs. The first three have the same
/// credential: as a variable, alone, and as a header for curl.
const CREDENTIALS: &str = "tokens.env";
const CREDENTIAL: &str = "principal-token";
const HEADER: &str = "principal.header";
const REDIS_PASSWORD: &str = "redis-password";
/// More would not fit below the next well-known port, nor on one machine.
const MOST_INSTANCES: u16 = 64;
/// Pause before a dead part is started again: long enough to see the effect.
const STAYS_DOWN: Duration = Duration::from_secs(10);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(200);
/// An instance ends its streams over this many seconds, and needs not much longer.
const DRAIN: u64 = 10;

/// Number of instances, and folder of the traces.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    binary: Binary,
    /// Number of instances, 1 to 64.
    #[arg(long, default_value_t = 3)]
    instances: u16,
    /// A folder for logs and credentials.
    #[arg(long, default_value = "target/cluster")]
    folder: PathBuf,
    /// Whether the gateway on port 8000 passes the routes of the service on: 1 or 0.
    #[arg(long, env = "VX11_OPERATOR_PROXY_ENABLED", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    proxy_enabled: u8,
    /// The principal's credential; a new one otherwise. By this variable only, as others can read
    /// command lines.
    #[arg(skip = std::env::var("VX11_PRINCIPAL_TOKEN").ok())]
    principal: Option<String>,
}

/// Runs until a stop signal.
pub(super) async fn run(options: Options) -> Result<bool, String> {
    let mut stop = Stop::listen()?;
    let binary = options.binary.find()?;
    if !(1..=MOST_INSTANCES).contains(&options.instances) {
        return Err(format!("{} instances are not possible: 1 to {MOST_INSTANCES} are", options.instances));
    }
    let ports = Ports {
        redis: REDIS,
        instances: (FIRST_INSTANCE..FIRST_INSTANCE + options.instances).collect(),
        balancer: BALANCER,
        gateway: GATEWAY,
    };
    for port in [REDIS, BALANCER, GATEWAY].iter().chain(&ports.instances) {
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port))
            .map_err(|error| format!("port {port}: {error}. `ss -ltnp` tells what listens there"))?;
    }
    let made = std::fs::create_dir_all(&options.folder).and_then(|()| options.folder.canonicalize());
    let folder = made.map_err(|error| format!("{}: {error}", options.folder.display()))?;
    clear(&folder)?;
    keep_logs_in(&folder);
    let principal = options.principal.unwrap_or_else(new_principal);
    remember_secret(&principal);
    write_for_us_alone(&folder.join(CREDENTIALS), &format!("VX11_PRINCIPAL_TOKEN={principal}\n"));
    write_for_us_alone(&folder.join(CREDENTIAL), &format!("{principal}\n"));
    write_for_us_alone(&folder.join(HEADER), &format!("X-VX11-Token: {principal}\n"));
    let plan = ClusterPlan {
        binary,
        instances: options.instances.into(),
        backing: Backing::Single,
        ways: Ways::Direct,
        life: 60,
        drain: DRAIN,
        principal,
        ports: Some(ports),
        // As in every other deployment: what is looked for in a log is found in all of them, and
        // wrong credentials are limited.
        settings: vec![
            ("VX11_OPERATOR_LOG_FORMAT", "json".to_owned()),
            ("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "600".to_owned()),
        ],
        site: Site {
            limits: None,
            proxy_enabled: options.proxy_enabled == 1,
            folder: Some(folder.join("nginx")),
            ..Site::default()
        },
        extras: Extras::default(),
    };
    let started = Instant::now();
    let starting = Cluster::start(&plan, |what| say(&format!("starting {what} ...")));
    let mut cluster = tokio::select! {
        cluster = starting => cluster,
        () = stop.wait() => return Ok(true),
    };
    let password = cluster.store.single().password().unwrap_or_default();
    write_for_us_alone(&folder.join(REDIS_PASSWORD), &format!("{password}\n"));
    explain(&cluster, &options.folder, started.elapsed());
    supervise(&mut cluster, &mut stop).await;
    end(cluster, &mut stop).await;
    Ok(true)
}

/// Removes files of an earlier cluster, which would be taken for this one's. Other files stay, and
/// so does a folder that no cluster has used.
fn clear(folder: &Path) -> Result<(), String> {
    let words = |error: std::io::Error| format!("{}: {error}", folder.display());
    let names: Vec<_> =
        std::fs::read_dir(folder).map_err(words)?.flatten().map(|entry| entry.file_name()).collect();
    if !names.is_empty() && !names.iter().any(|name| name == CREDENTIALS) {
        return Err(format!("{} is not empty and not a cluster's: give another --folder", folder.display()));
    }
    for name in names.iter().filter_map(|name| name.to_str()) {
        let path = folder.join(name);
        match name {
            "nginx" => std::fs::remove_dir_all(path).map_err(words)?,
            CREDENTIALS | CREDENTIAL | HEADER | REDIS_PASSWORD => {
                std::fs::remove_file(path).map_err(words)?;
            }
            _ if path.extension().is_some_and(|extension| extension == "log") => {
                std::fs::remove_file(path).map_err(words)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn explain(cluster: &Cluster, folder: &Path, took: Duration) {
    let folder = folder.display();
    say(&format!("\nThe cluster is up, after {:.1} s.", took.as_secs_f64()));
    let process = master_of(cluster);
    let balancer = cluster.nginx.balancer();
    say(&format!("  load balancer   {balancer}/   (in a browser: the panel)   nginx, process {process}"));
    say(&format!("  gateway         {}/health   the same nginx", cluster.nginx.gateway()));
    for instance in &cluster.instances {
        let pid = instance.process();
        say(&format!("  instance        {}   process {pid}", instance.base()));
    }
    let redis = cluster.store.single();
    say(&format!("  Redis           {}, database 1   process {}", redis.address(), redis.pid()));
    say(&format!("  its password    {folder}/redis-password"));
    say(&format!("  the credential  {folder}/{CREDENTIAL}"));
    say(&format!("  logs            {folder}/*.log"));
    say("\nIn another terminal, a token:");
    say(&format!("  curl -s -X POST {balancer}/operator/api/events/sse-token -H @{folder}/{HEADER}"));
    say(&format!(
        "\nKill what you like (kill -9): it is started again after {} s. Ctrl-C ends all of it.\n",
        STAYS_DOWN.as_secs()
    ));
}

/// Id of nginx's master process.
fn master_of(cluster: &Cluster) -> u32 {
    cluster.nginx.processes().first().copied().unwrap_or_default()
}

/// Starts dead parts again, until a stop signal.
async fn supervise(cluster: &mut Cluster, stop: &mut Stop) {
    let mut deaths = Deaths::default();
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = sleep(LOOK) => {}
        }
        if deaths.is_due("Redis", cluster.redis().ended()) {
            cluster.redis().restart().await;
            let pid = cluster.redis().pid();
            say(&format!("Redis is back, process {pid}"));
        }
        for (number, instance) in (1..).zip(&mut cluster.instances) {
            let name = format!("instance {number}");
            if deaths.is_due(&name, instance.how_it_ended()) {
                instance.restart().await;
                let pid = instance.process();
                say(&format!("{name} is back, process {pid}"));
            }
        }
        if deaths.is_due("nginx", cluster.nginx.ended()) {
            cluster.nginx.restart().await;
            say(&format!("nginx is back, process {}", master_of(cluster)));
        }
    }
}

/// Dead parts, with the time of their death.
#[derive(Default)]
struct Deaths(Vec<(String, Instant)>);

impl Deaths {
    /// Whether something that ended has been dead for long enough.
    fn is_due(&mut self, name: &str, ended: Option<ExitStatus>) -> bool {
        let known = self.0.iter().position(|(dead, _)| dead == name);
        match (ended, known) {
            (Some(how), None) => {
                say(&format!("{name} ended ({how}); it is started again in {} s", STAYS_DOWN.as_secs()));
                self.0.push((name.to_owned(), Instant::now()));
                false
            }
            (Some(_), Some(at)) if self.0[at].1.elapsed() >= STAYS_DOWN => {
                self.0.swap_remove(at);
                true
            }
            _ => false,
        }
    }
}

/// Instances end first, so that streams get `reconnect`; a second Ctrl-C ends them at once.
async fn end(mut cluster: Cluster, stop: &mut Stop) {
    say(&format!(
        "\nending: instances have {DRAIN} s to end their streams; Ctrl-C again ends them at once ..."
    ));
    for instance in &mut cluster.instances {
        if instance.how_it_ended().is_none() {
            instance.terminate();
        }
    }
    let drained = async {
        for instance in &mut cluster.instances {
            instance.ended().await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = stop.wait() => {}
    }
    drop(cluster);
    say("ended.");
}
