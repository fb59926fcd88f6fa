//! `check-config`: validates, and tells what the configuration does and costs.

use std::sync::Arc;

use clap::Args;

use crate::api::{self, Budget, Class, Client, Instance};
use crate::app::accounts;
use crate::app::plan::Plan;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::shard::Shard;

use super::{
    Error, Flags, block_on, block_on_or_signal, both, print, tell, warn_without_task, with_signer,
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Ask the cloud as well, in two signed calls for a task and two for the lists of an instance
    #[arg(long)]
    online: bool,
}

pub(super) fn run(flags: &Flags, arguments: &Arguments, own: &Arc<Own>) -> Result<(), Error> {
    let shard = flags.shard()?;
    let (config, web) = both(flags.load_config(), flags.web_source())?;
    let plan = Plan::new(&config);
    let path = flags.config_path();
    print(format!("{} is valid\n\n{plan}\n", path.display()).as_bytes())?;
    let unreadable = block_on(accounts::unreadable_files(&config))?;
    if let Some(path) = &flags.web_config_file {
        print(format!("\n{} is valid\n", path.display()).as_bytes())?;
    }
    let web = web.warnings().iter().cloned();
    for warning in plan.warnings().into_iter().chain(unreadable).chain(web) {
        tell(&format!("warning: {warning}"));
    }
    if arguments.online {
        block_on_or_signal(online(&config, shard, own))??;
    }
    Ok(())
}

/// Asks every instance, all of them though one fails.
async fn online(config: &Config, shard: Shard, own: &Arc<Own>) -> Result<(), Error> {
    let clients = accounts::clients(config, shard, own, &Clock::system())
        .map_err(|error| Error::failed(&error))?;
    print(b"\nOnline:\n")?;
    let mut failures = Vec::new();
    for (instance, client) in config.instances.iter().zip(clients) {
        let place = Instance {
            id: &instance.id,
            region: &instance.region,
            endpoint: &instance.endpoint.url(),
        };
        match ask(config, instance, place, &client).await {
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

/// Asks for the first task, and for the first page of each list that is followed.
async fn ask(
    config: &Config,
    instance: &config::Instance,
    place: Instance<'_>,
    client: &Client,
) -> Result<(), api::Error> {
    let mut budget = Budget::new(config.poll.deadline);
    if let Some(task) = instance.tasks.first() {
        client.probe(place, &task.id, &mut budget).await?;
        match client.task(place, &task.id, &mut budget).await {
            Err(error) if error.class() == Class::Forbidden => {
                warn_without_task(&instance.id, &error);
            }
            asked => drop(asked?),
        }
    }
    if instance.follow.is_some() {
        client.rules(place, &mut budget).await?;
        client.tasks(place, &mut budget, |_| false).await?;
    }
    Ok(())
}
