//! `check-config`: what it tells beforehand is what the daemon does, and `--online`
//! tries what the daemon will use.

use std::net::TcpListener;
use std::path::Path;
use std::sync::LazyLock;

use alibaba_cloud::clock::Clock;
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RowSpec, RuleSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World};

use crate::harness::{Daemon, Said, binary, run};
use crate::values;

/// Three hours ago: older runs than `max_age` allows would not be followed.
static S: LazyLock<i64> = LazyLock::new(|| Clock::system().now_millis() - 10_800_000);

const RULES: &str = "ListArtifactSubscriptionRule";
const TASKS: &str = "ListArtifactSubscriptionTask";
const ROWS: &str = "GetArtifactSubscriptionTaskResult";
const TASK: &str = "GetArtifactSubscriptionTask";

const CONFIG: &str = "\
api: { requests_per_second: 2 }
instances:
  - id: cri-90fxryf9pwf0abcd
    region: cn-hangzhou
    tasks:
      - crast-y64sq01bgad0abcd
      - { id: crast-wkpfwqozjiq0abcd, name: nginx, interval: 30s }
";

/// `check-config` of `text` in a folder of its own.
fn check(text: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    let mut command = binary(&["check-config"]);
    run(command.args(arguments).current_dir(folder.path()))
}

#[test]
fn what_will_be_polled_and_what_it_costs_is_told() {
    let said = check(CONFIG, &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    // Worst: every minute and every 30 s, rows and task: 2 × 1440 + 2 × 2880.
    assert_eq!(
        said.out,
        r#"config.yaml is valid

instance cri-90fxryf9pwf0abcd (cn-hangzhou) at https://cr.cn-hangzhou.aliyuncs.com, credentials default
  task crast-y64sq01bgad0abcd: every 1m, finished ever more rarely up to every 1h
  task crast-wkpfwqozjiq0abcd (nginx): every 30s, finished ever more rarely up to every 1h
  calls: 4 at start, 48 a day steady, 8640 a day at worst

API calls, the artifacts of a task on one page of 100, retries and STS not counted:
  credentials default: 2 tasks, at most 2 requests a second
    start           4        (at least 0 s)
    steady         48 a day  (every task finished; 0.0 % of the limit)
    worst        8640 a day  (every task empty: rows and task each time; 5.0 % of the limit)

Series:
  2 tasks: 40 now, 20 each and 2 for each artifact; 0 new a day, since configured ids do not change
  at most 500 artifacts a task, and 200000 series in all: artifacts beyond have none

RAM policy:
{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "cr:GetArtifactSubscriptionTask",
        "cr:GetArtifactSubscriptionTaskResult"
      ],
      "Resource": [
        "acs:cr:cn-hangzhou:*:instance/cri-90fxryf9pwf0abcd"
      ]
    }
  ]
}
"#
    );
}

#[test]
fn a_shard_of_a_followed_instance_tells_its_own_part() {
    let text = format!("{CONFIG}    follow: {{ max_tasks: 60 }}\n");
    let flags = ["--shard.index=1", "--shard.total=3"];
    let said = check(&text, &flags);
    assert_eq!(said.code, 0, "{}", said.err);
    let (told, policy) = said.out.split_once("\n\nRAM policy:\n").unwrap();
    // Lists: 2 and 200 pages at 288 listings. 20 runs: 1 call a day, or 2 each
    // minute. The task: 24 calls a day, or 2 each half minute. The limit of the
    // shard: 2/3 a second, 57 600 a day. All shards: 8 640, 3 × 57 600, 60 × 2 880.
    assert_eq!(
        told,
        "config.yaml is valid

shard 1 of 3, counted from 0: its part of the tasks, about 1/3 of the followed runs, 1/3 of each rate limit, and all lists, which every shard reads for itself

instance cri-90fxryf9pwf0abcd (cn-hangzhou) at https://cr.cn-hangzhou.aliyuncs.com, credentials default
  task crast-wkpfwqozjiq0abcd (nginx): every 30s, finished ever more rarely up to every 1h
  tasks of other shards, not polled here: 1
  follow: both lists every 5m; at most about 20 runs, each every 1m until it is finished, then once a day
  calls: 24 at start, 620 a day steady, 120960 a day at worst

API calls, the artifacts of a task on one page of 100, retries and STS not counted:
  credentials default: 1 task and at most about 20 followed runs, at most 0.667 requests a second
    start          24        (at least 34 s)
    steady        620 a day  (every task and run finished; 1.1 % of the limit)
    worst      120960 a day  (every task and run empty: rows and task each time, lists of 100 pages; 210.0 % of the limit)
    all 3 shards together, each listing for itself: at worst 354240 a day, 205.0 % of the account's 2 requests a second
  Followed runs: as many as follow.max_tasks allows, and lists that hold just these. Fewer cost less: a finished one is 1 call a day, another 1 each time, 2 while it is empty.

Series:
  1 task: 20 now, 20 each and 2 for each artifact; 0 new a day, since configured ids do not change
  cri-90fxryf9pwf0abcd followed: at most about 400 now for 20 runs, 20 each and 2 for each failed artifact; 34 for each subscription; each new run brings 20 new ones and 2 for each failed artifact
  at most 500 artifacts a task, and 200000 series in all: artifacts beyond have none"
    );
    assert!(policy.contains("cr:ListArtifactSubscriptionRule"));
    assert_eq!(
        said.err,
        "warning: credentials default: 120960 calls a day at worst, with every task and run empty or running, are 210 % of this shard's part of the rate limit, 0.667 requests a second; the limit holds, so polls come late then and data may turn stale; to prevent it raise follow.interval or raise poll.interval or lower follow.max_tasks, or raise api.requests_per_second if the account's quota allows\n"
    );
}

#[test]
fn a_crowded_rate_limit_is_a_warning_and_no_failure() {
    let text = CONFIG.replace("requests_per_second: 2", "requests_per_second: 0.11");
    let said = check(&text, &[]);
    assert_eq!(said.code, 0);
    assert!(
        said.err
            .starts_with("warning: credentials default: 8640 calls a day"),
        "{}",
        said.err
    );
}

#[test]
fn a_key_file_that_is_not_there_is_a_warning() {
    let text = format!(
        "credentials:
  default: {{ type: access_key, access_key_id: LTAIexample, access_key_secret_file: no.secret }}
{CONFIG}"
    );
    let said = check(&text, &[]);
    assert_eq!(said.code, 0);
    let warning = "warning: credentials.default.access_key_secret_file: ";
    assert!(said.err.starts_with(warning), "{}", said.err);
    assert!(
        said.err.contains("no.secret does not exist\n"),
        "{}",
        said.err
    );
}

/// What is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_folder_that_cannot_hold_the_state_is_a_warning() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::os::unix::process::CommandExt as _;

    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mode = |name: &str, mode| {
        let path = home.join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(home.join("closed")).unwrap();
    std::fs::create_dir(home.join("open")).unwrap();
    std::fs::write(home.join("open/state"), "as it was").unwrap();
    symlink("closed/state", home.join("link")).unwrap();
    let program = home.join("exporter");
    // By a process of its own: a descriptor of ours, open for writing, may be
    // inherited by what other tests start, and the copy could not be run then.
    let mut copy = std::process::Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_aliyun-acr-exporter"));
    assert!(copy.arg(&program).status().unwrap().success());
    for (name, bits) in [("", 0o755), ("closed", 0o555), ("open", 0o777)] {
        mode(name, bits);
    }
    let check = |path: &str| {
        let text = format!("state: {{ path: {path} }}\n{CONFIG}");
        std::fs::write(home.join("config.yaml"), text).unwrap();
        let mut command = std::process::Command::new(&program);
        command.arg("check-config").env_clear().current_dir(home);
        if std::fs::metadata(home).unwrap().uid() == 0 {
            // The superuser may write anywhere.
            command.uid(65_534).gid(65_534);
        }
        run(&mut command)
    };
    for (path, expected) in [
        ("open/state", None),
        ("open/new", None),
        ("missing/state", Some("its folder missing does not exist")),
        ("exporter/state", Some("its folder exporter is no folder")),
        (
            "closed/state",
            Some("its folder closed cannot be written to: Permission denied"),
        ),
        // The link stays, its target would be written.
        (
            "link",
            Some("its folder ./closed cannot be written to: Permission denied"),
        ),
    ] {
        let said = check(path);
        assert_eq!(said.code, 0, "{}", said.err);
        match expected {
            None => assert_eq!(said.err, ""),
            Some(problem) => {
                let warning = format!("warning: state.path: {path}: {problem}");
                assert!(said.err.starts_with(&warning), "{}", said.err);
                assert!(said.err.ends_with("; nothing will be saved there\n"));
                assert_eq!(said.err.lines().count(), 1);
            }
        }
    }
    assert_eq!(names(&home.join("open")), ["state"]);
    let state = std::fs::read_to_string(home.join("open/state")).unwrap();
    assert_eq!(state, "as it was");
    assert!(names(&home.join("closed")).is_empty());
}

/// A finished run with one artifact.
fn finished(id: &str, from: &str, to: &str, start: i64) -> TaskSpec {
    let (namespace, name) = to.split_once('/').unwrap();
    let row = RowSpec::succeeded(namespace, name, "1", start, start + 500);
    TaskSpec::succeeded(id, start, start + 500)
        .source(&Source::new("DOCKER_HUB", from, to))
        .row(row)
}

/// Two subscriptions with a run each, and three tasks without a rule.
fn cloud() -> Running {
    let mut world = World::new().instance("cri-a", "cn-hangzhou");
    for (number, name) in ["nginx", "redis"].into_iter().enumerate() {
        let (from, to) = (format!("library/{name}"), format!("mirror/{name}"));
        let source = Source::new("DOCKER_HUB", &from, &to);
        let start = *S + i64::try_from(number).unwrap() * 1_000;
        world = world
            .rule(RuleSpec::new(&format!("crasr-{name}"), &source, *S))
            .task(finished(&format!("crast-{name}"), &from, &to, start));
    }
    for number in 0..3 {
        let task = finished(&format!("crast-{number}"), "a/b", "other/b", *S - number);
        world = world.task(task);
    }
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

fn config(cloud: &Running, tasks: &str, follow: &str) -> String {
    // Nothing is due again while a test runs.
    let more = "poll: { interval: 1h }
api: { requests_per_second: 1000, burst: 100, retries: 0, page_size: 5 }";
    let config = values::config(cloud, tasks, more);
    format!("{config}    follow: {follow}\n")
}

#[test]
fn a_start_costs_what_was_told() {
    let cloud = cloud();
    let named = "[crast-0, crast-1, crast-2]";
    let whole = config(&cloud, named, "{ interval: 1h, max_tasks: 2 }");
    // Of a shard the number of runs is an estimate, of none it is exact.
    let alone = config(&cloud, named, "{ interval: 1h, max_tasks: 0 }");
    let flags = |index: u32| vec![format!("--shard.index={index}"), "--shard.total=2".into()];
    let mut told = Vec::new();
    for (text, flags) in [
        (whole, vec![]),
        (alone.clone(), flags(0)),
        (alone, flags(1)),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let said = check(&text, &flags);
        assert_eq!(said.code, 0, "{}", said.err);
        let start = said.out.lines().find_map(|line| {
            let number = line.strip_prefix("    start")?.split('(').next()?;
            number.trim().parse::<u64>().ok()
        });
        let start = start.unwrap();

        cloud.clear_requests();
        let daemon = Daemon::serve_with(&text, &flags, &[]);
        daemon.ready();
        let page = daemon.page();
        let counted = page
            .iter()
            .filter(|(name, _)| name.starts_with("aliyun_acr_exporter_api_requests_total{"));
        let counted: u64 = counted
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum();
        assert_eq!(counted, start, "{}", said.out);
        assert_eq!(cloud.requests().total, start);
        told.push(start);
    }
    // A page of each list, the rows of two runs, rows and task of three tasks.
    assert_eq!(told[0], 10);
    // Both shards list.
    assert_eq!(told[1] + told[2], 2 * 2 + 6);
}

fn denied() -> Fault {
    Fault::Denied {
        code: "NoPermission".to_owned(),
        auth_action: None,
        principal_type: "SubUser".to_owned(),
        no_permission_type: "ImplicitDeny".to_owned(),
    }
}

#[test]
fn online_tries_every_operation_that_will_be_used() {
    let cloud = cloud();
    // The artifacts of the first run that is listed, where none is named.
    for (tasks, task_id) in [("[crast-1]", "crast-1"), ("[]", "crast-redis")] {
        let text = config(&cloud, tasks, "{}").replace("page_size: 5", "page_size: 2");
        cloud.clear_requests();
        let said = check(&text, &["--online"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.out.contains("\n  cri-a: answers; "), "{}", said.out);
        let requests = cloud.requests();
        assert_eq!(requests.total, 4);
        for action in [RULES, TASKS, ROWS, TASK] {
            assert_eq!(requests.count(action), 1, "{action}");
        }
        let asked = requests.requests.iter();
        let asked: Vec<&str> = asked.filter_map(|seen| seen.task_id.as_deref()).collect();
        assert_eq!(asked, [task_id, task_id]);
    }
}

#[test]
fn online_names_every_missing_action() {
    let cloud = cloud();
    let text = config(&cloud, "[crast-1]", "{}");
    let needs = |action: &str| {
        format!("needs cr:{action} on acs:cr:cn-hangzhou:*:instance/cri-a, which no")
    };
    for action in [RULES, TASKS, ROWS] {
        cloud.add_fault(FaultRule::new(denied()).action(action));
        let said = check(&text, &["--online"]);
        assert_eq!(said.code, 1, "{action}");
        assert_eq!(said.err.matches("needs cr:").count(), 1, "{}", said.err);
        assert!(said.err.contains(&needs(action)), "{}", said.err);
        assert!(!said.out.contains("answers"), "{}", said.out);
        cloud.clear_faults();
    }
    cloud.add_fault(FaultRule::new(denied()).action(TASK));
    let said = check(&text, &["--online"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.starts_with("warning: cri-a: "), "{}", said.err);
    assert!(said.err.contains(&needs(TASK)), "{}", said.err);

    // Beside a list it is a warning still.
    cloud.add_fault(FaultRule::new(denied()).action(RULES));
    let said = check(&text, &["--online"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.starts_with("warning: cri-a: "), "{}", said.err);
    for action in [TASK, RULES] {
        assert!(said.err.contains(&needs(action)), "{}", said.err);
    }
    cloud.clear_faults();

    cloud.add_fault(FaultRule::new(denied()));
    let said = check(&text, &["--online"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(said.err.lines().count(), 4, "{}", said.err);
    for action in [RULES, TASKS, ROWS, TASK] {
        assert!(said.err.contains(&needs(action)), "{}", said.err);
    }
    // Without the list there is no run to ask for, which is told.
    let text = config(&cloud, "[]", "{}");
    let said = check(&text, &["--online"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let untried = format!("warning: cri-a: {ROWS} and {TASK} were not tried");
    assert!(said.err.starts_with(&untried), "{}", said.err);
    assert_eq!(said.err.lines().count(), 3, "{}", said.err);
}

#[test]
fn online_asks_no_more_of_an_instance_that_cannot_answer() {
    let cloud = cloud();
    let text = config(&cloud, "[crast-1]", "{}");
    let said = |text: &str| {
        cloud.clear_requests();
        let said = check(text, &["--online"]);
        assert_eq!(said.code, 1, "{}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        (said.err, cloud.requests().total)
    };
    let wrong = text.replace("access_key_secret: ", "access_key_secret: not");
    let (told, asked) = said(&wrong);
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    assert_eq!(asked, 1);
    let (told, asked) = said(&text.replace("id: cri-a", "id: cri-b"));
    assert!(told.contains("INSTANCE_NOT_EXIST"), "{told}");
    assert_eq!(asked, 1);
    cloud.add_fault(FaultRule::new(Fault::Hang));
    let (told, asked) = said(&text.replace("interval: 1h", "timeout: 1s"));
    assert!(told.contains("no answer within 1s"), "{told}");
    assert_eq!(asked, 1);
    // Bound and given up, so that nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = format!("http://{}", nobody.unwrap());
    let (told, asked) = said(&text.replace(&cloud.url(), &nobody));
    assert!(told.starts_with(&format!("cri-a: {RULES}: ")), "{told}");
    assert_eq!(asked, 0);
}

#[test]
fn online_asks_for_what_is_the_shards() {
    let cloud = cloud();
    let text = values::config(
        &cloud,
        "[crast-0, crast-1, crast-2]",
        "api: { requests_per_second: 1000 }",
    );
    let owned = |index: u32| {
        let flag = format!("--shard.index={index}");
        cloud.clear_requests();
        let said = check(&text, &["--online", &flag, "--shard.total=64"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let is_asked = said.out.contains("  cri-a: answers; ");
        let left_out = "  cri-a: not asked, none of its tasks is this shard's\n";
        assert_eq!(said.out.contains(left_out), !is_asked, "{}", said.out);
        let polled = said.out.matches("  task crast-").count();
        assert_eq!(polled > 0, is_asked, "{}", said.out);
        assert_eq!(cloud.requests().total, if is_asked { 2 } else { 0 });
        polled
    };
    assert_eq!((0..64).map(owned).sum::<usize>(), 3);
}
