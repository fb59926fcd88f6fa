//! `serve`, the daemon, and `demo`, the daemon beside a simulated cloud.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::app::reload::Origin;
use crate::app::{Daemon, Web};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::shard::Shard;
use crate::simulator::{Simulator, SimulatorConfig, World, demo};

use super::{Error, Flags, block_on, both, print};

pub(super) fn serve(flags: &Flags, own: Arc<Own>) -> Result<(), Error> {
    // Both files may be wrong.
    let ((config, origin), web) = both(flags.load_origin(), web(flags))?;
    let shard = flags.shard()?;
    own.shard_index.set(i64::from(shard.index()));
    own.shards.set(i64::from(shard.total()));
    block_on(async {
        let daemon = bind(web, own).await?;
        run(daemon, config, Some(origin), shard).await
    })?
}

pub(super) fn demo(flags: &Flags, own: Arc<Own>) -> Result<(), Error> {
    let web = web(flags)?;
    let metrics = web.telemetry_path.clone();
    let scheme = if web.source.is_tls() { "https" } else { "http" };
    block_on(async {
        let daemon = bind(web, own).await?;
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
        run(daemon, config, None, Shard::WHOLE).await
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

async fn bind(web: Web, own: Arc<Own>) -> Result<Daemon, Error> {
    Daemon::bind(web, own, Clock::system())
        .await
        .map_err(|error| Error::failed(&error))
}

async fn run(
    daemon: Daemon,
    config: Config,
    origin: Option<Origin>,
    shard: Shard,
) -> Result<(), Error> {
    daemon
        .run(config, origin, shard, CancellationToken::new())
        .await
        .map_err(|error| Error::failed(&error))
}

fn web(flags: &Flags) -> Result<Web, Error> {
    let path = &flags.web_telemetry_path;
    let plain = path.len() > 1
        && path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
    if !plain {
        return Err(Error::Usage(format!(
            "--web.telemetry-path {path:?} is no path; write one such as /metrics"
        )));
    }
    if crate::server::is_reserved(path) {
        return Err(Error::Usage(format!(
            "--web.telemetry-path {path:?} is the path of something else; choose another, such as /metrics"
        )));
    }
    Ok(Web {
        listen: flags.listen_addresses()?.to_vec(),
        telemetry_path: path.clone(),
        max_requests: usize::try_from(flags.web_max_requests).unwrap_or(usize::MAX),
        lifecycle: flags.web_enable_lifecycle,
        source: Arc::new(flags.web_source()?),
    })
}
