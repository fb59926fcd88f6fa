//! `query`: the results of one task over all pages, as the vendor's API
//! explorer would show them, together with what the exporter makes of them.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::api::Budget;
use crate::app::words;
use crate::config::Config;
use crate::metrics::own::Own;
use crate::model::{Assessment, Folded, Outcome, Row, TaskInfo, Words};
use crate::source;

use super::place::{Place, Reached};
use super::table::{self, join, seconds, time};
use super::{Error, Flags, block_on_or_signal, print, tell, warn_without_task, with_signer};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The task, crast-…
    task_id: String,
    /// How the result is written
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

pub(super) fn run(flags: &Flags, arguments: &Arguments, own: &Arc<Own>) -> Result<(), Error> {
    let place = &arguments.place;
    let config = place.configuration(flags, Some(&arguments.task_id))?;
    let answer = block_on_or_signal(ask(&config, arguments, own))??;
    let text = match arguments.output {
        Output::Table => answer.table(),
        Output::Json => format!("{:#}\n", serde_json::json!(answer)),
        Output::Yaml => serde_saphyr::to_string(&answer).map_err(|error| Error::failed(&error))?,
    };
    print(text.as_bytes())
}

async fn ask(config: &Config, arguments: &Arguments, own: &Arc<Own>) -> Result<Answer, Error> {
    let reached = Reached::new(config, own)?;
    let (client, place) = (&reached.client, reached.place());
    let task_id = &arguments.task_id;
    let mut budget = Budget::new(*config.poll.deadline);
    let rows = match client.task_results(place, task_id, &mut budget).await {
        Ok(rows) => rows,
        Err(error) => return Err(Error::Failed(with_signer(&error, client).await)),
    };
    if let Some(signer) = client.signer().await {
        tell(&format!("asked with {signer}"));
    }
    // The rows are worth showing where the task itself may not be read.
    let info = match client.task(place, task_id, &mut budget).await {
        Ok(task) => Some(source::task_info(task)),
        Err(error) => {
            warn_without_task(place.id, &error);
            None
        }
    };
    let rows = source::rows(&rows).collect();
    Ok(Answer::new(arguments, rows, info, &words(config)))
}

#[derive(Serialize)]
struct Answer {
    instance_id: String,
    task_id: String,
    /// What the exporter shows as the task's status.
    status: &'static str,
    merged_rows: u32,
    duration_seconds: Option<f64>,
    /// The task itself, in the cloud's words; null where it could not be read.
    task: Option<Task>,
    /// Every row, in the cloud's words and order.
    rows: Vec<ResultRow>,
}

#[derive(Serialize)]
struct Task {
    status: String,
    result: String,
    r#type: String,
    source_provider: String,
    source_repository: String,
    repo_namespace: String,
    repo_name: String,
    message: String,
    start_time: Option<String>,
    end_time: Option<String>,
}

#[derive(Serialize)]
struct ResultRow {
    repo_namespace: String,
    repo_name: String,
    tag: String,
    status: String,
    result: String,
    /// What the exporter makes of the row.
    outcome: &'static str,
    start_time: Option<String>,
    end_time: Option<String>,
    duration_seconds: Option<f64>,
}

impl Answer {
    fn new(
        arguments: &Arguments,
        rows: Vec<Row<&str>>,
        info: Option<TaskInfo>,
        words: &Words,
    ) -> Self {
        let shown = rows.iter().map(|row| result_row(*row, words)).collect();
        let assessment = Assessment::new(Folded::new(rows, words), info.as_ref(), words);
        Self {
            instance_id: arguments.place.instance_id.clone(),
            task_id: arguments.task_id.clone(),
            status: assessment.status.as_str(),
            merged_rows: assessment.merged_rows,
            duration_seconds: assessment.duration_ms().map(seconds),
            task: info.map(|info| Task {
                status: info.status,
                result: info.result,
                r#type: info.task_type,
                source_provider: info.source_provider,
                source_repository: info.source_repository,
                repo_namespace: info.repo_namespace,
                repo_name: info.repo_name,
                message: info.message,
                start_time: info.start_ms.and_then(time),
                end_time: info.end_ms.and_then(time),
            }),
            rows: shown,
        }
    }

    fn table(&self) -> String {
        let count = |outcome: Outcome| {
            let rows = self.rows.iter();
            rows.filter(|row| row.outcome == outcome.as_str()).count()
        };
        let mut text = format!(
            "task {} of {}: {}\n",
            self.task_id, self.instance_id, self.status
        );
        if let Some(task) = &self.task {
            for (name, value) in [
                (
                    "source",
                    join(" ", &task.source_provider, &task.source_repository),
                ),
                ("target", join("/", &task.repo_namespace, &task.repo_name)),
                (
                    "TaskStatus, TaskResult",
                    join(", ", &task.status, &task.result),
                ),
                ("message", table::shown(&task.message)),
            ] {
                if !value.is_empty() {
                    text.push_str(&format!("{name}: {}\n", table::shown(&value)));
                }
            }
        }
        text.push_str(&format!(
            "{} rows: {} succeeded, {} failed, {} running, {} unknown\n",
            self.rows.len(),
            count(Outcome::Succeeded),
            count(Outcome::Failed),
            count(Outcome::Running),
            count(Outcome::Unknown),
        ));
        if self.rows.is_empty() {
            return text;
        }
        let header = [
            "NAMESPACE",
            "REPOSITORY",
            "TAG",
            "STATUS",
            "RESULT",
            "OUTCOME",
            "START",
            "END",
            "SECONDS",
        ];
        let cells = self.rows.iter().map(|row| {
            vec![
                row.repo_namespace.clone(),
                row.repo_name.clone(),
                row.tag.clone(),
                row.status.clone(),
                row.result.clone(),
                row.outcome.to_owned(),
                row.start_time.clone().unwrap_or_default(),
                row.end_time.clone().unwrap_or_default(),
                row.duration_seconds
                    .map(|seconds| seconds.to_string())
                    .unwrap_or_default(),
            ]
        });
        let cells: Vec<Vec<String>> = cells.collect();
        text.push('\n');
        text.push_str(&table::align(&header, &cells));
        text
    }
}

fn result_row(row: Row<&str>, words: &Words) -> ResultRow {
    // One row by itself is never folded.
    let alone = Assessment::new(Folded::new([row], words), None, words);
    let artifact = alone.artifacts.get(0);
    ResultRow {
        outcome: artifact.outcome.as_str(),
        duration_seconds: artifact.duration_ms().map(seconds),
        start_time: artifact.start_ms.and_then(time),
        end_time: artifact.end_ms.and_then(time),
        repo_namespace: row.repo_namespace.to_owned(),
        repo_name: row.repo_name.to_owned(),
        tag: row.tag.to_owned(),
        status: row.status.to_owned(),
        result: row.result.to_owned(),
    }
}
