//! The configuration as a user meets it: which files are read and as what, and
//! what is said about each mistake.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alibaba_cloud::credentials::entry::Source;
use aliyun_acr_exporter::config::{self, Config, Error};
use aliyun_acr_exporter::store::ArtifactSeries;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use settings::Secret;

const EXAMPLE: &str = include_str!("../config.example.yaml");

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

/// Every default, written down by hand.
const DEFAULTS: &str = "\
poll:
  interval: 1m
  finished_interval: 1h
  deadline: 2m
  timeout: 10s
  concurrency: 8
  stale_after: 5m
api:
  signature: acs3-hmac-sha256
  network: public
  requests_per_second: 5.0
  burst: 5
  retries: 3
  page_size: 100
  max_pages: 100
credentials:
  default:
    type: default
    sts_region: null
    sts_endpoint: null
    metadata_endpoint: http://100.100.100.200
    quota_group: null
instances:
- id: cri-a
  region: cn-hangzhou
  credentials: default
  endpoint: https://cr.cn-hangzhou.aliyuncs.com
  tasks:
  - id: crast-1
    name: crast-1
    interval: 1m
  follow:
    interval: 5m
    include: []
    exclude: []
    runs: 1
    max_age: 30d
    max_tasks: 1000
    artifacts: failed
artifacts: all
status:
  running: []
  finished: []
  succeeded: []
  failed: []
causes:
  rate_limited: []
  quota: []
  unauthorized: []
  not_found: []
  network: []
  other: []
limits:
  series: 200000
  artifacts_per_task: 500
state:
  path: null
";

#[test]
fn every_default_is_filled_in() {
    let minimal = "instances: [{id: cri-a, region: cn-hangzhou, tasks: [crast-1], follow: {}}]";
    let config = config::parse(minimal, "config.yaml").expect("minimal");
    assert_eq!(config.shown(), DEFAULTS);
    let task = &config.instances[0].tasks[0];
    assert_eq!(
        (task.name(), task.interval(&config.poll)),
        ("crast-1", seconds(60))
    );
}

#[test]
fn the_example_shows_the_defaults() {
    let example = config::parse(EXAMPLE, "config.example.yaml").expect("the example");
    let defaults = config::parse(DEFAULTS, "config.yaml").expect("the defaults");
    let same = Config {
        instances: defaults.instances,
        credentials: defaults.credentials,
        ..example.clone()
    };
    assert_eq!(same.shown(), DEFAULTS);
    assert_eq!(example.instances[0].follow, same.instances[0].follow);
    assert_eq!(example.credentials["default"], same.credentials["default"]);
}

/// What each file of `good` means, as `/config` shows it, stands beside it in
/// `NAME.shown`. Secrets are masked there, and what is shown means the same when it
/// is read again. With BLESS=1 the files are written: read them before committing.
#[test]
fn good_files_mean_what_is_shown() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not of the program"
    )]
    let bless = std::env::var_os("BLESS").is_some();
    let folder = testdata("good");
    let mut names = 0;
    for entry in fs::read_dir(&folder).expect("testdata") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        names += 1;
        let config = config::load(&path).expect("good");
        let place = format!("{}/", folder.display());
        let shown = config.shown().replace(&place, "");
        let expected = path.with_extension("shown");
        if bless {
            fs::write(&expected, &shown).expect("blessed");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(shown, expected, "{}", path.display());
        // A URI may not hold the mask's brackets.
        let readable = config.shown().replace(settings::MASK, "masked");
        let again = config::parse(&readable, "config.yaml").expect(&readable);
        assert_eq!(
            format!("{again:#?}"),
            format!("{config:#?}"),
            "{}",
            path.display()
        );
    }
    assert!(names >= 5, "only {names} files");
}

/// Texts that YAML would take for something else.
#[test]
fn odd_names_are_shown_as_they_are_read() {
    let odd = r#"{"instances": [{"id": "cri-a", "region": "cn-hangzhou", "tasks": [
        {"id": "crast-1", "name": "on"}, {"id": "crast-2", "name": "1e3"},
        {"id": "crast-3", "name": "a: b # c"}, {"id": "crast-4", "name": "\"'\n\t\\ "},
        {"id": "crast-5", "name": "- x"}, {"id": "crast-6", "name": "!tag *a &b %c @d `e"},
        {"id": "crast-7", "name": "null"}, {"id": "crast-8", "name": "{a}"},
        {"id": "crast-9", "name": "<<"}, {"id": "crast-10", "name": "\u00a0\u2028x\u0085"},
        {"id": "crast-11", "name": "0x10"}, {"id": "crast-12", "name": "12:30:45"}
    ]}]}"#;
    let config = config::parse(odd, "config.yaml").expect("usable");
    let again = config::parse(&config.shown(), "config.yaml").expect("usable");
    assert_eq!(again, config);
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
        let follow = instance.follow.expect("to follow");
        assert_eq!((follow.runs.get(), *follow.interval), (1, seconds(300)));
        assert_eq!(follow.artifacts, ArtifactSeries::Failed);
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

/// Whole names alone, and a key that is not there is every name.
#[test]
fn patterns_match_whole_names() {
    let config = good("full.yaml");
    let [_, _, local] = &config.instances[..] else {
        panic!("three instances")
    };
    let follow = local.follow.as_ref().expect("to follow");
    let [mirror, base] = &follow.include[..] else {
        panic!("two patterns")
    };
    assert!(mirror.matches("mirror", "nginx"));
    assert!(!mirror.matches("mirrors", "nginx"));
    assert!(base.matches("any", "base-go"));
    assert!(!base.matches("any", "a-base-go") && !base.matches("any", "other-2"));
    let [test] = &follow.exclude[..] else {
        panic!("one pattern")
    };
    assert!(test.matches("k8s.io", "test-a"));
    assert!(!test.matches("k8sxio", "test-a") && !test.matches("k8s.io", "a-test-a"));
    assert!(config.causes.other[0].0.is_match("NULL and void"));
}

#[test]
fn secrets_are_inline_or_in_files_beside_the_configuration() {
    let text = "credentials:\n  keys: {type: access_key, access_key_id: ' id-a ', access_key_secret_file: secrets/a}\ninstances: [{id: cri-a, region: cn-hangzhou, credentials: keys, tasks: [crast-1]}]";
    let config = config::parse(text, "/etc/acr/config.yaml").expect("usable");
    let Source::AccessKey(keys) = &config.credentials["keys"].source else {
        panic!("not an access key");
    };
    let Secret::Inline(id) = &keys.access_key_id else {
        panic!("in a file");
    };
    assert_eq!(id.expose_secret(), "id-a", "white space is cut off");
    assert_eq!(
        keys.access_key_secret.file(),
        Some(Path::new("/etc/acr/secrets/a"))
    );
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

#[test]
fn no_secret_is_shown() {
    let text = r#"
credentials:
  keys: { type: access_key, access_key_id: hidden-id, access_key_secret: hidden-secret, security_token: hidden-token }
  files: { type: access_key, access_key_id_file: a/id, access_key_secret_file: /b/secret }
  role: { type: assume_role, role_arn: "acs:ram::1:role/a", source: keys, external_id: hidden-external-id }
  sidecar: { type: uri, uri: "http://hidden-user:hidden-password@localhost:8080/hidden-path?token=hidden-query" }
  bare: { type: uri, uri: "https://keys.example.com/" }
instances:
- { id: cri-1, region: cn-hangzhou, tasks: [crast-1] }
"#;
    let shown = config::parse(text, "config.yaml").expect("usable").shown();
    assert!(!shown.contains("hidden"), "{shown}");
    for line in [
        "    access_key_id: <secret>",
        "    access_key_secret: <secret>",
        "    security_token: <secret>",
        "    external_id: <secret>",
        "    uri: http://<secret>@localhost:8080/<secret>",
        "    uri: https://keys.example.com",
        "    access_key_id_file: a/id",
        "    access_key_secret_file: /b/secret",
    ] {
        assert!(shown.lines().any(|this| this == line), "{line}\n{shown}");
    }
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
    let used = config.used_credentials();
    assert_eq!(used.len(), LENGTH + 1);
    assert_eq!((used[0], used[1], used[LENGTH]), ("default", "c999", "c0"));
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = good("anchors.yaml");
    assert_eq!(
        (*config.poll.timeout, *config.poll.deadline),
        (seconds(20), seconds(300))
    );
    for (instance, id) in config.instances.iter().zip(["cri-a", "cri-b", "cri-c"]) {
        assert_eq!((&*instance.id, instance.region()), (id, "eu-central-1"));
        let tasks: Vec<&str> = instance.tasks.iter().map(|task| &*task.id).collect();
        assert_eq!(tasks, ["crast-a", "crast-b"]);
    }
    assert_eq!(config.instances.len(), 3);
}

#[test]
fn a_default_of_the_file_replaces_the_built_in_one() {
    let config = good("own_default.yaml");
    assert_eq!(config.credentials.len(), 1);
    let default = &config.credentials["default"];
    assert!(matches!(default.source, Source::Environment(_)));
    assert_eq!(default.quota_group.as_deref(), Some("shared"));
    assert_eq!(config.used_credentials(), ["default"]);
}

#[test]
fn defaults_give_way_to_what_is_written() {
    let minimal = fs::read_to_string(testdata("good").join("minimal.yaml")).expect("minimal");
    let text = format!("poll: {{interval: 2h, deadline: 5s}}\n{minimal}");
    let config = config::parse(&text, "config.yaml").expect("usable");
    assert_eq!(*config.poll.finished_interval, seconds(7200));
    assert_eq!(*config.poll.timeout, seconds(5));
    let task = &config.instances[0].tasks[0];
    assert_eq!(task.interval(&config.poll), seconds(7200));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistake() {
    let minimal = fs::read_to_string(testdata("good").join("minimal.yaml")).expect("minimal");
    let text = format!("\u{feff}{}", minimal.replace('\n', "\r\n"));
    let config = config::parse(&text, "config.yaml").expect("usable");
    assert_eq!(config, good("minimal.yaml"));
    let text = text.replace("region", "regio");
    assert!(
        broken(&text).contains("config.yaml:3:5: instances[0].regio: "),
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
            let found = config::parse(&text, "config.yaml").map(|config| config.instances[0].url());
            match hosts[network].as_str() {
                Some(host) => assert_eq!(found.expect(region), format!("https://{host}")),
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
            let found = config::parse(&text, "config.yaml");
            let why = match (sts.get(region), &table["sts"][region][network]) {
                (_, Value::String(_)) => {
                    found.expect(region);
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
