//! Decoders of levels and values.
//!
//! Decoders hold positions in a page's bytes rather than a slice, and receive the bytes with each
//! call. None of them reads outside its own range.

use super::text::Texts;
use super::thrift::{varint, zigzag};
use crate::columnar::bytes::{array, DecodeError, Decoded};
use crate::columnar::cells::FloatType;
use crate::error::Error;

/// Reads `width` bits at bit offset `bit`, least significant first; bits past the end are 0.
fn bits(bytes: &[u8], bit: usize, width: u32) -> u64 {
    let rest = bytes.get(bit / 8..).unwrap_or_default();
    let shift = bit % 8;
    match rest.first_chunk() {
        // A 64-bit load covers the value if `shift` + `width` is at most 7 + 56 bits.
        Some(word) if width <= 56 => (u64::from_le_bytes(*word) >> shift) & ((1 << width) - 1),
        _ => {
            let mut word = [0; 16];
            for (to, from) in word.iter_mut().zip(rest.iter().take(9)) {
                *to = *from;
            }
            let low = (u128::from_le_bytes(word) >> shift) & ((1 << width) - 1);
            // Masked to at most 64 bits above, so the conversion succeeds.
            u64::try_from(low).unwrap_or(u64::MAX)
        }
    }
}

/// The RLE / bit-packing hybrid for levels, dictionary indices and booleans.
#[derive(Clone, Debug)]
pub(crate) struct Hybrid {
    at: usize,
    end: usize,
    width: u32,
    /// Number of values left in the current run.
    left: u64,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Repeated(u64),
    /// Bit position of the next value.
    Packed(usize),
}

impl Hybrid {
    /// Decodes values of `width` bits in the bytes `at .. end`.
    pub(crate) fn new(at: usize, end: usize, width: u32) -> Decoded<Self> {
        if width > 32 {
            return Err(DecodeError::new(
                format!("values {width} bits wide"),
                "at most 32",
            ));
        }
        Ok(Self {
            at,
            end,
            width,
            left: 0,
            run: Run::Repeated(0),
        })
    }

    /// Decodes the dictionary indices from byte `at` to the end of a page.
    pub(crate) fn indices(page: &[u8], at: usize, has_dictionary: bool) -> Decoded<Self> {
        if !has_dictionary {
            return Err(DecodeError::new(
                "dictionary indices without a dictionary",
                "a dictionary page before them",
            ));
        }
        // A page without values can lack the byte of the bit width.
        let width = page.get(at).copied().unwrap_or(0);
        let start = at.saturating_add(1).min(page.len());
        Self::new(start, page.len(), u32::from(width))
    }

    pub(crate) fn next(&mut self, page: &[u8]) -> Decoded<u64> {
        while self.left == 0 {
            self.next_run(page)?;
        }
        self.left -= 1;
        match &mut self.run {
            Run::Repeated(value) => Ok(*value),
            Run::Packed(bit) => {
                let value = bits(page, *bit, self.width);
                *bit += self.width as usize;
                Ok(value)
            }
        }
    }

    /// Number of values, at most `most`, that equal `value` at the start of the current run's rest.
    pub(crate) fn known(&self, page: &[u8], value: u64, most: u64) -> u64 {
        let most = most.min(self.left);
        match self.run {
            Run::Repeated(repeated) if repeated == value => most,
            Run::Packed(bit) if self.width > 0 && value >> self.width == 0 => {
                // As many values as `bits` reads with one 64-bit load.
                let per_word = 56 / self.width;
                let width = per_word * self.width;
                // The lowest bit of each packed value set, so that `ones * value` repeats `value`.
                let ones = ((1 << width) - 1) / ((1u64 << self.width) - 1);
                let (mut known, mut bit) = (0, bit);
                while known < most {
                    let differences = bits(page, bit, width) ^ (ones * value);
                    let equal = (differences.trailing_zeros() / self.width).min(per_word);
                    known += u64::from(equal);
                    if equal < per_word {
                        break;
                    }
                    bit += width as usize;
                }
                known.min(most)
            }
            _ => 0,
        }
    }

    /// Skips `count` values that [`known`](Self::known) returned.
    pub(crate) fn skip_known(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count);
        if let Run::Packed(bit) = &mut self.run {
            let bits = count.saturating_mul(u64::from(self.width));
            *bit = bit.saturating_add(usize::try_from(bits).unwrap_or(usize::MAX));
        }
    }

    fn next_run(&mut self, page: &[u8]) -> Decoded<()> {
        let mut rest = page.get(self.at..self.end).ok_or_else(DecodeError::end)?;
        let header = varint(&mut rest)?;
        let at = self.end - rest.len();
        let count = header >> 1;
        // The lowest bit of a run's header: 0 for RLE, 1 for bit-packed groups of 8 values.
        if header & 1 == 0 {
            let len = self.width.div_ceil(8) as usize;
            let bytes = rest.get(..len).ok_or_else(DecodeError::end)?;
            self.run = Run::Repeated(bits(bytes, 0, self.width));
            self.left = count;
            self.at = at + len;
        } else {
            // Some writers omit the padding of the last run, so the bytes left bound the count.
            let groups = usize::try_from(count).unwrap_or(usize::MAX);
            let len = groups.saturating_mul(self.width as usize).min(rest.len());
            self.left = match self.width {
                0 => count.saturating_mul(8),
                width => (len as u64 * 8) / u64::from(width),
            };
            self.run = Run::Packed(at.saturating_mul(8));
            self.at = at + len;
        }
        Ok(())
    }
}

/// Maximum number of values in a delta block. Writers use 128 or a small multiple.
const MAX_DELTA_BLOCK: u64 = 1 << 20;

/// DELTA_BINARY_PACKED integers.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    at: usize,
    end: usize,
    /// Number of values left, including the next.
    left: u64,
    next: u64,
    per_miniblock: u64,
    miniblocks: usize,
    min_delta: u64,
    /// Position of this block's miniblock bit widths, and the number of miniblocks used.
    widths: usize,
    used: usize,
    /// Number of values left in the miniblock, bit position of the next one, and bits per value.
    in_miniblock: u64,
    bit: usize,
    width: u32,
}

impl Delta {
    pub(crate) fn new(page: &[u8], at: usize, end: usize) -> Decoded<Self> {
        let mut rest = page.get(at..end).ok_or_else(DecodeError::end)?;
        let block = varint(&mut rest)?;
        let miniblocks = varint(&mut rest)?;
        let left = varint(&mut rest)?;
        let first = zigzag(varint(&mut rest)?);
        let per_miniblock = block.checked_div(miniblocks).unwrap_or(0);
        if block > MAX_DELTA_BLOCK || per_miniblock == 0 || per_miniblock % 8 != 0 {
            return Err(DecodeError::new(
                format!("delta blocks of {block} values in {miniblocks} miniblocks"),
                "miniblocks of a multiple of 8 values",
            ));
        }
        Ok(Self {
            at: end - rest.len(),
            end,
            left,
            next: first.cast_unsigned(),
            per_miniblock,
            miniblocks: usize::try_from(miniblocks).map_err(|_| DecodeError::end())?,
            min_delta: 0,
            widths: 0,
            // Forces the first block header to be read.
            used: usize::MAX,
            in_miniblock: 0,
            bit: 0,
            width: 0,
        })
    }

    /// Position of the first byte after the encoded values. Must be called before
    /// [`next`](Self::next).
    pub(crate) fn end(&self, page: &[u8]) -> Decoded<usize> {
        let mut rest = self.clone();
        // The first value is in the header; each other one takes a delta.
        rest.left = rest.left.saturating_sub(1);
        while rest.left > 0 {
            rest.next_miniblock(page)?;
            rest.left = rest.left.saturating_sub(rest.per_miniblock);
        }
        Ok(rest.at)
    }

    pub(crate) fn next(&mut self, page: &[u8]) -> Decoded<u64> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| DecodeError::new("fewer delta-encoded values", "one for each row"))?;
        let value = self.next;
        if self.left > 0 {
            if self.in_miniblock == 0 {
                self.next_miniblock(page)?;
            }
            self.in_miniblock -= 1;
            let delta = bits(page, self.bit, self.width);
            self.bit += self.width as usize;
            self.next = value.wrapping_add(self.min_delta).wrapping_add(delta);
        }
        Ok(value)
    }

    fn next_miniblock(&mut self, page: &[u8]) -> Decoded<()> {
        let page = page.get(..self.end).ok_or_else(DecodeError::end)?;
        if self.used >= self.miniblocks {
            let mut rest = page.get(self.at..).ok_or_else(DecodeError::end)?;
            self.min_delta = zigzag(varint(&mut rest)?).cast_unsigned();
            self.widths = self.end - rest.len();
            if rest.len() < self.miniblocks {
                return Err(DecodeError::end());
            }
            self.at = self.widths + self.miniblocks;
            self.used = 0;
        }
        let [width] = array(page, self.widths + self.used)?;
        if width > 64 {
            return Err(DecodeError::new(
                format!("deltas {width} bits wide"),
                "at most 64",
            ));
        }
        let len = self.per_miniblock / 8 * u64::from(width);
        let len = usize::try_from(len).map_err(|_| DecodeError::end())?;
        // Writers are free to cut the last miniblock after its last value.
        let needed = self.left.min(self.per_miniblock) * u64::from(width);
        if needed.div_ceil(8) > (self.end - self.at) as u64 {
            return Err(DecodeError::end());
        }
        self.used += 1;
        self.in_miniblock = self.per_miniblock;
        self.width = u32::from(width);
        self.bit = self.at.saturating_mul(8);
        self.at = self.at.saturating_add(len).min(self.end);
        Ok(())
    }
}

/// The values of a page as raw bits: 32-bit integers and floats are not extended.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Little-endian values of `width` bytes each.
    Plain {
        at: usize,
        width: usize,
    },
    /// Booleans of one bit each.
    PlainBits {
        bit: usize,
    },
    Dictionary(Hybrid),
    Runs(Hybrid),
    Delta {
        values: Delta,
        width: usize,
    },
    /// All first bytes of `count` values, then all second bytes, and so on.
    ByteStreamSplit {
        at: usize,
        count: usize,
        width: usize,
    },
    /// Not numbers, but values of several bytes.
    Texts(Texts),
}

impl Values {
    /// Decodes the next value. `dictionary` belongs to the column chunk.
    pub(crate) fn next(&mut self, page: &[u8], dictionary: &[u64]) -> Decoded<u64> {
        match self {
            Self::Plain { at, width } => {
                let value = plain(page, *at, *width)?;
                *at += *width;
                Ok(value)
            }
            Self::PlainBits { bit } => {
                let [byte] = array(page, *bit / 8)?;
                let value = u64::from(byte >> (*bit % 8) & 1);
                *bit += 1;
                Ok(value)
            }
            Self::Dictionary(indices) => {
                let index = indices.next(page)?;
                usize::try_from(index)
                    .ok()
                    .and_then(|index| dictionary.get(index))
                    .copied()
                    .ok_or_else(|| {
                        DecodeError::new(
                            format!("dictionary index {index}"),
                            format!("less than {}", dictionary.len()),
                        )
                    })
            }
            Self::Runs(runs) => runs.next(page),
            Self::Delta { values, width } => {
                let value = values.next(page)?;
                // Deltas wrap at the physical type's width; the sum above wraps at 64 bits.
                Ok(if *width == 4 {
                    value & u64::from(u32::MAX)
                } else {
                    value
                })
            }
            Self::ByteStreamSplit { at, count, width } => {
                let mut bytes = [0; 8];
                for (k, byte) in bytes.iter_mut().enumerate().take(*width) {
                    [*byte] = array(page, *at + k * *count)?;
                }
                *at += 1;
                Ok(u64::from_le_bytes(bytes))
            }
            Self::Texts(_) => Err(Error::internal("text among numbers").into()),
        }
    }
}

impl Values {
    /// Appends the next `count` values as floats. Returns false if there are fewer, or if the
    /// encoding has no bulk path. On false the contents of `self` and `out` are unspecified.
    pub(crate) fn append(
        &mut self,
        page: &[u8],
        dictionary: &[u64],
        float: FloatType,
        count: usize,
        out: &mut Vec<f32>,
    ) -> bool {
        match self {
            Self::Plain { at, width } => {
                let end = at.saturating_add(count.saturating_mul(*width));
                let Some(bytes) = page.get(*at..end) else {
                    return false;
                };
                float.append(bytes, out);
                *at = end;
                true
            }
            Self::Dictionary(_) => (0..count).all(|_| match self.next(page, dictionary) {
                Ok(bits) => {
                    out.push(float.value(bits));
                    true
                }
                Err(_) => false,
            }),
            _ => false,
        }
    }
}

pub(crate) fn plain(bytes: &[u8], at: usize, width: usize) -> Decoded<u64> {
    match width {
        2 => array(bytes, at).map(|bytes| u64::from(u16::from_le_bytes(bytes))),
        4 => array(bytes, at).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
        _ => array(bytes, at).map(u64::from_le_bytes),
    }
}
