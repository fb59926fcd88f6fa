//! Files with keys that are no files, or are gone for a while.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use aliyun_acr_exporter::simulator::{Issuing, demo};
use serde_json::{Value, json};

use crate::credentials::{Setup, no_key};
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
