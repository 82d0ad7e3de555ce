package hnswtoolbox

import "context"

// InspectRequest selects an index to inspect. Only IndexDir is required.
type InspectRequest struct {
	// IndexDir is a Chroma vector segment directory.
	IndexDir string `json:"index_dir"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// InspectResponse describes the contents of a segment without judging them.
type InspectResponse struct {
	Complete        bool        `json:"complete"` // always true
	Header          IndexHeader `json:"header"`
	Dimension       int         `json:"dimension"`        // components per vector
	Live            uint64      `json:"live"`             // records without the delete mark
	Deleted         uint64      `json:"deleted"`          // records with the delete mark
	Labels          *LabelRange `json:"labels"`           // range over live records; nil if there are none
	DuplicateLabels uint64      `json:"duplicate_labels"` // live records whose label a later record repeats
	Files           []FileSize  `json:"files"`            // in Chroma's order of writing
}

// IndexHeader holds the fields of header.bin under hnswlib's names.
type IndexHeader struct {
	WordSizeBytes      int     `json:"word_size_bytes"`       // size of size_t on the machine that wrote the index
	PersistedVersion   int     `json:"persisted_version"`     // format version: 1
	OffsetLevel0       uint64  `json:"offset_level0"`         // bytes to the links in a level-0 record
	MaxElements        uint64  `json:"max_elements"`          // capacity
	CurElementCount    uint64  `json:"cur_element_count"`     // including deleted records
	SizeDataPerElement uint64  `json:"size_data_per_element"` // bytes of a level-0 record
	LabelOffset        uint64  `json:"label_offset"`          // bytes to the label in a level-0 record
	OffsetData         uint64  `json:"offset_data"`           // bytes to the vector in a level-0 record
	MaxLevel           int     `json:"max_level"`             // -1 if the index is empty
	EnterpointNode     uint32  `json:"enterpoint_node"`       // an internal id; 2³²-1 if the index is empty
	MaxM               uint64  `json:"max_m"`                 // maximum number of neighbours on the upper levels
	MaxM0              uint64  `json:"max_m0"`                // maximum number of neighbours on level 0
	M                  uint64  `json:"m"`
	Mult               float64 `json:"mult"` // 1/ln M
	EfConstruction     uint64  `json:"ef_construction"`
}

// LabelRange is the range of labels.
type LabelRange struct {
	Min uint64 `json:"min"`
	Max uint64 `json:"max"`
}

// FileSize is the size of a file of a segment.
type FileSize struct {
	Name           string  `json:"name"`
	ApparentBytes  *uint64 `json:"apparent_bytes"`  // nil if the file is absent
	AllocatedBytes *uint64 `json:"allocated_bytes"` // fewer in a sparse file; nil if the system does not report it
}

// InspectIndex reads the header of a Chroma vector segment directory and counts its records.
func InspectIndex(req InspectRequest) (*InspectResponse, error) {
	return InspectIndexContext(context.Background(), req)
}

// InspectIndexContext is [InspectIndex] with a context. It stops soon after ctx ends, with an error
// that matches both ctx.Err() and [ErrCancelled].
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
