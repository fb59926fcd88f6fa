//! What the service manager is told and gives: readiness, the watchdog, sockets.
//! Without one, nothing happens.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use alibaba_cloud::credentials::environment;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::poll::AliveRequest;

/// The daemon answers.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A new configuration is about to be in force; [`ready`] ends that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Tells that the daemon answers, later that it is about to end, and feeds the
/// watchdog in between.
pub(super) async fn accompany(scheduler: mpsc::Sender<AliveRequest>, stop: CancellationToken) {
    ready();
    watchdog(scheduler, stop).await;
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    // The library knows paths alone.
    let socket = environment::process("NOTIFY_SOCKET");
    let told = match socket.as_deref().and_then(|name| name.strip_prefix('@')) {
        Some(name) => notify_abstract(name, state),
        None => sd_notify::notify(state),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn notify_abstract(name: &str, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(name)?;
    let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
    let message = lines.join("\n") + "\n";
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

/// The sockets that the service manager has opened, instead of our own.
pub(super) fn listeners() -> io::Result<Vec<TcpListener>> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..given.len() {
        if let Some(listener) = given.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
    }
    Ok(listeners)
}

/// Feeds the watchdog, where there is one, as long as the scheduler answers
/// between two rounds. A timer alone would feed it whatever hangs.
async fn watchdog(scheduler: mpsc::Sender<AliveRequest>, stop: CancellationToken) {
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    let Some(limit) = limit else {
        return stop.cancelled().await;
    };
    feed(limit, scheduler, stop, || notify(&[NotifyState::Watchdog])).await;
}

async fn feed(
    limit: Duration,
    scheduler: mpsc::Sender<AliveRequest>,
    stop: CancellationToken,
    food: impl Fn(),
) {
    let feeding = async {
        loop {
            let (request, alive) = oneshot::channel();
            scheduler.send(request).await.ok()?;
            alive.await.ok()?;
            food();
            tokio::time::sleep(limit / 3).await;
        }
    };
    let ended: Option<Option<()>> = stop.run_until_cancelled(feeding).await;
    if ended.is_some() {
        // The scheduler has ended, and the process ends with it.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_the_scheduler_goes_round() {
        let (requests, mut scheduler) = mpsc::channel::<AliveRequest>(1);
        let stop = CancellationToken::new();
        let fed = Cell::new(0);
        let second = Duration::from_secs(1);
        let feeding = feed(3 * second, requests, stop.clone(), || {
            fed.set(fed.get() + 1);
        });
        let going_round = async {
            for _ in 0..10 {
                let request = scheduler.recv().await.unwrap();
                let _ = request.send(());
            }
            assert_eq!(fed.get(), 9, "a request goes before each");
            // It hangs: nothing more, for however long.
            let _hanging = scheduler.recv().await.unwrap();
            tokio::time::sleep(100 * second).await;
            assert_eq!(fed.get(), 10);
            stop.cancel();
        };
        tokio::join!(feeding, going_round);
    }
}
