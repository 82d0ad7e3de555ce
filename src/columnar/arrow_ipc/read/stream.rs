//! The buffers of a record batch, each read sequentially.
//!
//! A record batch can be as long as the file, so no buffer is held in full. Compressed buffers are
//! decompressed while they are read.

use std::io::{BufReader, Read};

use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Input};
use crate::columnar::codec::no_panic;
use crate::error::{Error, Result};
use crate::io::mmap::check_headroom;

/// Bytes read ahead in each buffer, if few are open.
pub(super) const READ_AHEAD: u64 = 256 << 10;

/// Log2 of the maximum zstd window per buffer: 8 MiB, the size every decoder should support
/// according to RFC 8878. By default, a file could request 128 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Compression of a record batch's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Stored,
    #[cfg(feature = "codecs")]
    Lz4Frame,
    Zstd,
}

/// A buffer's range in the file, checked against its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Returns true if zstd failed to allocate its window. Its errors can be told apart by name only.
fn is_out_of_memory(error: &std::io::Error) -> bool {
    /// `ZSTD_error_memory_allocation` of zstd_errors.h; a function returns it negated.
    const MEMORY_ALLOCATION: usize = 64;
    let name = zstd::zstd_safe::get_error_name(MEMORY_ALLOCATION.wrapping_neg());
    error.to_string() == name
}

pub(crate) struct Stream {
    input: Input,
    /// Names the buffer in errors.
    place: String,
    reader: Box<dyn Read + Send>,
    /// Number of content bytes not yet taken.
    left: u64,
}

impl Stream {
    pub(crate) fn new(
        input: &Input,
        range: Range,
        compression: Compression,
        read_ahead: u64,
        place: String,
    ) -> Result<Self> {
        let Range { offset, len } = range;
        let (mut compression, mut offset, mut stored, mut left) = (compression, offset, len, len);
        if compression != Compression::Stored && len > 0 {
            // A compressed buffer starts with the i64 length of its content. -1 means stored.
            let end = offset.saturating_add(len);
            let prefix = input.decode(
                offset,
                8,
                end,
                || place.clone(),
                |bytes| crate::columnar::bytes::array(bytes, 0).map(i64::from_le_bytes),
            )?;
            offset = offset.saturating_add(8);
            stored = stored.saturating_sub(8);
            left = match prefix {
                -1 => {
                    compression = Compression::Stored;
                    stored
                }
                _ => u64::try_from(prefix).map_err(|_| {
                    let found = format!("a length of {prefix} bytes");
                    input.invalid(place.clone(), found, "-1, 0 or more")
                })?,
            };
        }
        // The decoders allocate their tables in ways that abort on failure.
        check_headroom("decompress a part of it")
            .map_err(|error| error.in_file(input.source().path()))?;
        let capacity = usize::try_from(stored.min(read_ahead)).unwrap_or(0);
        let raw = BufReader::with_capacity(capacity, input.reader(offset, stored));
        let reader: Box<dyn Read + Send> = match compression {
            Compression::Stored => Box::new(raw),
            #[cfg(feature = "codecs")]
            Compression::Lz4Frame => Box::new(lz4_flex::frame::FrameDecoder::new(raw)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)
                    .map_err(Error::io(input.source().path(), "decompress a part of it"))?;
                decoder
                    .window_log_max(MAX_WINDOW_LOG)
                    .map_err(|error| Error::internal(format!("zstd: {error}")))?;
                Box::new(decoder)
            }
        };
        Ok(Self {
            input: input.clone(),
            place,
            reader,
            left,
        })
    }

    /// Fails if fewer than `len` bytes are left.
    pub(crate) fn check(&self, len: u64, expected: &str) -> Result<()> {
        if self.left >= len {
            return Ok(());
        }
        Err(self.error(DecodeError::new(
            format!("{} bytes", self.left),
            format!("{len} for {expected}"),
        )))
    }

    pub(crate) fn error(&self, error: DecodeError) -> Error {
        self.input.error(self.place.clone(), error)
    }

    /// Fills `out` with the next bytes.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(out.len() as u64)
            .ok_or_else(|| self.error(DecodeError::end()))?;
        let reader = &mut self.reader;
        let read = no_panic(|| reader.read_exact(out)).map_err(|error| self.error(error))?;
        // The `Input` wraps its own errors in `io::Error`; unwrap those unchanged.
        read.map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) if is_out_of_memory(&error) => {
                Error::out_of_memory("decompress a part of it", None)
                    .in_file(self.input.source().path())
            }
            Err(error) => self.error(DecodeError::new(
                format!("compressed data that cannot be read ({error})"),
                "the content of the buffer",
            )),
        })
    }

    /// Appends the next `len` bytes to `out`. The buffer can be shorter than it claims to be, so
    /// memory grows only with the bytes read.
    pub(crate) fn append(&mut self, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let step = left.min(READ_AHEAD.max(out.len() as u64));
            left -= step;
            let step = usize::try_from(step).map_err(|_| self.error(DecodeError::end()))?;
            memory::reserve(out, step, "hold a text")?;
            let start = out.len();
            out.resize(start.saturating_add(step), 0);
            self.take(out.get_mut(start..).unwrap_or_default())?;
        }
        Ok(())
    }

    pub(crate) fn skip(&mut self, len: u64) -> Result<()> {
        let mut chunk = [0; 4096];
        let mut left = len;
        while left > 0 {
            let step = left.min(chunk.len() as u64);
            left -= step;
            let step = usize::try_from(step).unwrap_or(chunk.len());
            self.take(chunk.get_mut(..step).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Number of bytes left, if the buffer is as long as it claims to be.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        Ok(bytes)
    }
}

/// A validity bitmap; without a stream, all bits are ones.
pub(crate) struct Bits {
    stream: Option<Stream>,
    byte: u8,
    left: u32,
}

impl Bits {
    pub(crate) fn new(stream: Option<Stream>) -> Self {
        Self {
            stream,
            byte: 0,
            left: 0,
        }
    }

    /// Returns true if there is no bitmap.
    pub(crate) fn are_all_ones(&self) -> bool {
        self.stream.is_none()
    }

    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(true);
        };
        if self.left == 0 {
            [self.byte] = stream.take_array()?;
            self.left = 8;
        }
        // Arrow numbers bits from the least significant one.
        let bit = self.byte & 1 != 0;
        self.byte >>= 1;
        self.left -= 1;
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::io::file::{InputFile, IoMode};

    #[test]
    fn zstd_without_memory_is_known_by_its_name() {
        let error = std::io::Error::other("Allocation error : not enough memory");
        assert!(is_out_of_memory(&error), "{error}");
        let error = std::io::Error::other("Unknown frame descriptor");
        assert!(!is_out_of_memory(&error));
    }

    #[test]
    fn a_zstd_window_of_more_than_8_mib_is_refused() {
        const LEN: u32 = 12 << 20;
        for (window_log, is_read) in [(23, true), (24, false)] {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder
                .write_all(&vec![0; usize::try_from(LEN).unwrap()])
                .unwrap();
            let mut bytes = u64::from(LEN).to_le_bytes().to_vec();
            bytes.extend(encoder.finish().unwrap());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, &bytes).unwrap();

            let input = Input::new(InputFile::open(file.path(), IoMode::Mmap).unwrap());
            let range = Range {
                offset: 0,
                len: bytes.len() as u64,
            };
            let mut stream = Stream::new(
                &input,
                range,
                Compression::Zstd,
                READ_AHEAD,
                "buffer".into(),
            )
            .unwrap();
            match stream.take(&mut [1; 100]) {
                Ok(()) => assert!(is_read, "{window_log}"),
                Err(error) => {
                    assert!(!is_read, "{window_log}: {error}");
                    assert_eq!(error.code(), 202);
                }
            }
        }
    }
}
