//! What can be done to an instance's process. To start it again, drop it and start another at the same address.

use super::Operator;
use crate::patience::until;

impl Operator {
    /// Kills it without warning, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it where it stands; its sockets stay open and nobody reads from them.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Lets it go on after [`Operator::stop`].
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// Asks it to end: it drains first.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) {
        let process = &mut self.process;
        until("an instance to end", async || !process.is_running()).await;
    }
}
