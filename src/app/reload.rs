//! A new configuration in place of the one in force, without a restart: on SIGHUP,
//! on request over HTTP, and when the contents of the file have changed. One at a
//! time; what cannot be used changes nothing. What it means to the tasks is the
//! scheduler's.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use exporter_web::WebSource;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::accounts::{Accounts, asked_anew};
use super::{follows, limits, settings, source, systemd, watches};
use crate::config::{self, Config};
use crate::metrics::own::Own;
use crate::poll::Change;
use crate::server::ReloadRequest;
use crate::shard::Shard;
use crate::source::CloudSource;
use crate::store::Store;

/// Between two looks at the contents of the file. A look at its time or inode
/// would miss what is mounted over it.
const LOOK: Duration = Duration::from_secs(30);

/// A file that takes longer to read cannot be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file of a configuration, and what came of the last reload.
#[derive(Debug)]
pub struct Origin {
    path: PathBuf,
    /// What was in it when it was last tried; `None` where it could not be read then.
    tried: Option<[u8; 32]>,
    /// The last reload that was asked for found the web configuration broken, and
    /// it still is.
    web_failed: bool,
}

impl Origin {
    /// Loads the file at `path`.
    pub fn load(path: &Path) -> Result<(Config, Self), config::Error> {
        let bytes = config::read(path)?;
        let config = config::judge(&bytes, path)?;
        let origin = Self {
            path: path.to_owned(),
            tried: Some(digest(&bytes)),
            web_failed: false,
        };
        Ok((config, origin))
    }
}

/// Why the configuration in force stays.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration was not read from a file")]
    NoFile,
    #[error("{} could not be read within {} s", .0.display(), PATIENCE.as_secs())]
    Hangs(PathBuf),
    #[error("the configuration cannot be used")]
    Config(#[from] config::Error),
    #[error("the web configuration cannot be used")]
    Web(#[from] exporter_web::Error),
    #[error("the scheduler has ended")]
    Stopping,
}

impl Failure {
    /// One text for each mistake.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(config::Error::Mistakes(mistakes)) => {
                mistakes.iter().map(ToString::to_string).collect()
            }
            Self::Config(error @ config::Error::Io { .. }) => vec![chain(error)],
            Self::Web(exporter_web::Error::Invalid(lines)) => lines.clone(),
            Self::Web(error @ exporter_web::Error::Io { .. }) => vec![chain(error)],
            other => vec![other.to_string()],
        }
    }
}

fn chain(error: &dyn StdError) -> String {
    crate::telemetry::chain(error)
}

/// Keeps the configuration in force, and what was made of it.
pub(super) struct Reloader {
    pub(super) origin: Option<Origin>,
    pub(super) config: Config,
    pub(super) accounts: Accounts,
    pub(super) shard: Shard,
    pub(super) store: Arc<Store>,
    pub(super) own: Arc<Own>,
    pub(super) clock: Clock,
    pub(super) changes: mpsc::Sender<Change<CloudSource>>,
    /// The other file, which is read again for every new connection as well.
    pub(super) web: Arc<WebSource>,
    /// The configuration in force, as people may see it.
    pub(super) show: watch::Sender<Arc<str>>,
}

impl Reloader {
    /// Reloads when it is asked to or the file has changed, until `stop`.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<ReloadRequest>,
        stop: CancellationToken,
    ) {
        self.note_loaded();
        self.note_reloaded(true);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once.
        looks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = requests.recv() => {
                    let told = self.reload().await;
                    // Who has gone away meanwhile needs no answer.
                    let _ = request.send(told);
                }
                _ = looks.tick(), if self.origin.is_some() => self.look().await,
            }
        }
    }

    /// Reloads if the file holds something else than when it was last tried, or if a
    /// reload that was asked for failed and what made it fail is mended.
    async fn look(&mut self) {
        // A file that is away for a moment is no news; one that stays away is
        // told by whoever asks for a reload, or by the next start.
        let (Ok(bytes), Some(origin)) = (self.read().await, &mut self.origin) else {
            return;
        };
        let web_is_mended = origin.web_failed && self.web.is_up_to_date().await;
        origin.web_failed &= !web_is_mended;
        match origin.tried {
            Some(tried) if tried != digest(&bytes) => {
                tracing::info!("the configuration file has changed");
            }
            Some(_) if !web_is_mended => return,
            _ => tracing::info!("repeating the failed reload"),
        }
        // The other file is looked after by itself.
        let outcome = self.try_out(Ok(bytes), Ok(())).await;
        let _ = self.tell(outcome);
    }

    async fn reload(&mut self) -> Result<String, String> {
        let read = self.read().await;
        let Some(origin) = &mut self.origin else {
            return self.tell(Err(vec![Failure::NoFile]));
        };
        let web = self.web.reload().await;
        origin.web_failed = web.is_err();
        let outcome = self.try_out(read, web).await;
        self.tell(outcome)
    }

    async fn read(&self) -> Result<Vec<u8>, Failure> {
        let path = match &self.origin {
            Some(origin) => origin.path.clone(),
            None => return Err(Failure::NoFile),
        };
        let reading = path.clone();
        let reading = tokio::task::spawn_blocking(move || config::read(&reading));
        match timeout(PATIENCE, reading).await {
            Ok(Ok(read)) => Ok(read?),
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Failure::Hangs(path)),
        }
    }

    /// Puts what the file holds into force, unless it or the `web` configuration is
    /// wrong; answers what that takes a restart for.
    async fn try_out(
        &mut self,
        read: Result<Vec<u8>, Failure>,
        web: Result<(), exporter_web::Error>,
    ) -> Result<Vec<String>, Vec<Failure>> {
        let Some(origin) = &mut self.origin else {
            return Err(vec![Failure::NoFile]);
        };
        let tried = read.as_deref().ok().map(digest);
        let tried_before = std::mem::replace(&mut origin.tried, tried);
        let config = read.and_then(|bytes| Ok(config::judge(&bytes, &origin.path)?));
        // Both may be wrong.
        let config = match (config, web) {
            (Ok(config), Ok(())) => config,
            (Ok(_), Err(web)) => {
                // This file is good: should it have changed, it is looked at again.
                origin.tried = tried_before;
                return Err(vec![web.into()]);
            }
            (Err(error), Ok(())) => return Err(vec![error]),
            (Err(error), Err(web)) => return Err(vec![error, web.into()]),
        };
        systemd::reloading();
        let applied = self.apply(config).await;
        systemd::ready();
        applied.map_err(|failure| vec![failure])
    }

    async fn apply(&mut self, config: Config) -> Result<Vec<String>, Failure> {
        let accounts = self.accounts.after(&self.config, &config);
        let (done, in_force) = oneshot::channel();
        let change = Change {
            source: Arc::new(source(&config, &accounts)),
            settings: settings(&config),
            watches: watches(&config, self.shard),
            follows: follows(&config, self.shard),
            asked_anew: asked_anew(&self.config, &config).map(Into::into).collect(),
            done,
        };
        self.store.set_limits(limits(&config));
        self.accounts.retire_replaced(&accounts);
        let sent = self.changes.send(change).await;
        sent.map_err(|_| Failure::Stopping)?;
        in_force.await.map_err(|_| Failure::Stopping)?;
        accounts.forget_gone(&self.accounts, &self.own);
        let mut later = Vec::new();
        if config.state != self.config.state {
            later.push("state.path takes effect at the next start".to_owned());
        }
        self.accounts = accounts;
        self.config = config;
        Ok(later)
    }

    fn tell(&self, outcome: Result<Vec<String>, Vec<Failure>>) -> Result<String, String> {
        match outcome {
            Ok(later) => {
                self.note_loaded();
                let web_failed = self.origin.as_ref().is_some_and(|it| it.web_failed);
                self.note_reloaded(!web_failed);
                let instances = self.config.instances.len();
                let tasks: usize = self
                    .config
                    .instances
                    .iter()
                    .map(|one| one.tasks.len())
                    .sum();
                tracing::info!(instances, tasks, "the configuration was reloaded");
                for later in &later {
                    tracing::warn!("{later}");
                }
                let later = later.iter().map(|later| format!("{later}\n"));
                Ok(["The configuration was reloaded.\n".to_owned()]
                    .into_iter()
                    .chain(later)
                    .collect())
            }
            Err(failures) => {
                if self.origin.is_some() {
                    self.note_reloaded(false);
                }
                let lines: Vec<String> = failures.iter().flat_map(Failure::lines).collect();
                for mistake in &lines {
                    tracing::error!(error = %mistake, "the configuration cannot be reloaded, the one before stays in force");
                }
                Err(format!(
                    "The configuration before stays in force:\n{}\n",
                    lines.join("\n")
                ))
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "both fit into 52 bits")]
    fn note_loaded(&self) {
        let now = self.clock.now_millis() as f64 / 1_000.0;
        let shown = self.config.shown();
        self.own.config_hash.set(&[], hash(&shown) as f64);
        self.own
            .config_last_reload_success_timestamp_seconds
            .set(&[], now);
        self.show.send_replace(shown.into());
    }

    fn note_reloaded(&self, successful: bool) {
        let successful = f64::from(u8::from(successful));
        self.own.config_last_reload_successful.set(&[], successful);
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first 48 bits, which a float holds exactly, of what is shown: secrets have
/// no part in it.
fn hash(shown: &str) -> u64 {
    let digest = Sha256::digest(shown);
    digest[..6]
        .iter()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
