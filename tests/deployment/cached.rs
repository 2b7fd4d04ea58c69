//! Texts that take long to make. `cargo nextest` runs each test in a separate process, so tests
//! cannot share a static. A file keeps the text until one of its sources changes.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The text called `name`, made of these files and folders.
pub(crate) fn cached(name: &str, sources: &[PathBuf], make: impl FnOnce() -> String) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(folder).unwrap();
    // A second process waits here for the text of the first. Closing the file unlocks it.
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let mut hasher = DefaultHasher::new();
    for source in sources {
        digest(source, &mut hasher);
    }
    let first_line = format!("{:016x}\n", hasher.finish());
    let file = folder.join(format!("{name}.cached"));
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if let Some(text) = kept.strip_prefix(&first_line) {
        return text.to_owned();
    }
    let text = make();
    std::fs::write(file, first_line + &text).unwrap();
    text
}

fn digest(path: &Path, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    if path.is_dir() {
        let mut entries: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in &entries {
            digest(entry, hasher);
        }
    } else {
        std::fs::read(path).unwrap().hash(hasher);
    }
}
