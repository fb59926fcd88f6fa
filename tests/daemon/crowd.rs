//! A crowd that sends its requests and reads its pages as slowly as it can, while
//! a real Prometheus scrapes; and an end with much in flight.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use simulator::world::load_task_id;
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Daemon, PATIENCE, eventually, real_part, unchunked};
use crate::prometheus::Prometheus;

const SLOW: usize = 200;

/// Of a plain page of some 6 MB, which neither the system nor the server buffers.
const TASKS: usize = 150;
const ROWS: usize = 90;

fn cloud() -> Running {
    Simulator::start(SimulatorConfig {
        world: World::load(TASKS, ROWS, 1_700_000_000_000),
        ..SimulatorConfig::default()
    })
    .unwrap()
}

fn daemon(cloud: &Running) -> Daemon {
    let tasks: Vec<_> = (0..TASKS).map(load_task_id).collect();
    let config = json!({
        "poll": { "interval": "1h", "finished_interval": "1h" },
        "api": { "requests_per_second": 1000, "burst": 1000, "page_size": 100 },
        "credentials": { "test": {
            "type": "access_key",
            "access_key_id": demo::KEY_ID,
            "access_key_secret": demo::KEY_SECRET,
        } },
        "instances": [{
            "id": World::LOAD_INSTANCE, "region": "cn-hangzhou", "endpoint": cloud.url(),
            "credentials": "test", "tasks": tasks,
        }],
    });
    let daemon = Daemon::serve(&config.to_string());
    daemon.ready();
    daemon
}

/// Connections that do something each second, and are made anew when they end.
struct Crowd {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Each sends `start`, then `goes_on` each second until that tells that it is over.
    fn start(
        address: SocketAddr,
        start: &'static str,
        goes_on: fn(&mut TcpStream) -> bool,
    ) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || Self::run(address, start, goes_on, &stopped));
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn run(
        address: SocketAddr,
        start: &str,
        goes_on: fn(&mut TcpStream) -> bool,
        stopped: &Receiver<()>,
    ) {
        let connect = || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream.write_all(start.as_bytes()).unwrap();
            stream
        };
        let mut crowd: Vec<_> = (0..SLOW).map(|_| connect()).collect();
        let second = Duration::from_secs(1);
        while stopped.recv_timeout(second) == Err(RecvTimeoutError::Timeout) {
            for stream in &mut crowd {
                if !goes_on(stream) {
                    *stream = connect();
                }
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// One byte more of a head that never ends.
fn write_byte(stream: &mut TcpStream) -> bool {
    stream.write_all(b"a").is_ok()
}

/// One byte more of an answer.
fn read_byte(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 1,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[test]
fn prometheus_is_answered_whatever_the_crowd_does() {
    let Some(program) = real_part("prometheus") else {
        return;
    };
    let cloud = cloud();
    let daemon = daemon(&cloud);
    let _loris = Crowd::start(
        daemon.address,
        "GET /metrics HTTP/1.1\r\nHost: exporter\r\nX-Slow: ",
        write_byte,
    );
    let _readers = Crowd::start(
        daemon.address,
        "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n",
        read_byte,
    );
    let refused = "aliyun_acr_exporter_http_requests_total{code=\"503\",path=\"/metrics\"}";
    eventually("slow readers have all places that they can get", || {
        let answer = daemon.get("/metrics?name[]=aliyun_acr_exporter_http_requests_total");
        // Plain as well, so that it is one of the crowd until somebody makes room.
        (answer.status == 200 && answer.body.contains(refused)).then_some(())
    });

    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping_by(
        &program,
        folder.path(),
        daemon.address,
        "  scrape_timeout: 1s\n",
    );
    let number = |query: &str| -> f64 {
        let values = prometheus.query(query);
        values.first().map_or(0.0, |value| value.parse().unwrap())
    };
    eventually("15 scrapes", || {
        (number("count_over_time(up[5m])") >= 15.0).then_some(())
    });
    assert_eq!(prometheus.query("min_over_time(up[5m])"), ["1"]);
    let slowest = number("max_over_time(scrape_duration_seconds[5m])");
    assert!(slowest > 0.0 && slowest < 1.0, "{slowest} s");
    // Of tasks and artifacts: it got all of the page.
    let series = (TASKS * (19 + 2 * ROWS)).to_string();
    assert_eq!(
        prometheus.query("count({__name__=~\"aliyun_acr_subscription_task.+\"} or {__name__=~\"aliyun_acr_subscription_artifact.+\"})"),
        [series]
    );
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
}

/// Reads the whole answer in small steps, for two seconds and more.
fn read_slowly(stream: &mut TcpStream, got: &mut Vec<u8>) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut piece).unwrap();
        if read == 0 {
            return;
        }
        got.extend_from_slice(&piece[..read]);
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn what_is_in_flight_is_answered_before_the_end() {
    let cloud = cloud();
    let mut daemon = daemon(&cloud);
    let connect = || {
        let stream = TcpStream::connect(daemon.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let idle: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect();
            let request = b"GET /-/healthy HTTP/1.1\r\nHost: exporter\r\n\r\n";
            stream.write_all(request).unwrap();
            let read = stream.read(&mut [0; 1024]).unwrap();
            assert!(read > 0, "it is kept");
            stream
        })
        .collect();
    let busy: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect();
            let request = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n";
            stream.write_all(request).unwrap();
            // The first bytes of the answer: it is in flight.
            let mut got = vec![0; 64];
            stream.read_exact(&mut got).unwrap();
            (stream, got)
        })
        .collect();

    let began = Instant::now();
    daemon.signal("TERM");
    let readers: Vec<_> = busy
        .into_iter()
        .map(|(mut stream, mut got)| {
            std::thread::spawn(move || {
                read_slowly(&mut stream, &mut got);
                String::from_utf8(got).unwrap()
            })
        })
        .collect();
    for reader in readers {
        let answer = reader.join().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(body.ends_with("\r\n0\r\n\r\n"), "it breaks off");
        let page = unchunked(head, body);
        let artifacts = page.matches("\naliyun_acr_subscription_artifact_status{");
        assert_eq!(artifacts.count(), TASKS * ROWS);
    }
    assert_eq!(daemon.ended().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(idle);
}
