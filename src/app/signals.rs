//! Signals: SIGTERM and SIGINT stop the daemon, SIGHUP reloads its configuration.
//! Commands that end by themselves end with any of them, in an orderly way.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::server::ReloadRequest;

/// The signals that are meant for the daemon. Those that come before they are
/// handled are not lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on no signal ends the process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }

    /// Ends when `stop` is canceled, by a signal or otherwise.
    pub(super) async fn handle(
        mut self,
        reload: mpsc::Sender<ReloadRequest>,
        stop: CancellationToken,
    ) {
        while let Some(signal) = stop.run_until_cancelled(self.next()).await {
            if signal == "SIGHUP" {
                // The outcome is logged. A full queue holds a reload that will
                // read the file as it is now.
                let _ = reload.try_send(oneshot::channel().0);
            } else {
                tracing::info!(signal, "stopping");
                stop.cancel();
            }
        }
    }
}

/// The name of the first signal that is to end a command which ends by itself.
///
/// # Errors
///
/// The system gives no signals.
pub async fn first() -> io::Result<&'static str> {
    Ok(Signals::listen()?.next().await)
}
