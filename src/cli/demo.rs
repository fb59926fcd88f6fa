//! `demo`: the daemon beside a simulated cloud.

use std::sync::Arc;

use alibaba_cloud::clock::Clock;
use serde_json::json;
use simulator::{Simulator, SimulatorConfig, World, demo};

use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::shard::Shard;

use super::{Error, Flags, block_on, print, serve};

pub(super) fn run(flags: &Flags, own: Arc<Own>) -> Result<(), Error> {
    let web = serve::web(flags)?;
    let metrics = web.telemetry_path.clone();
    let scheme = if web.source.is_tls() { "https" } else { "http" };
    block_on(async {
        let daemon = serve::bind(web, own).await?;
        let simulator = Simulator::start(SimulatorConfig {
            world: World::demo(Clock::system().now_millis()),
            ..SimulatorConfig::default()
        })
        .map_err(|error| Error::failed(&error))?;
        let config = demo_config(&simulator.url())?;
        let mut text =
            String::from("A simulated cloud and the exporter run in this process. Open\n");
        for address in daemon.addresses() {
            let host = if address.ip().is_unspecified() {
                "localhost".to_owned()
            } else {
                address.ip().to_string()
            };
            let port = address.port();
            text.push_str(&format!(
                "  {scheme}://{host}:{port}/          the status page\n  {scheme}://{host}:{port}{metrics}   the metrics\n"
            ));
        }
        text.push_str(&format!(
            "The simulated cloud itself answers at {}. Stop with Ctrl-C.\n",
            simulator.url()
        ));
        print(text.as_bytes())?;
        serve::run(daemon, config, None, Shard::WHOLE).await
    })?
}

/// The configuration that fits the simulated cloud's content. Polled more often
/// than a real account should be, so that there is something to see.
fn demo_config(url: &str) -> Result<Config, Error> {
    let [(first, first_region), (second, second_region)] = demo::INSTANCES;
    let tasks: Vec<_> = demo::TASKS
        .iter()
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect();
    let config = json!({
        "poll": { "interval": "5s", "finished_interval": "1m" },
        "api": { "requests_per_second": 20, "burst": 40 },
        "credentials": { "demo": {
            "type": "access_key",
            "access_key_id": demo::KEY_ID,
            "access_key_secret": demo::KEY_SECRET,
        } },
        "instances": [
            {
                "id": first,
                "region": first_region,
                "endpoint": url,
                "credentials": "demo",
                "tasks": tasks,
                "follow": { "interval": "10s", "exclude": [{ "repo_name": "busybox" }] },
            },
            {
                "id": second,
                "region": second_region,
                "endpoint": url,
                "credentials": "demo",
                "follow": { "interval": "15s", "runs": 3 },
            },
        ],
    });
    // JSON is YAML.
    config::parse(&config.to_string(), "demo").map_err(|error| Error::failed(&error))
}
