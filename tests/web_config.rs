//! The web configuration as a user meets it: which files are accepted, and what
//! is said about each mistake, those in the files that it names included.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use exporter_web::WebSource;
use exporter_web::config::{ClientAuth, TlsVersion, WebConfig};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::NamedGroup;
use rustls::crypto::ring::cipher_suite;
use tempfile::TempDir;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/web")
        .join(folder)
}

/// A folder with what the files of the tests name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    write("server.crt", &certificate.pem());
    write("server.key", &key.serialize_pem());
    let other = KeyPair::generate().unwrap();
    write("other.key", &other.serialize_pem());
    let authority = CertifiedIssuer::self_signed(CertificateParams::default(), other).unwrap();
    write("client-ca.crt", &authority.pem());
    write("nothing.pem", "");
    write("damaged.pem", &certificate.pem()[..200]);
    // "not DER", and the same as a key.
    write(
        "no-certificate.pem",
        "-----BEGIN CERTIFICATE-----\nbm90IERFUg==\n-----END CERTIFICATE-----\n",
    );
    write(
        "unusable.key",
        "-----BEGIN PRIVATE KEY-----\nbm90IERFUg==\n-----END PRIVATE KEY-----\n",
    );
    write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nbm90IERFUg==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    folder
}

/// The files of a folder of test data, each put beside what it names.
fn files(kind: &str, folder: &TempDir) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(testdata(kind)).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let name = path.file_name().unwrap();
            let copy = folder.path().join(name);
            fs::copy(&path, &copy).unwrap();
            files.push((name.to_str().unwrap().to_owned(), copy));
        }
    }
    files.sort();
    files
}

/// Each `NAME.yaml` is refused with exactly the text of `NAME.txt`. With BLESS=1
/// the texts are written instead: read every one of them before committing.
#[test]
fn broken_files_are_refused_in_these_words() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not of the program"
    )]
    let bless = std::env::var_os("BLESS").is_some();
    let folder = folder();
    let mut wrong = String::new();
    let files = files("broken", &folder);
    for (name, path) in &files {
        let error = WebSource::open(path).expect_err(name);
        let found = error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")
            + "\n";
        assert!(!found.contains("open sesame"), "{found}");
        assert!(!found.contains("T0PS3CRET"), "{found}");
        let expected = testdata("broken").join(name).with_extension("txt");
        if bless {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if expected != found {
            wrong.extend([name, " expected\n", &expected, "found\n", &found, "\n"]);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(files.len() >= 69, "only {} files", files.len());
}

#[test]
fn good_files_are_accepted_and_some_with_a_warning() {
    let folder = folder();
    let files = files("good", &folder);
    assert!(files.len() >= 28, "only {} files", files.len());
    let mut warnings = Vec::new();
    for (name, path) in &files {
        let source = WebSource::open(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        for warning in source.warnings() {
            let inside = format!("{}/", folder.path().display());
            warnings.push(warning.replace(&inside, ""));
        }
    }
    assert_eq!(
        warnings,
        [
            "cipher_suites_all.yaml:5:5: tls_server_config.cipher_suites: suites with CBC are not \
             spoken here and left out: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, \
             TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, \
             TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
            "curves_all.yaml:4:22: tls_server_config.curve_preferences: CurveP521 is not spoken \
             here and left out",
            "rate_closed.yaml:1:25: rate_limit.interval: without a burst of at least 1 every \
             request is refused",
        ]
    );
}

fn headers(web: &WebConfig) -> Vec<(&str, &str)> {
    let headers = web.http.headers.iter();
    headers.map(|(name, value)| (&**name, &*value.0)).collect()
}

/// What the files say is what is understood.
#[test]
fn good_files_mean_what_they_say() {
    let load = |name: &str| {
        let path = testdata("good").join(name);
        let bytes = fs::read(&path).unwrap();
        exporter_web::config::parse(&bytes, &path).unwrap_or_else(|errors| panic!("{errors:?}"))
    };
    let empty = load("empty.yaml");
    assert!(empty.tls.is_none());
    assert!(empty.http.headers.is_empty() && empty.users.is_empty());
    assert_eq!(empty.rate_limit, None);
    for name in [
        "nulls.yaml",
        "no_tls_after_all.yaml",
        "http2_without_tls.yaml",
    ] {
        assert!(load(name).tls.is_none(), "{name}");
    }

    let tls = load("tls.yaml").tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuth::None);
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::Tls12, TlsVersion::Tls13)
    );
    assert_eq!(tls.suites(), None);
    assert!(tls.curves().is_empty() && tls.prefer_server_cipher_suites);
    let path = tls.certificate.source.file().unwrap();
    assert_eq!(path, testdata("good").join("server.crt"));

    let all = load("tls_all_keys.yaml");
    let tls = all.tls.as_ref().unwrap();
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    let sans: Vec<&str> = tls.client_allowed_sans.iter().map(|san| &*san.0).collect();
    assert_eq!(
        sans,
        [
            "prometheus.example.org",
            "10.0.0.7",
            "spiffe://cluster/prometheus"
        ]
    );
    let curves: Vec<_> = tls.curves().iter().map(|curve| curve.name()).collect();
    assert_eq!(curves, [NamedGroup::X25519, NamedGroup::secp256r1]);
    let suite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    assert_eq!(tls.suites(), Some(vec![suite]));
    assert!(!tls.prefer_server_cipher_suites);
    assert_eq!(headers(&all), [("X-Content-Type-Options", "nosniff")]);
    let limit = all.rate_limit.unwrap();
    assert_eq!((limit.interval.0.as_millis(), limit.burst.get()), (100, 20));
    assert_eq!(all.users.keys().collect::<Vec<_>>(), ["prometheus"]);

    for (name, client_auth) in [
        ("client_none.yaml", ClientAuth::None),
        ("client_asked.yaml", ClientAuth::Request),
        ("client_any.yaml", ClientAuth::RequireAny),
        ("client_any_old_name.yaml", ClientAuth::RequireAny),
        ("client_if_given.yaml", ClientAuth::VerifyIfGiven),
        ("client_verified.yaml", ClientAuth::RequireAndVerify),
    ] {
        assert_eq!(load(name).tls.unwrap().client_auth, client_auth, "{name}");
    }
    let five = load("headers.yaml");
    assert_eq!(headers(&five).len(), 5);
    assert!(headers(&five).contains(&("X-XSS-Protection", "0")));
    assert_eq!(headers(&load("headers_blank.yaml")), []);
    let rate = |name: &str| {
        load(name)
            .rate_limit
            .map(|limit| limit.interval.0.as_millis())
    };
    assert_eq!(rate("rate.yaml"), Some(90_000));
    assert_eq!(rate("rate_fraction.yaml"), Some(1_500));
    assert_eq!(rate("rate_off.yaml"), None);
    assert_eq!(load("users.yaml").users.len(), 3);
}

#[test]
fn certificates_may_stand_in_the_file_itself() {
    let folder = folder();
    let indented = |name: &str| {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        text.replace('\n', "\n    ")
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_auth_type: \
         RequireAndVerifyClientCert\n  client_ca: |\n    {}\n",
        indented("server.crt"),
        indented("server.key"),
        indented("client-ca.crt")
    );
    let path = folder.path().join("inline.yaml");
    fs::write(&path, text).unwrap();
    let source = WebSource::open(&path).unwrap_or_else(|error| panic!("{error}"));
    assert!(source.is_tls());
    assert_eq!(
        format!("{source:?}"),
        format!("WebSource {{ path: Some({path:?}), .. }}")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = WebSource::open(Path::new("/nowhere/web.yaml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/web.yaml");
    let folder = folder();
    let path = folder.path().join("web.yaml");
    fs::write(&path, [0xff, 0xfe, 0x41, 0]).unwrap();
    let error = WebSource::open(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("this is UTF-16; save the file as UTF-8"),
        "{error}"
    );
}

/// The keys that promtool does not know before Prometheus 3.
const NEW_KEYS: [&str; 3] = ["rate_limit", "client_allowed_sans", "RequireAnyClientCert"];

/// What is accepted here is accepted by the exporters' own check too.
#[test]
fn promtool_accepts_the_good_files() {
    let say = |text: String| {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let Ok(version) = Command::new("promtool").arg("--version").output() else {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told by the environment"
        )]
        let required = std::env::var_os("REQUIRE_REAL_PARTS").is_some();
        assert!(!required, "promtool is not installed");
        say("left out: promtool is not installed; scripts/test.sh installs it".to_owned());
        return;
    };
    let version = String::from_utf8([version.stdout, version.stderr].concat()).unwrap();
    let knows_all = !version.contains("version 1.") && !version.contains("version 2.");
    let folder = folder();
    let mut left_out = Vec::new();
    for (name, path) in files("good", &folder) {
        let text = fs::read_to_string(&path).unwrap();
        if !knows_all && NEW_KEYS.iter().any(|key| text.contains(key)) {
            left_out.push(name);
            continue;
        }
        let output = Command::new("promtool")
            .args(["check", "web-config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        say(format!("left out: this promtool is too old for {names}"));
    }
}
