//! Timeouts that ship are longer than a test should wait.

use vx11_kit::shipped_nginx;

/// A file of what ships, in which nginx waits for `short` in place of `long`; a file of a
/// [`Site`](vx11_kit::Site).
pub fn sooner(file: &str, long: &str, short: &str) -> (String, String) {
    let shipped = std::fs::read_to_string(shipped_nginx().join(file)).unwrap();
    let replaced = shipped.replace(&format!(" {long};"), &format!(" {short};"));
    assert_ne!(replaced, shipped, "nothing in {file} takes {long}");
    (format!("../{file}"), replaced)
}
