package hnswtoolbox

import (
	"context"
	"encoding/json"
)

// MetadataForm is how an export writes the metadata of records.
type MetadataForm string

// The forms of metadata in an export.
const (
	MetadataFormJSON    MetadataForm = "json"    // a column with a JSON object for each record; the default
	MetadataFormColumns MetadataForm = "columns" // a typed column metadata.<key> for each key
)

// CollectionState is how a collection is, in one word.
type CollectionState string

// The states of a collection.
const (
	CollectionStateEmpty       CollectionState = "empty"       // no records
	CollectionStateFlushed     CollectionState = "flushed"     // every vector is in the index
	CollectionStateQueued      CollectionState = "queued"      // the newest vectors are in the log only
	CollectionStateDamaged     CollectionState = "damaged"     // every vector is there, though files are damaged
	CollectionStateIncomplete  CollectionState = "incomplete"  // records lack a vector or a readable id
	CollectionStateUnsupported CollectionState = "unsupported" // the index is not in the persist directory
)

// ListCollectionsRequest says which collections to list. Only PersistDir is needed.
type ListCollectionsRequest struct {
	// PersistDir is a Chroma persist directory: the one with chroma.sqlite3.
	PersistDir string `json:"persist_dir"`
	// Database and Tenant restrict the list to the collections of one.
	Database string `json:"database,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	// IO is how the files of segments are read; it defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// ListCollectionsResponse says what a persist directory holds.
type ListCollectionsResponse struct {
	// Complete is false when records, vectors or texts are missing or damaged.
	Complete          bool                `json:"complete"`
	PersistDir        string              `json:"persist_dir"`
	ChromaSchema      map[string]int64    `json:"chroma_schema"`      // the version of each part of the schema
	Replayed          string              `json:"replayed,omitempty"` // the journal or log that was replayed in a copy
	Collections       []Collection        `json:"collections"`
	OrphanDirectories []string            `json:"orphan_directories"` // that belong to no segment
	Findings          []CollectionFinding `json:"findings,omitempty"` // about the database as a whole
}

// Collection is a collection, by numbers.
type Collection struct {
	Tenant        string          `json:"tenant"`
	Database      string          `json:"database"`
	Name          string          `json:"name"`
	ID            string          `json:"id"`
	SegmentDir    *string         `json:"segment_dir"`    // the directory of its index, if there is one
	Metric        string          `json:"metric"`         // l2, cosine or ip
	MetricSource  string          `json:"metric_source"`  // where that is written; or evidence, undecided
	Dimension     *int            `json:"dimension"`      // nil until the first write
	Records       uint64          `json:"records"`        // in SQLite
	InIndex       uint64          `json:"in_index"`       // records that the index holds
	Queued        uint64          `json:"queued"`         // rows of the log that the index has not seen
	WithoutVector uint64          `json:"without_vector"` // records without a vector
	State         CollectionState `json:"state"`
	// Metadata is what the user has noted about the collection: a JSON object, whose integers are
	// exact to 64 bits.
	Metadata json.RawMessage     `json:"metadata"`
	Findings []CollectionFinding `json:"findings"`
}

// CollectionFinding is something worth knowing about a collection or a database.
type CollectionFinding struct {
	Code    string `json:"code"`  // a name for its kind, which never changes
	Count   uint64 `json:"count"` // how many records, rows or pages it is about
	Loss    bool   `json:"loss"`  // whether records, vectors or texts are missing or damaged because of it
	Message string `json:"message"`
}

// ExportRequest says what to export. Only PersistDir and OutputPath are needed.
type ExportRequest struct {
	// PersistDir is a Chroma persist directory: the one with chroma.sqlite3. It is only read.
	PersistDir string `json:"persist_dir"`
	// OutputPath is the directory to write, which must not exist or be empty and appears whole or
	// not at all; or, with the extension of a file format, the file for one collection.
	OutputPath string `json:"output_path"`
	// OutputFormat defaults to OutputFormatParquet.
	OutputFormat OutputFormat `json:"output_format,omitempty"`
	// Collections are names; all collections are written when there are none.
	Collections []string `json:"collections,omitempty"`
	// Database and Tenant restrict the export to the collections of one.
	Database string `json:"database,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	// Vectors defaults to VectorsOriginal.
	Vectors Vectors `json:"vectors,omitempty"`
	// Metadata defaults to MetadataFormJSON.
	Metadata MetadataForm `json:"metadata,omitempty"`
	// IndexColumns also writes internal_id, label and seq_id.
	IndexColumns bool `json:"index_columns,omitempty"`
	// BatchSize is the number of rows held in memory at a time; it defaults to 1024.
	BatchSize int `json:"batch_size,omitempty"`
	// Compression defaults to CompressionNone.
	Compression Compression `json:"compression,omitempty"`
	// IO is how the files of segments are read; it defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
	// Dimension and M describe indexes whose header.bin is lost, where neither the database nor the
	// other files say them: both or neither.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Metric is that of the collections whose metric the database does not say.
	Metric Space `json:"metric,omitempty"`
}

// ExportResponse says what an export did.
type ExportResponse struct {
	// Complete is false when records, vectors or texts are missing or damaged.
	Complete     bool          `json:"complete"`
	OutputPath   string        `json:"output_path"`
	OutputFormat OutputFormat  `json:"output_format"`
	Summary      ExportSummary `json:"summary"`
}

// ExportSummary says what an export wrote. It is also what manifest.json holds.
type ExportSummary struct {
	HNSWToolbox  string              `json:"hnsw_toolbox"` // the version of the library
	PersistDir   string              `json:"persist_dir"`
	ChromaSchema map[string]int64    `json:"chroma_schema"`
	Replayed     string              `json:"replayed,omitempty"`
	Metadata     MetadataForm        `json:"metadata"`
	Rows         uint64              `json:"rows"`
	Files        []ExportedFile      `json:"files"`
	Findings     []CollectionFinding `json:"findings,omitempty"`
}

// ExportedFile is a file that an export wrote, and the collection that is in it.
type ExportedFile struct {
	File                  string              `json:"file"`
	Bytes                 uint64              `json:"bytes"`
	SHA256                string              `json:"sha256"`
	Tenant                string              `json:"tenant"`
	Database              string              `json:"database"`
	Collection            string              `json:"collection"`
	CollectionID          string              `json:"collection_id"`
	SegmentID             *string             `json:"segment_id"`
	Metric                string              `json:"metric"`
	MetricSource          string              `json:"metric_source"`
	Dimension             *int                `json:"dimension"`
	Vectors               Vectors             `json:"vectors"`
	Rows                  uint64              `json:"rows"`
	VectorsFromIndex      uint64              `json:"vectors_from_index"`
	VectorsFromLog        uint64              `json:"vectors_from_log"`
	WithoutVector         uint64              `json:"without_vector"`
	FirstIDsWithoutVector []string            `json:"first_ids_without_vector,omitempty"` // a hundred at most
	Watermark             *uint64             `json:"watermark"`                          // the last write that the index holds
	JSONColumns           []string            `json:"json_columns,omitempty"`             // whose keys have values of several types
	State                 CollectionState     `json:"state"`
	CollectionMetadata    json.RawMessage     `json:"collection_metadata"`
	Findings              []CollectionFinding `json:"findings"`
}

// ListCollections lists the collections of a Chroma persist directory.
//
// It must not be called in a process that has the same database open by another copy of SQLite: on
// POSIX systems, closing the file drops that process's locks on it.
func ListCollections(req ListCollectionsRequest) (*ListCollectionsResponse, error) {
	return ListCollectionsContext(context.Background(), req)
}

// ListCollectionsContext is [ListCollections], and stops soon after ctx ends. Its error then matches
// both ctx.Err() and [ErrCancelled].
func ListCollectionsContext(
	ctx context.Context, req ListCollectionsRequest, opts ...Option,
) (*ListCollectionsResponse, error) {
	op := operation{
		name:     "list collections",
		function: func(l *library) nativeCall { return l.listCollections },
		paths:    []field{{"persist_dir", req.PersistDir}, {"database", req.Database}, {"tenant", req.Tenant}},
		request: func(token uint64) any {
			return struct {
				ListCollectionsRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
	return call[ListCollectionsResponse](ctx, op, opts)
}

// Export writes the collections of a Chroma persist directory to Parquet or Arrow IPC files: ids,
// vectors, documents and metadata, the newest writes included.
//
// What [ListCollections] says about processes holds here, too.
func Export(req ExportRequest) (*ExportResponse, error) {
	return ExportContext(context.Background(), req)
}

// ExportContext is [Export], and stops soon after ctx ends. It then writes nothing, and its error
// matches both ctx.Err() and [ErrCancelled].
func ExportContext(ctx context.Context, req ExportRequest, opts ...Option) (*ExportResponse, error) {
	paths := []field{
		{"persist_dir", req.PersistDir}, {"output_path", req.OutputPath},
		{"database", req.Database}, {"tenant", req.Tenant},
	}
	for _, name := range req.Collections {
		paths = append(paths, field{"collections", name})
	}
	op := operation{
		name:     "export",
		function: func(l *library) nativeCall { return l.export },
		paths:    paths,
		request: func(token uint64) any {
			return struct {
				ExportRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
	return call[ExportResponse](ctx, op, opts)
}
