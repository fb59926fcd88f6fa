//! The vendor's own Python credentials library against the simulated cloud: it
//! must find credentials in every source that the simulator and these files
//! play, and it says which source counts where there are several. Our chain is
//! asked in the same environments and must choose the same, as long as every
//! source is good or absent: a broken one ends ours on purpose.

#[path = "python_sdk/python.rs"]
mod python;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::chain::Chain;
use alibaba_cloud::credentials::{Addresses, Context, Credentials, ProvideCredentials as _};
use alibaba_cloud::http::Http;
use serde_json::{Map, Value, json};
use simulator::{AccessKey, Issued, Issuing, Metadata, Running, Simulator, SimulatorConfig, demo};
use tempfile::TempDir;

const ROLE_ARN: &str = "acs:ram::123456789012:role/reader";
const PROVIDER_ARN: &str = "acs:ram::123456789012:oidc-provider/ack-rrsa-c1";

/// The library, asked one environment after another.
struct Judge {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Judge {
    /// None where the library is not installed and need not be.
    fn start(running: &Running) -> Option<Self> {
        let python = python::with("alibabacloud_credentials.client")?;
        let mut child = Command::new(python)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/python_sdk/credentials_check.py"
            ))
            .args(["--simulator", &running.addr().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Some(Self {
            child,
            input,
            output,
        })
    }

    fn choose(&mut self, place: &Place) -> Value {
        let asked = json!({"env": place.env, "home": place.home.path()});
        let input = self.input.as_mut().expect("open until dropped");
        writeln!(input, "{asked}").expect("asked");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Environment variables and a home folder.
struct Place {
    env: Map<String, Value>,
    home: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            env: Map::new(),
            home: tempfile::tempdir().expect("a folder"),
        }
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        let name = format!("ALIBABA_CLOUD_{name}");
        self.env.insert(name, Value::String(value.into()));
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        let path = self.home.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        self
    }

    fn path(&self, name: &str) -> String {
        let path = self.home.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// `~/.aliyun/config.json` with these profiles; the first is current.
    fn profiles(self, profiles: &[Value]) -> Self {
        let config = json!({"current": profiles[0]["name"], "profiles": profiles});
        self.file(".aliyun/config.json", &config.to_string())
    }

    fn ini(self, lines: &str) -> Self {
        let content = format!("[default]\n{lines}\n");
        self.file(".alibabacloud/credentials.ini", &content)
    }

    fn token_file(self) -> (Self, String) {
        let place = self.file("oidc/token", demo::OIDC_TOKEN);
        let path = place.path("oidc/token");
        (place, path)
    }

    fn with(self, source: Source, running: &Running) -> Self {
        match source {
            Source::Environment => self
                .set("ACCESS_KEY_ID", "env-key")
                .set("ACCESS_KEY_SECRET", "env-secret"),
            Source::Oidc => {
                let (place, token) = self.token_file();
                place
                    .set("ROLE_ARN", ROLE_ARN)
                    .set("OIDC_PROVIDER_ARN", PROVIDER_ARN)
                    .set("OIDC_TOKEN_FILE", token)
            }
            Source::Profile => self.profiles(&[json!({
                "name": "a", "mode": "AK",
                "access_key_id": "cli-key", "access_key_secret": "cli-secret",
            })]),
            Source::File => self
                .ini("type = access_key\naccess_key_id = ini-key\naccess_key_secret = ini-secret"),
            Source::Ecs => {
                running.update_issuing(|issuing| issuing.metadata = Metadata::TokenOptional);
                self
            }
            Source::Uri => self.set("CREDENTIALS_URI", running.credentials_uri()),
        }
    }
}

/// In the official order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Environment,
    Oidc,
    Profile,
    File,
    Ecs,
    Uri,
}

const SOURCES: [Source; 6] = [
    Source::Environment,
    Source::Oidc,
    Source::Profile,
    Source::File,
    Source::Ecs,
    Source::Uri,
];

impl Source {
    /// What we call it.
    fn ours(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Oidc => "oidc",
            Self::Profile => "profile",
            Self::File => "credentials_file",
            Self::Ecs => "ecs_ram_role",
            Self::Uri => "uri",
        }
    }

    /// What the library calls it.
    fn provider(self) -> &'static str {
        match self {
            Self::Environment => "default/env",
            Self::Oidc => "default/oidc_role_arn",
            Self::Profile => "default/cli_profile/static_ak",
            Self::File => "default/profile/static_ak",
            Self::Ecs => "default/ecs_ram_role",
            Self::Uri => "default/credential_uri",
        }
    }
}

/// A cloud in which the simulated machine has no metadata service yet.
fn cloud() -> Running {
    let keys = ["env", "cli", "ini"];
    Simulator::start(SimulatorConfig {
        keys: keys
            .map(|of| AccessKey::new(format!("{of}-key"), format!("{of}-secret")))
            .into(),
        issuing: Issuing {
            metadata: Metadata::Off,
            // The library has no other way.
            oidc_token_in_url: true,
            ..Issuing::default()
        },
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts")
}

#[track_caller]
fn is_key(found: &Value, provider: &str, id: &str, secret: &str, token: Option<&str>) {
    let expected = json!({
        "provider": provider, "access_key_id": id, "access_key_secret": secret,
        "security_token": token, "error": null,
    });
    assert_eq!(*found, expected);
}

/// That the library found what the simulated cloud handed out last.
#[track_caller]
fn is_issued(found: &Value, provider: &str, running: &Running, action: &str) -> Issued {
    let issued = running.issued().pop();
    let issued = issued.unwrap_or_else(|| panic!("nothing was handed out: {found}"));
    let key = &issued.key;
    is_key(found, provider, &key.id, &key.secret, key.token.as_deref());
    assert_eq!(issued.action, action);
    issued
}

#[test]
fn the_library_finds_each_source_alone_and_nothing_in_none() {
    let running = cloud();
    let Some(mut judge) = Judge::start(&running) else {
        return;
    };
    let nothing = judge.choose(&Place::new());
    assert_eq!(nothing["provider"], Value::Null, "{nothing}");
    let error = nothing["error"].as_str().expect("an error");
    assert!(
        error.contains("unable to load credentials from any"),
        "{error}"
    );

    for source in SOURCES {
        running.update_issuing(|issuing| issuing.metadata = Metadata::Off);
        let found = judge.choose(&Place::new().with(source, &running));
        let provider = source.provider();
        match source {
            Source::Environment => is_key(&found, provider, "env-key", "env-secret", None),
            Source::Profile => is_key(&found, provider, "cli-key", "cli-secret", None),
            Source::File => is_key(&found, provider, "ini-key", "ini-secret", None),
            Source::Oidc => {
                let issued = is_issued(&found, provider, &running, "AssumeRoleWithOIDC");
                assert_eq!(issued.inputs["RoleArn"], ROLE_ARN);
                assert_eq!(issued.inputs["OIDCProviderArn"], PROVIDER_ARN);
                assert_eq!(issued.inputs["DurationSeconds"], "3600");
            }
            Source::Ecs => {
                is_issued(&found, provider, &running, "MetadataCredentials");
            }
            Source::Uri => {
                is_issued(&found, provider, &running, "CredentialsUri");
            }
        }
    }
    let place = Place::new()
        .with(Source::Environment, &running)
        .set("SECURITY_TOKEN", "to+ken/=");
    let found = judge.choose(&place);
    is_key(
        &found,
        "default/env",
        "env-key",
        "env-secret",
        Some("to+ken/="),
    );
}

/// What our chain finds, or why it finds nothing.
async fn ours(place: &Place, running: &Running) -> Result<Credentials, String> {
    let mut variables = place.env.clone();
    let home = place.home.path().to_str().expect("UTF-8");
    variables.insert("HOME".to_owned(), home.into());
    let context = Context {
        name: "test".to_owned(),
        http: Http::new("test").expect("TLS"),
        observer: Arc::new(()),
        clock: Clock::system(),
        addresses: Addresses {
            sts: Some(running.url()),
            metadata: running.url(),
            ..Addresses::default()
        },
        home: None,
        session_name: "test".to_owned(),
    };
    let chain = Chain::official(&context, move |name| {
        Some(variables.get(name)?.as_str()?.to_owned())
    });
    chain.provide().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_library_and_our_chain_take_the_same_of_several_sources() {
    let running = cloud();
    let Some(mut judge) = Judge::start(&running) else {
        return;
    };
    for present in 0..1_u32 << SOURCES.len() {
        running.update_issuing(|issuing| issuing.metadata = Metadata::Off);
        let is_present = |at: &usize| present & (1 << at) != 0;
        let present: Vec<Source> = (0..SOURCES.len())
            .filter(is_present)
            .map(|at| SOURCES[at])
            .collect();
        let place = present
            .iter()
            .fold(Place::new(), |place, source| place.with(*source, &running));
        let found = judge.choose(&place);
        let first = present.first().map(|source| source.provider());
        assert_eq!(found["provider"].as_str(), first, "{present:?}: {found}");

        let ours = ours(&place, &running).await;
        match (ours, present.first()) {
            (Ok(ours), Some(first)) => {
                assert_eq!(ours.provider, first.ours(), "{present:?}");
                let is_local = running
                    .issued()
                    .iter()
                    .all(|one| one.key.id != ours.access_key_id);
                if is_local {
                    assert_eq!(found["access_key_id"], ours.access_key_id.as_str());
                }
                let handed_out = matches!(first, Source::Oidc | Source::Ecs | Source::Uri);
                assert_eq!(is_local, !handed_out, "{present:?}");
            }
            (Err(told), None) => {
                for source in SOURCES {
                    let named = format!("{}: not configured: ", source.ours());
                    assert!(told.contains(&named), "{named}: {told}");
                }
            }
            (ours, _) => panic!("{present:?}: {ours:?}"),
        }
    }
}

#[test]
fn the_library_knows_each_mode_of_a_profile() {
    let running = cloud();
    let Some(mut judge) = Judge::start(&running) else {
        return;
    };
    let base = json!({
        "name": "base", "mode": "AK",
        "access_key_id": "cli-key", "access_key_secret": "cli-secret",
    });
    let mut choose = |profile: Value| {
        let place = Place::new().profiles(&[profile, base.clone()]);
        judge.choose(&place)
    };

    let found = choose(json!({
        "name": "a", "mode": "StsToken", "access_key_id": "STS.a",
        "access_key_secret": "s", "sts_token": "t",
    }));
    is_key(
        &found,
        "default/cli_profile/static_sts",
        "STS.a",
        "s",
        Some("t"),
    );

    let found = choose(json!({
        "name": "a", "mode": "RamRoleArn",
        "access_key_id": "cli-key", "access_key_secret": "cli-secret",
        "ram_role_arn": ROLE_ARN, "ram_session_name": "session", "expired_seconds": 900,
        "external_id": "customer/7",
    }));
    let provider = "default/cli_profile/ram_role_arn/static_ak";
    let issued = is_issued(&found, provider, &running, "AssumeRole");
    assert_eq!(issued.signed_by.as_deref(), Some("cli-key"));
    let inputs: Vec<_> = issued.inputs.iter().map(|(n, v)| (*n, &**v)).collect();
    assert_eq!(
        inputs,
        [
            ("DurationSeconds", "900"),
            ("ExternalId", "customer/7"),
            ("RoleArn", ROLE_ARN),
            ("RoleSessionName", "session"),
        ]
    );

    let found = choose(json!({
        "name": "a", "mode": "ChainableRamRoleArn", "source_profile": "base",
        "ram_role_arn": ROLE_ARN, "ram_session_name": "session",
    }));
    let issued = is_issued(&found, provider, &running, "AssumeRole");
    assert_eq!(issued.signed_by.as_deref(), Some("cli-key"));

    running.update_issuing(|issuing| issuing.metadata = Metadata::TokenRequired);
    let found = choose(json!({
        "name": "a", "mode": "EcsRamRole", "ram_role_name": demo::ROLE_NAME,
    }));
    let provider = "default/cli_profile/ecs_ram_role";
    is_issued(&found, provider, &running, "MetadataCredentials");
    running.update_issuing(|issuing| issuing.metadata = Metadata::Off);

    let files = Place::new().file("token", demo::OIDC_TOKEN);
    let found = choose(json!({
        "name": "a", "mode": "OIDC", "ram_role_arn": ROLE_ARN,
        "oidc_provider_arn": PROVIDER_ARN, "oidc_token_file": files.path("token"),
        "role_session_name": "session",
    }));
    let provider = "default/cli_profile/oidc_role_arn";
    let issued = is_issued(&found, provider, &running, "AssumeRoleWithOIDC");
    assert_eq!(issued.inputs["RoleSessionName"], "session");

    let answer = json!({
        "mode": "StsToken", "access_key_id": "STS.x", "access_key_secret": "x",
        "sts_token": "xt", "expiration": "2999-01-01T00:00:00Z",
    });
    let files = Place::new().file("answer", &answer.to_string());
    let found = choose(json!({
        "name": "a", "mode": "External",
        "process_command": format!("cat {}", files.path("answer")),
    }));
    is_key(
        &found,
        "default/cli_profile/external",
        "STS.x",
        "x",
        Some("xt"),
    );
}

#[test]
fn the_library_knows_each_type_of_a_credentials_file() {
    let running = cloud();
    let Some(mut judge) = Judge::start(&running) else {
        return;
    };
    let found = judge.choose(&Place::new().ini(&format!(
        "type = ram_role_arn\naccess_key_id = ini-key\naccess_key_secret = ini-secret\n\
         role_arn = {ROLE_ARN}\nrole_session_name = session"
    )));
    let provider = "default/profile/ram_role_arn/static_ak";
    let issued = is_issued(&found, provider, &running, "AssumeRole");
    assert_eq!(issued.signed_by.as_deref(), Some("ini-key"));
    assert_eq!(issued.inputs["RoleSessionName"], "session");

    let (place, token) = Place::new().token_file();
    let found = judge.choose(&place.ini(&format!(
        "type = oidc_role_arn\nrole_arn = {ROLE_ARN}\noidc_provider_arn = {PROVIDER_ARN}\n\
         oidc_token_file_path = {token}"
    )));
    let provider = "default/profile/oidc_role_arn";
    is_issued(&found, provider, &running, "AssumeRoleWithOIDC");

    running.update_issuing(|issuing| issuing.metadata = Metadata::WithoutTokens);
    let place = Place::new().ini(&format!(
        "type = ecs_ram_role\nrole_name = {}",
        demo::ROLE_NAME
    ));
    let found = judge.choose(&place);
    let provider = "default/profile/ecs_ram_role";
    is_issued(&found, provider, &running, "MetadataCredentials");

    // Elsewhere, and under another name.
    let place = Place::new().file(
        "elsewhere",
        "[other]\ntype = access_key\naccess_key_id = ini-key\naccess_key_secret = ini-secret\n",
    );
    let elsewhere = place.path("elsewhere");
    let found = judge.choose(
        &place
            .set("CREDENTIALS_FILE", elsewhere)
            .set("PROFILE", "other"),
    );
    is_key(
        &found,
        Source::File.provider(),
        "ini-key",
        "ini-secret",
        None,
    );
}

#[test]
fn the_library_leaves_the_machines_role_alone_where_told() {
    let running = cloud();
    let Some(mut judge) = Judge::start(&running) else {
        return;
    };
    let place = || Place::new().with(Source::Ecs, &running);
    let found = judge.choose(&place().set("ECS_METADATA_DISABLED", "true"));
    assert_eq!(found["provider"], Value::Null, "{found}");
    assert!(running.requests().requests.is_empty());

    // Without a token it goes on without the header, unless that is disabled.
    running.update_issuing(|issuing| issuing.metadata = Metadata::WithoutTokens);
    let found = judge.choose(&Place::new());
    is_issued(
        &found,
        Source::Ecs.provider(),
        &running,
        "MetadataCredentials",
    );
    let found = judge.choose(&Place::new().set("IMDSV1_DISABLED", "true"));
    assert_eq!(found["provider"], Value::Null, "{found}");

    running.update_issuing(|issuing| issuing.metadata = Metadata::TokenRequired);
    running.clear_requests();
    let found = judge.choose(&Place::new().set("ECS_METADATA", demo::ROLE_NAME));
    is_issued(
        &found,
        Source::Ecs.provider(),
        &running,
        "MetadataCredentials",
    );
    assert!(!running.requests().counts.contains_key("MetadataRole"));
}
