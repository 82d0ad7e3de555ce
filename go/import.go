package hnswtoolbox

import "context"

// OnConflict selects the treatment of a record whose id its collection already has.
type OnConflict string

// Treatments of a record whose id its collection already has.
const (
	OnConflictError   OnConflict = "error"   // the import fails, and nothing is written; the default
	OnConflictSkip    OnConflict = "skip"    // the record of the collection stays
	OnConflictReplace OnConflict = "replace" // the record of the source replaces it
)

// ListForm selects the form of metadata values that are lists.
type ListForm string

// Forms of metadata values that are lists.
const (
	ListFormList ListForm = "list" // lists, which Chroma 1.5 introduced; the default
	ListFormJSON ListForm = "json" // text in JSON
)

// FileColumns names the columns of a file to import. The columns uri, metadata and metadata.<key>
// are always imported.
type FileColumns struct {
	// ID has the ids: text or integers. It defaults to id or ids.
	ID string `json:"id,omitempty"`
	// Vector has the vectors: lists of floats. It defaults to vector, embedding, embeddings, emb or the
	// only column with lists of floats.
	Vector string `json:"vector,omitempty"`
	// Document has the documents: text. It defaults to document, text or content.
	Document string `json:"document,omitempty"`
	// Metadata names columns that become metadata under their own names: text, numbers, booleans or
	// lists.
	Metadata []string `json:"metadata,omitempty"`
}

// ImportRequest describes an import. Sources, IntoDir and either OutputDir or InPlace are required.
type ImportRequest struct {
	// Sources are Chroma persist directories, outputs of [Export], Parquet or Arrow IPC files, or
	// directories of such files. They are only read.
	Sources []string `json:"sources"`
	// IntoDir is the Chroma persist directory to extend. It is only read, unless InPlace is true.
	IntoDir string `json:"into_dir"`
	// OutputDir is the persist directory to write. It must not exist, and is written atomically.
	OutputDir string `json:"output_dir,omitempty"`
	// InPlace replaces IntoDir under its name, and keeps the old store beside it. No process may have a
	// file of the store open, including this one.
	InPlace bool `json:"in_place,omitempty"`
	// Collections are names of collections in the sources; if empty, all are imported. Rows of a file
	// that Export did not write get the name given here, else the file's.
	Collections []string `json:"collections,omitempty"`
	// Columns are the columns of files.
	Columns FileColumns `json:"columns,omitzero"`
	// Rename maps names of collections in the sources to new names.
	Rename map[string]string `json:"rename,omitempty"`
	// Database and Tenant get the collections. By default they stay in their own.
	Database string `json:"database,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	// Metric applies to new collections; it defaults to the source's, else to SpaceL2.
	Metric Space `json:"metric,omitempty"`
	// M is the number of links per record of new collections: 2 to 256. It defaults to the source's, else
	// to 16.
	M *int `json:"m,omitempty"`
	// EfConstruction is the number of candidates for the links of a record in new collections: 1 to 65536.
	// It defaults to the source's, else to 100.
	EfConstruction *int `json:"ef_construction,omitempty"`
	// OnConflict defaults to OnConflictError.
	OnConflict OnConflict `json:"on_conflict,omitempty"`
	// Lists defaults to ListFormList.
	Lists ListForm `json:"lists,omitempty"`
	// KeepIncomplete also imports records without a vector. Chroma 1.0 and later fails on filtered queries
	// of a collection with such records.
	KeepIncomplete bool `json:"keep_incomplete,omitempty"`
	// Threads defaults to one per core, with a maximum of 8.
	Threads *int `json:"threads,omitempty"`
	// DryRun reports what would be imported, and writes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// ImportResponse reports the result of an import.
type ImportResponse struct {
	// Complete is false if records, vectors or texts of the sources are missing or damaged.
	Complete    bool                 `json:"complete"`
	Sources     []string             `json:"sources"`
	IntoDir     string               `json:"into_dir"`   // the old store
	OutputDir   string               `json:"output_dir"` // the new store
	DryRun      bool                 `json:"dry_run"`
	Records     uint64               `json:"records"`            // records of the new store
	Imported    uint64               `json:"imported"`           // records imported; in a dry run, if no id occurs twice
	Skipped     uint64               `json:"skipped"`            // records of the sources skipped: the collection has their id
	Replaced    uint64               `json:"replaced"`           // records replaced by imported ones
	LeftOut     uint64               `json:"left_out"`           // records of the sources skipped: no vector
	Collections []ImportedCollection `json:"collections"`        // the collections with imported records
	FullText    *FullText            `json:"full_text"`          // nil in a dry run
	KeptDir     *string              `json:"kept_dir"`           // the old store, after an import in place
	Undo        []string             `json:"undo"`               // commands that bring the old store back, after an import in place
	BytesBefore uint64               `json:"bytes_before"`       // bytes of the old store on the disk
	BytesAfter  uint64               `json:"bytes_after"`        // bytes of the new store; an estimate in a dry run
	Findings    []CollectionFinding  `json:"findings,omitempty"` // about the databases of the sources as a whole

	// Warnings names further facts, such as files whose owner could not be set.
	Warnings []string `json:"warnings,omitempty"`
}

// ImportedCollection describes a collection with imported records.
type ImportedCollection struct {
	Tenant                string              `json:"tenant"`
	Database              string              `json:"database"`
	Name                  string              `json:"name"`
	ID                    string              `json:"id"`
	IsNew                 bool                `json:"is_new"`      // true if the import created it
	SegmentDir            *string             `json:"segment_dir"` // its segment directory; nil without vectors
	Dimension             *int                `json:"dimension"`   // nil without vectors
	Metric                Space               `json:"metric"`
	Links                 *Links              `json:"links"`                              // nil without a new segment
	Records               uint64              `json:"records"`                            // records in the new store
	Imported              uint64              `json:"imported"`                           // records imported
	Skipped               uint64              `json:"skipped"`                            // records of the sources skipped: the collection has their id
	Replaced              uint64              `json:"replaced"`                           // records replaced by imported ones
	VectorsNotFinite      uint64              `json:"vectors_not_finite"`                 // imported records whose vector stays in the queue: NaN or infinity
	WithoutVector         uint64              `json:"without_vector"`                     // records of the sources without a vector
	FirstIDsWithoutVector []string            `json:"first_ids_without_vector,omitempty"` // at most a hundred
	Origins               []ImportOrigin      `json:"origins"`                            // the sources of its imported records
	Findings              []CollectionFinding `json:"findings"`                           // about its records in the sources
}

// ImportOrigin describes a source of the records of a collection.
type ImportOrigin struct {
	Path       string            `json:"path"`                 // a persist directory or a file
	Collection string            `json:"collection,omitempty"` // the collection in a persist directory
	Columns    map[string]string `json:"columns,omitempty"`    // the use of each imported column of a file
}

// Import writes a Chroma persist directory with the records of another one and of the sources:
// persist directories of any version of Chroma, outputs of [Export], and Parquet or Arrow IPC files.
// With InPlace, the result takes the name of IntoDir.
//
// A collection that IntoDir does not have is created, with the configuration and the metadata of its
// source. Records without a vector are skipped unless KeepIncomplete is true. The restriction of
// [ListCollections] on processes applies here as well.
func Import(req ImportRequest) (*ImportResponse, error) {
	return ImportContext(context.Background(), req)
}

// ImportContext is [Import] with a context. It stops soon after ctx ends and then writes no directory,
// and keeps the store in place; its error matches both ctx.Err() and [ErrCancelled].
func ImportContext(ctx context.Context, req ImportRequest, opts ...Option) (*ImportResponse, error) {
	return call[ImportResponse](ctx, req.operation(), opts)
}

func (req ImportRequest) operation() operation {
	paths := []field{
		{"into_dir", req.IntoDir}, {"output_dir", req.OutputDir},
		{"database", req.Database}, {"tenant", req.Tenant},
		{"columns.id", req.Columns.ID}, {"columns.vector", req.Columns.Vector},
		{"columns.document", req.Columns.Document},
	}
	for _, source := range req.Sources {
		paths = append(paths, field{"sources", source})
	}
	for _, name := range req.Collections {
		paths = append(paths, field{"collections", name})
	}
	for _, name := range req.Columns.Metadata {
		paths = append(paths, field{"columns.metadata", name})
	}
	for old, name := range req.Rename {
		paths = append(paths, field{"rename", old}, field{"rename", name})
	}
	return operation{
		name:     "import",
		function: func(l *library) nativeCall { return l.importRecords },
		paths:    paths,
		request: func(token uint64) any {
			return struct {
				ImportRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}
