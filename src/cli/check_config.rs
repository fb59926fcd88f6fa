//! `check-config`: validates, and tells what the configuration does and costs.

use std::sync::Arc;

use clap::Args;

use crate::api::{Budget, Class, Instance};
use crate::app::accounts;
use crate::app::plan::Plan;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::own::Own;

use super::{
    Error, Flags, block_on, block_on_or_signal, print, tell, warn_without_task, with_signer,
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Ask the cloud for a task of each instance as well, in two signed calls
    #[arg(long)]
    online: bool,
}

pub(super) fn run(flags: &Flags, arguments: &Arguments, own: &Arc<Own>) -> Result<(), Error> {
    let config = flags.load_config()?;
    let plan = Plan::new(&config);
    let path = flags.config_path();
    print(format!("{} is valid\n\n{plan}\n", path.display()).as_bytes())?;
    let unreadable = block_on(accounts::unreadable_files(&config))?;
    for warning in plan.warnings().into_iter().chain(unreadable) {
        tell(&format!("warning: {warning}"));
    }
    if arguments.online {
        block_on_or_signal(online(&config, own))??;
    }
    Ok(())
}

/// Asks every instance for its first task, all of them though one fails: for
/// the rows, and where those can be read for the task itself.
async fn online(config: &Config, own: &Arc<Own>) -> Result<(), Error> {
    let clients =
        accounts::clients(config, own, &Clock::system()).map_err(|error| Error::failed(&error))?;
    print(b"\nOnline:\n")?;
    let mut failures = Vec::new();
    for (instance, client) in config.instances.iter().zip(clients) {
        let place = Instance {
            id: &instance.id,
            region: &instance.region,
            endpoint: &instance.endpoint.url(),
        };
        let task_id = &instance.tasks[0].id;
        let mut budget = Budget::new(config.poll.deadline);
        let mut answered = client.probe(place, task_id, &mut budget).await;
        if answered.is_ok() {
            answered = match client.task(place, task_id, &mut budget).await {
                Err(error) if error.class() == Class::Forbidden => {
                    warn_without_task(&instance.id, &error);
                    Ok(())
                }
                asked => asked.map(|_| ()),
            };
        }
        match answered {
            Ok(()) => {
                let signer = client.signer().await.unwrap_or_default();
                print(format!("  {}: answers; {signer}\n", instance.id).as_bytes())?;
            }
            Err(error) => {
                let told = with_signer(&error, &client).await;
                failures.push(format!("{}: {told}", instance.id));
            }
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(failures.join("\n")))
    }
}
