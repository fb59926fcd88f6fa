//! `check-config`: validates, and tells what the configuration does and costs.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Clock;
use clap::Args;
use rustix::fs::{Access, access};

use crate::api::{self, Budget, Client, Instance};
use crate::app::accounts;
use crate::app::plan::Plan;
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::shard::Shard;

use super::{
    Error, Flags, block_on, block_on_or_signal, both, print, tell, warn_without_task, with_signer,
};

/// A file system that is gone gives no answer for ever.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// What tells of the artifacts of a task.
const ROWS: &str = "GetArtifactSubscriptionTaskResult";
/// The only operation that the daemon can do without.
const TASK: &str = "GetArtifactSubscriptionTask";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Ask the cloud as well: each operation that will be used, once for each instance
    #[arg(long)]
    online: bool,
}

pub(super) fn run(flags: &Flags, arguments: &Arguments, own: &Arc<Own>) -> Result<(), Error> {
    let shard = flags.shard()?;
    let (config, web) = both(flags.load_config(), flags.web_source())?;
    let plan = Plan::new(&config, shard);
    let path = flags.config_path();
    print(format!("{} is valid\n\n{plan}\n", path.display()).as_bytes())?;
    if let Some(path) = &flags.web_config_file {
        print(format!("\n{} is valid\n", path.display()).as_bytes())?;
    }
    let unusable = block_on(unusable_files(&config))?;
    let web = web.warnings().iter().cloned();
    for warning in plan.warnings().into_iter().chain(unusable).chain(web) {
        tell(&format!("warning: {warning}"));
    }
    if arguments.online {
        block_on_or_signal(online(&config, shard, own))??;
    }
    Ok(())
}

/// Files that the daemon could not use if it ran here and now. No mistake of the
/// configuration: it may run elsewhere, or as somebody else.
async fn unusable_files(config: &Config) -> Vec<String> {
    let mut told = accounts::unreadable_files(config).await;
    if let Some(path) = &config.state.path {
        told.extend(unwritable_state(path.0.clone().into()).await);
    }
    told
}

/// Why no state could be saved at `path`; nothing is opened or written.
async fn unwritable_state(path: Arc<Path>) -> Option<String> {
    let asked = Arc::clone(&path);
    let looking = tokio::task::spawn_blocking(move || {
        let folder = folder_of(&asked);
        let looked = writable(&folder).err();
        looked.map(|error| format!("its folder {} {}", folder.display(), reason(&error)))
    });
    let problem = match tokio::time::timeout(DISK_PATIENCE, looking).await {
        Ok(looked) => looked.unwrap_or_else(|error| Some(error.to_string()))?,
        Err(_) => format!("its folder gave no answer within {DISK_PATIENCE:?}"),
    };
    Some(format!(
        "state.path: {}: {problem}; nothing will be saved there",
        path.display()
    ))
}

/// Where the new file is written: a link stays, its target is replaced.
fn folder_of(path: &Path) -> PathBuf {
    let beside = |path: &Path| match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => Path::new(".").to_owned(),
    };
    let target = fs::canonicalize(path)
        .or_else(|_| fs::read_link(path).map(|target| beside(path).join(target)));
    beside(target.as_deref().unwrap_or(path))
}

fn writable(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::NotADirectory => "is no folder".to_owned(),
        _ => format!("cannot be written to: {error}"),
    }
}

/// Asks every instance, all of them though one fails.
async fn online(config: &Config, shard: Shard, own: &Arc<Own>) -> Result<(), Error> {
    let clients = accounts::clients(config, shard, own, &Clock::system())
        .map_err(|error| Error::failed(&error))?;
    print(b"\nOnline:\n")?;
    let mut failures = Vec::new();
    for (instance, client) in config.instances.iter().zip(clients) {
        let id = &instance.id;
        let mut tasks = instance.tasks.iter();
        let task = tasks.find(|task| shard.owns(&[id, &task.id]));
        if task.is_none() && instance.follow.is_none() {
            print(format!("  {id}: not asked, none of its tasks is this shard's\n").as_bytes())?;
            continue;
        }
        let mut failed = Vec::new();
        let task = task.map(|task| task.id.to_string());
        // Whether it came to its end shows in what has failed.
        let _ = ask(config, instance, task, &client, &mut failed).await;
        let without_rows = failed.iter().any(|error| error.action() == ROWS);
        failed.retain(|error| {
            let spared =
                error.action() == TASK && error.reason() == Reason::Forbidden && !without_rows;
            if spared {
                warn_without_task(id, error);
            }
            !spared
        });
        if failed.is_empty() {
            let signer = client.signer().await.unwrap_or_default();
            print(format!("  {id}: answers; {signer}\n").as_bytes())?;
        }
        for error in &failed {
            let told = with_signer(error, &client).await;
            failures.push(format!("{id}: {told}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(failures.join("\n")))
    }
}

/// Asks for what the daemon will: the lists where they are followed, and the rows
/// and the task itself of `task`, else of the first that is listed. A denial
/// concerns one operation, every other failure ends it.
async fn ask(
    config: &Config,
    instance: &config::Instance,
    task: Option<String>,
    client: &Client,
    failed: &mut Vec<api::Error>,
) -> ControlFlow<()> {
    let place = Instance {
        id: &instance.id,
        region: instance.region(),
        endpoint: &instance.url(),
    };
    let mut budget = Budget::new(*config.poll.deadline);
    let mut listed = None;
    if instance.follow.is_some() {
        go_on(client.probe_rules(place, &mut budget).await, failed)?;
        let tasks = client.tasks(place, &mut budget, |_| false).await;
        let first = go_on(tasks, failed)?.and_then(|list| list.rows.into_iter().next());
        listed = first.map(|task| task.task_id).filter(|id| !id.is_empty());
    }
    let Some(task) = task.or(listed) else {
        tell(&format!(
            "warning: {}: {ROWS} and {TASK} were not tried, since no task is known to ask for",
            instance.id
        ));
        return ControlFlow::Continue(());
    };
    go_on(client.probe(place, &task, &mut budget).await, failed)?;
    go_on(client.task(place, &task, &mut budget).await, failed)?;
    ControlFlow::Continue(())
}

fn go_on<T>(
    answer: Result<T, api::Error>,
    failed: &mut Vec<api::Error>,
) -> ControlFlow<(), Option<T>> {
    let error = match answer {
        Ok(answer) => return ControlFlow::Continue(Some(answer)),
        Err(error) => error,
    };
    let denied = error.reason() == Reason::Forbidden;
    failed.push(error);
    if denied {
        ControlFlow::Continue(None)
    } else {
        ControlFlow::Break(())
    }
}
