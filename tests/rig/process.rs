//! A child process that logs into the artefacts and ends with its owner.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::artefacts::new_log;
use crate::patience::until;

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in `folder`. What it prints becomes its log.
    pub(crate) fn start(program: &str, arguments: &[String], folder: &Path) -> Self {
        let mut command = Command::new(program);
        Self::run(program.trim_end_matches("-server"), command.args(arguments).current_dir(folder))
    }

    /// Starts what was prepared. What it prints becomes a log of this name.
    pub(crate) fn run(name: &str, command: &mut Command) -> Self {
        let (log, file) = new_log(name);
        let output = file.try_clone().expect("a file handle can be copied");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(file).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}; `make packages`"));
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Kills without warning, as `kill -9` does, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Kills it with all that it started, where it leads a group of its own, and waits for its own end.
    pub(crate) fn kill_group(&mut self) {
        // Once it has been waited for, its number may be another's.
        if self.is_running() {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).expect("a group can be killed");
            self.child.wait().expect("a child can be waited for");
        }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again.
    pub(crate) fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Stops the process where it stands; its sockets stay open and nobody reads from them.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::STOP);
        let state = format!("/proc/{}/stat", self.pid());
        // The signal returns before all threads have taken notice.
        until("the process to stop", async || {
            let state = std::fs::read_to_string(&state).expect("the process still exists");
            state.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        })
        .await;
    }

    /// Lets a stopped process go on.
    pub(crate) fn cont(&mut self) {
        self.signal(Signal::CONT);
    }

    /// How long its threads, added up, were ready to run and were given no processor.
    pub(crate) fn starved(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let waited = threads.filter_map(|thread| {
            // A thread may end while it is looked at.
            let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            times.split(' ').nth(1)?.parse::<u64>().ok()
        });
        Duration::from_nanos(waited.sum())
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log can be read")).into_owned()
    }

    fn signal(&mut self, signal: Signal) {
        // The number of one that has ended may be another's by now.
        assert!(self.is_running(), "the process has ended: {}", self.log());
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be sent a signal");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
