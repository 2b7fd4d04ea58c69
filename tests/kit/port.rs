//! Ports that stay free while nothing listens on them.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below those that the kernel gives to outgoing connections. On one of these a client that tries
/// again and again to reach a killed server would sooner or later be given the server's own port,
/// connect to itself, and keep the server from coming back.
const RANGE: Range<u16> = 10_000..20_000;
/// A cluster's nodes talk to each other on a second port, this much higher: the ranges do not
/// overlap.
const TO_BUS: u16 = 10_000;
/// A browser opens no page on this port of the range, because it belongs to another service (Fetch
/// standard, "bad port").
const BAD_PORT: u16 = 10_080;

/// A port of this machine that is ours until this is dropped, also while the server on it is dead.
pub struct Port {
    number: u16,
    /// Held locked: other rigs, of this process or another, do not take the port.
    _lock: File,
}

impl Port {
    /// A port that is free, and whose cluster port is free, too.
    #[must_use]
    pub fn reserve() -> Self {
        let locks = std::env::temp_dir().join("vx11-rig-ports");
        std::fs::create_dir_all(&locks).expect("the temporary folder can be written");
        for _ in RANGE {
            let number = fastrand::u16(RANGE);
            let lock = File::create(locks.join(number.to_string())).expect("a lock file can be created");
            if number != BAD_PORT && lock.try_lock().is_ok() && is_free(number) && is_free(number + TO_BUS) {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port of {RANGE:?} is free");
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Whether nothing listens on a port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
