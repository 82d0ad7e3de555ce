//! The messages of a file or a stream, located but not decoded.

use super::dictionary::DictionaryBlock;
use super::flatbuffer::Table;
use super::format::{
    body_compression, footer, header_type, message, record_batch, schema, CONTINUATION, VERSION_4,
    VERSION_5,
};
use super::stream::Compression;
use crate::base::memory;
use crate::columnar::bytes::{array, DecodeError, Decoded, Input, MAX_METADATA};
use crate::error::{Error, Result};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Bytes in front of a message: the marker and the length of the header.
const PREFIX: u64 = 8;

/// Position of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) offset: u64,
    /// Length in bytes of the prefix and header, then of the body.
    pub(super) metadata: u64,
    pub(super) body: u64,
}

impl Block {
    /// Offset of the next message.
    fn end(&self) -> Option<u64> {
        self.offset
            .checked_add(self.metadata)?
            .checked_add(self.body)
    }

    /// Calls `read` with the header's type, the header table and the message table.
    pub(super) fn header<T>(
        &self,
        input: &Input,
        place: impl Fn() -> String,
        read: impl FnOnce(u8, Table<'_>, Table<'_>) -> Decoded<T>,
    ) -> Result<T> {
        let end = input.len();
        input.decode(self.offset, self.metadata, end, place, |bytes| {
            // Before Arrow 0.15 there was no marker: the prefix was the length alone.
            let at = match array(bytes, 0)? {
                CONTINUATION => 8,
                _ => 4,
            };
            let message = Table::root(bytes.get(at..).ok_or_else(DecodeError::end)?)?;
            check_version(message.i16(message::VERSION)?)?;
            let kind = message.u8(message::HEADER_TYPE)?;
            match message.table(message::HEADER)? {
                Some(header) => read(kind, header, message),
                None => Err(DecodeError::new("a message without a header", "one")),
            }
        })
    }
}

fn check_version(version: i16) -> Decoded<i16> {
    match version {
        VERSION_4 | VERSION_5 => Ok(version),
        version => Err(DecodeError::unsupported(
            format!("metadata version V{}", i32::from(version) + 1),
            "V4 or V5",
        )),
    }
}

/// A schema, in whose message or footer `len` bytes hold it.
pub(super) struct Schema<'a> {
    pub(super) table: Table<'a>,
    pub(super) len: usize,
    /// True if unions have validity bitmaps, as in metadata version 4.
    pub(super) union_validity: bool,
}

impl<'a> Schema<'a> {
    fn new(table: Table<'a>, len: usize, version: i16) -> Decoded<Self> {
        if table.i16(schema::ENDIANNESS)? != schema::LITTLE_ENDIAN {
            return Err(DecodeError::unsupported(
                "big-endian data",
                "little-endian data",
            ));
        }
        Ok(Self {
            table,
            len,
            union_validity: version == VERSION_4,
        })
    }
}

/// The dictionaries to register, by id.
pub(super) enum Needed {
    All,
    Only(Vec<i64>),
}

/// The record batches and dictionaries of a file or a stream.
pub(super) struct Messages {
    pub(super) input: Input,
    /// Record batches with their row counts.
    batches: Vec<(Block, u64)>,
    rows: u64,
    /// Dictionary messages that are needed, in file order.
    dictionaries: Vec<DictionaryBlock>,
    needed: Needed,
}

impl Messages {
    fn new(input: &Input, needed: Needed) -> Self {
        Self {
            input: input.clone(),
            batches: Vec::new(),
            rows: 0,
            dictionaries: Vec::new(),
            needed,
        }
    }

    /// Locates the messages of a file. `read` chooses the columns. Its inner result is an error
    /// that names a column; the outer one is an error of the footer.
    pub(super) fn open_file<T>(
        input: &Input,
        read: impl FnOnce(&Schema<'_>) -> Decoded<Result<(T, Needed)>>,
    ) -> Result<(T, Self)> {
        let place = || "footer".to_string();
        let len = input.len();
        // The file ends with the footer, its i32 length and the magic number.
        let tail = len.saturating_sub(MAGIC.len() as u64 + 4);
        let footer_len = input.decode(tail, len - tail, len, place, |bytes| {
            if !bytes.ends_with(MAGIC) {
                return Err(DecodeError::new(
                    "other bytes at the end of the file",
                    "ARROW1, as at the end of every Arrow IPC file",
                ));
            }
            Ok(i32::from_le_bytes(array(bytes, 0)?))
        })?;
        let start = u64::try_from(footer_len)
            .ok()
            .filter(|len| *len <= MAX_METADATA)
            .and_then(|len| tail.checked_sub(len))
            .ok_or_else(|| {
                input.invalid(
                    "length of the footer",
                    format!("{footer_len} bytes"),
                    format!("less than the file's {len}, and at most {MAX_METADATA}"),
                )
            })?;
        let ((columns, needed), dictionaries, batches) =
            input.decode(start, tail - start, tail, place, |bytes| {
                let table = Table::root(bytes)?;
                let version = check_version(table.i16(footer::VERSION)?)?;
                let schema = table
                    .table(footer::SCHEMA)?
                    .ok_or_else(|| DecodeError::new("no schema", "one"))?;
                let block_list = |field| blocks(table.vector(field, footer::BLOCK_SIZE)?, start);
                let dictionaries = block_list(footer::DICTIONARIES)?;
                let batches = block_list(footer::RECORD_BATCHES)?;
                // `bytes` bounds the schema: all of it is inside the footer.
                let columns = read(&Schema::new(schema, bytes.len(), version)?)?;
                Ok(columns.map(|columns| (columns, dictionaries, batches)))
            })??;
        let mut messages = Self::new(input, needed);
        for block in dictionaries {
            messages.add_dictionary(block)?;
        }
        for block in batches {
            messages.add_batch(block)?;
        }
        Ok((columns, messages))
    }

    /// Locates the messages of a stream; see [`open_file`](Self::open_file).
    pub(super) fn open_stream<T>(
        input: &Input,
        read: impl FnOnce(&Schema<'_>) -> Decoded<Result<(T, Needed)>>,
    ) -> Result<(T, Self)> {
        let len = input.len();
        let mut opened: Option<(T, Self)> = None;
        let mut read = Some(read);
        let (mut at, mut number) = (0, 0u64);
        while at < len {
            let place = || format!("message {number}");
            let metadata = input.decode(at, PREFIX, len, place, |bytes| {
                match array(bytes, 0)? {
                    CONTINUATION => {}
                    _ => return Err(DecodeError::new("other bytes", "the start of a message")),
                }
                let length = length(i32::from_le_bytes(array(bytes, 4)?).into())?;
                if length > MAX_METADATA {
                    return Err(DecodeError::new(
                        format!("a header of {length} bytes"),
                        format!("at most {MAX_METADATA}"),
                    ));
                }
                Ok(length)
            })?;
            if metadata == 0 {
                // A header length of 0 marks the end of the stream.
                break;
            }
            // The body's length is in the header, which is read next.
            let mut block = Block {
                offset: at,
                metadata: metadata + PREFIX,
                body: 0,
            };
            let (kind, columns, body) = block.header(input, place, |kind, header, message| {
                // The schema must come first, and only once.
                let columns = match (kind, opened.is_none(), read.take()) {
                    (header_type::SCHEMA, true, Some(read)) => {
                        let size = usize::try_from(metadata).map_err(|_| DecodeError::end())?;
                        let version = message.i16(message::VERSION)?;
                        Some(read(&Schema::new(header, size, version)?)?)
                    }
                    (header_type::DICTIONARY_BATCH | header_type::RECORD_BATCH, false, _) => None,
                    _ => {
                        return Err(DecodeError::new(
                            format!("a message of type {kind}"),
                            "a schema, and then dictionaries and record batches",
                        ))
                    }
                };
                Ok((kind, columns, length(message.i64(message::BODY_LENGTH)?)?))
            })?;
            block.body = body;
            // Also guarantees progress: a message takes at least its prefix.
            at = block.end().filter(|end| *end <= len).ok_or_else(|| {
                input.invalid(
                    place(),
                    format!("a body of {body} bytes"),
                    format!("one that ends by byte {len}"),
                )
            })?;
            match (&mut opened, columns) {
                (None, Some(columns)) => {
                    let (columns, needed) = columns?;
                    opened = Some((columns, Self::new(input, needed)));
                }
                (Some((_, messages)), _) if kind == header_type::DICTIONARY_BATCH => {
                    messages.add_dictionary(block)?;
                }
                (Some((_, messages)), _) => messages.add_batch(block)?,
                (None, None) => {}
            }
            number += 1;
        }
        opened.ok_or_else(|| input.invalid("message 0", "the end of the stream", "a schema"))
    }

    /// Registers a record batch.
    fn add_batch(&mut self, block: Block) -> Result<()> {
        let place = record_batch_place(self.batches.len());
        let rows = record_batch_header(&self.input, block, &place, |header| {
            length(header.i64(record_batch::LENGTH)?)
        })?;
        self.rows = self.rows.checked_add(rows).ok_or_else(|| {
            self.input.invalid(
                place(),
                "more than 2^64 rows",
                "fewer in all record batches",
            )
        })?;
        memory::reserve(&mut self.batches, 1, "hold the record batches")?;
        self.batches.push((block, rows));
        Ok(())
    }

    /// Registers a dictionary message if one of the columns to read refers to it.
    fn add_dictionary(&mut self, block: Block) -> Result<()> {
        if matches!(&self.needed, Needed::Only(ids) if ids.is_empty()) {
            return Ok(());
        }
        let dictionary = DictionaryBlock::read(&self.input, block, self.batches.len())?;
        let is_needed = match &self.needed {
            Needed::All => true,
            Needed::Only(ids) => ids.contains(&dictionary.id()),
        };
        if is_needed {
            memory::reserve(&mut self.dictionaries, 1, "hold the dictionaries")?;
            self.dictionaries.push(dictionary);
        }
        Ok(())
    }

    /// Number of rows in all record batches.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The position of a record batch, and its number of rows.
    pub(super) fn batch(&self, number: usize) -> Result<(Block, u64)> {
        let batch = self.batches.get(number).copied();
        batch.ok_or_else(|| Error::internal("a row past the last record batch"))
    }

    /// The registered dictionary messages, in file order.
    pub(super) fn dictionaries(&self) -> &[DictionaryBlock] {
        &self.dictionaries
    }
}

pub(super) fn record_batch_place(number: usize) -> impl Fn() -> String {
    move || format!("record batch {number}")
}

/// Calls `read` with the header of a record batch.
pub(super) fn record_batch_header<T>(
    input: &Input,
    block: Block,
    place: impl Fn() -> String,
    read: impl FnOnce(Table<'_>) -> Decoded<T>,
) -> Result<T> {
    block.header(input, place, |kind, header, _| match kind {
        header_type::RECORD_BATCH => read(header),
        _ => Err(DecodeError::new(
            format!("a message of type {kind}"),
            "3, a record batch",
        )),
    })
}

/// Blocks of the footer, which must lie before byte `end`.
fn blocks(bytes: &[u8], end: u64) -> Decoded<Vec<Block>> {
    let count = bytes.len() / footer::BLOCK_SIZE;
    let mut blocks = memory::with_capacity(count, "hold the footer's blocks")?;
    for bytes in bytes.chunks_exact(footer::BLOCK_SIZE) {
        let block = Block {
            offset: length(i64::from_le_bytes(array(bytes, 0)?))?,
            metadata: length(i32::from_le_bytes(array(bytes, 8)?).into())?,
            body: length(i64::from_le_bytes(array(bytes, 16)?))?,
        };
        if block.end().is_none_or(|last| last > end) || block.metadata > MAX_METADATA {
            return Err(DecodeError::new(
                format!(
                    "a message of {} + {} bytes at byte {}",
                    block.metadata, block.body, block.offset
                ),
                format!("one before byte {end}, with a header of at most {MAX_METADATA}"),
            ));
        }
        blocks.push(block);
    }
    Ok(blocks)
}

pub(super) fn compression(header: &Table<'_>) -> Decoded<Compression> {
    use body_compression as field;
    let Some(compression) = header.table(record_batch::COMPRESSION)? else {
        return Ok(Compression::Stored);
    };
    match (
        compression.u8(field::CODEC)?,
        compression.u8(field::METHOD)?,
    ) {
        #[cfg(feature = "codecs")]
        (field::LZ4_FRAME, field::BUFFER) => Ok(Compression::Lz4Frame),
        #[cfg(not(feature = "codecs"))]
        (field::LZ4_FRAME, field::BUFFER) => {
            Err(crate::columnar::codec::needs_codecs("LZ4 compression"))
        }
        (field::ZSTD, field::BUFFER) => Ok(Compression::Zstd),
        (codec, method) => Err(DecodeError::unsupported(
            format!("compression codec {codec}, method {method}"),
            "LZ4 frames or zstd, of each buffer",
        )),
    }
}

pub(super) fn length(value: i64) -> Decoded<u64> {
    u64::try_from(value).map_err(|_| DecodeError::new(format!("a length of {value}"), "0 or more"))
}
