//! Commands for tickets, and their answers.

use redis::{Cmd, Value, from_redis_value};
use serde::Serialize;

use super::keys::Keys;
use super::leases::millis;
use crate::redis::Script;
use crate::store::{
    AliveEntry, ReleasedTicket, StoreError, TICKET_WINDOW, TicketAnswer, TicketHolder, WantedTicket,
};

static TAKE: Script = Script::new(&[include_str!("ticket.lua")]);
static RELEASE: Script = Script::new(&[include_str!("ticket_release.lua")]);
static HOLDER: Script = Script::new(&[include_str!("holder.lua")]);

#[derive(Serialize)]
struct TakeArguments<'a> {
    holder: &'a str,
    stays: bool,
    age: u64,
    window: u64,
    displaced: &'a str,
    seconds: u64,
}

/// Command that takes a ticket.
pub(super) fn take_command(keys: &Keys, wanted: &WantedTicket) -> Cmd {
    let arguments = TakeArguments {
        holder: wanted.holder.as_str(),
        stays: wanted.holder.is_stream(),
        age: millis(wanted.age),
        window: millis(TICKET_WINDOW),
        displaced: wanted.displaced.as_ref().map_or("", TicketHolder::as_str),
        // Within the window a ticket has to be known, even if its token expires before.
        seconds: wanted.kept.max(TICKET_WINDOW).as_secs() + 1,
    };
    TAKE.call(&[&keys.ticket(wanted.digest)], &arguments)
}

/// Answer to [`take_command`].
pub(super) fn ticket_answer(answer: Value) -> Result<TicketAnswer, StoreError> {
    let texts: Vec<String> = from_redis_value(answer).map_err(|_| StoreError::Unavailable)?;
    let mut texts = texts.into_iter();
    match (texts.next().as_deref(), texts.next()) {
        (Some("first"), None) => Ok(TicketAnswer::Taken { is_first: true }),
        (Some("again"), None) => Ok(TicketAnswer::Taken { is_first: false }),
        (Some("used"), None) => Ok(TicketAnswer::Used),
        (Some("held"), Some(holder)) => Ok(TicketAnswer::Held(TicketHolder::parsed(holder))),
        _ => Err(StoreError::Unavailable),
    }
}

#[derive(Serialize)]
struct ReleaseArguments<'a> {
    holder: &'a str,
    age: u64,
    undone: bool,
    uncertain: bool,
    seconds: u64,
}

/// Command that releases a ticket.
pub(super) fn ticket_release_command(keys: &Keys, released: &ReleasedTicket) -> Cmd {
    let arguments = ReleaseArguments {
        holder: released.holder.as_str(),
        age: millis(released.age),
        undone: released.is_undone,
        uncertain: released.is_uncertain,
        seconds: released.kept.max(TICKET_WINDOW).as_secs() + 1,
    };
    RELEASE.call(&[&keys.ticket(released.digest)], &arguments)
}

#[derive(Serialize)]
struct HolderArguments<'a> {
    field: &'a str,
}

/// Command that reads the alive entry of a holder's instance.
pub(super) fn holder_command(keys: &Keys, holder: &TicketHolder) -> Cmd {
    HOLDER.call(&[&keys.alive], &HolderArguments { field: holder.field() })
}

/// Alive entry in the text of Redis.
pub(super) fn alive_entry(now: u64, text: Option<&str>) -> AliveEntry {
    let mut numbers = text.unwrap_or_default().split(' ').map(|number| number.parse().ok());
    let renewed = numbers.next().flatten();
    let settled = numbers.nth(1).flatten().unwrap_or(0);
    AliveEntry { now, renewed, settled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alive_entry_has_renewal_session_and_settling_and_an_unreadable_one_proves_nothing() {
        let entry = |renewed, settled| AliveEntry { now: 9, renewed, settled };
        assert_eq!(alive_entry(9, Some("8 5 7")), entry(Some(8), 7));
        assert_eq!(alive_entry(9, Some("8 5")), entry(Some(8), 0));
        for text in [None, Some(""), Some("x 5 7")] {
            assert_eq!(alive_entry(9, text).renewed, None, "{text:?}");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_no_answer() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = |texts: &[&str]| ticket_answer(Value::Array(texts.iter().map(|it| text(it)).collect()));
        assert_eq!(answer(&["first"]), Ok(TicketAnswer::Taken { is_first: true }));
        assert_eq!(answer(&["used"]), Ok(TicketAnswer::Used));
        for texts in [&["held"] as &[&str], &[], &["other"], &["used", "x"]] {
            assert_eq!(answer(texts), Err(StoreError::Unavailable), "{texts:?}");
        }
    }
}
