//! Real files in a folder of their own.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;
use crate::store::state::{SavedInstance, encode};

fn state(instance_id: &str) -> State {
    State {
        instances: vec![SavedInstance {
            instance_id: instance_id.into(),
            ..SavedInstance::default()
        }],
        ..State::default()
    }
}

fn open(path: &Path) -> (StateFile, Found) {
    StateFile::open(path, 1_700_000_000_999).unwrap()
}

fn save(path: &Path, content: &State) {
    let (file, found) = open(path);
    assert!(matches!(found, Found::Nothing), "{found:?}");
    file.save(&encode(content)).unwrap();
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_found_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    save(&path, &state("cri-a"));
    let (file, found) = open(&path);
    assert!(
        matches!(&found, Found::State(found) if *found == state("cri-a")),
        "{found:?}"
    );
    file.save(&encode(&state("cri-b"))).unwrap();
    drop(file);
    let (_, found) = open(&path);
    assert!(
        matches!(&found, Found::State(found) if *found == state("cri-b")),
        "{found:?}"
    );
    assert_eq!(names(&folder), ["state", "state.lock"]);
    let mode = |name| {
        fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
    };
    assert_eq!(mode("state").mode() & 0o777, 0o600);
    assert_eq!(mode("state.lock").mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_state_is_moved_aside_and_nothing_there_is_overwritten() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    for content in ["", "acrstate", "one", "two"] {
        fs::write(&path, content).unwrap();
        let (file, found) = open(&path);
        assert!(matches!(found, Found::MovedAside { .. }), "{found:?}");
        assert!(!path.exists());
        file.save(&encode(&state("cri-a"))).unwrap();
        fs::remove_file(&path).unwrap();
    }
    let kept = [
        "state.unreadable-1700000000",
        "state.unreadable-1700000000-2",
        "state.unreadable-1700000000-3",
        "state.unreadable-1700000000-4",
    ]
    .map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
    assert_eq!(kept, ["", "acrstate", "one", "two"]);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let link = folder.path().join("link");
    symlink("state", &link).unwrap();
    let (first, _) = open(&path);
    for path in [&path, &link] {
        let error = StateFile::open(path, 0).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }
    drop(first);
    open(&link);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = TempDir::new().unwrap();
    let elsewhere = TempDir::new().unwrap();
    let link = folder.path().join("state");
    // The target does not exist yet.
    symlink(elsewhere.path().join("target"), &link).unwrap();
    save(&link, &state("cri-a"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&folder), ["state"]);
    assert_eq!(names(&elsewhere), ["target", "target.lock"]);
    let (file, found) = open(&link);
    assert!(matches!(found, Found::State(_)), "{found:?}");
    file.save(&encode(&state("cri-b"))).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    drop(file);
    let (_, found) = open(&link);
    assert!(matches!(found, Found::State(found) if found == state("cri-b")));
}

#[test]
fn leftovers_of_this_file_alone_are_removed() {
    let folder = TempDir::new().unwrap();
    let others = [
        "other.tmp-0123456789abcdef",
        "state.tmp-",
        "state.tmp-0123456789abcdefg",
        "state.tmp-backup",
    ];
    for name in others
        .iter()
        .chain(&["state.tmp-0123456789abcdef", "state.tmp-ffffffffffffffff"])
    {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    open(&folder.path().join("state"));
    let mut expected = others.to_vec();
    expected.push("state.lock");
    expected.sort_unstable();
    assert_eq!(names(&folder), expected);
}

/// What cannot be read may be worth something: it must survive every save.
#[test]
fn what_cannot_be_read_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    fs::create_dir(&path).unwrap();
    let (file, found) = open(&path);
    let Found::LeftAlone(why) = found else {
        panic!("{found:?}")
    };
    assert_eq!(why.to_string(), format!("cannot read {}", path.display()));
    // A directory could be replaced by nobody, so make it one that can.
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let error = file.save(&encode(&state("cri-a"))).unwrap_err();
    assert!(matches!(error, Error::LeftAlone(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_pipe_does_not_hold_up_the_start() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let (_, found) = open(&path);
    assert!(matches!(found, Found::LeftAlone(_)), "{found:?}");
}

#[test]
fn a_folder_that_is_missing_or_no_folder_is_told_at_each_save_until_it_is_there() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("inner");
    let path = inner.join("state");
    let bytes = encode(&state("cri-a"));
    let (file, found) = open(&path);
    assert!(matches!(found, Found::Nothing), "{found:?}");
    let kind = |error| match error {
        Error::Io { source, .. } => source.kind(),
        other => panic!("{other}"),
    };
    let error = file.save(&bytes).unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::NotFound);

    fs::create_dir(&inner).unwrap();
    file.save(&bytes).unwrap();
    // Locked now, late as it was.
    assert!(StateFile::open(&path, 0).is_err());

    fs::remove_dir_all(&inner).unwrap();
    let error = file.save(&bytes).unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::NotFound);

    fs::write(&inner, "a file").unwrap();
    let error = file.save(&bytes).unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::NotADirectory);
}

#[test]
fn a_save_that_fails_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let (file, _) = open(&path);
    // In the way of the rename.
    fs::create_dir(&path).unwrap();
    let error = file.save(&encode(&state("cri-a"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot replace {}", path.display())
    );
    assert_eq!(names(&folder), ["state", "state.lock"]);
}
