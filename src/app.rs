//! The composition root: wires the rooms together, starts them in order and
//! stops them together. The only room that knows all others.

pub mod accounts;
pub mod plan;
pub mod reload;
pub mod signals;
pub mod state;
mod systemd;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use exporter_web::WebSource;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::accounts::Accounts;
use self::reload::{Origin, Reloader};
use self::signals::Signals;
use crate::config::Config;
use crate::follow;
use crate::metrics::own::{Build, Own};
use crate::model::{Cause, Causes, Meaning, Words};
use crate::poll::{Follow, Requests, Scheduler, Settings, Watch, Work};
use crate::server;
use crate::shard::Shard;
use crate::source::{CloudSource, Place};
use crate::store::{self, Limits, Store, Target};

/// A daemon that has not tried every task by then is ready all the same.
const READY_AFTER: Duration = Duration::from_secs(60);

/// How long answers in flight may take after a signal; the exit must come within 10 s.
const DRAIN: Duration = Duration::from_secs(8);

/// What the command line decides.
#[derive(Clone, Debug)]
pub struct Web {
    /// Addresses to listen on, `:PORT` or `HOST:PORT`.
    pub listen: Vec<String>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes answered at once.
    pub max_requests: usize,
    /// Whether a reload can be asked for over HTTP.
    pub lifecycle: bool,
    /// TLS and who may ask.
    pub source: Arc<WebSource>,
}

/// Why the daemon could not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use, not ours, or its host has no address.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was given.
        address: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The service manager has given sockets that cannot be used.
    #[error("cannot use the sockets of the service manager")]
    Sockets(#[source] io::Error),
    /// The HTTP client could not be made.
    #[error("cannot make the HTTP client")]
    Client(#[source] alibaba_cloud::http::Error),
    /// The state file is another daemon's.
    #[error("cannot use the state file")]
    State(#[source] crate::store::state::Error),
    /// The system gives no signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A part of the daemon has ended though nobody stopped it.
    #[error("the {0} ended early")]
    EndedEarly(&'static str),
}

/// A daemon whose addresses are bound; [`Daemon::run`] does the rest.
pub struct Daemon {
    signals: Signals,
    listeners: Vec<TcpListener>,
    web: Web,
    own: Arc<Own>,
    clock: Clock,
}

impl Daemon {
    /// Binds the addresses, so that a wrong one is told before anything runs.
    /// Sockets that a service manager has opened take their place.
    pub async fn bind(web: Web, own: Arc<Own>, clock: Clock) -> Result<Self, Error> {
        // Before it can be seen that the daemon is there.
        let signals = Signals::listen().map_err(Error::Signals)?;
        let mut listeners = systemd::listeners().map_err(Error::Sockets)?;
        let addresses = if listeners.is_empty() {
            web.listen.as_slice()
        } else {
            &[]
        };
        for address in addresses {
            let listener = listen(address).await.map_err(|source| Error::Listen {
                address: address.clone(),
                source,
            })?;
            listeners.push(listener);
        }
        Ok(Self {
            signals,
            listeners,
            web,
            own,
            clock,
        })
    }

    /// The addresses in use, the chosen port in place of port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Polls what is `shard`'s of the configuration, and serves, until a signal or
    /// `stop`. `origin` is where a newer configuration is found.
    pub async fn run(
        self,
        config: Config,
        origin: Option<Origin>,
        shard: Shard,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let (own, clock) = (&self.own, &self.clock);
        let accounts = Accounts::new(&config, shard, own, clock).map_err(Error::Client)?;
        let opened = config.state.path.as_ref().map(|it| state::open(it, clock));
        let (file, state) = opened.transpose().map_err(Error::State)?.unzip();
        let store = Arc::new(store(&config, file.is_some(), clock.clone()));
        let work = Work {
            watches: watches(&config, shard),
            follows: follows(&config, shard),
            state: state.unwrap_or_default(),
        };
        self.log_start(&config, shard, work.watches.len());
        let source = Arc::new(source(&config, &accounts));
        let (scheduler, tried_once) = self.scheduler(source, &store, settings(&config), work);
        let (ask_states, states) = mpsc::channel(1);
        let (send_changes, changes) = mpsc::channel(1);
        let (ask_alive, alive) = mpsc::channel(1);
        let asked = Requests {
            states,
            changes,
            alive,
        };
        let keeping = state::keep(
            file,
            Arc::clone(&store),
            ask_states,
            clock.clone(),
            Arc::clone(own),
            stop.clone(),
        );
        let (reload, reloads) = mpsc::channel(1);
        let (show, shown) = watch::channel(config.shown().into());
        let reloader = Reloader {
            web: Arc::clone(&self.web.source),
            show,
            config,
            accounts,
            shard,
            store: Arc::clone(&store),
            own: Arc::clone(own),
            clock: clock.clone(),
            changes: send_changes,
        };
        let ready = Arc::new(AtomicBool::new(false));
        let readiness = become_ready(Arc::clone(&ready), tried_once, stop.clone());
        let web = server::Settings {
            store,
            own: self.own,
            clock: self.clock,
            ready,
            telemetry_path: self.web.telemetry_path,
            config: shown,
            web: self.web.source,
            max_requests: self.web.max_requests,
            reload: self.web.lifecycle.then(|| reload.clone()),
            drain: DRAIN,
        };
        let reloading = reloader.run(origin, reloads, stop.clone());
        let serving = server::serve(self.listeners, web, stop.clone());
        let signaled = self.signals.handle(reload, stop.clone());
        let accompanied = systemd::accompany(ask_alive, stop.clone());
        let ended = join_all([
            part("scheduler", scheduler.run(asked, stop.clone()), &stop),
            part("saver of the state", keeping, &stop),
            part("reloader", reloading, &stop),
            part("server", serving, &stop),
            part("readiness", readiness, &stop),
            part("signal handler", signaled, &stop),
            part("service manager", accompanied, &stop),
        ]);
        ended.await.into_iter().collect::<Result<(), _>>()?;
        tracing::info!("stopped");
        Ok(())
    }

    fn scheduler(
        &self,
        source: Arc<CloudSource>,
        store: &Arc<Store>,
        settings: Settings,
        work: Work,
    ) -> (Scheduler<CloudSource>, watch::Receiver<bool>) {
        let (store, own) = (Arc::clone(store), Arc::clone(&self.own));
        Scheduler::new(source, store, own, self.clock.clone(), settings, work)
    }

    fn log_start(&self, config: &Config, shard: Shard, tasks: usize) {
        tracing::info!(
            version = Build::CURRENT.version,
            revision = Build::CURRENT.revision,
            instances = config.instances.len(),
            tasks,
            shard_index = shard.index(),
            shard_total = shard.total(),
            "starting"
        );
        for warning in self.web.source.warnings() {
            tracing::warn!("{warning}");
        }
        let is_tls = self.web.source.is_tls();
        let scheme = if is_tls { "https" } else { "http" };
        for address in self.addresses() {
            tracing::info!(scheme, %address, "listening");
        }
    }
}

/// The cloud, as the accounts may ask it.
fn source(config: &Config, accounts: &Accounts) -> CloudSource {
    let clients = accounts.clients(config);
    let places = config.instances.iter().zip(clients);
    CloudSource::new(
        places.map(|(instance, client)| {
            let place = Place {
                client,
                endpoint: instance.url(),
                region: instance.region().to_owned(),
            };
            ((*instance.id).into(), place)
        }),
        *config.poll.deadline,
        *config.poll.timeout,
    )
}

/// Runs one part of the daemon. The first to end although nobody asked for it ends
/// all.
fn part<'a>(
    name: &'static str,
    work: impl Future<Output = ()> + 'a,
    stop: &'a CancellationToken,
) -> LocalBoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        work.await;
        if stop.is_cancelled() {
            return Ok(());
        }
        stop.cancel();
        Err(Error::EndedEarly(name))
    })
}

/// Ready once every task was tried, or a minute has passed; not while stopping.
async fn become_ready(
    ready: Arc<AtomicBool>,
    mut tried_once: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    tokio::select! {
        _ = tried_once.wait_for(|tried| *tried) => {}
        () = tokio::time::sleep(READY_AFTER) => {
            tracing::warn!("not every task could be tried within a minute; ready all the same");
        }
        () = stop.cancelled() => return,
    }
    ready.store(true, Ordering::Relaxed);
    stop.cancelled().await;
    ready.store(false, Ordering::Relaxed);
}

/// `:PORT` is every address of the machine, by IPv6 where it has it.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':') else {
        return TcpListener::bind(address).await;
    };
    match TcpListener::bind(format!("[::]:{port}")).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        bound => bound,
    }
}

/// The tasks that the configuration names, as far as they are this shard's.
fn watches(config: &Config, shard: Shard) -> Vec<Watch> {
    let mut watches = Vec::new();
    for instance in &config.instances {
        let instance_id: Arc<str> = (*instance.id).into();
        let region: Arc<str> = instance.region().into();
        let account = account(config, &instance.credentials);
        for task in &instance.tasks {
            if !shard.owns(&[&instance.id, &task.id]) {
                continue;
            }
            let target = Target {
                instance_id: Arc::clone(&instance_id),
                task_id: (*task.id).into(),
                task: task.name().into(),
                region: Arc::clone(&region),
                origin: store::Origin::Configured,
                artifacts: config.artifacts,
            };
            watches.push(Watch {
                target: Arc::new(target),
                interval: task.interval(&config.poll),
                account,
                followed: None,
            });
        }
    }
    watches
}

/// The instances whose lists tell what to watch.
fn follows(config: &Config, shard: Shard) -> Vec<Follow> {
    let mut follows = Vec::new();
    for instance in &config.instances {
        let Some(follow) = &instance.follow else {
            continue;
        };
        follows.push(Follow {
            settings: follow::Settings {
                instance_id: (*instance.id).into(),
                region: instance.region().into(),
                interval: *follow.interval,
                stale_after: *config.poll.stale_after,
                filter: follow::Filter {
                    include: follow.include.clone(),
                    exclude: follow.exclude.clone(),
                },
                runs: follow.runs.size(),
                max_age: *follow.max_age,
                max_tasks: follow.max_tasks.size(),
                artifacts: follow.artifacts,
                configured: instance
                    .tasks
                    .iter()
                    .map(|task| (*task.id).into())
                    .collect(),
                shard,
                words: words(config),
                causes: causes(config),
            },
            account: account(config, &instance.credentials),
        });
    }
    follows
}

/// The number of an account among those in use.
fn account(config: &Config, name: &str) -> usize {
    let used = config.used_credentials();
    used.iter().position(|it| *it == name).unwrap_or_default()
}

/// The scheduler fills it.
fn store(config: &Config, counts_wait: bool, clock: Clock) -> Store {
    let store = Store::new(limits(config), []).timed_by(clock);
    if counts_wait {
        store.holding_counts_back()
    } else {
        store
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        series: config.limits.series.size(),
        artifacts_per_task: config.limits.artifacts_per_task.size(),
        stale_after: *config.poll.stale_after,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        words: words(config),
        causes: causes(config),
        interval: *config.poll.interval,
        finished_interval: *config.poll.finished_interval,
        concurrency: config.poll.concurrency.size(),
        instances: config
            .instances
            .iter()
            .map(|instance| (*instance.id).into())
            .collect(),
        accounts: config
            .used_credentials()
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}

/// The built-in patterns and those of the configuration.
fn causes(config: &Config) -> Causes {
    let causes = &config.causes;
    let lists = [
        (Cause::RateLimited, &causes.rate_limited),
        (Cause::Quota, &causes.quota),
        (Cause::Unauthorized, &causes.unauthorized),
        (Cause::NotFound, &causes.not_found),
        (Cause::Network, &causes.network),
        (Cause::Other, &causes.other),
    ];
    let patterns = lists
        .into_iter()
        .flat_map(|(cause, patterns)| patterns.iter().map(move |it| (cause, it.0.clone())));
    Causes::with(patterns)
}

/// The built-in words and those of the configuration.
pub fn words(config: &Config) -> Words {
    let status = &config.status;
    let lists = [
        (Meaning::Running, &status.running),
        (Meaning::Finished, &status.finished),
        (Meaning::Succeeded, &status.succeeded),
        (Meaning::Failed, &status.failed),
    ];
    Words::with(
        lists
            .into_iter()
            .flat_map(|(meaning, words)| words.iter().map(move |word| (meaning, word.0.clone()))),
    )
}
