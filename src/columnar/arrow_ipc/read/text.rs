//! Texts of a record batch: strings and binary values.
//!
//! ```text
//! offsets:  validity, offsets (one more than there are texts), bytes of all texts
//! fixed:    validity, bytes of all texts
//! views:    validity, views of 16 bytes, any number of data buffers
//!     view of up to 12 bytes:  i32 length, bytes, padded with zeros
//!     view of more bytes:      i32 length, first 4 bytes, i32 data buffer, i32 offset
//! ```

use std::collections::BTreeMap;

use super::parts::Opener;
use super::stream::{Compression, Range, Stream};
use crate::base::memory;
use crate::columnar::bytes::{array, DecodeError, Decoded, Input};
use crate::columnar::codec::MAX_PAGE;
use crate::error::{Error, Result};

/// Purpose of a text's memory in out-of-memory errors.
const HOLD_TEXT: &str = "hold a text";

/// Maximum distance in bytes that is skipped in a data buffer of views. Farther texts are looked
/// up.
const MAX_SKIPPED: u64 = 64 << 10;

/// Maximum length in bytes of a text within its view.
const MAX_INLINE: u64 = 12;

/// Maximum end in bytes of a text in a data buffer: offsets and lengths have 31 bits.
const MAX_VIEWED: u64 = 1 << 32;

/// Size in bytes of a view.
const VIEW_BYTES: u64 = 16;

/// A text that has not been read.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// The next bytes of the data.
    Next(u64),
    Inline([u8; 12], u64),
    /// Bytes in a data buffer of views.
    Viewed {
        buffer: u64,
        offset: u64,
        len: u64,
    },
}

impl Text {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Next(len) | Self::Inline(_, len) | Self::Viewed { len, .. } => *len,
        }
    }

    /// Parses a view.
    fn view(view: [u8; 16]) -> Decoded<Self> {
        // Negative numbers become numbers past any end.
        let number = |at| -> Decoded<u64> {
            let number = i32::from_le_bytes(array(&view, at)?);
            Ok(i64::from(number).cast_unsigned())
        };
        let len = number(0)?;
        if len <= MAX_INLINE {
            return Ok(Self::Inline(array(&view, 4)?, len));
        }
        Ok(Self::Viewed {
            buffer: number(8)?,
            offset: number(12)?,
            len,
        })
    }
}

/// The texts of a column, in order.
pub(super) enum Texts {
    Offsets {
        offsets: Stream,
        width: usize,
        /// Offset of the next text.
        at: u64,
        /// Length of the data.
        end: u64,
        data: Stream,
    },
    Fixed {
        width: u64,
        data: Stream,
    },
    Views {
        views: Stream,
        data: Views,
    },
}

impl Texts {
    /// Opens `rows` texts with offsets of `width` bytes in buffer `buffer`.
    pub(super) fn offsets(
        column: &Opener<'_>,
        buffer: usize,
        rows: u64,
        width: usize,
    ) -> Result<Self> {
        let mut offsets = column.buffer(buffer)?;
        let mut data = column.buffer(buffer + 1)?;
        // Some writers leave out the only offset of no texts.
        let at = if rows == 0 {
            0
        } else {
            let bytes = rows.saturating_add(1).saturating_mul(width as u64);
            offsets.check(bytes, &format!("the offsets of {rows} texts"))?;
            offset(&mut offsets, width)?
        };
        let end = data.left();
        data.check(at, "the bytes before the first text")?;
        // A slice's first offset is not 0 if the writer kept the whole data.
        data.skip(at)?;
        Ok(Self::Offsets {
            offsets,
            width,
            at,
            end,
            data,
        })
    }

    /// Opens `rows` texts of `width` bytes each in buffer `buffer`.
    pub(super) fn fixed(column: &Opener<'_>, buffer: usize, rows: u64, width: u32) -> Result<Self> {
        let data = column.buffer(buffer)?;
        let width = u64::from(width);
        data.check(rows.saturating_mul(width), &format!("{rows} texts"))?;
        Ok(Self::Fixed { width, data })
    }

    /// Opens `rows` views in buffer `buffer`. Their data buffers follow.
    pub(super) fn views(column: &Opener<'_>, buffer: usize, rows: u64) -> Result<Self> {
        let views = column.buffer(buffer)?;
        views.check(rows.saturating_mul(VIEW_BYTES), &format!("{rows} views"))?;
        let ranges = column.ranges(buffer + 1);
        let mut copied = memory::with_capacity(ranges.len(), "hold the buffers of a column")?;
        copied.extend_from_slice(ranges);
        Ok(Self::Views {
            views,
            data: Views {
                input: column.input.clone(),
                compression: column.compression,
                read_ahead: column.read_ahead,
                place: column.place.clone(),
                ranges: copied,
                cursor: None,
                kept: BTreeMap::new(),
            },
        })
    }

    /// Takes the next text, which must be read or skipped at once.
    pub(super) fn next(&mut self) -> Result<Text> {
        match self {
            Self::Offsets {
                offsets,
                width,
                at,
                end,
                ..
            } => {
                let next = offset(offsets, *width)?;
                let len = next.checked_sub(*at).filter(|_| next <= *end);
                let len = len.ok_or_else(|| {
                    offsets.error(DecodeError::new(
                        format!("a text from byte {at} to {next}"),
                        format!("an end not before its start, and at most {end}"),
                    ))
                })?;
                *at = next;
                Ok(Text::Next(len))
            }
            Self::Fixed { width, .. } => Ok(Text::Next(*width)),
            Self::Views { views, .. } => {
                let view = views.take_array()?;
                Text::view(view).map_err(|error| views.error(error))
            }
        }
    }

    /// Checks the place of a text that is not null.
    pub(super) fn check(&self, text: Text) -> Result<()> {
        match (self, text) {
            (
                Self::Views { data, .. },
                Text::Viewed {
                    buffer,
                    offset,
                    len,
                },
            ) => data.range(buffer, offset, len).map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn skip(&mut self, text: Text) -> Result<()> {
        match (self, text) {
            (Self::Offsets { data, .. } | Self::Fixed { data, .. }, Text::Next(len)) => {
                data.skip(len)
            }
            _ => Ok(()),
        }
    }

    /// Appends the bytes of the text.
    pub(super) fn read(&mut self, text: Text, out: &mut Vec<u8>) -> Result<()> {
        match (self, text) {
            (Self::Offsets { data, .. } | Self::Fixed { data, .. }, Text::Next(len)) => {
                data.append(len, out)
            }
            (_, Text::Inline(bytes, len)) => {
                let len = usize::try_from(len).unwrap_or(bytes.len());
                memory::reserve(out, len, HOLD_TEXT)?;
                out.extend(bytes.into_iter().take(len));
                Ok(())
            }
            (
                Self::Views { data, .. },
                Text::Viewed {
                    buffer,
                    offset,
                    len,
                },
            ) => data.read(buffer, offset, len, out),
            _ => Err(Error::internal("a text of another column")),
        }
    }
}

fn offset(offsets: &mut Stream, width: usize) -> Result<u64> {
    let offset = match width {
        4 => i64::from(i32::from_le_bytes(offsets.take_array()?)),
        _ => i64::from_le_bytes(offsets.take_array()?),
    };
    u64::try_from(offset).map_err(|_| {
        offsets.error(DecodeError::new(
            format!("text offset {offset}"),
            "0 or more",
        ))
    })
}

/// The data buffers of views. Most writers store the texts in the order of the views, so one cursor
/// follows them. Other texts are looked up; for that, a compressed buffer is decompressed and kept.
pub(super) struct Views {
    input: Input,
    compression: Compression,
    read_ahead: u64,
    /// Names the column in errors.
    place: String,
    ranges: Vec<Range>,
    /// The buffer that is read in order, its number, and the offset reached.
    cursor: Option<(u64, u64, Stream)>,
    /// The content of compressed buffers, by number.
    kept: BTreeMap<u64, Vec<u8>>,
}

impl Views {
    fn error(&self, error: DecodeError) -> Error {
        self.input.error(self.place.clone(), error)
    }

    /// The data buffer of a text.
    fn range(&self, buffer: u64, offset: u64, len: u64) -> Result<Range> {
        let range = usize::try_from(buffer).ok();
        let range = range.and_then(|buffer| self.ranges.get(buffer)).copied();
        let range = range.ok_or_else(|| {
            self.error(DecodeError::new(
                format!("a text in data buffer {}", buffer.cast_signed()),
                format!("0 or more, and less than {}", self.ranges.len()),
            ))
        })?;
        // The length of a compressed buffer's content is not known before it is opened.
        let most = match self.compression {
            Compression::Stored => range.len,
            _ => MAX_VIEWED,
        };
        match offset.checked_add(len) {
            Some(end) if end.max(offset).max(len) <= most => Ok(range),
            _ => Err(self.outside(offset, len)),
        }
    }

    fn outside(&self, offset: u64, len: u64) -> Error {
        let (len, offset) = (len.cast_signed(), offset.cast_signed());
        self.error(DecodeError::new(
            format!("a text of {len} bytes at byte {offset}"),
            "one within its data buffer",
        ))
    }

    fn read(&mut self, buffer: u64, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let range = self.range(buffer, offset, len)?;
        let is_stored = self.compression == Compression::Stored;
        let known = self.cursor.as_ref().map(|(known, at, _)| (*known, *at));
        let is_kept = self.kept.contains_key(&buffer);
        let is_ahead = !is_kept && known.is_none_or(|known| (buffer, offset) >= known);
        let is_open = known.is_some_and(|(known, _)| known == buffer);
        if is_ahead && !is_open {
            let stream = self.open(buffer, range)?;
            self.cursor = Some((buffer, 0, stream));
        }
        match &mut self.cursor {
            Some((_, at, stream)) if is_ahead && (!is_stored || offset - *at <= MAX_SKIPPED) => {
                stream.skip(offset - *at)?;
                stream.append(len, out)?;
                *at = offset.saturating_add(len);
                Ok(())
            }
            _ if is_stored => {
                let start = range.offset.saturating_add(offset);
                let end = range.offset.saturating_add(range.len);
                let place = || self.place.clone();
                self.input.decode(start, len, end, place, |bytes| {
                    memory::reserve(out, bytes.len(), HOLD_TEXT)?;
                    out.extend_from_slice(bytes);
                    Ok(())
                })
            }
            _ => {
                let text = self.keep(buffer, range)?.get(slice(offset, len));
                let Some(text) = text else {
                    return Err(self.outside(offset, len));
                };
                memory::reserve(out, text.len(), HOLD_TEXT)?;
                out.extend_from_slice(text);
                Ok(())
            }
        }
    }

    fn open(&self, buffer: u64, range: Range) -> Result<Stream> {
        let place = format!("{}, data buffer {buffer}", self.place);
        Stream::new(&self.input, range, self.compression, self.read_ahead, place)
    }

    /// The content of a compressed buffer.
    fn keep(&mut self, buffer: u64, range: Range) -> Result<&[u8]> {
        if !self.kept.contains_key(&buffer) {
            let mut stream = self.open(buffer, range)?;
            let kept = self.kept.values().map(|bytes| bytes.len() as u64);
            let total = kept.fold(stream.left(), u64::saturating_add);
            if total > MAX_PAGE as u64 {
                return Err(self.error(DecodeError::unsupported(
                    format!("{total} bytes of compressed texts in another order than their views"),
                    format!("at most {MAX_PAGE}, texts in order, or no compression"),
                )));
            }
            let mut bytes = Vec::new();
            stream.append(stream.left(), &mut bytes)?;
            self.kept.insert(buffer, bytes);
        }
        Ok(self.kept.get(&buffer).map_or(&[], Vec::as_slice))
    }
}

fn slice(offset: u64, len: u64) -> std::ops::Range<usize> {
    let [start, len] = [offset, len].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    start..start.saturating_add(len)
}
