//! Extraction: from a segment to a callback, a Parquet file or an Arrow IPC file.

mod join;
mod range;
pub(crate) mod rows;
pub(crate) mod salvage;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::progress::Monitor;
#[cfg(feature = "wire")]
use crate::columnar::batches::StreamSink;
use crate::columnar::columns::{Extracted, Schema};
use crate::columnar::source::WriteOptions;
use crate::columnar::write::Output;
use crate::columnar::{check_batch_size, ColumnarFormat, Compression, DEFAULT_BATCH_SIZE};
use crate::error::{recoverable, BoxError, Error, Result};
use crate::io::atomic::{refuse_inside, AtomicFile};
use crate::io::file::{Access, IoMode};
use crate::segment::directory::{Segment, SegmentFile, SegmentFiles};
use crate::segment::header::PERSISTED_VERSION;
use crate::segment::IndexHeader;
use rows::{RowGroups, RowReader};

pub use range::RecordRange;
pub use salvage::{Salvage, SalvageSummary};

/// Options of an extraction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// The records to scan.
    pub records: RecordRange,
    /// Also emit records that are marked as deleted.
    pub include_deleted: bool,
    /// The metadata to join, which gives each record its id and sequence number. Records that
    /// are missing from it have neither.
    pub metadata: MetadataFrom,
    /// The form of the vectors.
    pub vectors: VectorForm,
    /// The I/O mode for the files of the segment.
    pub io: IoMode,
    /// Skip the damaged records of an index instead of failing.
    pub salvage: Option<Salvage>,
}

setters!(ExtractOptions {
    with_records(records: RecordRange),
    with_include_deleted(include_deleted: bool),
    with_metadata(metadata: MetadataFrom),
    with_vectors(vectors: VectorForm),
    with_io(io: IoMode),
    with_salvage(salvage: impl Into<Option<Salvage>>),
});

/// The source of the metadata that an extraction joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataFrom {
    /// `index_metadata.pickle` in the segment, if it exists. The default, as on the
    /// command line.
    ///
    /// Without that file no metadata is joined, as with [`None`](Self::None); a [`Salvage`] then
    /// reports that the file is missing.
    #[default]
    IndexDir,
    /// Another file of that format. It must exist.
    Path(PathBuf),
    /// No metadata: no record has a id or a sequence number. The default of the C ABI and of
    /// Go.
    None,
}

named_enum! {
    /// The form in which an extraction emits vectors.
    #[derive(Default)]
    pub enum VectorForm for "vectors" {
        /// As stored in the index, bit for bit. Chroma stores the vectors of a cosine collection
        /// divided by their norm.
        #[default]
        Stored = "stored",
        /// Multiplied by their norm from `length.bin`. For the cosine metric this restores the
        /// vectors that the user gave, up to rounding.
        ///
        /// Use it for cosine only: no file of an index states the metric, and with another metric
        /// `length.bin` holds junk. A missing norm is an error; a [`Salvage`] emits such a vector
        /// as stored. A vector without norm 1 is an error if a database next to the index states
        /// cosine; a salvage skips it.
        Original = "original",
    }
}

/// Options for writing a columnar file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColumnarOptions {
    /// The extraction.
    pub extract: ExtractOptions,
    /// Format of the output.
    pub format: ColumnarFormat,
    /// Maximum number of rows in a Parquet page or an Arrow record batch: 1 to 1,048,576. Memory
    /// grows with it.
    pub batch_size: usize,
    /// Compression of Parquet pages.
    pub compression: Compression,
    /// Bytes of vectors in a Parquet row group, before compression. Memory does not depend on it.
    pub row_group_bytes: u64,
}

impl Default for ColumnarOptions {
    fn default() -> Self {
        Self {
            extract: ExtractOptions::default(),
            format: ColumnarFormat::default(),
            batch_size: DEFAULT_BATCH_SIZE,
            compression: Compression::default(),
            // 64 MiB.
            row_group_bytes: 64 << 20,
        }
    }
}

setters!(ColumnarOptions {
    with_extract(extract: ExtractOptions),
    with_format(format: ColumnarFormat),
    with_batch_size(batch_size: usize),
    with_compression(compression: Compression),
    with_row_group_bytes(row_group_bytes: u64),
});

impl ColumnarOptions {
    fn validate(&self) -> Result<()> {
        check_batch_size(self.batch_size)?;
        if self.row_group_bytes == 0 {
            return Err(Error::argument("row_group_bytes", 0, "at least 1"));
        }
        if self.format == ColumnarFormat::ArrowIpc && self.compression != Compression::None {
            return Err(Error::argument(
                "compression",
                self.compression,
                "none, because only Parquet is compressed",
            ));
        }
        Ok(())
    }
}

/// One record of an index, borrowed from the mapped file.
///
/// Not `#[non_exhaustive]`, so that callers can construct records to test their callbacks. The
/// fields are the six columns, which are fixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Position of the record in the index.
    pub internal_id: u64,
    /// hnswlib's label.
    pub label: u64,
    /// True if the record is marked as deleted.
    pub deleted: bool,
    /// Chroma's id of the record, if metadata is joined and has one. It is copied from the file,
    /// which may change at any time, because a `str` must not change.
    pub user_id: Option<&'a str>,
    /// The sequence number of the last write, if metadata is joined and has one.
    pub seq_id: Option<u64>,
    /// The components of the vector, in the form that [`ExtractOptions::vectors`] selects.
    pub vector: &'a [f32],
}

/// The result of an extraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtractSummary {
    /// Records scanned.
    pub scanned: u64,
    /// Rows written, or records passed to the callback.
    pub emitted: u64,
    /// Records left out because they are deleted.
    pub deleted_skipped: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Properties of the index.
    pub index_properties: IndexProperties,
    /// The agreement of metadata and records; absent if no metadata was joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JoinSummary>,
    /// The records skipped by a salvage; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salvage: Option<SalvageSummary>,
}

impl ExtractSummary {
    /// Returns false if a salvage skipped, missed or wrote damaged data, or lost ids. Without a
    /// salvage, damage is an error instead.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Some(salvage) = &self.salvage else {
            return true;
        };
        // Labels without a record only count as lost if all records were scanned: otherwise another
        // part may have them.
        let is_whole = salvage.counted_records == Some(self.scanned);
        let lost_labels = self.metadata.map_or(0, |join| join.labels_without_record);
        salvage.is_complete() && !(is_whole && lost_labels > 0)
    }
}

/// The agreement of an index's metadata with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JoinSummary {
    /// Emitted rows whose label has a id.
    pub rows_with_user_id: u64,
    /// Labels of the metadata that no scanned live record has.
    pub labels_without_record: u64,
    /// The last sequence number that the index has seen. Later writes are only in Chroma's queue.
    /// Absent if the metadata does not state it.
    pub max_seq_id: Option<u64>,
}

/// Properties of an index, as reported by a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IndexProperties {
    /// The parameter M.
    pub m: u64,
    /// The parameter ef_construction.
    pub ef_construction: u64,
    /// Records stored, including deleted ones.
    pub cur_element_count: u64,
    /// Capacity, in records.
    pub max_elements: u64,
    /// Version of the persisted format.
    pub persisted_version: i32,
    /// Size in bytes of `size_t` on the machine that wrote the index.
    pub word_size_bytes: u8,
}

impl From<&IndexHeader> for IndexProperties {
    fn from(header: &IndexHeader) -> Self {
        Self {
            m: header.m,
            ef_construction: header.ef_construction,
            cur_element_count: header.cur_element_count,
            max_elements: header.max_elements,
            persisted_version: header.persisted_version,
            word_size_bytes: header.word_size_bytes,
        }
    }
}

impl IndexProperties {
    fn of(segment: &Segment) -> Self {
        match segment.header() {
            Some(header) => header.into(),
            // Without a header only the given shape is known.
            None => Self {
                m: (segment.layout().max_m0() / 2) as u64,
                ef_construction: 0,
                cur_element_count: 0,
                max_elements: 0,
                persisted_version: PERSISTED_VERSION,
                word_size_bytes: segment.layout().label_size(),
            },
        }
    }
}

/// Opens all files of an extraction before reading any, so that they show the same state of the
/// index.
pub(crate) fn open_segment(
    index_dir: &Path,
    options: &ExtractOptions,
    access: impl Into<Access>,
) -> Result<Segment> {
    let (shape, access) = match options.salvage {
        Some(salvage) => (Some(salvage.shape()?), access.into().past_bad_sectors()),
        None => (None, access.into()),
    };
    let mut files = SegmentFiles::new(index_dir, access)?;
    if let MetadataFrom::Path(path) = &options.metadata {
        files = files.with_metadata_at(path);
    }
    let segment = match shape {
        None => Segment::of(files)?,
        Some(shape) => Segment::of_damaged(files, shape)?,
    };
    let files = segment.files();
    let metadata = match options.metadata {
        MetadataFrom::None => None,
        MetadataFrom::Path(_) => Some(&files.metadata),
        // `is_listed` is also true for a dangling link, which is an error: ids must not be left out
        // silently.
        MetadataFrom::IndexDir => Some(&files.metadata).filter(|file| file.is_listed()),
    };
    match metadata.map(SegmentFile::require) {
        Some(Err(error)) if options.salvage.is_none() => return Err(error),
        // The salvage reports the damage when it reads the file.
        Some(Err(error)) => recoverable(error).map(drop)?,
        _ => {}
    }
    if options.vectors == VectorForm::Original && options.salvage.is_none() {
        files.norms.require()?;
    }
    Ok(segment)
}

fn summary(segment: &Segment, rows: &RowReader<'_>) -> Result<ExtractSummary> {
    Ok(ExtractSummary {
        scanned: rows.scanned(),
        emitted: rows.emitted(),
        deleted_skipped: rows.deleted_skipped(),
        dimension: segment.layout().dimension(),
        index_properties: IndexProperties::of(segment),
        metadata: rows.join_summary(),
        salvage: rows.salvage_summary(segment)?,
    })
}

/// Key-value metadata of the output.
fn metadata(segment: &Segment) -> Vec<(String, String)> {
    let pair = |key: &str, value: String| (format!("hnsw_toolbox.{key}"), value);
    let properties = IndexProperties::of(segment);
    vec![
        pair("version", env!("CARGO_PKG_VERSION").to_string()),
        pair("dimension", segment.layout().dimension().to_string()),
        pair("m", properties.m.to_string()),
        pair("ef_construction", properties.ef_construction.to_string()),
        pair(
            "cur_element_count",
            properties.cur_element_count.to_string(),
        ),
        pair("max_elements", properties.max_elements.to_string()),
    ]
}

/// Streams the records of an index, in internal-id order, to `on_record`.
///
/// Memory does not depend on the size of the index: records are borrowed from a window of the
/// mapped file. There are two exceptions:
///
/// - A [`Salvage`] keeps a bit for each label if labels are dense, as Chroma's are, or else 12
///   bytes for each record. With duplicate labels it also keeps a bit for each record.
/// - Metadata takes 24 bytes for each of its ids, and up to 48 while it is read.
///
/// The callback stops early with [`ControlFlow::Break`]. The summary then counts the records passed
/// to it so far, including the last one.
///
/// # Errors
///
/// [`ErrorKind::Callback`](crate::ErrorKind::Callback) with the callback's own error,
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and errors for an index that cannot be
/// read. If the index changes while it is read, the error comes at the end, after records were
/// passed on.
pub fn extract_index<F>(
    index_dir: impl AsRef<Path>,
    options: &ExtractOptions,
    monitor: &Monitor<'_>,
    on_record: F,
) -> Result<ExtractSummary>
where
    F: FnMut(Record<'_>) -> Result<ControlFlow<()>, BoxError>,
{
    let segment = open_segment(index_dir.as_ref(), options, options.io)?;
    extract_segment(&segment, options, monitor, on_record)
}

/// Streams the records of a segment that was [opened](open_segment) with the same options.
pub(crate) fn extract_segment<F>(
    segment: &Segment,
    options: &ExtractOptions,
    monitor: &Monitor<'_>,
    on_record: F,
) -> Result<ExtractSummary>
where
    F: FnMut(Record<'_>) -> Result<ControlFlow<()>, BoxError>,
{
    let mut rows = RowReader::new(segment, options, monitor)?;
    rows.for_each(monitor, on_record)?;
    segment.files().check_unchanged()?;
    summary(segment, &rows)
}

/// Writes the records of an index, in internal-id order, to a Parquet or Arrow IPC file.
///
/// The output is written atomically: an existing file is replaced only when the new one is
/// complete. Memory is the same as for [`extract_index`], plus a page or record batch and the
/// labels of a row group.
///
/// # Errors
///
/// When the index cannot be read or changes while it is read, when the output cannot be written,
/// when an option is out of range, and when the work is cancelled
/// ([`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)).
pub fn extract_index_to_columnar(
    index_dir: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractSummary> {
    options.validate()?;
    let output = output.as_ref();
    let extract = &options.extract;
    let segment = open_segment(index_dir.as_ref(), extract, extract.io)?;
    if extract.salvage.is_some() {
        refuse_inside(output, segment.files().dir())?;
    }
    let protected = segment.files().protected();
    protected.check(output)?;
    let mut rows = RowReader::new(&segment, extract, monitor)?;

    let mut file = AtomicFile::create(output, protected)?;
    let summary = transfer(&segment, &mut rows, (&mut file).into(), options, monitor)?;
    file.commit()?;
    Ok(summary)
}

/// Passes the records of an index, in internal-id order, to `sink`, in the same record batches as
/// an Arrow IPC file.
#[cfg(feature = "wire")]
pub(crate) fn extract_index_to_batches(
    index_dir: &Path,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
    sink: &mut dyn StreamSink,
) -> Result<ExtractSummary> {
    options.validate()?;
    let segment = open_segment(index_dir, &options.extract, options.extract.io)?;
    let mut rows = RowReader::new(&segment, &options.extract, monitor)?;
    transfer(&segment, &mut rows, Output::Batches(sink), options, monitor)
}

/// Writes all rows and returns the summary.
fn transfer(
    segment: &Segment,
    rows: &mut RowReader<'_>,
    output: Output<'_>,
    options: &ColumnarOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractSummary> {
    let schema = Schema {
        columns: Extracted::columns(segment.layout().dimension()),
        metadata: metadata(segment),
    };
    let write_options = WriteOptions {
        format: options.format,
        compression: options.compression,
        batch_size: options.batch_size,
        row_group_bytes: options.row_group_bytes,
    };
    let mut groups = RowGroups::new(rows, monitor);
    crate::columnar::write::write(output, &schema, &write_options, &mut groups)?;
    segment.files().check_unchanged()?;
    // Progress so far ends at the last row; deleted records may follow it.
    monitor.advance(rows.scanned(), rows.total())?;
    summary(segment, rows)
}
