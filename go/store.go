package hnswtoolbox

import "context"

// FullText is the origin of the full-text table of a repaired or extended store.
type FullText string

// Origins of a full-text table.
const (
	FullTextCopied   FullText = "copied"   // from the old store, where it agreed with the documents
	FullTextExtended FullText = "extended" // copied, and extended by the documents of imported records
	FullTextBuilt    FullText = "built"    // from the documents
)

// RepairStoreRequest describes a repair of a whole persist directory. PersistDir and either OutputDir
// or InPlace are required.
type RepairStoreRequest struct {
	// PersistDir is a Chroma persist directory: the directory with chroma.sqlite3. It is only read,
	// unless InPlace is true.
	PersistDir string `json:"persist_dir"`
	// OutputDir is the persist directory to write. It must not exist, and is written atomically.
	OutputDir string `json:"output_dir,omitempty"`
	// InPlace replaces PersistDir under its name, and keeps the old store beside it. No process may have
	// a file of the store open, including this one.
	InPlace bool `json:"in_place,omitempty"`
	// Template is an empty store made by the Chroma that will open the result. It is needed only if the
	// rows of the table migrations are lost or unknown.
	Template string `json:"template,omitempty"`
	// KeepIncomplete keeps records without a vector in the store. Chroma 1.0 and later fails on filtered
	// queries of a collection with such records.
	KeepIncomplete bool `json:"keep_incomplete,omitempty"`
	// Links defaults to LinksKeep where a segment's links are intact, else to LinksBuild.
	Links Links `json:"links,omitempty"`
	// Metric applies to collections whose metric the database does not state.
	Metric Space `json:"metric,omitempty"`
	// Dimension and M describe segments whose header.bin is lost, if neither the database nor the other
	// files state them. Set both or neither.
	Dimension *int `json:"dimension,omitempty"`
	M         *int `json:"m,omitempty"`
	// Threads defaults to one per core, with a maximum of 8.
	Threads *int `json:"threads,omitempty"`
	// IO is how segment files are read; it defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
	// DryRun reports what would be written and lost, and writes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// RepairStoreResponse reports the result of a repair of a store.
type RepairStoreResponse struct {
	// Complete is false if records, vectors or texts are missing or damaged.
	Complete            bool                      `json:"complete"`
	PersistDir          string                    `json:"persist_dir"` // the old store
	OutputDir           string                    `json:"output_dir"`  // the new store
	DryRun              bool                      `json:"dry_run"`
	Replayed            string                    `json:"replayed,omitempty"` // the journal or write-ahead log replayed in a copy
	Records             uint64                    `json:"records"`            // records of the new store
	LeftOut             uint64                    `json:"left_out"`           // records skipped: no vector anywhere
	LeftOutDir          *string                   `json:"left_out_dir"`       // an export of the records skipped, if any
	KeptDir             *string                   `json:"kept_dir"`           // the old store, after a repair in place
	Undo                []string                  `json:"undo"`               // commands that bring the old store back, after a repair in place
	Collections         []RepairedStoreCollection `json:"collections"`
	RowsDropped         map[string]uint64         `json:"rows_dropped"`         // rows left out by table: of deleted collections, or damaged
	FullText            *FullText                 `json:"full_text"`            // nil in a dry run
	LeftoverDirectories []string                  `json:"leftover_directories"` // segments without a collection, left out
	OtherFiles          uint64                    `json:"other_files"`          // files that are not Chroma's, copied
	OtherBytes          uint64                    `json:"other_bytes"`
	BytesBefore         uint64                    `json:"bytes_before"`       // bytes of the old store on the disk
	BytesAfter          uint64                    `json:"bytes_after"`        // bytes of the new store; at most as many in a dry run
	Findings            []CollectionFinding       `json:"findings,omitempty"` // about the database as a whole

	// Warnings names further facts, such as files whose owner could not be set.
	Warnings []string `json:"warnings,omitempty"`
}

// RepairedStoreCollection describes a collection of a repaired store.
type RepairedStoreCollection struct {
	Tenant                string              `json:"tenant"`
	Database              string              `json:"database"`
	Name                  string              `json:"name"`
	ID                    string              `json:"id"`
	SegmentDir            *string             `json:"segment_dir"` // its new segment directory; nil without vectors
	Dimension             *int                `json:"dimension"`   // nil until the first write
	Metric                Space               `json:"metric"`
	MetricSource          string              `json:"metric_source"`                      // where the metric is stored; or evidence, undecided
	Records               uint64              `json:"records"`                            // records of the new store
	VectorsFromSegment    uint64              `json:"vectors_from_segment"`               // records whose vector was in the segment
	VectorsFromQueue      uint64              `json:"vectors_from_queue"`                 // records whose vector was in the queue
	VectorsFromElsewhere  uint64              `json:"vectors_from_elsewhere"`             // records whose vector was in another directory, such as a quarantined one
	VectorsNotFinite      uint64              `json:"vectors_not_finite"`                 // records whose vector stays in the queue: NaN or infinity
	WithoutVector         uint64              `json:"without_vector"`                     // records without a vector
	FirstIDsWithoutVector []string            `json:"first_ids_without_vector,omitempty"` // at most a hundred
	Links                 *Links              `json:"links"`                              // nil without a new segment
	Findings              []CollectionFinding `json:"findings"`
}

// RepairStore writes a healthy replacement for a whole Chroma persist directory: chroma.sqlite3 and
// the segment of every collection. With InPlace, the replacement takes the directory's name.
//
// Records without a vector are exported to OutputDir with the suffix .without-vectors, unless
// KeepIncomplete is true. The restriction of [ListCollections] on processes applies here as well.
func RepairStore(req RepairStoreRequest) (*RepairStoreResponse, error) {
	return RepairStoreContext(context.Background(), req)
}

// RepairStoreContext is [RepairStore] with a context. It stops soon after ctx ends and then writes no
// directory, and keeps the store in place; its error matches both ctx.Err() and [ErrCancelled].
func RepairStoreContext(ctx context.Context, req RepairStoreRequest, opts ...Option) (*RepairStoreResponse, error) {
	return call[RepairStoreResponse](ctx, req.operation(), opts)
}

func (req RepairStoreRequest) operation() operation {
	return operation{
		name:     "repair store",
		function: func(l *library) nativeCall { return l.repairStore },
		paths: []field{
			{"persist_dir", req.PersistDir}, {"output_dir", req.OutputDir}, {"template", req.Template},
		},
		request: func(token uint64) any {
			return struct {
				RepairStoreRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}
