//! Faults that Redis itself produces: nothing about them is imitated.

use super::{RedisServer, value_of};

/// Nothing listens there: a replica of it goes on with the data it has.
const NOBODY: [&str; 2] = ["127.0.0.1", "1"];

impl RedisServer {
    /// From now on whatever might need memory is refused with `OOM`; reading and deleting work.
    pub async fn refuse_memory(&self) {
        self.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }

    /// As much memory as the server was started with.
    pub async fn allow_memory(&self) {
        let limit = value_of(&self.arguments, "--maxmemory").unwrap_or("0");
        self.command(&["CONFIG", "SET", "maxmemory", limit]).await;
    }

    /// From now on writing is refused with `READONLY`, as by a master that was demoted. Connections
    /// stay open, except those that wait in a blocking command: Redis itself closes them, with
    /// `UNBLOCKED`.
    pub async fn become_replica(&self) {
        self.command(&["REPLICAOF", NOBODY[0], NOBODY[1]]).await;
    }

    /// Takes writes again, with the data it had.
    pub async fn become_master(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// From now on whoever does not know the password is refused with `NOAUTH`. All connections are
    /// closed: Redis asks for a password only on new ones.
    pub async fn require_password(&mut self, password: &str) {
        self.command(&["CONFIG", "SET", "requirepass", password]).await;
        self.endpoint.password = Some(password.to_owned());
        self.close_connections().await;
    }

    /// Lets everybody in again.
    pub async fn require_no_password(&mut self) {
        self.command(&["CONFIG", "SET", "requirepass", ""]).await;
        self.endpoint.password = None;
    }

    /// From now on every command but those the kit needs is refused with `NOPERM`, also on open
    /// connections.
    pub async fn forbid_data(&self) {
        self.command(&["ACL", "SETUSER", "default", "resetkeys", "-@all", "+@admin", "+@connection"]).await;
    }

    /// Takes that back.
    pub async fn permit_data(&self) {
        self.command(&["ACL", "SETUSER", "default", "~*", "+@all"]).await;
    }

    /// Closes all connections of clients, which may come back at once.
    pub async fn close_connections(&self) {
        for kind in ["normal", "pubsub"] {
            self.command(&["CLIENT", "KILL", "TYPE", kind]).await;
        }
    }

    /// Forgets everything, in all databases.
    pub async fn flush(&self) {
        self.command(&["FLUSHALL"]).await;
    }
}
