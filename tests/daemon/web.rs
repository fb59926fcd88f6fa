//! The web configuration from outside: TLS and certificates, passwords, what a
//! changed file does, and the programs that have to get along with it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use simulator::Running;
use simulator::world::TaskSpec;
use tempfile::TempDir;

use crate::harness::{Answer, Daemon, binary, eventually, real_part, request, run};
use crate::prometheus::Prometheus;
use crate::values::{cloud, config};

// By libxcrypt: "open sesame".
const HASH: &str = "$2b$04$qhQRTwbig3OYIK9dUsm5DeQgp0vmt0/j/mm3hA1GPT6ANBEQboqSS";
// prometheus:open sesame, and prometheus:secret
const PASSWORD: &str = "Authorization: Basic cHJvbWV0aGV1czpvcGVuIHNlc2FtZQ==\r\n";
const WRONG: &str = "Authorization: Basic cHJvbWV0aGV1czpzZWNyZXQ=\r\n";

/// An authority, what it has signed, and the web configuration beside it.
struct Site {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    cloud: Running,
}

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of this test");
        let key = KeyPair::generate().unwrap();
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
            cloud: cloud([TaskSpec::new("crast-1")]),
        };
        site.write("ca.crt", &site.authority.pem());
        site.issue(
            "server",
            &["localhost", "127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        site.issue(
            "prometheus",
            &["prometheus"],
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        site.issue("grafana", &["grafana"], ExtendedKeyUsagePurpose::ClientAuth);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// `NAME.crt` and `NAME.key`, for these names.
    fn issue(&self, name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        self.sign(name, &params);
    }

    fn sign(&self, name: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn serve(&self, web: &str) -> Daemon {
        self.write("web.yaml", web);
        let file = format!("--web.config.file={}", self.path("web.yaml").display());
        let arguments = [file.as_str(), "--log.level=trace"];
        Daemon::serve_with(&config(&self.cloud, "[crast-1]", ""), &arguments, &[])
    }

    /// A session with the daemon, with the certificate of that name.
    fn tls(
        &self,
        address: SocketAddr,
        identity: Option<&str>,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        self.tls_of(rustls::ALL_VERSIONS, address, identity)
    }

    fn tls_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        address: SocketAddr,
        identity: Option<&str>,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = |end: &str| fs::read(self.path(&format!("{name}.{end}"))).unwrap();
                let certificate = CertificateDer::from_pem_slice(&file("crt")).unwrap();
                let key = PrivateKeyDer::from_pem_slice(&file("key")).unwrap();
                // Unlike `with_client_auth_cert`, without a look at the certificate.
                let key = ring::sign::any_supported_type(&key).unwrap();
                let certified = CertifiedKey::new(vec![certificate], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
        // The handshake.
        stream.flush()?;
        Ok(stream)
    }

    fn ask(&self, daemon: &Daemon, path: &str, identity: Option<&str>, headers: &str) -> Answer {
        let stream = self.tls(daemon.address, identity).unwrap();
        Self::ask_on(stream, path, headers)
    }

    fn ask_on(
        mut stream: StreamOwned<ClientConnection, TcpStream>,
        path: &str,
        headers: &str,
    ) -> Answer {
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The certificate that a new connection is shown.
    fn shown(&self, daemon: &Daemon) -> CertificateDer<'static> {
        let stream = self.tls(daemon.address, None).unwrap();
        stream.conn.peer_certificates().unwrap()[0].clone()
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

fn with_everything() -> String {
    format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
basic_auth_users:
  prometheus: {HASH}
"
    )
}

#[test]
fn certificate_and_password_are_needed_but_for_health() {
    let site = Site::new();
    let daemon = site.serve(&with_everything());
    for (identity, headers, status) in [
        (Some("prometheus"), PASSWORD, 200),
        (Some("prometheus"), WRONG, 401),
        (Some("prometheus"), "", 401),
        (Some("grafana"), PASSWORD, 403),
        (None, PASSWORD, 403),
    ] {
        for path in ["/metrics", "/"] {
            let answer = site.ask(&daemon, path, identity, headers);
            assert_eq!(answer.status, status, "{path} {identity:?} {headers}");
        }
        assert_eq!(
            site.ask(&daemon, "/-/healthy", identity, headers).status,
            200
        );
        assert_eq!(site.ask(&daemon, "/healthz", None, "").status, 200);
    }
    eventually("readiness is open too", || {
        (site.ask(&daemon, "/readyz", None, "").status == 200).then_some(())
    });
    let page = || {
        let answer = site.ask(&daemon, "/metrics", Some("prometheus"), PASSWORD);
        answer.body
    };
    // The first page that has a new counter shows 0.
    page();
    let page = page();
    for line in [
        r#"aliyun_acr_exporter_http_requests_total{code="401",path="/metrics"} 2"#,
        r#"aliyun_acr_exporter_http_requests_total{code="403",path="/metrics"} 2"#,
    ] {
        assert!(page.contains(line), "{page}");
    }

    // Plain HTTP gets nothing of it.
    let mut plain = TcpStream::connect(daemon.address).unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let log = daemon.log();
    let key = fs::read_to_string(site.path("server.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for secret in ["open sesame", "cHJvbWV0aGV1cz", &HASH[7..], key] {
        assert!(!log.contains(secret), "{secret}");
    }
}

/// Such as one with a critical extension that nobody knows, which rustls refuses.
#[test]
fn a_client_with_an_odd_certificate_is_told_so_and_sees_the_health() {
    let site = Site::new();
    let mut params = CertificateParams::new(vec!["prometheus".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    odd.set_criticality(true);
    params.custom_extensions = vec![odd];
    site.sign("odd", &params);

    let daemon = site.serve(&with_everything());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (identity, path, status) in [
            ("odd", "/metrics", 403),
            ("odd", "/-/healthy", 200),
            ("prometheus", "/metrics", 200),
        ] {
            let stream = site.tls_of(&[version], daemon.address, Some(identity));
            let answer = Site::ask_on(stream.unwrap(), path, PASSWORD);
            assert_eq!(answer.status, status, "{version:?} {identity} {path}");
        }
        // Whose key does not belong to the certificate is nobody.
        fs::copy(site.path("odd.crt"), site.path("thief.crt")).unwrap();
        fs::copy(site.path("grafana.key"), site.path("thief.key")).unwrap();
        let thief = site.tls_of(&[version], daemon.address, Some("thief"));
        let refused = thief.and_then(|mut stream| {
            stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        });
        assert!(refused.is_err(), "{version:?} {refused:?}");
    }
}

#[test]
fn a_changed_certificate_is_taken_and_a_broken_one_told_once() {
    let site = Site::new();
    let mut daemon = site.serve(TLS);
    let first = site.shown(&daemon);
    site.issue(
        "server",
        &["localhost"],
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    let second = site.shown(&daemon);
    assert_ne!(first, second);
    daemon.logged("the changed web configuration is in force");

    site.write("server.key", "nonsense");
    for _ in 0..3 {
        assert_eq!(site.shown(&daemon), second);
    }
    let told = "the changed web configuration is not valid";
    let line = daemon.logged(told);
    let expected = "web.yaml:3:13: tls_server_config.key_file: holds no private key";
    assert!(line.contains(expected), "{line}");

    site.write("web.yaml", "");
    assert_eq!(site.shown(&daemon), second);
    let line = daemon.logged("takes protection away");
    assert!(line.contains("lost=TLS"), "{line}");
    assert_eq!(daemon.log().matches(told).count(), 1);
}

#[test]
fn old_versions_are_refused() {
    let site = Site::new();
    let daemon = site.serve(TLS);
    // A hello of TLS 1.1 (RFC 4346, section 7.4.1.2) that offers one suite and
    // one algorithm of signatures.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // A fatal alert: protocol_version.
    assert_eq!(answer.first(), Some(&0x15));
    assert_eq!(answer[5..], [2, 70]);
}

#[test]
fn healthcheck_works_whatever_is_spoken() {
    let site = Site::new();
    let check = |daemon: &Daemon, with_file: bool| {
        let mut command = binary(&["healthcheck"]);
        command.arg(format!("--web.listen-address={}", daemon.address));
        if with_file {
            let file = site.path("web.yaml");
            command.env("ALIYUN_ACR_EXPORTER_WEB_CONFIG_FILE", file);
        }
        run(&mut command)
    };
    let mut daemon = site.serve(&with_everything());
    // The file need not be what is in force.
    for text in [with_everything(), "[".to_owned()] {
        site.write("web.yaml", &text);
        let said = check(&daemon, true);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
    let said = check(&daemon, false);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
    let said = check(&daemon, true);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("unhealthy: https://"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);

    let plain = site.serve(&format!("basic_auth_users:\n  prometheus: {HASH}\n"));
    for with_file in [true, false] {
        let said = check(&plain, with_file);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
    assert_eq!(request(plain.address, "GET", "/metrics").status, 401);
}

#[test]
fn mistakes_of_both_files_are_told_at_the_start() {
    let site = Site::new();
    site.write("web.yaml", "basic_auth_users:\n  anna: open sesame\n");
    let text = config(&site.cloud, "[crast-1]", "poll: { interval: 1 }\n");
    site.write("config.yaml", &text);
    for command in ["serve", "check-config"] {
        let said = run(binary(&[command, "--web.config.file=web.yaml"]).current_dir(&site.folder));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{command}");
        let lines: Vec<_> = said.err.lines().collect();
        assert_eq!(lines.len(), 2, "{}", said.err);
        assert!(lines[0].starts_with("config.yaml:1:19: poll.interval: "));
        assert_eq!(
            lines[1],
            "web.yaml:2:9: basic_auth_users.anna: must be a bcrypt hash of the password, such as \
             htpasswd -nB USER prints"
        );
    }
    let said = run(&mut binary(&[
        "demo",
        "--web.config.file=/nowhere/web.yaml",
    ]));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "cannot read /nowhere/web.yaml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn check_config_checks_the_web_configuration_too() {
    let site = Site::new();
    site.write("web.yaml", "rate_limit: { interval: 1s }\n");
    site.write("config.yaml", &config(&site.cloud, "[crast-1]", ""));
    let arguments = ["check-config", "--web.config.file=web.yaml"];
    let said = run(binary(&arguments).current_dir(&site.folder));
    assert_eq!(said.code, 0);
    assert!(said.out.ends_with("\nweb.yaml is valid\n"), "{}", said.out);
    assert_eq!(
        said.err,
        "warning: web.yaml:1:25: rate_limit.interval: without a burst of at least 1 every request \
         is refused\n"
    );
}

#[test]
fn a_client_that_prefers_http2_is_answered_over_http1() {
    let Some(curl) = real_part("curl") else {
        return;
    };
    let site = Site::new();
    let daemon = site.serve(&with_everything());
    let url = format!("https://localhost:{}/metrics", daemon.address.port());
    let mut command = Command::new(curl);
    command
        .args(["--silent", "--show-error", "--http2", "--user"])
        .args([
            "prometheus:open sesame",
            "--write-out",
            "%{http_version} %{http_code}",
        ])
        .args(["--output", "/dev/null", "--noproxy", "*", "--cacert"])
        .arg(site.path("ca.crt"))
        .arg("--cert")
        .arg(site.path("prometheus.crt"))
        .arg("--key")
        .arg(site.path("prometheus.key"))
        .arg(url);
    let said = run(&mut command);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out, "1.1 200");
}

#[test]
fn prometheus_scrapes_over_tls_with_password_and_certificate() {
    let Some(program) = real_part("prometheus") else {
        return;
    };
    let site = Site::new();
    let daemon = site.serve(&with_everything());
    let job = |user: &str| {
        let file = |name: &str| site.path(name).display().to_string();
        format!(
            "  scheme: https
  tls_config:
    ca_file: {}
    cert_file: {}
    key_file: {}
    server_name: localhost
  basic_auth: {{ username: {user}, password: open sesame }}
",
            file("ca.crt"),
            file("prometheus.crt"),
            file("prometheus.key")
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let target = daemon.address;
    let prometheus = Prometheus::scraping_by(&program, folder.path(), target, &job("prometheus"));
    eventually("the target is scraped", || {
        (prometheus.query("up") == ["1"]).then_some(())
    });
    drop(prometheus);

    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping_by(&program, folder.path(), target, &job("nobody"));
    eventually("the stranger is told why", || {
        let targets = prometheus.api("/api/v1/targets");
        let error = targets["data"]["activeTargets"][0]["lastError"].as_str()?;
        error.contains("401").then_some(())
    });
}
