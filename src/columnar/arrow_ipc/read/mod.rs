//! The Arrow IPC file format, read record batch by record batch and row by row.
//!
//! ```text
//! "ARROW1", 2 bytes of padding
//! stream of messages: schema, dictionaries, record batches:
//!     0xFFFFFFFF, i32 length, Message (FlatBuffers: lengths, null counts, places of buffers), body
//! footer (FlatBuffers: schema, place of every message), i32 length of the footer, "ARROW1"
//! ```
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html>.

mod flatbuffer;
mod schema;
mod stream;

use crate::columnar::bytes::{array, Decoded, Flaw, Input};
use crate::columnar::read::{choose, Columns, IntegerType, VectorRow, MAX_METADATA};
use crate::error::{Error, Result};
use flatbuffer::Table;
use schema::{Field, ListKind, Slot};
use stream::{Bits, Compression, Range, Stream};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Bytes of elements taken at once.
const CHUNK: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u64,
    /// Length of the message's header, and of the body after it.
    metadata: u64,
    body: u64,
}

pub(crate) struct IpcColumns {
    input: Input,
    /// Record batches and their rows.
    blocks: Vec<(Block, u64)>,
    rows: u64,
    vector: (Slot, ListKind, bool),
    label: Option<Integers>,
    deleted: Option<Integers>,
    /// Record batches that have been begun.
    begun: usize,
    batch: Batch,
}

#[derive(Clone, Copy, Debug)]
struct Integers {
    name: &'static str,
    slot: Slot,
    /// `None` for booleans.
    integer: Option<IntegerType>,
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
    pub(crate) fn open(input: &Input, include_deleted: bool) -> Result<Self> {
        let footer = || "footer".to_string();
        let len = input.len();
        let tail = len.saturating_sub(MAGIC.len() as u64 + 4);
        let footer_len = input.decode(tail, len - tail, len, footer, |bytes| {
            if !bytes.ends_with(MAGIC) {
                return Err(Flaw::new(
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
        let (mut columns, blocks) =
            input.decode(start, tail - start, tail, footer, |bytes| {
                let footer = Table::root(bytes)?;
                let version = check_version(&footer)?;
                let schema = footer
                    .table(1)?
                    .ok_or_else(|| Flaw::new("no schema", "one"))?;
                if schema.i16(0)? != 0 {
                    return Err(Flaw::unsupported("big-endian data", "little-endian data"));
                }
                let fields = schema::fields(&schema, bytes.len(), version == 3)?;
                let blocks = blocks(footer.vector(3, 24)?, start)?;
                // An error that names a column goes out as it is, beside those of the footer.
                Ok(choose(input, fields, include_deleted)
                    .and_then(|chosen| Self::new(input, chosen))
                    .map(|columns| (columns, blocks)))
            })??;
        for (number, block) in blocks.into_iter().enumerate() {
            let place = || format!("record batch {number}");
            let rows = columns.header(number, block, |header, _| length(header.i64(0)?))?;
            columns.rows = columns.rows.checked_add(rows).ok_or_else(|| {
                input.invalid(
                    place(),
                    "more than 2^64 rows",
                    "fewer in all record batches",
                )
            })?;
            columns.blocks.push((block, rows));
        }
        Ok(columns)
    }

    fn new(input: &Input, chosen: crate::columnar::read::Chosen<Field<'_>>) -> Result<Self> {
        let flawed = |name: &str, flaw| input.flawed(format!("column {name}"), flaw);
        let integers = |column: Option<(&'static str, Field<'_>)>, boolean| {
            column
                .map(|(name, field)| {
                    Ok(Integers {
                        name,
                        slot: field.slot,
                        integer: field.integer(boolean).map_err(|f| flawed(name, f))?,
                    })
                })
                .transpose()
        };
        let (name, field) = chosen.vector;
        let (kind, double) = field.vector().map_err(|flaw| flawed(name, flaw))?;
        Ok(Self {
            input: input.clone(),
            blocks: Vec::new(),
            rows: 0,
            vector: (field.slot, kind, double),
            label: integers(chosen.label, false)?,
            deleted: integers(chosen.deleted, true)?,
            begun: 0,
            batch: Batch::default(),
        })
    }

    /// Calls `read` with the header of a record batch, and the length of its message's header.
    fn header<T>(
        &self,
        number: usize,
        block: Block,
        read: impl FnOnce(Table<'_>, &Block) -> Decoded<T>,
    ) -> Result<T> {
        let place = || format!("record batch {number}");
        let end = self.input.len();
        self.input
            .decode(block.offset, block.metadata, end, place, |bytes| {
                let marker: [u8; 4] = array(bytes, 0)?;
                // Without the marker, as until Arrow 0.14, the length stands first.
                let at = if marker == [0xff; 4] { 8 } else { 4 };
                let message = Table::root(bytes.get(at..).ok_or_else(Flaw::end)?)?;
                check_version(&message)?;
                match (message.u8(1)?, message.table(2)?) {
                    (3, Some(header)) => read(header, &block),
                    (kind, _) => Err(Flaw::new(
                        format!("a message of type {kind}"),
                        "3, a record batch",
                    )),
                }
            })
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
        let (vector_slot, kind, double) = self.vector;
        let offsets = usize::from(matches!(kind, ListKind::Offsets(_)));
        let (compression, vector, label, deleted) =
            self.header(number, block, |header, block| {
                let integers = |column: Option<Integers>| {
                    column
                        .map(|column| Parts::new(&header, block, column.slot, 1, 2, rows))
                        .transpose()
                };
                Ok((
                    compression(&header)?,
                    Parts::new(&header, block, vector_slot, 2, 3 + offsets, rows)?,
                    integers(self.label)?,
                    integers(self.deleted)?,
                ))
            })?;
        let open = |name, parts: Parts| Opener {
            input: &self.input,
            compression,
            place: format!("record batch {number}, column {name}"),
            parts,
        };
        let integers = |column: Option<Integers>, parts: Option<Parts>| match (column, parts) {
            (Some(column), Some(parts)) => {
                IntegerBatch::new(&open(column.name, parts), column.integer).map(Some)
            }
            _ => Ok(None),
        };
        self.batch = Batch {
            rows,
            vector: Some(VectorBatch::new(&open("vector", vector), kind, double)?),
            label: integers(self.label, label)?,
            deleted: integers(self.deleted, deleted)?,
        };
        Ok(())
    }
}

/// A column's parts of a record batch: nodes (length and number of nulls), and places of buffers.
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
            let bytes = header.vector(field, 16)?;
            (first..first.saturating_add(count))
                .map(|index| {
                    let at = index.saturating_mul(16);
                    let pair = [array(bytes, at)?, array(bytes, at.saturating_add(8))?];
                    let [first, second] = pair.map(i64::from_le_bytes);
                    Ok((length(first)?, length(second)?))
                })
                .collect::<Decoded<Vec<_>>>()
        };
        let mut first = slot.buffer;
        let counts = header.vector(4, 8)?;
        for index in 0..slot.variadic {
            let count = length(i64::from_le_bytes(array(counts, index.saturating_mul(8))?))?;
            first = usize::try_from(count)
                .ok()
                .and_then(|count| first.checked_add(count))
                .ok_or_else(Flaw::end)?;
        }
        let nodes = pairs(1, slot.node, nodes)?;
        if nodes.first().is_none_or(|(len, _)| *len != rows) {
            return Err(Flaw::new(
                "a column of another length than the record batch",
                format!("{rows} rows"),
            ));
        }
        let body = block.offset.saturating_add(block.metadata);
        let buffers = pairs(2, first, buffers)?.into_iter().map(|(offset, len)| {
            match offset.checked_add(len) {
                Some(end) if end <= block.body => Ok(Range {
                    offset: body.saturating_add(offset),
                    len,
                }),
                _ => Err(Flaw::new(
                    format!("a buffer of {len} bytes at byte {offset}"),
                    format!("one within the body's {} bytes", block.body),
                )),
            }
        });
        Ok(Self {
            nodes,
            buffers: buffers.collect::<Decoded<_>>()?,
        })
    }
}

/// Opens the buffers of one column of a record batch.
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

    /// The bitmap at `buffer` of the values that are not null, of node `node`.
    fn validity(&self, node: usize, buffer: usize) -> Result<Bits> {
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

    fn next(&mut self) -> Result<Option<i128>> {
        let value = match &mut self.values {
            IntegerValues::Booleans(bits) => i128::from(bits.next()?),
            IntegerValues::Integers(stream, integer) => {
                let mut bytes = [0; 8];
                let width = usize::try_from(integer.bits / 8).unwrap_or(8).min(8);
                stream.take(bytes.get_mut(..width).unwrap_or_default())?;
                integer.value(u64::from_le_bytes(bytes))
            }
        };
        Ok(self.validity.next()?.then_some(value))
    }
}

struct VectorBatch {
    validity: Bits,
    lists: Lists,
    /// Of the elements of all lists, one after another.
    present: Bits,
    elements: Stream,
    double: bool,
    /// Elements in all, and those taken.
    len: u64,
    at: u64,
}

enum Lists {
    Fixed(u64),
    Offsets(Stream, usize),
}

impl VectorBatch {
    fn new(column: &Opener<'_>, kind: ListKind, double: bool) -> Result<Self> {
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
        let width = if double { 8 } else { 4 };
        elements.check(len.saturating_mul(width), &format!("{len} elements"))?;
        let mut batch = Self {
            validity: column.validity(0, 0)?,
            lists,
            present: column.validity(1, next)?,
            elements,
            double,
            len,
            at: 0,
        };
        if let Some(first) = batch.offset()? {
            // A slice of a longer array may have been written with all its elements.
            batch.take_elements(first, |_| Ok(()))?;
        }
        Ok(batch)
    }

    /// The next offset, if lists have offsets.
    fn offset(&mut self) -> Result<Option<u64>> {
        let offset = match &mut self.lists {
            Lists::Fixed(_) => return Ok(None),
            Lists::Offsets(stream, 4) => i64::from(i32::from_le_bytes(stream.take_array()?)),
            Lists::Offsets(stream, _) => i64::from_le_bytes(stream.take_array()?),
        };
        u64::try_from(offset).map(Some).map_err(|_| {
            let found = format!("list offset {offset}");
            self.elements.flawed(Flaw::new(found, "a number from 0 on"))
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
        let end = end.unwrap_or(u64::MAX);
        self.take_elements(end, |element| match element {
            Some(Element::F32(value)) => row.push_f32(value),
            Some(Element::F64(value)) => row.push_f64(value),
            None => row.null_element(),
        })
    }

    /// Takes the elements up to number `end`; nulls are `None`.
    fn take_elements(
        &mut self,
        end: u64,
        mut push: impl FnMut(Option<Element>) -> Result<()>,
    ) -> Result<()> {
        if end < self.at || end > self.len {
            return Err(self.elements.flawed(Flaw::new(
                format!("a list of elements {} to {end}", self.at),
                format!("an end not before its start, and at most {}", self.len),
            )));
        }
        let width = if self.double { 8 } else { 4 };
        let mut chunk = [0; CHUNK];
        while self.at < end {
            let count = (end - self.at).min((CHUNK / width) as u64);
            let bytes = usize::try_from(count).map_or(CHUNK, |count| count * width);
            let bytes = chunk.get_mut(..bytes).unwrap_or_default();
            self.elements.take(bytes)?;
            for value in bytes.chunks_exact(width) {
                let element = match (value.first_chunk(), value.first_chunk()) {
                    (_, Some(bytes)) if self.double => Element::F64(f64::from_le_bytes(*bytes)),
                    (Some(bytes), _) => Element::F32(f32::from_le_bytes(*bytes)),
                    (None, _) => continue,
                };
                push(self.present.next()?.then_some(element))?;
            }
            self.at += count;
        }
        Ok(())
    }
}

enum Element {
    F32(f32),
    F64(f64),
}

fn check_version(table: &Table<'_>) -> Decoded<i16> {
    match table.i16(0)? {
        version @ (3 | 4) => Ok(version),
        version => Err(Flaw::unsupported(
            format!("metadata version V{}", i32::from(version) + 1),
            "V4 or V5",
        )),
    }
}

/// The record batches' blocks of the footer, which must lie before byte `end`.
fn blocks(bytes: &[u8], end: u64) -> Decoded<Vec<Block>> {
    bytes
        .chunks_exact(24)
        .map(|bytes| {
            let block = Block {
                offset: length(i64::from_le_bytes(array(bytes, 0)?))?,
                metadata: length(i32::from_le_bytes(array(bytes, 8)?).into())?,
                body: length(i64::from_le_bytes(array(bytes, 16)?))?,
            };
            let last = block
                .offset
                .checked_add(block.metadata)
                .and_then(|at| at.checked_add(block.body));
            match last {
                Some(last) if last <= end && block.metadata <= MAX_METADATA => Ok(block),
                _ => Err(Flaw::new(
                    format!(
                        "a record batch of {} + {} bytes at byte {}",
                        block.metadata, block.body, block.offset
                    ),
                    format!("one before byte {end}, with a header of at most {MAX_METADATA}"),
                )),
            }
        })
        .collect()
}

fn compression(header: &Table<'_>) -> Decoded<Compression> {
    let Some(compression) = header.table(3)? else {
        return Ok(Compression::Stored);
    };
    match (compression.u8(0)?, compression.u8(1)?) {
        (0, 0) => Ok(Compression::Lz4Frame),
        (1, 0) => Ok(Compression::Zstd),
        (codec, method) => Err(Flaw::unsupported(
            format!("compression codec {codec}, method {method}"),
            "LZ4 frames or zstd, of each buffer",
        )),
    }
}

fn length(value: i64) -> Decoded<u64> {
    u64::try_from(value).map_err(|_| Flaw::new(format!("a length of {value}"), "0 or more"))
}

impl Columns for IpcColumns {
    fn row_count(&self) -> u64 {
        self.rows
    }

    fn label_name(&self) -> &'static str {
        self.label.map_or("label", |label| label.name)
    }

    fn deleted(&mut self) -> Result<Option<i128>> {
        // The first of the three that is asked for each row.
        while self.batch.rows == 0 {
            self.next_batch()?;
        }
        self.batch.rows -= 1;
        match &mut self.batch.deleted {
            Some(column) => column.next(),
            None => Ok(Some(0)),
        }
    }

    fn label(&mut self, row: u64) -> Result<Option<i128>> {
        match &mut self.batch.label {
            Some(column) => column.next(),
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
