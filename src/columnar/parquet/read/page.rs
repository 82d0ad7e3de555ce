//! The pages of one column, read in order with one page in memory at a time.

use parquet_format_safe::thrift::protocol::TCompactInputProtocol;
use parquet_format_safe::{Encoding, PageHeader, PageType};

use super::encoding::{plain, Delta, Hybrid, Values};
use super::metadata::{unsigned, Chunk, Physical};
use super::text::{TextDictionary, Texts};
use crate::base::memory;
use crate::columnar::bytes::{array, DecodeError, Decoded, Input};
use crate::columnar::cells::{FloatType, VectorRow, CHUNK_ELEMENTS};
use crate::columnar::codec::Codec;
use crate::columnar::selection::Name;
use crate::error::{Error, Result};

/// Maximum size of a page header in bytes. Headers of numeric columns stay far below.
const MAX_HEADER: usize = 64 << 10;

/// Maximum size of the header of a page of text. Some writers put the smallest and the largest text
/// into it.
const MAX_TEXT_HEADER: usize = 32 << 20;

/// Properties of a leaf column from the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) physical: Physical,
    pub(crate) form: Form,
    /// True if the leaf is inside a list, with repetition levels of 0 and 1.
    pub(crate) repeated: bool,
    pub(crate) max_definition: u64,
}

/// Maximum capacity in bytes of a page buffer that is kept for the next page of text. A single large
/// text can have a page of its own.
const MAX_KEPT_TEXT_PAGE: usize = 4 << 20;

/// The size of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One bit: booleans.
    Bit,
    /// A number of 2, 4 or 8 bytes.
    Number(usize),
    /// Any number of bytes.
    Text,
    /// This number of bytes, which is not 0.
    FixedText(usize),
}

impl Form {
    fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::FixedText(_))
    }

    /// Size in bytes of a text, if it is fixed.
    fn text_width(self) -> Option<usize> {
        match self {
            Self::FixedText(width) => Some(width),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Dictionary {
    Numbers(Vec<u64>),
    Texts(TextDictionary),
}

impl Dictionary {
    fn numbers(this: Option<&Self>) -> &[u64] {
        match this {
            Some(Self::Numbers(values)) => values,
            _ => &[],
        }
    }

    fn texts(this: Option<&Self>) -> Option<&TextDictionary> {
        match this {
            Some(Self::Texts(texts)) => Some(texts),
            _ => None,
        }
    }
}

/// Repetition and definition level of one value.
type Level = (u64, u64);

#[derive(Debug)]
pub(crate) struct ColumnReader {
    input: Input,
    name: Name,
    leaf: Leaf,
    /// Number of rows and position of each row group.
    groups: Vec<(u64, Chunk)>,
    /// Number of row groups started, and number of pages read of the last one.
    begun: usize,
    pages: usize,
    /// Number of rows left in the row group.
    rows: u64,
    /// Unread range of the chunk, and number of its values not yet in any page.
    at: u64,
    end: u64,
    values_left: u64,
    codec: Codec,
    dictionary: Option<Dictionary>,
    page: Page,
    /// A level read ahead but not yet taken.
    peeked: Option<Level>,
}

#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    /// Number of levels left.
    left: u64,
    repetition: Option<Hybrid>,
    definition: Option<Hybrid>,
    values: Values,
}

impl Page {
    fn next_level(&mut self, max_definition: u64) -> Decoded<Level> {
        self.left -= 1;
        let repetition = match &mut self.repetition {
            Some(levels) => levels.next(&self.bytes)?,
            None => 0,
        };
        let definition = match &mut self.definition {
            Some(levels) => levels.next(&self.bytes)?,
            None => 0,
        };
        if repetition > 1 || definition > max_definition {
            return Err(DecodeError::new(
                format!("repetition level {repetition}, definition level {definition}"),
                format!("at most 1 and {max_definition}"),
            ));
        }
        Ok((repetition, definition))
    }
}

impl ColumnReader {
    pub(crate) fn new(input: Input, name: Name, leaf: Leaf, groups: Vec<(u64, Chunk)>) -> Self {
        Self {
            input,
            name,
            leaf,
            groups,
            begun: 0,
            pages: 0,
            rows: 0,
            at: 0,
            end: 0,
            values_left: 0,
            codec: Codec::Stored,
            dictionary: None,
            page: Page {
                bytes: Vec::new(),
                left: 0,
                repetition: None,
                definition: None,
                values: Values::Plain { at: 0, width: 4 },
            },
            peeked: None,
        }
    }

    pub(crate) fn name(&self) -> Name {
        self.name.clone()
    }

    /// Names the current page in errors.
    fn place(&self) -> impl Fn() -> String + Clone + use<> {
        let (name, group, page) = (self.name.clone(), self.begun, self.pages);
        move || {
            let (group, page) = (group.saturating_sub(1), page.saturating_sub(1));
            format!("row group {group}, column {name}, page {page}")
        }
    }

    fn error(&self, error: DecodeError) -> Error {
        self.input.error(self.place()(), error)
    }

    /// Advances to the next row and returns the definition level of its first value.
    pub(crate) fn next_row(&mut self) -> Result<u64> {
        while self.rows == 0 {
            self.next_group()?;
        }
        self.rows -= 1;
        match self.next_level()? {
            Some((0, definition)) => Ok(definition),
            Some(_) => Err(self.error(DecodeError::new(
                "a value that continues a list",
                "the start of a row",
            ))),
            None => Err(self.error(DecodeError::new(
                format!(
                    "no values for the last {} rows",
                    self.rows.saturating_add(1)
                ),
                "all rows of the row group",
            ))),
        }
    }

    /// Returns the definition level of the row's next value, or `None` at the end of the row.
    pub(crate) fn next_in_row(&mut self) -> Result<Option<u64>> {
        match self.next_level()? {
            Some((1, definition)) => Ok(Some(definition)),
            other => {
                self.peeked = other;
                Ok(None)
            }
        }
    }

    /// Takes the levels of the following non-null values of this row, as far as their runs show
    /// them at once. Returns their number; the caller must read as many values.
    pub(crate) fn known_in_row(&mut self) -> u64 {
        let page = &mut self.page;
        let (Some(repetition), Some(definition), None) =
            (&mut page.repetition, &mut page.definition, self.peeked)
        else {
            return 0;
        };
        // Bounds the work per call if one kind of levels has much longer runs than the other.
        let most = page.left.min(CHUNK_ELEMENTS as u64);
        let count = repetition.known(&page.bytes, 1, most);
        let count = definition.known(&page.bytes, self.leaf.max_definition, count);
        repetition.skip_known(count);
        definition.skip_known(count);
        page.left -= count;
        count
    }

    /// Reads the value of the last level, which must have been the maximum.
    pub(crate) fn value(&mut self) -> Result<u64> {
        let dictionary = Dictionary::numbers(self.dictionary.as_ref());
        self.page
            .values
            .next(&self.page.bytes, dictionary)
            .map_err(|error| self.error(error))
    }

    /// Passes the bytes of the last level's value to `take`. The level must have been the maximum,
    /// and the column one of text.
    pub(crate) fn text(&mut self, take: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let Values::Texts(texts) = &mut self.page.values else {
            return Err(Error::internal("numbers among text"));
        };
        let dictionary = Dictionary::texts(self.dictionary.as_ref());
        match texts.next(&self.page.bytes, dictionary) {
            Ok(bytes) => take(bytes),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Decodes the next `count` values into `row`. Their levels must have been the maximum.
    pub(crate) fn push_values(
        &mut self,
        float: FloatType,
        count: u64,
        row: &mut VectorRow<'_>,
    ) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let count = usize::try_from(left).map_or(CHUNK_ELEMENTS, |n| n.min(CHUNK_ELEMENTS));
            left -= count as u64;
            let dictionary = Dictionary::numbers(self.dictionary.as_ref());
            // A copy, because a failed bulk read leaves it unspecified.
            let mut values = self.page.values.clone();
            let append =
                |out: &mut Vec<_>| values.append(&self.page.bytes, dictionary, float, count, out);
            if row.push_chunk(count, append)? {
                self.page.values = values;
                continue;
            }
            for _ in 0..count {
                let bits = self.value()?;
                row.push_bits(float, bits)?;
            }
        }
        Ok(())
    }

    /// Fails if the row group holds more values than its rows.
    pub(crate) fn finish_group(&mut self) -> Result<()> {
        if self.rows == 0 && self.next_level()?.is_some() {
            return Err(self.error(DecodeError::new(
                "values after the last row",
                "as many as there are rows in the row group",
            )));
        }
        Ok(())
    }

    fn next_group(&mut self) -> Result<()> {
        self.finish_group()?;
        let Some(&(rows, chunk)) = self.groups.get(self.begun) else {
            return Err(Error::internal("a row past the last row group"));
        };
        self.begun += 1;
        self.pages = 0;
        self.rows = rows;
        self.values_left = chunk.values;
        self.codec = chunk.codec;
        self.dictionary = None;
        self.at = chunk.offset;
        self.end = chunk.offset.saturating_add(chunk.len);
        if chunk.physical != self.leaf.physical {
            return Err(self.error(DecodeError::new(
                format!("values of type {:?}", chunk.physical),
                format!("{:?}, as in the schema", self.leaf.physical),
            )));
        }
        if self.end > self.input.len() {
            return Err(self.error(DecodeError::new(
                format!("pages up to byte {}", self.end),
                format!("at most byte {}", self.input.len()),
            )));
        }
        Ok(())
    }

    fn next_level(&mut self) -> Result<Option<Level>> {
        if let Some(level) = self.peeked.take() {
            return Ok(Some(level));
        }
        while self.page.left == 0 {
            if self.values_left == 0 {
                return Ok(None);
            }
            self.next_page()?;
        }
        self.page
            .next_level(self.leaf.max_definition)
            .map(Some)
            .map_err(|error| self.error(error))
    }

    /// Reads the next page of the chunk, of any type.
    fn next_page(&mut self) -> Result<()> {
        self.pages += 1;
        let (input, place) = (self.input.clone(), self.place());
        let (header, header_len) = match self.read_header(MAX_HEADER) {
            Err(_) if self.leaf.form.is_text() => self.read_header(MAX_TEXT_HEADER),
            header => header,
        }?;
        let body = self.at.saturating_add(header_len);
        let len = header.compressed;

        let mut bytes = std::mem::take(&mut self.page.bytes);
        bytes.clear();
        if self.leaf.form.is_text() && bytes.capacity() > MAX_KEPT_TEXT_PAGE {
            bytes = Vec::new();
        }
        let codec = self.codec;
        input.decode(body, len, self.end, place, |compressed| match header.kind {
            Kind::Index => Ok(()),
            _ => header.decompress(codec, compressed, &mut bytes),
        })?;
        self.at = body.saturating_add(len);
        match header.kind {
            Kind::Index => Ok(()),
            Kind::Dictionary => self.read_dictionary(&header, &mut bytes),
            _ if header.values > self.values_left => Err(DecodeError::new(
                format!("{} values", header.values),
                format!("the {} that the column chunk has left", self.values_left),
            )),
            _ => self.read_data(&header, &bytes).map(|page| {
                self.values_left -= page.left;
                self.page = page;
            }),
        }
        .map_err(|error| self.error(error))?;
        // Put the buffer back: the new page refers to it by position.
        self.page.bytes = bytes;
        Ok(())
    }

    /// Reads the header of the next page, of at most `limit` bytes. Returns its length also.
    fn read_header(&self, limit: usize) -> Result<(Header, u64)> {
        let window = self.end.saturating_sub(self.at).min(limit as u64);
        let input = &self.input;
        input.decode(self.at, window, self.end, self.place(), |bytes| {
            let mut rest = bytes;
            let header = Header::read(&mut rest, limit)?;
            Ok((header, (bytes.len() - rest.len()) as u64))
        })
    }

    /// Reads a dictionary page, and takes its bytes if they are text.
    fn read_dictionary(&mut self, header: &Header, bytes: &mut Vec<u8>) -> Decoded<()> {
        let form = self.leaf.form;
        let width = match (header.encoding, form) {
            // PLAIN_DICTIONARY is the older name of the same encoding.
            (
                Encoding::PLAIN | Encoding::PLAIN_DICTIONARY,
                Form::Number(width) | Form::FixedText(width),
            ) => width,
            // Each text follows its length, of 4 bytes.
            (Encoding::PLAIN | Encoding::PLAIN_DICTIONARY, Form::Text) => 4,
            (encoding, _) => {
                return Err(DecodeError::unsupported(
                    format!("a dictionary in encoding {}", encoding_name(encoding)),
                    "plain values",
                ))
            }
        };
        if self.dictionary.is_some() {
            return Err(DecodeError::new("a second dictionary page", "one at most"));
        }
        let count = usize::try_from(header.values)
            .ok()
            .filter(|count| count.saturating_mul(width) <= bytes.len())
            .ok_or_else(|| {
                DecodeError::new(
                    format!("a dictionary of {} values", header.values),
                    format!("no more than {} bytes hold", bytes.len()),
                )
            })?;
        if form.is_text() {
            let bytes = std::mem::take(bytes);
            let texts = TextDictionary::new(bytes, count, form.text_width())?;
            self.dictionary = Some(Dictionary::Texts(texts));
            return Ok(());
        }
        let mut values = memory::with_capacity(count, "hold a dictionary")?;
        for index in 0..count {
            values.push(plain(bytes, index * width, width)?);
        }
        self.dictionary = Some(Dictionary::Numbers(values));
        Ok(())
    }

    /// Locates the levels and values of a data page. The caller stores the bytes.
    fn read_data(&self, header: &Header, bytes: &[u8]) -> Decoded<Page> {
        let mut at = 0usize;
        // Levels take as many bits as their maximum has.
        let definition_width = u64::BITS - self.leaf.max_definition.leading_zeros();
        let mut levels = |width: u32, present: bool, v2_len: usize, encoding: Encoding| {
            let len = match header.kind {
                Kind::DataV2 { .. } => v2_len,
                _ if !present => 0,
                _ if encoding != Encoding::RLE => {
                    return Err(DecodeError::unsupported(
                        format!("levels in encoding {}", encoding_name(encoding)),
                        "RLE",
                    ))
                }
                _ => {
                    // Version 1 pages have a u32 length in front of the levels.
                    let len = u32::from_le_bytes(array(bytes, at)?);
                    at += 4;
                    usize::try_from(len).map_err(|_| DecodeError::end())?
                }
            };
            let start = at;
            at = start
                .checked_add(len)
                .filter(|end| *end <= bytes.len())
                .ok_or_else(|| {
                    DecodeError::new(
                        format!("{len} bytes of levels"),
                        format!("no more than the page's {}", bytes.len()),
                    )
                })?;
            present.then(|| Hybrid::new(start, at, width)).transpose()
        };
        let (repetition_len, definition_len) = match header.kind {
            Kind::DataV2 {
                repetition,
                definition,
                ..
            } => (repetition, definition),
            _ => (0, 0),
        };
        let [repetition_encoding, definition_encoding] = header.level_encodings;
        let repetition = levels(1, self.leaf.repeated, repetition_len, repetition_encoding)?;
        let definition = levels(
            definition_width,
            self.leaf.max_definition > 0,
            definition_len,
            definition_encoding,
        )?;
        Ok(Page {
            bytes: Vec::new(),
            left: header.values,
            repetition,
            definition,
            values: self.values(header.encoding, bytes, at)?,
        })
    }

    fn values(&self, encoding: Encoding, bytes: &[u8], at: usize) -> Decoded<Values> {
        let end = bytes.len();
        let integer = matches!(self.leaf.physical, Physical::Int32 | Physical::Int64);
        let form = self.leaf.form;
        if form.is_text() {
            let has_dictionary = self.dictionary.is_some();
            return Texts::new(encoding, bytes, at, form.text_width(), has_dictionary)
                .map(Values::Texts);
        }
        Ok(match (encoding, form) {
            (Encoding::PLAIN, Form::Number(width)) => Values::Plain { at, width },
            (Encoding::PLAIN, Form::Bit) => Values::PlainBits {
                bit: at.saturating_mul(8),
            },
            (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, Form::Number(_)) => {
                Values::Dictionary(Hybrid::indices(bytes, at, self.dictionary.is_some())?)
            }
            (Encoding::RLE, Form::Bit) => {
                if at == end {
                    return Ok(Values::Runs(Hybrid::new(at, at, 1)?));
                }
                let len = u32::from_le_bytes(array(bytes, at)?);
                let start = at + 4;
                let end = usize::try_from(len)
                    .ok()
                    .and_then(|len| start.checked_add(len))
                    .filter(|last| *last <= end)
                    .ok_or_else(DecodeError::end)?;
                Values::Runs(Hybrid::new(start, end, 1)?)
            }
            (Encoding::DELTA_BINARY_PACKED, Form::Number(width)) if integer => {
                if at == end {
                    // A page without values can lack the header.
                    return Ok(Values::Plain { at, width });
                }
                let values = Delta::new(bytes, at, end)?;
                Values::Delta { values, width }
            }
            (Encoding::BYTE_STREAM_SPLIT, Form::Number(width)) => Values::ByteStreamSplit {
                at,
                count: (end - at) / width,
                width,
            },
            _ => {
                return Err(DecodeError::unsupported(
                    format!(
                        "{:?} values in encoding {}",
                        self.leaf.physical,
                        encoding_name(encoding)
                    ),
                    "PLAIN, a dictionary, BYTE_STREAM_SPLIT, RLE for booleans or \
                     DELTA_BINARY_PACKED for integers",
                ))
            }
        })
    }
}

pub(super) fn encoding_name(encoding: Encoding) -> String {
    let name = match encoding {
        Encoding::PLAIN => "PLAIN",
        Encoding::PLAIN_DICTIONARY => "PLAIN_DICTIONARY",
        Encoding::RLE => "RLE",
        Encoding::BIT_PACKED => "BIT_PACKED",
        Encoding::DELTA_BINARY_PACKED => "DELTA_BINARY_PACKED",
        Encoding::DELTA_LENGTH_BYTE_ARRAY => "DELTA_LENGTH_BYTE_ARRAY",
        Encoding::DELTA_BYTE_ARRAY => "DELTA_BYTE_ARRAY",
        Encoding::RLE_DICTIONARY => "RLE_DICTIONARY",
        Encoding::BYTE_STREAM_SPLIT => "BYTE_STREAM_SPLIT",
        Encoding(code) => return code.to_string(),
    };
    name.into()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Data,
    Index,
    Dictionary,
    DataV2 {
        /// Bytes of the levels, which are never compressed.
        repetition: usize,
        definition: usize,
        compressed: bool,
    },
}

/// The contents of a page header.
#[derive(Debug)]
struct Header {
    kind: Kind,
    /// Bytes of the page without its header.
    compressed: u64,
    uncompressed: usize,
    /// Number of values including nulls, or of dictionary entries.
    values: u64,
    encoding: Encoding,
    /// Encodings of repetition and definition levels.
    level_encodings: [Encoding; 2],
}

impl Header {
    /// Parses a header of at most `limit` bytes at the start of `bytes` and advances past it.
    fn read(bytes: &mut &[u8], limit: usize) -> Decoded<Self> {
        let mut protocol = TCompactInputProtocol::new(bytes, limit);
        let header = PageHeader::read_from_in_protocol(&mut protocol).map_err(|error| {
            DecodeError::new(
                format!("a page header that cannot be read ({error})"),
                "one that parquet.thrift describes",
            )
        })?;
        let size = |value: i32| {
            usize::try_from(value)
                .map_err(|_| DecodeError::new(format!("{value} in a page header"), "0 or more"))
        };
        let without =
            || DecodeError::new("a page header without data for its page type", "the data");
        let (kind, values, encoding, level_encodings) = match header.type_ {
            PageType::DATA_PAGE => {
                let data = header.data_page_header.ok_or_else(without)?;
                let levels = [
                    data.repetition_level_encoding,
                    data.definition_level_encoding,
                ];
                (Kind::Data, data.num_values, data.encoding, levels)
            }
            PageType::INDEX_PAGE => (Kind::Index, 0, Encoding::PLAIN, [Encoding::RLE; 2]),
            PageType::DICTIONARY_PAGE => {
                let data = header.dictionary_page_header.ok_or_else(without)?;
                let levels = [Encoding::RLE; 2];
                (Kind::Dictionary, data.num_values, data.encoding, levels)
            }
            PageType::DATA_PAGE_V2 => {
                let data = header.data_page_header_v2.ok_or_else(without)?;
                let kind = Kind::DataV2 {
                    repetition: size(data.repetition_levels_byte_length)?,
                    definition: size(data.definition_levels_byte_length)?,
                    // parquet.thrift: compressed unless stated otherwise.
                    compressed: data.is_compressed.unwrap_or(true),
                };
                (kind, data.num_values, data.encoding, [Encoding::RLE; 2])
            }
            PageType(other) => {
                return Err(DecodeError::new(format!("page type {other}"), "0 to 3"))
            }
        };
        Ok(Self {
            kind,
            compressed: unsigned(header.compressed_page_size.into(), "compressed page size")?,
            uncompressed: usize::try_from(header.uncompressed_page_size)
                .map_err(|_| DecodeError::new("a page of a negative size", "0 bytes or more"))?,
            values: size(values)? as u64,
            encoding,
            level_encodings,
        })
    }

    /// Appends the page's levels and values to `out`, decompressed. `stored` is the page in the
    /// file.
    fn decompress(&self, codec: Codec, stored: &[u8], out: &mut Vec<u8>) -> Decoded<()> {
        match self.kind {
            Kind::DataV2 {
                repetition,
                definition,
                compressed,
            } => {
                let levels = repetition.saturating_add(definition);
                let (levels, values) = stored.split_at_checked(levels).ok_or_else(|| {
                    DecodeError::new(
                        format!("{levels} bytes of levels"),
                        format!("no more than the page's {}", stored.len()),
                    )
                })?;
                Codec::Stored.decompress(levels, levels.len(), out)?;
                let len = self.uncompressed.checked_sub(levels.len());
                let len = len.ok_or_else(|| {
                    DecodeError::new(
                        format!("a page of {} bytes", self.uncompressed),
                        "no fewer than its levels have",
                    )
                })?;
                match len {
                    // An empty page can be stored without any bytes, which is not valid
                    // compressed data.
                    0 => Ok(()),
                    _ if compressed => codec.decompress(values, len, out),
                    _ => Codec::Stored.decompress(values, len, out),
                }
            }
            _ => codec.decompress(stored, self.uncompressed, out),
        }
    }
}
