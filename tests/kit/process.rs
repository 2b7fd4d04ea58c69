//! Child processes that log into the artefacts and end with their owner.

mod log_reader;

use std::io::pipe;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::artefacts::{is_watched_by_a_person, new_log};
use crate::patience::until;

pub use log_reader::LogReader;

/// Surroundings of a program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// Whether its log goes through a pipe with a [`LogReader`].
    pub piped_log: bool,
    /// Limit of open files.
    pub open_files: Option<u64>,
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Mutex<Child>,
    pid: Pid,
    name: String,
    log: PathBuf,
    /// Start of its part of the log; earlier parts are of processes with the same name.
    begins: usize,
    reader: Option<LogReader>,
}

impl Process {
    /// Starts a program in `folder`; its output becomes its log.
    pub(crate) fn start(program: &str, arguments: &[String], folder: &Path) -> Self {
        let mut command = Command::new(program);
        Self::run(program.trim_end_matches("-server"), command.args(arguments).current_dir(folder))
    }

    /// Starts a prepared command; its output becomes a log of this name.
    pub(crate) fn run(name: &str, command: &mut Command) -> Self {
        Self::run_with(name, command, false)
    }

    /// Like [`Self::run`]; the output goes through a pipe with a [`LogReader`] if `piped_log`.
    pub(crate) fn run_with(name: &str, command: &mut Command, piped_log: bool) -> Self {
        let (log, file) = new_log(name);
        let begins = file.metadata().map_or(0, |metadata| metadata.len());
        let begins = usize::try_from(begins).expect("the log fits into memory");
        let (output, errors, reader): (Stdio, Stdio, _) = if piped_log {
            let (reads, writes) = pipe().expect("there can be one more pipe");
            let output = writes.try_clone().expect("a file handle can be copied");
            (output.into(), writes.into(), Some(LogReader::start(reads, file)))
        } else {
            (file.try_clone().expect("a file handle can be copied").into(), file.into(), None)
        };
        if is_watched_by_a_person() {
            // A separate process group: Ctrl-C goes to the parent only, which ends the children in
            // order.
            command.process_group(0);
        }
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        // Drop the command's end of the pipe; otherwise the reader never sees the end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}; `make packages`"));
        let pid = Pid::from_child(&child);
        Self { child: Mutex::new(child), pid, name: name.to_owned(), log, begins, reader }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Its id, and those of its running children.
    pub(crate) fn family(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let own = self.pid().to_string();
        let children = numbers.filter(|number| {
            // A process may end meanwhile.
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|stat| stat.split(' ').nth(1)) == Some(own.as_str())
        });
        std::iter::once(self.pid()).chain(children).collect()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ended().is_none()
    }

    /// Kills (SIGKILL) and waits for the end.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Suspends the process (SIGSTOP); its sockets stay open.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid());
        // The signal returns before all threads have stopped.
        until("every thread of the process to stop", async || {
            let threads = std::fs::read_dir(&threads).expect("the process still exists");
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // The state follows the name, which is in brackets (proc(5)).
                stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
            })
        })
        .await;
    }

    /// Continues a suspended process (SIGCONT).
    pub(crate) fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process group that it leads, and waits for its end.
    pub(crate) fn kill_group(&self) {
        let mut child = self.child();
        if is_running(&mut child) {
            kill_process_group(self.pid, Signal::KILL).expect("a group can be killed");
            child.wait().expect("a child can be waited for");
        }
        // The leader may have been killed before its group.
        for orphan in self.orphans() {
            // It may end meanwhile.
            let _ = kill_process(orphan, Signal::KILL);
        }
    }

    /// Processes of its group that outlived it, also by name: the id of an empty group may be
    /// reused.
    fn orphans(&self) -> Vec<Pid> {
        let (group, name) = (self.pid().to_string(), format!("({})", self.name));
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = numbers.filter(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let in_group = stat.rsplit(") ").next().and_then(|stat| stat.split(' ').nth(2)) == Some(&*group);
            in_group && stat.contains(&name)
        });
        own.filter_map(Pid::from_raw).collect()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// Terminates it (SIGTERM).
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Reloads its configuration (SIGHUP).
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(&self.log).expect("the log can be read");
        String::from_utf8_lossy(&log[self.begins..]).into_owned()
    }

    /// File of its log.
    pub(crate) fn log_file(&self) -> &Path {
        &self.log
    }

    /// The reader of its log, if it goes through a pipe.
    pub(crate) fn log_reader(&self) -> Option<&LogReader> {
        self.reader.as_ref()
    }

    fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // The id of a process is reused only after somebody has waited for its end.
        assert!(is_running(&mut child), "the process has ended: {}", self.log());
        kill_process(self.pid, signal).expect("a child can be sent a signal");
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().expect("a child can be waited for").is_none()
}

/// Time for which the threads of a process were ready without a processor; zero if it has ended.
#[must_use]
pub fn starved(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waited = threads.filter_map(|thread| {
        // A thread may end meanwhile.
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split(' ').nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited.sum())
}

/// Unit of processor time in `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process; zero if it has ended.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields 12 and 13 after the name, which may contain anything: user and system time.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u32>().ok()).map(|ticks| TICK * ticks).sum()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if let Some(reader) = &self.reader {
            reader.go_on();
        }
    }
}
