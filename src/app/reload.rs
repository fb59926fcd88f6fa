//! A new configuration in place of the one in force, without a restart: on SIGHUP,
//! on request over HTTP, and when the contents of the file have changed. One at a
//! time; what cannot be used changes nothing. What it means to the tasks is the
//! scheduler's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use exporter_web::WebSource;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
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
use crate::telemetry;

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

/// Keeps the configuration in force, and what was made of it.
pub(super) struct Reloader {
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
    /// Reloads on request and when the file has changed, until `stop`.
    pub(super) async fn run(
        mut self,
        mut origin: Option<Origin>,
        mut requests: mpsc::Receiver<ReloadRequest>,
        stop: CancellationToken,
    ) {
        self.note_loaded();
        self.note_reloaded(true);
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = requests.recv() => {
                    let outcome = match &mut origin {
                        Some(origin) => self.reload(origin).await,
                        None => Err(rejected(&["the configuration was not read from a file"])),
                    };
                    // The client may have gone away meanwhile.
                    let _ = request.send(outcome);
                }
                _ = looks.tick() => if let Some(origin) = &mut origin {
                    self.look(origin).await;
                },
            }
        }
    }

    /// Reloads if the file holds something else than when it was last tried, or if a
    /// requested reload failed and its cause is mended.
    async fn look(&mut self, origin: &mut Origin) {
        // A file may be away for a moment. One that stays away fails the next
        // requested reload, or the next start.
        let Ok(bytes) = read(&origin.path).await else {
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
        // The outcome is logged, and the web configuration has its own watcher.
        let _ = self.try_out(origin, Ok(bytes), Ok(())).await;
    }

    async fn reload(&mut self, origin: &mut Origin) -> Result<String, String> {
        let read = read(&origin.path).await;
        let web = self.web.reload().await;
        origin.web_failed = web.is_err();
        self.try_out(origin, read, web).await
    }

    /// Applies what the file holds, unless it or the `web` configuration is wrong;
    /// returns the outcome as a text.
    async fn try_out(
        &mut self,
        origin: &mut Origin,
        read: Result<Vec<u8>, Vec<String>>,
        web: Result<(), exporter_web::Error>,
    ) -> Result<String, String> {
        let tried = read.as_deref().ok().map(digest);
        let tried_before = std::mem::replace(&mut origin.tried, tried);
        let config = read.and_then(|bytes| {
            let config = config::judge(&bytes, &origin.path);
            config.map_err(|error| lines(&error))
        });
        if config.is_ok() && web.is_err() {
            // This file is good: the next look tries it again if it has changed.
            origin.tried = tried_before;
        }
        let web = web.map_err(|error| match error {
            exporter_web::Error::Invalid(lines) => lines,
            error @ exporter_web::Error::Io { .. } => vec![telemetry::chain(&error)],
        });
        let applied = match (config, web) {
            (Ok(config), Ok(())) => {
                systemd::reloading();
                let applied = self.apply(config).await;
                systemd::ready();
                applied
            }
            (config, web) => {
                let wrong = [config.err(), web.err()].into_iter().flatten();
                Err(wrong.flatten().collect())
            }
        };
        self.note_reloaded(applied.is_ok() && !origin.web_failed);
        applied.map_err(|lines| rejected(&lines))
    }

    async fn apply(&mut self, config: Config) -> Result<String, Vec<String>> {
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
        if self.changes.send(change).await.is_err() || in_force.await.is_err() {
            return Err(vec!["the scheduler has ended".to_owned()]);
        }
        accounts.forget_gone(&self.accounts, &self.own);
        let before = std::mem::replace(&mut self.config, config);
        self.accounts = accounts;
        self.note_loaded();

        let instances = &self.config.instances;
        let tasks: usize = instances.iter().map(|one| one.tasks.len()).sum();
        let instances = instances.len();
        tracing::info!(instances, tasks, "the configuration was reloaded");
        let mut told = "The configuration was reloaded.\n".to_owned();
        if before.state != self.config.state {
            let later = "state.path takes effect at the next start";
            tracing::warn!("{later}");
            told.extend([later, "\n"]);
        }
        Ok(told)
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

async fn read(path: &Path) -> Result<Vec<u8>, Vec<String>> {
    let reading = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || config::read(&reading));
    match timeout(PATIENCE, reading).await {
        Ok(Ok(read)) => read.map_err(|error| lines(&error)),
        Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {
            let (path, limit) = (path.display(), PATIENCE.as_secs());
            Err(vec![format!("{path} could not be read within {limit} s")])
        }
    }
}

/// One text for each mistake.
fn lines(error: &config::Error) -> Vec<String> {
    match error {
        config::Error::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        config::Error::Io { .. } => vec![telemetry::chain(error)],
    }
}

/// Logs why the configuration stays the one before, and returns it as a text.
fn rejected(lines: &[impl AsRef<str>]) -> String {
    let mut told = "The configuration before stays in force:\n".to_owned();
    for line in lines {
        let line = line.as_ref();
        tracing::error!(error = %line, "the configuration cannot be reloaded, the one before stays in force");
        told.extend([line, "\n"]);
    }
    told
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
