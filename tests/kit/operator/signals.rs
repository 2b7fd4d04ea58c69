//! Signals to the process of an instance.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::Operator;

impl Operator {
    /// Kills without warning, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Suspends it (SIGSTOP): connections stay open, new ones are accepted, and nothing is
    /// answered.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Lets a stopped instance go on (SIGCONT).
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// Asks it to end (SIGTERM): it drains first.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) {
        self.process.ended().await;
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn how_it_ended(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Starts it again on the same address, having killed it if it still runs; how long that took
    /// until it was ready.
    pub async fn restart(&mut self) -> Duration {
        self.kill();
        let started = Instant::now();
        self.run_again();
        self.await_ready().await;
        started.elapsed()
    }

    /// From its next start on, a variable of its environment is another.
    pub fn configure(&mut self, name: &str, value: &str) {
        let environment = &mut self.launch.environment;
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
    }

    /// From its next start on, another program runs, such as one of another release.
    pub fn replace(&mut self, binary: &Path) {
        binary.clone_into(&mut self.launch.binary);
    }
}
