//! Every type of credentials in the real daemon: that its keys arrive, what is
//! told of them, and what happens where their source breaks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RowSpec, TaskSpec};
use simulator::{Issued, Issuing, Metadata, Running, Simulator, SimulatorConfig, World, demo};
use tempfile::TempDir;

use crate::harness::{Daemon, Said, binary, eventually, run};

/// 2026-01-02T03:04:05Z
const S: i64 = 1_767_323_045_000;
pub(crate) const ROLE: &str = "acs:ram::123456789012:role/reader";
pub(crate) const OIDC_PROVIDER: &str = "acs:ram::123456789012:oidc-provider/ack-rrsa-c1";
pub(crate) const ROWS: &str = "GetArtifactSubscriptionTaskResult";

/// A cloud with one task, and a home folder.
pub(crate) struct Setup {
    pub(crate) cloud: Running,
    pub(crate) home: TempDir,
}

impl Setup {
    pub(crate) fn new(issuing: Issuing) -> Self {
        Self::on(SimulatorConfig::default().listen, issuing)
    }

    fn on(listen: std::net::SocketAddr, issuing: Issuing) -> Self {
        let running = RowSpec::running("mirror", "nginx", "1", S);
        let cloud = Simulator::start(SimulatorConfig {
            listen,
            issuing,
            world: World::new()
                .instance("cri-a", "cn-hangzhou")
                .task(TaskSpec::running("crast-1", S).row(running)),
            ..SimulatorConfig::default()
        });
        Self {
            cloud: cloud.unwrap(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes a file below the home folder and answers its path.
    pub(crate) fn write(&self, path: &str, text: &str) -> String {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A profile of the vendor's command line tool, the current one, with others.
    fn profiles(&self, profiles: &[Value]) -> String {
        let config = json!({"current": profiles[0]["name"], "profiles": profiles});
        self.write(".aliyun/config.json", &config.to_string())
    }

    /// `entries` are what stands under `credentials`; the task's is `test`.
    pub(crate) fn config(&self, entries: &Value) -> String {
        config(&self.cloud.url(), entries)
    }

    pub(crate) fn serve(&self, entries: &Value, variables: &[(&str, &str)]) -> Daemon {
        let home = self.home.path().to_str().unwrap();
        let environment = [&[("HOME", home)], variables].concat();
        let arguments = ["--log.level=trace"];
        Daemon::serve_with(&self.config(entries), &arguments, &environment)
    }

    /// A command that ends, with this configuration.
    pub(crate) fn run(&self, arguments: &[&str], entries: &Value) -> Said {
        self.write("config.yaml", &self.config(entries));
        let mut command = binary(arguments);
        command.current_dir(self.home.path());
        run(command.env("HOME", self.home.path()))
    }

    /// The last that was handed out.
    fn issued(&self) -> Issued {
        self.cloud.issued().pop().unwrap()
    }

    fn fault(&self, action: &str, fault: Fault) {
        self.cloud.add_fault(FaultRule::new(fault).action(action));
    }

    /// An entry that assumes the role with the key of the entry `source`.
    pub(crate) fn assume_role(&self, source: &str) -> Value {
        json!({"type": "assume_role", "role_arn": ROLE, "source": source, "sts_endpoint": self.cloud.url()})
    }

    pub(crate) fn oidc(&self) -> Value {
        json!({
            "type": "oidc", "role_arn": ROLE, "oidc_provider_arn": OIDC_PROVIDER,
            "oidc_token_file": self.write("token", demo::OIDC_TOKEN),
            "sts_endpoint": self.cloud.url(),
        })
    }

    pub(crate) fn ecs(&self) -> Value {
        json!({"type": "ecs_ram_role", "metadata_endpoint": self.cloud.url()})
    }

    /// That the task is polled with the key `id` of `provider`, which ends as
    /// `issued` says, and that nobody but the log knows of it.
    #[track_caller]
    fn works(
        &self,
        mut daemon: Daemon,
        provider: &str,
        id: &str,
        issued: Option<&Issued>,
    ) -> Daemon {
        daemon.ready();
        let page = daemon.page();
        assert_eq!(page[&of_task("up", "")], "1");
        assert_eq!(page[&of_task("status", ",status=\"running\"")], "1");
        let shown: Vec<_> = page
            .iter()
            .filter(|(name, _)| name.contains("_credentials_expiration_"))
            .filter(|(name, _)| name.contains("credentials=\"test\""))
            .collect();
        match issued {
            Some(issued) => {
                let seconds = (issued.expires / 1000).to_string();
                assert_eq!(shown, [(&expiration("test", provider), &seconds)]);
            }
            None => assert!(shown.is_empty(), "{shown:?}"),
        }
        assert_eq!(page[&failures("test")], "0");
        let line = daemon.logged("credentials=test provider=");
        let (rest, tail) = id.split_at(id.len() - 4);
        let told = format!("credentials=test provider={provider} access_key_id=…{tail}");
        assert!(line.contains(&told), "{line}");
        let last = &rest[rest.len() - 1..];
        assert!(!daemon.log().contains(&format!("{last}{tail}")));
        let used = self.cloud.requests();
        let rows = used.requests.iter();
        let mut rows = rows.filter(|one| one.action.as_deref() == Some(ROWS));
        assert!(rows.all(|one| one.key_id.as_deref() == Some(id)));
        daemon
    }

    /// The same for the key that was handed out last, under `action`.
    #[track_caller]
    fn works_with_issued(&self, daemon: Daemon, provider: &str, action: &str) -> (Issued, Daemon) {
        daemon.ready();
        let issued = self.issued();
        assert_eq!(issued.action, action);
        let daemon = self.works(daemon, provider, &issued.key.id, Some(&issued));
        if action.starts_with("AssumeRole") {
            assert_eq!(daemon.page()[&requests(action)], "1");
        }
        (issued, daemon)
    }
}

pub(crate) fn config(url: &str, entries: &Value) -> String {
    json!({
        "poll": {"interval": "1s", "timeout": "5s"},
        "api": {"requests_per_second": 200, "burst": 200, "retries": 0},
        "credentials": entries,
        "instances": [{
            "id": "cri-a", "region": "cn-hangzhou", "credentials": "test",
            "endpoint": url, "tasks": ["crast-1"],
        }],
    })
    .to_string()
}

pub(crate) fn of_task(name: &str, more: &str) -> String {
    format!(
        "aliyun_acr_subscription_task_{name}{{instance_id=\"cri-a\",task_id=\"crast-1\",task=\"crast-1\"{more}}}"
    )
}

fn expiration(credentials: &str, provider: &str) -> String {
    format!(
        "aliyun_acr_exporter_credentials_expiration_timestamp_seconds{{credentials=\"{credentials}\",provider=\"{provider}\"}}"
    )
}

pub(crate) fn failures(credentials: &str) -> String {
    format!(
        "aliyun_acr_exporter_credentials_refresh_failures_total{{credentials=\"{credentials}\"}}"
    )
}

fn requests(action: &str) -> String {
    format!("aliyun_acr_exporter_api_requests_total{{action=\"{action}\",credentials=\"test\"}}")
}

pub(crate) fn no_key() -> String {
    of_task("poll_error", ",reason=\"credentials\"")
}

pub(crate) fn known_key() -> Value {
    json!({"type": "access_key", "access_key_id": demo::KEY_ID, "access_key_secret": demo::KEY_SECRET})
}

/// A key of the cloud's with an hour to live, as somebody else has asked for it.
fn handed_out(setup: &Setup) -> (Issued, String) {
    let issued = setup.cloud.issue(Duration::from_secs(3600));
    let token = issued.key.token.clone().unwrap();
    (issued, token)
}

#[test]
fn access_keys_written_in_the_configuration_and_in_the_environment() {
    let setup = Setup::new(Issuing::default());
    let daemon = setup.serve(&json!({"test": known_key()}), &[]);
    let daemon = setup.works(daemon, "access_key", demo::KEY_ID, None);
    assert!(!daemon.page().contains_key(&requests("AssumeRole")));

    let (issued, token) = handed_out(&setup);
    setup.cloud.clear_requests();
    let entry = json!({
        "type": "access_key", "access_key_id": issued.key.id,
        "access_key_secret_file": setup.write("secret", &issued.key.secret),
        "security_token_file": setup.write("token", &token),
    });
    drop(daemon);
    let daemon = setup.serve(&json!({"test": entry}), &[]);
    setup.works(daemon, "access_key", &issued.key.id, None);

    let variables = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", &*issued.key.id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", &issued.key.secret),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", &token),
    ];
    let daemon = setup.serve(&json!({"test": {"type": "environment"}}), &variables);
    setup.works(daemon, "environment", &issued.key.id, None);

    // Other types take nothing from there.
    setup.cloud.clear_requests();
    let daemon = setup.serve(&json!({"test": known_key()}), &variables);
    setup.works(daemon, "access_key", demo::KEY_ID, None);
}

#[test]
fn a_profile_of_each_mode() {
    let setup = Setup::new(Issuing::default());
    let (issued, token) = handed_out(&setup);
    let entry = json!({"test": {
        "type": "profile", "sts_endpoint": setup.cloud.url(),
        "metadata_endpoint": setup.cloud.url(),
    }});
    let base = json!({
        "name": "base", "mode": "AK",
        "access_key_id": demo::KEY_ID, "access_key_secret": demo::KEY_SECRET,
    });
    let serve = |profile: Value| {
        setup.profiles(&[profile, base.clone()]);
        setup.cloud.clear_requests();
        setup.serve(&entry, &[])
    };

    let daemon = serve(base.clone());
    setup.works(daemon, "profile", demo::KEY_ID, None);
    let daemon = serve(json!({
        "name": "a", "mode": "StsToken", "access_key_id": issued.key.id,
        "access_key_secret": issued.key.secret, "sts_token": token,
    }));
    setup.works(daemon, "profile", &issued.key.id, None);

    let daemon = serve(json!({
        "name": "a", "mode": "RamRoleArn", "access_key_id": demo::KEY_ID,
        "access_key_secret": demo::KEY_SECRET, "ram_role_arn": ROLE,
        "ram_session_name": "from-profile", "expired_seconds": 900,
    }));
    let (assumed, _) = setup.works_with_issued(daemon, "profile", "AssumeRole");
    assert_eq!(assumed.inputs["RoleSessionName"], "from-profile");
    assert_eq!(assumed.inputs["DurationSeconds"], "900");
    assert_eq!(assumed.signed_by.as_deref(), Some(demo::KEY_ID));

    let daemon = serve(json!({
        "name": "a", "mode": "ChainableRamRoleArn", "source_profile": "base",
        "ram_role_arn": ROLE,
    }));
    let (assumed, _) = setup.works_with_issued(daemon, "profile", "AssumeRole");
    assert_eq!(assumed.signed_by.as_deref(), Some(demo::KEY_ID));

    let daemon = serve(json!({"name": "a", "mode": "EcsRamRole"}));
    setup.works_with_issued(daemon, "profile", "MetadataCredentials");

    let daemon = serve(json!({
        "name": "a", "mode": "OIDC", "ram_role_arn": ROLE,
        "oidc_provider_arn": OIDC_PROVIDER,
        "oidc_token_file": setup.write("token", demo::OIDC_TOKEN),
    }));
    setup.works_with_issued(daemon, "profile", "AssumeRoleWithOIDC");

    let (issued, token) = handed_out(&setup);
    let ends = jiff::Timestamp::from_millisecond(issued.expires).unwrap();
    let printed = json!({
        "mode": "StsToken", "access_key_id": issued.key.id, "sts_token": token,
        "access_key_secret": issued.key.secret, "expiration": ends.to_string(),
    });
    let printed = setup.write("printed", &printed.to_string());
    let daemon = serve(json!({
        "name": "a", "mode": "External", "process_command": format!("cat {printed}"),
    }));
    setup.works(daemon, "profile", &issued.key.id, Some(&issued));
}

#[test]
fn a_section_of_each_type_in_a_credentials_file() {
    const INI: &str = ".alibabacloud/credentials.ini";
    let setup = Setup::new(Issuing::default());
    let (issued, token) = handed_out(&setup);
    let entry = json!({"test": {
        "type": "credentials_file", "sts_endpoint": setup.cloud.url(),
        "metadata_endpoint": setup.cloud.url(),
    }});
    let key = format!(
        "access_key_id = {}\naccess_key_secret = {}",
        demo::KEY_ID,
        demo::KEY_SECRET
    );
    let serve = |file: &str, lines: &str| {
        setup.write(file, &format!("[default]\n{lines}\n"));
        setup.cloud.clear_requests();
        setup.serve(&entry, &[])
    };
    let daemon = serve(INI, &format!("type = access_key\n{key}"));
    setup.works(daemon, "credentials_file", demo::KEY_ID, None);
    let lines = format!(
        "type = sts\naccess_key_id = {}\naccess_key_secret = {}\nsecurity_token = {token}",
        issued.key.id, issued.key.secret
    );
    let daemon = serve(INI, &lines);
    setup.works(daemon, "credentials_file", &issued.key.id, None);
    let lines = format!("type = ram_role_arn\n{key}\nrole_arn = {ROLE}");
    let daemon = serve(INI, &lines);
    setup.works_with_issued(daemon, "credentials_file", "AssumeRole");
    let lines = format!(
        "type = oidc_role_arn\nrole_arn = {ROLE}\noidc_provider_arn = {OIDC_PROVIDER}\noidc_token_file_path = {}",
        setup.write("token", demo::OIDC_TOKEN)
    );
    let daemon = serve(INI, &lines);
    setup.works_with_issued(daemon, "credentials_file", "AssumeRoleWithOIDC");
    // The file without an ending goes first.
    let daemon = serve(".alibabacloud/credentials", "type = ecs_ram_role");
    setup.works_with_issued(daemon, "credentials_file", "MetadataCredentials");
}

#[test]
fn a_role_by_an_oidc_token() {
    let setup = Setup::new(Issuing::default());
    let daemon = setup.serve(&json!({"test": setup.oidc()}), &[]);
    let (assumed, _) = setup.works_with_issued(daemon, "oidc", "AssumeRoleWithOIDC");
    assert_eq!(assumed.inputs["RoleArn"], ROLE);
    assert_eq!(assumed.inputs["OIDCProviderArn"], OIDC_PROVIDER);
    assert_eq!(assumed.inputs["RoleSessionName"], "aliyun-acr-exporter");
    assert_eq!(assumed.signed_by, None);
}

#[test]
fn the_role_of_the_machine_with_a_token_and_without() {
    let setup = Setup::new(Issuing {
        metadata: Metadata::TokenRequired,
        ..Issuing::default()
    });
    let entry = json!({"test": setup.ecs()});
    let daemon = setup.serve(&entry, &[]);
    setup.works_with_issued(daemon, "ecs_ram_role", "MetadataCredentials");

    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::WithoutTokens);
    setup.cloud.clear_requests();
    let daemon = setup.serve(&entry, &[]);
    setup.works_with_issued(daemon, "ecs_ram_role", "MetadataCredentials");

    // A role that is named is not asked for; without tokens, nothing is.
    let mut entry = setup.ecs();
    entry["role_name"] = demo::ROLE_NAME.into();
    entry["disable_imdsv1"] = true.into();
    setup.cloud.clear_requests();
    let mut daemon = setup.serve(&json!({"test": entry}), &[]);
    daemon.until(&no_key(), "1");
    daemon.logged("gives no token (HTTP 405)");
    let asked = setup.cloud.requests();
    assert_eq!(asked.count("MetadataToken"), asked.total);
    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::TokenRequired);
    let page = daemon.until(&of_task("up", ""), "1");
    assert_eq!(page[&failures("test")], "1");
    let asked = setup.cloud.requests();
    assert_eq!(asked.count("MetadataRole"), 0);
    assert_eq!(asked.count("MetadataCredentials"), 1);
}

#[test]
fn a_credentials_uri() {
    let setup = Setup::new(Issuing::default());
    let entry = json!({"type": "uri", "uri": setup.cloud.credentials_uri()});
    let daemon = setup.serve(&json!({"test": entry}), &[]);
    setup.works_with_issued(daemon, "uri", "CredentialsUri");
}

#[test]
fn a_role_assumed_over_another_entry() {
    let external_id = "customer/7=of:twelve";
    let setup = Setup::new(Issuing {
        external_ids: [(ROLE.to_owned(), external_id.to_owned())].into(),
        ..Issuing::default()
    });
    let policy = r#"{"Version":"1","Statement":[]}"#;
    let mut entry = setup.assume_role("base");
    entry["external_id_file"] = setup.write("external", &format!("{external_id}\n")).into();
    entry["policy"] = policy.into();
    entry["role_session_name"] = "exporter@cluster-1".into();
    entry["duration"] = "30m".into();
    let base = json!({"type": "uri", "uri": setup.cloud.credentials_uri()});
    let daemon = setup.serve(&json!({"test": entry, "base": base}), &[]);
    let (assumed, daemon) = setup.works_with_issued(daemon, "assume_role", "AssumeRole");
    let expected = [
        ("DurationSeconds", "1800"),
        ("ExternalId", external_id),
        ("Policy", policy),
        ("RoleArn", ROLE),
        ("RoleSessionName", "exporter@cluster-1"),
    ];
    let inputs: Vec<_> = assumed.inputs.iter().map(|(n, v)| (*n, &**v)).collect();
    assert_eq!(inputs, expected);
    let base = &setup.cloud.issued()[0];
    assert_eq!(base.action, "CredentialsUri");
    assert_eq!(assumed.signed_by.as_ref(), Some(&base.key.id));
    // Both entries tell when their keys end.
    let ends = (base.expires / 1000).to_string();
    assert_eq!(daemon.page()[&expiration("base", "uri")], ends);
    // A role may be the source of the next.
    setup.cloud.clear_requests();
    let entries = json!({
        "test": setup.assume_role("middle"), "middle": setup.oidc(),
    });
    drop(daemon);
    setup
        .cloud
        .update_issuing(|issuing| issuing.external_ids.clear());
    let daemon = setup.serve(&entries, &[]);
    setup.works_with_issued(daemon, "assume_role", "AssumeRole");
}

#[test]
fn the_default_chain_finds_each_source() {
    let setup = Setup::new(Issuing::default());
    let entry = json!({"test": {
        "type": "default", "sts_endpoint": setup.cloud.url(),
        "metadata_endpoint": setup.cloud.url(),
    }});
    let token = setup.write("token", demo::OIDC_TOKEN);
    let uri = setup.cloud.credentials_uri();
    let mut variables = vec![
        ("ALIBABA_CLOUD_CREDENTIALS_URI", &*uri),
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", OIDC_PROVIDER),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", &token),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", demo::KEY_ID),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", demo::KEY_SECRET),
    ];
    let (of_profile, sts_token) = handed_out(&setup);
    setup.profiles(&[json!({
        "name": "a", "mode": "StsToken", "access_key_id": of_profile.key.id,
        "access_key_secret": of_profile.key.secret, "sts_token": sts_token,
    })]);
    let (of_file, security_token) = handed_out(&setup);
    let ini = format!(
        "[default]\ntype = sts\naccess_key_id = {}\naccess_key_secret = {}\nsecurity_token = {security_token}\n",
        of_file.key.id, of_file.key.secret
    );
    setup.write(".alibabacloud/credentials", &ini);
    let serve = |variables: &[(&str, &str)]| {
        setup.cloud.clear_requests();
        setup.serve(&entry, variables)
    };

    setup.works(serve(&variables), "environment", demo::KEY_ID, None);
    variables.truncate(4);
    setup.works_with_issued(serve(&variables), "oidc", "AssumeRoleWithOIDC");
    variables.truncate(1);
    setup.works(serve(&variables), "profile", &of_profile.key.id, None);
    let remove = |file: &str| std::fs::remove_file(setup.home.path().join(file)).unwrap();
    remove(".aliyun/config.json");
    let daemon = serve(&variables);
    setup.works(daemon, "credentials_file", &of_file.key.id, None);
    remove(".alibabacloud/credentials");
    let daemon = serve(&variables);
    setup.works_with_issued(daemon, "ecs_ram_role", "MetadataCredentials");
    // A service that answers too late is none.
    setup.fault("Metadata", Fault::Slow { ms: 3_000 });
    setup.works_with_issued(serve(&variables), "uri", "CredentialsUri");
}

#[test]
fn a_broken_provider_stops_the_chain_and_every_one_tried_is_told_once() {
    let setup = Setup::new(Issuing::default());
    let entry = json!({"test": {
        "type": "default", "sts_endpoint": setup.cloud.url(),
        "metadata_endpoint": setup.cloud.url(),
    }});
    setup.fault("Metadata", Fault::HtmlPage { status: 200 });
    let uri = setup.cloud.credentials_uri();
    let mut daemon = setup.serve(&entry, &[("ALIBABA_CLOUD_CREDENTIALS_URI", &uri)]);
    daemon.until(&no_key(), "1");
    polled_times(&daemon, 3);
    let told = daemon.logged("credentials cannot be had");
    for part in [
        "default: ecs_ram_role: ",
        "the answer is no role's name",
        "tried before it: environment: not configured: ",
        "; oidc: not configured: ",
        "; profile: not configured: ",
        "; credentials_file: not configured: ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let log = daemon.log();
    assert_eq!(log.matches("credentials cannot be had").count(), 1, "{log}");
    assert_eq!(log.matches("level=error").count(), 1, "{log}");
    assert_eq!(setup.cloud.requests().count("CredentialsUri"), 0);
    assert_eq!(daemon.page()[&failures("test")], "1");

    setup.cloud.clear_faults();
    let page = daemon.until(&of_task("up", ""), "1");
    assert!(page.contains_key(&expiration("test", "ecs_ram_role")));
}

/// Waits for so many polls.
pub(crate) fn polled_times(daemon: &Daemon, times: u32) {
    eventually("polls", || (daemon.polls() >= times).then_some(()));
}

#[test]
fn a_metadata_service_that_is_dead_late_or_answers_html_ends_nothing() {
    // A port that was free a moment ago and refuses connections.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let url = format!("http://{address}");
    let entry = json!({"test": {"type": "ecs_ram_role", "metadata_endpoint": url}});
    let mut dead = Daemon::serve(&config(&url, &entry));
    let with = |fault| {
        let setup = Setup::new(Issuing::default());
        setup.fault("Metadata", fault);
        let daemon = setup.serve(&json!({"test": setup.ecs()}), &[]);
        (setup, daemon)
    };
    let (late_cloud, mut late) = with(Fault::Slow { ms: 3_000 });
    let (page_cloud, mut page) = with(Fault::HtmlPage { status: 200 });
    let (gateway_cloud, mut gateway) = with(Fault::HtmlPage { status: 502 });

    for (daemon, told) in [
        (&mut dead, "no connection"),
        (&mut late, "no answer within 1s"),
        (&mut page, "the answer is no role's name"),
        (&mut gateway, "names no role (HTTP 502)"),
    ] {
        daemon.ready();
        let page = daemon.until(&no_key(), "1");
        assert_eq!(page[&of_task("up", "")], "0");
        assert_eq!(page[&failures("test")], "1");
        let reason =
            "aliyun_acr_exporter_poll_failures_total{instance_id=\"cri-a\",reason=\"credentials\"}";
        assert_ne!(page[reason], "0");
        let line = daemon.logged("credentials cannot be had");
        assert!(line.contains("ecs_ram_role: "), "{line}");
        assert!(line.contains(told), "{line}");
        assert_eq!(daemon.get("/-/healthy").status, 200);
    }

    let dead_cloud = Setup::on(address, Issuing::default());
    for (cloud, mut daemon) in [
        (dead_cloud, dead),
        (late_cloud, late),
        (page_cloud, page),
        (gateway_cloud, gateway),
    ] {
        cloud.cloud.clear_faults();
        let page = daemon.until(&of_task("up", ""), "1");
        assert!(!page.contains_key(&no_key()));
        let ends = (cloud.issued().expires / 1000).to_string();
        assert_eq!(page[&expiration("test", "ecs_ram_role")], ends);
        daemon.logged("credentials are in use");
    }
}

#[test]
fn a_revoked_key_is_renewed_once_and_the_poll_succeeds() {
    let setup = Setup::new(Issuing::default());
    let started = Instant::now();
    let entries = json!({"test": setup.assume_role("base"), "base": known_key()});
    let daemon = setup.serve(&entries, &[]);
    let (first, daemon) = setup.works_with_issued(daemon, "assume_role", "AssumeRole");
    eventually("another key may be asked for, ten seconds later", || {
        (started.elapsed() > Duration::from_secs(12)).then_some(())
    });
    assert!(setup.cloud.revoke(&first.key.id));
    let page = daemon.until(&requests("AssumeRole"), "2");
    let errors = |reason| {
        format!(
            "aliyun_acr_exporter_api_request_errors_total{{action=\"{ROWS}\",credentials=\"test\",reason=\"{reason}\"}}"
        )
    };
    assert_eq!(page[&errors("auth")], "1");
    let before = setup.cloud.requests().count(ROWS);
    eventually("two more polls", || {
        (setup.cloud.requests().count(ROWS) >= before + 2).then_some(())
    });
    let page = daemon.page();
    assert_eq!(page[&errors("auth")], "1");
    let retries =
        format!("aliyun_acr_exporter_api_retries_total{{action=\"{ROWS}\",credentials=\"test\"}}");
    assert_eq!(page[&retries], "1");
    for (name, failed) in &page {
        if name.starts_with("aliyun_acr_exporter_poll_failures_total") {
            assert_eq!(failed, "0", "{name}");
        }
    }
    assert_eq!(page[&failures("test")], "0");
    let second = setup.issued();
    assert_ne!(first.key.id, second.key.id);
    let refused = setup.cloud.requests();
    let codes = refused
        .requests
        .iter()
        .filter_map(|one| one.code.as_deref());
    let refused = codes.filter(|code| *code == "InvalidSecurityToken.Expired");
    assert_eq!(refused.count(), 1);
}

#[test]
fn a_key_is_kept_to_its_end_where_the_next_cannot_be_had() {
    let setup = Setup::new(Issuing {
        lifetime: Some(Duration::from_secs(18)),
        ..Issuing::default()
    });
    let entries = json!({"test": setup.assume_role("base"), "base": known_key()});
    let daemon = setup.serve(&entries, &[]);
    let (first, mut daemon) = setup.works_with_issued(daemon, "assume_role", "AssumeRole");
    let unavailable = Fault::Error {
        status: 503,
        code: "ServiceUnavailable".to_owned(),
        message: "as asked".to_owned(),
    };
    setup.fault("AssumeRole", unavailable);
    // A third of its life before the end.
    let page = daemon.until(&failures("test"), "1");
    assert_eq!(page[&of_task("up", "")], "1");
    let ends = (first.expires / 1000).to_string();
    assert_eq!(page[&expiration("test", "assume_role")], ends);
    let told = daemon.logged("credentials cannot be had");
    assert!(told.contains("old_key_in_use=true"), "{told}");
    assert!(told.contains("ServiceUnavailable"), "{told}");
    daemon.until(&no_key(), "1");
    setup.cloud.clear_faults();
    let page = daemon.until(&of_task("up", ""), "1");
    let ends = (setup.issued().expires / 1000).to_string();
    assert_eq!(page[&expiration("test", "assume_role")], ends);
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_told_of_once() {
    use std::os::unix::fs::PermissionsExt as _;

    for (mode, times) in [(0o600, 0), (0o644, 1)] {
        let setup = Setup::new(Issuing::default());
        let file = PathBuf::from(setup.write("secret", demo::KEY_SECRET));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let entry = json!({
            "type": "access_key", "access_key_id": demo::KEY_ID,
            "access_key_secret_file": file,
        });
        let daemon = setup.serve(&json!({"test": entry}), &[]);
        let daemon = setup.works(daemon, "access_key", demo::KEY_ID, None);
        polled_times(&daemon, 3);
        let log = daemon.log();
        let told = log.lines().filter(|line| line.contains("level=warn"));
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), times, "{log}");
        let shown = file.display().to_string();
        assert!(told.iter().all(|line| line.contains(&shown)), "{log}");
    }
}

#[test]
fn commands_say_which_provider_answered_and_what_is_missing() {
    let setup = Setup::new(Issuing::default());
    let entries = json!({"test": setup.assume_role("base"), "base": known_key()});
    for arguments in [
        &["check-config", "--online"][..],
        &["query", "cri-a", "crast-1"],
    ] {
        let fine = setup.run(arguments, &entries);
        assert_eq!(fine.code, 0, "{}", fine.err);
        let signer = || {
            let id = setup.issued().key.id;
            let end = &id[id.len() - 4..];
            format!("credentials test from assume_role (…{end})")
        };
        let said = format!("{}{}", fine.out, fine.err);
        assert_eq!(said.matches(&signer()).count(), 1, "{said}");

        let denied = || Fault::Denied {
            code: "NoPermission".to_owned(),
            auth_action: None,
            principal_type: "AssumedRoleUser".to_owned(),
            no_permission_type: "ImplicitDeny".to_owned(),
        };
        setup.fault(ROWS, denied());
        let refused = setup.run(arguments, &entries);
        assert_eq!((refused.code, refused.err.contains("panic")), (1, false));
        let needs = format!("needs cr:{ROWS} on acs:cr:cn-hangzhou:*:instance/cri-a");
        assert!(refused.err.contains(&needs), "{}", refused.err);
        assert!(refused.err.contains(&signer()), "{}", refused.err);

        setup.cloud.clear_faults();
        setup.fault("AssumeRole", denied());
        let refused = setup.run(arguments, &entries);
        assert_eq!(refused.code, 1, "{}", refused.err);
        let needs = format!("needs sts:AssumeRole on {ROLE}");
        assert!(refused.err.contains(&needs), "{}", refused.err);
        assert!(!refused.err.contains(" from "), "{}", refused.err);
        // Its own error, and not once more as a warning that promises another try.
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        setup.cloud.clear_faults();
    }
}

#[test]
fn a_provider_that_fails_within_itself_is_named_once() {
    let setup = Setup::new(Issuing::default());
    let file = setup.profiles(&[json!({
        "name": "a", "mode": "External", "process_command": "/nowhere/to/be/found",
    })]);
    let said = setup.run(
        &["query", "cri-a", "crast-1"],
        &json!({"test": {"type": "profile"}}),
    );
    assert_eq!(said.code, 1);
    let expected = format!(
        "{ROWS}: no usable credentials: profile: \"a\" of {file}: process_command cannot be started: No such file or directory (os error 2)"
    );
    assert_eq!(said.err.lines().last(), Some(&*expected), "{}", said.err);
}

#[test]
fn keys_are_renewed_without_polls_until_a_reload_drops_them() {
    let setup = Setup::new(Issuing {
        lifetime: Some(Duration::from_secs(3)),
        ..Issuing::default()
    });
    let config = |entries: Value| {
        let text = setup.config(&entries);
        text.replace(r#""interval":"1s""#, r#""interval":"1h""#)
    };
    let issued = |action: &str| {
        let issued = setup.cloud.issued();
        issued.iter().filter(|one| one.action == action).count()
    };
    let renewals = |action: &str, more: usize| {
        let expected = issued(action) + more;
        eventually(&format!("{more} of {action}"), || {
            (issued(action) >= expected).then_some(())
        });
    };
    let role = expiration("test", "assume_role");
    let machine = expiration("machine", "ecs_ram_role");
    let ends = |page: &BTreeMap<String, String>| {
        [&role, &machine].map(|name| page[name].parse::<i64>().unwrap())
    };

    let mut daemon = Daemon::serve(&config(json!({
        "machine": setup.ecs(), "test": setup.assume_role("machine"),
    })));
    let page = daemon.until(&of_task("up", ""), "1");
    let first = ends(&page);
    let polls = setup.cloud.requests().count(ROWS);
    for action in ["AssumeRole", "MetadataCredentials"] {
        renewals(action, 2);
    }
    let page = eventually("both are shown", || {
        let page = daemon.page();
        let now = ends(&page);
        (now[0] > first[0] && now[1] > first[1]).then_some(page)
    });
    for entry in ["test", "machine"] {
        assert_eq!(page[&failures(entry)], "0");
    }
    assert_eq!(setup.cloud.requests().count(ROWS), polls);

    // The machine's is still there, and nothing uses it. Another task is asked at once.
    let uri = json!({"type": "uri", "uri": setup.cloud.credentials_uri()});
    let other = config(json!({"machine": setup.ecs(), "test": uri}));
    daemon.rewrite(&other.replace(r#"["crast-1"]"#, r#"["crast-1","crast-2"]"#));
    daemon.signal("HUP");
    renewals("CredentialsUri", 2);
    let before = [issued("AssumeRole"), issued("MetadataCredentials")];
    renewals("CredentialsUri", 2);
    let after = [issued("AssumeRole"), issued("MetadataCredentials")];
    assert_eq!(after, before);
    let page = daemon.page();
    assert!(!page.contains_key(&role) && !page.contains_key(&machine));
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
}
