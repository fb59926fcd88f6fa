//! What people and scripts read beside the metrics: the status page in a real
//! browser, the JSON held to its description by schemathesis, the
//! configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use alibaba_cloud::clock::Clock;
use serde_json::{Value, json};
use simulator::world::load_task_id;
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Daemon, binary, left_out, project, real_part, run};
use crate::python;

const DAY: i64 = 86_400_000;

fn cloud(world: World) -> Running {
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

/// A daemon that watches these instances; JSON is YAML.
fn watching(cloud: &Running, instances: &[Value]) -> Daemon {
    let mut instances = instances.to_vec();
    for instance in &mut instances {
        instance["region"] = json!("cn-hangzhou");
        instance["endpoint"] = json!(cloud.url());
        instance["credentials"] = json!("test");
    }
    let config = json!({
        "api": { "requests_per_second": 1000, "burst": 100 },
        "credentials": { "test": {
            "type": "access_key",
            "access_key_id": demo::KEY_ID,
            "access_key_secret": demo::KEY_SECRET,
        } },
        "instances": instances,
    });
    let daemon = Daemon::serve(&config.to_string());
    daemon.ready();
    daemon
}

/// Something of everything: the demo's cloud, a task that is not there and an
/// instance that is not.
fn everything() -> (Running, Daemon) {
    let cloud = cloud(World::demo(Clock::system().now_millis()));
    let named = demo::TASKS.map(|(id, name)| json!({ "id": id, "name": name }));
    let mut tasks = named.to_vec();
    tasks.push(json!({ "id": "crast-isnotthere00001", "name": "gone" }));
    let [(first, _), (second, _)] = demo::INSTANCES;
    let daemon = watching(
        &cloud,
        &[
            json!({ "id": first, "tasks": tasks, "follow": {} }),
            // Without a run to watch a subscription stands for itself.
            json!({ "id": second, "follow": { "max_tasks": 0 } }),
            json!({ "id": "cri-isnotthere000001", "follow": {} }),
        ],
    );
    (cloud, daemon)
}

#[test]
fn pages_of_json_give_each_task_once() {
    let now = Clock::system().now_millis();
    let cloud = cloud(World::load(23, 2, now - DAY));
    let ids: BTreeSet<String> = (0..23).map(load_task_id).collect();
    let instance = json!({ "id": World::LOAD_INSTANCE, "tasks": ids });
    let daemon = watching(&cloud, &[instance]);
    let mut found = Vec::new();
    let mut cursor = String::new();
    let mut pages = 0;
    loop {
        let answer = daemon.get(&format!("/api/v1/tasks?limit=4&cursor={cursor}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        pages += 1;
        for task in page["tasks"].as_array().unwrap() {
            assert_eq!(task["state"], "succeeded", "{task}");
            assert_eq!(task["artifacts"]["total"], 2, "{task}");
            found.push(task["task_id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, 6);
    assert_eq!(found, ids.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_demo_has_a_page_and_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(&["demo", "--web.listen-address=127.0.0.1:0"]);
    command.current_dir(folder.path());
    let daemon = Daemon::start(command, folder);
    daemon.ready();
    let page = daemon.get("/").body;
    // What the rules' runs are up to depends on the time of day.
    let headline = page.split("</h1>").next().unwrap();
    let headline = headline.rsplit('>').next().unwrap();
    for wrong in ["failed", "1\u{a0}unknown"] {
        assert!(headline.contains(wrong), "{headline}");
    }
    let names = |page: &str| {
        let pieces = page.split("<span class=\"name\">").skip(1);
        let names = pieces.map(|rest| rest.split('<').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert!(names(&page).len() > demo::TASKS.len());
    assert!(names(&daemon.get("/?state=failed").body).contains(&"redis".to_owned()));
    assert_eq!(names(&daemon.get("/?q=COREOS").body), ["etcd"]);
    assert!(page.contains("toomanyrequests: You have reached your pull rate limit."));

    let config = daemon.get("/config");
    assert!(
        config.head.contains("content-type: text/plain"),
        "{}",
        config.head
    );
    assert!(config.body.contains("access_key_secret: <secret>\n"));
    assert!(!config.body.contains(demo::KEY_SECRET) && !config.body.contains(demo::KEY_ID));
    assert!(config.body.contains("  stale_after: 5m\n"));
}

#[test]
fn a_browser_finds_no_fault_with_the_page() {
    let (Some(chromium), Some(node)) = (real_part("chromium"), real_part("node")) else {
        return;
    };
    let scripts = project().join("tests/browser");
    if !scripts.join("node_modules/playwright-core").exists() {
        return left_out("playwright-core");
    }
    let (_cloud, daemon) = everything();
    let folder = tempfile::tempdir().unwrap();
    let mut check = outside(&node, folder.path());
    check
        .arg(scripts.join("check.mjs"))
        .arg(chromium)
        .arg(format!("http://{}/", daemon.address))
        .arg(folder.path());
    let said = run(&mut check);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(folder.path().join("telephone-dark-all.png").exists());
}

#[test]
fn every_answer_is_as_described() {
    let Some(python) = python::with("schemathesis") else {
        return;
    };
    let (_cloud, daemon) = everything();
    let home = format!("http://{}", daemon.address);
    let folder = tempfile::tempdir().unwrap();
    let mut check = outside(&python, folder.path());
    check
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{home}/api/v1/openapi.json"))
        .arg(format!("--url={home}"))
        .args(["--phases=examples,coverage,fuzzing", "--max-examples=100"])
        // A reload is not enabled.
        .args(["--generation-deterministic", "--no-color", "--warnings=off"]);
    let said = run(&mut check);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    // All of them but the description itself.
    assert!(said.out.contains("Tested: 10"), "{}", said.out);
}

/// A program that leaves what it writes in `folder` and asks no proxy.
fn outside(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("NO_PROXY", "*")
        .env("no_proxy", "*");
    command
}
