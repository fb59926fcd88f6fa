//! `check-config`: validates, and tells what the configuration does and costs.

use std::io::Write as _;
use std::sync::Arc;

use clap::Args;

use crate::api::Budget;
use crate::app::accounts;
use crate::app::plan::Plan;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::own::Own;
use crate::telemetry;

use super::{Error, Flags, block_on, block_on_or_signal, print};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Make one signed call per instance as well
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
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    if arguments.online {
        block_on_or_signal(online(&config, own))??;
    }
    Ok(())
}

/// One signed call for each instance, all of them though one fails.
async fn online(config: &Config, own: &Arc<Own>) -> Result<(), Error> {
    let clients =
        accounts::clients(config, own, &Clock::system()).map_err(|error| Error::failed(&error))?;
    print(b"\nOnline:\n")?;
    let mut failures = Vec::new();
    for (instance, client) in config.instances.iter().zip(clients) {
        let endpoint = instance.endpoint.url();
        let task = &instance.tasks[0];
        let mut budget = Budget::new(config.poll.deadline);
        match client
            .probe(&endpoint, &instance.id, &task.id, &mut budget)
            .await
        {
            Ok(()) => print(format!("  {}: answers\n", instance.id).as_bytes())?,
            Err(error) => failures.push(format!("{}: {}", instance.id, telemetry::chain(&error))),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(failures.join("\n")))
    }
}
