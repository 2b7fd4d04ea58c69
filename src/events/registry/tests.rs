//! Streams of a registry: bounds, lists, ends and drains.

use super::*;

fn id(text: &str) -> TokenId {
    TokenId::parse(text).unwrap()
}

pub(super) const UNLIMITED: StreamLimits =
    StreamLimits { all: usize::MAX, per_token: None, per_principal: None };
pub(super) const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

pub(super) fn registry_of(limits: StreamLimits) -> Arc<Registry> {
    Arc::new(Registry::new(limits, 7))
}

fn enter(registry: &Arc<Registry>, opener: Opener) -> Result<Place, OpenError> {
    registry.enter(opener, NOW)
}

fn revoke(registry: &Registry, token: TokenId) -> usize {
    registry.end(&Selector::Token(token), NOW, EndReason::Revoked)
}

/// A registry with a limit on all streams only.
fn registry(all: usize) -> Arc<Registry> {
    registry_of(StreamLimits { all, ..UNLIMITED })
}

pub(super) fn opener(principal: PrincipalId) -> Opener {
    Opener {
        principal,
        token: None,
        subject: None,
        patterns: Patterns::default(),
        issued_at: None,
        until: None,
    }
}

fn of(principal: &str, token: Option<TokenId>) -> Opener {
    Opener { token, ..opener(PrincipalId::parse(principal).unwrap()) }
}

fn of_subject(subject: &str) -> Opener {
    Opener { subject: Subject::parse(subject), ..of("p", None) }
}

#[test]
fn the_cap_holds_and_a_stream_that_leaves_makes_room() {
    let registry = registry(2);
    let (first, _second) =
        (enter(&registry, of("p", None)).unwrap(), enter(&registry, of("p", None)).unwrap());
    assert_eq!(enter(&registry, of("p", None)).err(), Some(OpenError::Full));
    drop(first);
    assert!(enter(&registry, of("p", None)).is_ok());
}

#[test]
fn one_token_takes_as_many_places_as_it_may_and_leaves_the_rest_to_others() {
    let limits = StreamLimits { all: 5, per_token: Some(2), per_principal: None };
    let registry = registry_of(limits);
    let (greedy, other) = (id("00000000000000aa"), id("00000000000000bb"));
    let enter = |token| enter(&registry, of("p", token));
    let mut places = vec![enter(Some(greedy)).unwrap(), enter(Some(greedy)).unwrap()];
    assert_eq!(enter(Some(greedy)).err(), Some(OpenError::TokenLimit));
    // Neither another token nor the principal itself has that limit.
    places.extend([enter(Some(other)).unwrap(), enter(None).unwrap(), enter(None).unwrap()]);
    assert_eq!(enter(None).err(), Some(OpenError::Full));
    assert_eq!(enter(Some(greedy)).err(), Some(OpenError::TokenLimit), "on a full instance too");
    places.remove(0);
    assert!(enter(Some(greedy)).is_ok());
}

#[test]
fn a_principal_is_counted_with_all_its_tokens_and_its_own_credential() {
    let limits = StreamLimits { all: 10, per_token: None, per_principal: Some(3) };
    let registry = registry_of(limits);
    let tokens = ["00000000000000aa", "00000000000000bb"].map(|text| Some(id(text)));
    let mut places = Vec::new();
    for token in [tokens[0], tokens[1], None] {
        places.push(enter(&registry, of("p", token)).unwrap());
    }
    for token in [tokens[0], None] {
        assert_eq!(enter(&registry, of("p", token)).err(), Some(OpenError::PrincipalLimit));
    }
    assert!(enter(&registry, of("another", tokens[0])).is_ok());
    places.clear();
    assert!(registry.state.lock().by_principal.is_empty(), "nothing is kept of one without streams");
    assert!(enter(&registry, of("p", None)).is_ok());
}

#[tokio::test]
async fn revoking_ends_the_tokens_own_streams_only() {
    let registry = registry(10);
    let (mine, other) = (id("00000000000000aa"), id("00000000000000bb"));
    let (a, b) =
        (enter(&registry, of("p", Some(mine))).unwrap(), enter(&registry, of("p", Some(mine))).unwrap());
    let c = enter(&registry, of("p", Some(other))).unwrap();
    let d = enter(&registry, of("p", None)).unwrap();
    assert_eq!(revoke(&registry, mine), 2);
    assert_eq!((a.ended().await, b.ended().await), (EndReason::Revoked, EndReason::Revoked));
    for untouched in [&c, &d] {
        assert!(untouched.end_reason().is_none());
    }
    drop((a, b));
    assert_eq!(revoke(&registry, mine), 0);
    assert_eq!(registry.state.lock().by_token.len(), 1, "nothing is kept of a token without streams");
}

#[tokio::test]
async fn a_revocation_outranks_a_drain_and_nothing_outranks_a_revocation() {
    let registry = registry(1);
    let token = id("00000000000000aa");
    let place = enter(&registry, of("p", Some(token))).unwrap();
    place.signal.end(EndReason::Drain);
    assert_eq!(place.end_reason(), Some(EndReason::Drain));
    revoke(&registry, token);
    place.signal.end(EndReason::Drain);
    assert_eq!(place.end_reason(), Some(EndReason::Revoked));
}

#[test]
fn streams_of_tokens_issued_until_a_moment_end_and_those_of_later_ones_stay() {
    let registry = registry(10);
    let millis = |count| Duration::from_millis(count);
    let enter = |subject, issued_at, opened_at| {
        let opener = Opener { issued_at: Some(issued_at), ..of_subject(subject) };
        registry.enter(opener, opened_at).unwrap()
    };
    let later = NOW.plus(millis(1));
    // No clock is ahead by more than CLOCK_SKEW.
    let impossible = enter("a", later.plus(CLOCK_SKEW), NOW);
    let ended = [enter("a", NOW, NOW), enter("a", NOW, later), impossible];
    let by_a_clock_ahead = [enter("a", later, NOW), enter("a", NOW.plus(CLOCK_SKEW), NOW)];
    let stay = [enter("a", later, later), enter("b", NOW, NOW)].into_iter().chain(by_a_clock_ahead);
    assert_eq!(registry.end_issued(&Subject::parse("a").unwrap(), NOW), ended.len());
    assert!(ended.iter().all(|place| place.end_reason() == Some(EndReason::Revoked)));
    assert!(stay.into_iter().all(|place| place.end_reason().is_none()));
}

#[test]
fn streams_that_were_opened_after_the_command_do_not_end() {
    let registry = registry(10);
    let [before, after] =
        [NOW, UnixMillis(NOW.0 + 1)].map(|opened_at| registry.enter(of_subject("a"), opened_at).unwrap());
    let selector = Selector::Subject(Subject::parse("a").unwrap());
    assert_eq!(registry.end(&selector, NOW, EndReason::Ended), 1);
    assert_eq!((before.end_reason(), after.end_reason()), (Some(EndReason::Ended), None));
    assert_eq!(registry.end(&selector, NOW, EndReason::Blocked), 0, "it ends already");
}

#[test]
fn a_stream_is_in_the_list_from_its_opening_to_its_end_and_commands_find_it_before() {
    let registry = registry(10);
    let listed = || registry.list(&StreamFilter::default(), 10).0.len();
    let place = enter(&registry, of("p", None)).unwrap();
    assert_eq!(listed(), 0);
    assert_eq!(registry.end(&Selector::Stream(place.id()), NOW, EndReason::Ended), 1);
    place.open();
    assert_eq!(listed(), 1);
    drop(place);
    assert_eq!(listed(), 0);
}

#[test]
fn the_streams_of_a_subject_share_its_text() {
    let registry = registry(10);
    let _places = ["a", "a"].map(|subject| enter(&registry, of_subject(subject)).unwrap());
    let state = registry.state.lock();
    let texts = state.streams.values().map(|stream| stream.subject.as_ref().unwrap().as_str().as_ptr());
    assert_eq!(texts.collect::<std::collections::HashSet<_>>().len(), 1);
}

#[test]
fn an_immediate_reason_is_kept_and_replaces_those_that_wait_for_events() {
    let immediate = |reason: EndReason| reason.is_immediate();
    for first in EndReason::VARIANTS.iter().copied() {
        for second in EndReason::VARIANTS.iter().copied() {
            let signal = Signal::default();
            assert!(signal.end(first));
            let is_replaced = !immediate(first) && immediate(second);
            assert_eq!(signal.end(second), is_replaced, "{first:?}, then {second:?}");
            assert_eq!(*signal.end.lock(), Some(if is_replaced { second } else { first }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_spreads_the_ends_evenly_and_lets_nobody_in() {
    let registry = registry(10);
    let places: Vec<_> = (0..5).map(|_| enter(&registry, of("p", None)).unwrap()).collect();
    let start = Instant::now();
    let streams = places.into_iter().map(|place| {
        tokio::spawn(async move {
            assert_eq!(place.ended().await, EndReason::Drain);
            start.elapsed().as_secs()
        })
    });
    let streams: Vec<_> = streams.collect();
    registry.drain(Duration::from_secs(10)).await;
    assert_eq!(enter(&registry, of("p", None)).err(), Some(OpenError::Draining));
    let mut ended = Vec::new();
    for stream in streams {
        ended.push(stream.await.unwrap());
    }
    ended.sort_unstable();
    assert_eq!(ended, [0, 2, 4, 6, 8]);
}
