//! A command that prints a key, as a profile of the vendor's CLI may name one
//! (mode `External`). It is run without a shell, must end by itself, and prints
//! on standard output what that CLI expects:
//!
//! ```json
//! {"mode": "StsToken", "access_key_id": "…", "access_key_secret": "…",
//!  "sts_token": "…", "expiration": "2026-01-02T03:04:05Z"}
//! ```
//!
//! `mode` is `AK` or `StsToken` and may be left out, as may `expiration`; a key
//! without one is taken to last, and the command is run again for later requests.
//! What it writes to standard error is thrown away: it may hold the key. It runs
//! in a process group of its own, so that what it starts can be killed with it.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;
use tokio::process::{self, Child, ChildStdout};
use tokio::time::timeout;

use super::{Credentials, Error, ProvideCredentials, answer, clean};

const PROVIDER: &str = "profile";
/// As the official clients have it.
const TIMEOUT: Duration = Duration::from_secs(60);
const OUTPUT_MAX: usize = 1 << 20;
/// How long output may still come once the command has ended.
const REST: Duration = Duration::from_secs(1);

/// A command and its arguments, quoted as for a shell.
pub(super) struct Command(pub(super) String);

impl ProvideCredentials for Command {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let printed = run(&self.0, TIMEOUT).await;
            printed.map_err(|problem| Error::broken(PROVIDER, problem))
        })
    }
}

/// The key that `command` prints within `limit`; after that it is killed, with
/// all that it has started. `Err` is what went wrong, without its output and its
/// arguments.
async fn run(command: &str, limit: Duration) -> Result<Credentials, String> {
    let words = words(command).ok_or("process_command has a quote that does not end")?;
    let Some((program, arguments)) = words.split_first() else {
        return Err("process_command is empty".to_owned());
    };
    let mut command = process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| format!("process_command cannot be started: {error}"))?;
    // Kills when it is dropped: also where the caller gives up or the daemon stops.
    let group = Group::of(&child);
    let stdout = child.stdout.take().ok_or("process_command has no output")?;
    match timeout(limit, finish(&mut child, stdout)).await {
        Ok(Ok(ended)) if ended.status.success() => {
            if ended.is_closed {
                group.leave();
            }
            read(&ended.output)
        }
        Ok(Ok(ended)) => Err(format!("process_command ended with {}", ended.status)),
        Ok(Err(error)) => Err(format!("process_command: {error}")),
        Err(_) => {
            drop(group);
            // Waits as well, so that it does not stay behind as a zombie.
            let _ = child.kill().await;
            Err(format!(
                "process_command did not end within {limit:?} and was killed"
            ))
        }
    }
}

struct Ended {
    output: Vec<u8>,
    status: ExitStatus,
    /// What it has left running, if anything, does not hold its output open, so
    /// that it was meant to stay.
    is_closed: bool,
}

async fn finish(child: &mut Child, stdout: ChildStdout) -> io::Result<Ended> {
    let mut output = Vec::new();
    let (status, is_closed) = {
        let mut drained = pin!(drain(stdout, &mut output));
        tokio::select! {
            done = &mut drained => {
                done?;
                (child.wait().await?, true)
            }
            status = child.wait() => {
                // What it has printed is in the pipe by now.
                let rest = timeout(REST, drained).await;
                let is_closed = rest.is_ok();
                rest.unwrap_or(Ok(()))?;
                (status?, is_closed)
            }
        }
    };
    Ok(Ended {
        output,
        status,
        is_closed,
    })
}

/// Keeps what it has read when it is dropped.
async fn drain(mut stdout: ChildStdout, output: &mut Vec<u8>) -> io::Result<()> {
    while output.len() < OUTPUT_MAX && stdout.read_buf(output).await? > 0 {}
    Ok(())
}

/// The command and all that it has started, unless that has left the group.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(rustix::process::Pid::from_raw))
    }

    /// Lets it run on.
    fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // Fails where nothing of it is left.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

fn read(output: &[u8]) -> Result<Credentials, String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(output) else {
        return Err("process_command printed no JSON object".to_owned());
    };
    let value =
        |name: &str| text(&fields, name).ok_or(format!("process_command printed no {name}"));
    let usable = |name: &str, value: &str| {
        clean(value)
            .map(str::to_owned)
            .map_err(|wrong| format!("{name} that process_command printed {wrong}"))
    };
    let token = match text(&fields, "mode").unwrap_or_default() {
        "" => text(&fields, "sts_token"),
        "AK" => None,
        "StsToken" => Some(value("sts_token")?),
        _ => {
            return Err("process_command printed a mode other than AK and StsToken".to_owned());
        }
    };
    let ends = |text| {
        answer::millis(text).ok_or(
            "process_command printed an expiration that is no time of the form 2026-01-02T03:04:05Z",
        )
    };
    Ok(Credentials {
        access_key_id: usable("access_key_id", value("access_key_id")?)?,
        access_key_secret: usable("access_key_secret", value("access_key_secret")?)?.into(),
        security_token: match token {
            Some(token) => Some(usable("sts_token", token)?.into()),
            None => None,
        },
        expires_at_ms: text(&fields, "expiration").map(ends).transpose()?,
        provider: PROVIDER,
    })
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Splits at white space outside of quotes. A backslash takes the next character
/// as it is, except within single quotes. `None` where a quote does not end.
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().push(characters.next()?),
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        for (command, expected) in [
            ("", &[][..]),
            ("  a  b\tc ", &["a", "b", "c"]),
            (
                "a 'b c' \"d 'e'\" f''g ''",
                &["a", "b c", "d 'e'", "fg", ""],
            ),
            (r#"a\ b "c\"d" 'e\f'"#, &["a b", "c\"d", "e\\f"]),
        ] {
            assert_eq!(words(command).expect("whole"), expected, "{command}");
        }
        for command in ["a 'b", "\"", "a\\"] {
            assert_eq!(words(command), None, "{command}");
        }
    }

    #[test]
    fn the_output_is_that_of_the_vendor_s_cli() {
        let key = read(
            br#"{"mode":"StsToken","access_key_id":"i","access_key_secret":"s","sts_token":"t","expiration":"2026-01-02T03:04:05Z"}"#,
        )
        .expect("a key");
        assert_eq!(key.security_token.expect("a token").expose_secret(), "t");
        assert_eq!(key.expires_at_ms, Some(1_767_323_045_000));
        let key = read(
            br#"{"mode":"AK","access_key_id":"i","access_key_secret":"s","sts_token":"","expiration":""}"#,
        )
        .expect("a key");
        assert!(key.security_token.is_none() && key.expires_at_ms.is_none());
        for (output, expected) in [
            ("EXAMPLE", "no JSON object"),
            (
                r#"{"access_key_id":"EXAMPLE"}"#,
                "printed no access_key_secret",
            ),
            (
                r#"{"mode":"StsToken","access_key_id":"i","access_key_secret":"EXAMPLE"}"#,
                "printed no sts_token",
            ),
            (r#"{"mode":"EXAMPLE"}"#, "other than AK and StsToken"),
            (
                r#"{"access_key_id":"i","access_key_secret":"s","expiration":"EXAMPLE"}"#,
                "an expiration that",
            ),
            (
                r#"{"access_key_id":"i","access_key_secret":"EX AMPLE"}"#,
                "holds white space",
            ),
        ] {
            let told = read(output.as_bytes()).expect_err("no key");
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("AMPLE"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_command_is_run_and_its_failure_told_without_its_output() {
        let run = |command: &'static str| run(command, Duration::from_secs(30));
        let key = run(r#"echo '{"access_key_id":"i","access_key_secret":"s"}'"#)
            .await
            .expect("a key");
        assert_eq!(key.access_key_secret.expose_secret(), "s");
        let told = run("sh -c 'echo hush; echo hush >&2; exit 3'")
            .await
            .expect_err("a failure");
        assert_eq!(told, "process_command ended with exit status: 3");
        let told = run("/nonexistent/command hush")
            .await
            .expect_err("a failure");
        assert!(
            told.starts_with("process_command cannot be started"),
            "{told}"
        );
        assert!(!told.contains("hush"), "{told}");
        assert!(run(" ").await.is_err());
    }

    /// A script, and the file in which it leaves the ids of processes.
    #[cfg(target_os = "linux")]
    struct Script {
        folder: tempfile::TempDir,
        command: String,
    }

    #[cfg(target_os = "linux")]
    impl Script {
        /// Runs in its folder.
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("script");
            let text = format!("cd {}\n{text}\n", folder.path().display());
            std::fs::write(&file, text).expect("written");
            Self {
                command: format!("sh {}", file.display()),
                folder,
            }
        }

        /// The ids, once they are there.
        async fn ids(&self) -> Vec<String> {
            let file = self.folder.path().join("ids");
            let started = Instant::now();
            loop {
                assert!(started.elapsed() < Duration::from_secs(60), "it never ran");
                if let Ok(text) = std::fs::read_to_string(&file)
                    && text.ends_with('\n')
                {
                    return text.split_whitespace().map(str::to_owned).collect();
                }
                tokio::task::yield_now().await;
            }
        }

        async fn all_gone(&self) {
            let started = Instant::now();
            let ids = self.ids().await;
            assert!(!ids.is_empty());
            while ids.iter().any(|id| is_running(id)) {
                assert!(started.elapsed() < Duration::from_secs(60), "{ids:?}");
                tokio::task::yield_now().await;
            }
        }
    }

    /// One that has ended may stay as a zombie, if nobody asks for its end.
    #[cfg(target_os = "linux")]
    fn is_running(id: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = status.rsplit(") ").next().expect("never nothing");
        !state.is_empty() && !state.starts_with(['Z', 'X'])
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_command_that_takes_too_long_is_killed_with_all_that_it_has_started() {
        let script = Script::new("sleep 1000 &\necho $$ $! > ids\nwait");
        let started = Instant::now();
        let told = run(&script.command, Duration::from_secs(2))
            .await
            .expect_err("a failure");
        assert_eq!(told, "process_command did not end within 2s and was killed");
        assert!(started.elapsed() < Duration::from_secs(60));
        script.all_gone().await;
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_command_that_nobody_waits_for_is_killed_with_all_that_it_has_started() {
        let script = Script::new("sleep 1000 &\necho $$ $! > ids\nwait");
        let command = script.command.clone();
        let running = tokio::spawn(async move { run(&command, Duration::from_secs(600)).await });
        assert_eq!(script.ids().await.len(), 2);
        running.abort();
        script.all_gone().await;
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_holds_the_output_open_is_not_waited_for_and_killed() {
        let script = Script::new(
            r#"sleep 1000 &
            echo $! > ids
            echo '{"access_key_id":"i","access_key_secret":"s"}'"#,
        );
        let key = run(&script.command, Duration::from_secs(600)).await;
        assert_eq!(key.expect("a key").access_key_id, "i");
        script.all_gone().await;
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_a_command_has_detached_lives_on() {
        let script = Script::new(
            r#"sleep 1000 > /dev/null &
            echo $! > ids
            echo '{"access_key_id":"i","access_key_secret":"s"}'"#,
        );
        let key = run(&script.command, Duration::from_secs(600)).await;
        assert_eq!(key.expect("a key").access_key_id, "i");
        let ids = script.ids().await;
        assert!(is_running(&ids[0]));
        let killed = std::process::Command::new("kill").args(ids).status();
        assert!(killed.expect("kill").success());
        script.all_gone().await;
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), output in any::<Vec<u8>>()) {
            let _ = words(&text);
            let _ = read(&output);
        }
    }
}
