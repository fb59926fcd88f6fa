//! `simulate`: the simulated cloud alone, for load and fault tests of anything
//! that speaks the API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use clap::Args;
use simulator::world::load_task_id;
use simulator::{self, Simulator, SimulatorConfig, Tls, TlsError, World, demo};
use tokio::signal::unix::{SignalKind, signal};

use crate::telemetry;

use super::{Error, block_on, print};

/// Generated tasks began so long ago (milliseconds) that all of them are over.
const DAY: i64 = 86_400_000;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Loopback address to listen on; port 0 picks a free one
    #[arg(long, value_name = "127.0.0.1:PORT")]
    listen: SocketAddr,
    /// Serve this many generated, finished tasks instead of the demo's
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// Artifacts of each generated task
    #[arg(long, value_name = "N", default_value = "30", requires = "tasks")]
    rows: usize,
    /// Time before each answer, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0")]
    latency: u64,
    /// Serve https with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key in PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Error> {
    let clock = Clock::system();
    let now = clock.now_millis();
    let world = match arguments.tasks {
        Some(tasks) => World::load(tasks, arguments.rows, now - DAY),
        None => World::demo(now),
    };
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(tls(certificate, key)?),
        _ => None,
    };
    let simulator = Simulator::start(SimulatorConfig {
        listen: arguments.listen,
        clock,
        latency: Duration::from_millis(arguments.latency),
        tls,
        world,
        ..SimulatorConfig::default()
    })
    .map_err(|error| match error {
        simulator::Error::NotLoopback(_) => Error::Usage(error.to_string()),
        error => Error::failed(&error),
    })?;
    print(description(&simulator.url(), arguments.tasks).as_bytes())?;
    let stopped = block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    simulator.stop();
    Ok(stopped?)
}

fn tls(certificate: &Path, key: &Path) -> Result<Tls, Error> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
    };
    Tls::from_pem(&read(certificate)?, &read(key)?).map_err(|error| {
        let file = match error {
            TlsError::Key(_) => key,
            TlsError::Certificate(_) | TlsError::Unusable(_) => certificate,
        };
        Error::Usage(format!("{}: {}", file.display(), telemetry::chain(&error)))
    })
}

fn description(url: &str, tasks: Option<usize>) -> String {
    let mut text = format!(
        "endpoint:          {url}\naccess_key_id:     {}\naccess_key_secret: {}\n",
        demo::KEY_ID,
        demo::KEY_SECRET
    );
    if let Some(tasks) = tasks {
        text.push_str(&format!("instance:          {}\n", World::LOAD_INSTANCE));
        if tasks > 0 {
            let (first, last) = (load_task_id(0), load_task_id(tasks - 1));
            text.push_str(&format!("tasks:             {first} to {last}\n"));
        }
    } else {
        for (id, region) in demo::INSTANCES {
            text.push_str(&format!("instance:          {id} ({region})\n"));
        }
        for (id, name) in demo::TASKS {
            text.push_str(&format!("task:              {id} ({name})\n"));
        }
    }
    text.push_str(&format!(
        "faults:            POST, GET, DELETE {url}/_sim/faults, or the request header x-sim-fault\nrequests seen:     GET, DELETE {url}/_sim/requests\nconnections:       GET, DELETE {url}/_sim/connections\n"
    ));
    text
}
