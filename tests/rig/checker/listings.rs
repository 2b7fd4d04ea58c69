//! Whether lists of the open streams are right: equal to what clients have open, or with the names
//! of the instances that are missing in them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::Findings;
use super::rounds::Troubles;
use crate::history::{ClientStream, Endpoint, History, Listed, Listing, Moment};

/// Time after a fault from which a list equals the truth, and after which it has no stream that
/// ended.
const SETTLED: Duration = Duration::from_secs(2);
/// A list has to have what was open for so long before it was asked for.
const OPEN_FOR: Duration = Duration::from_millis(500);
/// Time after which a list names an instance that fails.
const FAILING_FOR: Duration = Duration::from_millis(300);
/// An instance that died is named for so long at least; its streams are gone.
const NAMED_AFTER_DEATH: Duration = Duration::from_secs(2);

/// Results of the lists.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listings {
    /// Number of lists.
    pub(crate) count: usize,
    /// Number of lists that had to equal the truth.
    pub(crate) calm: usize,
    /// Streams that no list has and whose instance it does not name.
    pub(super) lost: Findings,
    /// Streams in a list that nobody has open, and names of instances that do not fail.
    pub(super) wrong: Findings,
    /// Faults during which no list named the instances that failed.
    pub(super) unnamed: Findings,
}

pub(super) fn judge(history: &History) -> Listings {
    let mut found = Listings { count: history.listings.len(), ..Listings::default() };
    let troubles = Troubles::of(history, SETTLED);
    let mut truth: HashMap<u64, Vec<&ClientStream>> = HashMap::new();
    for stream in &history.client_streams {
        truth.entry(stream.token).or_default().push(stream);
    }
    let homes = homes(history);
    for listing in &history.listings {
        let is_calm = !troubles.overlap(listing.sent, listing.answered);
        found.calm += usize::from(is_calm);
        let mut listed: HashMap<u64, usize> = HashMap::new();
        for stream in &listing.streams {
            if let Some(token) = stream.token {
                *listed.entry(token).or_default() += 1;
            }
        }
        for (token, streams) in &truth {
            let open: Vec<_> = streams.iter().filter(|it| is_open_throughout(it, listing)).collect();
            if listed.get(token).copied().unwrap_or(0) >= open.len() {
                continue;
            }
            let at = homes.get(token);
            let is_named = !listing.missing.is_empty()
                && at.is_none_or(|at| at.iter().any(|instance| listing.missing.contains(instance)));
            if listing.more || is_named {
                continue;
            }
            let (endpoint, sent) = (listing.endpoint, listing.sent);
            found.lost.note(|| {
                format!("{endpoint} at {sent:?} does not list token {token}, which is open on {at:?}")
            });
        }
        if is_calm {
            calm(listing, &truth, &listed, &mut found);
        }
    }
    unnamed(history, &mut found);
    found
}

/// Rules for a list without a fault, in addition.
fn calm(
    listing: &Listing,
    truth: &HashMap<u64, Vec<&ClientStream>>,
    listed: &HashMap<u64, usize>,
    found: &mut Listings,
) {
    let (endpoint, sent) = (listing.endpoint, listing.sent);
    if !listing.missing.is_empty() || listing.more {
        let Listing { missing, more, .. } = listing;
        found.wrong.note(|| format!("{endpoint} at {sent:?} names {missing:?} as missing, more: {more}"));
    }
    for (token, count) in listed {
        let streams = truth.get(token).map(Vec::as_slice).unwrap_or_default();
        let possible = streams.iter().filter(|it| {
            it.sent <= listing.answered && it.end.as_ref().is_none_or(|end| end.at + SETTLED >= listing.sent)
        });
        let possible = possible.count();
        if *count > possible {
            found.wrong.note(|| {
                format!("{endpoint} at {sent:?} lists token {token} {count} times, open at most {possible}")
            });
        }
    }
    let foreign: Vec<_> = listing.streams.iter().filter(|it| it.token.is_none()).collect();
    let mut ids = BTreeSet::new();
    let twice = listing.streams.iter().filter(|it| !ids.insert(&it.stream_id)).count();
    if !foreign.is_empty() || twice > 0 {
        let of_nobody = foreign.len();
        found.wrong.note(|| {
            format!("{endpoint} at {sent:?} lists {of_nobody} streams of no token, {twice} streams twice")
        });
    }
}

fn is_open_throughout(stream: &ClientStream, listing: &Listing) -> bool {
    stream.opened + OPEN_FOR <= listing.sent
        && stream.end.as_ref().is_none_or(|end| end.at > listing.answered)
}

/// Instances on which the streams of a token are or were, as far as known.
fn homes(history: &History) -> HashMap<u64, BTreeSet<usize>> {
    let mut homes: HashMap<u64, BTreeSet<usize>> = HashMap::new();
    for stream in &history.client_streams {
        if let Endpoint::Instance(instance) = stream.endpoint {
            homes.entry(stream.token).or_default().insert(instance);
        }
    }
    for Listed { token, instance, .. } in history.listings.iter().flat_map(|listing| &listing.streams) {
        if let Some(token) = token {
            homes.entry(*token).or_default().insert(*instance);
        }
    }
    homes
}

/// Faults with lists, none of which named the instances that failed.
fn unnamed(history: &History, found: &mut Listings) {
    let all: BTreeSet<_> = history.observations.iter().map(|it| it.instance).collect();
    for partition in &history.partitions {
        let until = partition.until.unwrap_or(history.length);
        let expected = |listing: &Listing| -> BTreeSet<usize> {
            let own = match listing.endpoint {
                Endpoint::Instance(own) => own,
                Endpoint::Balancer => usize::MAX,
            };
            let others = || all.iter().copied().filter(|it| *it != own);
            if partition.cut.contains(&own) {
                others().collect()
            } else {
                partition.cut.iter().copied().collect()
            }
        };
        check_named(history, (partition.from, until), expected, found);
    }
    for outage in &history.outages {
        let Endpoint::Instance(down) = outage.endpoint else { continue };
        let until = outage.until.unwrap_or(history.length).min(outage.from + NAMED_AFTER_DEATH);
        check_named(history, (outage.from, until), |_| BTreeSet::from([down]), found);
    }
}

/// At least one list of each instance that answers has to name what is expected.
fn check_named(
    history: &History,
    (from, until): (Moment, Moment),
    expected: impl Fn(&Listing) -> BTreeSet<usize>,
    found: &mut Listings,
) {
    let mut by_place: HashMap<Endpoint, Vec<&Listing>> = HashMap::new();
    for listing in &history.listings {
        if listing.sent >= from + FAILING_FOR && listing.answered <= until {
            by_place.entry(listing.endpoint).or_default().push(listing);
        }
    }
    for (endpoint, listings) in by_place {
        let names = |it: &&Listing| expected(it).iter().all(|instance| it.missing.contains(instance));
        if !listings.iter().any(names) {
            let (count, expected) = (listings.len(), expected(listings[0]));
            found
                .unnamed
                .note(|| format!("{count} lists of {endpoint} from {from:?} do not name {expected:?}"));
        }
    }
}
