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

// MetadataForm selects the layout of record metadata in an export.
type MetadataForm = toolbox.MetadataForm

// Layouts of metadata in an export.
const (
	MetadataFormJSON    = toolbox.MetadataFormJSON    // one column with a JSON object per record; the default
	MetadataFormColumns = toolbox.MetadataFormColumns // one typed column metadata.<key> per key
)

// CollectionState summarises the condition of a collection.
type CollectionState = toolbox.CollectionState

// States of a collection.
const (
	CollectionStateEmpty       = toolbox.CollectionStateEmpty       // no records
	CollectionStateFlushed     = toolbox.CollectionStateFlushed     // every vector is in the index
	CollectionStateQueued      = toolbox.CollectionStateQueued      // the newest vectors are only in the queue
	CollectionStateDamaged     = toolbox.CollectionStateDamaged     // files are damaged, but every vector is present
	CollectionStateIncomplete  = toolbox.CollectionStateIncomplete  // records lack a vector or a readable id
	CollectionStateUnsupported = toolbox.CollectionStateUnsupported // the index is not in the persist directory
)

// ListCollectionsRequest selects collections to list. Only PersistDir is required.
type ListCollectionsRequest = toolbox.ListCollectionsRequest

// ListCollectionsResponse describes the contents of a persist directory.
type ListCollectionsResponse = toolbox.ListCollectionsResponse

// Collection describes a collection.
type Collection = toolbox.Collection

// CollectionFinding is a problem or remark about a collection or a database.
type CollectionFinding = toolbox.CollectionFinding

// ExportRequest selects what to export. Only PersistDir and OutputPath are required.
type ExportRequest = toolbox.ExportRequest

// ExportResponse reports the result of an export.
type ExportResponse = toolbox.ExportResponse

// ExportSummary describes the output of an export. manifest.json has the same content.
type ExportSummary = toolbox.ExportSummary

// ExportedFile describes a file written by an export, and the collection in it.
type ExportedFile = toolbox.ExportedFile

// ListCollections lists the collections of a Chroma persist directory.
//
// It must not be called in a process that has the same database open through another copy of
// SQLite: on POSIX systems, closing the file releases that process's locks on it.
func ListCollections(req ListCollectionsRequest) (*ListCollectionsResponse, error) {
	return toolbox.ListCollections(req)
}

// ListCollectionsContext is [ListCollections] with a context. It stops soon after ctx ends, with an
// error that matches both ctx.Err() and [ErrCancelled].
func ListCollectionsContext(ctx context.Context, req ListCollectionsRequest, opts ...Option) (*ListCollectionsResponse, error) {
	return toolbox.ListCollectionsContext(ctx, req, opts...)
}

// Export writes the collections of a Chroma persist directory to Parquet or Arrow IPC files: ids,
// vectors, documents and metadata, including the newest writes.
//
// The restriction of [ListCollections] on processes applies here as well.
func Export(req ExportRequest) (*ExportResponse, error) {
	return toolbox.Export(req)
}

// ExportContext is [Export] with a context. It stops soon after ctx ends and then writes nothing;
// its error matches both ctx.Err() and [ErrCancelled].
func ExportContext(ctx context.Context, req ExportRequest, opts ...Option) (*ExportResponse, error) {
	return toolbox.ExportContext(ctx, req, opts...)
}

// Sentinels for [errors.Is].
var (
	// ErrNotInitialized means that Init was not called, or that Close was called since.
	ErrNotInitialized = toolbox.ErrNotInitialized
	// ErrAlreadyInitialized means that Init was called before with another library.
	ErrAlreadyInitialized = toolbox.ErrAlreadyInitialized
	// ErrLibraryNotFound means that the library is in none of the searched places.
	ErrLibraryNotFound = toolbox.ErrLibraryNotFound
	// ErrIncompatibleLibrary means that this package cannot call the library.
	ErrIncompatibleLibrary = toolbox.ErrIncompatibleLibrary
	// ErrIndexClosed means that the index, or the whole library, was closed.
	ErrIndexClosed = toolbox.ErrIndexClosed
	// ErrInvalidRequest means that a field of the request was rejected (codes 100 to 199).
	ErrInvalidRequest = toolbox.ErrInvalidRequest
	// ErrInvalidInput means that the content of an input is invalid or unsupported (codes 200 to 299).
	ErrInvalidInput = toolbox.ErrInvalidInput
	// ErrCorruptIndex means that an index or its metadata is damaged (codes 200 and 201).
	ErrCorruptIndex = toolbox.ErrCorruptIndex
	// ErrIO means an error of the operating system, an unusable path or exhausted memory (codes 300 to
	// 399).
	ErrIO = toolbox.ErrIO
	// ErrOutOfMemory means that required memory cannot be allocated (code 302).
	ErrOutOfMemory = toolbox.ErrOutOfMemory
	// ErrCancelled means that the call was stopped (codes 400 to 499).
	ErrCancelled = toolbox.ErrCancelled
	// ErrInternal means a bug in the library or in this package (codes 900 to 999).
	ErrInternal = toolbox.ErrInternal
)

// Error describes a failed call.
type Error = toolbox.Error

// OutputFormat is the file format of an extraction's output.
type OutputFormat = toolbox.OutputFormat

// Formats of an extraction.
const (
	OutputFormatParquet  = toolbox.OutputFormatParquet  // Apache Parquet; the default
	OutputFormatArrowIPC = toolbox.OutputFormatArrowIPC // the Arrow IPC file format
)

// InputFormat is the file format of a build's input.
type InputFormat = toolbox.InputFormat

// Formats of a build's input.
const (
	InputFormatParquet  = toolbox.InputFormatParquet  // Apache Parquet; the default
	InputFormatArrowIPC = toolbox.InputFormatArrowIPC // the Arrow IPC file format
)

// DistanceMetric is the metric of an index. Chroma's names "l2" and "ip" are accepted for
// DistanceMetricSquaredEuclidean and DistanceMetricDotProduct.
type DistanceMetric = toolbox.DistanceMetric

// Metrics of an index.
const (
	DistanceMetricEuclidean        = toolbox.DistanceMetricEuclidean        // ‖a−b‖; the default
	DistanceMetricSquaredEuclidean = toolbox.DistanceMetricSquaredEuclidean // ‖a−b‖²
	DistanceMetricCosine           = toolbox.DistanceMetricCosine           // 1 − cos(a, b)
	DistanceMetricDotProduct       = toolbox.DistanceMetricDotProduct       // 1 − a·b
	DistanceMetricManhattan        = toolbox.DistanceMetricManhattan        // ‖a−b‖₁
)

// Vectors selects the form of extracted vectors.
type Vectors = toolbox.Vectors

// Forms of extracted vectors.
const (
	VectorsStored   = toolbox.VectorsStored   // bit for bit as in the index; the default
	VectorsOriginal = toolbox.VectorsOriginal // cosine: multiplied by their original norm
)

// Compression is the compression of the pages of a Parquet output.
type Compression = toolbox.Compression

// Compressions of a Parquet output.
const (
	CompressionNone   = toolbox.CompressionNone // the default
	CompressionSnappy = toolbox.CompressionSnappy
	CompressionZstd   = toolbox.CompressionZstd
)

// IOMode is the way in which input files are read.
type IOMode = toolbox.IOMode

// Ways to read input files.
const (
	// IOModeMmap maps windows of the file. If another process truncates the file during reading, the
	// operating system kills this process (SIGBUS).
	IOModeMmap = toolbox.IOModeMmap
	// IOModeRead reads into a buffer. A file that shrinks during reading is an error. It is the default,
	// except for OpenIndex.
	IOModeRead = toolbox.IOModeRead
)

// Engine selects the code that builds a graph.
type Engine = toolbox.Engine

// Engines.
const (
	EnginePartition = toolbox.EnginePartition // this library's own; the default
	EngineNative    = toolbox.EngineNative    // this library's own; less memory, several times slower
	EngineHNSWRS    = toolbox.EngineHNSWRS    // the hnsw_rs crate
)

// ExtractRequest selects what to extract. Only IndexDir and OutputPath are required.
type ExtractRequest = toolbox.ExtractRequest

// ExtractResponse reports the result of an extraction.
type ExtractResponse = toolbox.ExtractResponse

// ExtractSummary counts the records of an extraction.
type ExtractSummary = toolbox.ExtractSummary

// JoinSummary counts the matches of an index's metadata and records.
type JoinSummary = toolbox.JoinSummary

// SalvageSummary counts the saved and the skipped records of a damaged index.
type SalvageSummary = toolbox.SalvageSummary

// IndexProperties are fields of the header of an index.
type IndexProperties = toolbox.IndexProperties

// BuildRequest describes a build. Only InputPath and OutputPath are required.
type BuildRequest = toolbox.BuildRequest

// BuildResponse reports the result of a build.
type BuildResponse = toolbox.BuildResponse

// BuildSummary counts the rows of a build.
type BuildSummary = toolbox.BuildSummary

// Links selects the links of a repaired index.
type Links = toolbox.Links

// Links of a repaired index.
const (
	LinksKeep  = toolbox.LinksKeep  // the index's own, without deleted records
	LinksBuild = toolbox.LinksBuild // the links of a new graph
)

// Space is Chroma's name for the metric of a collection.
type Space = toolbox.Space

// Spaces of Chroma's collections.
const (
	SpaceL2     = toolbox.SpaceL2
	SpaceCosine = toolbox.SpaceCosine
	SpaceIP     = toolbox.SpaceIP
)

// RepairRequest describes a repair. Only IndexDir and OutputPath are required.
type RepairRequest = toolbox.RepairRequest

// RepairResponse reports the result of a repair.
type RepairResponse = toolbox.RepairResponse

// RepairSummary counts the records and links of a repair.
type RepairSummary = toolbox.RepairSummary

// RepairedCollection describes the collection of a repaired index.
type RepairedCollection = toolbox.RepairedCollection

// Progress is the progress of a call.
type Progress = toolbox.Progress

// Option configures a call with a context.
type Option = toolbox.Option

// WithProgress calls report a few times per second while the call runs, and once more after it has
// succeeded. One goroutine makes these calls sequentially, and the last one returns before the call
// itself.
func WithProgress(report func(Progress)) Option {
	return toolbox.WithProgress(report)
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
	return toolbox.Init(libraryPath)
}

// Close releases the library. It waits for running calls; later calls fail with
// [ErrNotInitialized]. Close without Init does nothing. [Init] can be called again afterwards.
func Close() error {
	return toolbox.Close()
}

// Version returns the version of the loaded library, such as "0.1.0".
func Version() (string, error) {
	return toolbox.Version()
}

// LastError returns the message of the most recently completed call in the process, or "" if it
// succeeded. Prefer the error that a call returns.
func LastError() string {
	return toolbox.LastError()
}

// ExtractIndex writes the records of a Chroma vector segment directory to a Parquet or Arrow IPC
// file.
func ExtractIndex(req ExtractRequest) (*ExtractResponse, error) {
	return toolbox.ExtractIndex(req)
}

// ExtractIndexContext is [ExtractIndex] with a context. It stops soon after ctx ends and then
// writes no file; its error matches both ctx.Err() and [ErrCancelled].
func ExtractIndexContext(ctx context.Context, req ExtractRequest, opts ...Option) (*ExtractResponse, error) {
	return toolbox.ExtractIndexContext(ctx, req, opts...)
}

// BuildIndex builds an HNSW index from a Parquet or Arrow IPC file, and writes it to a .hnsw file.
func BuildIndex(req BuildRequest) (*BuildResponse, error) {
	return toolbox.BuildIndex(req)
}

// BuildIndexContext is [BuildIndex] with a context. It stops soon after ctx ends and then writes no
// file; its error matches both ctx.Err() and [ErrCancelled].
func BuildIndexContext(ctx context.Context, req BuildRequest, opts ...Option) (*BuildResponse, error) {
	return toolbox.BuildIndexContext(ctx, req, opts...)
}

// RepairIndex writes a healthy replacement of a damaged or bloated Chroma vector segment directory.
// The response lists the steps to make Chroma use it.
func RepairIndex(req RepairRequest) (*RepairResponse, error) {
	return toolbox.RepairIndex(req)
}

// RepairIndexContext is [RepairIndex] with a context. It stops soon after ctx ends and then writes
// no directory; its error matches both ctx.Err() and [ErrCancelled].
func RepairIndexContext(ctx context.Context, req RepairRequest, opts ...Option) (*RepairResponse, error) {
	return toolbox.RepairIndexContext(ctx, req, opts...)
}

// OnConflict selects the treatment of a record whose id its collection already has.
type OnConflict = toolbox.OnConflict

// Treatments of a record whose id its collection already has.
const (
	OnConflictError   = toolbox.OnConflictError   // the import fails, and nothing is written; the default
	OnConflictSkip    = toolbox.OnConflictSkip    // the record of the collection stays
	OnConflictReplace = toolbox.OnConflictReplace // the record of the source replaces it
)

// ListForm selects the form of metadata values that are lists.
type ListForm = toolbox.ListForm

// Forms of metadata values that are lists.
const (
	ListFormList = toolbox.ListFormList // lists, which Chroma 1.5 introduced; the default
	ListFormJSON = toolbox.ListFormJSON // text in JSON
)

// FileColumns names the columns of a file to import. The columns uri, metadata and metadata.<key>
// are always imported.
type FileColumns = toolbox.FileColumns

// ImportRequest describes an import. Sources, IntoDir and either OutputDir or InPlace are required.
type ImportRequest = toolbox.ImportRequest

// ImportResponse reports the result of an import.
type ImportResponse = toolbox.ImportResponse

// ImportedCollection describes a collection with imported records.
type ImportedCollection = toolbox.ImportedCollection

// ImportOrigin describes a source of the records of a collection.
type ImportOrigin = toolbox.ImportOrigin

// Import writes a Chroma persist directory with the records of another one and of the sources:
// persist directories of any version of Chroma, outputs of [Export], and Parquet or Arrow IPC files.
// With InPlace, the result takes the name of IntoDir.
//
// A collection that IntoDir does not have is created, with the configuration and the metadata of its
// source. Records without a vector are skipped unless KeepIncomplete is true. The restriction of
// [ListCollections] on processes applies here as well.
func Import(req ImportRequest) (*ImportResponse, error) {
	return toolbox.Import(req)
}

// ImportContext is [Import] with a context. It stops soon after ctx ends and then writes no directory,
// and keeps the store in place; its error matches both ctx.Err() and [ErrCancelled].
func ImportContext(ctx context.Context, req ImportRequest, opts ...Option) (*ImportResponse, error) {
	return toolbox.ImportContext(ctx, req, opts...)
}

// Index is an open .hnsw index. The file is memory-mapped; a search touches only the pages that it
// visits. Any number of goroutines can use an Index at once.
type Index = toolbox.Index

// Neighbour is a result of a search.
type Neighbour = toolbox.Neighbour

// OpenOption configures how an index is opened.
type OpenOption = toolbox.OpenOption

// WithMetric sets the metric of the index. It is required if the file does not record the metric.
// If the file records another metric, OpenIndex fails.
func WithMetric(metric DistanceMetric) OpenOption {
	return toolbox.WithMetric(metric)
}

// WithIO sets how the file is read; it defaults to IOModeMmap.
func WithIO(mode IOMode) OpenOption {
	return toolbox.WithIO(mode)
}

// WithLoad loads the whole file into memory on opening. It takes as much memory as the file has
// bytes, and noticeable time per gigabyte. Searches are then faster, and later changes of the file
// have no effect.
func WithLoad() OpenOption {
	return toolbox.WithLoad()
}

// OpenIndex opens a .hnsw index for searching. It returns immediately, because the file is mapped
// and not loaded, unless [WithLoad] is given.
//
// The index can be used until its Close or the library's: [Close] closes all indexes.
func OpenIndex(path string, opts ...OpenOption) (*Index, error) {
	return toolbox.OpenIndex(path, opts...)
}

// InspectRequest selects an index to inspect. Only IndexDir is required.
type InspectRequest = toolbox.InspectRequest

// InspectResponse describes the contents of a segment without judging them.
type InspectResponse = toolbox.InspectResponse

// IndexHeader holds the fields of header.bin under hnswlib's names.
type IndexHeader = toolbox.IndexHeader

// LabelRange is the range of labels.
type LabelRange = toolbox.LabelRange

// FileSize is the size of a file of a segment.
type FileSize = toolbox.FileSize

// InspectIndex reads the header of a Chroma vector segment directory and counts its records.
func InspectIndex(req InspectRequest) (*InspectResponse, error) {
	return toolbox.InspectIndex(req)
}

// InspectIndexContext is [InspectIndex] with a context. It stops soon after ctx ends, with an error
// that matches both ctx.Err() and [ErrCancelled].
func InspectIndexContext(ctx context.Context, req InspectRequest, opts ...Option) (*InspectResponse, error) {
	return toolbox.InspectIndexContext(ctx, req, opts...)
}

// FullText is the origin of the full-text table of a repaired or extended store.
type FullText = toolbox.FullText

// Origins of a full-text table.
const (
	FullTextCopied   = toolbox.FullTextCopied   // from the old store, where it agreed with the documents
	FullTextExtended = toolbox.FullTextExtended // copied, and extended by the documents of imported records
	FullTextBuilt    = toolbox.FullTextBuilt    // from the documents
)

// RepairStoreRequest describes a repair of a whole persist directory. PersistDir and either OutputDir
// or InPlace are required.
type RepairStoreRequest = toolbox.RepairStoreRequest

// RepairStoreResponse reports the result of a repair of a store.
type RepairStoreResponse = toolbox.RepairStoreResponse

// RepairedStoreCollection describes a collection of a repaired store.
type RepairedStoreCollection = toolbox.RepairedStoreCollection

// RepairStore writes a healthy replacement for a whole Chroma persist directory: chroma.sqlite3 and
// the segment of every collection. With InPlace, the replacement takes the directory's name.
//
// Records without a vector are exported to OutputDir with the suffix .without-vectors, unless
// KeepIncomplete is true. The restriction of [ListCollections] on processes applies here as well.
func RepairStore(req RepairStoreRequest) (*RepairStoreResponse, error) {
	return toolbox.RepairStore(req)
}

// RepairStoreContext is [RepairStore] with a context. It stops soon after ctx ends and then writes no
// directory, and keeps the store in place; its error matches both ctx.Err() and [ErrCancelled].
func RepairStoreContext(ctx context.Context, req RepairStoreRequest, opts ...Option) (*RepairStoreResponse, error) {
	return toolbox.RepairStoreContext(ctx, req, opts...)
}

// Record is a record of an index.
type Record = toolbox.Record

// Records iterates over the records of an index in the order of internal ids, without a file.
//
// The request is an [ExtractRequest] without OutputPath, OutputFormat, Compression and
// RowGroupBytes. An error ends the loop, with a zero record. If a file of the index was changed
// during the loop, the error comes after the last record. Leaving the loop stops the work. Records
// remain valid after the loop.
//
// [Close] waits for the end of the loop, so it must not be called inside it.
func Records(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[Record, error] {
	return toolbox.Records(ctx, req, opts...)
}

// Batch holds several records of an index, column by column. It is valid until the next iteration.
type Batch = toolbox.Batch

// Batches is [Records] for many records at a time: at most BatchSize, and at most 16 MiB of
// vectors. Nothing is copied: the vectors are the library's memory, which is invalid after the
// iteration.
func Batches(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[*Batch, error] {
	return toolbox.Batches(ctx, req, opts...)
}

// VerifyRequest selects an index to check. Only IndexDir is required.
type VerifyRequest = toolbox.VerifyRequest

// IndexState summarises the damage of an index.
type IndexState = toolbox.IndexState

// States of an index, the worst first.
const (
	IndexStateUnsupportedVersion = toolbox.IndexStateUnsupportedVersion // header.bin has an unknown version
	IndexStateBadHeader          = toolbox.IndexStateBadHeader          // header.bin is missing or contradicts itself
	IndexStateTornData           = toolbox.IndexStateTornData           // records are missing or invalid
	IndexStateRunawayLinks       = toolbox.IndexStateRunawayLinks       // link_lists.bin has impossible sizes
	IndexStateTornLinks          = toolbox.IndexStateTornLinks          // links are missing or invalid
	IndexStateNoMetadata         = toolbox.IndexStateNoMetadata         // records without readable metadata
	IndexStateMetadataMismatch   = toolbox.IndexStateMetadataMismatch   // metadata with other labels or another dimension
	IndexStateEmpty              = toolbox.IndexStateEmpty              // no records; not damage
	IndexStateHealthy            = toolbox.IndexStateHealthy            // no damage
)

// Severity is the severity of a finding.
type Severity = toolbox.Severity

// Severities, the worst first.
const (
	SeverityError   = toolbox.SeverityError   // the index is damaged
	SeverityWarning = toolbox.SeverityWarning // unusual, but without loss or failures
	SeverityHint    = toolbox.SeverityHint    // an inference about something no file states
	SeverityInfo    = toolbox.SeverityInfo    // a fact that also occurs in healthy indexes
)

// VerifyResponse describes the damage of an index.
type VerifyResponse = toolbox.VerifyResponse

// Finding is a result of a check, found once or many times.
type Finding = toolbox.Finding

// VerifyIndex checks all invariants of a Chroma vector segment directory. Damage is reported in the
// response, not as an error.
func VerifyIndex(req VerifyRequest) (*VerifyResponse, error) {
	return toolbox.VerifyIndex(req)
}

// VerifyIndexContext is [VerifyIndex] with a context. It stops soon after ctx ends, with an error
// that matches both ctx.Err() and [ErrCancelled].
func VerifyIndexContext(ctx context.Context, req VerifyRequest, opts ...Option) (*VerifyResponse, error) {
	return toolbox.VerifyIndexContext(ctx, req, opts...)
}
