//! Pages in gzip and zstd whose first part is made once and kept, while the end
//! is another one for each client.
//!
//! With gzip both are one member, for there are clients that read no other:
//! the kept blocks end at a byte (a sync flush), blocks that know nothing of
//! them follow, and the checksum of the whole comes from those of its parts.
//! With zstd they are two frames.

use std::io::{self, Write};

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::PIECE;

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
    seam: Seam,
}

/// What the end of the page needs to know of the part before it.
#[derive(Debug)]
enum Seam {
    Gzip { checksum: Hasher, length: u64 },
    Zstd,
}

impl Compressed {
    /// Compresses what `write_piece` appends to an empty buffer each time it is
    /// called, until it appends nothing.
    pub fn new(coding: Coding, mut write_piece: impl FnMut(&mut Vec<u8>)) -> Self {
        let mut buffer = Vec::with_capacity(PIECE);
        let mut next = |take: &mut dyn FnMut(&[u8])| {
            buffer.clear();
            write_piece(&mut buffer);
            take(&buffer);
            !buffer.is_empty()
        };
        let mut pieces = Pieces::default();
        let seam = match coding {
            Coding::Gzip => {
                in_memory(pieces.write_all(&GZIP_HEADER));
                let mut encoder = DeflateEncoder::new(pieces, Compression::new(GZIP_LEVEL));
                let (mut checksum, mut length) = (Hasher::new(), 0);
                while next(&mut |piece| {
                    checksum.update(piece);
                    length += piece.len() as u64;
                    in_memory(encoder.write_all(piece));
                }) {}
                in_memory(encoder.flush());
                // Before the encoder ends its stream, which ours must not do here.
                pieces = std::mem::take(encoder.get_mut());
                Seam::Gzip { checksum, length }
            }
            Coding::Zstd => {
                let mut encoder = in_memory(zstd::Encoder::new(pieces, ZSTD_LEVEL));
                while next(&mut |piece| in_memory(encoder.write_all(piece))) {}
                pieces = in_memory(encoder.finish());
                Seam::Zstd
            }
        };
        Self {
            pieces: pieces.finish(),
            seam,
        }
    }

    /// What comes first, in pieces of [`PIECE`] at most.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// What follows the pieces where the page ends with `tail`.
    pub fn end(&self, tail: &[u8]) -> Bytes {
        let end = match &self.seam {
            Seam::Gzip { checksum, length } => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
                in_memory(encoder.write_all(tail));
                let mut end = in_memory(encoder.finish());
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
            Seam::Zstd => in_memory(zstd::bulk::compress(tail, ZSTD_LEVEL)),
        };
        end.into()
    }
}

fn in_memory<T>(result: io::Result<T>) -> T {
    result.expect("encoders into memory do not fail")
}

/// Takes bytes into pieces that can be handed out without a copy.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
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

#[cfg(test)]
mod tests;
