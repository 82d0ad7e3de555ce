//! Index directory → callback, Parquet, Arrow IPC.

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

/// What is extracted, and how the index is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// Which records are looked at.
    pub records: RecordRange,
    /// Emit records that are marked as deleted, too.
    pub include_deleted: bool,
    /// The metadata to join, for the user id and the sequence number of each record. Records that
    /// it does not know have neither.
    pub metadata: MetadataFrom,
    /// Which vectors are emitted.
    pub vectors: VectorForm,
    /// How the index files are read.
    pub io: IoMode,
    /// Save what can be saved of a damaged index, rather than fail.
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

/// Where the metadata comes from that an extraction joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataFrom {
    /// `index_metadata.pickle` in the index directory, if it exists. The default, as on the
    /// command line.
    ///
    /// Without that file no metadata is joined, as with [`None`](Self::None); a [`Salvage`] then
    /// reports that the file is missing.
    #[default]
    IndexDir,
    /// A file of that format anywhere. It must exist.
    Path(PathBuf),
    /// Nowhere: no record has a user id or a sequence number. The default of the C ABI and of Go.
    None,
}

named_enum! {
    /// Which vectors an extraction emits.
    #[derive(Default)]
    pub enum VectorForm for "vectors" {
        /// As the index holds them, bit for bit. Chroma holds vectors of a cosine collection
        /// divided by their norm.
        #[default]
        Stored = "stored",
        /// Multiplied by their norm from `length.bin`: what the user gave, up to rounding, if the
        /// collection has the cosine metric. No file of an index says which metric it has, and
        /// with another one `length.bin` holds junk. A missing norm is an error, and so is a vector
        /// that does not have norm 1, if a database next to the index says cosine. A [`Salvage`]
        /// leaves out the second and writes the first as it is stored.
        Original = "original",
    }
}

/// How a columnar file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ColumnarOptions {
    /// What is extracted.
    pub extract: ExtractOptions,
    /// Format of the output.
    pub format: ColumnarFormat,
    /// Most rows in a Parquet page or an Arrow record batch: 1 to 1,048,576. Memory is
    /// proportional to it.
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
                "none, as only Parquet is compressed",
            ));
        }
        Ok(())
    }
}

/// One element of an index, borrowed from the mapped file.
///
/// Not `#[non_exhaustive]`, so that callers can make records to test their callbacks with. Its
/// fields are the six columns, which are fixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Position of the element in the index.
    pub internal_id: u64,
    /// hnswlib's label.
    pub label: u64,
    /// Whether it is marked as deleted.
    pub deleted: bool,
    /// The id that users know, when metadata is joined and has one. A copy: the file that it is
    /// from may change at any time, and a `str` must not.
    pub user_id: Option<&'a str>,
    /// The sequence number of the last write, when metadata is joined and has one.
    pub seq_id: Option<u64>,
    /// The vector's components: bit for bit as the index holds them, or scaled back, as
    /// [`ExtractOptions::vectors`] asks.
    pub vector: &'a [f32],
}

/// What an extraction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtractSummary {
    /// Records looked at.
    pub scanned: u64,
    /// Rows written, or records handed to the callback.
    pub emitted: u64,
    /// Records left out because they are deleted.
    pub deleted_skipped: u64,
    /// Components of each vector.
    pub dimension: usize,
    /// Properties of the index.
    pub index_properties: IndexProperties,
    /// How the metadata and the records fit; absent when no metadata was joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JoinSummary>,
    /// What was left out of a damaged index; absent when it was not to be salvaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salvage: Option<SalvageSummary>,
}

impl ExtractSummary {
    /// False if a salvage missed something. An extraction without one fails at damage instead.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Some(salvage) = &self.salvage else {
            return true;
        };
        // The labels that a part lacks belong to the others.
        let is_whole = salvage.counted_records == Some(self.scanned);
        let lost_labels = self.metadata.map_or(0, |join| join.labels_without_record);
        salvage.is_complete() && !(is_whole && lost_labels > 0)
    }
}

/// How an index's metadata and its records fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JoinSummary {
    /// Emitted rows whose label has a user id.
    pub rows_with_user_id: u64,
    /// Labels of the metadata that no live record scanned has.
    pub labels_without_record: u64,
    /// The last sequence number that the index has seen: later writes are in Chroma's write-ahead
    /// log only. Absent where the metadata does not say.
    pub max_seq_id: Option<u64>,
}

/// The properties of an index that a summary reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IndexProperties {
    /// The parameter M.
    pub m: u64,
    /// The parameter ef_construction.
    pub ef_construction: u64,
    /// Elements stored, deleted ones included.
    pub cur_element_count: u64,
    /// Capacity, in elements.
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
            // What is known of an index that is salvaged without its header.
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

/// Opens the files that an extraction reads, before any of them is read, so that they are of one
/// state of the index.
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
        // A dangling link is no reason to leave the ids out in silence.
        MetadataFrom::IndexDir => Some(&files.metadata).filter(|file| file.is_listed()),
    };
    match metadata.map(SegmentFile::require) {
        Some(Err(error)) if options.salvage.is_none() => return Err(error),
        // Damage is reported when the file is to be read.
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
/// mapped file. What grows with it: a [`Salvage`] keeps a bit for each label when labels are dense,
/// as Chroma's are, else 12 bytes for each record, and with duplicate labels a bit for each record;
/// with metadata, 24 bytes for each of its ids are kept, and up to 48 while it is read.
///
/// The callback stops early with [`ControlFlow::Break`]; the summary then counts what was handed
/// out so far, the last record included.
///
/// # Errors
///
/// [`Error::Callback`] with the callback's own error, [`Error::Cancelled`], and those of an index
/// that cannot be read. When the index changed in the meantime the error comes at the end, after
/// records were handed out.
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
/// The output appears at `output` whole, or not at all, and then what was there before is
/// untouched. Memory is that of [`extract_index`], and what a page or record batch and the labels
/// of a row group take.
///
/// # Errors
///
/// Those of an index that cannot be read or changed while it was read, of an output that cannot be
/// written, of options out of range, and [`Error::Cancelled`].
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

/// Gives the records of an index, in internal-id order, to `sink`, in the record batches that an
/// Arrow IPC file of them would have.
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

/// Writes all rows, and sums up.
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
    // Deleted records after the last row, and an empty index, have not been reported.
    monitor.advance(rows.scanned(), rows.total())?;
    summary(segment, rows)
}
