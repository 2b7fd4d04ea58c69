//! A child process that logs into the artefacts and ends with its owner.

mod log_reader;

use std::io::pipe;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::artefacts::{is_watched_by_a_person, new_log};
use crate::patience::until;

pub(crate) use log_reader::LogReader;

/// What a program meets that it is not told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Surroundings {
    /// Its log goes through a pipe, whose [`LogReader`] may be told to hang.
    pub(crate) piped_log: bool,
    /// The limit on its open files.
    pub(crate) open_files: Option<u64>,
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    /// Before that others wrote, who had its name.
    begins: usize,
    reader: Option<LogReader>,
}

impl Process {
    /// Starts a program in `folder`. What it prints becomes its log.
    pub(crate) fn start(program: &str, arguments: &[String], folder: &Path) -> Self {
        let mut command = Command::new(program);
        Self::run(program.trim_end_matches("-server"), command.args(arguments).current_dir(folder))
    }

    /// Starts what was prepared. What it prints becomes a log of this name.
    pub(crate) fn run(name: &str, command: &mut Command) -> Self {
        Self::run_with(name, command, false)
    }

    /// The same, with a pipe between the program and its log, if asked for.
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
            // Ctrl-C is for whoever started us, who ends the others in order.
            command.process_group(0);
        }
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        // The command keeps its ends of a pipe, and as long as one is open the reader waits for
        // more.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}; `make packages`"));
        Self { child, name: name.to_owned(), log, begins, reader }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its number, and those of the processes it started that still run.
    pub(crate) fn family(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let own = self.pid().to_string();
        let children = numbers.filter(|number| {
            // A process may end while it is looked at.
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|stat| stat.split(' ').nth(1)) == Some(own.as_str())
        });
        std::iter::once(self.pid()).chain(children).collect()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Kills without warning, as `kill -9` does, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
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

    /// Kills it with all that it started, where it leads a group of its own, and waits for its own
    /// end.
    pub(crate) fn kill_group(&mut self) {
        if self.is_running() {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).expect("a group can be killed");
            self.child.wait().expect("a child can be waited for");
        }
        // A leader that was killed by somebody else has left the others behind.
        for orphan in self.orphans() {
            // It may end while it is looked at.
            let _ = kill_process(orphan, Signal::KILL);
        }
    }

    /// Those of its group that outlived it. By their program's name as well: with the last of a
    /// group its number becomes free for another.
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

    /// Waits for its end; how it ended, in words.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let ended = self.child.try_wait().expect("a child can be waited for")?;
        Some(ended.to_string())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again.
    pub(crate) fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(&self.log).expect("the log can be read");
        String::from_utf8_lossy(&log[self.begins..]).into_owned()
    }

    /// What reads its log from a pipe, if there is one.
    pub(crate) fn log_reader(&self) -> Option<&LogReader> {
        self.reader.as_ref()
    }

    fn signal(&mut self, signal: Signal) {
        // The number of one that has ended may be another's by now.
        assert!(self.is_running(), "the process has ended: {}", self.log());
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be sent a signal");
    }
}

/// How long the threads of a process, added up, were ready to run and were given no processor;
/// nothing of one that is no more.
pub(crate) fn starved(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waited = threads.filter_map(|thread| {
        // A thread may end while it is looked at.
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split(' ').nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited.sum())
}

/// What the kernel counts processor time in, for whoever reads `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// How much processor time a process has taken, its threads added up; nothing of one that is no
/// more.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may contain anything, the twelfth and thirteenth: in user mode, and in
    // the kernel.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u32>().ok()).map(|ticks| TICK * ticks).sum()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = &self.reader {
            reader.go_on();
        }
    }
}
