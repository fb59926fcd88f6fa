//! The web configuration over real sockets: who gets an answer, over TLS too, and
//! what a changed file changes.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use exporter_web::{Limits, WebSource};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, Running, entry, start, start_within};

// By libxcrypt: "open sesame" and "s3cret".
const OPEN_SESAME: &str = "$2b$04$qhQRTwbig3OYIK9dUsm5DeQgp0vmt0/j/mm3hA1GPT6ANBEQboqSS";
const S3CRET: &str = "$2b$05$dyHv.touSbZfA/zsWzR.ceLj6GLCeOVV/tqz5AMoQvKxKULChdvu.";
// anna:open sesame, anna:s3cret
const ANNA: &str = "Authorization: Basic YW5uYTpvcGVuIHNlc2FtZQ==\r\n";
const ANNA_NOW: &str = "Authorization: Basic YW5uYTpzM2NyZXQ=\r\n";

/// A certificate with its key.
struct Identity {
    certificate: String,
    key: String,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Identity {
        self.issue(&CertificateParams::new(["localhost".to_owned()]).unwrap())
    }

    fn client(&self, names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }
}

/// A server's folder, and the authority that has signed its certificate.
struct Site {
    folder: TempDir,
    authority: Authority,
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new("servers"),
        };
        site.certify(&site.authority.server());
        site
    }

    fn certify(&self, server: &Identity) {
        self.write("server.crt", &server.certificate);
        self.write("server.key", &server.key);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Opens `text` as the web configuration.
    fn open(&self, text: &str) -> Arc<WebSource> {
        self.write("web.yaml", text);
        let path = self.folder.path().join("web.yaml");
        Arc::new(WebSource::open(&path).unwrap_or_else(|error| panic!("{error}")))
    }

    fn serve(&self, text: &str) -> Running {
        self.serve_within(Limits::default(), 1, text)
    }

    fn serve_within(&self, limits: Limits, artifacts: u32, text: &str) -> Running {
        let web = self.open(text);
        let entries = vec![entry("crast-1", artifacts)];
        start_within(limits, entries, |settings| settings.web = web)
    }

    /// A client that trusts the server's authority.
    fn client(&self, identity: Option<&Identity>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

async fn plain(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

async fn tls(server: &Running, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::clone(client));
    let connecting = connector.connect(name, plain(server).await);
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

/// One request; the answer's head and body.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> (String, String) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    timeout(PATIENCE, reading).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// The status of one request on a connection that stays.
async fn status_of(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> u16 {
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: exporter\r\n{ANNA}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap();
        head.push(byte);
    }
    status(&String::from_utf8(head).unwrap())
}

fn status(head: &str) -> u16 {
    head[9..12].parse().unwrap()
}

async fn is_over(mut stream: impl AsyncRead + Unpin) -> bool {
    let mut rest = Vec::new();
    // A reset or an end without goodbye is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("the connection ends");
    true
}

#[tokio::test]
async fn a_password_guards_all_but_health() {
    let site = Site::new();
    let server = site.serve(&format!("basic_auth_users:\n  anna: {OPEN_SESAME}\n"));
    for (path, authorized) in [
        ("/metrics", 200),
        ("/", 200),
        ("/-/reload", 405),
        ("/nothing", 404),
    ] {
        let (head, _) = ask(plain(&server).await, path, ANNA).await;
        assert_eq!(status(&head), authorized, "{path}");
        for headers in ["", ANNA_NOW] {
            let (head, body) = ask(plain(&server).await, path, headers).await;
            assert_eq!(status(&head), 401, "{path}");
            assert!(head.contains("\r\nwww-authenticate: basic"), "{head}");
            assert_eq!(body, "User and password are needed.\n");
        }
    }
    for path in ["/-/healthy", "/healthz", "/-/ready", "/readyz"] {
        for headers in ["", ANNA_NOW] {
            let (head, _) = ask(plain(&server).await, path, headers).await;
            assert_eq!(status(&head), 200, "{path}");
        }
    }
    // The first page that has a new counter shows 0.
    ask(plain(&server).await, "/metrics", ANNA).await;
    let (_, page) = ask(plain(&server).await, "/metrics", ANNA).await;
    let counted: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("aliyun_acr_exporter_http_requests_total"))
        .collect();
    assert_eq!(
        counted,
        [
            r#"{code="200",path="/"} 1"#,
            r#"{code="200",path="/-/healthy"} 4"#,
            r#"{code="200",path="/-/ready"} 4"#,
            r#"{code="200",path="/metrics"} 2"#,
            r#"{code="401",path="/"} 2"#,
            r#"{code="401",path="/-/reload"} 2"#,
            r#"{code="401",path="/metrics"} 2"#,
            r#"{code="401",path="other"} 2"#,
            r#"{code="404",path="other"} 1"#,
            r#"{code="405",path="/-/reload"} 1"#,
        ]
    );
    server.stopped().await;
}

#[tokio::test]
async fn headers_of_the_file_are_on_every_answer_and_win() {
    let site = Site::new();
    let server = site.serve(&format!(
        "http_server_config:
  headers:
    Content-Security-Policy: frame-ancestors 'none'
    X-Frame-Options: sameorigin
    Strict-Transport-Security: max-age=1
basic_auth_users:
  anna: {OPEN_SESAME}
"
    ));
    for (path, headers, code) in [
        ("/", ANNA, 200),
        ("/", "", 401),
        ("/healthz", "", 200),
        ("/nothing", ANNA, 404),
    ] {
        let (head, _) = ask(plain(&server).await, path, headers).await;
        assert_eq!(status(&head), code);
        for header in [
            "content-security-policy: frame-ancestors 'none'",
            "x-frame-options: sameorigin",
            "strict-transport-security: max-age=1",
        ] {
            let name = header.split(':').next().unwrap();
            assert_eq!(head.matches(name).count(), 1, "{head}");
            assert!(head.contains(header), "{head}");
        }
    }
    server.stopped().await;
}

#[tokio::test]
async fn the_rate_limit_comes_first_and_spares_health() {
    let site = Site::new();
    let text = format!(
        "basic_auth_users:\n  anna: {OPEN_SESAME}\nrate_limit: {{ interval: 1h, burst: 2 }}\n"
    );
    let server = site.serve(&text);
    // Whoever has no password uses the limit up as well.
    assert_eq!(
        status(&ask(plain(&server).await, "/metrics", "").await.0),
        401
    );
    assert_eq!(
        status(&ask(plain(&server).await, "/metrics", ANNA).await.0),
        200
    );
    for headers in ["", ANNA] {
        let (head, _) = ask(plain(&server).await, "/metrics", headers).await;
        assert_eq!(status(&head), 429);
        assert!(head.contains("\r\nretry-after: 3600"), "{head}");
    }
    assert_eq!(
        status(&ask(plain(&server).await, "/readyz", "").await.0),
        200
    );
    // The limit is not had anew by a change of something else.
    site.write("web.yaml", &text.replace(OPEN_SESAME, S3CRET));
    assert_eq!(status(&ask(plain(&server).await, "/", ANNA).await.0), 429);
    site.write("web.yaml", &text.replace("burst: 2", "burst: 3"));
    assert_eq!(status(&ask(plain(&server).await, "/", ANNA).await.0), 200);
    server.stopped().await;
}

#[tokio::test]
async fn client_certificates_are_judged_for_each_path() {
    let site = Site::new();
    let trusted = Authority::new("clients");
    let dns = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let uri = SanType::URI("spiffe://cluster/prometheus".try_into().unwrap());
    let address = SanType::IpAddress("10.0.0.7".parse().unwrap());
    let mail = SanType::Rfc822Name("prometheus@example.org".try_into().unwrap());
    let mut expired = CertificateParams::new(Vec::new()).unwrap();
    expired.subject_alt_names = dns("prometheus");
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut server_only = CertificateParams::new(Vec::new()).unwrap();
    server_only.subject_alt_names = dns("prometheus");
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = dns("prometheus");
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    };
    let clients = [
        ("none", None),
        ("named", Some(trusted.client(dns("prometheus")))),
        ("uri", Some(trusted.client(vec![uri]))),
        ("address", Some(trusted.client(vec![address]))),
        ("mail", Some(trusted.client(vec![mail]))),
        ("other name", Some(trusted.client(dns("grafana")))),
        ("no name", Some(trusted.client(Vec::new()))),
        (
            "stranger",
            Some(Authority::new("clients").client(dns("prometheus"))),
        ),
        ("expired", Some(trusted.issue(&expired))),
        ("a server's", Some(trusted.issue(&server_only))),
        ("listed itself", Some(own)),
    ];
    let listed = &clients[10].1.as_ref().unwrap().certificate;
    site.write("ca.crt", &format!("{}{listed}", trusted.0.pem()));
    let sans = "\n  client_allowed_sans: [prometheus, 10.0.0.7, prometheus@example.org, \
                \"spiffe://cluster/prometheus\"]";
    let verified = "RequireAndVerifyClientCert\n  client_ca_file: ca.crt";
    let verified_and_named = format!("{verified}{sans}");
    // Clients that are refused, and 403 is what they get.
    let bad = ["stranger", "expired", "a server's"];
    let cases: [(&str, Vec<&str>); 6] = [
        ("NoClientCert", vec![]),
        ("RequestClientCert", vec![]),
        ("RequireAnyClientCert", vec!["none"]),
        (
            "VerifyClientCertIfGiven\n  client_ca_file: ca.crt",
            bad.to_vec(),
        ),
        (verified, [&["none"], &bad[..]].concat()),
        (
            &verified_and_named,
            [&["none", "other name", "no name"], &bad[..]].concat(),
        ),
    ];
    for (auth, refused) in cases {
        let server = site.serve(&format!("{TLS}  client_auth_type: {auth}\n"));
        for (name, identity) in &clients {
            let client = site.client(identity.as_ref(), &[]);
            let (head, body) = ask(tls(&server, &client).await, "/metrics", "").await;
            let expected = if refused.contains(name) { 403 } else { 200 };
            assert_eq!(status(&head), expected, "{auth}: {name}: {body}");
            let (head, _) = ask(tls(&server, &client).await, "/healthz", "").await;
            assert_eq!(status(&head), 200, "{auth}: {name}");
        }
        server.stopped().await;
    }
}

#[tokio::test]
async fn a_certificate_is_judged_anew_on_an_open_connection() {
    let site = Site::new();
    let clients = Authority::new("clients");
    site.write("ca.crt", &clients.0.pem());
    let text = |allowed: &str| {
        format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [{allowed}]
"
        )
    };
    let server = site.serve(&text("prometheus"));
    let identity = clients.client(vec![SanType::DnsName("prometheus".try_into().unwrap())]);
    let client = site.client(Some(&identity), &[]);
    let mut kept = tls(&server, &client).await;
    assert_eq!(status_of(&mut kept, "/metrics").await, 200);
    site.write("web.yaml", &text("grafana"));
    assert_eq!(status_of(&mut kept, "/metrics").await, 403);
    assert_eq!(status_of(&mut kept, "/healthz").await, 200);
    site.write("web.yaml", &text("prometheus"));
    assert_eq!(status_of(&mut kept, "/metrics").await, 200);
    site.write("ca.crt", &Authority::new("clients").0.pem());
    assert_eq!(status_of(&mut kept, "/metrics").await, 403);
    server.stopped().await;
}

#[tokio::test]
async fn a_resumed_session_keeps_its_certificate() {
    let site = Site::new();
    let clients = Authority::new("clients");
    site.write("ca.crt", &clients.0.pem());
    let server = site.serve(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
    ));
    let client = site.client(Some(&clients.client(Vec::new())), &[]);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let stream = tls(&server, &client).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        assert_eq!(status(&ask(stream, "/metrics", "").await.0), 200);
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_changed_file_is_in_force_for_the_next_request() {
    let site = Site::new();
    let text = |hash: &str| format!("basic_auth_users:\n  anna: {hash}\n");
    let server = site.serve(&text(OPEN_SESAME));
    let mut kept = plain(&server).await;
    // Of the same length, and faster than a file system's clock ticks.
    for _ in 0..20 {
        assert_eq!(status_of(&mut kept, "/metrics").await, 200);
        site.write("web.yaml", &text(S3CRET));
        assert_eq!(status_of(&mut kept, "/metrics").await, 401);
        let (head, _) = ask(plain(&server).await, "/metrics", ANNA_NOW).await;
        assert_eq!(status(&head), 200);
        site.write("web.yaml", &text(OPEN_SESAME));
    }
    server.stopped().await;
}

#[tokio::test]
async fn the_next_connection_sees_a_new_certificate() {
    let site = Site::new();
    let server = site.serve(TLS);
    let client = site.client(None, &[]);
    let mut kept = tls(&server, &client).await;
    let shown = |stream: &TlsStream<TcpStream>| {
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].clone()
    };
    let first = shown(&kept);
    let renewed = site.authority.server();
    // For a moment the certificate and the key do not fit.
    site.write("server.crt", &renewed.certificate);
    assert_eq!(shown(&tls(&server, &client).await), first);
    site.write("server.key", &renewed.key);
    let second = shown(&tls(&server, &client).await);
    assert_eq!(
        second,
        CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap()
    );
    assert_eq!(status_of(&mut kept, "/metrics").await, 200);

    // As a secret of Kubernetes is replaced: another file under the same name.
    let renewed = site.authority.server();
    site.write("new.crt", &renewed.certificate);
    site.write("new.key", &renewed.key);
    let path = |name: &str| site.folder.path().join(name);
    fs::rename(path("new.crt"), path("server.crt")).unwrap();
    fs::rename(path("new.key"), path("server.key")).unwrap();
    assert_ne!(shown(&tls(&server, &client).await), second);
    server.stopped().await;
}

#[tokio::test]
async fn what_is_not_valid_changes_nothing() {
    let site = Site::new();
    let text = format!("{TLS}basic_auth_users:\n  anna: {OPEN_SESAME}\n");
    let web = site.open(&text);
    let server = start(Vec::new(), |settings| settings.web = Arc::clone(&web));
    let client = site.client(None, &[]);
    let broken = [
        text.replace("cert_file", "cert_fileX"),
        text.replace(OPEN_SESAME, "open sesame"),
        text.replace("server.crt", "nowhere.crt"),
        text.replace("server.key", "server.crt"),
        "[".to_owned(),
    ];
    for text in broken {
        site.write("web.yaml", &text);
        let (head, _) = ask(tls(&server, &client).await, "/metrics", ANNA).await;
        assert_eq!(status(&head), 200, "{text}");
        let error = web.reload().await.unwrap_err().to_string();
        assert!(error.contains("web.yaml:"), "{error}");
        assert!(!error.contains("open sesame"), "{error}");
    }
    fs::remove_file(site.folder.path().join("web.yaml")).unwrap();
    assert_eq!(
        status(&ask(tls(&server, &client).await, "/", ANNA).await.0),
        200
    );
    web.reload().await.unwrap_err();
    assert_eq!(
        status(&ask(tls(&server, &client).await, "/", ANNA).await.0),
        200
    );
    server.stopped().await;
}

#[tokio::test]
async fn a_file_that_is_emptied_opens_nothing_until_a_reload() {
    let site = Site::new();
    let users = format!("basic_auth_users:\n  anna: {OPEN_SESAME}\n");
    site.write("ca.crt", &Authority::new("clients").0.pem());
    let required = format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n{users}"
    );
    let web = site.open(&required);
    let server = start(Vec::new(), |settings| settings.web = Arc::clone(&web));
    let client = site.client(None, &[]);
    let without_ca = format!("{TLS}{users}");
    for text in ["", TLS, &users, &without_ca] {
        site.write("web.yaml", text);
        let (head, _) = ask(tls(&server, &client).await, "/metrics", ANNA).await;
        assert_eq!(status(&head), 403, "{text}");
    }
    web.reload().await.unwrap();
    assert_eq!(
        status(&ask(tls(&server, &client).await, "/", ANNA).await.0),
        200
    );
    assert_eq!(
        status(&ask(tls(&server, &client).await, "/", "").await.0),
        401
    );

    site.write("web.yaml", "");
    assert_eq!(
        status(&ask(tls(&server, &client).await, "/", "").await.0),
        401
    );
    web.reload().await.unwrap();
    assert!(!web.is_tls());
    assert_eq!(status(&ask(plain(&server).await, "/", "").await.0), 200);
    // What protects more is taken at once.
    site.write("web.yaml", &users);
    assert_eq!(status(&ask(plain(&server).await, "/", "").await.0), 401);
    server.stopped().await;
}

#[tokio::test]
async fn a_handshake_has_as_long_as_a_head_and_a_rest_after_it_longer() {
    let site = Site::new();
    let limits = Limits {
        head: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = site.serve_within(limits, 1, TLS);
    let client = site.client(None, &[]);
    let mut rests = tls(&server, &client).await;
    assert!(is_over(plain(&server).await).await);
    let mut half = plain(&server).await;
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    assert!(is_over(half).await);
    let mut half = tls(&server, &client).await;
    half.write_all(b"GET /met").await.unwrap();
    assert!(is_over(half).await);
    // It has rested for longer than that.
    assert_eq!(status_of(&mut rests, "/metrics").await, 200);
    let mut plain = plain(&server).await;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(is_over(plain).await);
    server.stopped().await;
}

#[tokio::test]
async fn versions_suites_and_curves_are_held_to() {
    use rustls::version::{TLS12, TLS13};
    let site = Site::new();
    let client = |version, suite: &str, group: &str| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider
            .cipher_suites
            .retain(|one| format!("{:?}", one.suite()).contains(suite));
        provider
            .kx_groups
            .retain(|one| format!("{:?}", one.name()).contains(group));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(site.authority.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    };
    for (more, version, suite, group, works) in [
        ("", &TLS12, "", "", true),
        ("", &TLS13, "", "", true),
        ("  min_version: TLS13\n", &TLS12, "", "", false),
        ("  min_version: TLS13\n", &TLS13, "", "", true),
        ("  max_version: TLS12\n", &TLS13, "", "", false),
        ("  max_version: TLS12\n", &TLS12, "", "", true),
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
            &TLS12,
            "AES_128",
            "",
            true,
        ),
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
            &TLS12,
            "AES_256",
            "",
            false,
        ),
        // Those of 1.3 cannot be chosen.
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
            &TLS13,
            "AES_256",
            "",
            true,
        ),
        (
            "  curve_preferences: [CurveP384]\n",
            &TLS13,
            "",
            "secp384r1",
            true,
        ),
        (
            "  curve_preferences: [CurveP384]\n",
            &TLS13,
            "",
            "X25519",
            false,
        ),
        (
            "  curve_preferences: [X25519]\n",
            &TLS12,
            "",
            "secp256r1",
            false,
        ),
    ] {
        let server = site.serve(&format!("{TLS}{more}"));
        let connector = TlsConnector::from(client(version, suite, group));
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = connector.connect(name, plain(&server).await);
        let connected = timeout(PATIENCE, connecting).await.unwrap();
        assert_eq!(
            connected.is_ok(),
            works,
            "{more} {version:?} {suite} {group}"
        );
        server.stopped().await;
    }

    // The server's order is the file's, unless the client's is asked for.
    let suites = "  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]
";
    for (more, chosen) in [
        ("", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (
            "  prefer_server_cipher_suites: false\n",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
    ] {
        let server = site.serve(&format!("{TLS}{suites}{more}"));
        let stream = tls(&server, &client(&TLS12, "", "")).await;
        let agreed = stream.get_ref().1.negotiated_cipher_suite().unwrap();
        assert_eq!(format!("{:?}", agreed.suite()), chosen);
        server.stopped().await;
    }
}

#[tokio::test]
async fn http1_is_spoken_with_a_client_that_prefers_http2() {
    let site = Site::new();
    let client = site.client(None, &["h2", "http/1.1"]);
    let http2_alone = site.client(None, &["h2"]);
    for http2 in ["", "true", "false"] {
        let server = site.serve(&format!("{TLS}http_server_config: {{ http2: {http2} }}\n"));
        let stream = tls(&server, &client).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(status(&ask(stream, "/", "").await.0), 200);

        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&http2_alone));
        let connecting = connector.connect(name, plain(&server).await);
        timeout(PATIENCE, connecting).await.unwrap().unwrap_err();
        server.stopped().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_gone() {
    let site = Site::new();
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = site.serve_within(limits, 5_000, TLS);
    let client = site.client(None, &[]);
    let mut slow = tls(&server, &client).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n";
    slow.write_all(request).await.unwrap();
    // The stop waits for what is in flight.
    server.stopped().await;
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap_err();
}
