//! When the state is saved: at once after something was counted, and then the
//! page shows it; else every 15 s; and at the end. What a state is and how it
//! becomes a file is the store's.

use std::error::Error as StdError;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use alibaba_cloud::clock::Clock;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::own::{Own, StateMetrics};
use crate::store::Store;
use crate::store::state::{self, Checksum, Found, State, StateFile};

/// Between two saves, where nothing was counted.
const EVERY: Duration = Duration::from_secs(15);

/// Between the starts of two saves, however much is counted.
const APART: Duration = Duration::from_secs(1);

/// A write that takes longer has failed, for the page and the metrics.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the last save; the exit must come within 10 s of the signal.
const LAST: Duration = Duration::from_secs(8);

/// Asks the poller for its state at this moment.
pub type Request = oneshot::Sender<State>;

/// Takes the file and reads what it holds; a state that cannot be read is an
/// empty one, logged. The only error: another process has the file.
pub fn open(path: &Path, clock: &Clock) -> Result<(StateFile, State), state::Error> {
    let (file, found) = StateFile::open(path, clock.now_millis())?;
    let shown = file.path().display();
    match found {
        Found::State(state) => {
            tracing::info!(path = %shown, tasks = state.tasks.len(), instances = state.instances.len(), "state read");
            return Ok((file, state));
        }
        Found::Nothing => {
            tracing::info!(path = %shown, "no state file yet, counting starts at zero");
        }
        Found::MovedAside { why, to } => tracing::error!(
            path = %shown,
            moved_to = %to.display(),
            error = &why as &dyn StdError,
            "the state file cannot be used and was moved aside, counting starts at zero"
        ),
        Found::LeftAlone(why) => tracing::error!(
            path = %shown,
            error = &why as &dyn StdError,
            "the state file cannot be read, counting starts at zero and nothing is saved until a restart finds it readable or gone"
        ),
    }
    Ok((file, State::default()))
}

/// Saves to `file`, if there is one, until `stop`, and once more then. The poller
/// answers `requests` until their senders are gone, also after `stop`.
pub async fn keep(
    file: Option<StateFile>,
    store: Arc<Store>,
    requests: mpsc::Sender<Request>,
    clock: Clock,
    own: Arc<Own>,
    stop: CancellationToken,
) {
    let Some(file) = file else {
        drop(requests);
        return stop.cancelled().await;
    };
    let metrics = own.state();
    // From before a restart.
    let modified = file.saved().map(|at| at.duration_since(UNIX_EPOCH));
    if let Some(Ok(modified)) = modified {
        metrics.saved(modified.as_secs_f64());
    }
    let path = file.path().display().to_string();
    let file = Arc::new(file);
    let write = move |bytes: Vec<u8>| {
        let file = Arc::clone(&file);
        let write = tokio::task::spawn_blocking(move || file.save(&bytes));
        async { write.await.unwrap_or_else(|error| go_on_panicking(error)) }
    };
    let saver = Saver {
        path,
        write,
        store,
        requests,
        clock,
        metrics,
        under_way: None,
        written: None,
        told: None,
    };
    saver.run(stop).await;
}

async fn ask(requests: &mpsc::Sender<Request>) -> Option<State> {
    let (request, answer) = oneshot::channel();
    requests.send(request).await.ok()?;
    answer.await.ok()
}

fn go_on_panicking(error: JoinError) -> ! {
    std::panic::resume_unwind(error.into_panic())
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the poller has ended and gave no state")]
    NoState,
    #[error("the disk has not answered within {} s", .0.as_secs())]
    Hangs(Duration),
    #[error(transparent)]
    File(#[from] state::Error),
}

type Write = Pin<Box<dyn Future<Output = Result<(), state::Error>> + Send>>;

struct Saver<W> {
    /// For the log.
    path: String,
    write: W,
    store: Arc<Store>,
    requests: mpsc::Sender<Request>,
    clock: Clock,
    metrics: StateMetrics,
    /// The checksum of what is being written, and the write.
    under_way: Option<(Checksum, Write)>,
    /// The checksum of what the file holds.
    written: Option<Checksum>,
    /// The failure that was logged last, until a save succeeds.
    told: Option<String>,
}

impl<W, F> Saver<W>
where
    W: Fn(Vec<u8>) -> F,
    F: Future<Output = Result<(), state::Error>> + Send + 'static,
{
    async fn run(mut self, stop: CancellationToken) {
        let begin = Instant::now();
        let (mut latest, mut earliest) = (begin + EVERY, begin);
        let saving = async {
            loop {
                tokio::select! {
                    () = self.store.counted() => {}
                    () = sleep_until(latest) => {}
                }
                sleep_until(earliest).await;
                let start = Instant::now();
                (latest, earliest) = (start + EVERY, start + APART);
                self.save(false).await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(saving).await;
        if timeout(LAST, self.save(true)).await.is_err() {
            self.account(Err(Failure::Hangs(LAST)));
        }
    }

    /// May be given up at any moment: a write under way goes on.
    async fn save(&mut self, even_unchanged: bool) {
        // What was counted until now is in the state that is asked for next.
        let _ = self.store.counted().now_or_never();
        let Some(mut state) = ask(&self.requests).await else {
            return self.account(Err(Failure::NoState));
        };
        self.store
            .mark_announced(&mut state, self.clock.now().steady_ms);
        let state = Arc::new(state);
        let outcome = self.bring_to_file(&state, even_unchanged).await;
        self.account(outcome);
        // After a failure too: counting goes on.
        self.store.publish(&state);
    }

    async fn bring_to_file(
        &mut self,
        state: &Arc<State>,
        even_unchanged: bool,
    ) -> Result<(), Failure> {
        // A second write beside one that hangs could be overtaken by it.
        self.settle().await?;
        let state = Arc::clone(state);
        let encoded = tokio::task::spawn_blocking(move || state::encode(&state)).await;
        let bytes = encoded.unwrap_or_else(|error| go_on_panicking(error));
        let checksum = state::checksum(&bytes);
        if self.written == Some(checksum) && !even_unchanged {
            return Ok(());
        }
        self.written = None;
        let write = Box::pin((self.write)(bytes));
        self.under_way = Some((checksum, write));
        self.settle().await
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<(), Failure> {
        let Some((_, write)) = &mut self.under_way else {
            return Ok(());
        };
        let result = timeout(PATIENCE, write).await;
        let result = result.map_err(|_| Failure::Hangs(PATIENCE))?;
        let checksum = self.under_way.take().map(|(checksum, _)| checksum);
        result?;
        self.written = checksum;
        Ok(())
    }

    fn account(&mut self, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "milliseconds of this era fit the 52 bits"
                )]
                self.metrics.saved(self.clock.now_millis() as f64 / 1_000.0);
                if self.told.take().is_some() {
                    tracing::info!(path = self.path, "the state is saved again");
                }
            }
            Err(failure) => {
                self.metrics.failures.inc();
                // Causes included.
                let text = format!("{failure:?}");
                if self.told.as_ref() != Some(&text) {
                    tracing::error!(
                        path = self.path,
                        error = &failure as &dyn StdError,
                        "the state cannot be saved; counting goes on"
                    );
                    self.told = Some(text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
