//! `query`: the results of one task over all pages, as the vendor's API
//! explorer would show them, together with what the exporter makes of them.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Budget;
use crate::app::words;
use crate::config::Config;
use crate::metrics::own::Own;
use crate::model::{Assessment, Folded, Outcome, Row, TaskInfo, Words};
use crate::source;
use alibaba_cloud::clock::seconds;

use super::place::{Place, Reached};
use super::table::{self, cell, table, time};
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
        Output::Json => table::json(&answer)?,
        Output::Yaml => table::yaml(&answer)?,
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
    /// The task as the API returned it; null where it could not be read.
    task: Option<Value>,
    /// Every row as the API returned it, in its order.
    rows: Vec<Value>,
}

const COLUMNS: [(&str, &str); 9] = [
    ("NAMESPACE", "repo_namespace"),
    ("REPOSITORY", "repo_name"),
    ("TAG", "tag"),
    ("STATUS", "status"),
    ("RESULT", "result"),
    ("OUTCOME", "outcome"),
    ("START", "start_time"),
    ("END", "end_time"),
    ("SECONDS", "duration_seconds"),
];

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
            task: info.map(|info| {
                json!({
                    "status": info.status,
                    "result": info.result,
                    "type": info.task_type,
                    "source_provider": info.source_provider,
                    "source_repository": info.source_repository,
                    "repo_namespace": info.repo_namespace,
                    "repo_name": info.repo_name,
                    "message": info.message,
                    "start_time": info.start_ms.and_then(time),
                    "end_time": info.end_ms.and_then(time),
                })
            }),
            rows: shown,
        }
    }

    fn table(&self) -> String {
        let Self {
            instance_id,
            task_id,
            status,
            ..
        } = self;
        let mut text = format!("task {task_id} of {instance_id}: {status}\n");
        if let Some(task) = &self.task {
            for (name, keys, separator) in [
                ("source", "source_provider source_repository", " "),
                ("target", "repo_namespace repo_name", "/"),
                ("TaskStatus, TaskResult", "status result", ", "),
                ("message", "message", ""),
            ] {
                let value = cell(task, keys, separator);
                if !value.is_empty() {
                    text.push_str(&format!("{name}: {value}\n"));
                }
            }
        }
        let count = |outcome: Outcome| {
            let rows = self.rows.iter();
            rows.filter(|row| row["outcome"] == outcome.as_str())
                .count()
        };
        text.push_str(&format!(
            "{} rows: {} succeeded, {} failed, {} running, {} unknown\n",
            self.rows.len(),
            count(Outcome::Succeeded),
            count(Outcome::Failed),
            count(Outcome::Running),
            count(Outcome::Unknown),
        ));
        if !self.rows.is_empty() {
            text.push('\n');
            text.push_str(&table(&COLUMNS, &self.rows));
        }
        text
    }
}

fn result_row(row: Row<&str>, words: &Words) -> Value {
    // A single row is never merged.
    let alone = Assessment::new(Folded::new([row], words), None, words);
    let artifact = alone.artifacts.get(0);
    json!({
        "repo_namespace": row.repo_namespace,
        "repo_name": row.repo_name,
        "tag": row.tag,
        "status": row.status,
        "result": row.result,
        // What the exporter makes of the row.
        "outcome": artifact.outcome.as_str(),
        "start_time": artifact.start_ms.and_then(time),
        "end_time": artifact.end_ms.and_then(time),
        "duration_seconds": artifact.duration_ms().map(seconds),
    })
}
