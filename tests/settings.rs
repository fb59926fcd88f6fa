//! What follows from the declarations of the settings: the schema, which the binary
//! prints. With BLESS=1 it is written instead.

use std::fs;
use std::path::Path;

use aliyun_acr_exporter::config::{self, Config};
use serde_json::Value;

/// The file `path` of the project holds `expected`.
fn assert_file(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not of the program"
    )]
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, expected).expect("blessed");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the settings say; run this test with BLESS=1",
        path.display()
    );
}

#[test]
fn the_schema_is_what_the_types_say() {
    let mut schema: Value = schemars::schema_for!(Config).to_value();
    settings::twins(&mut schema);
    let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
    assert_file("src/config/schema.json", &text);
    let _ = config::SCHEMA;
}
