//! A server that has run out of file descriptors says so and goes on.
//!
//! The limit concerns a whole process, so the server runs in one of its own:
//! this program again, started under a small `ulimit -n`.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use aliyun_acr_exporter::server::{Settings, serve};
use aliyun_acr_exporter::store::{Limits, Store};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const NAME: &str = "running_out_of_descriptors_is_not_the_end";
const SERVER: &str = "SERVE_WITH_FEW_DESCRIPTORS";
const DESCRIPTORS: usize = 32;

/// Far beyond what anything here needs.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "how a test tells itself which part to play"
)]
async fn running_out_of_descriptors_is_not_the_end() {
    if std::env::var_os(SERVER).is_some() {
        return serve_until_input_ends().await;
    }
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(DESCRIPTORS.to_string())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(SERVER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = line_with(&mut output, "listening on ").await;
    let address = address.split("listening on ").nth(1).unwrap().to_owned();

    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    line_with(&mut output, "cannot accept connections").await;
    drop(crowd);

    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /-/healthy HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    drop(child.stdin.take());
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

async fn line_with(output: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> String {
    let search = async {
        while let Some(line) = output
            .next_line()
            .await
            .expect("the server's output is text")
        {
            if line.contains(wanted) {
                return line;
            }
        }
        panic!("the server ended without saying {wanted:?}");
    };
    timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("the server does not say {wanted:?}"))
}

async fn serve_until_input_ends() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stdout)
        .init();
    let limits = Limits {
        series: 1_000,
        artifacts_per_task: 10,
        stale_after: Duration::from_secs(300),
    };
    let settings = Settings {
        store: Arc::new(Store::new(limits, [])),
        own: Arc::new(Own::new(Build {
            version: "",
            revision: "",
            rustversion: "",
            target: "",
        })),
        clock: Clock::fixed(0),
        ready: Arc::new(AtomicBool::new(true)),
        telemetry_path: "/metrics".into(),
        config: watch::channel("".into()).1,
        web: Arc::default(),
        max_requests: 40,
        reload: None,
        drain: Duration::ZERO,
    };
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    tracing::info!("listening on {address}");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(vec![listener], settings, stop.clone()));
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()))
        .await
        .expect("reading does not panic")
        .expect("the input is a pipe");
    stop.cancel();
    serving.await.expect("the server does not panic");
}
