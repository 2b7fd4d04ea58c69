//! `vx11-operator tail`: prints every event as a line. Reconnects for ever, by the rules of the
//! browser client (`clients/browser/vx11-events.js`): with a new token for each attempt, after the
//! last event that was printed, or the last SSE heartbeat that had an id.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::arguments::TailArguments;
use crate::backoff::{Backoff, LONGEST_WAIT};
use crate::failure::Failure;
use crate::output::Format;
use crate::report::{counted, notice, refused_principal, unanswered, unwritable};
use crate::session::{Session, Start, TokenRequest};
use crate::signals::stop_signal;
use crate::stdout::{self, Stdout};
use crate::subscription::{Frame, Subscription};

/// Deadline for a token.
const ISSUING: Duration = Duration::from_secs(15);
/// Bounds of the wait after failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Reasons of an end that are about what the token may open.
const ACCESS_ENDS: [&str; 4] = ["grant_ended", "revoked", "blocked", "ended"];
/// Reason of an end after which another stream has the place of this one.
const REPLACED: &str = "replaced";

/// Prints events until a signal, or a reason to end.
pub(super) async fn run(session: &Session, arguments: TailArguments) -> io::Result<ExitCode> {
    let stop = stop_signal()?;
    let mut tail = Tail {
        session,
        format: if arguments.json { Format::Json } else { Format::Readable },
        wanted: arguments.count,
        topics: arguments.topic,
        start: arguments.from.unwrap_or(Start::Next),
        backoff: Backoff::new(Rng::new(), BACKOFF),
        stdout: Stdout::open(),
        tally: Tally::default(),
    };
    let end = tokio::select! {
        end = tail.follow() => end,
        () = stdout::closed() => return Ok(ExitCode::SUCCESS),
        () = stop => {
            notice(format_args!("{}", tail.tally));
            return Ok(ExitCode::SUCCESS);
        }
    };
    Ok(match end {
        End::Enough => ExitCode::SUCCESS,
        End::Refused(failure) => refused_principal(session.url(), &failure),
        End::WrongUrl(what, failure) => unanswered(what, session.url(), &failure),
        End::Replaced => {
            notice(format_args!("another stream took the place of this one"));
            ExitCode::FAILURE
        }
        End::Unwritable(error) => unwritable(&error),
    })
}

struct Tail<'a> {
    session: &'a Session,
    format: Format,
    /// Events still to be printed; `None`: without end.
    wanted: Option<u64>,
    /// Patterns of the topics to read; none: `default`.
    topics: Vec<String>,
    /// Beginning of the next stream.
    start: Start,
    backoff: Backoff,
    stdout: Stdout,
    tally: Tally,
}

/// Reason for the end of the output.
#[derive(Debug)]
enum End {
    /// All requested events were printed.
    Enough,
    /// The service refuses the principal; repeating would look like guessing.
    Refused(Failure),
    /// The URL is not that of the service, with the failure.
    WrongUrl(&'static str, Failure),
    /// Another stream took the place of this one.
    Replaced,
    /// A line could not be written.
    Unwritable(io::Error),
}

/// Figures of the summary.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    opens: u64,
    resets: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reconnects = self.opens.saturating_sub(1);
        write!(
            f,
            "{}, {}, {}",
            counted(self.events, "event"),
            counted(reconnects, "reconnect"),
            counted(self.resets, "reset")
        )
    }
}

/// The wait before the next attempt, and its reason.
struct Pause {
    wait: Duration,
    why: String,
}

impl Tail<'_> {
    /// Prints events until a reason to end.
    async fn follow(&mut self) -> End {
        loop {
            let Pause { wait, why } = match self.attempt().await {
                Ok(pause) => pause,
                Err(end) => return end,
            };
            notice(format_args!("{why}; reconnecting in {:.1} s", wait.as_secs_f32()));
            sleep(wait).await;
        }
    }

    /// Issues a token and reads one stream to its end.
    async fn attempt(&mut self) -> Result<Pause, End> {
        let wanted = TokenRequest { topics: &self.topics, ..TokenRequest::default() };
        let token = match self.session.token(&wanted, ISSUING).await {
            Ok(token) => token,
            Err(failure) if failure.refuses_principal() => return Err(End::Refused(failure)),
            Err(failure) => return self.failed("no token", failure),
        };
        match Subscription::open(self.session, token, &self.start).await {
            Ok(stream) => self.read(stream).await,
            Err(failure) if failure.is_not_permitted() => Err(End::Refused(failure)),
            Err(failure) => self.failed("no stream", failure),
        }
    }

    /// A URL that has led to the service once is right; another answer there is temporary.
    fn failed(&mut self, what: &'static str, failure: Failure) -> Result<Pause, End> {
        if self.tally.opens == 0 && failure.is_wrong_url() {
            return Err(End::WrongUrl(what, failure));
        }
        let wait = self.backoff.next_after(failure.retry_after());
        Ok(Pause { wait, why: format!("{what} from {}: {failure}", self.session.url()) })
    }

    async fn read(&mut self, mut stream: Subscription) -> Result<Pause, End> {
        let opened = Instant::now();
        self.tally.opens += 1;
        self.greet(&stream);
        loop {
            match stream.next().await {
                Ok(Frame::Event(event)) => {
                    // Count first: a reader of the line may press Ctrl-C before the write returns.
                    self.tally.events += 1;
                    self.stdout.write(&self.format.line(&event)).await.map_err(End::Unwritable)?;
                    self.passed(&stream);
                    if self.wanted == Some(self.tally.events) {
                        return Err(End::Enough);
                    }
                }
                Ok(Frame::Heartbeat) => self.passed(&stream),
                Ok(Frame::Reset { reason }) => {
                    self.tally.resets += 1;
                    let after = if let Start::After(id) = &self.start { id.as_str() } else { "the last one" };
                    notice(format_args!(
                        "reset ({reason}): events after {after} are missing, {}",
                        cause(&reason)
                    ));
                    self.passed(&stream);
                }
                Ok(Frame::Degraded { reason }) => notice(format_args!(
                    "degraded ({reason}): no events arrive until the service reaches its log again"
                )),
                Ok(Frame::Recovered) => notice(format_args!("recovered: events arrive again")),
                Ok(Frame::Reconnect { reason, after }) => {
                    self.backoff.settle(opened.elapsed());
                    let wait = match reason.as_str() {
                        // To come back would end the other stream.
                        REPLACED => return Err(End::Replaced),
                        reason if ACCESS_ENDS.contains(&reason) => self.backoff.next_after_access_end(after),
                        _ => after.map_or_else(|| self.backoff.next(), |after| after.min(LONGEST_WAIT)),
                    };
                    return Ok(Pause { wait, why: format!("the service ended the stream ({reason})") });
                }
                Err(why) => {
                    self.backoff.settle(opened.elapsed());
                    return Ok(Pause { wait: self.backoff.next(), why: format!("lost the stream: {why}") });
                }
            }
        }
    }

    /// With a greeting without an id it is not known yet whether the stream resumes.
    fn greet(&mut self, stream: &Subscription) {
        let instance = stream.instance.as_deref().unwrap_or("unknown");
        match (&self.start, &stream.position) {
            (Start::After(id), Some(_)) => {
                notice(format_args!("connected to instance {instance}, after event {id}"));
            }
            _ => notice(format_args!("connected to instance {instance}")),
        }
        self.passed(stream);
    }

    /// Notes the position of the stream, for the next one.
    fn passed(&mut self, stream: &Subscription) {
        match stream.position.as_deref() {
            None => {}
            Some("") => self.start = Start::Next,
            Some(id) => self.start = Start::After(id.to_owned()),
        }
    }
}

/// Text for the reason of a reset.
fn cause(reason: &str) -> &'static str {
    match reason {
        "epoch" => "for the log was lost",
        "expired" => "for the log no longer holds them",
        "future" | "unknown" => "or never were: the log does not know the event to begin after",
        _ => "for a reason that this version does not know",
    }
}
