package hnswtoolbox

import "context"

// InspectRequest says what to inspect. Only IndexDir is needed.
type InspectRequest struct {
	// IndexDir is a Chroma vector segment directory.
	IndexDir string `json:"index_dir"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// InspectResponse says what an index directory holds, without judging it.
type InspectResponse struct {
	Complete        bool        `json:"complete"` // always true
	Header          IndexHeader `json:"header"`
	Dimension       int         `json:"dimension"`        // components of each vector
	Live            uint64      `json:"live"`             // records without the delete mark
	Deleted         uint64      `json:"deleted"`          // records with the delete mark
	Labels          *LabelRange `json:"labels"`           // of the live records; nil when there are none
	DuplicateLabels uint64      `json:"duplicate_labels"` // live records whose label a later one has, too
	Files           []FileSize  `json:"files"`            // in the order in which Chroma writes them
}

// IndexHeader holds the fields of header.bin under the names that hnswlib gives them.
type IndexHeader struct {
	WordSizeBytes      int     `json:"word_size_bytes"`       // of size_t on the machine that wrote the index
	PersistedVersion   int     `json:"persisted_version"`     // of the format: 1
	OffsetLevel0       uint64  `json:"offset_level0"`         // bytes to the links in a level-0 record
	MaxElements        uint64  `json:"max_elements"`          // capacity
	CurElementCount    uint64  `json:"cur_element_count"`     // deleted elements included
	SizeDataPerElement uint64  `json:"size_data_per_element"` // bytes of a level-0 record
	LabelOffset        uint64  `json:"label_offset"`          // bytes to the label in a level-0 record
	OffsetData         uint64  `json:"offset_data"`           // bytes to the vector in a level-0 record
	MaxLevel           int     `json:"max_level"`             // -1 when the index is empty
	EnterpointNode     uint32  `json:"enterpoint_node"`       // an internal id; 2³²-1 when the index is empty
	MaxM               uint64  `json:"max_m"`                 // most neighbours on the upper levels
	MaxM0              uint64  `json:"max_m0"`                // most neighbours on level 0
	M                  uint64  `json:"m"`
	Mult               float64 `json:"mult"` // 1/ln M
	EfConstruction     uint64  `json:"ef_construction"`
}

// LabelRange is the lowest and the highest of some labels.
type LabelRange struct {
	Min uint64 `json:"min"`
	Max uint64 `json:"max"`
}

// FileSize is how large a file of an index directory is.
type FileSize struct {
	Name           string  `json:"name"`
	ApparentBytes  *uint64 `json:"apparent_bytes"`  // nil when there is no such file
	AllocatedBytes *uint64 `json:"allocated_bytes"` // fewer in a sparse file; nil where the system does not tell
}

// InspectIndex reads the header of a Chroma vector segment directory and counts its records.
func InspectIndex(req InspectRequest) (*InspectResponse, error) {
	return InspectIndexContext(context.Background(), req)
}

// InspectIndexContext is [InspectIndex], and stops soon after ctx ends. Its error then matches both
// ctx.Err() and [ErrCancelled].
func InspectIndexContext(ctx context.Context, req InspectRequest, opts ...Option) (*InspectResponse, error) {
	return call[InspectResponse](ctx, req.operation(), opts)
}

func (req InspectRequest) operation() operation {
	return operation{
		name:     "inspect index",
		function: func(l *library) nativeCall { return l.inspect },
		paths:    []field{{"index_dir", req.IndexDir}},
		request: func(token uint64) any {
			return struct {
				InspectRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}
