//! The stream below hyper. It tells `connections` what comes and what is
//! written, and its writes fail once the other side takes nothing for a while:
//! hyper does not bound how slowly an answer is read. What ends in the middle of
//! an answer is reset: a client of HTTP/1.0 would take it for the whole, and the
//! system would keep what nobody reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::connections::Connection;

/// See the module.
pub(super) struct Watched<S: Reset> {
    stream: S,
    connection: Arc<Connection>,
    /// A write may wait for so long.
    limit: Duration,
    /// Runs while a write waits.
    since: Option<Pin<Box<Sleep>>>,
    /// hyper has ended it in order.
    is_shut: bool,
}

/// A stream whose end can tell the other side that something is missing.
pub(super) trait Reset {
    /// What was written and not yet taken is thrown away at the end.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        if let Err(error) = self.set_zero_linger() {
            debug!(%error, "cannot reset a connection");
        }
    }
}

impl<S: Reset> Drop for Watched<S> {
    fn drop(&mut self) {
        if !self.is_shut && self.connection.is_in_flight() {
            self.stream.reset();
        }
    }
}

impl<S: Reset> Watched<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>, limit: Duration) -> Self {
        Self {
            stream,
            connection,
            limit,
            since: None,
            is_shut: false,
        }
    }

    /// Passes progress on and turns waiting beyond the limit into an error.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        progress: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if progress.is_ready() {
            self.since = None;
            return progress;
        }
        let limit = self.limit;
        let timer = self.since.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        self.since = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Reset + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let progress = Pin::new(&mut self.stream).poll_read(context, buffer);
        // Under HTTP/2 `frames` knows better.
        if buffer.filled().len() > before && !self.connection.is_http2() {
            self.connection.received();
        }
        progress
    }
}

impl<S: AsyncWrite + Reset + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watch(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all that it has.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::super::LIMITS;
    use super::super::connections::Connections;
    use super::*;

    impl Reset for DuplexStream {
        fn reset(&self) {}
    }

    async fn watched(stream: DuplexStream) -> Watched<DuplexStream> {
        let connection = Connections::new(LIMITS).enter().await;
        Watched::new(stream, connection, Duration::from_secs(30))
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_ends_the_write() {
        let (ours, mut theirs) = duplex(4);
        let mut stream = watched(ours).await;
        stream.write_all(b"full").await.unwrap();

        let began = Instant::now();
        let error = stream.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), Duration::from_secs(30));

        theirs.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"more").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_everything() {
        let (ours, mut theirs) = duplex(1);
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut byte = [0];
            while theirs.read_exact(&mut byte).await.is_ok() {
                got.push(byte[0]);
                sleep(Duration::from_secs(29)).await;
            }
            got
        });
        let mut stream = watched(ours).await;
        stream.write_all(b"slowly").await.unwrap();
        drop(stream);
        assert_eq!(reader.await.unwrap(), b"slowly");
    }
}
