//! Streams without an external fault: clients stop reading, or are away while everything is
//! replaced, or streams reach their age.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use vx11_kit::{ListedStream, eventually};

use super::drilling::Drilling;
use super::{Length, redis};
use crate::history::StreamTurn;
use crate::load::{MOST_LISTED, subscriber_of};

/// Of so many subscribers, one stops reading.
pub(super) const ONE_PAUSES_OF: usize = 20;
/// Bound of that. An instance or nginx waits 20 s for a client that takes nothing, from when all
/// buffers on the way are full. The kernel lets the receive buffer of nginx grow when a stream
/// catches up, as all do that were cut in the round before, up to megabytes (`net.ipv4.tcp_rmem`).
/// They take a minute to fill.
const PAUSE_AT_MOST: Duration = Duration::from_mins(2);
/// Interval of looks whether they are cut.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Before that, for comparison, nothing happens.
const CALM: Duration = Duration::from_secs(15);
/// Subscribers of the drill in which some are away. More of them, each with every large event,
/// leave a machine of two cores no time for those that come back: they fall out of the log.
pub(super) const AWAY_SUBSCRIBERS: usize = 1000;
/// Time for which some read nothing before the log is lost, and again before the first instance is
/// replaced.
const AWAY: Duration = Duration::from_secs(5);
/// Size of an event in these drills, so that buffers fill soon, and nginx's send buffer for a
/// client.
pub(super) const LARGE_EVENT: usize = 1000;
pub(super) const SEND_BUFFER: u32 = 64 * 1024;
/// A stream lives for so many drains, so that those that were open in the end of a rolling restart
/// are still open after it.
const AGE_IN_DRAINS: u64 = 6;
/// The instance with the most streams may have so many times as many as the one with the fewest.
const SPREAD: f64 = 1.5;

/// Those who stop reading are cut, and nobody else is.
pub(super) async fn some_stop_reading(drilling: &mut Drilling) {
    let lost = lost(drilling);
    sleep(CALM).await;
    drilling.begin_fault().await;
    drilling.fault_run.pause_reading(true);
    let pausing = drilling.length.subscribers / ONE_PAUSES_OF;
    let began = Instant::now();
    // Who is left at the bound is counted below.
    while open_streams(drilling, pausing).await != Some(0) && began.elapsed() < PAUSE_AT_MOST {
        sleep(BETWEEN_LOOKS).await;
    }
    drilling.fault_run.note(format!("the last of them was cut after {:.0?}", began.elapsed()));
    drilling.fault_run.pause_reading(false);
    // Only then do they know that they were cut.
    drilling.fault_run.catch_up().await;
    drilling.recover().await;
    let cut = self::lost(drilling).split_off(lost.len());
    let others = cut.iter().filter(|subscriber| **subscriber >= pausing).count();
    drilling
        .fault_run
        .note(format!("of {pausing} subscribers that stopped reading {} were cut", cut.len() - others));
    if others > 0 || cut.len() < pausing {
        drilling
            .fault_run
            .complain(format!("{} streams of {pausing} were cut, {others} of others", cut.len()));
    }
}

/// Number of open streams of the first so many subscribers, as the instances have them.
async fn open_streams(drilling: &Drilling, subscribers: usize) -> Option<usize> {
    // At least one other stream is open, or the list is not right.
    let list = drilling.cluster.instances[0].list_streams(MOST_LISTED).await.ok()?;
    let is_whole = list.missing.is_empty() && !list.more && !list.streams.is_empty();
    let recorder = drilling.fault_run.recorder();
    let of = |id: &String| recorder.number_of(id).and_then(subscriber_of);
    let subscriber = |stream: &ListedStream| stream.token_id.as_ref().and_then(of);
    let own = list.streams.iter().filter_map(subscriber).filter(|number| *number < subscribers);
    is_whole.then(|| own.count())
}

/// While some do not read, Redis forgets everything, and then every instance is replaced: what they
/// have missed is only in what the instances brought back before they ended.
pub(super) async fn all_replaced_while_some_are_away(drilling: &mut Drilling, round: usize) {
    drilling.begin_fault().await;
    drilling.fault_run.pause_reading(true);
    sleep(AWAY).await;
    redis::lose_data(drilling, round).await;
    sleep(AWAY).await;
    drilling.restart_one_by_one().await;
    drilling.fault_run.pause_reading(false);
    // Only then do they know that they were cut.
    drilling.fault_run.catch_up().await;
    drilling.recover().await;
}

/// The subscribers whose streams ended so far, each as often as one did.
fn lost(drilling: &Drilling) -> Vec<usize> {
    drilling.fault_run.recorder().look(|history| {
        let lost = history.streams.iter().filter(|it| matches!(it.turn, StreamTurn::Lost(_)));
        lost.map(|it| it.subscriber).collect()
    })
}

/// The longest life of a stream, in seconds.
pub(super) fn age(length: Length) -> u64 {
    AGE_IN_DRAINS * length.drain
}

/// After a rolling restart the last instance has no streams. When all that were open then have got
/// old, it has its part.
pub(super) async fn spread_by_age(drilling: &mut Drilling) {
    drilling.begin_fault().await;
    drilling.restart_one_by_one().await;
    drilling.recover().await;
    let before = spread(drilling).await;
    sleep(Duration::from_secs(age(drilling.length))).await;
    let after = spread(drilling).await;
    drilling.fault_run.note(format!(
        "streams of each instance after the restart: {}; when all have got old once: {}",
        before.0, after.0
    ));
    if after.1 > SPREAD {
        drilling.fault_run.complain(format!("streams are spread unevenly: {}", after.0));
    }
}

/// Number of streams of each instance, as text, and the ratio of the fullest to the emptiest.
async fn spread(drilling: &Drilling) -> (String, f64) {
    let mut streams = Vec::new();
    for instance in &drilling.cluster.instances {
        streams.push(eventually("an instance to answer", async || instance.streams().await.ok()).await);
    }
    let (least, most) =
        (streams.iter().min().copied().unwrap_or(0), streams.iter().max().copied().unwrap_or(0));
    #[expect(clippy::cast_precision_loss, reason = "streams are thousands, not quadrillions")]
    let ratio = most as f64 / least as f64;
    let each = streams.iter().map(u64::to_string).collect::<Vec<_>>().join("/");
    (format!("{each}, {ratio:.2} times"), ratio)
}
