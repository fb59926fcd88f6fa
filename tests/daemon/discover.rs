//! `discover` against the simulated cloud: what it shows, what it refuses, and a
//! configuration that `check-config` accepts.

use std::path::Path;

use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RuleSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Said, binary, run};
use crate::values::config;

/// 2026-01-02T03:04:05Z
const S: i64 = 1_767_323_045_000;

const RULES: &str = "ListArtifactSubscriptionRule";
const TASKS: &str = "ListArtifactSubscriptionTask";
const SIGNER: &str = "asked with credentials test from access_key (…y-id)\n";

fn nginx() -> Source {
    Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx")
}

fn start(world: World) -> Running {
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

/// Two rules and four tasks, two of which the cloud lists out of their order:
/// one that waits, and one whose start it does not take for a number.
fn cloud() -> Running {
    let pause = Source::new("GCR", "google-containers/pause", "base/pause");
    let world = World::new()
        .instance("cri-a", "cn-hangzhou")
        .rule(RuleSpec::new("crasr-1", &nginx(), S - 1_000))
        .rule(
            RuleSpec::new("crasr-2", &pause, 0)
                .set("TagRegexp", "v\u{1b}[31m")
                .set("TagCount", Value::Null),
        )
        .task(
            TaskSpec::succeeded("crast-old", S, S + 60_500)
                .source(&nginx())
                .set("TagTotalCount", 2)
                .set("TagSubscriptionCount", 2),
        )
        .task(
            TaskSpec::running("crast-run", S + 50_000)
                .source(&pause)
                .set("EndTime", 0)
                .set("TagTotalCount", 3),
        )
        .task(
            TaskSpec::failed("crast-new", S, S + 108_000, "pull rate limit")
                .source(&nginx())
                .set("StartTime", 1_767_323_145_000.0)
                .set("TagTotalCount", 2)
                .set("TagSubscriptionCount", 1),
        )
        .task(TaskSpec::new("crast-wait").set("TaskStatus", "PENDING"));
    start(world)
}

/// The command in a folder of its own, with this configuration.
fn discover(config: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command = binary(&["discover"]);
    run(command.args(arguments).current_dir(folder.path()))
}

/// Without a configuration, with the key in the environment.
fn typed(arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(&["discover"]);
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", demo::KEY_ID);
    command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", demo::KEY_SECRET);
    run(command.args(arguments).current_dir(folder.path()))
}

fn in_file(cloud: &Running, more: &str) -> String {
    config(cloud, "[crast-old]", more)
}

#[test]
fn a_table_has_the_rules_and_the_newest_tasks_first() {
    let cloud = cloud();
    let said = discover(&in_file(&cloud, ""), &["cri-a"]);
    assert_eq!((said.code, said.err.as_str()), (0, SIGNER));
    let expected = r"instance cri-a (cn-hangzhou) at URL
rules: 2
tasks: 4 of 4

RULE     NAMESPACE  REPOSITORY  SOURCE                       TAG REGEXP   TAG COUNT  CREATED
crasr-1  mirror     nginx       DOCKER_HUB library/nginx     .*           5          2026-01-02T03:04:04Z
crasr-2  base       pause       GCR google-containers/pause  v\u{1b}[31m

TASK        NAMESPACE  REPOSITORY  STATUS     RESULT   START                 END                     SECONDS  SELECTED
crast-wait                         PENDING
crast-new   mirror     nginx       COMPLETED  FAILED   2026-01-02T03:05:45Z  2026-01-02T03:05:53Z    8        1
crast-run   base       pause       RUNNING             2026-01-02T03:04:55Z
crast-old   mirror     nginx       COMPLETED  SUCCESS  2026-01-02T03:04:05Z  2026-01-02T03:05:05.5Z  60.5     2
";
    assert_eq!(said.out, expected.replace("URL", &cloud.url()));

    let said = discover(&in_file(&cloud, ""), &["cri-a", "--limit=2"]);
    let (_, after) = said.out.split_once("tasks: 2 of 4\n").unwrap();
    assert!(after.contains("crast-wait") && after.contains("crast-new"));
    assert!(!after.contains("crast-run") && !after.contains("crast-old"));
}

#[test]
fn json_and_yaml_tell_what_the_cloud_said_and_null_where_it_did_not() {
    let cloud = cloud();
    let said = discover(
        &in_file(&cloud, ""),
        &["cri-a", "--output=json", "--limit=3"],
    );
    assert_eq!((said.code, said.err.as_str()), (0, SIGNER));
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        json,
        json!({
            "instance_id": "cri-a",
            "region": "cn-hangzhou",
            "endpoint": cloud.url(),
            "rules": [
                {
                    "rule_id": "crasr-1",
                    "repo_namespace": "mirror",
                    "repo_name": "nginx",
                    "source_provider": "DOCKER_HUB",
                    "source_repository": "library/nginx",
                    "tag_regexp": ".*",
                    "tag_count": 5,
                    "create_time": "2026-01-02T03:04:04Z",
                },
                {
                    "rule_id": "crasr-2",
                    "repo_namespace": "base",
                    "repo_name": "pause",
                    "source_provider": "GCR",
                    "source_repository": "google-containers/pause",
                    "tag_regexp": "v\u{1b}[31m",
                    "tag_count": null,
                    "create_time": null,
                },
            ],
            "tasks_total": 4,
            "tasks_whole": true,
            "tasks": [
                {
                    "task_id": "crast-wait",
                    "status": "PENDING",
                    "result": null,
                    "type": "AUTO",
                    "source_provider": null,
                    "source_repository": null,
                    "repo_namespace": null,
                    "repo_name": null,
                    "message": null,
                    "source_tags": null,
                    "selected_tags": null,
                    "start_time": null,
                    "end_time": null,
                    "duration_seconds": null,
                },
                {
                    "task_id": "crast-new",
                    "status": "COMPLETED",
                    "result": "FAILED",
                    "type": "AUTO",
                    "source_provider": "DOCKER_HUB",
                    "source_repository": "library/nginx",
                    "repo_namespace": "mirror",
                    "repo_name": "nginx",
                    "message": "pull rate limit",
                    "source_tags": 2,
                    "selected_tags": 1,
                    "start_time": "2026-01-02T03:05:45Z",
                    "end_time": "2026-01-02T03:05:53Z",
                    "duration_seconds": 8.0,
                },
                {
                    "task_id": "crast-run",
                    "status": "RUNNING",
                    "result": null,
                    "type": "AUTO",
                    "source_provider": "GCR",
                    "source_repository": "google-containers/pause",
                    "repo_namespace": "base",
                    "repo_name": "pause",
                    "message": null,
                    "source_tags": 3,
                    "selected_tags": null,
                    "start_time": "2026-01-02T03:04:55Z",
                    "end_time": null,
                    "duration_seconds": null,
                },
            ],
        })
    );

    let said = discover(
        &in_file(&cloud, ""),
        &["cri-a", "--output=yaml", "--limit=3"],
    );
    let yaml: Value = serde_saphyr::from_str(&said.out).unwrap();
    assert_eq!((said.code, yaml), (0, json));
}

/// What `check-config` says of a file with this entry pasted in.
fn pasted(folder: &Path, entry: &str) -> (Said, String) {
    let credentials = "credentials: { test: { type: environment } }\n";
    let text = format!("{credentials}instances:\n{entry}");
    std::fs::write(folder.join("config.yaml"), &text).unwrap();
    let said = run(binary(&["check-config"]).current_dir(folder));
    (said, text)
}

#[test]
fn the_configuration_can_be_pasted() {
    let cloud = cloud();
    cloud.update(|world| {
        let busybox = Source::new("DOCKER_HUB", "library/busybox", "mirror/busybox");
        world.put_rule("cri-a", RuleSpec::new("crasr-3", &busybox, S));
    });
    let said = discover(&in_file(&cloud, ""), &["cri-a", "--output=config"]);
    assert_eq!((said.code, said.err.as_str()), (0, SIGNER));
    let expected = "  # rules: 3, namespaces: 2
  - id: cri-a
    region: cn-hangzhou
    endpoint: URL
    credentials: test
    follow:
      include:
        - repo_namespace: base
          repo_name: .*
        - repo_namespace: mirror
          repo_name: .*
";
    assert_eq!(said.out, expected.replace("URL", &cloud.url()));
    // It is made of the rules alone.
    assert_eq!(cloud.requests().count(TASKS), 0);

    let folder = tempfile::tempdir().unwrap();
    let (checked, _) = pasted(folder.path(), &said.out);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let line = format!(
        "instance cri-a (cn-hangzhou) at {}, credentials test",
        cloud.url()
    );
    assert!(checked.out.contains(&line), "{}", checked.out);
}

#[test]
fn whatever_a_namespace_is_called_the_configuration_follows_it_alone() {
    let long = "long-".repeat(40);
    let names = [
        "",
        "2024",
        "0123",
        "1e3",
        "yes",
        "null",
        "~",
        "a: b #c",
        "# - id: cri-b",
        "new\nline",
        "new\n  - id: cri-b\n    tasks: [crast-1]",
        "crlf\r\n# x",
        "tab\t",
        " spaces ",
        "k8s.gcr.io",
        "k8sxgcr.io",
        "(a|b)*[c]{2}^$+?\\",
        "quote\"'",
        "!tag",
        "&a",
        "*a",
        "{{ x }}",
        "nel\u{85}ls\u{2028}bom\u{feff}",
        "\u{0}\u{7f}\u{1b}[31m",
        "命名空间",
        &long,
    ];
    let mut world = World::new().instance("cri-a", "cn-hangzhou");
    for (number, name) in names.iter().enumerate() {
        let rule = RuleSpec::new(&format!("crasr-{number}"), &nginx(), S);
        world = world.rule(rule.set("NamespaceName", *name));
    }
    let cloud = start(world);
    let said = discover(&in_file(&cloud, ""), &["cri-a", "--output=config"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let expected = format!("  # rules: {0}, namespaces: {0}\n", names.len());
    assert!(said.out.starts_with(&expected), "{}", said.out);
    let folder = tempfile::tempdir().unwrap();
    let (checked, text) = pasted(folder.path(), &said.out);
    assert_eq!(checked.code, 0, "{}{text}", checked.err);

    let config = aliyun_acr_exporter::config::parse(&text, "config.yaml").unwrap();
    assert_eq!(config.instances.len(), 1, "{text}");
    let include = &config.instances[0].follow.as_ref().unwrap().include;
    for name in names {
        let matching = include
            .iter()
            .filter(|pattern| pattern.matches(name, "nginx"));
        assert_eq!(matching.count(), 1, "{name:?}\n{text}");
    }
    assert_eq!(include.len(), names.len());
}

#[test]
fn an_instance_without_rules_is_followed_whatever_comes() {
    let cloud = start(World::new().instance("cri-a", "cn-hangzhou"));
    let said = typed(&[
        "cri-a",
        "--output=config",
        "--region=cn-hangzhou",
        "--endpoint",
        &cloud.url(),
    ]);
    assert_eq!(said.code, 0, "{}", said.err);
    let warning = "warning: cri-a has no rules; nothing is shown until it has some\n";
    assert!(said.err.contains(warning), "{}", said.err);
    let expected = format!(
        "  # no rules: whatever comes is followed
  - id: cri-a
    region: cn-hangzhou
    endpoint: {}
    follow: {{}}
",
        cloud.url()
    );
    assert_eq!(said.out, expected);
    let folder = tempfile::tempdir().unwrap();
    let (checked, _) = pasted(folder.path(), &said.out);
    assert_eq!(checked.code, 0, "{}", checked.err);

    let said = typed(&["cri-a", "--endpoint", &cloud.url()]);
    assert_eq!(said.code, 0, "{}", said.err);
    let expected = "instance cri-a at URL\nrules: 0\ntasks: 0 of 0\n";
    assert_eq!(said.out, expected.replace("URL", &cloud.url()));
    let said = typed(&["cri-a", "--output=json", "--endpoint", &cloud.url()]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        json,
        json!({
            "instance_id": "cri-a",
            "region": null,
            "endpoint": cloud.url(),
            "rules": [],
            "tasks_total": 0,
            "tasks_whole": true,
            "tasks": [],
        })
    );
}

#[test]
fn what_could_be_read_is_shown_and_the_rest_is_a_failure() {
    let cloud = cloud();
    let file = in_file(&cloud, "api: { retries: 0 }");
    let deny = |action: &str| {
        let fault = Fault::Error {
            status: 403,
            code: "NoPrivilege".to_owned(),
            message: "as asked".to_owned(),
        };
        cloud.add_fault(FaultRule::new(fault).action(action));
    };
    let lacks = |action: &str, err: &str| {
        let needs = format!("needs cr:{action} on acs:cr:cn-hangzhou:*:instance/cri-a");
        err.starts_with(&format!("{action}: NoPrivilege: \"as asked\" (HTTP 403"))
            && err.contains(&needs)
            && err.ends_with("; asked with credentials test from access_key (…y-id)")
    };

    deny(RULES);
    let said = discover(&file, &["cri-a"]);
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("\nrules: could not be read\ntasks: 4 of 4\n\nTASK "),
        "{}",
        said.out
    );
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines.len() == 1 && lacks(RULES, lines[0]), "{}", said.err);
    let said = discover(&file, &["cri-a", "--output=json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert!(json["rules"].is_null() && json["tasks"][3].is_object());
    let said = discover(&file, &["cri-a", "--output=config"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    cloud.clear_faults();

    deny(TASKS);
    let said = discover(&file, &["cri-a"]);
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("\nrules: 2\ntasks: could not be read\n\nRULE "),
        "{}",
        said.out
    );
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines.len() == 1 && lacks(TASKS, lines[0]), "{}", said.err);
    let said = discover(&file, &["cri-a", "--output=json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    for field in ["tasks", "tasks_total", "tasks_whole"] {
        assert!(json[field].is_null(), "{field}");
    }
    assert_eq!(json["rules"][0]["rule_id"], "crasr-1");
    let said = discover(&file, &["cri-a", "--output=config"]);
    assert_eq!(said.code, 0, "{}", said.err);

    deny(RULES);
    let said = discover(&file, &["cri-a"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", said.err);
    assert!(
        lacks(RULES, lines[0]) && lacks(TASKS, lines[1]),
        "{}",
        said.err
    );
}

#[test]
fn of_a_list_that_is_too_long_the_part_that_was_read_is_shown() {
    let cloud = cloud();
    let file = in_file(&cloud, "api: { page_size: 1, max_pages: 2, burst: 100 }");
    let said = discover(&file, &["cri-a"]);
    assert_eq!(said.code, 1);
    // The two rules just fit. The cloud lists these two tasks first.
    let (_, after) = said
        .out
        .split_once("\nrules: 2\ntasks: 2 of 2 that could be read; there may be more\n")
        .unwrap();
    assert!(after.contains("crast-run") && after.contains("crast-old"));
    assert!(!after.contains("crast-new") && !after.contains("crast-wait"));
    let error = format!("{TASKS}: the list has more than 2 pages; max_pages allows more\n");
    assert_eq!(said.err, error);

    let said = discover(&file, &["cri-a", "--output=json", "--limit=1"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["tasks_whole"], false);
    assert_eq!(json["tasks_total"], 2);
    assert_eq!(json["tasks"][0]["task_id"], "crast-run");
    assert_eq!(json["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn an_instance_that_cannot_be_found_is_wrong_usage() {
    let cloud = cloud();
    let file = in_file(&cloud, "");
    let said = discover(&file, &["cri-b"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(
        said.err,
        "config.yaml: instance \"cri-b\" is not in it; name it there, or give --region or --endpoint\n"
    );
    let said = typed(&["cri-a"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(
        said.err,
        "config.yaml does not exist; give --region (or --endpoint), or --config.file with the instance in it\n"
    );
    let said = typed(&["abc", "--region=cn-hangzou"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    let lines: Vec<_> = said.err.lines().collect();
    assert!(lines[0].starts_with("INSTANCE_ID: "), "{}", said.err);
    assert!(
        lines[1].starts_with("--region: unknown region \"cn-hangzou\" (did you mean cn-hangzhou?)"),
        "{}",
        said.err
    );
    for (argument, told) in [
        ("--limit=0", "'--limit <N>': 0 is not in 1.."),
        ("--limit=-1", "--limit"),
        ("--output=xml", "possible values: table, json, yaml, config"),
    ] {
        let said = discover(&file, &["cri-a", argument]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{argument}");
        assert!(said.err.contains(told), "{}", said.err);
    }
    assert_eq!(cloud.requests().total, 0);
}
