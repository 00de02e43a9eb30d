//! Scripts of the portal's pages, in Node.

use std::process::Command;

#[test]
fn a_page_that_waits_goes_on_once() {
    let done = Command::new("node")
        .args(["--test", "js-tests/waiting.test.mjs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("Node runs the page's tests; `cargo xtask test` installs it");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
}
