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

    /// Ends when `stop` is cancelled, by a signal or by somebody else.
    pub(super) async fn handle(
        mut self,
        reload: mpsc::Sender<ReloadRequest>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {
                    tracing::info!(signal = "SIGTERM", "stopping");
                    return stop.cancel();
                }
                _ = self.interrupt.recv() => {
                    tracing::info!(signal = "SIGINT", "stopping");
                    return stop.cancel();
                }
                _ = self.hang_up.recv() => {
                    // The log tells what comes of it. Where no more fit in, a
                    // reload that will read the file as it is now waits already.
                    let _ = reload.try_send(oneshot::channel().0);
                }
                () = stop.cancelled() => return,
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
    let mut signals = Signals::listen()?;
    Ok(tokio::select! {
        _ = signals.terminate.recv() => "SIGTERM",
        _ = signals.interrupt.recv() => "SIGINT",
        _ = signals.hang_up.recv() => "SIGHUP",
    })
}
