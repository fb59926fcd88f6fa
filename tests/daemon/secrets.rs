//! Searches for secrets in everything that the exporter says: the log at trace,
//! its pages, and what its commands print, while keys come from every type of
//! source and while those fail in the most talkative ways.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use alibaba_cloud::signing;
use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::{Issuing, Metadata, demo};

use crate::credentials::{OIDC_PROVIDER, ROLE, ROWS, Setup, config, known_key};
use crate::harness::{Daemon, binary, eventually, run};

const EXTERNAL_ID: &str = "EXAMPLE-external-id-of-customer-7";
const OTHER_SECRET: &str = "EXAMPLE-secret-that-the-cloud-does-not-know";

/// A server that keeps what it is sent and quotes it in its answers.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// `answer` makes status, type and body of a request.
    fn start(answer: impl Fn(&str) -> (u16, &'static str, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let ends = Arc::<AtomicBool>::default();
        let (sink, over) = (Arc::clone(&heard), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let request = read(&mut stream);
                let (status, kind, body) = answer(&request);
                sink.lock().unwrap().push_str(&request);
                // Whoever asked may have gone.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self {
            address,
            heard,
            ends,
            thread: Some(thread),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request, with its body.
fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    let mut missing = None;
    while missing != Some(0) && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        bytes.push(byte[0]);
        missing = match missing {
            Some(left) => Some(left - 1),
            None if bytes.ends_with(b"\r\n\r\n") => {
                let head = String::from_utf8_lossy(&bytes).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                Some(length.map_or(0, |length| length.parse::<usize>().unwrap()))
            }
            None => None,
        };
    }
    String::from_utf8(bytes).unwrap()
}

/// A refusal that quotes the whole request, in the cloud's own words.
fn string_to_sign(request: &str) -> (u16, &'static str, String) {
    let message = format!(
        "Specified signature is not matched with our calculation. server string to sign is:{request}"
    );
    let body = json!({"Code": "SignatureDoesNotMatch", "Message": message, "RequestId": "1"});
    (400, "application/json", body.to_string())
}

/// Everything that was said, and what must not stand there.
#[derive(Default)]
struct Search {
    said: String,
    secrets: Vec<String>,
}

impl Search {
    /// Runs the daemon for some polls, and every command that asks the cloud.
    fn hear(&mut self, setup: &Setup, text: &str, variables: &[(&str, &str)]) {
        let before = self.said.len();
        let home = setup.home.path().to_str().unwrap();
        let environment = [&[("HOME", home)], variables].concat();
        let mut daemon = Daemon::serve_with(text, &["--log.level=trace"], &environment);
        eventually("three polls", || (daemon.polls() >= 3).then_some(()));
        for path in ["/metrics", "/", "/-/ready", "/-/healthy", "/config"] {
            self.said.push_str(&daemon.get(path).body);
        }
        daemon.signal("TERM");
        daemon.ended();
        self.said.push_str(&daemon.log());
        let file = setup.write("config.yaml", text);
        for arguments in [
            &["check-config", "--online"][..],
            &["query", "cri-a", "crast-1"],
        ] {
            let mut command = binary(arguments);
            command.args(["--log.level=trace", "--config.file", &file]);
            let said = run(command.envs(environment.iter().copied()));
            self.said.push_str(&said.out);
            self.said.push_str(&said.err);
        }
        // One that was cut short would find nothing.
        assert!(self.said.len() > before + 10_000);
        assert!(self.said[before..].contains("msg=stopped"));
    }

    fn hide(&mut self, secret: impl Into<String>) {
        self.secrets.push(secret.into());
    }

    /// All that the simulated cloud has handed out.
    fn hide_issued(&mut self, setup: &Setup) {
        let issued = setup.cloud.issued();
        assert!(!issued.is_empty());
        for one in issued {
            let id = &one.key.id;
            self.hide(&id[..id.len() - 4]);
            self.hide(&one.key.secret);
            self.hide(one.key.token.unwrap());
        }
    }

    /// What a server was sent as proof.
    fn hide_heard(&mut self, echo: &Echo, names: &[&str]) {
        let heard = echo.heard();
        for name in names {
            let before = format!("{name}=");
            let values = heard.split(&before).skip(1);
            let ends = |c: char| "&, \r\n".contains(c);
            let values: Vec<_> = values
                .map(|rest| rest.split(ends).next().unwrap())
                .filter(|value| value.len() >= 16)
                .collect();
            assert!(!values.is_empty(), "no {name} was sent: {heard}");
            for value in values {
                self.hide(value);
                let decoded = percent_encoding::percent_decode_str(value);
                self.hide(decoded.decode_utf8().unwrap());
            }
        }
    }

    /// Long secrets in pieces: what is cut short has leaked too.
    fn nothing_is_found(&self) {
        assert!(!self.secrets.is_empty());
        for secret in &self.secrets {
            assert!(secret.len() >= 12, "{secret}");
            let mut at = 0;
            while at < secret.len() {
                let piece = &secret[at..secret.len().min(at + 16)];
                at += 16;
                if at > 16 && piece.len() < 16 {
                    break;
                }
                if let Some(place) = self.said.find(piece) {
                    let from = self.said[..place].rfind('\n').map_or(0, |at| at + 1);
                    let line = self.said[from..].lines().next().unwrap();
                    panic!("{secret} stands in: {line}");
                }
            }
        }
    }
}

fn fault(setup: &Setup, action: &str, fault: Fault) {
    setup.cloud.add_fault(FaultRule::new(fault).action(action));
}

fn error(code: &str, message: String) -> Fault {
    Fault::Error {
        status: 400,
        code: code.to_owned(),
        message,
    }
}

fn denied() -> Fault {
    Fault::Denied {
        code: "NoPermission".to_owned(),
        auth_action: None,
        principal_type: "AssumedRoleUser".to_owned(),
        no_permission_type: "ImplicitDeny".to_owned(),
    }
}

#[test]
fn nothing_is_told_while_every_source_works_or_the_cloud_refuses() {
    let setup = Setup::new(Issuing {
        external_ids: [(ROLE.to_owned(), EXTERNAL_ID.to_owned())].into(),
        ..Issuing::default()
    });
    let mut search = Search::default();
    let mut hear = |entry: &Value, variables: &[(&str, &str)]| {
        let entries = json!({
            "test": entry, "base": {"type": "uri", "uri": setup.cloud.credentials_uri()},
        });
        search.hear(&setup, &setup.config(&entries), variables);
    };
    let mut role = setup.assume_role("base");
    role["external_id_file"] = setup.write("external", EXTERNAL_ID).into();
    let variables = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", demo::KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", demo::KEY_SECRET),
    ];
    for entry in [&role, &setup.oidc(), &setup.ecs(), &known_key()] {
        hear(entry, &[]);
    }
    hear(&json!({"type": "default"}), &variables);

    fault(&setup, ROWS, denied());
    hear(&role, &[]);
    setup.cloud.clear_faults();
    fault(&setup, "AssumeRole", denied());
    hear(&role, &[]);
    setup.cloud.clear_faults();
    // An identity provider's and a role's details, quoted back.
    let quoted = format!("the token {} is not valid", demo::OIDC_TOKEN);
    let invalid = error("AuthenticationFail.OIDCToken.Invalid", quoted);
    fault(&setup, "AssumeRoleWithOIDC", invalid);
    hear(&setup.oidc(), &[]);
    let quoted = format!("the external id {EXTERNAL_ID} is not valid");
    fault(&setup, "AssumeRole", error("InvalidParameter", quoted));
    hear(&role, &[]);
    role["external_id_file"] = setup.write("external", OTHER_SECRET).into();
    setup.cloud.clear_faults();
    hear(&role, &[]);

    search.hide_issued(&setup);
    for secret in [
        demo::KEY_SECRET,
        demo::KEY_ID,
        demo::OIDC_TOKEN,
        EXTERNAL_ID,
        OTHER_SECRET,
    ] {
        search.hide(secret);
    }
    search.nothing_is_found();
}

#[test]
fn nothing_is_told_of_what_a_server_quotes() {
    let setup = Setup::new(Issuing::default());
    let mut search = Search::default();
    let issued = setup.cloud.issue(Duration::from_secs(3600)).key;
    let base = json!({
        "type": "access_key", "access_key_id": issued.id,
        "access_key_secret": issued.secret, "security_token": issued.token,
    });
    let sts = Echo::start(string_to_sign);
    let mut role = setup.assume_role("base");
    role["sts_endpoint"] = sts.url().into();
    role["external_id"] = EXTERNAL_ID.into();
    let mut oidc = setup.oidc();
    oidc["sts_endpoint"] = sts.url().into();
    for entry in [&role, &oidc] {
        let entries = json!({"test": entry, "base": base});
        search.hear(&setup, &setup.config(&entries), &[]);
    }
    let names = ["Signature", "SecurityToken", "ExternalId", "OIDCToken"];
    search.hide_heard(&sts, &names);

    // Bare, without the words that a quoted signature usually comes with.
    let plain = Echo::start(|request| {
        let body = json!({"Code": "InvalidParameter", "Message": request});
        (400, "application/json", body.to_string())
    });
    role["sts_endpoint"] = plain.url().into();
    oidc["sts_endpoint"] = plain.url().into();
    for entry in [&role, &oidc] {
        let entries = json!({"test": entry, "base": base});
        search.hear(&setup, &setup.config(&entries), &[]);
    }
    search.hide_heard(&plain, &names);

    let api = Echo::start(string_to_sign);
    for signature in ["acs3-hmac-sha256", "hmac-sha1"] {
        let text = config(&api.url(), &json!({"test": base}));
        let mut text: Value = serde_json::from_str(&text).unwrap();
        text["api"]["signature"] = signature.into();
        search.hear(&setup, &text.to_string(), &[]);
    }
    search.hide_heard(&api, &["Signature", "SecurityToken"]);

    search.hide_issued(&setup);
    search.hide(demo::OIDC_TOKEN);
    search.hide(EXTERNAL_ID);
    search.nothing_is_found();
}

/// What stands between `before` and the next delimiter.
fn value<'a>(request: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = request.split_once(before)?;
    rest.split(|c: char| "&, \r\n".contains(c)).next()
}

/// One proof as a server might quote it, `nth` after `nth`.
fn quoted(nth: usize, proof: &str) -> String {
    let once = || signing::percent_encode(proof).to_string();
    match nth % 5 {
        0 => proof.to_owned(),
        1 => once(),
        2 => signing::percent_encode(&once()).to_string(),
        3 => json!({"a": proof}).to_string().replace('/', "\\/"),
        _ => proof
            .chars()
            .map(|c| match c {
                'A'..='Z' | 'a'..='z' | '0'..='9' => c.to_string(),
                _ => format!("&#x{:X};", u32::from(c)),
            })
            .collect(),
    }
}

#[test]
fn nothing_is_told_of_what_the_registry_quotes() {
    let setup = Setup::new(Issuing::default());
    let mut search = Search::default();
    let issued = setup.cloud.issue(Duration::from_secs(3600)).key;
    let base = json!({
        "type": "access_key", "access_key_id": issued.id,
        "access_key_secret": issued.secret, "security_token": issued.token,
    });
    let count = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&count);
    let secret = issued.secret.clone();
    let registry = Echo::start(move |request| {
        let nth = seen.fetch_add(1, Ordering::Relaxed);
        let decoded = |value: &str| {
            let decoded = percent_encoding::percent_decode_str(value);
            decoded.decode_utf8().unwrap().into_owned()
        };
        let signature = decoded(value(request, "Signature=").unwrap());
        let id = value(request, "AccessKeyId=").or_else(|| value(request, "Credential="));
        let token = value(request, "SecurityToken=")
            .or_else(|| value(request, "x-acs-security-token: "))
            .map(decoded)
            .unwrap();
        let proofs = [id.unwrap(), &signature, &secret, &token];
        let proofs = proofs.map(|proof| quoted(nth, proof));
        let all = proofs.join(" and ");
        let [id, signature, secret, token] = &proofs;
        // Successes: one to be logged, one that cannot be read.
        if nth % 6 >= 4 {
            let rows = if nth % 6 == 4 { json!([]) } else { json!(all) };
            let body = json!({"Code": "success", "RequestId": token, "TaskResults": rows});
            return (200, "application/json", body.to_string());
        }
        // Whatever is quoted first may push the others over the edge.
        let message = [&all, &token[..token.len() - 2], secret, signature][nth % 4];
        let body = json!({
            "Code": format!("Forbidden.{id}"), "Message": message, "RequestId": token,
            "AccessDeniedDetail": {
                "AuthAction": signature, "NoPermissionType": secret,
                "AuthPrincipalType": token, "AuthPrincipalDisplayName": all,
                "AuthPrincipalOwnerId": id,
            },
        });
        (403, "application/json", body.to_string())
    });
    for signature in ["acs3-hmac-sha256", "hmac-sha1"] {
        let text = config(&registry.url(), &json!({"test": base}));
        let mut text: Value = serde_json::from_str(&text).unwrap();
        text["api"]["signature"] = signature.into();
        search.hear(&setup, &text.to_string(), &[]);
    }
    // Each way of quoting was met.
    assert!(count.load(Ordering::Relaxed) >= 10);
    assert!(search.said.contains("Forbidden.…"), "{}", search.said);
    search.hide_heard(&registry, &["Signature", "SecurityToken"]);
    search.hide_issued(&setup);
    search.nothing_is_found();
}

#[test]
fn nothing_is_told_of_what_cannot_be_read() {
    let setup = Setup::new(Issuing {
        metadata: Metadata::TokenRequired,
        ..Issuing::default()
    });
    let mut search = Search::default();
    let mut hear = |entry: &Value| {
        let text = config(&setup.cloud.url(), &json!({"test": entry}));
        search.hear(&setup, &text, &[]);
    };
    // Keys, and nearly so: a time that is none, a page, a broken text.
    let secret = |name: &str| format!("EXAMPLE-{name}-that-nobody-may-see");
    for body in [
        json!({
            "AccessKeyId": secret("id"), "AccessKeySecret": secret("secret"),
            "SecurityToken": secret("token"), "Expiration": secret("end"),
        })
        .to_string(),
        format!("<html><title>{}</title></html>", secret("page")),
        format!("{{\"AccessKeySecret\": \"{}", secret("secret")),
        json!({"Code": "Failed", "Message": secret("message")}).to_string(),
    ] {
        let echo = Echo::start(move |_| (200, "text/html", body.clone()));
        let uri = format!(
            "http://user:{}@{}/{}?token={}",
            secret("password"),
            echo.address,
            secret("path"),
            secret("query")
        );
        hear(&json!({"type": "uri", "uri": uri}));
        hear(&json!({"type": "ecs_ram_role", "metadata_endpoint": echo.url()}));
        let mut oidc = setup.oidc();
        oidc["sts_endpoint"] = echo.url().into();
        hear(&oidc);
        assert!(echo.heard().contains(&secret("query")));
    }

    let entry = json!({"type": "profile"});
    let command = format!(
        "sh -c 'echo {}; echo {} >&2; exit ${{0#*:}}' {}:",
        secret("printed"),
        secret("complaint"),
        secret("argument")
    );
    for status in [0, 3] {
        let profile = json!({
            "name": "a", "mode": "External", "process_command": format!("{command}{status}"),
        });
        let profiles = json!({"current": "a", "profiles": [profile]});
        setup.write(".aliyun/config.json", &profiles.to_string());
        hear(&entry);
    }
    let broken = format!(
        "{{\"profiles\": [{{\"access_key_secret\": \"{}",
        secret("file")
    );
    setup.write(".aliyun/config.json", &broken);
    hear(&entry);
    let broken = format!("[default]\naccess_key_secret {}\n", secret("file"));
    setup.write(".alibabacloud/credentials", &broken);
    hear(&json!({"type": "credentials_file"}));
    hear(&json!({
        "type": "access_key", "access_key_id": demo::KEY_ID,
        "access_key_secret_file": setup.write("secret", &format!("{}\nand more", secret("file"))),
    }));
    hear(&json!({
        "type": "oidc", "role_arn": ROLE, "oidc_provider_arn": OIDC_PROVIDER,
        "oidc_token_file": setup.write("token", &format!("{} and more", secret("token"))),
        "sts_endpoint": setup.cloud.url(),
    }));
    search.hide("that-nobody-may-see");
    search.nothing_is_found();
}
