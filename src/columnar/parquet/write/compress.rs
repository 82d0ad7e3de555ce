//! Compression of a page whose parts are not contiguous, with memory independent of the page's
//! size.

use std::io::Write;

use crate::base::memory::reserve;
use crate::columnar::Compression;
use crate::error::{Error, Result};

/// Bytes per block of the Snappy encoder. Blocks do not refer to each other, so separately encoded
/// ones can be concatenated under one length.
const SNAPPY_BLOCK: usize = 64 << 10;

/// zstd's default level, which parquet2 also uses.
const ZSTD_LEVEL: i32 = 0;

/// Appends the compressed `parts` to `out`. `length` is their total length in bytes.
pub(super) fn compress_parts(
    compression: Compression,
    parts: &[&[u8]],
    length: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    match compression {
        Compression::None => {
            for part in parts {
                append(out, part)?;
            }
            Ok(())
        }
        Compression::Snappy => snappy(parts, length, out),
        Compression::Zstd => {
            let mut encoder =
                zstd::Encoder::new(Growing(out), ZSTD_LEVEL).map_err(Error::internal)?;
            let length = u64::try_from(length).ok();
            // With the size in the frame, readers can allocate their output at once.
            encoder
                .set_pledged_src_size(length)
                .and_then(|()| encoder.include_contentsize(true))
                .map_err(Error::internal)?;
            for part in parts {
                encoder.write_all(part).map_err(Error::internal)?;
            }
            encoder.finish().map_err(Error::internal)?;
            Ok(())
        }
    }
}

fn snappy(parts: &[&[u8]], length: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    let mut encoded = vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK)];
    let mut compress = |block: &[u8], out: &mut Vec<u8>| {
        let count = encoder
            .compress(block, &mut encoded)
            .map_err(Error::internal)?;
        let encoded = encoded.get(..count).unwrap_or_default();
        append(out, without_varint(encoded))
    };
    // A Snappy stream starts with the uncompressed length as a varint.
    let mut left = length;
    let mut varint = Vec::new();
    while left >= 0x80 {
        varint.push(low_byte(left) | 0x80);
        left >>= 7;
    }
    varint.push(low_byte(left));
    append(out, &varint)?;

    let mut block = Vec::with_capacity(SNAPPY_BLOCK);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let room = SNAPPY_BLOCK.saturating_sub(block.len());
            let (taken, after) = rest.split_at(rest.len().min(room));
            block.extend_from_slice(taken);
            rest = after;
            if block.len() == SNAPPY_BLOCK {
                compress(&block, out)?;
                block.clear();
            }
        }
    }
    match block.is_empty() {
        true => Ok(()),
        false => compress(&block, out),
    }
}

/// Removes the length that precedes an encoded block.
fn without_varint(encoded: &[u8]) -> &[u8] {
    let end = encoded.iter().position(|byte| byte & 0x80 == 0);
    end.and_then(|end| encoded.get(end.saturating_add(1)..))
        .unwrap_or_default()
}

fn low_byte(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low & 0x7F
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    reserve(out, bytes.len(), "compress a page")?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Grows through fallible allocations.
struct Growing<'o>(&'o mut Vec<u8>);

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columnar::codec::Codec;

    #[test]
    fn parts_decompress_to_what_they_were() {
        let text: Vec<u8> = (0..300_000_u32).map(|at| (at / 7 % 251) as u8).collect();
        for end in [0, 1, 127, 128, SNAPPY_BLOCK, SNAPPY_BLOCK + 1, text.len()] {
            let (first, second) = text[..end].split_at(end / 3);
            for (compression, codec) in [
                (Compression::None, Codec::Stored),
                (Compression::Snappy, Codec::Snappy),
                (Compression::Zstd, Codec::Zstd),
            ] {
                let mut packed = b"before".to_vec();
                compress_parts(compression, &[first, second], end, &mut packed).unwrap();
                let mut unpacked = Vec::new();
                codec.decompress(&packed[6..], end, &mut unpacked).unwrap();
                assert_eq!(unpacked, text[..end], "{compression:?}, {end}");
            }
        }
    }
}
