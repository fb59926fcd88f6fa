//! Holds the code to the table of `docs/architecture.md`: which room may
//! import which, one file and one folder a room, and a first line that says why.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room → rooms (or `room::part`) it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let ticked = |cell: &str| -> Vec<String> {
        let pieces = cell.split('`').skip(1).step_by(2);
        pieces.map(str::to_owned).collect()
    };
    let mut rooms = BTreeMap::new();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| room |"));
    for line in lines.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{line}");
        let room = ticked(cells[0]).remove(0);
        rooms.insert(room, ticked(cells[2]).into_iter().collect());
    }
    assert!(rooms.len() > 10, "the table of rooms was not found");
    rooms
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap();
    name.trim_end_matches(".rs").to_owned()
}

/// Paths below the crate that a file names, `a::b` or `a`, comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or("");
        for prefix in ["crate::", "aliyun_acr_exporter::"] {
            for (at, _) in code.match_indices(prefix) {
                if code[..at].ends_with(|c: char| c == '_' || c == '$' || c.is_alphanumeric()) {
                    continue;
                }
                let rest = &code[at + prefix.len()..];
                assert!(
                    !rest.starts_with('{'),
                    "write one `use` a room, so that this test can read it: {line}"
                );
                let path: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                    .collect();
                let parts: Vec<&str> = path.split("::").take(2).collect();
                found.insert(parts.join("::"));
            }
        }
        for (at, prefix) in code.match_indices("alibaba_cloud::") {
            let rest = &code[at + prefix.len()..];
            let module = rest
                .split(|c: char| c != '_' && !c.is_alphanumeric())
                .next();
            // Types at the crate's root, and time, are for everybody.
            match module.unwrap_or_default() {
                "" | "clock" => {}
                types if types.starts_with(char::is_uppercase) => {}
                module => {
                    found.insert(format!("{prefix}{module}"));
                }
            }
        }
    }
    found
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&root().join("src")) {
        let room = room_of(&file);
        if room == "lib" {
            continue;
        }
        let Some(allowed) = table.get(&room) else {
            wrong.push(format!("{} is in no room of the table", file.display()));
            continue;
        };
        // Tests inside a room may use other rooms to build their input.
        let text = fs::read_to_string(&file).unwrap();
        let is_test = file
            .with_extension("")
            .iter()
            .any(|component| component == "tests");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        if is_test {
            continue;
        }
        for import in imports(code) {
            let other = import.split("::").next().unwrap();
            if other == room {
                continue;
            }
            let granted = allowed
                .iter()
                .find(|allowed| *allowed == other || **allowed == import);
            match granted {
                Some(granted) => {
                    used.entry(room.clone())
                        .or_default()
                        .insert(granted.clone());
                }
                None => wrong.push(format!("{} imports {import}", file.display())),
            }
        }
    }
    for (room, allowed) in &table {
        let used = used.remove(room).unwrap_or_default();
        for unused in allowed.difference(&used) {
            wrong.push(format!(
                "the table lets {room} import {unused}, which it does not"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_room_is_a_file_with_a_folder() {
    for folder in ["src", "crates"] {
        for file in rust_files(&root().join(folder)) {
            assert_ne!(file.file_name().unwrap(), "mod.rs", "{}", file.display());
        }
    }
    for room in table().keys() {
        let file = root().join("src").join(format!("{room}.rs"));
        assert!(file.exists(), "{} is missing", file.display());
    }
}

#[test]
fn every_file_says_first_why_it_exists() {
    for folder in ["src", "tests", "benches", "crates"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            // A crate's documentation may be its README.
            let says = ["//! ", "#![doc = "]
                .iter()
                .any(|start| text.starts_with(start));
            assert!(says, "{}", file.display());
        }
    }
}

#[test]
fn main_only_wires() {
    let text = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(text.lines().count() <= 50);
}
