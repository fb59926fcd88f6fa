//! The state file outlives whatever happens to its process: this very binary,
//! started as a child, saves until it is killed or its disk is full.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aliyun_acr_exporter::store::state::{
    Found, GoneRun, SavedInstance, State, StateFile, decode, encode,
};

const KILLS: usize = 200;

/// A state large enough that a write can be interrupted, and that differs from
/// the one before in every part.
fn state(generation: i64, runs: i64) -> State {
    let gone = (0..runs).map(|run| GoneRun {
        failed: false,
        task_id: format!("crast-{run}").into(),
        seen_ms: generation,
        counted: true,
    });
    State {
        tasks: Vec::new(),
        instances: vec![SavedInstance {
            instance_id: "cri-a".into(),
            last_success_ms: Some(generation),
            gone: gone.collect(),
            ..SavedInstance::default()
        }],
    }
}

const RUNS: i64 = 10_000;

fn generation(state: &State) -> i64 {
    state.instances[0].last_success_ms.unwrap()
}

#[test]
#[ignore = "the child of the other tests"]
fn child_that_saves_until_it_is_killed() {
    assert!(Path::new("a-parent-waits").exists(), "it is a child alone");
    let (file, found) = StateFile::open(Path::new("state"), 0).unwrap();
    let first = match found {
        Found::Nothing => 0,
        Found::State(state) => generation(&state),
        other => panic!("{other:?}"),
    };
    for generation in first + 1.. {
        file.save(&encode(&state(generation, RUNS))).unwrap();
        println!("\nsaved {generation}");
    }
}

const CHILD: [&str; 4] = [
    "--exact",
    "--ignored",
    "--nocapture",
    "child_that_saves_until_it_is_killed",
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a-parent-waits"), "").unwrap();
    folder
}

fn acknowledged(line: &str) -> Option<i64> {
    // Half a line was not said.
    let number = line.strip_suffix('\n')?.strip_prefix("saved ")?;
    Some(number.parse().unwrap())
}

fn kill(mut child: Child) -> String {
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    let mut stdout = child.stdout.unwrap();
    stdout.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_saved() {
    let folder = folder();
    let path = folder.path().join("state");
    let mut newest = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(CHILD)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One in four is killed while it starts, the others once they saved.
        if round % 4 != 0 {
            let mut stdout = BufReader::with_capacity(1, child.stdout.take().unwrap());
            loop {
                let mut line = String::new();
                assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended early");
                if let Some(generation) = acknowledged(&line) {
                    newest = generation;
                    break;
                }
            }
            child.stdout = Some(stdout.into_inner());
        }
        // The random moment.
        std::thread::sleep(Duration::from_micros(fastrand::u64(..30_000)));
        let said = kill(child);
        let heard = said
            .split_inclusive('\n')
            .filter_map(acknowledged)
            .next_back();
        newest = heard.unwrap_or(newest);

        if newest > 0 {
            let saved = decode(&fs::read(&path).unwrap()).unwrap();
            // One that was saved and could not be told any more is fine.
            let found = generation(&saved);
            assert!(
                (newest..=newest + 1).contains(&found),
                "round {round}: {found}, told {newest}"
            );
            assert!(saved == state(found, RUNS));
            newest = found;
        }
    }
    let (_file, found) = StateFile::open(&path, 0).unwrap();
    assert!(matches!(found, Found::State(_)));
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a-parent-waits", "state", "state.lock"]);
}

/// A limit on the size of files ends a write half-way, as a full disk does.
#[test]
fn a_write_that_ends_half_way_leaves_the_state_before() {
    let folder = folder();
    let path = folder.path().join("state");
    let before = state(7, 1);
    let (file, _) = StateFile::open(&path, 0).unwrap();
    file.save(&encode(&before)).unwrap();
    drop(file);

    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(CHILD)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8(child.stderr).unwrap();
    assert!(told.contains("FileTooLarge"), "{told}");
    let (_file, found) = StateFile::open(&path, 0).unwrap();
    assert!(matches!(found, Found::State(found) if found == before));
    assert!(!fs::read_dir(folder.path()).unwrap().any(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().contains(".tmp-")
    }));
}
