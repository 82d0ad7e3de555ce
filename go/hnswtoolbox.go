package hnswtoolbox

import (
	"context"
	"time"
)

// OutputFormat is the file format that an extraction writes.
type OutputFormat string

// The formats that an extraction can write.
const (
	OutputFormatParquet  OutputFormat = "parquet"   // Apache Parquet; the default
	OutputFormatArrowIPC OutputFormat = "arrow_ipc" // the Arrow IPC file format
)

// InputFormat is the file format that a build reads.
type InputFormat string

// The formats that a build can read.
const (
	InputFormatParquet  InputFormat = "parquet"   // Apache Parquet; the default
	InputFormatArrowIPC InputFormat = "arrow_ipc" // the Arrow IPC file format
)

// DistanceMetric is what "near" means in an index. Chroma's names "l2" and "ip" are accepted for
// DistanceMetricSquaredEuclidean and DistanceMetricDotProduct.
type DistanceMetric string

// The metrics that an index can be built for.
const (
	DistanceMetricEuclidean        DistanceMetric = "euclidean"         // ‖a−b‖; the default
	DistanceMetricSquaredEuclidean DistanceMetric = "squared_euclidean" // ‖a−b‖²
	DistanceMetricCosine           DistanceMetric = "cosine"            // 1 − cos(a, b)
	DistanceMetricDotProduct       DistanceMetric = "dot_product"       // 1 − a·b
	DistanceMetricManhattan        DistanceMetric = "manhattan"         // ‖a−b‖₁
)

// Vectors says which vectors an extraction writes.
type Vectors string

// The vectors that an extraction can write.
const (
	VectorsStored   Vectors = "stored"   // bit for bit as the index holds them; the default
	VectorsOriginal Vectors = "original" // cosine: multiplied by the length they had
)

// Compression is how the pages of a Parquet output are compressed.
type Compression string

// The compressions of a Parquet output.
const (
	CompressionNone   Compression = "none" // the default
	CompressionSnappy Compression = "snappy"
	CompressionZstd   Compression = "zstd"
)

// IOMode is how input files are read.
type IOMode string

// The ways to read input files.
const (
	// IOModeMmap maps windows of the file. If another process truncates the file while it is read, the
	// operating system kills this process (SIGBUS).
	IOModeMmap IOMode = "mmap"
	// IOModeRead reads into a buffer. A file that shrinks while it is read is an error. It is the
	// default, except of OpenIndex.
	IOModeRead IOMode = "read"
)

// Engine is the code that builds a graph.
type Engine string

// The engines.
const (
	EnginePartition Engine = "partition" // this library's own, and the default
	EngineNative    Engine = "native"    // this library's own: less memory, several times as long
	EngineHNSWRS    Engine = "hnsw_rs"   // the hnsw_rs crate
)

// ExtractRequest says what to extract. Only IndexDir and OutputPath are needed.
type ExtractRequest struct {
	// IndexDir is a Chroma vector segment directory.
	IndexDir string `json:"index_dir"`
	// OutputPath is the file to write, which appears whole or not at all.
	OutputPath string `json:"output_path"`
	// OutputFormat defaults to OutputFormatParquet.
	OutputFormat OutputFormat `json:"output_format,omitempty"`
	// MetadataPath is an index_metadata.pickle to join, for user_id and seq_id.
	MetadataPath string `json:"metadata_path,omitempty"`
	// IncludeDeleted also writes the records that are marked as deleted.
	IncludeDeleted bool `json:"include_deleted,omitempty"`
	// FirstRow and Rows choose the records from one internal id on, and how many.
	FirstRow *uint64 `json:"first_row,omitempty"`
	Rows     *uint64 `json:"rows,omitempty"`
	// Part and Parts choose a part of the index, from 1 to Parts, instead. The parts, one after the
	// other, are the whole.
	Part  *uint64 `json:"part,omitempty"`
	Parts *uint64 `json:"parts,omitempty"`
	// BatchSize is the number of rows held in memory at a time; it defaults to 1024.
	BatchSize int `json:"batch_size,omitempty"`
	// Vectors defaults to VectorsStored.
	Vectors Vectors `json:"vectors,omitempty"`
	// Salvage extracts what can be saved of a damaged index.
	Salvage bool `json:"salvage,omitempty"`
	// Dimension and M describe a damaged index whose header.bin is not to be used: both or
	// neither, and only with Salvage.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Compression defaults to CompressionNone.
	Compression Compression `json:"compression,omitempty"`
	// RowGroupBytes is the size of a Parquet row group, in bytes of vectors.
	RowGroupBytes uint64 `json:"row_group_bytes,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// ExtractResponse says what an extraction did.
type ExtractResponse struct {
	// Complete is false when records, vectors or texts are missing or damaged.
	Complete     bool           `json:"complete"`
	OutputPath   string         `json:"output_path"`
	OutputFormat OutputFormat   `json:"output_format"`
	Summary      ExtractSummary `json:"summary"`
}

// ExtractSummary counts the records of an extraction.
type ExtractSummary struct {
	Scanned         uint64          `json:"scanned"`         // records looked at
	Emitted         uint64          `json:"emitted"`         // rows written
	DeletedSkipped  uint64          `json:"deleted_skipped"` // records left out because they are deleted
	Dimension       int             `json:"dimension"`       // components of each vector
	IndexProperties IndexProperties `json:"index_properties"`
	Metadata        *JoinSummary    `json:"metadata,omitempty"` // nil when no metadata was joined
	Salvage         *SalvageSummary `json:"salvage,omitempty"`  // nil when nothing was salvaged
}

// JoinSummary says how the metadata and the records of an index fit together.
type JoinSummary struct {
	RowsWithUserID      uint64  `json:"rows_with_user_id"`
	LabelsWithoutRecord uint64  `json:"labels_without_record"` // labels that no live record looked at has
	MaxSeqID            *uint64 `json:"max_seq_id"`            // the last write that the index has seen
}

// SalvageSummary says what was saved of a damaged index, and what was not.
type SalvageSummary struct {
	CountedRecords     *uint64 `json:"counted_records,omitempty"` // by header.bin, if it was read
	WholeRecords       uint64  `json:"whole_records"`             // that data_level0.bin has room for
	LabelZero          uint64  `json:"label_zero"`                // records left out: label 0
	LabelDuplicate     uint64  `json:"label_duplicate"`           // records left out: a later one has the label
	VectorNotFinite    uint64  `json:"vector_not_finite"`         // records left out: NaN or infinity
	Unreadable         uint64  `json:"unreadable"`                // records left out: the disk cannot read them
	VectorDamaged      uint64  `json:"vector_damaged"`            // records left out: not of norm 1 in a cosine segment
	VectorZeroedSector uint64  `json:"vector_zeroed_sector"`      // rows with a 512-byte sector of zeros
	NormMissing        uint64  `json:"norm_missing"`              // rows whose vector has norm 1 because its norm is missing
	MetadataError      *string `json:"metadata_error,omitempty"`  // why no metadata was joined
}

// IndexProperties are what the header of an index says.
type IndexProperties struct {
	M                uint64 `json:"m"`
	EfConstruction   uint64 `json:"ef_construction"`
	CurElementCount  uint64 `json:"cur_element_count"` // deleted elements included
	MaxElements      uint64 `json:"max_elements"`
	PersistedVersion int    `json:"persisted_version"`
	WordSizeBytes    int    `json:"word_size_bytes"` // of the machine that wrote the index
}

// BuildRequest says what to build. Only InputPath and OutputPath are needed.
type BuildRequest struct {
	// InputPath is a Parquet file, or an Arrow IPC file or stream, with a column of vectors.
	InputPath string `json:"input_path"`
	// OutputPath is the .hnsw file to write, which appears whole or not at all.
	OutputPath string `json:"output_path"`
	// InputFormat defaults to InputFormatParquet.
	InputFormat InputFormat `json:"input_format,omitempty"`
	// VectorColumn names the column of the vectors; it defaults to vector.
	VectorColumn string `json:"vector_column,omitempty"`
	// LabelColumn names the column of the labels. Without it they are the column label, or else
	// internal_id, or else the row numbers.
	LabelColumn string `json:"label_column,omitempty"`
	// RowNumbers takes the row numbers as labels, whatever columns there are. It excludes LabelColumn.
	RowNumbers bool `json:"row_numbers,omitempty"`
	// Metric defaults to DistanceMetricEuclidean. The .hnsw file states it.
	Metric DistanceMetric `json:"metric,omitempty"`
	// IncludeDeleted also inserts the rows that are marked as deleted.
	IncludeDeleted bool `json:"include_deleted,omitempty"`
	// M is the number of neighbours on the levels above 0; it defaults to 16.
	M int `json:"m,omitempty"`
	// M0 is the number of neighbours on level 0; it defaults to 2·M.
	M0 *int `json:"m0,omitempty"`
	// EfConstruction is the number of candidates while building; it defaults to 200.
	EfConstruction int `json:"ef_construction,omitempty"`
	// BatchSize is the number of rows read at a time; it defaults to 1024.
	BatchSize int `json:"batch_size,omitempty"`
	// Capacity is the most vectors there may be.
	Capacity *int `json:"capacity,omitempty"`
	// Seed fixes the random levels, the order of insertion and the groups of the partition engine, so that
	// equal inputs give equal files.
	Seed *uint64 `json:"seed,omitempty"`
	// Threads is the number of threads to build with; the default is the library's.
	Threads int `json:"threads,omitempty"`
	// Engine defaults to the library's.
	Engine Engine `json:"engine,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// BuildResponse says what a build did.
type BuildResponse struct {
	Complete    bool           `json:"complete"` // always true: rows that are left out were asked to be
	InputPath   string         `json:"input_path"`
	OutputPath  string         `json:"output_path"`
	InputFormat InputFormat    `json:"input_format"`
	Metric      DistanceMetric `json:"metric"`
	Summary     BuildSummary   `json:"summary"`
}

// BuildSummary counts the rows of a build.
type BuildSummary struct {
	Scanned        uint64 `json:"scanned"`                  // rows of the input
	Inserted       uint64 `json:"inserted"`                 // vectors in the index
	DeletedSkipped uint64 `json:"deleted_skipped"`          // rows left out because they are deleted
	WithoutVector  uint64 `json:"without_vector,omitempty"` // rows of an export left out because they have no vector
	Dimension      int    `json:"dimension"`                // components of each vector

	// Warnings says what makes the index less useful than it looks, a sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// Links says what the links of a repaired index are.
type Links string

// The links that a repair can give an index.
const (
	LinksKeep  Links = "keep"  // its own, without the records that go
	LinksBuild Links = "build" // those of a new graph
)

// Space is Chroma's name for what "near" means in a collection.
type Space string

// The spaces of Chroma's collections.
const (
	SpaceL2     Space = "l2"
	SpaceCosine Space = "cosine"
	SpaceIP     Space = "ip"
)

// RepairRequest says what to repair. Only IndexDir and OutputPath are needed.
type RepairRequest struct {
	// IndexDir is a Chroma vector segment directory, or, with a Collection, a persist directory.
	// It is only read.
	IndexDir string `json:"index_dir"`
	// OutputPath is the directory to write, which appears whole or not at all. Nothing may be
	// there yet.
	OutputPath string `json:"output_path"`
	// Links defaults to LinksKeep where the index's links are sound, else to LinksBuild.
	Links Links `json:"links,omitempty"`
	// Metric is that of the collection. LinksBuild needs it, unless the index hints at it.
	Metric Space `json:"metric,omitempty"`
	// Dimension and M describe an index whose header.bin is not to be used: both or neither.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Collection is the name of the collection whose records, those of the log included, make the
	// new index. Database and Tenant say where it is, if several have one of that name.
	Collection string `json:"collection,omitempty"`
	Database   string `json:"database,omitempty"`
	Tenant     string `json:"tenant,omitempty"`
	// Threads defaults to one for each core, and is at most 8.
	Threads *int `json:"threads,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// RepairResponse says what a repair did.
type RepairResponse struct {
	// Complete is false when records, vectors or texts are missing or damaged.
	Complete   bool          `json:"complete"`
	OutputPath string        `json:"output_path"`
	Summary    RepairSummary `json:"summary"`
}

// RepairSummary says what became of an index.
type RepairSummary struct {
	StateBefore      *string         `json:"state_before"`       // what was wrong, in one word; nil: no index
	Scanned          uint64          `json:"scanned"`            // records looked at
	Records          uint64          `json:"records"`            // records of the new index
	DeletedRemoved   uint64          `json:"deleted_removed"`    // records left out: deleted
	RecordsWithoutID uint64          `json:"records_without_id"` // records left out: nothing has their label
	IDsWithoutRecord uint64          `json:"ids_without_record"` // ids left out: no record has their label
	Salvage          *SalvageSummary `json:"salvage,omitempty"`  // nil when the records are not damaged
	Dimension        int             `json:"dimension"`          // components of each vector
	Metric           *Space          `json:"metric"`             // nil when it is not known
	MetricSource     string          `json:"metric_source"`      // database, option, evidence, hint, undecided or unknown
	Links            Links           `json:"links"`
	ComparedBy       DistanceMetric  `json:"compared_by"` // what neighbours were compared with
	Bridged          uint64          `json:"bridged"`     // records that have other neighbours now
	LinksAdded       uint64          `json:"links_added"` // to records that no search found
	NormsLost        uint64          `json:"norms_lost"`  // norms that are 1 now
	IndexProperties  IndexProperties `json:"index_properties"`
	Steps            []string        `json:"steps"` // to have Chroma use the new directory

	// Collection is nil when a segment directory was repaired by itself.
	Collection *RepairedCollection `json:"collection,omitempty"`
}

// RepairedCollection is the collection that an index was put together for.
type RepairedCollection struct {
	Tenant        string              `json:"tenant"`
	Database      string              `json:"database"`
	Name          string              `json:"name"`
	SegmentDir    string              `json:"segment_dir"`    // in the persist directory; need not be there
	FromIndex     uint64              `json:"from_index"`     // records whose vector was in the index
	FromLog       uint64              `json:"from_log"`       // records whose vector was in the log
	WithoutVector uint64              `json:"without_vector"` // records left out: no vector anywhere
	Findings      []CollectionFinding `json:"findings"`
	Statements    []string            `json:"statements"` // SQL that mends a spoilt watermark
}

// Progress is how far a call has come.
type Progress struct {
	Done  uint64 // rows done
	Total uint64 // rows in all; 0 as long as that is not known
}

// Option changes how a call with a context runs.
type Option func(*options)

type options struct {
	progress func(Progress)
}

// progressInterval is the time between two reports; a variable so that tests can shorten it.
var progressInterval = 200 * time.Millisecond

// WithProgress calls report a few times a second while the call runs, and once more when it has
// succeeded. The calls come one after the other, from one goroutine, and the last of them has
// returned before the call itself does.
func WithProgress(report func(Progress)) Option {
	return func(o *options) { o.progress = report }
}

// Init loads the library. With an empty path it loads the file that the environment variable
// HNSW_TOOLBOX_LIB names, whatever that is, or else the first of these:
//
//   - the library in the directory of the executable, symbolic links followed, or in lib or ../lib
//     there;
//   - the library in the user's data directory: $XDG_DATA_HOME/hnsw-toolbox/lib or
//     ~/.local/share/hnsw-toolbox/lib; on macOS ~/Library/Application Support/hnsw-toolbox/lib; on
//     Windows %LOCALAPPDATA%\hnsw-toolbox\lib;
//   - an installed library, where the dynamic linker looks, or on Windows in a directory of PATH.
//
// When there is none, the error matches [ErrLibraryNotFound] and lists where it was looked for.
//
// Init again with the same library does nothing; with another it fails with
// [ErrAlreadyInitialized] until [Close] is called. A library that lacks a function, or has another
// ABI version, fails with [ErrIncompatibleLibrary] and is named in the error.
func Init(libraryPath string) error {
	return current.init(libraryPath)
}

// Close gives the library up. Later calls fail with [ErrNotInitialized]; calls that are running
// finish first, and Close waits for them. Close without Init does nothing. [Init] may be called
// again.
func Close() error {
	return current.close()
}

// Version returns the version of the loaded library, such as "0.1.0".
func Version() (string, error) {
	lib, err := current.acquire()
	if err != nil {
		return "", err
	}
	defer lib.release()
	return goString(lib.version()), nil
}

// LastError returns the text of the error of the call with a request that finished last, on
// whichever goroutine, or "" if it succeeded. The error that a call returns says the same, and
// cannot be another call's.
func LastError() string {
	if text := lastError.Load(); text != nil {
		return *text
	}
	return ""
}

// ExtractIndex writes the records of a Chroma vector segment directory to a Parquet or Arrow IPC
// file.
func ExtractIndex(req ExtractRequest) (*ExtractResponse, error) {
	return ExtractIndexContext(context.Background(), req)
}

// ExtractIndexContext is [ExtractIndex], and stops soon after ctx ends. It then writes no file, and
// its error matches both ctx.Err() and [ErrCancelled].
func ExtractIndexContext(ctx context.Context, req ExtractRequest, opts ...Option) (*ExtractResponse, error) {
	return call[ExtractResponse](ctx, req.operation(), opts)
}

func (req ExtractRequest) operation() operation {
	return operation{
		name:     "extract index",
		function: func(l *library) nativeCall { return l.extract },
		paths: []field{
			{"index_dir", req.IndexDir}, {"output_path", req.OutputPath}, {"metadata_path", req.MetadataPath},
		},
		request: func(token uint64) any {
			return struct {
				ExtractRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}

// BuildIndex builds an HNSW index from a Parquet or Arrow IPC file and writes it as one .hnsw file.
func BuildIndex(req BuildRequest) (*BuildResponse, error) {
	return BuildIndexContext(context.Background(), req)
}

// BuildIndexContext is [BuildIndex], and stops soon after ctx ends. It then writes no file, and its
// error matches both ctx.Err() and [ErrCancelled].
func BuildIndexContext(ctx context.Context, req BuildRequest, opts ...Option) (*BuildResponse, error) {
	return call[BuildResponse](ctx, req.operation(), opts)
}

func (req BuildRequest) operation() operation {
	return operation{
		name:     "build index",
		function: func(l *library) nativeCall { return l.build },
		paths:    []field{{"input_path", req.InputPath}, {"output_path", req.OutputPath}},
		request: func(token uint64) any {
			return struct {
				BuildRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}

// RepairIndex writes a healthy Chroma vector segment directory in the place of a damaged or bloated
// one. The steps to have Chroma use it are in the response.
func RepairIndex(req RepairRequest) (*RepairResponse, error) {
	return RepairIndexContext(context.Background(), req)
}

// RepairIndexContext is [RepairIndex], and stops soon after ctx ends. It then writes no directory,
// and its error matches both ctx.Err() and [ErrCancelled].
func RepairIndexContext(ctx context.Context, req RepairRequest, opts ...Option) (*RepairResponse, error) {
	return call[RepairResponse](ctx, req.operation(), opts)
}

func (req RepairRequest) operation() operation {
	return operation{
		name:     "repair index",
		function: func(l *library) nativeCall { return l.repair },
		paths: []field{
			{"index_dir", req.IndexDir}, {"output_path", req.OutputPath}, {"collection", req.Collection},
			{"database", req.Database}, {"tenant", req.Tenant},
		},
		request: func(token uint64) any {
			return struct {
				RepairRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}
