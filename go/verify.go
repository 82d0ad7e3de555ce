package hnswtoolbox

import "context"

// VerifyRequest says what to check. Only IndexDir is needed.
type VerifyRequest struct {
	// IndexDir is a Chroma vector segment directory, or a .hnsw file.
	IndexDir string `json:"index_dir"`
	// IO defaults to IOModeRead.
	IO IOMode `json:"io,omitempty"`
}

// IndexState is what is wrong with an index, in one word.
type IndexState string

// The states of an index, the worst first.
const (
	IndexStateUnsupportedVersion IndexState = "unsupported_version" // header.bin has an unknown version
	IndexStateBadHeader          IndexState = "bad_header"          // header.bin is missing or contradicts itself
	IndexStateTornData           IndexState = "torn_data"           // records are missing, or cannot be
	IndexStateRunawayLinks       IndexState = "runaway_links"       // link_lists.bin has impossible sizes
	IndexStateTornLinks          IndexState = "torn_links"          // links are missing, or lead nowhere
	IndexStateNoMetadata         IndexState = "no_metadata"         // records without readable metadata
	IndexStateMetadataMismatch   IndexState = "metadata_mismatch"   // metadata of other labels or another dimension
	IndexStateEmpty              IndexState = "empty"               // no records; not damage
	IndexStateHealthy            IndexState = "healthy"             // nothing is wrong
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	SeverityError   Severity = "error"   // the index is damaged
	SeverityWarning Severity = "warning" // unusual, but nothing is lost and nothing fails
	SeverityHint    Severity = "hint"    // a guess at what no file says
	SeverityInfo    Severity = "info"    // a fact that healthy indexes have, too
)

// VerifyResponse says whether an index is damaged, and how.
type VerifyResponse struct {
	Complete bool       `json:"complete"` // always true: damage is a result
	State    IndexState `json:"state"`
	Damaged  bool       `json:"damaged"` // whether something is lost, or would fail
	Live     uint64     `json:"live"`    // records without the delete mark, of those that are there
	Deleted  uint64     `json:"deleted"` // records with the delete mark, of those that are there
	Findings []Finding  `json:"findings"`
}

// Finding is something that a check has found, once or many times.
type Finding struct {
	// Code never changes its meaning, such as "links.neighbour_out_of_range".
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`  // the name of a file in the directory
	Count    uint64   `json:"count"` // how often
	First    *string  `json:"first"` // where, or what exactly, the first time
	Words    string   `json:"words"` // what it means
}

// VerifyIndex checks everything that the files of a Chroma vector segment directory promise. That
// an index is damaged is a response, not an error.
func VerifyIndex(req VerifyRequest) (*VerifyResponse, error) {
	return VerifyIndexContext(context.Background(), req)
}

// VerifyIndexContext is [VerifyIndex], and stops soon after ctx ends. Its error then matches both
// ctx.Err() and [ErrCancelled].
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
