//! Rights for leases and tickets. They are tried in the preflight, and again each second while one
//! is missing. Without them Redis is used for everything else.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::{Cmd, Value, from_redis_value};
use serde::Serialize;

use super::keys::Keys;
use super::leases::ALIVE_KEPT;
use crate::redis::{Fault, Script};

static TRY: Script = Script::new(&[include_str!("rights.lua")]);

/// Lifetime of a test key in seconds.
const KEPT: u64 = 10;

/// Rights that are missing.
#[derive(Default)]
pub(super) struct Rights {
    are_missing: AtomicBool,
    logged: Mutex<String>,
}

impl Rights {
    /// Whether leases and tickets can do without Redis only.
    pub(super) fn are_missing(&self) -> bool {
        self.are_missing.load(Ordering::Relaxed)
    }

    /// Notes that a right was missing, before it is known which.
    pub(super) fn note_missing(&self) {
        self.are_missing.store(true, Ordering::Relaxed);
    }

    /// Notes the rights that are missing, and logs a change.
    pub(super) fn learn(&self, missing: &[String]) {
        let text = missing.join("; ");
        self.are_missing.store(!text.is_empty(), Ordering::Relaxed);
        let mut logged = self.logged.lock();
        if *logged == text {
            return;
        }
        if text.is_empty() {
            tracing::info!("limits of subjects and single-use tokens use Redis");
        } else {
            tracing::warn!(
                "limits of subjects and single-use tokens do not use Redis, because its user lacks rights: {text}; \
                 grant the rights that docs/redis.md lists (ACL SETUSER)"
            );
        }
        *logged = text;
    }
}

#[derive(Serialize)]
struct TryArguments {
    seconds: u64,
}

/// A pattern of keys, and the command that tries the rights on one of them.
pub(super) struct Trial {
    pub(super) command: Cmd,
    pattern: String,
}

/// A trial for each pattern of keys. `instance` alone uses the test keys.
pub(super) fn trials(keys: &Keys, instance: &str) -> [Trial; 3] {
    keys.of_admission(instance).map(|(pattern, key)| {
        let seconds = if key == keys.alive { ALIVE_KEPT.as_secs() } else { KEPT };
        Trial { command: TRY.call(&[&key], &TryArguments { seconds }), pattern }
    })
}

impl Trial {
    /// The rights that are missing, by the answer to the command; `None` if there are all.
    ///
    /// # Errors
    /// Another fault than a missing right.
    pub(super) fn missing(&self, answer: Result<Value, Fault>) -> Result<Option<String>, Fault> {
        let pattern = &self.pattern;
        match answer {
            // Redis names the command, and does not name a key.
            Err(Fault::Permission(text)) if text.contains("eval") => Ok(Some("EVAL".to_owned())),
            Err(Fault::Permission(_)) => Ok(Some(format!("keys {pattern}"))),
            Err(fault) => Err(fault),
            Ok(answer) => {
                let commands: Vec<String> =
                    from_redis_value(answer).map_err(|error| Fault::Unexpected(error.to_string()))?;
                let text = format!("{} on {pattern}", commands.join(", "));
                Ok((!commands.is_empty()).then_some(text))
            }
        }
    }
}
