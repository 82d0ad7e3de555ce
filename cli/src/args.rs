//! The command-line arguments and their help.

use std::path::{Path, PathBuf};

use clap::{Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use hnsw_toolbox::MetadataForm;
use hnsw_toolbox::{
    BuildOptions, ColumnarFormat, ColumnarOptions, Compression, Engine, GraphOptions, IoMode,
    Metric, RecordRange, RepairLinks, Salvage, SearchOptions, Space, VectorForm,
};
#[cfg(feature = "database")]
#[cfg(feature = "database")]
use hnsw_toolbox::{ListForm, OnConflict};

use super::named::named;

/// The name of the command.
pub(super) const NAME: &str = "hnsw-toolbox";

/// Returns true if an output path means standard output. A file of that name is `./-`.
pub(super) fn is_stdout(output: &Path) -> bool {
    output.as_os_str() == "-"
}

/// Extracts vectors from Chroma's on-disk HNSW indexes and builds new HNSW indexes.
#[derive(Debug, Parser)]
// Each argument lists its values in its own help.
#[command(name = NAME, version, about, hide_possible_values = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// Use colours [auto, always, never]
    ///
    /// auto means on a terminal, unless the environment has NO_COLOR.
    // `color::choose` looks for it before the arguments are parsed, because errors have colours.
    #[arg(long = "color", global = true, value_name = "WHEN", default_value_t)]
    _color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a segment's records to a Parquet or Arrow file.
    Extract(ExtractArguments),
    /// Build a .hnsw index from a Parquet or Arrow IPC file.
    ///
    /// The index has the format of the fast-hnsw crate.
    Build(BuildArguments),
    /// Describe the contents of a segment or a .hnsw file.
    Inspect(LookArguments),
    /// Check a segment or a .hnsw file for damage.
    ///
    /// Exit status 1 means that the index is damaged, or its metadata is missing or belongs to
    /// other records. Exit status 2 means that it could not be checked.
    Verify(LookArguments),
    /// List the collections of a persist directory and their states.
    #[cfg(feature = "database")]
    Collections(CollectionsArguments),
    /// Write the collections of a persist directory to Parquet or Arrow files.
    ///
    /// Each record of a collection is a row with its id, vector, document, uri and metadata. The
    /// newest writes, which are only in chroma.sqlite3, are included. Nothing is written into
    /// PERSIST_DIR.
    #[cfg(feature = "database")]
    Export(ExportArguments),
    /// Add collections, from other persist directories, exports and files, to a persist directory.
    ///
    /// Collections that DIR does not have are created; others are extended. DIR itself is replaced
    /// only with --in-place.
    #[cfg(feature = "database")]
    Import(ImportArguments),
    /// Write a healthy replacement for a damaged or bloated segment.
    ///
    /// The input is never written to. The last lines of the output are the steps that make Chroma
    /// use NEW_DIR.
    Repair(RepairArguments),
    /// Search a .hnsw index for rows of a Parquet or Arrow file.
    ///
    /// Without -o, each neighbour is printed on its own line: the query's row, the neighbour's
    /// label and its distance, separated by tabs.
    Search(SearchArguments),
    /// Measure the recall and speed of searches of a .hnsw index.
    ///
    /// Results are compared with an exhaustive search.
    Recall(RecallArguments),
    /// Print a completion script for a shell.
    ///
    /// For bash: `hnsw-toolbox completions bash >
    /// ~/.local/share/bash-completion/completions/hnsw-toolbox`. For zsh, as `_hnsw-toolbox` in a
    /// directory of `$fpath`; for fish, as `hnsw-toolbox.fish` in ~/.config/fish/completions.
    Completions {
        /// The shell [bash, elvish, fish, powershell, zsh]
        shell: Shell,
    },
    /// Write the manual pages of hnsw-toolbox and its commands to a directory.
    #[command(hide = true)]
    Man {
        /// The directory; created if missing, and existing pages are replaced.
        dir: PathBuf,
    },
}

impl Command {
    /// Returns true if the command writes records to standard output.
    pub(super) fn streams(&self) -> bool {
        let output = match self {
            Self::Extract(arguments) => &arguments.output,
            #[cfg(feature = "database")]
            Self::Export(arguments) => &arguments.output,
            _ => return false,
        };
        is_stdout(output)
    }
}

#[derive(Args, Debug)]
pub(super) struct ExtractArguments {
    /// Chroma's vector segment directory (the one with header.bin).
    pub(super) index_dir: PathBuf,

    /// Write to this file, or with - to standard output.
    ///
    /// Standard output gets an Arrow IPC stream. The stream is complete if the exit status is 0. In
    /// a pipeline, a shell reports that only with `set -o pipefail`.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,

    /// Set the output format [parquet, arrow_ipc] [default: by extension]
    ///
    /// The extensions are .parquet for parquet, and .arrow, .ipc and .feather for arrow_ipc.
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// Read ids from this pickle [default: INDEX_DIR/index_metadata.pickle]
    ///
    /// The pickle also has the sequence numbers. The default file may be missing.
    #[arg(long, value_name = "PATH", conflicts_with = "no_metadata")]
    pub(super) metadata: Option<PathBuf>,

    /// Leave ids and sequence numbers null.
    #[arg(long)]
    pub(super) no_metadata: bool,

    /// Extract the half-open range A..B of internal ids.
    ///
    /// Either bound may be omitted.
    #[arg(long, value_name = "A..B", conflicts_with = "part")]
    pub(super) rows: Option<RecordRange>,

    /// Extract part I of N.
    ///
    /// N workers can share an index: concatenated in order, the parts equal the full output.
    #[arg(long, value_name = "I/N")]
    pub(super) part: Option<RecordRange>,

    /// Also write records that are marked as deleted.
    #[arg(long)]
    pub(super) include_deleted: bool,

    /// Select the form of vectors [stored, original]
    ///
    /// stored: as in the index. original: multiplied by their norm from length.bin, which restores
    /// the user's vectors in a cosine collection.
    #[arg(long, default_value_t, value_parser = named::<VectorForm>())]
    pub(super) vectors: VectorForm,

    /// Limit the rows in a Parquet page or Arrow record batch.
    #[arg(long, value_name = "N", default_value_t = ColumnarOptions::default().batch_size)]
    pub(super) batch_size: usize,

    /// Set the bytes of vectors in a Parquet row group.
    #[arg(long, value_name = "N", default_value_t = ColumnarOptions::default().row_group_bytes)]
    pub(super) row_group_bytes: u64,

    /// Compress Parquet pages [none, snappy, zstd]
    #[arg(long, default_value_t, value_parser = named::<Compression>())]
    pub(super) compression: Compression,

    /// Set the I/O mode [mmap, read]
    ///
    /// read is slower, but reports an error if a file is truncated while it is read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    /// Skip the damaged records of an index.
    ///
    /// Complete records with a non-zero label and an intact vector are written: of several with one
    /// label, the last. If the pickle is damaged, only the ids are lost.
    #[arg(long)]
    pub(super) salvage: bool,

    /// Replace a lost header.bin, together with --m.
    ///
    /// This is the number of components of each vector. Every complete record in the file is then
    /// read, which may include uninitialised memory after the last one.
    #[arg(long, value_name = "N", requires = "salvage", requires = "m")]
    pub(super) dimension: Option<usize>,

    /// Replace a lost header.bin, together with --dimension.
    ///
    /// This is the parameter M of the index.
    #[arg(long, value_name = "N", requires = "salvage", requires = "dimension")]
    pub(super) m: Option<usize>,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct BuildArguments {
    /// The Parquet file, or Arrow IPC file or stream.
    ///
    /// It has a column vector and, optionally, label (or internal_id) and deleted.
    pub(super) input: PathBuf,

    /// Write to this .hnsw file.
    #[arg(short, long, value_name = "OUT.hnsw")]
    pub(super) output: PathBuf,

    /// Set the input format [parquet, arrow_ipc] [default: by extension]
    ///
    /// The extensions are .parquet for parquet, and .arrow, .arrows, .ipc and .feather for
    /// arrow_ipc.
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// Read vectors from this column [default: vector]
    #[arg(long, value_name = "NAME")]
    pub(super) vector_column: Option<String>,

    /// Read labels from this column [default: label, else internal_id]
    ///
    /// Without any of these columns, row numbers are the labels.
    #[arg(long, value_name = "NAME")]
    pub(super) label_column: Option<String>,

    /// Use row numbers as labels, and ignore columns of labels.
    #[arg(long, conflicts_with = "label_column")]
    pub(super) row_numbers: bool,

    /// Set the metric [euclidean, squared_euclidean, cosine, dot_product, manhattan]
    ///
    /// Chroma's names l2 for squared_euclidean and ip for dot_product are accepted as well. The
    /// file states its metric, but fast-hnsw does not read it: select the same metric there.
    #[arg(long, default_value_t, value_parser = named::<Metric>())]
    pub(super) metric: Metric,

    /// Limit the neighbours of a node on upper levels [2 to 256]
    #[arg(long, value_name = "N", default_value_t = GraphOptions::default().m)]
    pub(super) m: usize,

    /// Limit the neighbours on level 0 [m to 1024] [default: 2·m]
    #[arg(long, value_name = "N")]
    pub(super) m0: Option<usize>,

    /// Set the number of candidates in the search for neighbours.
    #[arg(long, value_name = "N", default_value_t = GraphOptions::default().ef_construction)]
    pub(super) ef_construction: usize,

    /// Set the number of input rows in memory.
    #[arg(long, value_name = "N", default_value_t = BuildOptions::default().batch_size)]
    pub(super) batch_size: usize,

    /// Fail if there are more than N vectors.
    #[arg(long, value_name = "N")]
    pub(super) capacity: Option<usize>,

    /// Make the build reproducible.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Also insert rows that are marked as deleted.
    #[arg(long)]
    pub(super) include_deleted: bool,

    /// Build with N threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// Select the graph engine [partition, native, hnsw_rs]
    #[arg(long, default_value_t, value_parser = named::<Engine>())]
    pub(super) engine: Engine,

    /// Set the I/O mode [mmap, read]
    ///
    /// read reports an error if the file is truncated while it is read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct LookArguments {
    /// Chroma's vector segment directory (the one with header.bin), or a .hnsw file.
    pub(super) index: PathBuf,

    #[command(flatten)]
    pub(super) read: ReadArguments,
}

#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct CollectionsArguments {
    /// Chroma's persist directory (the one with chroma.sqlite3).
    pub(super) persist_dir: PathBuf,

    #[command(flatten)]
    pub(super) read: ReadArguments,
}

#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct ExportArguments {
    /// Chroma's persist directory (the one with chroma.sqlite3).
    pub(super) persist_dir: PathBuf,

    /// Write to this directory or file, or with - to standard output.
    ///
    /// A directory must not exist, or be empty. A path with the extension .parquet, .arrow, .ipc or
    /// .feather is the file for a single collection.
    ///
    /// Standard output gets an Arrow IPC stream of a single collection. The stream is complete if
    /// the exit status is 0. In a pipeline, a shell reports that only with `set -o pipefail`.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,

    /// Export this collection; repeatable [default: all]
    #[arg(long = "collection", value_name = "NAME")]
    pub(super) collections: Vec<String>,

    /// Export only collections of this database.
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,

    /// Export only collections of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,

    /// Set the format [parquet, arrow_ipc] [default: by extension, else parquet]
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// Select the form of vectors [original, stored]
    ///
    /// original: as given to Chroma. stored: as in the index, where the vectors of cosine
    /// collections are divided by their norm.
    #[arg(long, default_value_t = VectorForm::Original, value_parser = named::<VectorForm>())]
    pub(super) vectors: VectorForm,

    /// Select the form of metadata [json, columns]
    ///
    /// json: one column with a JSON object for each record. columns: a typed column for each key.
    #[arg(long, default_value_t, value_parser = named::<MetadataForm>())]
    pub(super) metadata: MetadataForm,

    /// Also write the columns internal_id, label and seq_id.
    #[arg(long)]
    pub(super) index_columns: bool,

    #[command(flatten)]
    pub(super) header: HeaderArguments,

    /// Set the metric if the database states none [l2, cosine, ip]
    #[arg(long, value_parser = named::<Space>())]
    pub(super) metric: Option<Space>,

    /// Limit the rows in a Parquet page or Arrow record batch.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) batch_size: usize,

    /// Compress Parquet pages [none, snappy, zstd]
    #[arg(long, default_value_t, value_parser = named::<Compression>())]
    pub(super) compression: Compression,

    #[command(flatten)]
    pub(super) read: ReadArguments,
}

#[derive(Args, Debug)]
pub(super) struct RepairArguments {
    /// Chroma's persist directory, or one of its vector segment directories.
    ///
    /// A persist directory has a chroma.sqlite3, a segment directory a header.bin.
    #[arg(value_name = "PERSIST_DIR|SEGMENT_DIR")]
    pub(super) index_dir: PathBuf,

    /// Write to this new directory.
    #[arg(short, long, value_name = "NEW_DIR")]
    #[cfg_attr(feature = "database", arg(required_unless_present_any = ["in_place", "dry_run"]))]
    #[cfg_attr(not(feature = "database"), arg(required = true))]
    pub(super) output: Option<PathBuf>,

    /// Write only the segment of this collection.
    ///
    /// The records of the segment and of Chroma's queue are merged, as in an export. A lost segment
    /// is recovered as far back as the queue goes.
    #[arg(long, value_name = "NAME")]
    pub(super) collection: Option<String>,

    /// Select the collection's database, if its name is ambiguous.
    #[arg(long, requires = "collection")]
    pub(super) database: Option<String>,

    /// Select the tenant of the database.
    #[arg(long, requires = "collection")]
    pub(super) tenant: Option<String>,

    #[cfg(feature = "database")]
    #[command(flatten)]
    pub(super) store: StoreArguments,

    /// Keep or build links [keep, build] [default: keep if intact]
    ///
    /// keep: reuse the links of the index, without dropped records. build: build a new graph.
    #[arg(long, value_parser = named::<RepairLinks>())]
    pub(super) links: Option<RepairLinks>,

    /// Set the metric if no database states it [l2, cosine, ip]
    ///
    /// A new graph needs it unless the vectors show cosine.
    #[arg(long, value_parser = named::<Space>())]
    pub(super) metric: Option<Space>,

    /// Accept the flag of extract; repair always skips damaged records.
    #[arg(long = "salvage")]
    pub(super) _salvage: bool,

    #[command(flatten)]
    pub(super) header: HeaderArguments,

    /// Use N threads, at most 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    #[command(flatten)]
    pub(super) read: ReadArguments,
}

/// Arguments of the repair of a whole persist directory.
#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct StoreArguments {
    /// Replace the persist directory by the repaired one.
    ///
    /// The names are exchanged at once, and the old directory stays beside it. Fails if another
    /// process has the store open.
    #[arg(long, conflicts_with_all = ["output", "collection"])]
    pub(super) in_place: bool,

    /// Keep records without a vector in the store.
    ///
    /// By default they are exported to NEW_DIR.without-vectors, because Chroma 1.0 and later fails
    /// on filtered queries of a collection with such records.
    #[arg(long, conflicts_with = "collection")]
    pub(super) keep_incomplete: bool,

    /// Take the schema from this empty store, if the old one lost it.
    ///
    /// Make it with the Chroma that will open the result:
    /// python -c "import chromadb; chromadb.PersistentClient('empty')"
    #[arg(long, value_name = "DIR", conflicts_with = "collection")]
    pub(super) template: Option<PathBuf>,

    /// Show what would be written and lost, and write nothing.
    #[arg(long, conflicts_with = "collection")]
    pub(super) dry_run: bool,
}

#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    /// Persist directories, exports, Parquet and Arrow files, or directories of such files.
    ///
    /// A pipe, or - for standard input, gives a file. It is copied beside the output first.
    #[arg(value_name = "SOURCE", required = true)]
    pub(super) sources: Vec<PathBuf>,

    /// The persist directory that gets the collections.
    ///
    /// An empty one is made by the Chroma that will open it:
    /// python -c "import chromadb; chromadb.PersistentClient('empty')"
    #[arg(long, value_name = "DIR")]
    pub(super) into: PathBuf,

    /// Write to this new directory.
    #[arg(short, long, value_name = "NEW_DIR", required_unless_present_any = ["in_place", "dry_run"])]
    pub(super) output: Option<PathBuf>,

    /// Replace the directory of --into by the result.
    ///
    /// The names are exchanged at once, and the old directory stays beside it. Fails if another
    /// process has the store open.
    #[arg(long, conflicts_with = "output")]
    pub(super) in_place: bool,

    /// Import only this collection, which can be repeated; of a file, the name of its collection.
    ///
    /// By default an export's file joins the collection that it is from. Other files have collections
    /// of their own names.
    #[arg(long = "collection", value_name = "NAME")]
    pub(super) collections: Vec<String>,

    /// Take the ids from this column of files [default: id, ids]
    #[arg(long, value_name = "COLUMN")]
    pub(super) id_column: Option<String>,

    /// Take the vectors from this column [default: vector, embedding, embeddings, emb]
    ///
    /// If there is none of these, the only column with lists of floats.
    #[arg(long, value_name = "COLUMN")]
    pub(super) vector_column: Option<String>,

    /// Take the documents from this column [default: document, text, content]
    #[arg(long, value_name = "COLUMN")]
    pub(super) document_column: Option<String>,

    /// Import these columns as metadata, under their own names.
    ///
    /// A column metadata with JSON objects and columns metadata.KEY are imported without being named.
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub(super) metadata_columns: Vec<String>,

    /// Import the collection OLD under the name NEW; can be repeated.
    #[arg(long, value_name = "OLD=NEW", value_parser = renaming)]
    pub(super) rename: Vec<(String, String)>,

    /// Import into this database [default: as in the source]
    #[arg(long)]
    pub(super) database: Option<String>,

    /// Import into a database of this tenant [default: as in the source]
    #[arg(long)]
    pub(super) tenant: Option<String>,

    /// Set the metric of new collections [l2, cosine, ip] [default: as in the source]
    ///
    /// Vectors are imported as they were given to Chroma, so that another metric needs no new
    /// embeddings.
    #[arg(long, value_parser = named::<Space>())]
    pub(super) metric: Option<Space>,

    /// Set the links per record of new collections [default: as in the source]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=256))]
    pub(super) m: Option<u64>,

    /// Set the candidates for links in new collections [default: as in the source]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(super) ef_construction: Option<u64>,

    /// Treat an id that its collection already has [error, skip, replace]
    #[arg(long, value_parser = named::<OnConflict>(), default_value = "error", hide_default_value = true)]
    pub(super) on_conflict: OnConflict,

    /// Write metadata values that are lists as lists or as text [list, json]
    ///
    /// Lists need Chroma 1.5 or later.
    #[arg(long, value_parser = named::<ListForm>(), default_value = "list", hide_default_value = true)]
    pub(super) lists: ListForm,

    /// Import records without a vector as well.
    ///
    /// Chroma 1.0 and later fails on filtered queries of a collection with such records.
    #[arg(long)]
    pub(super) keep_incomplete: bool,

    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Use N threads, at most 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[cfg(feature = "database")]
fn renaming(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.into(), new.into())),
        _ => Err("expected OLD=NEW".into()),
    }
}

#[derive(Args, Debug)]
pub(super) struct SearchArguments {
    /// The .hnsw file.
    #[arg(value_name = "INDEX.hnsw")]
    pub(super) index: PathBuf,

    /// Read queries from this Parquet or Arrow IPC file.
    #[arg(long, value_name = "FILE")]
    pub(super) queries: PathBuf,

    /// Read queries from this column [default: vector]
    #[arg(long, value_name = "NAME")]
    pub(super) vector_column: Option<String>,

    /// Set the format of queries [parquet, arrow_ipc] [default: by extension]
    #[arg(long, value_name = "FORMAT", value_parser = named::<ColumnarFormat>())]
    pub(super) queries_format: Option<ColumnarFormat>,

    /// Set the number of neighbours per query.
    #[arg(long, value_name = "N", default_value_t = SearchOptions::default().k)]
    pub(super) k: usize,

    /// Set the number of candidates: more raise recall and cost time.
    #[arg(long, value_name = "N", default_value_t = SearchOptions::default().ef)]
    pub(super) ef: usize,

    /// Write to this file, with the columns query, labels and distances.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,

    /// Set the output format [parquet, arrow_ipc] [default: by extension]
    #[arg(long, requires = "output", value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    #[command(flatten)]
    pub(super) searches: SearchesArguments,
}

#[derive(Args, Debug)]
pub(super) struct RecallArguments {
    /// The .hnsw file.
    #[arg(value_name = "INDEX.hnsw")]
    pub(super) index: PathBuf,

    /// Use N vectors of the index as queries.
    ///
    /// A vector is not counted as its own neighbour.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(super) sample: usize,

    /// Read queries from this Parquet or Arrow IPC file.
    #[arg(long, value_name = "FILE", conflicts_with = "sample")]
    pub(super) queries: Option<PathBuf>,

    /// Read queries from this column [default: vector]
    #[arg(long, value_name = "NAME", requires = "queries")]
    pub(super) vector_column: Option<String>,

    /// Set the format of queries [parquet, arrow_ipc] [default: by extension]
    #[arg(long, value_name = "FORMAT", requires = "queries", value_parser = named::<ColumnarFormat>())]
    pub(super) queries_format: Option<ColumnarFormat>,

    /// Set the number of neighbours per query.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) k: usize,

    /// Measure with each of these numbers of candidates.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [50, 100, 200])]
    pub(super) ef: Vec<usize>,

    #[command(flatten)]
    pub(super) searches: SearchesArguments,
}

// Arguments of searches of a .hnsw file.
#[derive(Args, Debug)]
pub(super) struct SearchesArguments {
    /// Set the metric of the index, if the file states none.
    #[arg(long, value_parser = named::<Metric>())]
    pub(super) metric: Option<Metric>,

    /// Search with N threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// Set the I/O mode for index and queries [mmap, read]
    ///
    /// read is slower, but reports an error if a file is truncated while it is read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    /// Load the whole index into memory before searching.
    #[arg(long)]
    pub(super) load: bool,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

// Dimension and m of a segment without a header.
#[derive(Args, Debug)]
pub(super) struct HeaderArguments {
    /// Replace a lost header.bin, together with --m.
    ///
    /// This is the number of components of each vector. It is needed only if neither the database
    /// nor another file states it.
    #[arg(long, value_name = "N", requires = "m")]
    pub(super) dimension: Option<usize>,

    /// Replace a lost header.bin, together with --dimension.
    ///
    /// This is the parameter M of the index.
    #[arg(long, value_name = "N", requires = "dimension")]
    pub(super) m: Option<usize>,
}

impl HeaderArguments {
    pub(super) fn salvage(&self) -> Salvage {
        Salvage::default()
            .with_dimension(self.dimension)
            .with_m(self.m)
    }
}

// Arguments of commands that read what Chroma may be writing.
#[derive(Args, Debug)]
pub(super) struct ReadArguments {
    /// Set the I/O mode [read, mmap]
    ///
    /// With mmap, the operating system kills the process (SIGBUS) if another process truncates a
    /// file while it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct WorkArguments {
    #[command(flatten)]
    pub(super) answer: AnswerArguments,

    /// Hide the progress bar.
    #[arg(long)]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct AnswerArguments {
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}
