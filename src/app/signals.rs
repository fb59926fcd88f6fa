//! Signals: SIGTERM and SIGINT stop the daemon, SIGHUP must not kill it. Commands
//! that end by themselves end with any of them, in an orderly way.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Handles signals from now on; the answer ends when `stop` is cancelled, by a
/// signal or by somebody else.
pub(super) fn stop_on_signal(stop: CancellationToken) -> io::Result<impl Future<Output = ()>> {
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
                _ = hang_up.recv() => tracing::warn!(
                    signal = "SIGHUP",
                    "this version does not reload its configuration; restart it instead"
                ),
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
