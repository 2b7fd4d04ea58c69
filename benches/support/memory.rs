//! Memory of a process, as Linux counts it.

/// Resident bytes of the process `process`: a number, or `self`.
pub(crate) fn resident_bytes(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .expect("the status of a process that runs can be read");
    let kibibytes: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .expect("a process's status has VmRSS in kB (proc_pid_status(5))");
    f64::from(kibibytes) * 1024.0
}
