//! The configuration as a user meets it: which files are read and as what, and
//! what is said about each mistake.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aliyun_acr_exporter::config::{
    self, Addresses, Api, Artifacts, CausePatterns, Config, CredentialsSource, Endpoint, Error,
    Follow, Limits, Poll, RoleSession, Search, Secret, Signature, StatusWords, Task,
};
use proptest::prelude::*;
use regex::Regex;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../config.example.yaml");
const DOCUMENTATION: &str = include_str!("../docs/configuration.md");

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/config")
        .join(folder)
}

fn good(name: &str) -> Config {
    config::load(&testdata("good").join(name)).expect(name)
}

fn broken(text: &str) -> String {
    config::parse(text, "config.yaml")
        .expect_err(text)
        .to_string()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Each `NAME.yaml` is refused with exactly the text of `NAME.txt`. With BLESS=1
/// the texts are written instead: read every one of them before committing.
#[test]
fn broken_files_are_refused_in_these_words() {
    let folder = testdata("broken");
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not of the program"
    )]
    let bless = std::env::var_os("BLESS").is_some();
    let mut names = 0;
    let mut wrong = String::new();
    for entry in fs::read_dir(&folder).expect("testdata") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        names += 1;
        let error = config::load(&path).expect_err(&path.display().to_string());
        let found = error
            .to_string()
            .replace(&format!("{}/", folder.display()), "")
            + "\n";
        let expected = path.with_extension("txt");
        if bless {
            fs::write(&expected, &found).expect("blessed");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if expected != found {
            wrong.extend(["expected\n", &expected, "found\n", &found, "\n"]);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(names >= 130, "only {names} files in {}", folder.display());
}

/// The documented defaults, written down a second time by hand.
fn assert_defaults(config: &Config) {
    let poll = Poll {
        interval: seconds(60),
        finished_interval: seconds(3600),
        deadline: seconds(120),
        timeout: seconds(10),
        concurrency: 8,
        stale_after: seconds(300),
    };
    let api = Api {
        signature: Signature::Acs3HmacSha256,
        vpc: false,
        requests_per_second: 5.0,
        burst: 5,
        retries: 3,
        page_size: 100,
        max_pages: 100,
    };
    assert_eq!(config.poll, poll);
    assert_eq!(config.api, api);
    assert_eq!(config.artifacts, Artifacts::All);
    assert_eq!(config.status, StatusWords::default());
    assert_eq!(config.state_path, None);
    assert_eq!(
        config.limits,
        Limits {
            series: 200_000,
            artifacts_per_task: 500
        }
    );
    assert_eq!(config.credentials.len(), 1);
    assert_eq!(config.credentials[0].name, "default");
    let CredentialsSource::Default { addresses } = &config.credentials[0].source else {
        panic!("not the chain");
    };
    assert_eq!(*addresses, unwritten(false));
    assert_eq!(config.credentials[0].quota_group, None);
    assert_eq!(config.instances.len(), 1);
    assert_eq!(config.instances[0].id, "cri-90fxryf9pwf0abcd");
    assert_eq!(config.instances[0].region, "cn-hangzhou");
    assert_eq!(config.instances[0].credentials, 0);
    assert_eq!(
        config.instances[0].endpoint.url(),
        "https://cr.cn-hangzhou.aliyuncs.com"
    );
}

fn plain_task(id: &str, interval: u64) -> Task {
    Task {
        id: id.to_owned(),
        name: id.to_owned(),
        interval: seconds(interval),
    }
}

#[test]
fn the_minimal_file_takes_every_default() {
    let config = good("minimal.yaml");
    assert_defaults(&config);
    assert_eq!(
        config.instances[0].tasks,
        [plain_task("crast-y64sq01bgad0abcd", 60)]
    );
}

#[test]
fn the_example_shows_the_defaults() {
    let config = config::parse(EXAMPLE, "config.example.yaml").expect("the example");
    assert_defaults(&config);
    let tasks = [
        plain_task("crast-y64sq01bgad0abcd", 60),
        plain_task("crast-wkpfwqozjiq0abcd", 60),
    ];
    assert_eq!(config.instances[0].tasks, tasks);
    assert_follow_defaults(config.instances[0].follow.as_ref());
}

fn assert_follow_defaults(follow: Option<&Follow>) {
    let follow = follow.expect("to follow");
    assert_eq!(follow.interval, seconds(300));
    assert!(follow.include.is_empty() && follow.exclude.is_empty());
    assert_eq!(follow.runs, 1);
    assert_eq!(follow.max_age, seconds(30 * 86_400));
    assert_eq!(follow.max_tasks, 1000);
    assert_eq!(follow.artifacts, Artifacts::Failed);
}

#[test]
fn an_instance_has_tasks_or_is_followed() {
    let instance = |rest: &str| {
        let text = format!("instances: [{{id: cri-a, region: cn-hangzhou, {rest}}}]");
        config::parse(&text, "config.yaml").map(|mut config| config.instances.remove(0))
    };
    for rest in [
        "follow: {}",
        "tasks: [], follow: {runs: null}",
        "tasks: null, follow: {}",
    ] {
        let instance = instance(rest).expect(rest);
        assert_eq!(instance.tasks, []);
        assert_follow_defaults(instance.follow.as_ref());
    }
    let both = instance("tasks: [crast-a], follow: {}").expect("both");
    assert!(both.follow.is_some() && both.tasks.len() == 1);
    for rest in ["follow: null, tasks: [crast-a]", "tasks: [crast-a]"] {
        assert!(instance(rest).expect(rest).follow.is_none(), "{rest}");
    }
    for rest in ["tasks: []", "follow: ~", "tasks: [], follow: null"] {
        assert!(instance(rest).is_err(), "{rest}");
    }
}

#[test]
fn every_value_can_be_set() {
    let config = good("full.yaml");
    let poll = Poll {
        interval: seconds(90),
        finished_interval: seconds(7200),
        deadline: seconds(90),
        timeout: Duration::from_millis(500),
        concurrency: 32,
        stale_after: seconds(86_400),
    };
    let api = Api {
        signature: Signature::HmacSha1,
        vpc: true,
        requests_per_second: 2.5,
        burst: 1,
        retries: 0,
        page_size: 30,
        max_pages: 1000,
    };
    let status = StatusWords {
        running: vec!["replicating".to_owned()],
        finished: vec!["Archived".to_owned()],
        succeeded: vec!["OK".to_owned(), "NO".to_owned(), "ON".to_owned()],
        failed: vec!["Überlauf".to_owned()],
    };
    assert_eq!(config.poll, poll);
    assert_eq!(config.api, api);
    assert_eq!(config.artifacts, Artifacts::Failed);
    assert_eq!(config.status, status);
    let search = |text: &str| Search(Regex::new(text).expect(text));
    let causes = CausePatterns {
        quota: vec![search("^no room"), search("(?i)voll")],
        other: vec![search("null and void")],
        ..CausePatterns::default()
    };
    assert_eq!(config.causes, causes);
    assert!(config.causes.other[0].0.is_match("NULL and void"));
    assert_eq!(
        config.limits,
        Limits {
            series: 5000,
            artifacts_per_task: 1
        }
    );

    let [vpc, public, local] = &config.instances[..] else {
        panic!("three instances")
    };
    assert_eq!(vpc.endpoint.url(), "https://cr-vpc.cn-beijing.aliyuncs.com");
    let two = Task {
        id: "crast-two".to_owned(),
        name: "Nginx 镜像".to_owned(),
        interval: seconds(30),
    };
    assert_eq!(
        vpc.tasks,
        [
            plain_task("crast-one", 90),
            two,
            plain_task("crast-three", 10_800)
        ]
    );
    assert_eq!(public.endpoint.url(), "https://cr.example.com:8443");
    assert_eq!((local.region.as_str(), local.endpoint.tls), ("", false));
    assert_eq!(local.endpoint.url(), "http://127.0.0.1:18080");

    let names: Vec<&str> = config
        .credentials
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["prod", "keys", "default"],
        "used ones, the built-in one last"
    );
    assert_eq!(
        (vpc.credentials, public.credentials, local.credentials),
        (1, 0, 2)
    );
    assert_eq!(config.credentials[0].quota_group.as_deref(), Some("main"));
    assert_eq!(config.state_path, Some(testdata("good").join("run/state")));
}

#[test]
fn every_value_of_follow_can_be_set() {
    let config = good("full.yaml");
    let [vpc, public, local] = &config.instances[..] else {
        panic!("three instances")
    };
    assert!(vpc.follow.is_none() && public.follow.is_none());
    let follow = local.follow.as_ref().expect("to follow");
    assert_eq!(follow.interval, seconds(90));
    assert_eq!(follow.runs, 3);
    assert_eq!(follow.max_age, seconds(2 * 86_400));
    assert_eq!(follow.max_tasks, 0);
    assert_eq!(follow.artifacts, Artifacts::All);
    // Whole names alone, and a key that is not there is every name.
    let [mirror, base] = &follow.include[..] else {
        panic!("two patterns")
    };
    assert!(mirror.repo_namespace.is_match("mirror") && mirror.repo_name.is_match("nginx"));
    assert!(!mirror.repo_namespace.is_match("mirrors"));
    assert!(base.repo_namespace.is_match("any") && base.repo_name.is_match("base-go"));
    assert!(!base.repo_name.is_match("a-base-go") && !base.repo_name.is_match("other-2"));
    let [test] = &follow.exclude[..] else {
        panic!("one pattern")
    };
    assert!(test.repo_namespace.is_match("k8s.io") && test.repo_name.is_match("test-a"));
    assert!(!test.repo_namespace.is_match("k8sxio") && !test.repo_name.is_match("a-test-a"));
}

fn inline(secret: &Secret) -> &str {
    match secret {
        Secret::Inline(secret) => secret.expose_secret(),
        Secret::File(path) => panic!("a file: {}", path.display()),
    }
}

fn file(secret: &Secret) -> &Path {
    match secret {
        Secret::File(path) => path,
        Secret::Inline(_) => panic!("not a file"),
    }
}

#[test]
fn secrets_are_inline_or_in_files_beside_the_configuration() {
    let config = good("full.yaml");
    let CredentialsSource::AccessKey {
        access_key_id,
        access_key_secret,
        security_token,
    } = &config.credentials[0].source
    else {
        panic!("not an access key");
    };
    assert_eq!(inline(access_key_id), "LTAI5tExample");
    assert_eq!(
        file(access_key_secret),
        testdata("good").join("secrets/prod.secret")
    );
    assert_eq!(
        inline(security_token.as_ref().expect("a token")),
        "token-of-prod"
    );

    let CredentialsSource::AccessKey {
        access_key_id,
        access_key_secret,
        security_token,
    } = &config.credentials[1].source
    else {
        panic!("not an access key");
    };
    assert_eq!(file(access_key_id), Path::new("/run/keys/id"));
    assert_eq!(inline(access_key_secret), "0123456789");
    assert!(security_token.is_none());
}

#[test]
fn debug_output_shows_no_secret() {
    let text = format!("{:#?}{:#?}", good("full.yaml"), good("credentials.yaml"));
    assert!(
        text.contains("cri-vpc") && text.contains("cri-12"),
        "{text}"
    );
    for secret in [
        "LTAI5tExample",
        "token-of-prod",
        "0123456789",
        "secret-of-keys",
        "external-id-of-hub",
        "password-of-uri",
        "token-of-uri",
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn metadata() -> Endpoint {
    Endpoint {
        tls: false,
        authority: "100.100.100.200".to_owned(),
    }
}

/// What an entry has that names no address.
fn unwritten(vpc: bool) -> Addresses {
    Addresses {
        sts: None,
        vpc,
        metadata: metadata(),
    }
}

fn sts_at(host: &str) -> Addresses {
    let sts = Some(Endpoint {
        tls: true,
        authority: host.to_owned(),
    });
    Addresses {
        sts,
        ..unwritten(true)
    }
}

fn source_of<'a>(config: &'a Config, name: &str) -> &'a CredentialsSource {
    let found = config.credentials.iter().find(|entry| entry.name == name);
    &found.expect(name).source
}

#[test]
fn entries_follow_those_their_keys_come_from() {
    let config = good("credentials.yaml");
    let names: Vec<&str> = config
        .credentials
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let expected = [
        "pod",
        "hub",
        "reader",
        "default",
        "laptop",
        "laptop_default",
        "shared",
        "shared_default",
        "machine",
        "machine_default",
        "sidecar",
        "vault",
        "ci",
        "keys",
    ];
    assert_eq!(names, expected);
    let of_instances: Vec<&str> = config
        .instances
        .iter()
        .map(|instance| names[instance.credentials])
        .collect();
    let expected = [&expected[3..], &["reader"]].concat();
    assert_eq!(of_instances, expected);
    for (name, expected) in [("reader", "hub"), ("hub", "pod")] {
        let CredentialsSource::AssumeRole { source, .. } = source_of(&config, name) else {
            panic!("{name} assumes no role");
        };
        assert_eq!(names[*source], expected);
    }
    assert_eq!(config.credentials[0].quota_group.as_deref(), Some("main"));
}

#[test]
fn roles_take_what_is_written_and_defaults() {
    let config = good("credentials.yaml");
    let CredentialsSource::AssumeRole {
        role_arn,
        external_id,
        session,
        addresses,
        ..
    } = source_of(&config, "reader")
    else {
        panic!("assumes no role");
    };
    assert_eq!(role_arn, "acs:ram::1234567890123456:role/acr-reader");
    assert_eq!(
        file(external_id.as_ref().expect("an external id")),
        testdata("good").join("secrets/external.id")
    );
    let written = RoleSession {
        name: "reader@prod".to_owned(),
        duration: seconds(12 * 3600),
        policy: Some(r#"{"Version": "1", "Statement": []}"#.to_owned()),
    };
    assert_eq!(*session, written);
    let sts = addresses.sts.as_ref().map(Endpoint::url);
    assert_eq!(sts.as_deref(), Some("http://127.0.0.1:18081"));

    let CredentialsSource::AssumeRole {
        external_id,
        session,
        addresses,
        ..
    } = source_of(&config, "hub")
    else {
        panic!("assumes no role");
    };
    assert_eq!(
        inline(external_id.as_ref().expect("an external id")),
        "external-id-of-hub"
    );
    let by_default = RoleSession {
        name: "aliyun-acr-exporter".to_owned(),
        duration: seconds(3600),
        policy: None,
    };
    assert_eq!(*session, by_default);
    assert_eq!(*addresses, sts_at("sts-vpc.cn-beijing.aliyuncs.com"));

    let CredentialsSource::Oidc {
        role_arn,
        oidc_provider_arn,
        oidc_token_file,
        session,
        addresses,
    } = source_of(&config, "pod")
    else {
        panic!("not OIDC");
    };
    assert_eq!(role_arn, "acs:ram::1234567890123456:role/pod");
    assert_eq!(
        oidc_provider_arn,
        "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123"
    );
    assert_eq!(
        oidc_token_file,
        Path::new("/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token")
    );
    assert_eq!(
        (session.name.as_str(), session.duration),
        ("pod", seconds(900))
    );
    let policy = session.policy.as_deref().expect("a policy");
    assert!(policy.contains(r#""Action": "cr:Get*""#), "{policy}");
    assert_eq!(
        *addresses,
        sts_at("sts-vpc.cn-shenzhen-finance-1.aliyuncs.com")
    );
}

#[test]
fn profiles_and_machines_take_what_is_written_and_defaults() {
    let config = good("credentials.yaml");
    let CredentialsSource::Default { addresses } = source_of(&config, "default") else {
        panic!("not the chain");
    };
    assert_eq!(addresses.metadata.url(), "http://127.0.0.1:18082");
    let sts = addresses.sts.as_ref().map(Endpoint::url);
    assert_eq!(
        sts.as_deref(),
        Some("https://sts-vpc.cn-hangzhou.aliyuncs.com")
    );

    let profile = |entry| match source_of(&config, entry) {
        CredentialsSource::Profile {
            name,
            file,
            addresses,
        } => (name.as_deref(), file.as_deref(), addresses),
        other => panic!("{other:?}"),
    };
    let (name, file, addresses) = profile("laptop");
    let beside = testdata("good").join("cli/config.json");
    assert_eq!((name, file), (Some("acr reader"), Some(&*beside)));
    assert_eq!(addresses.metadata.url(), "http://[::1]:18082");
    assert_eq!(
        profile("laptop_default"),
        (None, None, &unwritten(true)),
        "nothing written"
    );

    let section = |entry| match source_of(&config, entry) {
        CredentialsSource::CredentialsFile {
            section,
            file,
            addresses,
        } => (section.as_str(), file.as_deref(), addresses),
        other => panic!("{other:?}"),
    };
    let (name, file, addresses) = section("shared");
    let there = Path::new("/etc/alibabacloud/credentials.ini");
    assert_eq!((name, file), ("acr", Some(there)));
    assert_eq!(
        addresses.metadata.url(),
        "https://metadata.example.com:8443"
    );
    assert_eq!(addresses.sts, sts_at("sts.example.com").sts);
    assert_eq!(
        section("shared_default"),
        ("default", None, &unwritten(true))
    );

    let machine = |entry| match source_of(&config, entry) {
        CredentialsSource::EcsRamRole {
            role_name,
            disable_imdsv1,
            addresses,
        } => (role_name.as_deref(), *disable_imdsv1, addresses),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        machine("machine"),
        (
            Some("KubernetesWorkerRole-9c31_a.b"),
            true,
            &unwritten(true)
        )
    );
    assert_eq!(machine("machine_default"), (None, false, &unwritten(true)));
}

#[test]
fn uris_are_kept_as_they_are_written() {
    let config = good("credentials.yaml");
    let uri = |entry| match source_of(&config, entry) {
        CredentialsSource::Uri { uri } => uri.expose_secret(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        uri("sidecar"),
        "http://user:password-of-uri@localhost:8080/keys?token=token-of-uri"
    );
    assert_eq!(uri("vault"), "HTTPS://vault.example.com");
}

/// Every entry follows its source, however long the chain.
#[test]
fn long_chains_of_roles_are_no_mistake() {
    const LENGTH: usize = 1_000;
    let mut text = "credentials:\n".to_owned();
    for index in 0..LENGTH {
        let source = match index + 1 {
            LENGTH => "default".to_owned(),
            next => format!("c{next}"),
        };
        text += &format!(
            "  c{index}: {{type: assume_role, role_arn: 'acs:ram::1:role/r', source: {source}}}\n"
        );
    }
    text += "instances: [{id: cri-a, region: cn-hangzhou, credentials: c0, tasks: [crast-a]}]\n";
    let config = config::parse(&text, "config.yaml").expect("usable");
    assert_eq!(config.credentials.len(), LENGTH + 1);
    assert_eq!(config.credentials[0].name, "default");
    assert_eq!(config.instances[0].credentials, LENGTH);
    for (index, entry) in config.credentials.iter().enumerate().skip(1) {
        let CredentialsSource::AssumeRole { source, .. } = entry.source else {
            panic!("{} assumes no role", entry.name);
        };
        assert_eq!(source, index - 1);
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = good("anchors.yaml");
    assert_eq!(
        (config.poll.timeout, config.poll.deadline),
        (seconds(20), seconds(300))
    );
    let tasks = [plain_task("crast-a", 60), plain_task("crast-b", 60)];
    for (instance, id) in config.instances.iter().zip(["cri-a", "cri-b", "cri-c"]) {
        assert_eq!(
            (instance.id.as_str(), instance.region.as_str()),
            (id, "eu-central-1")
        );
        assert_eq!(instance.tasks, tasks);
    }
    assert_eq!(config.instances.len(), 3);
}

#[test]
fn a_default_of_the_file_replaces_the_built_in_one() {
    let config = good("own_default.yaml");
    assert_eq!(config.credentials.len(), 1);
    assert!(matches!(
        config.credentials[0].source,
        CredentialsSource::Environment
    ));
    assert_eq!(config.credentials[0].quota_group.as_deref(), Some("shared"));
    assert_eq!(
        (
            config.instances[0].credentials,
            config.instances[1].credentials
        ),
        (0, 0)
    );
}

#[test]
fn defaults_give_way_to_what_is_written() {
    let minimal = fs::read_to_string(testdata("good").join("minimal.yaml")).expect("minimal");
    let text = format!("poll: {{interval: 2h, deadline: 5s}}\n{minimal}");
    let config = config::parse(&text, "config.yaml").expect("usable");
    assert_eq!(config.poll.finished_interval, seconds(7200));
    assert_eq!(config.poll.timeout, seconds(5));
    assert_eq!(config.instances[0].tasks[0].interval, seconds(7200));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistake() {
    let minimal = fs::read_to_string(testdata("good").join("minimal.yaml")).expect("minimal");
    let text = format!("\u{feff}{}", minimal.replace('\n', "\r\n"));
    assert_defaults(&config::parse(&text, "config.yaml").expect("usable"));
    let text = text.replace("region", "regio");
    assert!(
        broken(&text).starts_with("config.yaml:3:5: instances[0].regio: "),
        "{}",
        broken(&text)
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("none.yaml");
    let error = config::load(&path).expect_err("no file");
    assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    let Error::Io { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    let source = std::error::Error::source(&error)
        .expect("a source")
        .to_string();
    assert!(
        !error.to_string().contains(&source),
        "the source is told by who prints the chain"
    );
    assert!(
        matches!(config::load(folder.path()), Err(Error::Io { .. })),
        "a folder"
    );
}

/// Regions and endpoints as the vendor's metadata lists them.
#[test]
fn regions_are_those_of_the_vendor() {
    let table: Value = serde_json::from_str(include_str!(
        "../crates/alibaba-cloud/testdata/endpoints.json"
    ))
    .expect("endpoints.json");
    let regions = table["cr"].as_object().expect("regions");
    assert_eq!(regions.len(), 39);
    for (region, hosts) in regions {
        for network in ["public", "vpc"] {
            let text = format!(
                "api: {{network: {network}}}\ninstances:\n  \
                 - {{id: cri-a, region: {region}, tasks: [crast-a]}}\n"
            );
            let found = config::parse(&text, "config.yaml")
                .map(|config| config.instances[0].endpoint.authority.clone());
            match hosts[network].as_str() {
                Some(host) => assert_eq!(found.expect(region), host),
                None => assert!(
                    found
                        .expect_err(region)
                        .to_string()
                        .contains("has no endpoint within VPCs")
                ),
            }
        }
    }
}

/// The endpoints of STS, as the vendor's metadata lists them; a region that it
/// does not list is refused.
#[test]
fn sts_answers_where_the_vendor_says() {
    let table: Value = serde_json::from_str(include_str!(
        "../crates/alibaba-cloud/testdata/endpoints.json"
    ))
    .expect("endpoints.json");
    let (cr, sts) = (table["cr"].as_object(), table["sts"].as_object());
    let (cr, sts) = (cr.expect("regions"), sts.expect("regions of STS"));
    assert_eq!(sts.len(), 32);
    assert!(sts.keys().all(|region| cr.contains_key(region)));
    for region in cr.keys() {
        for network in ["public", "vpc"] {
            let text = format!(
                "api: {{network: {network}}}\n\
                 credentials: {{default: {{type: default, sts_region: {region}}}}}\n\
                 instances: [{{id: cri-a, endpoint: cr.example.com, tasks: [crast-a]}}]\n"
            );
            let found = config::parse(&text, "config.yaml").map(|config| {
                let CredentialsSource::Default { addresses } = &config.credentials[0].source else {
                    panic!("not the chain");
                };
                assert_eq!(addresses.vpc, network == "vpc");
                let sts = addresses.sts.as_ref().expect("an endpoint");
                (sts.tls, sts.authority.clone())
            });
            let why = match (sts.get(region), &table["sts"][region][network]) {
                (_, Value::String(host)) => {
                    assert_eq!(found.expect(region), (true, host.clone()));
                    continue;
                }
                (Some(_), _) => "no endpoint within VPCs",
                (None, _) => "no known endpoint",
            };
            let message = found.expect_err(region).to_string();
            assert!(message.contains(why), "{message}");
        }
    }
}

/// Nothing in it is a default, and every secret reaches the configuration.
fn every_type_in_use() -> Value {
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(testdata("good").join(name)).expect(name);
        // `NO` is a word, as in YAML 1.2.
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options(&text, options).expect("a document")
    };
    let mut document = read("full.yaml");
    let every_type = read("credentials.yaml");
    let credentials = document["credentials"].as_object_mut().expect("a mapping");
    credentials.extend(
        every_type["credentials"]
            .as_object()
            .expect("a mapping")
            .clone(),
    );
    let instances = document["instances"].as_array_mut().expect("a list");
    for user in list(&every_type["instances"]) {
        let holds_secrets = ["sidecar", "keys", "reader"].map(|name| user["credentials"] == name);
        instances.extend(holds_secrets.contains(&true).then(|| user.clone()));
    }
    config::parse(&document.to_string(), "config.yaml").expect("usable");
    document
}

/// Each of these places and forms in turn holds a secret, as if pasted there.
#[test]
fn no_message_repeats_a_value_that_may_be_secret() {
    const MARKER: &str = "S3CR3T-marker";
    // Where what is pasted may well be taken: no debug output shows it either.
    const SECRETS: [&str; 5] = [
        "access_key_id",
        "access_key_secret",
        "security_token",
        "external_id",
        "uri",
    ];
    let document = every_type_in_use();
    let mut places = Vec::new();
    all_places(&document, String::new(), &mut places);
    assert!(places.len() > 150, "{}", places.len());

    let forms = [
        "S3CR3T-marker",
        "\"S3CR3T-marker\"",
        "[S3CR3T-marker]",
        "{S3CR3T-marker: S3CR3T-marker}",
        "{type: S3CR3T-marker}",
        "{S3CR3T-marker}",
        "{S3CR3T-marker: 1, S3CR3T-marker: 2}",
        "[[S3CR3T-marker], {id: S3CR3T-marker}]",
        "\"S3CR3T-marker",
        "'S3CR3T-marker'S3CR3T-marker",
        "\"\\qS3CR3T-marker\"",
        "@S3CR3T-marker",
        "*S3CR3T-marker",
        "&S3CR3T-marker *S3CR3T-marker",
        "!S3CR3T-marker x",
        "!!int S3CR3T-marker",
        "!!S3CR3T-marker x",
        "https://S3CR3T-marker:S3CR3T-marker@example.com",
        "http://example.com/?S3CR3T-marker",
        "S3CR3T-marker: S3CR3T-marker",
        "{<<: S3CR3T-marker}",
        "cri-S3CR3T-marker S3CR3T-marker",
    ];
    let (mut refused, mut taken) = (0, 0);
    for place in &places {
        let key = place.rsplit('/').next().unwrap_or_default();
        for form in forms {
            let mut document = document.clone();
            *document.pointer_mut(place).expect("a place") = json!("@@HERE@@");
            let text = document.to_string().replace("\"@@HERE@@\"", form);
            match config::parse(&text, "config.yaml") {
                Err(error) => {
                    refused += 1;
                    assert!(
                        !error.to_string().contains(MARKER),
                        "{place} {form}: {error}"
                    );
                    assert!(
                        !format!("{error:?}").contains(MARKER),
                        "{place} {form}: {error:?}"
                    );
                }
                Ok(config) if SECRETS.contains(&key) => {
                    taken += 1;
                    assert!(
                        !format!("{config:?}").contains(MARKER),
                        "{place} {form}: {config:?}"
                    );
                }
                Ok(_) => {}
            }
        }
    }
    assert!(refused > 3000, "{refused}");
    assert!(taken > 20, "{taken}");
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn all_places(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                all_places(value, format!("{place}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                all_places(value, format!("{place}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(place);
}

/// Deep nesting and unfolding aliases end in an error, not in a full memory.
#[test]
fn hostile_files_are_refused() {
    let deep_list = "[".repeat(100_000);
    let deep_mapping = "poll: ".to_owned() + &"{a: ".repeat(100_000);
    let deep_block: String = (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    let mut levels = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        levels.push(format!("a{level}: &a{level} [{aliases}]"));
    }
    let bomb = levels.join("\n");
    for text in [deep_list, deep_mapping, deep_block, bomb] {
        let message = broken(&text);
        assert!(message.len() < 200, "{message}");
    }
}

/// The keys that a mapping takes, as the refusal of another one lists them.
fn keys_of(mapping: &str) -> Vec<String> {
    let message = broken(&mapping.replace("HERE", "{unknownkey: 1}"));
    let (_, keys) = message.split_once("allowed here: ").expect(&message);
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented_and_in_the_example() {
    let mappings = BTreeMap::from([
        ("", "HERE"),
        ("poll.", "poll: HERE"),
        ("api.", "api: HERE"),
        ("status.", "status: HERE"),
        ("limits.", "limits: HERE"),
        ("state.", "state: HERE"),
        ("instances[].", "instances: [HERE]"),
        ("instances[].tasks[].", "instances: [{tasks: [HERE]}]"),
        ("instances[].follow.", "instances: [{follow: HERE}]"),
        (
            "instances[].follow.include[].",
            "instances: [{follow: {include: [HERE]}}]",
        ),
        ("credentials.NAME.", "credentials: {prod: HERE}"),
    ]);
    for (prefix, mapping) in mappings {
        for key in keys_of(mapping) {
            let path = format!("`{prefix}{key}`");
            assert!(
                DOCUMENTATION.contains(&path),
                "{path} is not in docs/configuration.md"
            );
            assert!(
                EXAMPLE.contains(&format!("{key}:")),
                "{path} is not in config.example.yaml"
            );
        }
    }
}

/// The example with all of its entries under `credentials:`.
fn example_with_every_type() -> String {
    let (before, rest) = EXAMPLE.split_once("\ncredentials:\n").expect("credentials");
    let (block, after) = rest.split_once("\ninstances:\n").expect("instances");
    let block = block.replace("\n  # ", "\n  ");
    format!("{before}\ncredentials:\n{block}\ninstances:\n{after}")
}

/// What the refusal of another key or value lists.
fn listed(message: &str, before: &str) -> Vec<String> {
    let (_, listed) = message.split_once(before).expect(message);
    let listed = listed.lines().next().unwrap_or_default();
    listed.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_shows_every_type_of_credentials() {
    let text = example_with_every_type();
    config::parse(&text, "config.example.yaml").expect("usable without its comment signs");
    let example: Value = serde_saphyr::from_str(&text).expect("a document");
    let entries = example["credentials"].as_object().expect("entries");
    let mut shown: Vec<&str> = entries
        .values()
        .filter_map(|entry| entry["type"].as_str())
        .collect();
    let types = broken("credentials: {prod: {type: unknowntype}}");
    let mut types = listed(&types, "must be one of ");
    shown.sort_unstable();
    types.sort_unstable();
    assert_eq!(shown, types);
}

/// Each type has a section with a row for each of its keys, in the loader's order.
#[test]
fn every_type_of_credentials_is_documented() {
    let types = broken("credentials: {prod: {type: unknowntype}}");
    for kind in listed(&types, "must be one of ") {
        let foreign = match kind.as_str() {
            "uri" => "file: x",
            _ => "uri: x",
        };
        let message = broken(&format!(
            "credentials: {{prod: {{type: {kind}, {foreign}}}}}"
        ));
        let takes = match kind.as_str() {
            "environment" => Vec::new(),
            _ => listed(&message, &format!("to type {kind}, which takes ")),
        };
        let heading = format!("\n### `type: {kind}`\n");
        let (_, section) = DOCUMENTATION.split_once(&heading).expect(&heading);
        let section = section.split("\n#").next().unwrap_or_default();
        let rows: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|row| row.split(" |").next())
            .collect();
        let documented: Vec<&str> = rows
            .iter()
            .flat_map(|keys| keys.split('`'))
            .filter_map(|key| key.strip_prefix("credentials.NAME."))
            .collect();
        assert_eq!(documented, takes, "{kind}");
    }
}

/// The default column of the documentation, against the example, which another
/// test holds to the code.
#[test]
fn documented_defaults_are_those_of_the_example() {
    let example: Value = serde_saphyr::from_str(EXAMPLE).expect("the example");
    let mut compared = 0;
    let follow = ("instances[].follow", &example["instances"][0]["follow"]);
    let blocks = ["poll", "api", "status", "limits", "state"].map(|name| (name, &example[name]));
    for (block, shown) in blocks.into_iter().chain([follow]) {
        for (key, value) in shown.as_object().expect(block) {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let row = DOCUMENTATION
                .lines()
                .find(|line| line.starts_with(&format!("| `{block}.{key}` |")))
                .expect(key);
            assert!(
                row.contains(&format!("| `{value}` |")),
                "{row}: default {value}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 27);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever an editor leaves behind: no panic, and every mistake has a place.
    #[test]
    fn mutations_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, piece()), 1..5),
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().filter(|c| *c != '#').collect();
        for (index, length, piece) in edits {
            let start = index.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
            text.push('\n');
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = config::parse(&text, "config.yaml") {
            let Error::Mistakes(mistakes) = error else { panic!("{error:?}") };
            prop_assert!(!mistakes.is_empty());
            let lines = text.lines().count() as u64;
            for mistake in mistakes {
                prop_assert!(mistake.line >= 1 && mistake.line <= lines + 1, "{}", mistake);
                prop_assert!(mistake.column >= 1, "{}", mistake);
                prop_assert!(!mistake.message.is_empty());
                prop_assert!(!mistake.to_string().contains('\n'), "{}", mistake);
            }
        }
    }
}

fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "",
        "\t",
        "\n",
        " ",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "<<: *a",
        "|\n",
        ">-\n",
        "\"",
        "'",
        "!!int ",
        "!x ",
        "%",
        "@",
        "`",
        "? ",
        "---\n",
        "...\n",
        "\u{feff}",
        "\u{0}",
        "\u{85}",
        "\u{2028}",
        "~",
        "null",
        "0",
        "-1",
        "1e999",
        ".nan",
        "0x",
        "99999999999999999999",
        "poll:",
        "\r\n",
        "日本",
        "# ",
    ];
    prop_oneof![
        prop::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        any::<String>(),
        "[a-z: \n\\[\\]{}-]{0,12}",
    ]
}
