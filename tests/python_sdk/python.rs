//! The Python that has the official packages, for the tests that run them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "how the tests are run is told to them by the environment"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Python that can import `module`, or none where the test may be left out.
pub(crate) fn with(module: &str) -> Option<PathBuf> {
    let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = environment("ALIYUN_ACR_EXPORTER_TEST_PYTHON")
        .map_or_else(|| project.join(".venv/bin/python"), PathBuf::from);
    let import = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output();
    if import.is_ok_and(|out| out.status.success()) {
        return Some(python);
    }
    let left_out = format!(
        "left out: the official Python package {module} is not installed (scripts/test.sh installs it)"
    );
    let required = environment("REQUIRE_REAL_PARTS").as_deref() == Some("1");
    assert!(!required, "{left_out}");
    // Past the test harness, which keeps what a passing test prints.
    writeln!(std::io::stderr(), "{left_out}").expect("standard error");
    None
}
