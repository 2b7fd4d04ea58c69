//! Arguments of the client's commands. Credentials are no arguments, because everybody on the
//! machine can read command lines.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::server::DEFAULT_URL;
use crate::session::Start;

// Help texts: sources of the credential, and exit codes.
const TAIL_HELP: &str = "\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 ended by a signal, or nobody reads any more; 2 wrong argument or variable, no or a\n\
wrong principal, or one that may not do this; 1 no vx11-operator at this URL, or output that\n\
cannot be written.";

const PUBLISH_HELP: &str = "\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 published; 1 not published; 2 not published, for a wrong argument, variable\n\
or data, no or a wrong principal, or one that may not do this;\n\
3 not known whether it was published.";

const TOKEN_HELP: &str = "\
Prints the token alone, or, on a terminal, also its id, its expiry and the URL of the stream that\n\
it opens. Anybody with the token can open that stream until it expires.\n\n\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 printed, or nobody reads any more; 2 wrong argument or variable, no or a wrong\n\
principal, or one that may not do this; 1 no token, or output that cannot be written.";

const STATS_HELP: &str = "\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 printed, ended by a signal, or nobody reads any more; 2 wrong argument or\n\
variable, no or a wrong principal, or one that may not do this; 1 no answer, or none of a\n\
vx11-operator.";

const STREAMS_HELP: &str = "\
Names on standard error the instances that did not answer within a second. Their streams are not\n\
in the list.\n\n\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 printed, or nobody reads any more; 2 wrong argument or variable, no or a wrong\n\
principal, or one that may not do this; 1 no list, or output that cannot be written.";

const ORDER_HELP: &str = "\
Prints how far this reached. While Redis is unavailable, it holds on the instance that answered;\n\
the others follow when Redis is back. To do it twice does no harm.\n\n\
Acts as a principal whose credential is in VX11_PRINCIPAL_TOKEN, in a file named by\n\
VX11_PRINCIPAL_TOKEN_FILE, or in the service's own --config.\n\n\
Exit codes: 0 done; 1 not done, or not known whether it was done; 2 not done, for a wrong argument\n\
or variable, no or a wrong principal, or one that may not do this.";

/// The commands that call the service.
#[derive(Subcommand)]
pub enum Command {
    /// Print each event on a line, and reconnect until stopped
    #[command(after_help = TAIL_HELP)]
    Tail(TailArguments),
    /// Publish an event and print its id
    #[command(after_help = PUBLISH_HELP)]
    Publish(PublishArguments),
    /// Issue a token for a stream
    #[command(subcommand)]
    Token(TokenCommand),
    /// List the open streams of all instances
    #[command(after_help = STREAMS_HELP)]
    Streams(StreamsArguments),
    /// End streams: of a subject, a token, a principal or a topic, or one stream. A client may come
    /// back with a new token
    #[command(after_help = ORDER_HELP)]
    End(EndArguments),
    /// Refuse a subject for a while: no token is issued to it or accepted from it, and its streams
    /// end
    #[command(after_help = ORDER_HELP)]
    Block(BlockArguments),
    /// End the block of a subject
    #[command(after_help = ORDER_HELP)]
    Unblock(SubjectArguments),
    /// Revoke all tokens that were issued to a subject until now, and end their streams
    #[command(after_help = ORDER_HELP)]
    Revoke(SubjectArguments),
    /// Print a table of all instances, once or repeatedly (--watch)
    #[command(after_help = STATS_HELP)]
    Stats(StatsArguments),
}

impl Command {
    pub(super) fn server(&self) -> &ServerArguments {
        match self {
            Self::Tail(arguments) => &arguments.server,
            Self::Publish(arguments) => &arguments.server,
            Self::Token(TokenCommand::Issue(arguments)) => &arguments.server,
            Self::Streams(arguments) => &arguments.server,
            Self::End(arguments) => &arguments.server,
            Self::Block(arguments) => &arguments.subject.server,
            Self::Unblock(arguments) | Self::Revoke(arguments) => &arguments.server,
            Self::Stats(arguments) => &arguments.server,
        }
    }
}

/// The commands about tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Issue a token and print it
    #[command(after_help = TOKEN_HELP)]
    Issue(IssueArguments),
}

/// Arguments of every command that calls the service.
#[derive(Args)]
pub(crate) struct ServerArguments {
    /// URL of the service: http or https, with a path if it has one
    #[arg(long, env = "VX11_OPERATOR_URL", hide_env_values = true, default_value = DEFAULT_URL)]
    pub(super) url: String,
    /// Certificates (PEM) of the authorities to trust, instead of those the system trusts
    #[arg(long, env = "VX11_OPERATOR_CA", hide_env_values = true, value_name = "FILE")]
    pub(super) ca: Option<OsString>,
}

/// Arguments of `tail`.
#[derive(Args)]
pub struct TailArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// Read the topics that match this pattern, such as orders/17, orders/* (all below orders) or
    /// *; may be repeated; "default" if none is given
    // The program adds the service's rule for patterns.
    #[arg(long, value_name = "PATTERN")]
    pub(super) topic: Vec<String>,
    /// Begin after the event with this id instead of with what comes next; "start" begins with the
    /// oldest event of the log, and -N with the last N (1 to 1000)
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = start)]
    pub(super) from: Option<Start>,
    /// Print each event as a JSON object: id, event, topic (unless it is "default"), data
    #[arg(long)]
    pub(super) json: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

/// Arguments of `publish`.
#[derive(Args)]
pub struct PublishArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// The event's type; "message" if none is given
    // The program adds the service's rule for types.
    #[arg(long, value_name = "TYPE")]
    pub(super) event: Option<String>,
    /// Publish to this topic, such as orders/17; may be repeated for one event in several topics;
    /// "default" if none is given
    // The program adds the service's rule for topics.
    #[arg(long, value_name = "TOPIC")]
    pub(super) topic: Vec<String>,
    /// The event's idempotency key: however often it is sent, it is published once; a random one if
    /// none is given
    #[arg(long, value_name = "KEY", value_parser = visible_ascii)]
    pub(super) key: Option<String>,
    // The service remembers a key for 15 minutes; repeating for longer could publish twice.
    /// For so many seconds a failed attempt is repeated, 1 to 600; the last begins when they are
    /// over
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) patience: u64,
    /// The event's data, JSON; "-" or nothing reads it from standard input
    #[arg(allow_negative_numbers = true)]
    pub(super) data: Option<String>,
}

/// Arguments of `token issue`.
#[derive(Args)]
pub struct IssueArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// The end user for whom the token is: 1 to 128 visible ASCII characters
    #[arg(long, value_name = "SUBJECT", value_parser = visible_ascii)]
    pub(super) subject: Option<String>,
    /// The token reads the topics that match this pattern, such as orders/17, orders/* (all below
    /// orders) or *; may be repeated; "default" if none is given
    // The program adds the service's rule for patterns.
    #[arg(long, value_name = "PATTERN")]
    pub(super) topic: Vec<String>,
    /// Life of the token in seconds, 1 to 900; that of the service's configuration if none is given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=900))]
    pub(super) ttl: Option<u64>,
    /// Print the answer of the service as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `streams`.
#[derive(Args)]
pub struct StreamsArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// Only streams of this end user
    #[arg(long, value_name = "SUBJECT", value_parser = visible_ascii)]
    pub(super) subject: Option<String>,
    /// Only streams that read this topic, such as orders/17
    // The program adds the service's rule for topics.
    #[arg(long, value_name = "TOPIC")]
    pub(super) topic: Option<String>,
    /// Only streams whose tokens this principal issued, or that it opened itself
    #[arg(long, value_name = "ID", value_parser = visible_ascii)]
    pub(super) principal: Option<String>,
    /// Only streams of this instance
    #[arg(long, value_name = "NAME", value_parser = visible_ascii)]
    pub(super) instance: Option<String>,
    /// At most so many streams, 1 to 10000, the oldest; 100 if none is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) limit: Option<u64>,
    /// Print the answer of the service as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `end`: exactly one of the options about streams.
#[derive(Args)]
pub struct EndArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    #[command(flatten)]
    pub(super) selected: Selected,
}

/// Streams to end. Its JSON is the body of the request.
#[derive(Args, Serialize)]
#[group(required = true, multiple = false)]
pub(crate) struct Selected {
    /// All streams of this end user
    #[arg(long, value_name = "SUBJECT", value_parser = visible_ascii)]
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// All streams of the token with this id, which is no secret
    #[arg(long, value_name = "ID", value_parser = hex)]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    /// This stream
    #[arg(long, value_name = "ID", value_parser = hex)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<String>,
    /// All streams whose tokens this principal issued, or that it opened itself
    #[arg(long, value_name = "ID", value_parser = visible_ascii)]
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    /// All streams that read this topic, such as orders/17
    // The program adds the service's rule for topics.
    #[arg(long, value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
}

/// Arguments of `block`.
#[derive(Args)]
pub struct BlockArguments {
    #[command(flatten)]
    pub(super) subject: SubjectArguments,
    /// Length of the block in seconds, 1 to 86400
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) seconds: u64,
}

/// Arguments of `unblock` and `revoke`.
#[derive(Args)]
pub struct SubjectArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// The end user
    #[arg(long, value_name = "SUBJECT", value_parser = visible_ascii)]
    pub(super) subject: String,
}

/// Arguments of `stats`.
#[derive(Args)]
pub struct StatsArguments {
    #[command(flatten)]
    pub(super) server: ServerArguments,
    /// Print one JSON object
    #[arg(long, conflicts_with = "watch")]
    pub(super) json: bool,
    /// Look again every so many seconds, 1 to 3600, until Ctrl-C; 2 if none are given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) watch: Option<u64>,
}

/// Parses the beginning of the output. No id has the form of the other two.
fn start(text: &str) -> Result<Start, &'static str> {
    match text.strip_prefix('-').map(str::parse::<u16>) {
        None if text == "start" => Ok(Start::Log(text.to_owned())),
        None => visible_ascii(text).map(Start::After),
        Some(Ok(last @ 1..=1000)) => Ok(Start::Log(format!("-{last}"))),
        Some(_) => Err("expected: the id of an event, start, or -N with N from 1 to 1000"),
    }
}

/// Checks ids of tokens and streams.
fn hex(text: &str) -> Result<String, &'static str> {
    let fits =
        text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err("expected are the 16 hexadecimal digits of an id") }
}

/// Checks ids, keys and subjects, which are visible ASCII.
fn visible_ascii(text: &str) -> Result<String, &'static str> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("expected are 1 to 128 visible ASCII characters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_an_order_to_end_streams_has_the_option_that_was_given() {
        #[derive(clap::Parser)]
        struct End {
            #[command(flatten)]
            arguments: EndArguments,
        }
        let body = |option: &str, value: &str| {
            let end = <End as clap::Parser>::try_parse_from(["end", option, value]).unwrap();
            serde_json::to_value(end.arguments.selected).unwrap()
        };
        for (option, field) in [("--subject", "subject"), ("--principal", "principal"), ("--topic", "topic")]
        {
            assert_eq!(body(option, "a/b"), serde_json::json!({ field: "a/b" }));
        }
        for (option, field) in [("--token-id", "token_id"), ("--stream-id", "stream_id")] {
            let id = "3f9a1c0b5d7e2f48";
            assert_eq!(body(option, id), serde_json::json!({ field: id }));
        }
    }

    #[test]
    fn output_begins_after_an_id_or_with_what_the_log_has() {
        assert!(matches!(start("0000abcd-12-3"), Ok(Start::After(id)) if id == "0000abcd-12-3"));
        for log in ["start", "-1", "-1000"] {
            assert!(matches!(start(log), Ok(Start::Log(from)) if from == log), "{log}");
        }
        for wrong in ["", "-", "-0", "-1001", "-x", "a b"] {
            assert!(start(wrong).is_err(), "{wrong:?}");
        }
    }
}
