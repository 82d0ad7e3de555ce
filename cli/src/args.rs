//! The arguments, and how each is explained.

use std::path::{Path, PathBuf};

use clap::{Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
#[cfg(feature = "database")]
use hnsw_toolbox::MetadataForm;
use hnsw_toolbox::{
    BuildOptions, ColumnarFormat, ColumnarOptions, Compression, Engine, GraphOptions, IoMode,
    Metric, RecordRange, RepairLinks, SearchOptions, Space, VectorForm,
};

use super::named::named;

/// The name of the command.
pub(super) const NAME: &str = "hnsw-toolbox";

/// Whether an output path stands for standard output. A file of that name is `./-`.
pub(super) fn is_stdout(output: &Path) -> bool {
    output.as_os_str() == "-"
}

/// Extracts vectors from Chroma's on-disk HNSW indexes and builds new HNSW indexes.
#[derive(Debug, Parser)]
// What may be given is in the words of each argument.
#[command(name = NAME, version, about, hide_possible_values = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// auto, always or never. auto is on a terminal, unless the environment has NO_COLOR.
    // Looked for before the arguments are parsed.
    #[arg(long = "color", global = true, value_name = "WHEN", default_value_t)]
    _color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the records of an index directory to a Parquet or Arrow IPC file.
    Extract(ExtractArguments),
    /// Build a .hnsw index, in the format of the fast-hnsw crate, from a Parquet or Arrow IPC file.
    Build(BuildArguments),
    /// Show what an index directory or a .hnsw file contains.
    Inspect(InspectArguments),
    /// Check an index directory or a .hnsw file for damage.
    ///
    /// Exit status 1 means that it is damaged, which includes metadata that is missing or belongs
    /// to other records; 2 means that it could not be checked.
    Verify(VerifyArguments),
    /// List the collections of a persist directory, and how each is.
    #[cfg(feature = "database")]
    Collections(CollectionsArguments),
    /// Write the collections of a persist directory to Parquet or Arrow IPC files.
    ///
    /// Each record of a collection is a row: its id, vector, document, uri and metadata, the newest
    /// writes included, which are in chroma.sqlite3 only. Nothing is written into PERSIST_DIR.
    #[cfg(feature = "database")]
    Export(ExportArguments),
    /// Write a healthy index directory in the place of a damaged or bloated one.
    ///
    /// INDEX_DIR is only read. The last lines printed are the steps to have Chroma use NEW_DIR.
    Repair(RepairArguments),
    /// Find the nearest vectors of a .hnsw index for each row of a Parquet or Arrow IPC file.
    ///
    /// Without -o, each neighbour is printed on a line: the query's row, the neighbour's label and
    /// its distance, separated by tabs.
    Search(SearchArguments),
    /// Compare searches of a .hnsw index with the exact answers: what share they find, and how fast.
    Recall(RecallArguments),
    /// Print a script that completes arguments, for a shell to load.
    ///
    /// For bash: `hnsw-toolbox completions bash > ~/.local/share/bash-completion/completions/hnsw-toolbox`.
    /// For zsh, as `_hnsw-toolbox` in a directory of `$fpath`; for fish, as `hnsw-toolbox.fish` in
    /// ~/.config/fish/completions.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: Shell,
    },
    /// Write manual pages to a directory: one of hnsw-toolbox, and one of each command.
    #[command(hide = true)]
    Man {
        /// The directory, which is created if it is missing. Pages in it are replaced.
        dir: PathBuf,
    },
}

impl Command {
    /// Whether it writes records to standard output.
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

    /// The file to write. With -, an Arrow IPC stream goes to standard output.
    ///
    /// A stream is complete when the exit status is 0, which a shell gives of a pipeline's last
    /// command only, unless `set -o pipefail` is on.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,

    /// parquet or arrow_ipc. Defaults to the format of OUT's extension: .parquet; .arrow, .ipc,
    /// .feather.
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// The pickle with user ids and sequence numbers. Defaults to index_metadata.pickle in
    /// INDEX_DIR, if it exists.
    #[arg(long, value_name = "PATH", conflicts_with = "no_metadata")]
    pub(super) metadata: Option<PathBuf>,

    /// Read no metadata: all user ids and sequence numbers are null.
    #[arg(long)]
    pub(super) no_metadata: bool,

    /// Only the records with internal ids from A on and before B; either may be left out.
    #[arg(long, value_name = "A..B", conflicts_with = "part")]
    pub(super) rows: Option<RecordRange>,

    /// Only part I of N, for N workers that share an index: one after the other, the parts are the
    /// whole.
    #[arg(long, value_name = "I/N")]
    pub(super) part: Option<RecordRange>,

    /// Also write records that are marked as deleted.
    #[arg(long)]
    pub(super) include_deleted: bool,

    /// stored: as they are in the index. original: multiplied by their norm from length.bin, which
    /// in a cosine collection restores what the user stored.
    #[arg(long, default_value_t, value_parser = named::<VectorForm>())]
    pub(super) vectors: VectorForm,

    /// Maximum number of rows in a Parquet page or an Arrow record batch.
    #[arg(long, value_name = "N", default_value_t = ColumnarOptions::default().batch_size)]
    pub(super) batch_size: usize,

    /// Bytes of vectors in a Parquet row group.
    #[arg(long, value_name = "N", default_value_t = ColumnarOptions::default().row_group_bytes)]
    pub(super) row_group_bytes: u64,

    /// Compression of Parquet pages: none, snappy or zstd.
    #[arg(long, default_value_t, value_parser = named::<Compression>())]
    pub(super) compression: Compression,

    /// How to read the index: mmap, or read, which is slower but survives a file that is truncated
    /// while it is read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    /// Save what can be saved of a damaged index: complete records with a unique, non-zero label
    /// and a finite vector. If the metadata is broken, only the ids are lost.
    #[arg(long)]
    pub(super) salvage: bool,

    /// With --m, the layout of the records if header.bin is lost. Every complete record in the file
    /// is then read, which may include uninitialised memory after the last one.
    #[arg(long, value_name = "N", requires = "salvage", requires = "m")]
    pub(super) dimension: Option<usize>,

    /// The parameter M of the index if header.bin is lost.
    #[arg(long, value_name = "N", requires = "salvage", requires = "dimension")]
    pub(super) m: Option<usize>,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct BuildArguments {
    /// The Parquet file, or Arrow IPC file or stream, with a column vector and, optionally, label
    /// (or internal_id) and deleted.
    pub(super) input: PathBuf,

    /// The .hnsw file to write.
    #[arg(short, long, value_name = "OUT.hnsw")]
    pub(super) output: PathBuf,

    /// parquet or arrow_ipc. Defaults to the format of INPUT's extension: .parquet; .arrow, .arrows,
    /// .ipc, .feather.
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// The column of the vectors: vector when not given.
    #[arg(long, value_name = "NAME")]
    pub(super) vector_column: Option<String>,

    /// The column of the labels. When not given: label, else internal_id, else the row numbers.
    #[arg(long, value_name = "NAME")]
    pub(super) label_column: Option<String>,

    /// Take the row numbers as labels, whatever columns there are.
    #[arg(long, conflicts_with = "label_column")]
    pub(super) row_numbers: bool,

    /// euclidean, squared_euclidean, cosine, dot_product or manhattan; or as Chroma calls them, l2
    /// for squared_euclidean and ip for dot_product. The file states it; with fast-hnsw, which
    /// does not read that, open it with the same.
    #[arg(long, default_value_t, value_parser = named::<Metric>())]
    pub(super) metric: Metric,

    /// Neighbours of a node on the layers above 0: 2 to 256.
    #[arg(long, value_name = "N", default_value_t = GraphOptions::default().m)]
    pub(super) m: usize,

    /// Neighbours of a node on layer 0: m to 1024. Defaults to 2·m.
    #[arg(long, value_name = "N")]
    pub(super) m0: Option<usize>,

    /// Candidates that are kept while the neighbours of a node are searched for.
    #[arg(long, value_name = "N", default_value_t = GraphOptions::default().ef_construction)]
    pub(super) ef_construction: usize,

    /// Rows of the input in memory at a time.
    #[arg(long, value_name = "N", default_value_t = BuildOptions::default().batch_size)]
    pub(super) batch_size: usize,

    /// Maximum number of vectors; more are an error.
    #[arg(long, value_name = "N")]
    pub(super) capacity: Option<usize>,

    /// Makes the build repeatable.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Also insert rows that are marked as deleted.
    #[arg(long)]
    pub(super) include_deleted: bool,

    /// Threads that build the graph. Defaults to the number of cores.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// The code that builds the graph: partition, native or hnsw_rs.
    #[arg(long, default_value_t, value_parser = named::<Engine>())]
    pub(super) engine: Engine,

    /// How to read the input: mmap, or read, which survives a file that is truncated while it is
    /// read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct InspectArguments {
    /// Chroma's vector segment directory (the one with header.bin), or a .hnsw file.
    pub(super) index: PathBuf,

    /// How to read the files: read, or mmap.
    ///
    /// mmap is killed by the operating system (SIGBUS) where another process truncates a file while
    /// it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// Chroma's vector segment directory (the one with header.bin), or a .hnsw file.
    pub(super) index: PathBuf,

    /// How to read the files: read, or mmap.
    ///
    /// mmap is killed by the operating system (SIGBUS) where another process truncates a file while
    /// it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct CollectionsArguments {
    /// Chroma's persist directory (the one with chroma.sqlite3).
    pub(super) persist_dir: PathBuf,

    /// How the files of the segments are read: read, or mmap.
    ///
    /// mmap is killed by the operating system (SIGBUS) where another process truncates a file while
    /// it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[cfg(feature = "database")]
#[derive(Args, Debug)]
pub(super) struct ExportArguments {
    /// Chroma's persist directory (the one with chroma.sqlite3).
    pub(super) persist_dir: PathBuf,

    /// The directory to write, which must not exist or be empty; or, with the extension .parquet,
    /// .arrow, .ipc or .feather, the file for one collection. With -, one collection goes to
    /// standard output, as an Arrow IPC stream.
    ///
    /// A stream is complete when the exit status is 0, which a shell gives of a pipeline's last
    /// command only, unless `set -o pipefail` is on.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,

    /// The name of a collection to write. May be given several times; all are written without it.
    #[arg(long = "collection", value_name = "NAME")]
    pub(super) collections: Vec<String>,

    /// Write the collections of this database only.
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,

    /// Write the collections of this tenant only.
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,

    /// parquet or arrow_ipc. Without it the extension of OUT says; parquet for a directory.
    #[arg(long, value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// original: as they were given to Chroma; stored: those of cosine collections divided by
    /// their norm, as the index holds them.
    #[arg(long, default_value_t = VectorForm::Original, value_parser = named::<VectorForm>())]
    pub(super) vectors: VectorForm,

    /// json: one column with a JSON object for each record; columns: a typed column for each key.
    #[arg(long, default_value_t, value_parser = named::<MetadataForm>())]
    pub(super) metadata: MetadataForm,

    /// Write the columns internal_id, label and seq_id, too.
    #[arg(long)]
    pub(super) index_columns: bool,

    /// With --m, the layout of the records if header.bin is lost.
    ///
    /// Needed only where neither the database nor the other files say it.
    #[arg(long, value_name = "N", requires = "m")]
    pub(super) dimension: Option<usize>,

    /// The parameter M of the index if header.bin is lost.
    #[arg(long, value_name = "N", requires = "dimension")]
    pub(super) m: Option<usize>,

    /// The metric where the database does not say it: l2, cosine or ip.
    #[arg(long, value_parser = named::<Space>())]
    pub(super) metric: Option<Space>,

    /// Most rows in a Parquet page or an Arrow record batch.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) batch_size: usize,

    /// Compression of Parquet pages: none, snappy or zstd.
    #[arg(long, default_value_t, value_parser = named::<Compression>())]
    pub(super) compression: Compression,

    /// How the files of the segments are read: read, or mmap.
    ///
    /// mmap is killed by the operating system (SIGBUS) where another process truncates a file while
    /// it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct RepairArguments {
    /// Chroma's vector segment directory (the one with header.bin); with --collection, the persist
    /// directory (the one with chroma.sqlite3).
    #[arg(value_name = "SEGMENT_DIR|PERSIST_DIR")]
    pub(super) index_dir: PathBuf,

    /// The directory to write, where nothing may be yet.
    #[arg(short, long, value_name = "NEW_DIR")]
    pub(super) output: PathBuf,

    /// The name of the collection: its records are those of the index and of the log, as export
    /// merges them, so that an index that is lost comes back as far as the log has it.
    #[arg(long, value_name = "NAME")]
    pub(super) collection: Option<String>,

    /// The database of the collection, where several have one of that name.
    #[arg(long, requires = "collection")]
    pub(super) database: Option<String>,

    /// The tenant of the database.
    #[arg(long, requires = "collection")]
    pub(super) tenant: Option<String>,

    /// keep: the index's own links, without the records that go; build: those of a new graph.
    /// Without it, keep where the links are sound, else build.
    #[arg(long, value_parser = named::<RepairLinks>())]
    pub(super) links: Option<RepairLinks>,

    /// The collection's metric, where no database says it: l2, cosine or ip. A new graph needs it.
    #[arg(long, value_parser = named::<Space>())]
    pub(super) metric: Option<Space>,

    /// Implied, and there because extract needs it: what is damaged is left out.
    #[arg(long = "salvage")]
    pub(super) _salvage: bool,

    /// With --m, the layout of the records if header.bin is lost.
    #[arg(long, value_name = "N", requires = "m")]
    pub(super) dimension: Option<usize>,

    /// The parameter M of the index if header.bin is lost.
    #[arg(long, value_name = "N", requires = "dimension")]
    pub(super) m: Option<usize>,

    /// Threads to use. All cores, at most 8, when not given.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// How to read the segment: read, or mmap.
    ///
    /// mmap is killed by the operating system (SIGBUS) where another process truncates a file while
    /// it is read.
    #[arg(long, default_value_t = IoMode::Read, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct SearchArguments {
    /// The .hnsw file.
    #[arg(value_name = "INDEX.hnsw")]
    pub(super) index: PathBuf,

    /// A Parquet or Arrow IPC file with a column of queries.
    #[arg(long, value_name = "FILE")]
    pub(super) queries: PathBuf,

    /// The column of the queries [default: vector].
    #[arg(long, value_name = "NAME")]
    pub(super) vector_column: Option<String>,

    /// Format of the queries: parquet or arrow_ipc. Without it the extension says.
    #[arg(long, value_name = "FORMAT", value_parser = named::<ColumnarFormat>())]
    pub(super) queries_format: Option<ColumnarFormat>,

    /// Nearest vectors for each query.
    #[arg(long, value_name = "N", default_value_t = SearchOptions::default().k)]
    pub(super) k: usize,

    /// Candidates that a search keeps: the more, the surer and the slower.
    #[arg(long, value_name = "N", default_value_t = SearchOptions::default().ef)]
    pub(super) ef: usize,

    /// The metric that the index was built for. Needed when the file does not state it.
    #[arg(long, value_parser = named::<Metric>())]
    pub(super) metric: Option<Metric>,

    /// The file to write, with the columns query, labels and distances.
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,

    /// Format of OUT: parquet or arrow_ipc. Without it the extension says.
    #[arg(long, requires = "output", value_parser = named::<ColumnarFormat>())]
    pub(super) format: Option<ColumnarFormat>,

    /// Threads that search. All cores when not given.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// How the index and the queries are read: mmap, or read, which is slower but survives files
    /// that shrink while they are read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    /// Read the whole index into memory first: faster searches, for as much memory as it has bytes.
    #[arg(long)]
    pub(super) load: bool,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct RecallArguments {
    /// The .hnsw file.
    #[arg(value_name = "INDEX.hnsw")]
    pub(super) index: PathBuf,

    /// Take this many vectors of the index as queries. None is counted as an answer to itself.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(super) sample: usize,

    /// Take the vectors of a Parquet or Arrow IPC file as queries.
    #[arg(long, value_name = "FILE", conflicts_with = "sample")]
    pub(super) queries: Option<PathBuf>,

    /// The column of the queries [default: vector].
    #[arg(long, value_name = "NAME", requires = "queries")]
    pub(super) vector_column: Option<String>,

    /// Format of the queries: parquet or arrow_ipc. Without it the extension says.
    #[arg(long, value_name = "FORMAT", requires = "queries", value_parser = named::<ColumnarFormat>())]
    pub(super) queries_format: Option<ColumnarFormat>,

    /// Nearest vectors that are looked for.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) k: usize,

    /// Candidates that a search keeps, one measurement for each number.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [50, 100, 200])]
    pub(super) ef: Vec<usize>,

    /// The metric that the index was built for. Needed when the file does not state it.
    #[arg(long, value_parser = named::<Metric>())]
    pub(super) metric: Option<Metric>,

    /// Threads that share the queries. All cores when not given.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// How the index is read: mmap or read.
    #[arg(long, default_value_t, value_parser = named::<IoMode>())]
    pub(super) io: IoMode,

    /// Read the whole index into memory first: faster searches, for as much memory as it has bytes.
    #[arg(long)]
    pub(super) load: bool,

    #[command(flatten)]
    pub(super) work: WorkArguments,
}

#[derive(Args, Debug)]
pub(super) struct WorkArguments {
    #[command(flatten)]
    pub(super) answer: AnswerArguments,

    /// Show no progress.
    #[arg(long)]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct AnswerArguments {
    /// Print the answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}
