//! Decompression with memory bounded in advance.

#[cfg(feature = "codecs")]
use std::io::Read;
use std::panic::{catch_unwind, AssertUnwindSafe};

#[cfg(feature = "codecs")]
use brotli_decompressor::BrotliDecoderParameter;
use parquet_format_safe::CompressionCodec;

use super::bytes::{DecodeError, Decoded};
use crate::base::memory;
use crate::io::mmap::check_headroom;

/// Purpose of a page's memory in out-of-memory errors.
const DECOMPRESS: &str = "decompress a page";

/// Maximum size in bytes of a page of a compressed column chunk after decompression. Writers aim at
/// 1 MiB; DuckDB goes up to 100 MB.
pub(crate) const MAX_PAGE: usize = 512 << 20;

/// The compression of the pages of a column chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Stored,
    Snappy,
    Zstd,
    #[cfg(feature = "codecs")]
    Gzip,
    #[cfg(feature = "codecs")]
    Brotli,
    #[cfg(feature = "codecs")]
    Lz4Raw,
}

impl Codec {
    pub(crate) fn from_parquet(codec: CompressionCodec) -> Decoded<Self> {
        let name = match codec {
            CompressionCodec::UNCOMPRESSED => return Ok(Self::Stored),
            CompressionCodec::SNAPPY => return Ok(Self::Snappy),
            CompressionCodec::ZSTD => return Ok(Self::Zstd),
            #[cfg(feature = "codecs")]
            CompressionCodec::GZIP => return Ok(Self::Gzip),
            #[cfg(feature = "codecs")]
            CompressionCodec::BROTLI => return Ok(Self::Brotli),
            #[cfg(feature = "codecs")]
            CompressionCodec::LZ4_RAW => return Ok(Self::Lz4Raw),
            #[cfg(not(feature = "codecs"))]
            CompressionCodec::GZIP | CompressionCodec::BROTLI | CompressionCodec::LZ4_RAW => {
                return Err(needs_codecs("gzip, Brotli or LZ4 compression"));
            }
            CompressionCodec::LZO => "LZO compression".into(),
            CompressionCodec::LZ4 => "the old Hadoop LZ4 compression".into(),
            CompressionCodec(code) => format!("compression codec {code}"),
        };
        Err(DecodeError::unsupported(
            name,
            "no compression, Snappy, gzip, Brotli, zstd or LZ4_RAW",
        ))
    }

    /// Upper bound of the compression ratio, in output bytes per input byte.
    fn max_ratio(self) -> usize {
        match self {
            Self::Stored => 1,
            // A copy of 64 bytes takes 3 bytes of input.
            Self::Snappy => 22,
            // A block of 128 KiB takes at least 4 bytes.
            Self::Zstd => 32 << 10,
            // DEFLATE's limit: a match of 258 bytes takes at least 2 bits.
            #[cfg(feature = "codecs")]
            Self::Gzip => 1032,
            // A meta-block of up to 16 MiB can be a single repeated byte; see `brotli`.
            #[cfg(feature = "codecs")]
            Self::Brotli => usize::MAX,
            // Each extra byte of a match length stands for at most 255 bytes.
            #[cfg(feature = "codecs")]
            Self::Lz4Raw => 255,
        }
    }

    /// Decompresses `input`, whose content must be `len` bytes, and appends it to `out`.
    pub(crate) fn decompress(self, input: &[u8], len: usize, out: &mut Vec<u8>) -> Decoded<()> {
        let wrong = |detail: &dyn std::fmt::Display| {
            DecodeError::new(
                format!("{self:?} data that cannot be decompressed ({detail})"),
                format!("{len} bytes of content"),
            )
        };
        if self == Self::Stored {
            if input.len() != len {
                return Err(wrong(&format_args!("{} bytes", input.len())));
            }
            memory::reserve_exact(out, len, DECOMPRESS)?;
            out.extend_from_slice(input);
            return Ok(());
        }
        if len > MAX_PAGE {
            return Err(DecodeError::unsupported(
                format!("a page of {len} bytes"),
                format!("at most {MAX_PAGE}"),
            ));
        }
        if len > input.len().saturating_mul(self.max_ratio()) {
            return Err(wrong(&format_args!("only {} bytes", input.len())));
        }
        // If allocation of their tables fails, zstd panics and the others abort the process.
        check_headroom(DECOMPRESS)?;
        #[cfg(feature = "codecs")]
        if self == Self::Brotli {
            let written = no_panic(|| brotli(input, len, out, wrong))??;
            return if written == len {
                Ok(())
            } else {
                Err(wrong(&format_args!("{written} bytes")))
            };
        }
        memory::reserve_exact(out, len, DECOMPRESS)?;
        let start = out.len();
        out.resize(start.saturating_add(len), 0);
        let target = out.get_mut(start..).unwrap_or_default();
        let written = no_panic(|| match self {
            // Handled above.
            Self::Stored => Ok(0),
            Self::Snappy => snap::raw::Decoder::new()
                .decompress(input, target)
                .map_err(|e| wrong(&e)),
            Self::Zstd => zstd::bulk::Decompressor::new()
                .and_then(|mut zstd| zstd.decompress_to_buffer(input, target))
                .map_err(|e| wrong(&e)),
            #[cfg(feature = "codecs")]
            Self::Gzip => gunzip(input, target).map_err(|e| wrong(&e)),
            #[cfg(feature = "codecs")]
            Self::Brotli => Ok(0), // handled above
            #[cfg(feature = "codecs")]
            Self::Lz4Raw => lz4_flex::block::decompress_into(input, target).map_err(|e| wrong(&e)),
        })??;
        if written == len {
            Ok(())
        } else {
            Err(wrong(&format_args!("{written} bytes")))
        }
    }
}

/// The error for data that this build cannot decompress.
#[cfg(not(feature = "codecs"))]
pub(crate) fn needs_codecs(found: &'static str) -> DecodeError {
    DecodeError::unsupported(
        found,
        "no compression, Snappy or zstd: others need the feature `codecs` of hnsw-toolbox",
    )
}

#[cfg(feature = "codecs")]
fn gunzip(input: &[u8], target: &mut [u8]) -> std::io::Result<usize> {
    let mut decoder = flate2::bufread::MultiGzDecoder::new(input);
    decoder.read_exact(target)?;
    // Reading to the end verifies the checksum.
    let more = decoder.read(&mut [0])?;
    Ok(target.len().saturating_add(more))
}

/// Appends the content of `input` to `out`: at most `len + 1` bytes, so that excess is noticed. A
/// short input can have content of any size, so memory grows only with the output.
#[cfg(feature = "codecs")]
fn brotli(
    input: &[u8],
    len: usize,
    out: &mut Vec<u8>,
    wrong: impl Fn(&dyn std::fmt::Display) -> DecodeError,
) -> Decoded<usize> {
    const STEP: usize = 64 << 10;
    let mut decoder = brotli_decompressor::Decompressor::new(input, STEP);
    // Rejects large windows of up to 1 GiB; RFC 7932 allows 16 MiB.
    decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
    let mut step = vec![0; STEP];
    let mut written: usize = 0;
    while written <= len {
        let wanted = len.saturating_add(1).saturating_sub(written).min(STEP);
        let count = decoder
            .read(step.get_mut(..wanted).unwrap_or_default())
            .map_err(|error| wrong(&error))?;
        if count == 0 {
            break;
        }
        memory::reserve(out, count, DECOMPRESS)?;
        out.extend_from_slice(step.get(..count).unwrap_or_default());
        written = written.saturating_add(count);
    }
    Ok(written)
}

/// Runs another crate's decompressor on untrusted bytes. A panic is reported as an error of the
/// input.
pub(crate) fn no_panic<T>(run: impl FnOnce() -> T) -> Decoded<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        DecodeError::new(
            "data that makes the decompressor panic",
            "well-formed compressed data",
        )
    })
}

#[cfg(all(test, not(feature = "codecs")))]
mod tests {
    use super::*;

    #[test]
    fn missing_codecs_are_refused_with_the_name_of_the_feature() {
        for codec in [
            CompressionCodec::GZIP,
            CompressionCodec::BROTLI,
            CompressionCodec::LZ4_RAW,
        ] {
            let error = format!("{:?}", Codec::from_parquet(codec).unwrap_err());
            assert!(error.contains("feature `codecs`"), "{error}");
        }
        assert_eq!(
            Codec::from_parquet(CompressionCodec::SNAPPY).unwrap(),
            Codec::Snappy
        );
    }
}
