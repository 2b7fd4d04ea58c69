//! The page of results shows the kept results.

use std::path::Path;

/// A page that was changed by hand, or not written again, says something else than the results.
#[test]
fn the_page_of_results_in_the_repository_shows_the_kept_results() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/measurements");
    let page = std::fs::read_to_string(folder.join("drills.md")).unwrap();
    assert_eq!(page, vx11_rig::results_page(&folder).unwrap());
}
