//! Tells the crate what it is built from, for `build_info` and `--version`.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is configured by the environment"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    let revision = std::env::var("ALIYUN_ACR_EXPORTER_REVISION")
        .ok()
        .or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rust_version = output(&rustc, &["--version"])
        .and_then(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned());
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=BUILD_REVISION={revision}");
    println!("cargo::rustc-env=BUILD_RUST_VERSION={rust_version}");
    println!("cargo::rustc-env=BUILD_TARGET={target}");
    println!("cargo::rerun-if-env-changed=ALIYUN_ACR_EXPORTER_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    // The log of HEAD changes with each commit and checkout.
    let head = output("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(head) = head.filter(|head| Path::new(head).exists()) {
        println!("cargo::rerun-if-changed={head}");
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
