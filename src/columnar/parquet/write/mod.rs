//! Parquet, written page by page.
//!
//! ```text
//! PAR1 | row group | row group | … | footer | footer length: u32 | PAR1
//!        = the pages of one column after the other
//! ```
//!
//! A page is a flush of a column's builder: at most `batch_size` rows, PLAIN. If the source can
//! read rows again for each column, memory is limited to a page and row groups can be of the size
//! that readers prefer. If rows are pushed, encoded pages are kept until a row group is complete.
//! Only the pages of vectors go to the file at once. Metadata kept for the footer grows with row
//! groups, not pages.
//!
//! Pages are written here because parquet2 needs all pages of a row group in memory.

mod compress;
mod footer;
mod page;

use std::io::Write;

use parquet2::compression::{compress, CompressionOptions};
use parquet_format_safe::thrift::protocol::TCompactOutputProtocol;
use parquet_format_safe::{DataPageHeader, Encoding, PageHeader, PageType, RowGroup};

use crate::base::memory::reserve;
use crate::columnar::columns::{Builder, Capacity, Column, Schema};
use crate::columnar::source::{fill, ColumnSource, WriteOptions};
use crate::columnar::Compression;
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::mmap::check_headroom;
use compress::compress_parts;
use footer::Chunk;
use page::{Page, PageBuffer};

const MAGIC: &[u8; 4] = b"PAR1";

/// Maximum number of rows in a row group. A list of them stays small next to the pages even if
/// vectors are very short.
const MAX_GROUP_ROWS: u64 = 1 << 19;

/// Soft limit on the bytes of vectors per page. It lowers the number of rows per page.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// Soft limit on the bytes of strings or lists per page.
const FULL_PAGE_BYTES: usize = 1 << 20;

/// Bytes of pushed rows at which all builders are flushed.
const MAX_PUSHED_BYTES: usize = 4 << 20;

/// Bytes of kept pages at which a row group ends.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// Purpose of kept pages' memory in out-of-memory errors.
const KEEP: &str = "keep the pages of a row group";

pub(crate) struct ParquetWriter<'o> {
    schema: Schema,
    file: File<'o>,
    encoder: Encoder,
    builders: Vec<Builder>,
    /// Maximum number of rows in a row group.
    group_rows: usize,
    row_groups: Vec<RowGroup>,
    pushed: PushedGroup,
}

/// Pages kept until their row group is complete. Large texts are moved in rather than copied.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Texts, each with the number of bytes in front of it.
    texts: Vec<(usize, String)>,
    len: usize,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        reserve(&mut self.bytes, bytes.len(), KEEP)?;
        self.bytes.extend_from_slice(bytes);
        self.len = self.len.saturating_add(bytes.len());
        Ok(())
    }

    fn push_text(&mut self, text: String) {
        self.len = self.len.saturating_add(text.len());
        self.texts.push((self.bytes.len(), text));
    }

    /// Passes everything to `write` in order. Memory beyond the usual size is released.
    fn take(&mut self, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut start = 0;
        for (end, text) in self.texts.drain(..) {
            write(self.bytes.get(start..end).unwrap_or_default())?;
            write(text.as_bytes())?;
            start = end;
        }
        write(self.bytes.get(start..).unwrap_or_default())?;
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT_BYTES);
        self.len = 0;
        Ok(())
    }
}

/// The row group into which rows are pushed.
struct PushedGroup {
    /// The column whose pages are written at once instead of kept.
    streamed: Option<usize>,
    /// Totals and kept pages of each column.
    chunks: Vec<(Chunk, Kept)>,
    start: u64,
    rows: usize,
}

impl<'o> ParquetWriter<'o> {
    pub(crate) fn new(
        output: &'o mut AtomicFile,
        schema: &Schema,
        options: &WriteOptions,
    ) -> Result<Self> {
        let builder = |column: &Column| {
            let capacity = Capacity {
                rows: options.batch_rows(MAX_PAGE_BYTES, column.vector_bytes()),
                bytes: FULL_PAGE_BYTES,
            };
            Builder::new(column.clone(), capacity)
        };
        // Clamp to 1 so that a vector larger than the limit still gets a row group.
        let group_rows = options
            .row_group_bytes
            .checked_div(schema.vector_bytes() as u64)
            .map_or(MAX_GROUP_ROWS, |rows| rows.clamp(1, MAX_GROUP_ROWS));
        // Column chunks are located by offset, so every write is counted.
        let mut file = File { output, offset: 0 };
        file.write_all(MAGIC)?;
        Ok(Self {
            builders: schema.columns.iter().map(builder).collect::<Result<_>>()?,
            encoder: Encoder::new(options.compression),
            group_rows: usize::try_from(group_rows).unwrap_or(usize::MAX),
            row_groups: Vec::new(),
            pushed: PushedGroup {
                streamed: schema.columns.iter().position(Column::is_vector),
                chunks: schema.columns.iter().map(|_| Default::default()).collect(),
                start: file.offset,
                rows: 0,
            },
            schema: schema.clone(),
            file,
        })
    }

    /// Writes a row group for each group of rows.
    pub(crate) fn write_groups(&mut self, source: &mut impl ColumnSource) -> Result<()> {
        loop {
            let rows = source.next_group(self.group_rows, usize::MAX)?;
            if rows == 0 {
                return Ok(());
            }
            let group_start = self.file.offset;
            let mut chunks = Vec::new();
            for (number, builder) in self.builders.iter_mut().enumerate() {
                let start = self.file.offset;
                let mut chunk = Chunk::default();
                let mut done = 0;
                while done < rows {
                    done += fill(source, number, done..rows, builder)?;
                    self.encoder
                        .flush(builder, &mut chunk, |bytes| self.file.write_all(bytes))?;
                }
                chunks.push(chunk.finish(builder.column(), self.encoder.compression, start)?);
            }
            let ordinal = self.row_groups.len();
            self.row_groups
                .push(footer::row_group(chunks, rows, group_start, ordinal)?);
        }
    }

    /// The builders into which the caller pushes the values of a row.
    pub(crate) fn builders(&mut self) -> &mut [Builder] {
        &mut self.builders
    }

    /// Flushes full builders, and ends the row group if it is large enough.
    pub(crate) fn end_row(&mut self) -> Result<()> {
        self.pushed.rows += 1;
        // A large row must not stay in the builders until they are full.
        let bytes: usize = self.builders.iter().map(Builder::bytes).sum();
        let all = bytes >= MAX_PUSHED_BYTES;
        for column in 0..self.builders.len() {
            if all || self.builders.get(column).is_some_and(Builder::is_full) {
                self.flush_pushed(column)?;
            }
        }
        let kept: usize = self.pushed.chunks.iter().map(|(_, kept)| kept.len).sum();
        if kept >= MAX_KEPT_BYTES || self.pushed.rows >= self.group_rows {
            self.end_group()?;
        }
        Ok(())
    }

    /// Writes one large text as a page of its own.
    pub(crate) fn push_text(&mut self, column: usize, text: String) -> Result<()> {
        self.flush_pushed(column)?;
        match (
            self.builders.get(column),
            self.pushed.chunks.get_mut(column),
        ) {
            (Some(builder), Some((chunk, kept))) => {
                self.encoder.write_text(builder.column(), text, chunk, kept)
            }
            _ => Err(Error::internal(format!("no column {column}"))),
        }
    }

    fn flush_pushed(&mut self, column: usize) -> Result<()> {
        let (Some(builder), Some((chunk, kept))) = (
            self.builders.get_mut(column),
            self.pushed.chunks.get_mut(column),
        ) else {
            return Err(Error::internal(format!("no column {column}")));
        };
        if builder.is_empty() {
            return Ok(());
        }
        if self.pushed.streamed == Some(column) {
            // Streamed pages follow each other because all other columns are kept.
            return self
                .encoder
                .flush(builder, chunk, |bytes| self.file.write_all(bytes));
        }
        self.encoder.flush(builder, chunk, |bytes| kept.push(bytes))
    }

    /// Writes the rest of the row group; does nothing if no rows were pushed.
    pub(crate) fn end_group(&mut self) -> Result<()> {
        if self.pushed.rows == 0 {
            return Ok(());
        }
        for column in 0..self.builders.len() {
            self.flush_pushed(column)?;
        }
        let mut chunks = Vec::new();
        for (number, column) in self.schema.columns.iter().enumerate() {
            let Some((chunk, kept)) = self.pushed.chunks.get_mut(number) else {
                return Err(Error::internal(format!("no column {number}")));
            };
            let start = if self.pushed.streamed == Some(number) {
                self.pushed.start
            } else {
                let start = self.file.offset;
                kept.take(|bytes| self.file.write_all(bytes))?;
                start
            };
            chunks.push(std::mem::take(chunk).finish(column, self.encoder.compression, start)?);
        }
        let (rows, start) = (self.pushed.rows, self.pushed.start);
        let ordinal = self.row_groups.len();
        self.row_groups
            .push(footer::row_group(chunks, rows, start, ordinal)?);
        self.pushed.rows = 0;
        self.pushed.start = self.file.offset;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        let footer = footer::footer(&self.schema, std::mem::take(&mut self.row_groups))?;
        let bytes = thrift(|protocol| footer.write_to_out_protocol(protocol))?;
        let length = u32::try_from(bytes.len())
            .map_err(|_| Error::internal("the Parquet footer exceeds 4 GiB"))?;
        self.file.write_all(&bytes)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(MAGIC)
    }
}

/// The output, with the number of bytes written so far.
struct File<'o> {
    output: &'o mut AtomicFile,
    offset: u64,
}

impl File<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.output
            .write_all(bytes)
            .map_err(|error| self.output.write_error(error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Encodes builders as pages.
struct Encoder {
    compression: Compression,
    page: PageBuffer,
    /// Levels and values of a page, contiguous for the compressor.
    uncompressed: Vec<u8>,
    compressed: Vec<u8>,
}

impl Encoder {
    fn new(compression: Compression) -> Self {
        Self {
            compression,
            page: PageBuffer::default(),
            uncompressed: Vec::new(),
            compressed: Vec::new(),
        }
    }

    /// Passes the values of `builder` to `write` as a page, then clears the builder.
    fn flush(
        &mut self,
        builder: &mut Builder,
        chunk: &mut Chunk,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let page = self.page.encode(builder)?;
        let length = page.levels.len().saturating_add(page.values.len());
        let options = match self.compression {
            Compression::None => None,
            Compression::Snappy => Some(CompressionOptions::Snappy),
            Compression::Zstd => Some(CompressionOptions::Zstd(None)),
        };
        let body: [&[u8]; 2] = match options {
            None => [page.levels, page.values],
            Some(options) => {
                // The compressors abort if allocation of their tables fails.
                check_headroom("compress a page")?;
                self.uncompressed.clear();
                self.compressed.clear();
                reserve(&mut self.uncompressed, length, "compress a page")?;
                self.uncompressed.extend_from_slice(page.levels);
                self.uncompressed.extend_from_slice(page.values);
                compress(options, &self.uncompressed, &mut self.compressed)
                    .map_err(Error::internal)?;
                [&self.compressed, &[]]
            }
        };
        let stored = body.iter().map(|part| part.len()).sum();
        let header = page_header(page.count, length, stored)?;
        let header = thrift(|protocol| header.write_to_out_protocol(protocol))?;
        chunk.add(&page, header.len() + length, header.len() + stored);
        write(&header)?;
        for part in body {
            write(part)?;
        }
        builder.clear()
    }

    /// Keeps a page that holds a single text.
    fn write_text(
        &mut self,
        column: &Column,
        text: String,
        chunk: &mut Chunk,
        kept: &mut Kept,
    ) -> Result<()> {
        // PLAIN strings have a u32 length in front of the bytes.
        let levels = self.page.levels_of_one(column);
        let prefix = u32::try_from(text.len()).map_err(Error::internal)?;
        let prefix = prefix.to_le_bytes();
        let parts = [levels, &prefix, text.as_bytes()];
        let length = parts.iter().map(|part| part.len()).sum();
        let mut compressed = Vec::new();
        let stored = match self.compression {
            Compression::None => length,
            compression => {
                check_headroom("compress a page")?;
                compress_parts(compression, &parts, length, &mut compressed)?;
                compressed.len()
            }
        };
        let header = page_header(1, length, stored)?;
        let header = thrift(|protocol| header.write_to_out_protocol(protocol))?;
        chunk.add(
            &Page::of_one(levels),
            header.len() + length,
            header.len() + stored,
        );
        kept.push(&header)?;
        // Uncompressed, the text moves into the kept pages without a copy.
        if self.compression == Compression::None {
            kept.push(levels)?;
            kept.push(&prefix)?;
            kept.push_text(text);
            return Ok(());
        }
        // Release the text before the kept pages grow.
        drop(text);
        kept.push(&compressed)
    }
}

fn page_header(values: usize, uncompressed: usize, compressed: usize) -> Result<PageHeader> {
    let size = |bytes: usize| {
        i32::try_from(bytes).map_err(|_| Error::internal("a Parquet page exceeds 2 GiB"))
    };
    Ok(PageHeader {
        type_: PageType::DATA_PAGE,
        uncompressed_page_size: size(uncompressed)?,
        compressed_page_size: size(compressed)?,
        crc: None,
        data_page_header: Some(DataPageHeader {
            num_values: size(values)?,
            encoding: Encoding::PLAIN,
            definition_level_encoding: Encoding::RLE,
            repetition_level_encoding: Encoding::RLE,
            statistics: None,
        }),
        index_page_header: None,
        dictionary_page_header: None,
        data_page_header_v2: None,
    })
}

fn thrift<T>(
    write: impl FnOnce(
        &mut TCompactOutputProtocol<&mut Vec<u8>>,
    ) -> parquet_format_safe::thrift::Result<T>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut TCompactOutputProtocol::new(&mut bytes)).map_err(Error::internal)?;
    Ok(bytes)
}
