//! The stream between TLS and hyper where HTTP/2 is spoken. It tells
//! `connections` when a part of a frame, or of a request's head that is spread
//! over several, has come and the rest has not: hyper waits for it for ever.
//! Whole frames tell nothing, a client may send a ping.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Connection;

/// What a client sends before its first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Of a frame (section 4.1): length, type, flags, stream.
const HEADER: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// See the module.
pub(super) struct Frames<S> {
    stream: S,
    connection: Arc<Connection>,
    place: Place,
}

impl<S> Frames<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            place: Place::default(),
        }
    }
}

/// How far the client has come.
struct Place {
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    header: [u8; HEADER],
    /// Of the header.
    have: usize,
    /// A request's head is not complete.
    in_head: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            in_head: false,
        }
    }
}

impl Place {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (HEADER - self.have).min(bytes.len());
            if self.skip > 0 || wanted == 0 {
                continue;
            }
            self.header[self.have..][..wanted].copy_from_slice(&bytes[..wanted]);
            self.have += wanted;
            bytes = &bytes[wanted..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                if [HEADERS, CONTINUATION].contains(&kind) {
                    self.in_head = flags & END_HEADERS == 0;
                }
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.have == 0 && !self.in_head
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let progress = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.place.take(bytes);
            if self.place.is_between_frames() {
                self.connection.rests();
            } else {
                self.connection.received();
            }
        }
        progress
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    /// Whether there is a frame's end after each byte.
    fn ends(bytes: &[u8]) -> Vec<usize> {
        let mut place = Place::default();
        let mut ends = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            place.take(&[*byte]);
            if place.is_between_frames() {
                ends.push(index + 1);
            }
        }
        let mut whole = Place::default();
        whole.take(bytes);
        assert_eq!(whole.is_between_frames(), place.is_between_frames());
        ends
    }

    #[test]
    fn a_head_ends_with_its_last_frame() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS, then a PING.
        bytes.extend(frame(4, 0, b""));
        bytes.extend(frame(6, 0, b"12345678"));
        assert_eq!(ends(&bytes), [24, 33, 50]);
        // A head in three pieces, and one in a single piece.
        bytes.extend(frame(HEADERS, 1, b"abc"));
        bytes.extend(frame(CONTINUATION, 0, b""));
        bytes.extend(frame(CONTINUATION, END_HEADERS, b"d"));
        bytes.extend(frame(HEADERS, END_HEADERS | 1, b"e"));
        assert_eq!(
            ends(&bytes),
            [24, 33, 50, 50 + 12 + 9 + 10, 50 + 12 + 9 + 20]
        );
    }
}
