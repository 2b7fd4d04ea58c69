//! Processor time of a process, as Linux counts it.

/// Clock ticks a second in `/proc`: fixed on every architecture that Linux runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that all threads of a process have taken together so far.
pub(crate) fn seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .expect("the figures of a process that runs can be read");
    // The second field is the program's name in parentheses and may hold anything; then comes the
    // third.
    let (_, fields) = stat.rsplit_once(") ").expect("the second field ends so (proc_pid_stat(5))");
    let ticks = fields.split(' ').skip(14 - 3).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / TICKS_PER_SECOND
}
