//! A whole server over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use exporter_web::{Error, Handler, Limits, Server, WebSource};
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

// By libxcrypt: "open sesame".
const HASH: &str = "$2b$04$qhQRTwbig3OYIK9dUsm5DeQgp0vmt0/j/mm3hA1GPT6ANBEQboqSS";
// anna:open sesame
const ANNA: &str = "Authorization: Basic YW5uYTpvcGVuIHNlc2FtZQ==\r\n";

#[derive(Default)]
struct Exporter {
    observed: Mutex<Vec<(String, u16)>>,
}

impl Handler for Exporter {
    type Body = Full<Bytes>;

    async fn handle(&self, request: &Parts) -> Response<Self::Body> {
        Response::new(request.uri.path().to_owned().into())
    }

    fn is_open(&self, path: &str) -> bool {
        path == "/-/healthy"
    }

    fn is_scrape(&self, request: &Parts) -> bool {
        request.uri.path() == "/metrics"
    }

    fn observe(&self, request: &Parts, status: StatusCode) {
        let path = request.uri.path().to_owned();
        self.observed.lock().unwrap().push((path, status.as_u16()));
    }
}

fn users() -> String {
    format!(
        "basic_auth_users: {{ anna: '{HASH}' }}
http_server_config: {{ headers: {{ X-Frame-Options: deny }} }}
"
    )
}

async fn serve(
    web: Arc<WebSource>,
) -> (
    std::net::SocketAddr,
    Arc<Exporter>,
    CancellationToken,
    JoinHandle<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        web,
        limits: Limits::default(),
        max_requests: 1,
        drain: Duration::from_secs(60),
    };
    let exporter = Arc::new(Exporter::default());
    let stop = CancellationToken::new();
    let serving = server.serve(vec![listener], Arc::clone(&exporter), stop.clone());
    (address, exporter, stop, tokio::spawn(serving))
}

async fn get(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn the_file_decides_who_gets_a_response_and_each_is_observed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    fs::write(&file, users()).unwrap();
    let web = Arc::new(WebSource::open(&file).unwrap());
    let (address, exporter, stop, serving) = serve(Arc::clone(&web)).await;

    let response = get(address, "/metrics", ANNA).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for header in [
        "cache-control: no-store",
        "content-length: 8",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert_eq!(body, "/metrics");
    let refusal = get(address, "/metrics", "").await;
    assert!(refusal.starts_with("HTTP/1.1 401 "), "{refusal}");
    assert!(get(address, "/-/healthy", "").await.contains(" 200 "));

    let limited = users() + "rate_limit: { interval: 1h, burst: 1 }\n";
    fs::write(&file, limited).unwrap();
    assert!(get(address, "/a", ANNA).await.contains(" 200 "));
    assert!(get(address, "/b", ANNA).await.contains(" 429 "));

    let error = {
        fs::write(&file, "nonsense").unwrap();
        web.reload().await.unwrap_err()
    };
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(
        error.to_string(),
        format!("{}:1:1: must be a mapping, not a text", file.display())
    );
    assert!(get(address, "/c", ANNA).await.contains(" 429 "));

    let observed = exporter.observed.lock().unwrap().clone();
    let observed: Vec<_> = observed
        .iter()
        .map(|(path, status)| (path.as_str(), *status))
        .collect();
    assert_eq!(
        observed,
        [
            ("/metrics", 200),
            ("/metrics", 401),
            ("/-/healthy", 200),
            ("/a", 200),
            ("/b", 429),
            ("/c", 429),
        ]
    );
    stop.cancel();
    serving.await.unwrap();
}
