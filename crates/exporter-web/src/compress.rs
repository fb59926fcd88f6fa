//! Pages in gzip and zstd whose first part is made once and kept, while the end
//! is another one for each client.
//!
//! With gzip both are one member, for there are clients that read no other:
//! the kept blocks end at a byte (a flush), blocks that know nothing of
//! them follow, and the checksum of the whole comes from those of its parts.
//! In the same way the kept part consists of segments that know nothing of one
//! another: what has not changed is copied from the page before.
//! With zstd they are two frames.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use foldhash::quality::RandomState;

/// How much of a page is in one piece.
pub const PIECE: usize = 64 * 1024;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The word of `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A page changes faster than a better compression would pay for itself.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// Deflate, no flags, no time, fastest compression, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// The first part of a page, compressed.
#[derive(Debug)]
pub struct Compressed {
    pieces: Box<[Bytes]>,
    trailer: Trailer,
}

/// What the end of the page needs to know of the part before it, and with gzip
/// what the next page needs to know of its segments.
#[derive(Debug)]
enum Trailer {
    Gzip {
        checksum: Hasher,
        length: u64,
        segments: Box<[Segment]>,
        /// How many of them were copied from the page before.
        reused: usize,
        /// What they are hashed with.
        state: RandomState,
    },
    Zstd,
}

/// A segment of the page that was compressed by itself.
#[derive(Clone, Debug)]
struct Segment {
    /// Of its plain text, as are checksum and length: two texts that agree in all
    /// three are taken for the same.
    hash: u64,
    checksum: u32,
    length: usize,
    /// Where it is among the compressed bytes.
    place: Range<usize>,
}

impl Compressed {
    /// Compresses what `write_piece` appends to an empty buffer each time it is
    /// called, until it appends nothing.
    pub fn new(coding: Coding, write_piece: impl FnMut(&mut Vec<u8>)) -> Self {
        Self::after(None, coding, write_piece)
    }

    /// The same, and copies from the page `before` what it has already.
    pub fn after(
        before: Option<&Self>,
        coding: Coding,
        mut write_piece: impl FnMut(&mut Vec<u8>),
    ) -> Self {
        let mut buffer = Vec::with_capacity(PIECE);
        let mut next = |take: &mut dyn FnMut(&[u8])| {
            buffer.clear();
            write_piece(&mut buffer);
            take(&buffer);
            !buffer.is_empty()
        };
        let mut pieces = Pieces::default();
        let trailer = match coding {
            Coding::Gzip => {
                in_memory(pieces.write_all(&GZIP_HEADER));
                let mut gzip = Gzip::after(before);
                while next(&mut |piece| gzip.take(piece, &mut pieces)) {}
                gzip.trailer()
            }
            Coding::Zstd => {
                let mut encoder = in_memory(zstd::Encoder::new(pieces, ZSTD_LEVEL));
                while next(&mut |piece| in_memory(encoder.write_all(piece))) {}
                pieces = in_memory(encoder.finish());
                Trailer::Zstd
            }
        };
        Self {
            pieces: pieces.finish(),
            trailer,
        }
    }

    /// Number of segments that were compressed on their own; 0 with zstd.
    pub fn segments(&self) -> usize {
        match &self.trailer {
            Trailer::Gzip { segments, .. } => segments.len(),
            Trailer::Zstd => 0,
        }
    }

    /// How many of the [`segments`](Self::segments) were copied from the page before.
    pub fn reused(&self) -> usize {
        match &self.trailer {
            Trailer::Gzip { reused, .. } => *reused,
            Trailer::Zstd => 0,
        }
    }

    /// What comes first, in pieces of [`PIECE`] at most.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// What follows the pieces where the page ends with `tail`.
    pub fn end(&self, tail: &[u8]) -> Bytes {
        let end = match &self.trailer {
            Trailer::Gzip {
                checksum, length, ..
            } => {
                let mut end = Vec::new();
                ENDS.with_borrow_mut(|encoder| encoder.segment(tail, &mut end));
                end.extend_from_slice(&LAST_BLOCK);
                let mut of_tail = Hasher::new();
                of_tail.update(tail);
                let mut checksum = checksum.clone();
                checksum.combine(&of_tail);
                end.extend_from_slice(&checksum.finalize().to_le_bytes());
                // As the format has it: the length modulo 2^32.
                let length = length + tail.len() as u64;
                end.extend_from_slice(&length.to_le_bytes()[..4]);
                end
            }
            Trailer::Zstd => in_memory(zstd::bulk::compress(tail, ZSTD_LEVEL)),
        };
        end.into()
    }
}

/// Deflates segments that know nothing of one another. A new encoder for each
/// would cost more than a small segment does: it clears 300 KB.
struct Deflate(Compress);

impl Deflate {
    fn new() -> Self {
        Self(Compress::new(Compression::new(GZIP_LEVEL), false))
    }

    /// Appends blocks that end at a byte and refer to nothing before them, none of
    /// them the last.
    fn segment(&mut self, plain: &[u8], to: &mut Vec<u8>) {
        let start = self.0.total_in();
        loop {
            // What is full may not be all, also behind the last byte of the text.
            to.reserve(plain.len() / 4 + 1024);
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            let status = self.0.compress_vec(&plain[done..], to, FlushCompress::Full);
            let is_ok = matches!(status, Ok(Status::Ok | Status::BufError));
            assert!(is_ok, "encoders into memory do not fail");
            if to.len() < to.capacity() {
                return;
            }
        }
    }
}

thread_local! {
    /// For the ends of pages.
    static ENDS: RefCell<Deflate> = RefCell::new(Deflate::new());
}

/// An empty block that says it is the last.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses segment by segment.
struct Gzip<'a> {
    before: &'a [Bytes],
    known: HashMap<u64, &'a Segment>,
    state: RandomState,
    encoder: Deflate,
    coded: Vec<u8>,
    checksum: Hasher,
    length: u64,
    segments: Vec<Segment>,
    reused: usize,
}

impl<'a> Gzip<'a> {
    fn after(before: Option<&'a Compressed>) -> Self {
        let (before, known, state) = match before {
            Some(Compressed {
                pieces,
                trailer: Trailer::Gzip {
                    segments, state, ..
                },
            }) => {
                let known = segments.iter().map(|known| (known.hash, known));
                (&**pieces, known.collect(), state.clone())
            }
            _ => (&[][..], HashMap::new(), RandomState::default()),
        };
        Self {
            before,
            known,
            state,
            encoder: Deflate::new(),
            coded: Vec::new(),
            checksum: Hasher::new(),
            length: 0,
            segments: Vec::new(),
            reused: 0,
        }
    }

    fn take(&mut self, plain: &[u8], pieces: &mut Pieces) {
        if plain.is_empty() {
            return;
        }
        let hash = self.state.hash_one(plain);
        let checksum = crc32fast::hash(plain);
        let known = self
            .known
            .get(&hash)
            .filter(|known| (known.checksum, known.length) == (checksum, plain.len()));
        let start = pieces.length();
        if let Some(known) = known {
            copy(self.before, known.place.clone(), pieces);
            self.reused += 1;
        } else {
            self.coded.clear();
            self.encoder.segment(plain, &mut self.coded);
            in_memory(pieces.write_all(&self.coded));
        }
        let length = plain.len() as u64;
        let part = Hasher::new_with_initial_len(checksum, length);
        self.checksum.combine(&part);
        self.length += length;
        self.segments.push(Segment {
            hash,
            checksum,
            length: plain.len(),
            place: start..pieces.length(),
        });
    }

    fn trailer(self) -> Trailer {
        Trailer::Gzip {
            checksum: self.checksum,
            length: self.length,
            segments: self.segments.into(),
            reused: self.reused,
            state: self.state,
        }
    }
}

/// Copies a range of the bytes of `from`, which are in pieces of [`PIECE`] but
/// for the last.
fn copy(from: &[Bytes], range: Range<usize>, to: &mut Pieces) {
    let mut at = range.start;
    while at < range.end {
        let (piece, offset) = (at / PIECE, at % PIECE);
        let end = (offset + range.end - at).min(PIECE);
        in_memory(to.write_all(&from[piece][offset..end]));
        at += end - offset;
    }
}

/// Takes bytes into pieces that can be handed out without a copy.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
    fn length(&self) -> usize {
        self.full.len() * PIECE + self.last.len()
    }

    fn finish(mut self) -> Box<[Bytes]> {
        if !self.last.is_empty() {
            self.last.shrink_to_fit();
            self.full.push(self.last.into());
        }
        self.full.into()
    }
}

impl Write for Pieces {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len();
        while !bytes.is_empty() {
            if self.last.capacity() == 0 {
                self.last.reserve_exact(PIECE);
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(PIECE - self.last.len()));
            self.last.extend_from_slice(taken);
            if self.last.len() == PIECE {
                self.full.push(std::mem::take(&mut self.last).into());
            }
            bytes = rest;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn in_memory<T>(result: io::Result<T>) -> T {
    result.expect("writers into memory do not fail")
}

#[cfg(test)]
mod tests;
