//! The command-line client as a process, and what it prints, line by line as it is printed.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vx11_kit::{PATIENCE, artefacts};

use super::instance::Instance;

/// Someone at a terminal, with these variables set.
pub struct Terminal(Vec<(String, String)>);

/// Output and status of a command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub errors: String,
}

impl Terminal {
    /// One with nothing set.
    pub fn bare() -> Self {
        Self(Vec::new())
    }

    /// One set up for an instance and its principal.
    pub fn of(instance: &Instance) -> Self {
        Self::bare()
            .with("VX11_OPERATOR_URL", &instance.base)
            .with("VX11_PRINCIPAL_TOKEN", &instance.principal)
    }

    /// The same with another variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a command that has nothing to read.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments).stdin(Stdio::null()))
    }

    /// Starts a command that nobody listens to but for its errors; its output is given back
    /// instead.
    pub fn start_unread(&self, arguments: &[&str]) -> (Running, ChildStdout) {
        let mut running = Running::spawn(self.command(arguments).stdin(Stdio::null()));
        let output = running.stdout.take().expect("the output is piped");
        (Running::listening(running, None), output)
    }

    /// Starts a command on a separate terminal (`script` makes one), which shows output and errors.
    pub fn start_on_a_terminal(&self, arguments: &[&str]) -> Running {
        let words = [&[env!("CARGO_BIN_EXE_vx11-operator")], arguments].concat();
        let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let mut command = Command::new("/usr/bin/script");
        command
            .args(["--quiet", "--flush", "--return", "--command"])
            .arg(format!("exec {}", words.join(" ")))
            .arg("/dev/null")
            .env_clear()
            .envs(self.0.iter().map(|(name, value)| (name, value)));
        Running::of(command.stdin(Stdio::piped()))
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended().await
    }

    /// Runs a command to its end, again while one of its attempts had no answer in time: an attempt
    /// at the end of a short patience has little time, which a busy machine may not give it.
    pub async fn run_without_silence(&self, arguments: &[&str]) -> Ended {
        vx11_kit::eventually("a run whose attempts are all answered", async || {
            let ended = self.run(arguments).await;
            (!ended.errors.contains("no answer within")).then_some(ended)
        })
        .await
    }

    /// Runs a command that reads `input` to its end.
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = Running::spawn(self.command(arguments).stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("the input is piped");
        // It may have heard enough.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let output = child.stdout.take();
        Running::listening(child, output).ended().await
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vx11-operator"));
        command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value))).args(arguments);
        command
    }
}

/// A command that runs; killed when dropped.
pub struct Running {
    child: Child,
    output: Lines,
    errors: Lines,
}

impl Running {
    fn of(command: &mut Command) -> Self {
        let mut child = Self::spawn(command);
        let output = child.stdout.take();
        Self::listening(child, output)
    }

    fn spawn(command: &mut Command) -> Child {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("the binary can be started")
    }

    fn listening(mut child: Child, output: Option<ChildStdout>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = artefacts().join(format!("client-{}-{number}.log", std::process::id()));
        let log = Arc::new(Mutex::new(File::create(log).expect("the log can be created")));
        let errors = child.stderr.take().map(|errors| Lines::of(errors, &log));
        let output = output.map(|output| Lines::of(output, &log));
        Self { child, output: output.unwrap_or_else(Lines::none), errors: errors.unwrap_or_else(Lines::none) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process still runs")
    }

    /// The next line on standard output.
    pub async fn line(&mut self) -> String {
        self.output.next().await.expect("there is a line")
    }

    /// The same as JSON.
    pub async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Waits until a line on standard error contains `words`, and returns it.
    pub async fn says(&mut self, words: &str) -> String {
        loop {
            let line = self.errors.next().await;
            let line = line.unwrap_or_else(|| panic!("it ends without having said {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked for").is_none()
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        let sent = std::process::Command::new("kill").args(["-INT", &self.pid().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// The same on its terminal.
    pub async fn press_ctrl_c(&mut self) {
        let keyboard = self.child.stdin.as_mut().expect("it has a terminal");
        keyboard.write_all(b"\x03").await.expect("somebody reads");
    }

    /// Waits for the process to end by itself; gives back what nobody has read yet.
    pub async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time");
        let status = status.expect("the process can be waited for");
        assert_eq!(status.signal(), None, "ended by itself");
        let (output, errors) = (self.output.rest().await, self.errors.rest().await);
        Ended { code: status.code().expect("a code"), output, errors }
    }
}

/// Lines as they come, each also written to a log.
struct Lines(UnboundedReceiver<String>);

impl Lines {
    fn of(source: impl AsyncRead + Unpin + Send + 'static, log: &Arc<Mutex<File>>) -> Self {
        let (sender, receiver) = unbounded_channel();
        let log = Arc::clone(log);
        tokio::spawn(async move {
            let mut lines = BufReader::new(source).lines();
            while let Some(line) = lines.next_line().await.expect("lines in UTF-8") {
                writeln!(log.lock().expect("no other has failed"), "{line}").expect("the log can be written");
                let _ = sender.send(line);
            }
        });
        Self(receiver)
    }

    fn none() -> Self {
        Self(unbounded_channel().1)
    }

    async fn next(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("a line or the end in time")
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.next().await {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }
}
