//! `discover`: the rules and the newest tasks of an instance, as its two lists
//! tell them, and the configuration that follows them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Budget;
use crate::app::words;
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::model::{ListedRun, Rule, TaskInfo, TaskStatus, Words};
use crate::source;
use alibaba_cloud::clock::seconds;

use super::place::{Place, Reached};
use super::table::{self, table, time};
use super::{Error, Flags, block_on_or_signal, print, tell, with_signer};

/// Of credentials that an instance need not name.
const DEFAULT_CREDENTIALS: &str = "default";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How the result is written; `config` is YAML to paste under `instances:`
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// How many tasks are shown, the newest
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
    Config,
}

pub(super) fn run(flags: &Flags, arguments: &Arguments, own: &Arc<Own>) -> Result<(), Error> {
    let config = arguments.place.configuration(flags, None)?;
    let (answer, failures) = block_on_or_signal(ask(&config, arguments, own))??;
    // What could be read is worth showing, whatever happened to the rest.
    if answer.rules.is_some() || answer.tasks.is_some() {
        let text = match arguments.output {
            Output::Table => answer.table(),
            Output::Json => table::json(&answer)?,
            Output::Yaml => table::yaml(&answer)?,
            Output::Config => entry(&config, answer.rules.as_deref().unwrap_or_default())?,
        };
        print(text.as_bytes())?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(failures.join("\n")))
    }
}

/// Asks for both lists, each whatever becomes of the other; answers what went
/// wrong too.
async fn ask(
    config: &Config,
    arguments: &Arguments,
    own: &Arc<Own>,
) -> Result<(Answer, Vec<String>), Error> {
    let reached = Reached::new(config, own)?;
    let (client, place) = (&reached.client, reached.place());
    let instance = &config.instances[0];
    // As long as the daemon would take for it.
    let follow = instance.follow.as_ref();
    let interval = follow.map_or(*config.poll.deadline, |follow| *follow.interval);
    let budget = || Budget::new(interval.max(*config.poll.deadline));

    let rules = async { client.rules(place, &mut budget()).await };
    let mut read: Vec<ListedRun> = Vec::new();
    let tasks = async {
        // The configuration is made of the rules alone.
        if arguments.output == Output::Config {
            return None;
        }
        let keep = |page: &[_]| {
            read.extend(page.iter().cloned().map(source::listed));
            true
        };
        Some(client.tasks(place, &mut budget(), keep).await)
    };
    let (rules, tasks) = tokio::join!(rules, tasks);

    let mut failures = Vec::new();
    let rules = match rules {
        Ok(list) => {
            let rules = list.rows.into_iter().map(|wire| {
                let tag_count = wire.tag_count;
                rule_row(&source::rule(wire), tag_count)
            });
            Some(rules.collect())
        }
        Err(error) => {
            failures.push(with_signer(&error, client).await);
            None
        }
    };
    let (tasks, whole) = match tasks {
        Some(Ok(list)) => {
            let tasks: Vec<_> = list.rows.into_iter().map(source::listed).collect();
            (Some(tasks), list.whole)
        }
        Some(Err(error)) => {
            failures.push(with_signer(&error, client).await);
            (
                Some(newest_reports(read)).filter(|some| !some.is_empty()),
                false,
            )
        }
        None => (None, false),
    };
    if failures.is_empty()
        && let Some(signer) = client.signer().await
    {
        tell(&format!("asked with {signer}"));
    }

    let mut answer = Answer {
        instance_id: instance.id.to_string(),
        region: instance.region.as_deref().map(str::to_owned),
        endpoint: instance.url(),
        rules,
        tasks_total: tasks.as_ref().map(Vec::len),
        tasks_whole: tasks.as_ref().map(|_| whole),
        tasks: None,
    };
    let words = words(config);
    answer.tasks = tasks.map(|mut tasks| {
        tasks.sort_by_key(|task| Reverse(recency(&task.info, &words)));
        tasks.truncate(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
        tasks.iter().map(|task| task_row(task, &words)).collect()
    });
    Ok((answer, failures))
}

/// A list that moved was begun anew: what it told of a task last counts.
fn newest_reports(mut read: Vec<ListedRun>) -> Vec<ListedRun> {
    let mut seen = HashSet::new();
    read.reverse();
    read.retain(|task| seen.insert(Arc::clone(&task.task_id)));
    read.reverse();
    read
}

/// By what tasks are ordered, as the runs of a subscription are when they are
/// followed. One that waits has no start yet and is the newest of all; one that
/// is over without ever having had a start counts by its end.
fn recency(info: &TaskInfo, words: &Words) -> i64 {
    let waits = || (!info.status(words).is_over()).then_some(i64::MAX);
    known(info.start_ms)
        .or_else(waits)
        .or_else(|| known(info.end_ms))
        .unwrap_or(0)
}

fn known(millis: Option<i64>) -> Option<i64> {
    millis.filter(|millis| *millis > 0)
}

#[derive(Serialize)]
struct Answer {
    instance_id: String,
    region: Option<String>,
    endpoint: String,
    /// In the order of the API; null where the list could not be read.
    rules: Option<Vec<Value>>,
    /// Tasks that could be read, shown or not.
    tasks_total: Option<usize>,
    /// Whether these are all of them.
    tasks_whole: Option<bool>,
    /// The newest first; null where the list could not be read.
    tasks: Option<Vec<Value>>,
}

const RULE_COLUMNS: [(&str, &str); 7] = [
    ("RULE", "rule_id"),
    ("NAMESPACE", "repo_namespace"),
    ("REPOSITORY", "repo_name"),
    ("SOURCE", "source_provider source_repository"),
    ("TAG REGEXP", "tag_regexp"),
    ("TAG COUNT", "tag_count"),
    ("CREATED", "create_time"),
];

const TASK_COLUMNS: [(&str, &str); 9] = [
    ("TASK", "task_id"),
    ("NAMESPACE", "repo_namespace"),
    ("REPOSITORY", "repo_name"),
    ("STATUS", "status"),
    ("RESULT", "result"),
    ("START", "start_time"),
    ("END", "end_time"),
    ("SECONDS", "duration_seconds"),
    ("SELECTED", "selected_tags"),
];

/// A rule as the API returned it; null where it returned nothing.
fn rule_row(rule: &Rule, tag_count: Option<i64>) -> Value {
    let subscription = &rule.subscription;
    json!({
        "rule_id": text(&rule.rule_id),
        "repo_namespace": text(&subscription.repo_namespace),
        "repo_name": text(&subscription.repo_name),
        "source_provider": text(&subscription.source_provider),
        "source_repository": text(&subscription.source_repository),
        "tag_regexp": text(&rule.tag_regexp),
        "tag_count": tag_count,
        "create_time": rule.created_ms.and_then(time),
    })
}

/// A task as the API returned it; null where it returned nothing.
fn task_row(task: &ListedRun, words: &Words) -> Value {
    let info = &task.info;
    let is_running = info.status(words) == TaskStatus::Running;
    let (start_ms, end_ms) = (known(info.start_ms), known(info.end_ms));
    let duration_ms = end_ms
        .zip(start_ms)
        .map(|(end_ms, start_ms)| end_ms - start_ms);
    json!({
        "task_id": text(&task.task_id),
        "status": text(&info.status),
        "result": text(&info.result),
        "type": text(&info.task_type),
        "source_provider": text(&info.source_provider),
        "source_repository": text(&info.source_repository),
        "repo_namespace": text(&info.repo_namespace),
        "repo_name": text(&info.repo_name),
        "message": text(&info.message),
        "source_tags": info.source_tags,
        "selected_tags": info.selected_tags,
        "start_time": start_ms.and_then(time),
        "end_time": end_ms.and_then(time),
        "duration_seconds": duration_ms.filter(|ms| *ms >= 0 && !is_running).map(seconds),
    })
}

fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Answer {
    fn table(&self) -> String {
        let mut text = format!("instance {}", self.instance_id);
        if let Some(region) = &self.region {
            text.push_str(&format!(" ({region})"));
        }
        text.push_str(&format!(" at {}\n", self.endpoint));
        match &self.rules {
            Some(rules) => text.push_str(&format!("rules: {}\n", rules.len())),
            None => text.push_str("rules: could not be read\n"),
        }
        match (&self.tasks, self.tasks_total) {
            (Some(shown), Some(total)) => {
                text.push_str(&format!("tasks: {} of {total}", shown.len()));
                if self.tasks_whole == Some(false) {
                    text.push_str(" that could be read; there may be more");
                }
                text.push('\n');
            }
            _ => text.push_str("tasks: could not be read\n"),
        }
        let tables = [
            (&self.rules, &RULE_COLUMNS[..]),
            (&self.tasks, &TASK_COLUMNS),
        ];
        for (rows, columns) in tables {
            if let Some(rows) = rows.as_ref().filter(|rows| !rows.is_empty()) {
                text.push('\n');
                text.push_str(&table(columns, rows));
            }
        }
        text
    }
}

/// An entry that follows the namespaces of `rules`, to paste under `instances:`.
fn entry(config: &Config, rules: &[Value]) -> Result<String, Error> {
    let instance = &config.instances[0];
    let credentials =
        Some(instance.credentials.as_str()).filter(|name| *name != DEFAULT_CREDENTIALS);
    let namespaces = rules.iter().map(|rule| rule["repo_namespace"].as_str());
    let namespaces: BTreeSet<&str> = namespaces.map(Option::unwrap_or_default).collect();
    let include = namespaces
        .iter()
        .map(|namespace| json!({ "repo_namespace": exactly(namespace), "repo_name": ".*" }));
    let include: Vec<_> = include.collect();
    let follow = match include.as_slice() {
        [] => json!({}),
        include => json!({ "include": include }),
    };
    let file = |endpoint: Option<String>| {
        let keys = [
            ("id", json!(&*instance.id)),
            ("region", json!(instance.region.as_deref())),
            ("endpoint", json!(endpoint)),
            ("credentials", json!(credentials)),
            ("follow", follow.clone()),
        ];
        let keys = keys.into_iter().filter(|(_, value)| !value.is_null());
        write(&json!({ "instances": [keys.collect::<Value>()] }))
    };
    // If `api.network` is `vpc`, the endpoint is written too: the file that the entry
    // is pasted into may differ.
    let mut yaml = file(None)?;
    let parsed = parse(&yaml, credentials);
    if !parsed.is_ok_and(|config| config.instances[0].endpoint == instance.endpoint) {
        yaml = file(Some(instance.url()))?;
    }
    parse(&yaml, credentials).map_err(|error| {
        Error::Failed(format!("no configuration follows these rules:\n{error}"))
    })?;
    let (_, entry) = yaml.split_once('\n').unwrap_or_default();
    // Numbers only: text of the API could end a comment.
    let comment = match rules.len() {
        0 => {
            tell(&format!(
                "warning: {} has no rules; nothing is shown until it has some",
                instance.id
            ));
            "no rules: whatever comes is followed".to_owned()
        }
        count => format!("rules: {count}, namespaces: {}", namespaces.len()),
    };
    Ok(format!("  # {comment}\n{entry}"))
}

/// A regular expression that matches this name alone.
fn exactly(name: &str) -> String {
    match name {
        // An empty one is refused.
        "" => "^$".to_owned(),
        name => regex::escape(name),
    }
}

fn write(file: &Value) -> Result<String, Error> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: false,
        prefer_block_scalars: false,
    };
    serde_saphyr::to_string_with_options(file, options).map_err(|error| Error::failed(&error))
}

/// Parses the file, with credentials of this name in it.
fn parse(yaml: &str, credentials: Option<&str>) -> Result<Config, config::Error> {
    let credentials =
        credentials.map(|name| format!("credentials: {{{name:?}: {{type: default}}}}\n"));
    config::parse(
        &(yaml.to_owned() + &credentials.unwrap_or_default()),
        "discovered",
    )
}

#[cfg(test)]
mod tests {
    use crate::model::Subscription;

    use super::*;

    #[test]
    fn tasks_are_ordered_as_they_began() {
        let task = |status: &str, start_ms, end_ms| TaskInfo {
            status: status.to_owned(),
            start_ms,
            end_ms,
            ..TaskInfo::default()
        };
        let words = Words::default();
        let of = |info: &TaskInfo| recency(info, &words);
        assert_eq!(of(&task("RUNNING", Some(7), None)), 7);
        assert_eq!(of(&task("SUCCESS", Some(7), Some(9))), 7);
        assert_eq!(of(&task("PENDING", Some(0), Some(0))), i64::MAX);
        assert_eq!(of(&task("CANCELED", None, Some(9))), 9);
        assert_eq!(of(&task("CANCELED", None, None)), 0);
    }

    #[test]
    fn of_a_list_that_began_anew_the_later_report_counts() {
        let run = |id: &str, start_ms| ListedRun {
            task_id: id.into(),
            info: Arc::new(TaskInfo {
                start_ms: Some(start_ms),
                ..TaskInfo::default()
            }),
        };
        let read = vec![run("a", 1), run("b", 2), run("c", 3), run("a", 4)];
        let kept = newest_reports(read);
        assert_eq!(kept, [run("b", 2), run("c", 3), run("a", 4)]);
    }

    fn rule(namespace: &str) -> Value {
        let rule = Rule {
            rule_id: "crasr-1".to_owned(),
            subscription: Subscription {
                repo_namespace: namespace.to_owned(),
                repo_name: "nginx".to_owned(),
                source_provider: String::new(),
                source_repository: String::new(),
            },
            tag_regexp: String::new(),
            created_ms: None,
            modified_ms: None,
        };
        rule_row(&rule, None)
    }

    #[test]
    fn an_endpoint_that_the_region_has_anyway_is_left_out() {
        let endpoint = |api: &str, instance: &str| {
            let text =
                format!("api: {{{api}}}\ninstances: [{{id: cri-a, follow: {{}}, {instance}}}]");
            let config = config::parse(&text, "test").expect(&text);
            let entry = entry(&config, &[rule("mirror")]).expect("an entry");
            let line = entry.lines().find(|line| line.contains("endpoint"));
            line.map(|line| line.trim().to_owned())
        };
        for (api, instance, expected) in [
            ("", "region: cn-hangzhou", None),
            (
                "",
                "region: cn-hangzhou, endpoint: cr.cn-hangzhou.aliyuncs.com",
                None,
            ),
            (
                "network: vpc",
                "region: cn-hangzhou",
                Some("endpoint: https://cr-vpc.cn-hangzhou.aliyuncs.com"),
            ),
            (
                "",
                "region: xx-new-1, endpoint: cr.example.com",
                Some("endpoint: https://cr.example.com"),
            ),
        ] {
            let told = endpoint(api, instance);
            assert_eq!(told.as_deref(), expected, "{api} {instance}");
        }
    }

    #[test]
    fn a_name_that_no_configuration_may_hold_is_told() {
        let text = "instances: [{id: cri-a, region: cn-hangzhou, follow: {}}]";
        let config = config::parse(text, "test").expect(text);
        assert!(entry(&config, &[rule(&"a".repeat(1024))]).is_ok());
        let error = entry(&config, &[rule(&"a".repeat(1025))]).err();
        let told = error.expect("an error").to_string();
        assert!(
            told.contains("instances[0].follow.include[0].repo_namespace: is longer"),
            "{told}"
        );
    }
}
