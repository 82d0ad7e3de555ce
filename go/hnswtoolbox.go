package hnswtoolbox

import (
	"context"
	"time"
)

// OutputFormat is the file format of an extraction's output.
type OutputFormat string

// Formats of an extraction.
const (
	OutputFormatParquet  OutputFormat = "parquet"   // Apache Parquet; the default
	OutputFormatArrowIPC OutputFormat = "arrow_ipc" // the Arrow IPC file format
)

// InputFormat is the file format of a build's input.
type InputFormat string

// Formats of a build's input.
const (
	InputFormatParquet  InputFormat = "parquet"   // Apache Parquet; the default
	InputFormatArrowIPC InputFormat = "arrow_ipc" // the Arrow IPC file format
)

// DistanceMetric is the metric of an index. Chroma's names "l2" and "ip" are accepted for
// DistanceMetricSquaredEuclidean and DistanceMetricDotProduct.
type DistanceMetric string

// Metrics of an index.
const (
	DistanceMetricEuclidean        DistanceMetric = "euclidean"         // ‖a−b‖; the default
	DistanceMetricSquaredEuclidean DistanceMetric = "squared_euclidean" // ‖a−b‖²
	DistanceMetricCosine           DistanceMetric = "cosine"            // 1 − cos(a, b)
	DistanceMetricDotProduct       DistanceMetric = "dot_product"       // 1 − a·b
	DistanceMetricManhattan        DistanceMetric = "manhattan"         // ‖a−b‖₁
)

// Vectors selects the form of extracted vectors.
type Vectors string

// Forms of extracted vectors.
const (
	VectorsStored   Vectors = "stored"   // bit for bit as in the index; the default
	VectorsOriginal Vectors = "original" // cosine: multiplied by their original norm
)

// Compression is the compression of the pages of a Parquet output.
type Compression string

// Compressions of a Parquet output.
const (
	CompressionNone   Compression = "none" // the default
	CompressionSnappy Compression = "snappy"
	CompressionZstd   Compression = "zstd"
)

// IOMode is the way in which input files are read.
type IOMode string

// Ways to read input files.
const (
	// IOModeMmap maps windows of the file. If another process truncates the file during reading, the
	// operating system kills this process (SIGBUS).
	IOModeMmap IOMode = "mmap"
	// IOModeRead reads into a buffer. A file that shrinks during reading is an error. It is the default,
	// except for OpenIndex.
	IOModeRead IOMode = "read"
)

// Engine selects the code that builds a graph.
type Engine string

// Engines.
const (
	EnginePartition Engine = "partition" // this library's own; the default
	EngineNative    Engine = "native"    // this library's own; less memory, several times slower
	EngineHNSWRS    Engine = "hnsw_rs"   // the hnsw_rs crate
)

// ExtractRequest selects what to extract. Only IndexDir and OutputPath are required.
type ExtractRequest struct {
	// IndexDir is a Chroma vector segment directory.
	IndexDir string `json:"index_dir"`
	// OutputPath is the file to write. It is written atomically.
	OutputPath string `json:"output_path"`
	// OutputFormat defaults to OutputFormatParquet.
	OutputFormat OutputFormat `json:"output_format,omitempty"`
	// MetadataPath is an index_metadata.pickle to join, for user_id and seq_id.
	MetadataPath string `json:"metadata_path,omitempty"`
	// IncludeDeleted also extracts records that are marked as deleted.
	IncludeDeleted bool `json:"include_deleted,omitempty"`
	// FirstRow and Rows select a range of internal ids by its start and length.
	FirstRow *uint64 `json:"first_row,omitempty"`
	Rows     *uint64 `json:"rows,omitempty"`
	// Part and Parts instead select one of Parts parts of the index, numbered from 1. Concatenated in
	// order, the parts equal the full output.
	Part  *uint64 `json:"part,omitempty"`
	Parts *uint64 `json:"parts,omitempty"`
	// BatchSize is the number of rows held in memory at a time; it defaults to 1024.
	BatchSize int `json:"batch_size,omitempty"`
	// Vectors defaults to VectorsStored.
	Vectors Vectors `json:"vectors,omitempty"`
	// Salvage extracts the undamaged records of a damaged index.
	Salvage bool `json:"salvage,omitempty"`
	// Dimension and M describe a damaged index and replace its header.bin. Set both or neither, and
	// only with Salvage.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Compression defaults to CompressionNone.
	Compression Compression `json:"compression,omitempty"`
	// RowGroupBytes is the size of a Parquet row group, in bytes of vectors.
	RowGroupBytes uint64 `json:"row_group_bytes,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// ExtractResponse reports the result of an extraction.
type ExtractResponse struct {
	// Complete is false if records, vectors or texts are missing or damaged.
	Complete     bool           `json:"complete"`
	OutputPath   string         `json:"output_path"`
	OutputFormat OutputFormat   `json:"output_format"`
	Summary      ExtractSummary `json:"summary"`
}

// ExtractSummary counts the records of an extraction.
type ExtractSummary struct {
	Scanned         uint64          `json:"scanned"`         // records examined
	Emitted         uint64          `json:"emitted"`         // rows written
	DeletedSkipped  uint64          `json:"deleted_skipped"` // records skipped because they are deleted
	Dimension       int             `json:"dimension"`       // components per vector
	IndexProperties IndexProperties `json:"index_properties"`
	Metadata        *JoinSummary    `json:"metadata,omitempty"` // nil if no metadata was joined
	Salvage         *SalvageSummary `json:"salvage,omitempty"`  // nil without a salvage
}

// JoinSummary counts the matches of an index's metadata and records.
type JoinSummary struct {
	RowsWithUserID      uint64  `json:"rows_with_user_id"`
	LabelsWithoutRecord uint64  `json:"labels_without_record"` // labels of no examined live record
	MaxSeqID            *uint64 `json:"max_seq_id"`            // the last write in the index
}

// SalvageSummary counts the saved and the skipped records of a damaged index.
type SalvageSummary struct {
	CountedRecords     *uint64 `json:"counted_records,omitempty"` // according to header.bin, if it was read
	WholeRecords       uint64  `json:"whole_records"`             // complete records in data_level0.bin
	LabelZero          uint64  `json:"label_zero"`                // records skipped: label 0
	LabelDuplicate     uint64  `json:"label_duplicate"`           // records skipped: a later one has the same label
	VectorNotFinite    uint64  `json:"vector_not_finite"`         // records skipped: NaN or infinity
	Unreadable         uint64  `json:"unreadable"`                // records skipped: the disk cannot read them
	VectorDamaged      uint64  `json:"vector_damaged"`            // records skipped: norm other than 1 in a cosine segment
	VectorZeroedSector uint64  `json:"vector_zeroed_sector"`      // rows with a 512-byte sector of zeros
	NormMissing        uint64  `json:"norm_missing"`              // rows with a vector of norm 1 because the original norm is missing
	MetadataError      *string `json:"metadata_error,omitempty"`  // the reason if no metadata was joined
}

// IndexProperties are fields of the header of an index.
type IndexProperties struct {
	M                uint64 `json:"m"`
	EfConstruction   uint64 `json:"ef_construction"`
	CurElementCount  uint64 `json:"cur_element_count"` // including deleted records
	MaxElements      uint64 `json:"max_elements"`
	PersistedVersion int    `json:"persisted_version"`
	WordSizeBytes    int    `json:"word_size_bytes"` // word size of the machine that wrote the index
}

// BuildRequest describes a build. Only InputPath and OutputPath are required.
type BuildRequest struct {
	// InputPath is a Parquet file, or an Arrow IPC file or stream, with a column of vectors.
	InputPath string `json:"input_path"`
	// OutputPath is the .hnsw file to write. It is written atomically.
	OutputPath string `json:"output_path"`
	// InputFormat defaults to InputFormatParquet.
	InputFormat InputFormat `json:"input_format,omitempty"`
	// VectorColumn names the vector column; it defaults to vector.
	VectorColumn string `json:"vector_column,omitempty"`
	// LabelColumn names the label column. The default is label, then internal_id, then the row
	// numbers.
	LabelColumn string `json:"label_column,omitempty"`
	// RowNumbers uses row numbers as labels, even if the input has a label column. It excludes
	// LabelColumn.
	RowNumbers bool `json:"row_numbers,omitempty"`
	// Metric defaults to DistanceMetricEuclidean. The .hnsw file records it.
	Metric DistanceMetric `json:"metric,omitempty"`
	// IncludeDeleted also inserts rows that are marked as deleted.
	IncludeDeleted bool `json:"include_deleted,omitempty"`
	// M is the number of neighbours on the upper levels; it defaults to 16.
	M int `json:"m,omitempty"`
	// M0 is the number of neighbours on level 0; it defaults to 2·M.
	M0 *int `json:"m0,omitempty"`
	// EfConstruction is the number of candidates kept during construction; it defaults to 200.
	EfConstruction int `json:"ef_construction,omitempty"`
	// BatchSize is the number of rows read at a time; it defaults to 1024.
	BatchSize int `json:"batch_size,omitempty"`
	// Capacity is the maximum number of vectors.
	Capacity *int `json:"capacity,omitempty"`
	// Seed determines the random levels, the order of insertion and the groups of the partition
	// engine. Equal inputs then give equal files.
	Seed *uint64 `json:"seed,omitempty"`
	// Threads is the number of threads of the build; the default is the library's.
	Threads int `json:"threads,omitempty"`
	// Engine defaults to the library's default.
	Engine Engine `json:"engine,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// BuildResponse reports the result of a build.
type BuildResponse struct {
	Complete    bool           `json:"complete"` // always true: rows are skipped only on request
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
	DeletedSkipped uint64 `json:"deleted_skipped"`          // rows skipped because they are deleted
	WithoutVector  uint64 `json:"without_vector,omitempty"` // rows of an export skipped because they have no vector
	Dimension      int    `json:"dimension"`                // components per vector

	// Warnings names limitations of the index, one sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// Links selects the links of a repaired index.
type Links string

// Links of a repaired index.
const (
	LinksKeep  Links = "keep"  // the index's own, without deleted records
	LinksBuild Links = "build" // the links of a new graph
)

// Space is Chroma's name for the metric of a collection.
type Space string

// Spaces of Chroma's collections.
const (
	SpaceL2     Space = "l2"
	SpaceCosine Space = "cosine"
	SpaceIP     Space = "ip"
)

// RepairRequest describes a repair. Only IndexDir and OutputPath are required.
type RepairRequest struct {
	// IndexDir is a Chroma vector segment directory; with a Collection, a persist directory. It is
	// only read.
	IndexDir string `json:"index_dir"`
	// OutputPath is the directory to write. It must not exist, and is written atomically.
	OutputPath string `json:"output_path"`
	// Links defaults to LinksKeep if the index's links are intact, else to LinksBuild.
	Links Links `json:"links,omitempty"`
	// Metric is the collection's metric. LinksBuild needs it unless the index implies it.
	Metric Space `json:"metric,omitempty"`
	// Dimension and M describe an index and replace its header.bin. Set both or neither.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Collection names the collection to repair. The new index contains its records, including queued
	// ones. Database and Tenant identify it if the name is not unique.
	Collection string `json:"collection,omitempty"`
	Database   string `json:"database,omitempty"`
	Tenant     string `json:"tenant,omitempty"`
	// Threads defaults to one per core, with a maximum of 8.
	Threads *int `json:"threads,omitempty"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// RepairResponse reports the result of a repair.
type RepairResponse struct {
	// Complete is false if records, vectors or texts are missing or damaged.
	Complete   bool          `json:"complete"`
	OutputPath string        `json:"output_path"`
	Summary    RepairSummary `json:"summary"`
}

// RepairSummary counts the records and links of a repair.
type RepairSummary struct {
	StateBefore      *string         `json:"state_before"`       // the state before the repair; nil if there was no index
	Scanned          uint64          `json:"scanned"`            // records examined
	Records          uint64          `json:"records"`            // records of the new index
	DeletedRemoved   uint64          `json:"deleted_removed"`    // records skipped: deleted
	RecordsWithoutID uint64          `json:"records_without_id"` // records skipped: no id has their label
	IDsWithoutRecord uint64          `json:"ids_without_record"` // ids skipped: no record has their label
	Salvage          *SalvageSummary `json:"salvage,omitempty"`  // nil if the records are not damaged
	Dimension        int             `json:"dimension"`          // components per vector
	Metric           *Space          `json:"metric"`             // nil if unknown
	MetricSource     string          `json:"metric_source"`      // database, option, evidence, hint, undecided or unknown
	Links            Links           `json:"links"`
	ComparedBy       DistanceMetric  `json:"compared_by"` // the metric used to compare neighbours
	Bridged          uint64          `json:"bridged"`     // records with new neighbours
	LinksAdded       uint64          `json:"links_added"` // links added to unreachable records
	NormsLost        uint64          `json:"norms_lost"`  // lost norms, replaced by 1
	IndexProperties  IndexProperties `json:"index_properties"`
	Steps            []string        `json:"steps"` // steps to make Chroma use the new directory

	// Collection is nil if a segment directory was repaired without its database.
	Collection *RepairedCollection `json:"collection,omitempty"`
}

// RepairedCollection describes the collection of a repaired index.
type RepairedCollection struct {
	Tenant        string              `json:"tenant"`
	Database      string              `json:"database"`
	Name          string              `json:"name"`
	SegmentDir    string              `json:"segment_dir"`    // path in the persist directory; can be absent
	FromIndex     uint64              `json:"from_index"`     // records whose vector was in the index
	FromLog       uint64              `json:"from_log"`       // records whose vector was in the queue
	WithoutVector uint64              `json:"without_vector"` // records skipped: no vector anywhere
	Findings      []CollectionFinding `json:"findings"`
	Statements    []string            `json:"statements"` // SQL that fixes a poisoned watermark
}

// Progress is the progress of a call.
type Progress struct {
	Done  uint64 // rows finished
	Total uint64 // total number of rows; 0 while unknown
}

// Option configures a call with a context.
type Option func(*options)

type options struct {
	progress func(Progress)
}

// progressInterval is the time between two reports. A variable, so that tests can shorten it.
var progressInterval = 200 * time.Millisecond

// WithProgress calls report a few times per second while the call runs, and once more after it has
// succeeded. One goroutine makes these calls sequentially, and the last one returns before the call
// itself.
func WithProgress(report func(Progress)) Option {
	return func(o *options) { o.progress = report }
}

// Init loads the library. An empty path selects the file in the environment variable
// HNSW_TOOLBOX_LIB if that is set, else the first of these:
//
//   - the library in the executable's directory (symbolic links followed), or in lib or ../lib
//     relative to it;
//   - the library in the user's data directory: $XDG_DATA_HOME/hnsw-toolbox/lib or
//     ~/.local/share/hnsw-toolbox/lib; on macOS ~/Library/Application Support/hnsw-toolbox/lib; on
//     Windows %LOCALAPPDATA%\hnsw-toolbox\lib;
//   - an installed library, in the dynamic linker's search path or, on Windows, in a directory
//     of PATH.
//
// If none exists, the error matches [ErrLibraryNotFound] and lists the searched places.
//
// A second Init with the same library does nothing. With another library it fails with
// [ErrAlreadyInitialized] until [Close] is called. A library that lacks a function or has another
// ABI version fails with [ErrIncompatibleLibrary], and the error names it.
func Init(libraryPath string) error {
	return current.init(libraryPath)
}

// Close releases the library. It waits for running calls; later calls fail with
// [ErrNotInitialized]. Close without Init does nothing. [Init] can be called again afterwards.
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

// LastError returns the message of the most recently completed call in the process, or "" if it
// succeeded. Prefer the error that a call returns.
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

// ExtractIndexContext is [ExtractIndex] with a context. It stops soon after ctx ends and then
// writes no file; its error matches both ctx.Err() and [ErrCancelled].
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

// BuildIndex builds an HNSW index from a Parquet or Arrow IPC file, and writes it to a .hnsw file.
func BuildIndex(req BuildRequest) (*BuildResponse, error) {
	return BuildIndexContext(context.Background(), req)
}

// BuildIndexContext is [BuildIndex] with a context. It stops soon after ctx ends and then writes no
// file; its error matches both ctx.Err() and [ErrCancelled].
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

// RepairIndex writes a healthy replacement of a damaged or bloated Chroma vector segment directory.
// The response lists the steps to make Chroma use it.
func RepairIndex(req RepairRequest) (*RepairResponse, error) {
	return RepairIndexContext(context.Background(), req)
}

// RepairIndexContext is [RepairIndex] with a context. It stops soon after ctx ends and then writes
// no directory; its error matches both ctx.Err() and [ErrCancelled].
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
