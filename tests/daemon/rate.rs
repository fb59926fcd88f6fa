//! The rate limit as the cloud sees it: when the requests arrive there, however
//! much is due and whatever they had to wait for besides.

use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::world::TaskSpec;
use simulator::{Running, Seen, Simulator, SimulatorConfig, World, demo};

use crate::credentials::ROLE;
use crate::harness::{Daemon, eventually};

/// A cloud of these instances, each with as many tasks, all of them empty.
fn cloud(instances: &[&str], tasks: usize) -> Running {
    let mut world = World::new();
    for instance in instances {
        world = world.instance(instance, "cn-hangzhou");
        for number in 0..tasks {
            world = world.task(TaskSpec::new(&format!("crast-{number}")));
        }
    }
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

fn key() -> Value {
    json!({
        "type": "access_key",
        "access_key_id": demo::KEY_ID,
        "access_key_secret": demo::KEY_SECRET,
    })
}

fn instance(cloud: &Running, id: &str, credentials: &str, tasks: usize) -> Value {
    let tasks: Vec<_> = (0..tasks).map(|number| format!("crast-{number}")).collect();
    json!({
        "id": id, "region": "cn-hangzhou", "endpoint": cloud.url(), "credentials": credentials,
        "tasks": tasks,
    })
}

/// Waits for so many requests that `counts`, and tells when they arrived,
/// milliseconds.
fn arrivals(cloud: &Running, number: usize, counts: impl Fn(&Seen) -> bool) -> Vec<i64> {
    let mut times = eventually("enough requests", || {
        let requests = cloud.requests().requests;
        let times = requests.iter().filter(|seen| counts(seen));
        let times: Vec<i64> = times.map(|seen| seen.time).collect();
        (times.len() >= number).then_some(times)
    });
    times.sort_unstable();
    times
}

fn is_of_registry(seen: &Seen) -> bool {
    seen.action
        .as_deref()
        .is_some_and(|action| action.contains("ArtifactSubscription"))
}

/// So much later than another one, seconds, a request may be on its way on a
/// machine that is busy.
const LATE: f64 = 0.5;

/// Holds every window, from the arrival of one request to that of any later
/// one, to what a bucket gives out meanwhile. The first of a window may have
/// been late and the last not, so that they were sent in a longer time.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn assert_no_window_holds_more(times: &[i64], burst: f64, rate: f64) {
    for (first, from) in times.iter().enumerate() {
        for (last, to) in times.iter().enumerate().skip(first) {
            let (number, seconds) = ((last - first + 1) as f64, (to - from) as f64 / 1_000.0);
            let most = burst + rate * (seconds + LATE);
            assert!(
                number <= most,
                "{number} requests within {seconds} s, {most} are allowed: {times:?}"
            );
        }
    }
}

#[test]
fn five_requests_a_second_are_never_more_however_much_is_due() {
    let cloud = cloud(&["cri-a"], 200);
    let mut followed = instance(&cloud, "cri-a", "test", 200);
    followed["follow"] = json!({"interval": "1s"});
    // 200 polls and two lists are due each second.
    let config = json!({
        "poll": {"interval": "1s"},
        "api": {"requests_per_second": 5, "burst": 5},
        "credentials": {"test": key()},
        "instances": [followed],
    });
    let daemon = Daemon::serve(&config.to_string());
    // Five at once, and then about nine seconds.
    let times = arrivals(&cloud, 50, |_| true);
    assert_no_window_holds_more(&times, 5.0, 5.0);
    // Waiting for the rate limit, not for the cloud, took the time.
    let page = daemon.page();
    let waited =
        &page["aliyun_acr_exporter_api_rate_limit_wait_seconds_total{credentials=\"test\"}"];
    assert!(waited.parse::<f64>().unwrap() > 8.0, "{waited}");
}

#[test]
fn what_waited_for_a_key_does_not_come_all_at_once() {
    let cloud = cloud(&["cri-a"], 20);
    let slow = FaultRule::new(Fault::Slow { ms: 4_000 });
    cloud.add_fault(slow.action("AssumeRole"));
    let role = json!({
        "type": "assume_role", "role_arn": ROLE, "source": "key", "sts_endpoint": cloud.url(),
    });
    let config = json!({
        "poll": {"interval": "1s", "concurrency": 8},
        "api": {"requests_per_second": 2, "burst": 1},
        "credentials": {"key": key(), "test": role},
        "instances": [instance(&cloud, "cri-a", "test", 20)],
    });
    let _daemon = Daemon::serve(&config.to_string());
    // The key came when eight polls had waited for it, time enough for each.
    let times = arrivals(&cloud, 8, is_of_registry);
    assert_no_window_holds_more(&times, 1.0, 2.0);
    assert_eq!(cloud.requests().count("AssumeRole"), 1);
}

#[test]
fn what_waited_for_another_account_does_not_come_all_at_once() {
    let cloud = cloud(&["cri-slow", "cri-a"], 8);
    let slow = FaultRule::new(Fault::Slow { ms: 4_000 });
    cloud.add_fault(slow.instance("cri-slow").times(8));
    let config = json!({
        "poll": {"interval": "10m", "concurrency": 8},
        "api": {"requests_per_second": 2, "burst": 8},
        "credentials": {"other": key(), "test": key()},
        "instances": [
            instance(&cloud, "cri-slow", "other", 8),
            instance(&cloud, "cri-a", "test", 8),
        ],
    });
    let _daemon = Daemon::serve(&config.to_string());
    let times = arrivals(&cloud, 16, |seen| {
        is_of_registry(seen) && seen.instance_id.as_deref() == Some("cri-a")
    });
    assert_no_window_holds_more(&times, 8.0, 2.0);
}
