//! Faults outside of the service: traffic from clients, or the path to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use vx11_kit::{Api, RESET};

use super::drilling::Drilling;
use crate::history::{Endpoint, Kind, Outcome};

/// Requests that make whoever answers them reset the connection.
const POISONED: usize = 3;
/// So many clients present forged tokens, each as fast as it is answered.
const FORGERS: usize = 4;

pub(super) async fn poisoned(drilling: &mut Drilling) {
    let balancer = drilling.cluster.balancer();
    drilling.begin_fault().await;
    let mut requests = JoinSet::new();
    for _ in 0..POISONED {
        let balancer = balancer.clone();
        requests.spawn(async move { balancer.health_with(RESET).await });
    }
    let failed = requests.join_all().await.into_iter().filter(Result::is_err).count();
    if failed != POISONED {
        drilling
            .fault_run
            .complain(format!("of {POISONED} requests that reset connections, {failed} failed"));
    }
    drilling.last(0.5).await;
    drilling.recover().await;
}

/// Results of forged tokens.
#[derive(Default)]
struct Counts {
    refused: AtomicU64,
    otherwise: AtomicU64,
}

/// Forged tokens are refused without a command to Redis.
pub(super) async fn forged(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    let (asked_before, from) = (asked(drilling).await, drilling.fault_run.recorder().now());
    let counts = Arc::new(Counts::default());
    let mut forgers = JoinSet::new();
    for _ in 0..FORGERS {
        forgers.spawn(forge(drilling.cluster.balancer(), Arc::clone(&counts)));
    }
    drilling.last(1.0).await;
    forgers.shutdown().await;
    let (refused, asked) = (counts.refused.load(Ordering::Relaxed), asked(drilling).await - asked_before);
    let until = drilling.fault_run.recorder().now();
    drilling.recover().await;
    let by_right = drilling.fault_run.recorder().look(|history| {
        let looks = history.operations.iter().filter(|it| {
            matches!(it.kind, Kind::Introspect | Kind::OpenStream) && it.answered >= from && it.sent <= until
        });
        // Whether an event is known under its key takes a look, too.
        let attempts = history.publications.iter().flat_map(|publication| &publication.attempts);
        let events = attempts.filter(|it| it.answered >= from && it.sent <= until);
        // A token that is presented for more than its grant takes a look in the store, too.
        let others = history.trespasses.iter().filter(|it| it.at >= from && it.at <= until);
        u64::try_from(looks.count() + events.count() + others.count()).unwrap_or(u64::MAX)
    });
    let otherwise = counts.otherwise.load(Ordering::Relaxed);
    if otherwise > 0 {
        drilling
            .fault_run
            .complain(format!("{otherwise} forged tokens were answered with neither 403 nor 429"));
    }
    if refused == 0 || asked > by_right {
        drilling.fault_run.complain(format!(
            "{refused} forged tokens refused; Redis was asked {asked} times, {by_right} of them by right"
        ));
    }
}

/// Commands that look a key up. The one an instance uses is the first.
const LOOKS: [&str; 6] = ["mget", "get", "exists", "getex", "ttl", "pttl"];

/// Number of lookups in Redis.
async fn asked(drilling: &mut Drilling) -> u64 {
    let counted = drilling.cluster.redis().commandstats().await;
    LOOKS.iter().filter_map(|command| counted.get(*command)).sum()
}

async fn forge(balancer: Api, counts: Arc<Counts>) {
    loop {
        let random = fastrand::u128(..);
        // Version 8 and the variant of RFC 9562, so that it is refused for its signature and not
        // for its form.
        let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let token = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let answer = balancer.open_stream(&token).await;
        let count = match answer {
            Ok(None) => &counts.refused,
            // Too fast for nginx: refused as well, but not by its signature.
            Err(words) if words.starts_with("429") => continue,
            Ok(Some(_)) | Err(_) => &counts.otherwise,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// All streams at once, and whoever asks meanwhile, find nobody; nothing can be expected of nginx
/// until it is back.
pub(super) async fn all_streams_cut(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.fault_run.recorder().down(Endpoint::Balancer);
    drilling.cluster.nginx.kill().await;
    sleep(Duration::from_millis(500)).await;
    drilling.cluster.nginx.restart().await;
    drilling.fault_run.recorder().up(Endpoint::Balancer);
    drilling.recover().await;
    let failed = drilling.fault_run.recorder().look(|history| {
        let ups: Vec<_> = history.outages.iter().filter_map(|it| it.until).collect();
        let after = history.operations.iter().filter(|it| {
            it.endpoint == Endpoint::Balancer
                && matches!(&it.outcome, Outcome::Unanswered(words) if words.starts_with('5'))
                && ups.iter().any(|up| it.sent >= *up)
        });
        after.count()
    });
    if failed > 0 {
        drilling.fault_run.complain(format!("{failed} answers of 5xx after nginx was back"));
    }
}
