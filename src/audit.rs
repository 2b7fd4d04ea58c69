//! The audit trail: one JSON line for each token issued or revoked, each event published, each
//! order about subjects and streams, and each principal or request refused. It is separate from the
//! log. No line contains a token or a credential.

mod effect;
mod file;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

pub use self::effect::{Begun, Effect};
use self::file::AuditFile;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::telemetry::RequestId;

/// Part of a client's address that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The whole address.
    Full,
    /// Its network: the first 24 bits of IPv4, the first 48 of IPv6.
    Network,
    /// Nothing.
    Omitted,
}

impl ClientAddress {
    fn shown(self, address: IpAddr) -> Option<IpAddr> {
        match (self, address) {
            (Self::Full, address) => Some(address),
            (Self::Network, IpAddr::V4(v4)) => Some(Ipv4Addr::from_bits(v4.to_bits() & (!0 << 8)).into()),
            (Self::Network, IpAddr::V6(v6)) => Some(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 80)).into()),
            (Self::Omitted, _) => None,
        }
    }
}

/// Configuration of the audit trail.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// File that is appended to, and opened again after it was moved away.
    pub file: PathBuf,
    /// Part of a client's address that is written.
    pub client_address: ClientAddress,
}

/// An act to be audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Act<'a> {
    /// A token was issued.
    Issue {
        /// Its id, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_id: Option<&'a str>,
        /// Principal that it was issued to.
        principal: &'a str,
        /// `unknown`; absent if the token was issued.
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<&'a str>,
    },
    /// A token was revoked.
    Revoke {
        /// Its id.
        token_id: &'a str,
        /// Principal that did it.
        principal: &'a str,
        /// `cluster`, `instance`, `failed`, or `unknown`.
        effective: &'a str,
    },
    /// Streams were ended.
    EndStreams {
        /// Name of the field that selects them.
        by: &'a str,
        /// Its value, unless it is a subject or a topic.
        #[serde(skip_serializing_if = "Option::is_none")]
        selected: Option<&'a str>,
        /// Principal that did it.
        principal: &'a str,
        /// Number of the streams, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<u64>,
        /// `cluster`, `instance`, `failed`, or `unknown`.
        effective: &'a str,
    },
    /// Every token issued to a subject until now was revoked.
    RevokeSubject {
        /// Principal that did it.
        principal: &'a str,
        /// `cluster`, `instance`, `failed`, or `unknown`.
        effective: &'a str,
    },
    /// A subject was blocked.
    BlockSubject {
        /// Length of the block.
        seconds: u32,
        /// Principal that did it.
        principal: &'a str,
        /// `cluster`, `instance`, `failed`, or `unknown`.
        effective: &'a str,
    },
    /// The block of a subject was ended.
    UnblockSubject {
        /// Principal that did it.
        principal: &'a str,
        /// `cluster`, `instance`, `failed`, or `unknown`.
        effective: &'a str,
    },
    /// An event was published.
    Publish {
        /// Its id, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'a str>,
        /// By whom.
        principal: &'a str,
        /// `published`, `repeated` (it was there before, under the same key), or `unknown`.
        outcome: &'a str,
    },
    /// A credential was refused: it is no principal's, or it was in a URL where that is forbidden.
    RefusePrincipal {
        /// The code of the answer.
        code: &'a str,
    },
    /// A request was refused although its credential is right: it is not permitted.
    RefuseRequest {
        /// The code of the answer.
        code: &'a str,
        /// The principal, or the principal that the token was issued to.
        principal: &'a str,
        /// The right that the request needs. The topics are left out, because anybody may name any.
        right: &'a str,
        /// The token, if the credential is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_id: Option<&'a str>,
    },
}

/// An order about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectOrder {
    /// Revoking every token issued to it until now.
    Revoke,
    /// Blocking it.
    Block {
        /// Length of the block.
        seconds: u32,
    },
    /// Ending its block.
    Unblock,
}

impl SubjectOrder {
    /// Name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Block { .. } => "block",
            Self::Unblock => "unblock",
        }
    }

    /// The act, with how far it reached.
    #[must_use]
    pub const fn act<'a>(self, principal: &'a str, effective: &'a str) -> Act<'a> {
        match self {
            Self::Revoke => Act::RevokeSubject { principal, effective },
            Self::Block { seconds } => Act::BlockSubject { seconds, principal, effective },
            Self::Unblock => Act::UnblockSubject { principal, effective },
        }
    }
}

/// Subject and topics of an act, as far as they may be written: a hash of the subject and the
/// number of the topics, or with `log.subjects` the texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// End user whom the token is for, or whom the order is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Number of the topics of the token, the event or the order; absent for a plain token, and for
    /// an event of `default` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<usize>,
    /// The topics, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_names: Option<String>,
}

/// Client and request.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Id of the request.
    pub request_id: Option<&'a RequestId>,
    /// The end user whose JWT is the credential, as the trail may name it.
    pub user: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    act: Act<'a>,
    #[serde(flatten)]
    named: &'a Named,
    /// The end user whose JWT is the credential of the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// The audit trail of an instance.
pub struct Audit {
    instance_id: String,
    clock: Arc<dyn Clock>,
    trail: Option<(AuditFile, ClientAddress)>,
}

impl Audit {
    /// Opens the configured file; without a configuration nothing is written.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(
        settings: Option<&AuditSettings>,
        instance_id: String,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let open = |settings: &AuditSettings| {
            let file = AuditFile::open(settings.file.clone(), Arc::clone(metrics))?;
            Ok::<_, std::io::Error>((file, settings.client_address))
        };
        Ok(Self { instance_id, clock, trail: settings.map(open).transpose()? })
    }

    /// Whether anything is written.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.trail.is_some()
    }

    /// Writes a line of an act without subject and topics.
    pub fn note(&self, act: Act<'_>, asker: Asker<'_>) {
        self.write(act, &Named::default(), asker);
    }

    fn write(&self, act: Act<'_>, named: &Named, asker: Asker<'_>) {
        let Some((file, client_address)) = &self.trail else { return };
        let line = Line {
            time: self.clock.now().rfc3339(),
            act,
            named,
            user: asker.user,
            instance: &self.instance_id,
            client: client_address.shown(asker.client),
            request_id: asker.request_id.map(ToString::to_string),
        };
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            match act {
                Act::RefusePrincipal { .. } | Act::RefuseRequest { .. } => file.append_refusal(line),
                _ => file.append(line),
            }
        }
    }

    /// Waits until all lines so far are written, at most a second.
    pub fn flush(&self) {
        if let Some((file, _)) = &self.trail {
            file.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::file::{MOST_LINES, REFUSALS};
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn refusals_push_no_act_out_of_the_audit_trail() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (release, released) = channel::<()>();
        let (written, was_written) = channel();
        let file = AuditFile::written_by(Arc::clone(&metrics), move |lines| {
            // As a disk, or a reader, that hangs.
            let _ = released.recv();
            written.send(lines.flat_map(|batch| batch.text).collect::<Vec<u8>>()).unwrap();
        })
        .unwrap();
        let trail = Some((file, ClientAddress::Omitted));
        let audit = Audit { instance_id: "1".into(), clock: Arc::new(SystemClock), trail };
        let note = |act| {
            audit.note(act, Asker { client: Ipv4Addr::LOCALHOST.into(), request_id: None, user: None });
        };
        for _ in 0..MOST_LINES / 2 {
            note(Act::RefusePrincipal { code: "credential_wrong" });
            note(Act::RefuseRequest {
                code: "not_permitted",
                principal: "billing",
                right: "control",
                token_id: None,
            });
        }
        let acts = MOST_LINES / 5;
        for _ in 0..acts {
            note(Act::Issue { token_id: None, principal: "billing", outcome: None });
            note(Act::Revoke { token_id: "3f9a1c0b5d7e2f48", principal: "billing", effective: "cluster" });
            note(Act::Publish { event_id: None, principal: "billing", outcome: "published" });
            note(SubjectOrder::Revoke.act("billing", "cluster"));
        }
        drop((release, audit));
        let text = String::from_utf8(was_written.recv().unwrap()).unwrap();
        let count = |kind: &str| text.lines().filter(|line| line.contains(kind)).count();
        let kinds = [r#""issue""#, r#""revoke""#, r#""publish""#, r#""revoke_subject""#, r#""refuse_"#];
        let refusals = MOST_LINES / REFUSALS;
        assert_eq!(kinds.map(count), [acts, acts, acts, acts, refusals]);
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        let line = page.lines().find(|line| line.starts_with("vx11_operator_audit_lines_lost")).unwrap();
        assert!(
            line.ends_with(&format!(" {}", MOST_LINES - refusals)),
            "what has no room is counted: {line}"
        );
    }

    #[test]
    fn an_address_is_written_down_as_far_as_configured() {
        let shown = |how: ClientAddress, address: &str| {
            how.shown(address.parse().unwrap()).map(|shown| shown.to_string())
        };
        assert_eq!(shown(ClientAddress::Full, "192.0.2.77").as_deref(), Some("192.0.2.77"));
        assert_eq!(shown(ClientAddress::Network, "192.0.2.77").as_deref(), Some("192.0.2.0"));
        assert_eq!(shown(ClientAddress::Network, "2001:db8:1:2::3").as_deref(), Some("2001:db8:1::"));
        assert_eq!(shown(ClientAddress::Omitted, "192.0.2.77"), None);
    }
}
