//! This program a second time, as the process that is measured: only there does memory and
//! processor time belong to what is measured alone.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::target::target_directory;

/// The argument that makes this program play the measured part.
const MEASURED: &str = "--measured";

/// The process that is measured; ends when this is dropped, or when this process ends in any other
/// way.
pub(crate) struct Measured {
    /// The process itself.
    pub(crate) child: Child,
    lines: Box<dyn BufRead>,
}

impl Measured {
    /// Starts it with `environment` and no other variables. What it logs is kept as
    /// `target/bench/<name>.log`.
    pub(crate) fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let folder = target_directory().join("bench");
        std::fs::create_dir_all(&folder).expect("target/bench can be created");
        let log = File::create(folder.join(name).with_extension("log")).expect("the log can be created");
        let program = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(program)
            .arg(MEASURED)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("this program can be started again");
        let output = child.stdout.take().expect("its output was asked for");
        Self { child, lines: Box::new(BufReader::new(output)) }
    }

    /// The next line it says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("its output can be read");
        assert!(read > 0, "the measured process ended; target/bench/*.log says why");
        line.trim_end().to_owned()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is the one that is measured. Then it also ends as soon as its parent has.
pub(crate) fn is_measured() -> bool {
    let measured = std::env::args().any(|argument| argument == MEASURED);
    if measured {
        std::thread::spawn(|| {
            // The parent never writes; the pipe ends with it.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
    }
    measured
}
