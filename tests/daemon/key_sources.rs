//! Sources of keys that would hold up a daemon: files that are no files or are
//! gone for a while, and commands that do not end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use simulator::{Issuing, demo};

use crate::credentials::{Setup, failures, no_key, of_task, polled_times};
use crate::harness::{binary, eventually};

fn fifo(setup: &Setup) -> PathBuf {
    let path = setup.home.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

fn entry(secret: &Path) -> Value {
    json!({"test": {
        "type": "access_key", "access_key_id": demo::KEY_ID, "access_key_secret_file": secret,
    }})
}

#[test]
fn a_fifo_in_place_of_a_key_file_holds_up_neither_polls_nor_the_end() {
    let setup = Setup::new(Issuing::default());
    let fifo = fifo(&setup);
    let mut daemon = setup.serve(&entry(&fifo), &[]);
    daemon.until(&no_key(), "1");
    let told = daemon.logged("credentials cannot be had");
    let expected = format!(
        "access_key_secret_file {} is a FIFO; it should be a regular file or a symbolic link to one",
        fifo.display()
    );
    assert!(told.contains(&expected), "{told}");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn check_config_warns_of_a_fifo_and_does_not_wait_for_its_writer() {
    let setup = Setup::new(Issuing::default());
    let fifo = fifo(&setup);
    let config = setup.write("config.yaml", &setup.config(&entry(&fifo)));
    let mut command = binary(&["check-config", "--config.file", &config]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = eventually("check-config ends", || child.try_wait().unwrap());
    assert!(status.success());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    let expected = format!(
        "warning: credentials.test.access_key_secret_file: {} is a FIFO; it should be",
        fifo.display()
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_key_whose_file_is_empty_for_a_while_stays_in_use() {
    let setup = Setup::new(Issuing::default());
    let secret = PathBuf::from(setup.write("secret", demo::KEY_SECRET));
    let mut daemon = setup.serve(&entry(&secret), &[]);
    daemon.until(&of_task("up", ""), "1");
    setup.write("secret", "");
    let told = daemon.logged("the key cannot be read");
    assert!(told.contains("credentials=test"), "{told}");
    assert!(told.contains("old_key_in_use=true"), "{told}");
    let expected = format!(
        "access_key_secret_file {} is empty; it should hold the value of access_key_secret",
        secret.display()
    );
    assert!(told.contains(&expected), "{told}");
    polled_times(&daemon, daemon.polls() + 2);
    let page = daemon.page();
    assert_eq!(page[&of_task("up", "")], "1");
    assert_ne!(page[&failures("test")], "0");
    setup.write("secret", demo::KEY_SECRET);
    daemon.logged("the key can be read again");
    assert_eq!(daemon.log().matches("the key cannot be read").count(), 1);
}

/// A profile whose command does not end; it and what it has started leave their
/// ids in a file.
#[cfg(target_os = "linux")]
fn endless(setup: &Setup) -> Value {
    let script = format!(
        "sleep 1000 &\necho $$ $! > {}\nwait\n",
        setup.home.path().join("ids").display()
    );
    let command = format!("sh {}", setup.write("script", &script));
    let profile = json!({"name": "a", "mode": "External", "process_command": command});
    let config = json!({"current": "a", "profiles": [profile]});
    setup.write(".aliyun/config.json", &config.to_string());
    json!({"test": {"type": "profile"}})
}

#[cfg(target_os = "linux")]
fn ids(setup: &Setup) -> Vec<String> {
    let file = setup.home.path().join("ids");
    let text = eventually("the command runs", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.ends_with('\n').then_some(text)
    });
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
fn all_gone(ids: &[String]) {
    assert_eq!(ids.len(), 2);
    eventually("none of it runs", || {
        let ended = |id: &String| {
            let status = std::fs::read_to_string(format!("/proc/{id}/stat"));
            // A zombie waits for nothing but somebody to ask for its end.
            status.is_err() || status.is_ok_and(|status| status.contains(") Z "))
        };
        ids.iter().all(ended).then_some(())
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_that_does_not_end_ends_with_the_daemon() {
    let setup = Setup::new(Issuing::default());
    let mut daemon = setup.serve(&endless(&setup), &[]);
    let ids = ids(&setup);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
    all_gone(&ids);
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_that_does_not_end_ends_with_query_and_check_config() {
    for arguments in [
        &["query", "cri-a", "crast-1"][..],
        &["check-config", "--online"],
    ] {
        let setup = Setup::new(Issuing::default());
        setup.write("config.yaml", &setup.config(&endless(&setup)));
        let mut command = binary(arguments);
        let command = command.current_dir(setup.home.path());
        let command = command.env("HOME", setup.home.path());
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let ids = ids(&setup);
        let pid = child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", "INT", &pid])
            .status();
        assert!(sent.unwrap().success());
        let status = eventually("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1));
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(said.ends_with("ended by SIGINT\n"), "{said}");
        all_gone(&ids);
    }
}
