//! Export of a persist directory: a file for each collection, and a manifest.

mod metadata_columns;
mod names;
mod sha256;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::metadata_columns::MetadataColumns;
use self::sha256::Hash;
use crate::base::bits::Bits;
use crate::base::path::display_path;
use crate::base::progress::Monitor;
#[cfg(feature = "wire")]
use crate::columnar::batches::StreamSink;
use crate::columnar::columns::{self, Column, ColumnType, ElementType, Schema, Value};
use crate::columnar::source::WriteOptions;
use crate::columnar::write::{Output, TableWriter, LARGE_TEXT_BYTES};
use crate::columnar::{check_batch_size, ColumnarFormat, Compression};
use crate::error::{Error, Result};
use crate::io::atomic::{refuse_inside, AtomicFile};
use crate::io::permissions::Sharing;
use crate::io::protected::Protected;
use crate::io::temporary::TemporaryDirectory;
use crate::segment::file_name;
use crate::store::catalog::{self as store, Collection, SpaceSource, StatedConfiguration};
use crate::store::collection::{Findings, Form, Given, Origin, Outcome, Plan, Row};
use crate::verbs::collections::{
    choose_old, has_loss, state, state_of_old, CollectionFilter, CollectionFinding,
    CollectionMetadata, CollectionState, Persist,
};
use crate::verbs::extract::{Salvage, VectorForm};
use crate::verbs::old::{OldCollection, OldStore};
use crate::verbs::repair::Space;

/// Name of the manifest in an output directory.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Rows between two progress reports.
const ROWS_PER_REPORT: u64 = 512;

/// Up to this many files are synced individually. More are synced together at the end.
const MAX_SYNCED_FILES: usize = 64;

/// Options of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The collections; all by default.
    pub filter: CollectionFilter,
    /// Format of the files.
    pub format: ColumnarFormat,
    /// The form of the vectors, both from the index and from the queue. By default as given to
    /// Chroma, which stores the vectors of cosine collections divided by their norm.
    pub vectors: VectorForm,
    /// The form of metadata.
    pub metadata: MetadataForm,
    /// Also write the columns `internal_id`, `label` and `seq_id`.
    pub index_columns: bool,
    /// Maximum number of rows in a Parquet page or an Arrow record batch: 1 to 1,048,576.
    pub batch_size: usize,
    /// Compression of Parquet pages.
    pub compression: Compression,
    /// Dimension and m for collections whose `header.bin` is lost, if neither the database nor
    /// another file states them.
    pub salvage: Salvage,
    /// The metric for collections whose metric the database does not state.
    pub metric: Option<Space>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            filter: CollectionFilter::default(),
            format: ColumnarFormat::default(),
            vectors: VectorForm::Original,
            metadata: MetadataForm::default(),
            index_columns: false,
            batch_size: 1024,
            compression: Compression::default(),
            salvage: Salvage::default(),
            metric: None,
        }
    }
}

setters!(ExportOptions {
    with_filter(filter: CollectionFilter),
    with_format(format: ColumnarFormat),
    with_vectors(vectors: VectorForm),
    with_metadata(metadata: MetadataForm),
    with_index_columns(index_columns: bool),
    with_batch_size(batch_size: usize),
    with_compression(compression: Compression),
    with_salvage(salvage: Salvage),
    with_metric(metric: impl Into<Option<Space>>),
});

impl ExportOptions {
    fn validate(&self) -> Result<()> {
        self.salvage.shape()?;
        check_batch_size(self.batch_size)?;
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

named_enum! {
    /// The form in which the metadata of records is written.
    #[derive(Default)]
    pub enum MetadataForm for "metadata" {
        /// One column `metadata` with a JSON object for each record that has any.
        #[default]
        Json = "json",
        /// A column `metadata.<key>` for each key. Its type is the type of the values, or JSON if
        /// their types differ.
        Columns = "columns",
    }
}

/// The result of an export.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExportSummary {
    /// Version of this library.
    pub hnsw_toolbox: &'static str,
    /// The persist directory. In JSON, bytes that are not UTF-8 are escaped.
    #[serde(serialize_with = "escaped_path")]
    pub persist_dir: PathBuf,
    /// The version of each part of the schema of `chroma.sqlite3`.
    pub chroma_schema: BTreeMap<String, i64>,
    /// The SQLite rollback journal or write-ahead log that was replayed, in a copy, to read the
    /// database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<&'static str>,
    /// The form of metadata.
    pub metadata: MetadataForm,
    /// Rows of all files.
    pub rows: u64,
    /// The files, by tenant, database and name of the collection.
    pub files: Vec<ExportedFile>,
    /// Findings about the database as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<CollectionFinding>,
}

/// Serialises a path, with bytes that are not UTF-8 escaped. The manifest is written last, and must
/// not fail because of a path when all else is done.
pub(crate) fn escaped_path<S: serde::Serializer>(
    path: &Path,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(path) => serializer.serialize_str(path),
        None => serializer.collect_str(&display_path(path)),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the form that serde calls
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ExportSummary {
    /// Returns true if no record, vector or text of the collections is missing or damaged.
    ///
    /// A damaged index whose vectors are all in the queue is no loss.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_whole = |file: &ExportedFile| file.without_vector == 0 && !has_loss(&file.findings);
        self.files.iter().all(is_whole) && !has_loss(&self.findings)
    }
}

/// An exported file, and its collection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExportedFile {
    /// Name of the file.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The tenant.
    pub tenant: String,
    /// The database, in Chroma's sense.
    pub database: String,
    /// The name of the collection.
    pub collection: String,
    /// The id of the collection.
    pub collection_id: String,
    /// The directory of its index in the persist directory.
    pub segment_id: Option<String>,
    /// The metric of its index: `l2`, `cosine` or `ip`.
    pub metric: &'static str,
    /// The source of the metric.
    pub metric_source: &'static str,
    /// Components of each vector; absent if there are no vectors.
    pub dimension: Option<usize>,
    /// Links per record of its index, if the database states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub m: Option<u64>,
    /// Candidates for the links of a record, if the database states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ef_construction: Option<u64>,
    /// Its configuration, as the table `collections` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_json_str: Option<String>,
    /// Its schema, as the table `collections` of Chroma 1.3 and later has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_str: Option<String>,
    /// The form of the vectors.
    pub vectors: VectorForm,
    /// Rows: the records of the collection.
    pub rows: u64,
    /// Rows whose vector is from the index.
    pub vectors_from_index: u64,
    /// Rows whose vector is from the queue.
    pub vectors_from_log: u64,
    /// Rows whose vector is from elsewhere: another directory, such as a quarantined copy of the
    /// segment, or the Parquet file of Chroma 0.3.
    #[serde(skip_serializing_if = "is_zero")]
    pub vectors_from_elsewhere: u64,
    /// Rows without a vector.
    pub without_vector: u64,
    /// The ids of the first hundred rows without a vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_ids_without_vector: Vec<String>,
    /// The sequence number of the last write that the index holds.
    pub watermark: Option<u64>,
    /// Metadata columns that hold JSON, because the values of their keys have different types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub json_columns: Vec<String>,
    /// The state of the collection.
    pub state: CollectionState,
    /// The collection's own metadata, set by the user.
    pub collection_metadata: CollectionMetadata,
    /// The findings reported with the collection.
    pub findings: Vec<CollectionFinding>,
}

/// Writes one collection of a persist directory to the file `output`.
///
/// Like [`export_collections`], but exactly one collection must have the name. If several do,
/// `options` selects its database and tenant.
///
/// # Errors
///
/// The same as for [`export_collections`].
pub fn export_collection(
    persist_dir: impl AsRef<Path>,
    name: &str,
    output: impl AsRef<Path>,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<ExportSummary> {
    let mut options = options.clone();
    options.filter.names = vec![name.to_string()];
    options.validate()?;
    let store = Store::open(persist_dir.as_ref(), monitor)?;
    Exporter::new(&store, &options, monitor)?.export_file(output.as_ref())
}

/// Writes each collection of a persist directory to a file. The directory has `chroma.sqlite3`, or
/// the two Parquet files of Chroma 0.3, whose vectors have one form only.
///
/// `output` is a directory that is created atomically. It must not exist, or be empty. It gets a
/// file `<name>.parquet` or `<name>.arrow` for each collection, and `manifest.json`, which is the
/// summary. If a name is unsafe as a file name, or used in several databases, the collection's id
/// is appended.
///
/// If `output` has the extension of a file format and is not a directory, it is a single file for a
/// single collection, without a manifest.
///
/// | column | Arrow type | |
/// |---|---|---|
/// | `id` | Utf8 | never null |
/// | `vector` | FixedSizeList of Float32 | null if the vector is lost; a variable-size list if no dimension is known |
/// | `document`, `uri` | Utf8 | |
/// | `metadata` | Utf8 | a JSON object: keys sorted, integers exact, infinities as strings; null for no metadata |
/// | `metadata.<key>` | Int64, Float64, Boolean, Utf8, or a list of one of them | replaces `metadata` with [`MetadataForm::Columns`]; JSON in a Utf8 if types differ |
/// | `internal_id`, `label`, `seq_id` | UInt64 | with [`index_columns`](ExportOptions::index_columns); the first two are null if the vector is from the queue |
///
/// Rows are in the order in which records were first added. The persist directory is never written
/// to; see [`list_collections`](crate::list_collections) for details, and for memory.
///
/// # Errors
///
/// The same as for [`list_collections`](crate::list_collections),
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name that no collection
/// has, and errors for an output that cannot be written.
pub fn export_collections(
    persist_dir: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
) -> Result<ExportSummary> {
    options.validate()?;
    let output = output.as_ref();
    let store = Store::open(persist_dir.as_ref(), monitor)?;
    let exporter = Exporter::new(&store, options, monitor)?;
    // An existing directory may have such an extension in its name.
    if ColumnarFormat::from_extension(output).is_some() && !output.is_dir() {
        exporter.export_file(output)
    } else {
        exporter.export_directory(output)
    }
}

/// Passes the rows of one collection to `sink`, in the same record batches as an Arrow IPC file.
/// The file name, length and hash in the summary are empty.
#[cfg(feature = "wire")]
pub(crate) fn export_collection_to_batches(
    persist_dir: &Path,
    options: &ExportOptions,
    monitor: &Monitor<'_>,
    sink: &mut dyn StreamSink,
) -> Result<ExportSummary> {
    options.validate()?;
    let store = Store::open(persist_dir, monitor)?;
    Exporter::new(&store, options, monitor)?.export_batches(sink)
}

/// Writes the selected rows of some collections to a directory. A row is selected by its number in
/// the order of [`Plan::for_each`].
pub(crate) fn export_rows<'e>(
    persist: &'e Persist<'e>,
    selected: Vec<(Origin<'e>, Bits)>,
    output: &Path,
    monitor: &'e Monitor<'e>,
) -> Result<ExportSummary> {
    let options = ExportOptions::default();
    let (chosen, rows): (Vec<_>, Vec<_>) = selected.into_iter().unzip();
    Exporter {
        store: StoreRef::Chroma(persist),
        sharing: persist.sharing(&chosen),
        chosen: chosen.into_iter().map(Chosen::Chroma).collect(),
        rows: Some(rows),
        options: &options,
        monitor,
        done: 0,
        total: 0,
    }
    .export_directory(output)
}

/// The persist directory of an export.
enum Store<'e> {
    Chroma(Box<Persist<'e>>),
    /// Of Chroma 0.3.
    Old(OldStore),
}

impl<'e> Store<'e> {
    fn open(dir: &'e Path, monitor: &Monitor<'_>) -> Result<Self> {
        Ok(match OldStore::is_in(dir) {
            true => Self::Old(OldStore::open(dir, monitor)?),
            false => Self::Chroma(Box::new(Persist::open(dir, monitor)?)),
        })
    }

    fn get(&self) -> StoreRef<'_> {
        match self {
            Self::Chroma(persist) => StoreRef::Chroma(persist),
            Self::Old(store) => StoreRef::Old(store),
        }
    }
}

#[derive(Clone, Copy)]
enum StoreRef<'e> {
    Chroma(&'e Persist<'e>),
    Old(&'e OldStore),
}

/// A collection of the persist directory.
#[derive(Clone, Copy)]
enum Chosen<'e> {
    Chroma(Origin<'e>),
    Old(&'e OldStore, &'e OldCollection),
}

impl<'e> Chosen<'e> {
    fn collection(self) -> &'e Collection {
        match self {
            Self::Chroma(origin) => origin.collection,
            Self::Old(_, old) => &old.collection,
        }
    }
}

struct Exporter<'e> {
    store: StoreRef<'e>,
    chosen: Vec<Chosen<'e>>,
    /// The rows of each collection to write, by number; all if `None`.
    rows: Option<Vec<Bits>>,
    options: &'e ExportOptions,
    monitor: &'e Monitor<'e>,
    /// Permissions of the group and of others for all outputs.
    sharing: Sharing,
    /// Progress: rows of the files written so far, and of all files according to the database.
    done: u64,
    total: u64,
}

impl<'e> Exporter<'e> {
    fn new(
        store: &'e Store<'e>,
        options: &'e ExportOptions,
        monitor: &'e Monitor<'e>,
    ) -> Result<Self> {
        let given = Given {
            dimension: options.salvage.dimension,
            m: options.salvage.m,
            space: options.metric.map(Into::into),
        };
        let store = store.get();
        // For progress only: without records that only the queue has.
        let mut total = 0;
        let (chosen, sharing) = match store {
            StoreRef::Chroma(persist) => {
                let origins = persist.choose(&options.filter)?.into_iter();
                let chosen: Vec<_> = origins.map(|origin| origin.with_given(given)).collect();
                for origin in &chosen {
                    if let Some(segment) = &origin.collection.metadata_segment {
                        total += persist.database.record_count(&segment.id, monitor)?;
                    }
                }
                let sharing = persist.sharing(&chosen);
                (chosen.into_iter().map(Chosen::Chroma).collect(), sharing)
            }
            StoreRef::Old(store) => {
                let chosen = choose_old(store, &options.filter)?;
                total += chosen.iter().map(|old| old.records).sum::<u64>();
                let chosen = chosen.into_iter().map(|old| Chosen::Old(store, old));
                (chosen.collect(), store.sharing())
            }
        };
        Ok(Self {
            store,
            sharing,
            chosen,
            rows: None,
            options,
            monitor,
            done: 0,
            total,
        })
    }

    fn dir(&self) -> &'e Path {
        match self.store {
            StoreRef::Chroma(persist) => persist.dir,
            StoreRef::Old(store) => &store.dir,
        }
    }

    /// Fails if a database has changed since it was opened. Other files are checked after their rows.
    fn check_unchanged(&self) -> Result<()> {
        match self.store {
            StoreRef::Chroma(persist) => persist.database.check_unchanged(),
            StoreRef::Old(_) => Ok(()),
        }
    }

    fn chroma_schema(&self) -> BTreeMap<String, i64> {
        match self.store {
            StoreRef::Chroma(persist) => persist.catalog.schema.clone(),
            StoreRef::Old(_) => BTreeMap::new(),
        }
    }

    /// Returns the chosen collection. Fails unless there is exactly one.
    fn only(&self) -> Result<Chosen<'e>> {
        match self.chosen.as_slice() {
            [chosen] => Ok(*chosen),
            several => {
                // Bounds the length of the message.
                let places = several.iter().take(20).map(|chosen| {
                    let collection = chosen.collection();
                    format!(
                        "{} (database {}, tenant {})",
                        collection.name, collection.database, collection.tenant
                    )
                });
                Err(Error::argument(
                    "collection",
                    match several.len() {
                        0 => "no collection".to_string(),
                        count => format!(
                            "{count} collections: {}",
                            places.collect::<Vec<_>>().join(", ")
                        ),
                    },
                    "one collection, because there is one output",
                ))
            }
        }
    }

    fn export_file(mut self, output: &Path) -> Result<ExportSummary> {
        let chosen = self.only()?;
        refuse_inside(output, self.dir())?;
        let (file, exported) = self.write(chosen, None, output)?;
        self.check_unchanged()?;
        file.commit()?;
        Ok(self.summary(vec![exported]))
    }

    fn export_directory(mut self, output: &Path) -> Result<ExportSummary> {
        let output = usable_directory(output)?;
        refuse_inside(&output.join(MANIFEST), self.dir())?;
        // A relative path of one component has the parent "".
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(Error::io(parent, "create the directory"))?;
        // Next to the output, so that renaming it is atomic.
        let directory = TemporaryDirectory::create(parent, self.sharing)?;
        let chosen = self.chosen.clone();
        // Each sync takes the disk milliseconds.
        let syncs_each = chosen.len() <= MAX_SYNCED_FILES;
        let collections: Vec<_> = chosen.iter().map(|chosen| chosen.collection()).collect();
        let mut files = Vec::new();
        let selections = self.rows.take().unwrap_or_default();
        let mut selections = selections.iter();
        for (chosen, name) in chosen.iter().zip(names::of_files(&collections)) {
            self.monitor.begin_part(&chosen.collection().name);
            let extension = match self.options.format {
                ColumnarFormat::ArrowIpc => "arrow",
                _ => "parquet",
            };
            let name = format!("{name}.{extension}");
            let file = AtomicFile::create_within(&directory, &name, self.protected())?;
            let (file, exported) = self.write_file(*chosen, selections.next(), file)?;
            match syncs_each {
                true => file.commit()?,
                false => file.commit_unsynced()?,
            }
            files.push(exported);
        }
        if !syncs_each {
            directory.sync_all()?;
        }
        // After the files, because it has their lengths and hashes.
        let summary = self.summary(files);
        let manifest_path = directory.path().join(MANIFEST);
        let mut manifest = AtomicFile::create(&manifest_path, self.protected())?;
        serde_json::to_writer_pretty(&mut manifest, &summary)
            .map_err(std::io::Error::from)
            .and_then(|()| manifest.write_all(b"\n"))
            .map_err(|error| manifest.write_error(error))?;
        manifest.commit()?;
        self.check_unchanged()?;
        directory.rename_to(&output)?;
        Ok(summary)
    }

    /// Returns the paths that no output may replace.
    fn protected(&self) -> Protected {
        let protected = Protected::names(file_name::PROTECTED).with_sharing(self.sharing);
        match self.store {
            StoreRef::Chroma(persist) => protected.and_input(persist.database.path()),
            StoreRef::Old(store) => store
                .files()
                .into_iter()
                .fold(protected, Protected::and_input),
        }
    }

    fn summary(&self, files: Vec<ExportedFile>) -> ExportSummary {
        ExportSummary {
            hnsw_toolbox: env!("CARGO_PKG_VERSION"),
            persist_dir: self.dir().to_path_buf(),
            chroma_schema: self.chroma_schema(),
            replayed: match self.store {
                StoreRef::Chroma(persist) => persist.database.replayed(),
                StoreRef::Old(_) => None,
            },
            metadata: self.options.metadata,
            rows: files.iter().map(|file| file.rows).sum(),
            files,
            findings: match self.store {
                StoreRef::Chroma(persist) => persist.findings(),
                StoreRef::Old(store) => store.findings(),
            },
        }
    }

    #[cfg(feature = "wire")]
    fn export_batches(mut self, sink: &mut dyn StreamSink) -> Result<ExportSummary> {
        let table = self.table(self.only()?)?;
        let outcome = self.transfer(&table, None, Output::Batches(sink))?;
        table.rows.check_unchanged()?;
        self.check_unchanged()?;
        let exported = table.exported(outcome, FileWritten::default());
        Ok(self.summary(vec![exported]))
    }

    /// Plans the export of a collection.
    fn table(&self, chosen: Chosen<'e>) -> Result<CollectionTable<'e>> {
        let collection = chosen.collection();
        let (rows, stated) = match chosen {
            Chosen::Chroma(origin) => (
                Rows::Chroma(origin, Box::new(Plan::new(origin, self.monitor)?)),
                StatedConfiguration::read(origin.database, collection, self.monitor)?,
            ),
            Chosen::Old(store, old) => (Rows::Old(store, old), StatedConfiguration::default()),
        };
        let space = rows.space(self.options.metric);
        let vectors = match &rows {
            Rows::Chroma(..) => self.options.vectors,
            // No index holds them in another form.
            Rows::Old(..) => VectorForm::Original,
        };
        let metadata = match self.options.metadata {
            MetadataForm::Json => None,
            MetadataForm::Columns => Some(MetadataColumns::survey(&collection.name, |visit| {
                rows.for_each(Form::None, self.monitor, visit)
            })?),
        };
        Ok(CollectionTable {
            schema: self.schema(
                collection,
                (space.0, rows.dimension()),
                &stated,
                vectors,
                metadata.as_ref(),
            ),
            stated,
            collection,
            rows,
            space,
            vectors,
            metadata,
        })
    }

    /// Writes the rows of a collection.
    fn transfer(
        &mut self,
        table: &CollectionTable<'_>,
        selection: Option<&Bits>,
        output: Output<'_>,
    ) -> Result<Outcome> {
        let options = WriteOptions {
            format: self.options.format,
            compression: self.options.compression,
            batch_size: self.options.batch_size,
            ..WriteOptions::default()
        };
        let mut writer = RowWriter {
            table: TableWriter::new(output, &table.schema, &options)?,
            metadata: table.metadata.as_ref(),
            index_columns: self.options.index_columns,
            json: String::new(),
        };
        let (before, total, monitor) = (self.done, self.total, self.monitor);
        let mut rows = 0_u64;
        let form = match table.vectors {
            VectorForm::Original => Form::Original,
            VectorForm::Stored => Form::Stored,
        };
        let (mut number, mut selected) = (0_u64, Outcome::default());
        let mut outcome = table.rows.for_each(form, monitor, &mut |row| {
            if let Some(selection) = selection {
                let is_selected = selection.contains(number);
                number += 1;
                if !is_selected {
                    return Ok(());
                }
                selected.count(row);
            }
            writer.push(row)?;
            rows += 1;
            if rows.is_multiple_of(ROWS_PER_REPORT) {
                let done = before + rows;
                monitor.advance(done, total.max(done))?;
            }
            Ok(())
        })?;
        if selection.is_some() {
            outcome = selected;
        }
        self.done = before + rows;
        monitor.advance(self.done, total.max(self.done))?;
        writer.table.finish()?;
        Ok(outcome)
    }

    /// Writes a collection to an atomic file that is not yet committed.
    fn write(
        &mut self,
        chosen: Chosen<'e>,
        selection: Option<&Bits>,
        path: &Path,
    ) -> Result<(AtomicFile, ExportedFile)> {
        let file = AtomicFile::create(path, self.protected())?;
        self.write_file(chosen, selection, file)
    }

    fn write_file(
        &mut self,
        chosen: Chosen<'e>,
        selection: Option<&Bits>,
        mut file: AtomicFile,
    ) -> Result<(AtomicFile, ExportedFile)> {
        let table = self.table(chosen)?;
        let hash = Hash::default();
        file.write_behind(hash.observer())?;
        let outcome = self.transfer(&table, selection, Output::File(&mut file))?;
        file.flush().map_err(|error| file.write_error(error))?;
        let (bytes, sha256) = hash.finish();
        table.rows.check_unchanged()?;
        let name = file.target().file_name().unwrap_or_default();
        let written = FileWritten {
            name: name.to_string_lossy().into_owned(),
            bytes,
            sha256,
        };
        let exported = table.exported(outcome, written);
        Ok((file, exported))
    }

    fn schema(
        &self,
        collection: &Collection,
        (space, dimension): (store::Space, Option<usize>),
        stated: &StatedConfiguration,
        vectors: VectorForm,
        metadata: Option<&MetadataColumns>,
    ) -> Schema {
        let vector = match dimension {
            Some(dimension) => ColumnType::Vector(dimension),
            None => ColumnType::List(ElementType::Float32),
        };
        let mut columns = vec![
            Column::required("id", ColumnType::Utf8),
            Column::nullable(columns::VECTOR, vector),
            Column::nullable("document", ColumnType::Utf8),
            Column::nullable("uri", ColumnType::Utf8),
        ];
        match metadata {
            None => columns.push(Column::nullable("metadata", ColumnType::Utf8)),
            Some(metadata) => columns.extend(metadata.columns()),
        }
        if self.options.index_columns {
            for name in [columns::INTERNAL_ID, columns::LABEL, columns::SEQ_ID] {
                columns.push(Column::nullable(name, ColumnType::UInt64));
            }
        }
        let schema_version = self.chroma_schema();
        let schema_version = schema_version.iter();
        let schema_version: Vec<_> = schema_version
            .map(|(part, version)| format!("{part} {version}"))
            .collect();
        let json_columns = metadata.map_or_else(Vec::new, MetadataColumns::json_columns);
        let json_columns = (!json_columns.is_empty())
            .then(|| serde_json::to_string(&json_columns).unwrap_or_default());
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let optional = [
            ("m", number(collection.m)),
            ("ef_construction", number(collection.ef_construction)),
            ("config_json_str", stated.configuration.clone()),
            ("schema_str", stated.schema.clone()),
            ("json_columns", json_columns),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let metadata = [
            ("version", env!("CARGO_PKG_VERSION").to_string()),
            ("collection", collection.name.clone()),
            ("collection_id", collection.id.clone()),
            ("database", collection.database.clone()),
            ("tenant", collection.tenant.clone()),
            ("metric", space.name().to_string()),
            (
                "dimension",
                dimension.map_or_else(String::new, |dimension| dimension.to_string()),
            ),
            ("vectors", vectors.name().to_string()),
            ("chroma_schema", schema_version.join(", ")),
            (
                "collection_metadata",
                CollectionMetadata::of(collection).to_json(),
            ),
        ];
        Schema {
            columns,
            metadata: metadata
                .into_iter()
                .chain(optional)
                .map(|(key, value)| (format!("hnsw_toolbox.{key}"), value))
                .collect(),
        }
    }
}

/// The rows of a collection.
enum Rows<'e> {
    Chroma(Origin<'e>, Box<Plan>),
    Old(&'e OldStore, &'e OldCollection),
}

impl Rows<'_> {
    fn dimension(&self) -> Option<usize> {
        match self {
            Self::Chroma(_, plan) => plan.dimension,
            Self::Old(_, old) => old.collection.dimension,
        }
    }

    /// Returns the metric and its source. A plan knows `given` already.
    fn space(&self, given: Option<Space>) -> (store::Space, SpaceSource) {
        match (self, given) {
            (Self::Chroma(_, plan), _) => (plan.space, plan.space_source),
            (Self::Old(_, old), given) => {
                let stated = &old.collection.space;
                match given.filter(|_| !stated.source.is_said()) {
                    Some(given) => (given.into(), SpaceSource::Option),
                    None => (stated.space, stated.source),
                }
            }
        }
    }

    fn for_each(
        &self,
        form: Form,
        monitor: &Monitor<'_>,
        visit: &mut dyn FnMut(&mut Row<'_>) -> Result<()>,
    ) -> Result<Outcome> {
        match self {
            Self::Chroma(origin, plan) => plan.for_each(*origin, form, monitor, visit),
            Self::Old(store, old) => store.for_each(&old.collection, monitor, |row, _| visit(row)),
        }
    }

    fn check_unchanged(&self) -> Result<()> {
        match self {
            Self::Chroma(_, plan) => plan.check_unchanged(),
            Self::Old(..) => Ok(()),
        }
    }
}

/// A collection with its rows and the schema of its file.
struct CollectionTable<'e> {
    collection: &'e Collection,
    rows: Rows<'e>,
    space: (store::Space, SpaceSource),
    /// The form of the vectors in the output.
    vectors: VectorForm,
    metadata: Option<MetadataColumns>,
    stated: StatedConfiguration,
    schema: Schema,
}

/// Properties of a completed file.
#[derive(Default)]
struct FileWritten {
    name: String,
    bytes: u64,
    sha256: String,
}

impl CollectionTable<'_> {
    /// Describes the written file.
    fn exported(self, outcome: Outcome, file: FileWritten) -> ExportedFile {
        let Self {
            collection,
            rows,
            space: (space, space_source),
            vectors,
            metadata,
            stated,
            ..
        } = self;
        let mut findings = match &rows {
            Rows::Chroma(_, plan) => plan.findings.clone(),
            Rows::Old(..) => Findings::default(),
        };
        outcome.report(&mut findings);
        ExportedFile {
            file: file.name,
            bytes: file.bytes,
            sha256: file.sha256,
            tenant: collection.tenant.clone(),
            database: collection.database.clone(),
            collection: collection.name.clone(),
            collection_id: collection.id.clone(),
            segment_id: collection
                .vector_segment
                .as_ref()
                .map(|segment| segment.id.clone()),
            metric: space.name(),
            metric_source: space_source.name(),
            dimension: rows.dimension(),
            m: collection.m,
            ef_construction: collection.ef_construction,
            config_json_str: stated.configuration,
            schema_str: stated.schema,
            vectors,
            rows: outcome.rows,
            vectors_from_index: outcome.from_index,
            vectors_from_log: outcome.from_log,
            vectors_from_elsewhere: outcome.from_elsewhere,
            without_vector: outcome.without_vector,
            first_ids_without_vector: outcome.first_without_vector,
            watermark: match &rows {
                Rows::Chroma(_, plan) => plan.watermark,
                Rows::Old(..) => None,
            },
            json_columns: metadata.map_or_else(Vec::new, |metadata| metadata.json_columns()),
            state: match &rows {
                Rows::Chroma(_, plan) => {
                    let is_incomplete = outcome.without_vector + outcome.damaged_ids > 0;
                    state(collection, plan, is_incomplete)
                }
                Rows::Old(_, old) => state_of_old(old),
            },
            collection_metadata: CollectionMetadata::of(collection),
            findings: findings.into_vec(),
        }
    }
}

struct RowWriter<'o, 't> {
    table: TableWriter<'o>,
    metadata: Option<&'t MetadataColumns>,
    index_columns: bool,
    json: String,
}

impl RowWriter<'_, '_> {
    fn push(&mut self, row: &mut Row<'_>) -> Result<()> {
        // Number of the first metadata column; see `schema` for the order.
        const METADATA: usize = 4;
        let Self { table, json, .. } = self;
        json.clear();
        if self.metadata.is_none() && !row.texts.metadata.is_empty() {
            row.texts.metadata.write_json(json);
            // Frees the parsed values of large metadata before the text is passed on.
            if json.len() >= LARGE_TEXT_BYTES {
                row.texts.metadata.clear();
            }
        }
        let document = row.texts.document.take();
        let uri = row.texts.uri.take();
        let texts = [Some(&*json), document.as_ref(), uri.as_ref()];
        if texts
            .into_iter()
            .flatten()
            .any(|text| text.len() >= LARGE_TEXT_BYTES)
        {
            // Ends the current record batch of the Arrow formats, so that large texts do not
            // accumulate in it.
            table.begin_large_row()?;
        }
        table.push(0, Value::Utf8(row.id))?;
        if let Some(vector) = row.vector {
            table.push(1, Value::Vector(vector))?;
        }
        for (column, text) in [(2, document), (3, uri)] {
            if let Some(text) = text {
                table.push_text(column, text)?;
            }
        }
        let mut next = METADATA;
        match self.metadata {
            None => {
                if json.len() >= LARGE_TEXT_BYTES {
                    table.push_text(next, std::mem::take(json))?;
                } else if !json.is_empty() {
                    table.push(next, Value::Utf8(json))?;
                }
                next += 1;
            }
            Some(metadata) => {
                metadata.push(&row.texts.metadata, next, table, json)?;
                next += metadata.len();
            }
        }
        // The last columns of the schema, in the order of `schema`.
        if self.index_columns {
            for (column, value) in (next..).zip([row.internal_id, row.label, row.seq_id]) {
                table.push(column, value.into())?;
            }
        }
        table.end_row()
    }
}

/// Returns the path of an output directory with symbolic links resolved. The directory must not
/// exist, or be empty.
fn usable_directory(output: &Path) -> Result<PathBuf> {
    let unusable = |found: &'static str| {
        Error::unusable(
            output,
            found,
            "a directory that does not exist yet or is empty, or a file with the extension \
                   .parquet, .arrow, .ipc or .feather",
        )
    };
    // The link itself: a dangling one is an error below, not a directory to create.
    match std::fs::symlink_metadata(output) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if output.file_name().is_none() {
                return Err(unusable("a path without a name"));
            }
            Ok(output.to_path_buf())
        }
        Err(error) => Err(Error::io(output, "look up the output path")(error)),
        Ok(_) => {
            let output = output
                .canonicalize()
                .map_err(Error::io(output, "follow the path"))?;
            let mut entries = match std::fs::read_dir(&output) {
                Ok(entries) => entries,
                Err(_) if !output.is_dir() => return Err(unusable("a file")),
                Err(error) => return Err(Error::io(&output, "list")(error)),
            };
            match entries.next() {
                None => Ok(output),
                Some(_) => Err(unusable("a directory that is not empty")),
            }
        }
    }
}
