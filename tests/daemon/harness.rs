//! Runs the real binary and looks at it from outside: its page, its log, its
//! exit code. Everything waits for a condition, nothing for a time.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with an environment of its own.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aliyun-acr-exporter"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// What a command that ends has said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks `probe` until it answers.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// All samples together whose name and labels begin like this.
pub(crate) fn sum(page: &BTreeMap<String, String>, start: &str) -> u32 {
    let samples = page.iter().filter(|(name, _)| name.starts_with(start));
    samples
        .map(|(_, value)| value.parse::<u32>().unwrap())
        .sum()
}

/// A daemon that runs until the test ends.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Reads the log to its end.
    reader: Option<std::thread::JoinHandle<()>>,
    /// Lives as long as the daemon does.
    folder: tempfile::TempDir,
}

impl Daemon {
    /// `serve` with this configuration on a free port.
    pub(crate) fn serve(config: &str) -> Self {
        Self::serve_with(config, &[], &[])
    }

    /// The same with more arguments and an environment.
    pub(crate) fn serve_with(
        config: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = binary(&["--web.listen-address=127.0.0.1:0"]);
        command.arg("--config.file").arg(&file).args(arguments);
        command.envs(environment.iter().copied());
        Self::start(command, folder)
    }

    /// Any command that serves.
    pub(crate) fn start(command: Command, folder: tempfile::TempDir) -> Self {
        let mut daemon = Self::spawn(command, folder);
        let line = daemon.logged("listening");
        daemon.address = address_in(&line);
        daemon
    }

    /// The same, without waiting for it to listen: its address is not known.
    pub(crate) fn spawn(mut command: Command, folder: tempfile::TempDir) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            reader: Some(reader),
            folder,
        }
    }

    /// Puts another configuration in the place of the one it was started with.
    pub(crate) fn rewrite(&self, config: &str) {
        let file = self.folder.path().join("config.yaml");
        std::fs::write(file, config).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line that contains `text` and answers it.
    pub(crate) fn logged(&mut self, text: &str) -> String {
        let child = &mut self.child;
        let log = &self.log;
        let mut ended = None;
        eventually(&format!("a log line with {text:?}"), || {
            let log = log.lock().unwrap().clone();
            let line = log.lines().find(|line| line.contains(text));
            // What was written just before the end may not have been read yet.
            assert!(
                line.is_some() || ended.is_none(),
                "ended with {ended:?}:\n{log}"
            );
            ended = child.try_wait().unwrap();
            line.map(str::to_owned)
        })
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path)
    }

    /// The samples of the page by name and labels, as text.
    pub(crate) fn page(&self) -> BTreeMap<String, String> {
        // The first page that has a new counter shows 0, the next what was counted.
        self.get("/metrics");
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        samples(&answer.body)
    }

    /// Waits until every task was tried.
    pub(crate) fn ready(&self) {
        eventually("the daemon is ready", || {
            (self.get("/-/ready").status == 200).then_some(())
        });
    }

    /// Polls that have finished, of all instances.
    pub(crate) fn polls(&self) -> u32 {
        sum(&self.page(), "aliyun_acr_exporter_polls_total{")
    }

    /// Waits for a sample to have a value and answers the whole page.
    pub(crate) fn until(&self, sample: &str, value: &str) -> BTreeMap<String, String> {
        eventually(&format!("{sample} {value}"), || {
            let page = self.page();
            (page.get(sample).is_some_and(|now| now == value)).then_some(page)
        })
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = eventually("the daemon ends", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

/// The address that a log line tells, in either format.
pub(crate) fn address_in(line: &str) -> SocketAddr {
    let told = line.rsplit("address").next().unwrap();
    let address = told.trim_matches(|c: char| "=:\"}".contains(c));
    address.parse().unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("log of the daemon:\n{}", self.log()));
        }
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: unchunked(head, body),
    }
}

/// Longer answers come in chunks.
pub(crate) fn unchunked(head: &str, body: &str) -> String {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Sample lines, split at the last space: neither a value nor a name holds one.
pub(crate) fn samples(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let mut samples = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let before = samples.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} stands on the page twice");
    }
    samples
}

/// A part beyond Rust: `None`, said plainly, where it is not installed, and a
/// failure where the tests are told that everything is.
#[expect(clippy::disallowed_methods, reason = "tests look for programs in PATH")]
pub(crate) fn real_part(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.exists());
    if found.is_none() {
        left_out(name);
    }
    found
}

/// The same of Prometheus 3, which stands beside the system's.
pub(crate) fn real_part_of_prometheus3(name: &str) -> Option<PathBuf> {
    let file = project().join("target/prometheus3/usr/bin").join(name);
    let found = file.exists().then_some(file);
    if found.is_none() {
        left_out(&format!("{name} of Prometheus 3"));
    }
    found
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment"
)]
pub(crate) fn left_out(name: &str) {
    assert!(
        std::env::var_os("REQUIRE_REAL_PARTS").is_none(),
        "{name} is not installed"
    );
    say(&format!(
        "left out: {name} is not installed; scripts/test.sh installs it"
    ));
}

/// Past the capture of the test runner, so that it is seen though the test passes.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
