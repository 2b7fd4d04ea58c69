//! Memory of a process with shared pages.

use std::fs;

/// Resident bytes of a process, each shared page divided by the number of those that share it: over
/// all processes of a server they add up to what the server holds.
pub(crate) fn proportional_bytes(process: u32) -> f64 {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
        .expect("the memory of a process that runs can be read");
    let kibibytes: u32 = maps
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("the memory of a process has Pss in kB (proc_pid_smaps(5))");
    f64::from(kibibytes) * 1024.0
}
