//! Signals: SIGTERM and SIGINT stop the daemon, SIGHUP reloads its configuration.
//! Commands that end by themselves end with any of them, in an orderly way.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::server::ReloadRequest;

/// Handles signals from now on; the answer ends when `stop` is cancelled, by a
/// signal or by somebody else.
pub(super) fn handle(
    reload: mpsc::Sender<ReloadRequest>,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!(signal = "SIGTERM", "stopping");
                    return stop.cancel();
                }
                _ = interrupt.recv() => {
                    tracing::info!(signal = "SIGINT", "stopping");
                    return stop.cancel();
                }
                _ = hang_up.recv() => {
                    // The log tells what comes of it. Where no more fit in, a
                    // reload that will read the file as it is now waits already.
                    let _ = reload.try_send(oneshot::channel().0);
                }
                () = stop.cancelled() => return,
            }
        }
    })
}

/// The name of the first signal that is to end a command which ends by itself.
///
/// # Errors
///
/// The system gives no signals.
pub async fn first() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
    })
}
