//! Which instance a command asks: one of the configuration file, or one that was
//! typed with its region or endpoint, which is asked with the default
//! credentials chain. What is asked there is left to the command.

use std::path::Path;
use std::sync::Arc;

use alibaba_cloud::clock::Clock;
use clap::Args;

use crate::api::{Client, Instance};
use crate::app::accounts;
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::shard::Shard;

use super::{Error, Flags};

#[derive(Args, Debug)]
pub(super) struct Place {
    /// The instance, cri-…
    pub(super) instance_id: String,
    /// Region of an instance that is not in the configuration
    #[arg(long)]
    region: Option<String>,
    /// Endpoint of an instance that is not in the configuration
    #[arg(long)]
    endpoint: Option<String>,
}

impl Place {
    /// The configuration file where it knows the instance, else one made of what
    /// was typed. The instance is the only one in it; `task_id` is judged with it.
    pub(super) fn configuration(
        &self,
        flags: &Flags,
        task_id: Option<&str>,
    ) -> Result<Config, Error> {
        let typed = self.region.is_some() || self.endpoint.is_some();
        let path = flags.config_path();
        if !typed && (flags.config_file.is_some() || Path::new(&path).exists()) {
            let mut config = flags.load_config()?;
            config.instances.retain(|one| *one.id == *self.instance_id);
            if config.instances.is_empty() {
                return Err(Error::Usage(format!(
                    "{}: instance {:?} is not in it; name it there, or give --region or --endpoint",
                    path.display(),
                    self.instance_id,
                )));
            }
            return Ok(config);
        }
        if !typed {
            return Err(Error::Usage(format!(
                "{} does not exist; give --region (or --endpoint), or --config.file with the instance in it",
                path.display(),
            )));
        }
        let mut instance = serde_json::json!({ "id": self.instance_id });
        match task_id {
            Some(task_id) => instance["tasks"] = [task_id].as_slice().into(),
            None => instance["follow"] = serde_json::json!({}),
        }
        for (key, value) in [("region", &self.region), ("endpoint", &self.endpoint)] {
            if let Some(value) = value {
                instance[key] = value.as_str().into();
            }
        }
        // JSON is YAML: what was typed passes the same checks as a file.
        let text = serde_json::json!({ "instances": [instance] }).to_string();
        config::parse(&text, "command line").map_err(|error| Error::Usage(typed_wrong(&error)))
    }
}

/// Mistakes of a configuration that nobody wrote, in the words of the command line.
fn typed_wrong(error: &config::Error) -> String {
    let config::Error::Mistakes(mistakes) = error else {
        return error.to_string();
    };
    let told = mistakes.iter().map(|mistake| {
        let place = match mistake.path.as_str() {
            "instances[0].id" => "INSTANCE_ID",
            "instances[0].region" => "--region",
            "instances[0].endpoint" => "--endpoint",
            path if path.starts_with("instances[0].tasks") => "TASK_ID",
            path => path,
        };
        format!("{place}: {}", mistake.message)
    });
    told.collect::<Vec<_>>().join("\n")
}

/// The one instance of a configuration, and the client that asks it.
pub(super) struct Reached<'a> {
    pub(super) client: Arc<Client>,
    instance: &'a config::Instance,
    endpoint: String,
}

impl<'a> Reached<'a> {
    /// For a configuration of [`Place::configuration`].
    pub(super) fn new(config: &'a Config, own: &Arc<Own>) -> Result<Self, Error> {
        let clients = accounts::clients(config, Shard::WHOLE, own, &Clock::system())
            .map_err(|error| Error::failed(&error))?;
        let instance = &config.instances[0];
        Ok(Self {
            client: Arc::clone(&clients[0]),
            instance,
            endpoint: instance.url(),
        })
    }

    pub(super) fn place(&self) -> Instance<'_> {
        Instance {
            id: &self.instance.id,
            region: self.instance.region(),
            endpoint: &self.endpoint,
        }
    }
}
