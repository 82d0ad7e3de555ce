//! Arrow IPC files and streams, read record batch by record batch and row by row.
//!
//! ```text
//! stream: messages (schema, dictionaries, record batches):
//!     0xFFFFFFFF, i32 length, Message (FlatBuffers: lengths, null counts, places of buffers), body
//! 0xFFFFFFFF, 0
//!
//! file: "ARROW1", 2 bytes of padding
//!     stream
//!     footer (FlatBuffers: schema, place of every message), i32 length of the footer, "ARROW1"
//! ```
//!
//! A file's footer lists its record batches. A stream is scanned once, header by header, to find
//! them; its end marker is optional. Only label dictionaries stay in memory: 16 bytes per value.
//! Source: <https://arrow.apache.org/docs/format/Columnar.html>.

mod dictionary;
mod flatbuffer;
mod format;
mod schema;
mod stream;

use crate::base::memory;
use crate::columnar::bytes::{array, DecodeError, Decoded, Input, MAX_METADATA};
use crate::columnar::cells::{Columns, FloatType, IntegerType, VectorRow, CHUNK_ELEMENTS};
use crate::columnar::selection::{Chosen, ColumnNames, Name, Wanted, EXPORT_KEY};
use crate::error::{Error, Result};
use dictionary::{Dictionary, DictionaryBlock};
use flatbuffer::Table;
use format::{
    body_compression, footer, header_type, message, record_batch, CONTINUATION, VERSION_4,
    VERSION_5,
};
use schema::{Field, IntegerField, ListKind, Slot};
use stream::{Bits, Compression, Range, Stream};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Bytes of components decoded at a time.
const CHUNK: usize = CHUNK_ELEMENTS * size_of::<f32>();

/// Bytes in front of a message: the marker and the length of the header.
const PREFIX: u64 = 8;

/// Position of a message.
#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u64,
    /// Length in bytes of the prefix and header, then of the body.
    metadata: u64,
    body: u64,
}

impl Block {
    /// Offset of the next message.
    fn end(&self) -> Option<u64> {
        self.offset
            .checked_add(self.metadata)?
            .checked_add(self.body)
    }

    /// Calls `read` with the header's type, the header table and the message table.
    fn header<T>(
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

pub(crate) struct IpcColumns {
    input: Input,
    /// Record batches with their row counts.
    blocks: Vec<(Block, u64)>,
    rows: u64,
    vector_name: Name,
    vector: (Slot, ListKind, FloatType),
    /// Name of the label column; `None` if the row numbers serve as labels.
    label_name: Option<Name>,
    is_export: bool,
    label: Option<Integers>,
    deleted: Option<Integers>,
    /// Dictionary messages of the label and `deleted` columns, in file order.
    dictionaries: Vec<DictionaryBlock>,
    /// Number of record batches started.
    begun: usize,
    batch: Batch,
}

struct Integers {
    name: Name,
    slot: Slot,
    /// `None` for booleans.
    stored: Option<IntegerType>,
    dictionary: Option<Dictionary>,
}

/// The columns of the current record batch, each at its next row.
#[derive(Default)]
struct Batch {
    rows: u64,
    vector: Option<VectorBatch>,
    label: Option<IntegerBatch>,
    deleted: Option<IntegerBatch>,
}

impl IpcColumns {
    pub(crate) fn open_file(input: &Input, wanted: &Wanted) -> Result<Self> {
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
        let (mut columns, dictionaries, batches) =
            input.decode(start, tail - start, tail, place, |bytes| {
                let table = Table::root(bytes)?;
                let version = check_version(table.i16(footer::VERSION)?)?;
                let schema = table
                    .table(footer::SCHEMA)?
                    .ok_or_else(|| DecodeError::new("no schema", "one"))?;
                let block_list = |field| blocks(table.vector(field, footer::BLOCK_SIZE)?, start);
                let dictionaries = block_list(footer::DICTIONARIES)?;
                let batches = block_list(footer::RECORD_BATCHES)?;
                // The inner result is an error that names a column; the outer one is an error of
                // the footer.
                Ok(
                    // `bytes` bounds the schema: all of it is inside the footer.
                    Self::from_schema(input, &schema, bytes.len(), version, wanted)?
                        .map(|columns| (columns, dictionaries, batches)),
                )
            })??;
        for block in dictionaries {
            columns.add_dictionary(block)?;
        }
        for block in batches {
            columns.add_batch(block)?;
        }
        Ok(columns)
    }

    pub(crate) fn open_stream(input: &Input, wanted: &Wanted) -> Result<Self> {
        let len = input.len();
        let mut columns: Option<Self> = None;
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
            // The schema must come first, and only once.
            let is_first = columns.is_none();
            let (kind, schema, body) = block.header(input, place, |kind, header, message| {
                let schema = match (kind, is_first) {
                    (header_type::SCHEMA, true) => {
                        let size = usize::try_from(metadata).map_err(|_| DecodeError::end())?;
                        let version = message.i16(message::VERSION)?;
                        Some(Self::from_schema(input, &header, size, version, wanted)?)
                    }
                    (header_type::DICTIONARY_BATCH | header_type::RECORD_BATCH, false) => None,
                    _ => {
                        return Err(DecodeError::new(
                            format!("a message of type {kind}"),
                            "a schema, and then dictionaries and record batches",
                        ))
                    }
                };
                Ok((kind, schema, length(message.i64(message::BODY_LENGTH)?)?))
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
            match (&mut columns, schema) {
                (None, Some(schema)) => columns = Some(schema?),
                (Some(columns), _) if kind == header_type::DICTIONARY_BATCH => {
                    columns.add_dictionary(block)?;
                }
                (Some(columns), _) => columns.add_batch(block)?,
                (None, None) => {}
            }
            number += 1;
        }
        columns.ok_or_else(|| input.invalid("message 0", "the end of the stream", "a schema"))
    }

    /// Checks the schema and chooses the columns. `len` is the size in bytes of the buffer that
    /// holds it.
    fn from_schema(
        input: &Input,
        table: &Table<'_>,
        len: usize,
        version: i16,
        wanted: &Wanted,
    ) -> Decoded<Result<Self>> {
        if table.i16(format::schema::ENDIANNESS)? != format::schema::LITTLE_ENDIAN {
            return Err(DecodeError::unsupported(
                "big-endian data",
                "little-endian data",
            ));
        }
        let names: Vec<&str> = wanted.names().map(|name| &**name).collect();
        let mut all = ColumnNames::default();
        let found = schema::fields(table, len, version == VERSION_4, &names, &mut all)?;
        let is_export = schema::has_key(table, EXPORT_KEY);
        let columns = wanted
            .choose(input, found, &all, is_export)
            .and_then(|chosen| Self::new(input, chosen));
        Ok(columns.map(|columns| Self {
            is_export,
            ..columns
        }))
    }

    fn new(input: &Input, chosen: Chosen<Field<'_>>) -> Result<Self> {
        let mistyped = |name: &Name, error| input.error(format!("column {name}"), error);
        let integers = |column: Option<(Name, Field<'_>)>, boolean| {
            let Some((name, field)) = column else {
                return Ok(None);
            };
            match field.integer(boolean) {
                Ok(IntegerField { stored, dictionary }) => Ok(Some(Integers {
                    name,
                    slot: field.slot,
                    stored,
                    dictionary: dictionary.map(|(id, type_)| Dictionary::new(id, type_)),
                })),
                Err(error) => Err(mistyped(&name, error)),
            }
        };
        let (vector_name, field) = chosen.vector;
        let (kind, float) = field
            .vector()
            .map_err(|error| mistyped(&vector_name, error))?;
        let label = integers(chosen.label, false)?;
        Ok(Self {
            input: input.clone(),
            blocks: Vec::new(),
            rows: 0,
            is_export: false,
            vector_name,
            vector: (field.slot, kind, float),
            label_name: label.as_ref().map(|label| label.name.clone()),
            label,
            deleted: integers(chosen.deleted, true)?,
            dictionaries: Vec::new(),
            begun: 0,
            batch: Batch::default(),
        })
    }

    /// Registers a record batch.
    fn add_batch(&mut self, block: Block) -> Result<()> {
        let place = record_batch_place(self.blocks.len());
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
        memory::reserve(&mut self.blocks, 1, "hold the record batches")?;
        self.blocks.push((block, rows));
        Ok(())
    }

    /// Registers a dictionary message if one of the columns to read refers to it.
    fn add_dictionary(&mut self, block: Block) -> Result<()> {
        let needed = [&self.label, &self.deleted]
            .into_iter()
            .flatten()
            .filter_map(|column| column.dictionary.as_ref());
        let needed: Vec<i64> = needed.map(Dictionary::id).collect();
        if needed.is_empty() {
            return Ok(());
        }
        let dictionary = DictionaryBlock::read(&self.input, block, self.blocks.len())?;
        if needed.contains(&dictionary.id()) {
            memory::reserve(&mut self.dictionaries, 1, "hold the dictionaries")?;
            self.dictionaries.push(dictionary);
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<()> {
        let number = self.begun;
        let Some(&(block, rows)) = self.blocks.get(number) else {
            return Err(Error::internal("a row past the last record batch"));
        };
        self.begun += 1;
        self.batch = Batch::default();
        if rows == 0 {
            return Ok(());
        }
        for column in [&mut self.label, &mut self.deleted].into_iter().flatten() {
            if let Some(dictionary) = &mut column.dictionary {
                dictionary.update(&self.input, &self.dictionaries, number)?;
            }
        }
        let (vector_slot, kind, float) = self.vector;
        // Variable-length lists have one buffer more: their offsets.
        let offsets = usize::from(matches!(kind, ListKind::Offsets(_)));
        let place = record_batch_place(number);
        let (compression, vector, label, deleted) =
            record_batch_header(&self.input, block, &place, |header| {
                let integers = |column: &Option<Integers>| {
                    column
                        .as_ref()
                        .map(|column| Parts::new(&header, &block, column.slot, 1, 2, rows))
                        .transpose()
                };
                Ok((
                    compression(&header)?,
                    Parts::new(&header, &block, vector_slot, 2, 3 + offsets, rows)?,
                    integers(&self.label)?,
                    integers(&self.deleted)?,
                ))
            })?;
        let open = |name: &Name, parts: Parts| Opener {
            input: &self.input,
            compression,
            place: format!("record batch {number}, column {name}"),
            parts,
        };
        let integers = |column: &Option<Integers>, parts: Option<Parts>| match (column, parts) {
            (Some(column), Some(parts)) => {
                IntegerBatch::new(&open(&column.name, parts), column.stored).map(Some)
            }
            _ => Ok(None),
        };
        self.batch = Batch {
            rows,
            vector: Some(VectorBatch::new(
                &open(&self.vector_name, vector),
                kind,
                float,
            )?),
            label: integers(&self.label, label)?,
            deleted: integers(&self.deleted, deleted)?,
        };
        Ok(())
    }
}

fn record_batch_place(number: usize) -> impl Fn() -> String {
    move || format!("record batch {number}")
}

/// Calls `read` with the header of a record batch.
fn record_batch_header<T>(
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

/// A column's share of a record batch: nodes (length and null count) and buffer ranges.
struct Parts {
    nodes: Vec<(u64, u64)>,
    buffers: Vec<Range>,
}

impl Parts {
    fn new(
        header: &Table<'_>,
        block: &Block,
        slot: Slot,
        nodes: usize,
        buffers: usize,
        rows: u64,
    ) -> Decoded<Self> {
        let pairs = |field, first: usize, count: usize| {
            let bytes = header.vector(field, record_batch::PAIR_SIZE)?;
            (first..first.saturating_add(count))
                .map(|index| {
                    let at = index.saturating_mul(record_batch::PAIR_SIZE);
                    let pair = [array(bytes, at)?, array(bytes, at.saturating_add(8))?];
                    let [first, second] = pair.map(i64::from_le_bytes);
                    Ok((length(first)?, length(second)?))
                })
                .collect::<Decoded<Vec<_>>>()
        };
        let mut first = slot.buffer;
        let counts = header.vector(record_batch::VARIADIC_BUFFER_COUNTS, size_of::<i64>())?;
        // View columns in front of this one have a variable number of buffers, counted separately.
        for index in 0..slot.variadic {
            let count = length(i64::from_le_bytes(array(counts, index.saturating_mul(8))?))?;
            first = usize::try_from(count)
                .ok()
                .and_then(|count| first.checked_add(count))
                .ok_or_else(DecodeError::end)?;
        }
        let nodes = pairs(record_batch::NODES, slot.node, nodes)?;
        if nodes.first().is_none_or(|(len, _)| *len != rows) {
            return Err(DecodeError::new(
                "a column of another length than the record batch",
                format!("{rows} rows"),
            ));
        }
        // Buffer offsets are relative to the body, which follows the header.
        let body = block.offset.saturating_add(block.metadata);
        let buffers = pairs(record_batch::BUFFERS, first, buffers)?;
        let buffers = buffers
            .into_iter()
            .map(|(offset, len)| match offset.checked_add(len) {
                Some(end) if end <= block.body => Ok(Range {
                    offset: body.saturating_add(offset),
                    len,
                }),
                _ => Err(DecodeError::new(
                    format!("a buffer of {len} bytes at byte {offset}"),
                    format!("one within the body's {} bytes", block.body),
                )),
            });
        Ok(Self {
            nodes,
            buffers: buffers.collect::<Decoded<_>>()?,
        })
    }
}

/// Opens the buffers of one column in a record batch.
struct Opener<'a> {
    input: &'a Input,
    compression: Compression,
    place: String,
    parts: Parts,
}

impl Opener<'_> {
    fn node(&self, index: usize) -> (u64, u64) {
        self.parts.nodes.get(index).copied().unwrap_or_default()
    }

    fn buffer(&self, index: usize) -> Result<Stream> {
        match self.parts.buffers.get(index) {
            Some(&range) => {
                let place = format!("{}, buffer {index}", self.place);
                Stream::new(self.input, range, self.compression, place)
            }
            None => Err(Error::internal("a buffer that the column does not have")),
        }
    }

    /// Opens the validity bitmap of node `node`, stored in buffer `buffer`.
    fn validity(&self, node: usize, buffer: usize) -> Result<Bits> {
        // Without nulls, writers are free to omit the bitmap.
        let (len, nulls) = self.node(node);
        if nulls == 0 {
            return Ok(Bits::new(None));
        }
        self.bits(len, buffer).map(|bits| Bits::new(Some(bits)))
    }

    fn bits(&self, len: u64, buffer: usize) -> Result<Stream> {
        let stream = self.buffer(buffer)?;
        stream.check(len.div_ceil(8), &format!("{len} bits"))?;
        Ok(stream)
    }
}

struct IntegerBatch {
    validity: Bits,
    values: IntegerValues,
}

enum IntegerValues {
    Booleans(Bits),
    Integers(Stream, IntegerType),
}

impl IntegerBatch {
    fn new(column: &Opener<'_>, integer: Option<IntegerType>) -> Result<Self> {
        let (rows, _) = column.node(0);
        let values = match integer {
            None => IntegerValues::Booleans(Bits::new(Some(column.bits(rows, 1)?))),
            Some(integer) => {
                let stream = column.buffer(1)?;
                let len = rows.saturating_mul(u64::from(integer.bits / 8));
                stream.check(len, &format!("{rows} integers"))?;
                IntegerValues::Integers(stream, integer)
            }
        };
        Ok(Self {
            validity: column.validity(0, 0)?,
            values,
        })
    }

    fn error(&self, error: DecodeError) -> Error {
        match &self.values {
            IntegerValues::Booleans(_) => Error::internal("indices are no booleans"),
            IntegerValues::Integers(stream, _) => stream.error(error),
        }
    }

    fn next(&mut self) -> Result<Option<i128>> {
        let bits = self.next_bits()?;
        Ok(match &self.values {
            IntegerValues::Booleans(_) => bits.map(i128::from),
            IntegerValues::Integers(_, integer) => bits.map(|bits| integer.value(bits)),
        })
    }

    /// The next value in the lowest bits; `None` for null.
    fn next_bits(&mut self) -> Result<Option<u64>> {
        let bits = match &mut self.values {
            IntegerValues::Booleans(bits) => u64::from(bits.next()?),
            IntegerValues::Integers(stream, integer) => {
                let mut bytes = [0; 8];
                // The lowest `width` bytes of a little-endian u64; the rest stay 0.
                let width = usize::try_from(integer.bits / 8).unwrap_or(8).min(8);
                stream.take(bytes.get_mut(..width).unwrap_or_default())?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(self.validity.next()?.then_some(bits))
    }
}

struct VectorBatch {
    validity: Bits,
    lists: Lists,
    /// Validity of the components of all lists in sequence.
    present: Bits,
    elements: Stream,
    float: FloatType,
    /// Total number of components, and the number taken so far.
    len: u64,
    at: u64,
}

enum Lists {
    Fixed(u64),
    Offsets(Stream, usize),
}

impl VectorBatch {
    fn new(column: &Opener<'_>, kind: ListKind, float: FloatType) -> Result<Self> {
        let (rows, _) = column.node(0);
        let (len, _) = column.node(1);
        let (lists, next) = match kind {
            ListKind::Fixed(size) => (Lists::Fixed(size), 1),
            ListKind::Offsets(width) => {
                let offsets = column.buffer(1)?;
                let bytes = rows.saturating_add(1).saturating_mul(width as u64);
                offsets.check(bytes, &format!("the offsets of {rows} lists"))?;
                (Lists::Offsets(offsets, width), 2)
            }
        };
        let elements = column.buffer(next + 1)?;
        elements.check(
            len.saturating_mul(float.width() as u64),
            &format!("{len} elements"),
        )?;
        let mut batch = Self {
            validity: column.validity(0, 0)?,
            lists,
            present: column.validity(1, next)?,
            elements,
            float,
            len,
            at: 0,
        };
        // The first offset is read here; each row then reads the offset of its end.
        if let Some(first) = batch.offset()? {
            // The first offset of a slice is not 0 if the writer kept the whole child array.
            batch.take_elements(first, None)?;
        }
        Ok(batch)
    }

    /// The next offset; `None` for fixed-size lists.
    fn offset(&mut self) -> Result<Option<u64>> {
        let offset = match &mut self.lists {
            Lists::Fixed(_) => return Ok(None),
            Lists::Offsets(stream, 4) => i64::from(i32::from_le_bytes(stream.take_array()?)),
            Lists::Offsets(stream, _) => i64::from_le_bytes(stream.take_array()?),
        };
        u64::try_from(offset).map(Some).map_err(|_| {
            let found = format!("list offset {offset}");
            self.elements.error(DecodeError::new(found, "0 or more"))
        })
    }

    fn next(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        let end = match (self.offset()?, &self.lists) {
            (Some(end), _) => Some(end),
            (None, Lists::Fixed(size)) => self.at.checked_add(*size),
            (None, _) => None,
        };
        if !self.validity.next()? {
            row.null()?;
        }
        self.take_elements(end.unwrap_or(u64::MAX), Some(row))
    }

    /// Decodes the components before number `end` into `row`, or skips them.
    fn take_elements(&mut self, end: u64, mut row: Option<&mut VectorRow<'_>>) -> Result<()> {
        if end < self.at || end > self.len {
            return Err(self.elements.error(DecodeError::new(
                format!("a list of elements {} to {end}", self.at),
                format!("an end not before its start, and at most {}", self.len),
            )));
        }
        let float = self.float;
        let width = float.width();
        let mut chunk = [0; CHUNK];
        while self.at < end {
            let count = (end - self.at).min((CHUNK / width) as u64);
            let bytes = usize::try_from(count).map_or(CHUNK, |count| count * width);
            let bytes = chunk.get_mut(..bytes).unwrap_or_default();
            self.elements.take(bytes)?;
            self.at += count;
            // Without nulls, a whole chunk is converted at once.
            if let (Some(row), true) = (&mut row, self.present.are_all_ones()) {
                let append = |out: &mut Vec<_>| {
                    float.append(bytes, out);
                    true
                };
                if row.push_chunk(bytes.len() / width, append)? {
                    continue;
                }
            }
            for element in bytes.chunks_exact(width) {
                let mut bits = [0; 8];
                for (bits, &byte) in bits.iter_mut().zip(element) {
                    *bits = byte;
                }
                match (&mut row, self.present.next()?) {
                    (Some(row), true) => row.push_bits(float, u64::from_le_bytes(bits))?,
                    (Some(row), false) => row.null_element()?,
                    (None, _) => {}
                }
            }
        }
        Ok(())
    }
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

fn compression(header: &Table<'_>) -> Decoded<Compression> {
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

fn length(value: i64) -> Decoded<u64> {
    u64::try_from(value).map_err(|_| DecodeError::new(format!("a length of {value}"), "0 or more"))
}

/// The next value of a column, or null, if there is a column.
fn next_integer(
    batch: &mut Option<IntegerBatch>,
    column: &Option<Integers>,
) -> Result<Option<Option<i128>>> {
    let Some(batch) = batch else {
        return Ok(None);
    };
    let stored = batch.next()?;
    let dictionary = column
        .as_ref()
        .and_then(|column| column.dictionary.as_ref());
    match (stored, dictionary) {
        (Some(index), Some(dictionary)) => dictionary
            .get(index)
            .map(Some)
            .map_err(|error| batch.error(error)),
        (stored, _) => Ok(Some(stored)),
    }
}

impl Columns for IpcColumns {
    fn row_count(&self) -> u64 {
        self.rows
    }

    fn vector_name(&self) -> Name {
        self.vector_name.clone()
    }

    fn label_name(&self) -> Option<Name> {
        self.label_name.clone()
    }

    fn is_export(&self) -> bool {
        self.is_export
    }

    fn deleted(&mut self) -> Result<Option<i128>> {
        // `deleted` is called first for each row, so it starts record batches. Empty ones are
        // skipped.
        while self.batch.rows == 0 {
            self.next_batch()?;
        }
        self.batch.rows -= 1;
        match next_integer(&mut self.batch.deleted, &self.deleted)? {
            Some(deleted) => Ok(deleted),
            None => Ok(Some(0)),
        }
    }

    fn label(&mut self, row: u64) -> Result<Option<i128>> {
        match next_integer(&mut self.batch.label, &self.label)? {
            Some(label) => Ok(label),
            None => Ok(Some(row.into())),
        }
    }

    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()> {
        match &mut self.batch.vector {
            Some(column) => column.next(row),
            None => Err(Error::internal("a row outside of any record batch")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
