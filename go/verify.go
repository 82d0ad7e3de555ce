package hnswtoolbox

import "context"

// VerifyRequest selects an index to check. Only IndexDir is required.
type VerifyRequest struct {
	// IndexDir is a Chroma vector segment directory, or a .hnsw file.
	IndexDir string `json:"index_dir"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// IndexState summarises the damage of an index.
type IndexState string

// States of an index, the worst first.
const (
	IndexStateUnsupportedVersion IndexState = "unsupported_version" // header.bin has an unknown version
	IndexStateBadHeader          IndexState = "bad_header"          // header.bin is missing or contradicts itself
	IndexStateTornData           IndexState = "torn_data"           // records are missing or invalid
	IndexStateRunawayLinks       IndexState = "runaway_links"       // link_lists.bin has impossible sizes
	IndexStateTornLinks          IndexState = "torn_links"          // links are missing or invalid
	IndexStateNoMetadata         IndexState = "no_metadata"         // records without readable metadata
	IndexStateMetadataMismatch   IndexState = "metadata_mismatch"   // metadata with other labels or another dimension
	IndexStateEmpty              IndexState = "empty"               // no records; not damage
	IndexStateHealthy            IndexState = "healthy"             // no damage
)

// Severity is the severity of a finding.
type Severity string

// Severities, the worst first.
const (
	SeverityError   Severity = "error"   // the index is damaged
	SeverityWarning Severity = "warning" // unusual, but without loss or failures
	SeverityHint    Severity = "hint"    // an inference about something no file states
	SeverityInfo    Severity = "info"    // a fact that also occurs in healthy indexes
)

// VerifyResponse describes the damage of an index.
type VerifyResponse struct {
	Complete bool       `json:"complete"` // always true: damage is a result
	State    IndexState `json:"state"`
	Damaged  bool       `json:"damaged"` // true if something is lost or would fail
	Live     uint64     `json:"live"`    // records present without the delete mark
	Deleted  uint64     `json:"deleted"` // records present with the delete mark
	Findings []Finding  `json:"findings"`
}

// Finding is a result of a check, found once or many times.
type Finding struct {
	// Code has a stable meaning, such as "links.neighbour_out_of_range".
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`  // the name of a file in the directory
	Count    uint64   `json:"count"` // number of occurrences
	First    *string  `json:"first"` // details of the first occurrence
	Words    string   `json:"words"` // an explanation
}

// VerifyIndex checks all invariants of a Chroma vector segment directory. Damage is reported in the
// response, not as an error.
func VerifyIndex(req VerifyRequest) (*VerifyResponse, error) {
	return VerifyIndexContext(context.Background(), req)
}

// VerifyIndexContext is [VerifyIndex] with a context. It stops soon after ctx ends, with an error
// that matches both ctx.Err() and [ErrCancelled].
func VerifyIndexContext(ctx context.Context, req VerifyRequest, opts ...Option) (*VerifyResponse, error) {
	return call[VerifyResponse](ctx, req.operation(), opts)
}

func (req VerifyRequest) operation() operation {
	return operation{
		name:     "verify index",
		function: func(l *library) nativeCall { return l.verify },
		paths:    []field{{"index_dir", req.IndexDir}},
		request: func(token uint64) any {
			return struct {
				VerifyRequest
				Token uint64 `json:"token,omitempty"`
			}{req, token}
		},
	}
}
