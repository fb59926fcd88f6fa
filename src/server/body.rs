//! The body of an answer: in memory, or a page that is written as the client
//! takes it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use exporter_web::compress::{Compressed, PIECE};
use hyper::body::{Body, Frame, SizeHint};

use crate::exposition::text::Writer;

/// A body, handed over piece by piece, so that it is in flight until the client
/// has taken nearly all of it.
pub(super) struct Page(Rest);

enum Rest {
    Ready(Bytes),
    /// The pieces from `next` on, then `end`.
    Kept {
        page: Arc<Compressed>,
        next: usize,
        end: Bytes,
    },
    /// `first`, what `writer` still writes, then `tail`.
    Written {
        first: Bytes,
        writer: Box<Writer>,
        tail: Bytes,
    },
}

impl Page {
    /// All of it in memory.
    pub(super) fn new(rest: Bytes) -> Self {
        Self(Rest::Ready(rest))
    }

    /// A compressed page that ends with `tail`.
    pub(super) fn kept(page: Arc<Compressed>, tail: &[u8]) -> Self {
        let end = page.end(tail);
        Self(Rest::Kept { page, next: 0, end })
    }

    /// A plain page that ends with `tail`; its length is known where the first
    /// piece is all there is before that.
    pub(super) fn written(mut writer: Writer, tail: Vec<u8>) -> Self {
        let mut first = writer.next().unwrap_or_default();
        if writer.is_done() {
            first.extend_from_slice(&tail);
            return Self::new(first.into());
        }
        Self(Rest::Written {
            first: first.into(),
            writer: Box::new(writer),
            tail: tail.into(),
        })
    }

    /// Takes the content away, as HEAD wants it.
    pub(super) fn clear(&mut self) {
        self.0 = Rest::Ready(Bytes::new());
    }
}

impl From<&'static str> for Page {
    fn from(text: &'static str) -> Self {
        Self::new(text.into())
    }
}

impl Rest {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Ready(rest) => {
                let length = rest.len().min(PIECE);
                (length > 0).then(|| rest.split_to(length))
            }
            Self::Kept { page, next, end } => {
                if let Some(piece) = page.pieces().get(*next) {
                    *next += 1;
                    return Some(piece.clone());
                }
                *self = Self::Ready(std::mem::take(end));
                self.next()
            }
            Self::Written {
                first,
                writer,
                tail,
            } => {
                if !first.is_empty() {
                    return Some(std::mem::take(first));
                }
                if let Some(piece) = writer.next() {
                    return Some(piece.into());
                }
                *self = Self::Ready(std::mem::take(tail));
                self.next()
            }
        }
    }

    /// Bytes, where they can be told.
    fn length(&self) -> Option<usize> {
        match self {
            Self::Ready(rest) => Some(rest.len()),
            Self::Kept { page, next, end } => {
                let pieces = page.pieces()[*next..].iter();
                Some(pieces.map(Bytes::len).sum::<usize>() + end.len())
            }
            Self::Written { .. } => None,
        }
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.0.length();
        length.map_or_else(SizeHint::new, |length| SizeHint::with_exact(length as u64))
    }
}
