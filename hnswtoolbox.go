// Package hnswtoolbox extracts vectors from Chroma's on-disk HNSW indexes, builds new HNSW indexes
// from Parquet or Arrow IPC files, and searches them. It calls the dynamic library of hnsw-toolbox
// through purego, without cgo. [Init] loads the library.
//
// Every name forwards to the package [github.com/amikos-tech/hnsw-toolbox/go], whose documentation
// has a complete program, the fields and the methods. A program may import both: they share the
// types, the errors and the loaded library.
package hnswtoolbox

import (
	"context"
	"iter"

	toolbox "github.com/amikos-tech/hnsw-toolbox/go"
)

// MetadataForm is how an export writes the metadata of records.
type MetadataForm = toolbox.MetadataForm

// The forms of metadata in an export.
const (
	MetadataFormJSON    = toolbox.MetadataFormJSON    // a column with a JSON object for each record; the default
	MetadataFormColumns = toolbox.MetadataFormColumns // a typed column metadata.<key> for each key
)

// CollectionState is how a collection is, in one word.
type CollectionState = toolbox.CollectionState

// The states of a collection.
const (
	CollectionStateEmpty       = toolbox.CollectionStateEmpty       // no records
	CollectionStateFlushed     = toolbox.CollectionStateFlushed     // every vector is in the index
	CollectionStateQueued      = toolbox.CollectionStateQueued      // the newest vectors are in the log only
	CollectionStateDamaged     = toolbox.CollectionStateDamaged     // every vector is there, though files are damaged
	CollectionStateIncomplete  = toolbox.CollectionStateIncomplete  // records lack a vector or a readable id
	CollectionStateUnsupported = toolbox.CollectionStateUnsupported // the index is not in the persist directory
)

// ListCollectionsRequest says which collections to list. Only PersistDir is needed.
type ListCollectionsRequest = toolbox.ListCollectionsRequest

// ListCollectionsResponse says what a persist directory holds.
type ListCollectionsResponse = toolbox.ListCollectionsResponse

// Collection is a collection, by numbers.
type Collection = toolbox.Collection

// CollectionFinding is something worth knowing about a collection or a database.
type CollectionFinding = toolbox.CollectionFinding

// ExportRequest says what to export. Only PersistDir and OutputPath are needed.
type ExportRequest = toolbox.ExportRequest

// ExportResponse says what an export did.
type ExportResponse = toolbox.ExportResponse

// ExportSummary says what an export wrote. It is also what manifest.json holds.
type ExportSummary = toolbox.ExportSummary

// ExportedFile is a file that an export wrote, and the collection that is in it.
type ExportedFile = toolbox.ExportedFile

// ListCollections lists the collections of a Chroma persist directory.
//
// It must not be called in a process that has the same database open by another copy of SQLite: on
// POSIX systems, closing the file drops that process's locks on it.
func ListCollections(req ListCollectionsRequest) (*ListCollectionsResponse, error) {
	return toolbox.ListCollections(req)
}

// ListCollectionsContext is [ListCollections], and stops soon after ctx ends. Its error then matches
// both ctx.Err() and [ErrCancelled].
func ListCollectionsContext(ctx context.Context, req ListCollectionsRequest, opts ...Option) (*ListCollectionsResponse, error) {
	return toolbox.ListCollectionsContext(ctx, req, opts...)
}

// Export writes the collections of a Chroma persist directory to Parquet or Arrow IPC files: ids,
// vectors, documents and metadata, the newest writes included.
//
// What [ListCollections] says about processes holds here, too.
func Export(req ExportRequest) (*ExportResponse, error) {
	return toolbox.Export(req)
}

// ExportContext is [Export], and stops soon after ctx ends. It then writes nothing, and its error
// matches both ctx.Err() and [ErrCancelled].
func ExportContext(ctx context.Context, req ExportRequest, opts ...Option) (*ExportResponse, error) {
	return toolbox.ExportContext(ctx, req, opts...)
}

// What the errors of this package match, with [errors.Is].
var (
	// ErrNotInitialized means that Init was not called, or Close was.
	ErrNotInitialized = toolbox.ErrNotInitialized
	// ErrAlreadyInitialized means that Init was called with another library before.
	ErrAlreadyInitialized = toolbox.ErrAlreadyInitialized
	// ErrLibraryNotFound means that there is no library where it was looked for.
	ErrLibraryNotFound = toolbox.ErrLibraryNotFound
	// ErrIncompatibleLibrary means that the library is not one that this package can call.
	ErrIncompatibleLibrary = toolbox.ErrIncompatibleLibrary
	// ErrIndexClosed means that an index was closed, itself or with the library.
	ErrIndexClosed = toolbox.ErrIndexClosed
	// ErrInvalidRequest means that a field of the request is refused (codes 100 to 199).
	ErrInvalidRequest = toolbox.ErrInvalidRequest
	// ErrInvalidInput means that an input's content is wrong or unsupported (codes 200 to 299).
	ErrInvalidInput = toolbox.ErrInvalidInput
	// ErrCorruptIndex means that an index or its metadata is damaged (codes 200 and 201).
	ErrCorruptIndex = toolbox.ErrCorruptIndex
	// ErrIO means that the operating system refused, a path cannot be used, or memory is
	// exhausted (codes 300 to 399).
	ErrIO = toolbox.ErrIO
	// ErrOutOfMemory means that memory which the work needs cannot be allocated (code 302).
	ErrOutOfMemory = toolbox.ErrOutOfMemory
	// ErrCancelled means that the call was stopped (codes 400 to 499).
	ErrCancelled = toolbox.ErrCancelled
	// ErrInternal means a fault in the library or in this package (codes 900 to 999).
	ErrInternal = toolbox.ErrInternal
)

// Error is a failed call.
type Error = toolbox.Error

// OutputFormat is the file format that an extraction writes.
type OutputFormat = toolbox.OutputFormat

// The formats that an extraction can write.
const (
	OutputFormatParquet  = toolbox.OutputFormatParquet  // Apache Parquet; the default
	OutputFormatArrowIPC = toolbox.OutputFormatArrowIPC // the Arrow IPC file format
)

// InputFormat is the file format that a build reads.
type InputFormat = toolbox.InputFormat

// The formats that a build can read.
const (
	InputFormatParquet  = toolbox.InputFormatParquet  // Apache Parquet; the default
	InputFormatArrowIPC = toolbox.InputFormatArrowIPC // the Arrow IPC file format
)

// DistanceMetric is what "near" means in an index. Chroma's names "l2" and "ip" are accepted for
// DistanceMetricSquaredEuclidean and DistanceMetricDotProduct.
type DistanceMetric = toolbox.DistanceMetric

// The metrics that an index can be built for.
const (
	DistanceMetricEuclidean        = toolbox.DistanceMetricEuclidean        // ‖a−b‖; the default
	DistanceMetricSquaredEuclidean = toolbox.DistanceMetricSquaredEuclidean // ‖a−b‖²
	DistanceMetricCosine           = toolbox.DistanceMetricCosine           // 1 − cos(a, b)
	DistanceMetricDotProduct       = toolbox.DistanceMetricDotProduct       // 1 − a·b
	DistanceMetricManhattan        = toolbox.DistanceMetricManhattan        // ‖a−b‖₁
)

// Vectors says which vectors an extraction writes.
type Vectors = toolbox.Vectors

// The vectors that an extraction can write.
const (
	VectorsStored   = toolbox.VectorsStored   // bit for bit as the index holds them; the default
	VectorsOriginal = toolbox.VectorsOriginal // cosine: multiplied by the length they had
)

// Compression is how the pages of a Parquet output are compressed.
type Compression = toolbox.Compression

// The compressions of a Parquet output.
const (
	CompressionNone   = toolbox.CompressionNone // the default
	CompressionSnappy = toolbox.CompressionSnappy
	CompressionZstd   = toolbox.CompressionZstd
)

// IOMode is how input files are read.
type IOMode = toolbox.IOMode

// The ways to read input files.
const (
	// IOModeMmap maps windows of the file. If another process truncates the file while it is read, the
	// operating system kills this process (SIGBUS).
	IOModeMmap = toolbox.IOModeMmap
	// IOModeRead reads into a buffer. A file that shrinks while it is read is an error. It is the
	// default, except of OpenIndex.
	IOModeRead = toolbox.IOModeRead
)

// Engine is the code that builds a graph.
type Engine = toolbox.Engine

// The engines.
const (
	EnginePartition = toolbox.EnginePartition // this library's own, and the default
	EngineNative    = toolbox.EngineNative    // this library's own: less memory, several times as long
	EngineHNSWRS    = toolbox.EngineHNSWRS    // the hnsw_rs crate
)

// ExtractRequest says what to extract. Only IndexDir and OutputPath are needed.
type ExtractRequest = toolbox.ExtractRequest

// ExtractResponse says what an extraction did.
type ExtractResponse = toolbox.ExtractResponse

// ExtractSummary counts the records of an extraction.
type ExtractSummary = toolbox.ExtractSummary

// JoinSummary says how the metadata and the records of an index fit together.
type JoinSummary = toolbox.JoinSummary

// SalvageSummary says what was saved of a damaged index, and what was not.
type SalvageSummary = toolbox.SalvageSummary

// IndexProperties are what the header of an index says.
type IndexProperties = toolbox.IndexProperties

// BuildRequest says what to build. Only InputPath and OutputPath are needed.
type BuildRequest = toolbox.BuildRequest

// BuildResponse says what a build did.
type BuildResponse = toolbox.BuildResponse

// BuildSummary counts the rows of a build.
type BuildSummary = toolbox.BuildSummary

// Links says what the links of a repaired index are.
type Links = toolbox.Links

// The links that a repair can give an index.
const (
	LinksKeep  = toolbox.LinksKeep  // its own, without the records that go
	LinksBuild = toolbox.LinksBuild // those of a new graph
)

// Space is Chroma's name for what "near" means in a collection.
type Space = toolbox.Space

// The spaces of Chroma's collections.
const (
	SpaceL2     = toolbox.SpaceL2
	SpaceCosine = toolbox.SpaceCosine
	SpaceIP     = toolbox.SpaceIP
)

// RepairRequest says what to repair. Only IndexDir and OutputPath are needed.
type RepairRequest = toolbox.RepairRequest

// RepairResponse says what a repair did.
type RepairResponse = toolbox.RepairResponse

// RepairSummary says what became of an index.
type RepairSummary = toolbox.RepairSummary

// RepairedCollection is the collection that an index was put together for.
type RepairedCollection = toolbox.RepairedCollection

// Progress is how far a call has come.
type Progress = toolbox.Progress

// Option changes how a call with a context runs.
type Option = toolbox.Option

// WithProgress calls report a few times a second while the call runs, and once more when it has
// succeeded. The calls come one after the other, from one goroutine, and the last of them has
// returned before the call itself does.
func WithProgress(report func(Progress)) Option {
	return toolbox.WithProgress(report)
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
	return toolbox.Init(libraryPath)
}

// Close gives the library up. Later calls fail with [ErrNotInitialized]; calls that are running
// finish first, and Close waits for them. Close without Init does nothing. [Init] may be called
// again.
func Close() error {
	return toolbox.Close()
}

// Version returns the version of the loaded library, such as "0.1.0".
func Version() (string, error) {
	return toolbox.Version()
}

// LastError returns the text of the error of the call with a request that finished last, on
// whichever goroutine, or "" if it succeeded. The error that a call returns says the same, and
// cannot be another call's.
func LastError() string {
	return toolbox.LastError()
}

// ExtractIndex writes the records of a Chroma vector segment directory to a Parquet or Arrow IPC
// file.
func ExtractIndex(req ExtractRequest) (*ExtractResponse, error) {
	return toolbox.ExtractIndex(req)
}

// ExtractIndexContext is [ExtractIndex], and stops soon after ctx ends. It then writes no file, and
// its error matches both ctx.Err() and [ErrCancelled].
func ExtractIndexContext(ctx context.Context, req ExtractRequest, opts ...Option) (*ExtractResponse, error) {
	return toolbox.ExtractIndexContext(ctx, req, opts...)
}

// BuildIndex builds an HNSW index from a Parquet or Arrow IPC file and writes it as one .hnsw file.
func BuildIndex(req BuildRequest) (*BuildResponse, error) {
	return toolbox.BuildIndex(req)
}

// BuildIndexContext is [BuildIndex], and stops soon after ctx ends. It then writes no file, and its
// error matches both ctx.Err() and [ErrCancelled].
func BuildIndexContext(ctx context.Context, req BuildRequest, opts ...Option) (*BuildResponse, error) {
	return toolbox.BuildIndexContext(ctx, req, opts...)
}

// RepairIndex writes a healthy Chroma vector segment directory in the place of a damaged or bloated
// one. The steps to have Chroma use it are in the response.
func RepairIndex(req RepairRequest) (*RepairResponse, error) {
	return toolbox.RepairIndex(req)
}

// RepairIndexContext is [RepairIndex], and stops soon after ctx ends. It then writes no directory,
// and its error matches both ctx.Err() and [ErrCancelled].
func RepairIndexContext(ctx context.Context, req RepairRequest, opts ...Option) (*RepairResponse, error) {
	return toolbox.RepairIndexContext(ctx, req, opts...)
}

// Index is an open .hnsw index. Nothing of it is loaded: a search reads the parts of the file that
// it comes by. Any number of goroutines may use an Index at once.
type Index = toolbox.Index

// Neighbour is a vector that a search has found.
type Neighbour = toolbox.Neighbour

// OpenOption changes how an index is opened.
type OpenOption = toolbox.OpenOption

// WithMetric gives the metric that the index was built for. It is needed when the file does not
// state it; when it states another, OpenIndex fails.
func WithMetric(metric DistanceMetric) OpenOption {
	return toolbox.WithMetric(metric)
}

// WithIO says how the file is read; it defaults to IOModeMmap.
func WithIO(mode IOMode) OpenOption {
	return toolbox.WithIO(mode)
}

// WithLoad reads the whole file into memory when it is opened. That takes as much memory as the file
// has bytes, and a moment for each gigabyte. Searches are faster then, and whatever happens to the
// file does not matter.
func WithLoad() OpenOption {
	return toolbox.WithLoad()
}

// OpenIndex opens a .hnsw index for searching. Unless it is to be loaded, that takes a moment,
// however large the index is.
//
// The index is of use until its Close, or the library's: [Close] closes all indexes.
func OpenIndex(path string, opts ...OpenOption) (*Index, error) {
	return toolbox.OpenIndex(path, opts...)
}

// InspectRequest says what to inspect. Only IndexDir is needed.
type InspectRequest = toolbox.InspectRequest

// InspectResponse says what an index directory holds, without judging it.
type InspectResponse = toolbox.InspectResponse

// IndexHeader holds the fields of header.bin under the names that hnswlib gives them.
type IndexHeader = toolbox.IndexHeader

// LabelRange is the lowest and the highest of some labels.
type LabelRange = toolbox.LabelRange

// FileSize is how large a file of an index directory is.
type FileSize = toolbox.FileSize

// InspectIndex reads the header of a Chroma vector segment directory and counts its records.
func InspectIndex(req InspectRequest) (*InspectResponse, error) {
	return toolbox.InspectIndex(req)
}

// InspectIndexContext is [InspectIndex], and stops soon after ctx ends. Its error then matches both
// ctx.Err() and [ErrCancelled].
func InspectIndexContext(ctx context.Context, req InspectRequest, opts ...Option) (*InspectResponse, error) {
	return toolbox.InspectIndexContext(ctx, req, opts...)
}

// Record is an element of an index.
type Record = toolbox.Record

// Records goes over the records of an index, in the order of their internal ids, without a file.
//
// The request is that of [ExtractIndex], without OutputPath, OutputFormat, Compression and
// RowGroupBytes. An error ends the loop, and comes with a zero record; that a file of the index has
// changed meanwhile is one that comes after the last record. Leaving the loop stops the work.
// Records may be kept.
//
// [Close] waits for the end of the loop, so it must not be called in it.
func Records(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[Record, error] {
	return toolbox.Records(ctx, req, opts...)
}

// Batch is some records of an index, column by column. It is valid until the loop goes on.
type Batch = toolbox.Batch

// Batches is [Records] for many records at a time: at most BatchSize, and at most 16 MiB of vectors.
// Nothing is copied: the vectors are those of the library, and are gone when the loop goes on.
func Batches(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[*Batch, error] {
	return toolbox.Batches(ctx, req, opts...)
}

// VerifyRequest says what to check. Only IndexDir is needed.
type VerifyRequest = toolbox.VerifyRequest

// IndexState is what is wrong with an index, in one word.
type IndexState = toolbox.IndexState

// The states of an index, the worst first.
const (
	IndexStateUnsupportedVersion = toolbox.IndexStateUnsupportedVersion // header.bin has an unknown version
	IndexStateBadHeader          = toolbox.IndexStateBadHeader          // header.bin is missing or contradicts itself
	IndexStateTornData           = toolbox.IndexStateTornData           // records are missing, or cannot be
	IndexStateRunawayLinks       = toolbox.IndexStateRunawayLinks       // link_lists.bin has impossible sizes
	IndexStateTornLinks          = toolbox.IndexStateTornLinks          // links are missing, or lead nowhere
	IndexStateNoMetadata         = toolbox.IndexStateNoMetadata         // records without readable metadata
	IndexStateMetadataMismatch   = toolbox.IndexStateMetadataMismatch   // metadata of other labels or another dimension
	IndexStateEmpty              = toolbox.IndexStateEmpty              // no records; not damage
	IndexStateHealthy            = toolbox.IndexStateHealthy            // nothing is wrong
)

// Severity is how bad a finding is.
type Severity = toolbox.Severity

// The severities, the worst first.
const (
	SeverityError   = toolbox.SeverityError   // the index is damaged
	SeverityWarning = toolbox.SeverityWarning // unusual, but nothing is lost and nothing fails
	SeverityHint    = toolbox.SeverityHint    // a guess at what no file says
	SeverityInfo    = toolbox.SeverityInfo    // a fact that healthy indexes have, too
)

// VerifyResponse says whether an index is damaged, and how.
type VerifyResponse = toolbox.VerifyResponse

// Finding is something that a check has found, once or many times.
type Finding = toolbox.Finding

// VerifyIndex checks everything that the files of a Chroma vector segment directory promise. That
// an index is damaged is a response, not an error.
func VerifyIndex(req VerifyRequest) (*VerifyResponse, error) {
	return toolbox.VerifyIndex(req)
}

// VerifyIndexContext is [VerifyIndex], and stops soon after ctx ends. Its error then matches both
// ctx.Err() and [ErrCancelled].
func VerifyIndexContext(ctx context.Context, req VerifyRequest, opts ...Option) (*VerifyResponse, error) {
	return toolbox.VerifyIndexContext(ctx, req, opts...)
}
