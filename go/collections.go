package hnswtoolbox

import (
	"context"
	"encoding/json"
)

// MetadataForm selects the layout of record metadata in an export.
type MetadataForm string

// Layouts of metadata in an export.
const (
	MetadataFormJSON    MetadataForm = "json"    // one column with a JSON object per record; the default
	MetadataFormColumns MetadataForm = "columns" // one typed column metadata.<key> per key
)

// CollectionState summarises the condition of a collection.
type CollectionState string

// States of a collection.
const (
	CollectionStateEmpty       CollectionState = "empty"       // no records
	CollectionStateFlushed     CollectionState = "flushed"     // every vector is in the index
	CollectionStateQueued      CollectionState = "queued"      // the newest vectors are only in the queue
	CollectionStateDamaged     CollectionState = "damaged"     // files are damaged, but every vector is present
	CollectionStateIncomplete  CollectionState = "incomplete"  // records lack a vector or a readable id
	CollectionStateUnsupported CollectionState = "unsupported" // the index is not in the persist directory
)

// ListCollectionsRequest selects collections to list. Only PersistDir is required.
type ListCollectionsRequest struct {
	// PersistDir is a Chroma persist directory: the directory with chroma.sqlite3.
	PersistDir string `json:"persist_dir"`
	// Database and Tenant restrict the list to one database or tenant.
	Database string `json:"database,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	// IO is how segment files are read; it defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// ListCollectionsResponse describes the contents of a persist directory.
type ListCollectionsResponse struct {
	// Complete is false if records, vectors or texts are missing or damaged.
	Complete          bool                `json:"complete"`
	PersistDir        string              `json:"persist_dir"`
	ChromaSchema      map[string]int64    `json:"chroma_schema"`      // the version of each part of the schema
	Replayed          string              `json:"replayed,omitempty"` // the journal or write-ahead log replayed in a copy
	Collections       []Collection        `json:"collections"`
	OrphanDirectories []string            `json:"orphan_directories"` // directories that belong to no segment
	Findings          []CollectionFinding `json:"findings,omitempty"` // about the database as a whole
}

// Collection describes a collection.
type Collection struct {
	Tenant        string          `json:"tenant"`
	Database      string          `json:"database"`
	Name          string          `json:"name"`
	ID            string          `json:"id"`
	SegmentDir    *string         `json:"segment_dir"`    // its segment directory, if any
	Metric        string          `json:"metric"`         // l2, cosine or ip
	MetricSource  string          `json:"metric_source"`  // where the metric is stored; or evidence, undecided
	Dimension     *int            `json:"dimension"`      // nil until the first write
	Records       uint64          `json:"records"`        // number of records in SQLite
	InIndex       uint64          `json:"in_index"`       // records that the index holds
	Queued        uint64          `json:"queued"`         // rows of the queue that the index has not applied
	WithoutVector uint64          `json:"without_vector"` // records without a vector
	State         CollectionState `json:"state"`
	// Metadata is the user's metadata of the collection: a JSON object with integers exact to 64 bits.
	Metadata json.RawMessage     `json:"metadata"`
	Findings []CollectionFinding `json:"findings"`
}

// CollectionFinding is a problem or remark about a collection or a database.
type CollectionFinding struct {
	Code    string `json:"code"`  // a stable name of its kind
	Count   uint64 `json:"count"` // number of affected records, rows or pages
	Loss    bool   `json:"loss"`  // true if records, vectors or texts are missing or damaged because of it
	Message string `json:"message"`
}

// ExportRequest selects what to export. Only PersistDir and OutputPath are required.
type ExportRequest struct {
	// PersistDir is a Chroma persist directory: the directory with chroma.sqlite3. It is only read.
	PersistDir string `json:"persist_dir"`
	// OutputPath is the directory to write. It must be empty or absent, and is written atomically.
	// With the extension of a file format, it is the output file for a single collection.
	OutputPath string `json:"output_path"`
	// OutputFormat defaults to OutputFormatParquet.
	OutputFormat OutputFormat `json:"output_format,omitempty"`
	// Collections are names; if empty, all collections are exported.
	Collections []string `json:"collections,omitempty"`
	// Database and Tenant restrict the export to one database or tenant.
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
	// IO is how segment files are read; it defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
	// Dimension and M describe indexes whose header.bin is lost, if neither the database nor the other
	// files state them. Set both or neither.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Metric applies to collections whose metric the database does not state.
	Metric Space `json:"metric,omitempty"`
}

// ExportResponse reports the result of an export.
type ExportResponse struct {
	// Complete is false if records, vectors or texts are missing or damaged.
	Complete     bool          `json:"complete"`
	OutputPath   string        `json:"output_path"`
	OutputFormat OutputFormat  `json:"output_format"`
	Summary      ExportSummary `json:"summary"`
}

// ExportSummary describes the output of an export. manifest.json has the same content.
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

// ExportedFile describes a file written by an export, and the collection in it.
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
	M                     *uint64             `json:"m,omitempty"`               // links per record, if the database states it
	EfConstruction        *uint64             `json:"ef_construction,omitempty"` // candidates for the links of a record, if the database states it
	ConfigJSONStr         *string             `json:"config_json_str,omitempty"` // its configuration in the table collections
	SchemaStr             *string             `json:"schema_str,omitempty"`      // its schema in the table collections; from Chroma 1.3 on
	Vectors               Vectors             `json:"vectors"`
	Rows                  uint64              `json:"rows"`
	VectorsFromIndex      uint64              `json:"vectors_from_index"`
	VectorsFromLog        uint64              `json:"vectors_from_log"`
	VectorsFromElsewhere  uint64              `json:"vectors_from_elsewhere,omitempty"` // rows whose vector was in another directory, such as a quarantined one
	WithoutVector         uint64              `json:"without_vector"`
	FirstIDsWithoutVector []string            `json:"first_ids_without_vector,omitempty"` // at most a hundred
	Watermark             *uint64             `json:"watermark"`                          // the last write in the index
	JSONColumns           []string            `json:"json_columns,omitempty"`             // columns whose keys have values of several types
	State                 CollectionState     `json:"state"`
	CollectionMetadata    json.RawMessage     `json:"collection_metadata"`
	Findings              []CollectionFinding `json:"findings"`
}

// ListCollections lists the collections of a Chroma persist directory.
//
// It must not be called in a process that has the same database open through another copy of
// SQLite: on POSIX systems, closing the file releases that process's locks on it.
func ListCollections(req ListCollectionsRequest) (*ListCollectionsResponse, error) {
	return ListCollectionsContext(context.Background(), req)
}

// ListCollectionsContext is [ListCollections] with a context. It stops soon after ctx ends, with an
// error that matches both ctx.Err() and [ErrCancelled].
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
// vectors, documents and metadata, including the newest writes.
//
// The restriction of [ListCollections] on processes applies here as well.
func Export(req ExportRequest) (*ExportResponse, error) {
	return ExportContext(context.Background(), req)
}

// ExportContext is [Export] with a context. It stops soon after ctx ends and then writes nothing;
// its error matches both ctx.Err() and [ErrCancelled].
func ExportContext(ctx context.Context, req ExportRequest, opts ...Option) (*ExportResponse, error) {
	return call[ExportResponse](ctx, req.operation(), opts)
}

func (req ExportRequest) operation() operation {
	paths := []field{
		{"persist_dir", req.PersistDir}, {"output_path", req.OutputPath},
		{"database", req.Database}, {"tenant", req.Tenant},
	}
	for _, name := range req.Collections {
		paths = append(paths, field{"collections", name})
	}
	return operation{
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
}
