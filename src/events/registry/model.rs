//! Property test: after any sequence of openings and ends, lists and selectors say what a walk over
//! a plain list of the streams says.

use std::sync::Arc;

use proptest::prelude::*;

use super::tests::{NOW, UNLIMITED, opener, registry_of};
use super::*;

/// A stream of the model.
struct Modelled {
    place: Place,
    principal: u8,
    token: Option<u8>,
    subject: Option<u8>,
    topic: u8,
    opened_at: UnixMillis,
    is_open: bool,
    reason: Option<EndReason>,
}

#[derive(Debug, Clone)]
enum Step {
    Enter { principal: u8, token: Option<u8>, subject: Option<u8>, topic: u8, later: u64 },
    Open(usize),
    Leave(usize),
    End { selected: Selected, until: u64, reason: EndReason },
    Drain(usize),
}

/// A selector; the number of a stream refers to the list.
#[derive(Debug, Clone)]
enum Selected {
    Subject(u8),
    Token(u8),
    Stream(usize),
    Principal(u8),
    Topic(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let few = 0..3_u8;
    let maybe = || prop::option::of(0..3_u8);
    let enter = (few.clone(), maybe(), maybe(), few.clone(), 0..3_u64).prop_map(
        |(principal, token, subject, topic, later)| Step::Enter { principal, token, subject, topic, later },
    );
    let selected = prop_oneof![
        few.clone().prop_map(Selected::Subject),
        few.clone().prop_map(Selected::Token),
        any::<usize>().prop_map(Selected::Stream),
        few.clone().prop_map(Selected::Principal),
        few.prop_map(Selected::Topic),
    ];
    let reason = prop_oneof![Just(EndReason::Ended), Just(EndReason::Revoked), Just(EndReason::Blocked)];
    let end = (selected, 0..20_u64, reason).prop_map(|(selected, until, reason)| Step::End {
        selected,
        until,
        reason,
    });
    prop_oneof![
        4 => enter,
        4 => any::<usize>().prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => end,
        1 => any::<usize>().prop_map(Step::Drain),
    ]
}

fn subject(number: u8) -> Subject {
    Subject::parse(&format!("subject-{number}")).unwrap()
}

fn principal(number: u8) -> PrincipalId {
    PrincipalId::parse(&format!("principal-{number}")).unwrap()
}

fn token(number: u8) -> TokenId {
    TokenId::parse(&format!("{number:016x}")).unwrap()
}

/// A stream of topic 0 reads everything, those of the others one prefix.
fn patterns(number: u8) -> Patterns {
    let prefix = format!("topic-{number}/*");
    Patterns::new([if number == 0 { "*" } else { prefix.as_str() }]).unwrap()
}

fn topic(number: u8) -> String {
    format!("topic-{number}/a")
}

struct Model {
    registry: Arc<Registry>,
    now: UnixMillis,
    streams: Vec<Modelled>,
}

impl Model {
    fn take(&mut self, step: Step) {
        let place = |number: usize, length: usize| (length > 0).then(|| number % length);
        let length = self.streams.len();
        match step {
            Step::Enter { principal, token, subject, topic, later } => {
                self.now = UnixMillis(self.now.0 + later);
                self.enter(principal, token, subject, topic);
            }
            Step::Open(number) => {
                if let Some(at) = place(number, length) {
                    self.open(at);
                }
            }
            Step::Leave(number) => {
                if let Some(at) = place(number, length) {
                    self.streams.remove(at);
                }
            }
            Step::End { selected, until, reason } => self.end(&selected, UnixMillis(NOW.0 + until), reason),
            Step::Drain(number) => {
                if let Some(at) = place(number, length) {
                    let stream = &mut self.streams[at];
                    stream.place.signal.end(EndReason::Drain);
                    stream.reason.get_or_insert(EndReason::Drain);
                }
            }
        }
    }

    fn enter(&mut self, of: u8, by: Option<u8>, about: Option<u8>, number: u8) {
        let opener = Opener {
            token: by.map(token),
            subject: about.map(subject),
            patterns: patterns(number),
            ..opener(principal(of))
        };
        let place = self.registry.enter(opener, self.now).unwrap();
        self.streams.push(Modelled {
            place,
            principal: of,
            token: by,
            subject: about,
            topic: number,
            opened_at: self.now,
            is_open: false,
            reason: None,
        });
    }

    fn open(&mut self, at: usize) {
        self.streams[at].place.open();
        self.streams[at].is_open = true;
    }

    fn end(&mut self, selected: &Selected, until: UnixMillis, reason: EndReason) {
        let stream = |number: usize| self.streams.get(number % self.streams.len().max(1));
        let selector = match selected {
            Selected::Subject(number) => Selector::Subject(subject(*number)),
            Selected::Token(number) => Selector::Token(token(*number)),
            // The id of another instance, if there is no stream.
            Selected::Stream(number) => {
                Selector::Stream(stream(*number).map_or(StreamId::new(0), |it| it.place.id()))
            }
            Selected::Principal(number) => Selector::Principal(principal(*number)),
            Selected::Topic(number) => Selector::Topic(topic(*number)),
        };
        let length = self.streams.len();
        let mut ended = 0;
        for (at, it) in self.streams.iter_mut().enumerate() {
            let is_selected = match selected {
                Selected::Subject(number) => it.subject == Some(*number),
                Selected::Token(number) => it.token == Some(*number),
                Selected::Stream(number) => number % length == at,
                Selected::Principal(number) => it.principal == *number,
                Selected::Topic(number) => it.topic == *number || it.topic == 0,
            };
            if is_selected && it.opened_at <= until && !it.reason.is_some_and(EndReason::is_immediate) {
                it.reason = Some(reason);
                ended += 1;
            }
        }
        assert_eq!(self.registry.end(&selector, until, reason), ended);
    }

    /// Compares the lists of every filter, and the reasons of all streams.
    fn agrees(&self) {
        let some = || (0..3).map(Some).chain([None]);
        for (of, about, on) in
            some().flat_map(|of| some().flat_map(move |about| some().map(move |on| (of, about, on))))
        {
            let filter = StreamFilter {
                principal: of.map(principal),
                subject: about.map(subject),
                topic: on.map(topic),
            };
            let mut expected: Vec<_> = self
                .streams
                .iter()
                .filter(|it| {
                    it.is_open
                        && of.is_none_or(|of| it.principal == of)
                        && about.is_none_or(|about| it.subject == Some(about))
                        && on.is_none_or(|on| it.topic == on || it.topic == 0)
                })
                .map(|it| OpenStream {
                    stream_id: it.place.id(),
                    token_id: it.token.map(token),
                    subject: it.subject.map(subject),
                    topics: patterns(it.topic),
                    principal: principal(it.principal),
                    opened_at: it.opened_at,
                })
                .collect();
            for limit in [usize::MAX, 2, 1] {
                let has_more = expected.len() > limit;
                expected.truncate(limit);
                assert_eq!(self.registry.list(&filter, limit), (expected.clone(), has_more));
            }
        }
        for it in &self.streams {
            assert_eq!(it.place.end_reason(), it.reason);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn lists_and_ends_equal_those_of_a_walk_over_all_streams(
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let mut model = Model { registry: registry_of(UNLIMITED), now: NOW, streams: Vec::new() };
        for step in steps {
            model.take(step);
        }
        model.agrees();
        model.streams.clear();
        let state = model.registry.state.lock();
        prop_assert_eq!((state.by_token.len(), state.by_subject.len(), state.by_principal.len()), (0, 0, 0));
    }
}
