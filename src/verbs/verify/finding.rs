//! Findings of a verification: one constant for each kind, with its code and severity.

use serde::Serialize;

use super::IndexState;
use crate::segment::file_name;

named_enum! {
    /// The severity of a finding.
    #[derive(PartialOrd, Ord)]
    pub enum Severity for "severity" {
        /// The index is damaged.
        Error = "error",
        /// Differs from hnswlib's output, but loses no data and breaks no search.
        Warning = "warning",
        /// A guess about something that no file states.
        Hint = "hint",
        /// A fact that is also true of healthy indexes.
        Info = "info",
    }
}

/// A problem or fact that a verification found, once or many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Identifies the kind of finding, for example `links.neighbour_out_of_range`. A code never
    /// changes its meaning.
    pub code: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// The file, by its name in the directory; or the part of a `.hnsw` file.
    pub file: &'static str,
    /// Number of occurrences.
    pub count: u64,
    /// Details of the first occurrence.
    pub first: Option<String>,
    /// Its meaning.
    #[serde(rename = "words")]
    pub message: &'static str,
    /// The state of an index that has it.
    #[serde(skip)]
    state: IndexState,
}

impl Finding {
    /// Returns true if the finding is of a kind.
    pub(crate) fn is(&self, kind: &Kind) -> bool {
        self.code == kind.code
    }

    /// Returns true for damage that keeps a segment's links from being read or followed.
    pub(crate) fn is_damage_of_links(&self) -> bool {
        use IndexState::{BadHeader, RunawayLinks, TornLinks, UnsupportedVersion};
        self.severity == Severity::Error
            && matches!(
                self.state,
                UnsupportedVersion | BadHeader | RunawayLinks | TornLinks
            )
    }
}

/// A kind of finding.
#[derive(Debug)]
pub(crate) struct Kind {
    code: &'static str,
    severity: Severity,
    message: &'static str,
    /// The state of an index that has it. Warnings, hints and infos leave the index healthy.
    state: IndexState,
}

impl Kind {
    const fn error(code: &'static str, state: IndexState, message: &'static str) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message,
            state,
        }
    }

    const fn other(code: &'static str, severity: Severity, message: &'static str) -> Self {
        Self {
            code,
            severity,
            message,
            state: IndexState::Healthy,
        }
    }
}

// Findings about a segment. Codes are a contract: a new kind gets a new code.

pub(crate) const HEADER_MISSING: Kind = Kind::error(
    "header.missing",
    IndexState::BadHeader,
    "the file is missing; nothing else was checked",
);
pub(crate) const HEADER_INVALID: Kind = Kind::error(
    "header.invalid",
    IndexState::BadHeader,
    "fields are inconsistent; nothing else was checked",
);
pub(crate) const HEADER_VERSION: Kind = Kind::error(
    "header.unsupported_version",
    IndexState::UnsupportedVersion,
    "the persisted version is not 1; nothing else was checked",
);
pub(crate) const LEVEL0_MISSING: Kind = Kind::error(
    "level0.missing",
    IndexState::TornData,
    "the file is missing",
);
pub(crate) const LEVEL0_TOO_SHORT: Kind = Kind::error(
    "level0.too_short",
    IndexState::TornData,
    "records that header.bin counts are missing or incomplete",
);
pub(crate) const UNREADABLE: Kind = Kind::error(
    "file.unreadable",
    IndexState::TornData,
    "the disk cannot read sectors of the file",
);
pub(crate) const LEVEL0_FLAGS: Kind = Kind::other(
    "level0.unknown_flags",
    Severity::Warning,
    "flags have bits set that have no meaning",
);
// Chroma assigns labels from 1 on.
pub(crate) const LABEL_ZERO: Kind = Kind::error(
    "labels.zero",
    IndexState::TornData,
    "records have label 0, which is never assigned",
);
pub(crate) const LABEL_DUPLICATE: Kind = Kind::error(
    "labels.duplicate",
    IndexState::TornData,
    "live records have the label of a later live record",
);
pub(crate) const VECTOR_NOT_FINITE: Kind = Kind::error(
    "vectors.not_finite",
    IndexState::TornData,
    "vectors of live records have components that are infinite or NaN",
);
pub(crate) const VECTOR_NOT_FINITE_DELETED: Kind = Kind::other(
    "vectors.not_finite_deleted",
    Severity::Info,
    "vectors of deleted records have components that are infinite or NaN",
);
pub(crate) const VECTOR_DAMAGED: Kind = Kind::error(
    "vectors.damaged",
    IndexState::TornData,
    "vectors of live records of a cosine segment do not have norm 1: they are damaged",
);
pub(crate) const VECTOR_OVERFLOW: Kind = Kind::other(
    "vectors.overflow",
    Severity::Info,
    "vectors had norms beyond f32, for which Chroma itself stores zeros",
);
pub(crate) const VECTOR_ZEROED_SECTOR: Kind = Kind::other(
    "vectors.zeroed_sector",
    Severity::Warning,
    "zeros fill a 512-byte sector of records; part of their vectors is likely lost",
);
pub(crate) const NORM_MISSING: Kind = Kind::error(
    "length.norm_missing",
    IndexState::TornData,
    "norms of unit vectors are zero or impossible: only the direction of the vectors is left",
);
pub(crate) const NORMS_MISSING: Kind = Kind::error(
    "length.missing",
    IndexState::TornData,
    "the file is missing; vectors can be extracted without it",
);
pub(crate) const NORMS_TOO_SHORT: Kind = Kind::error(
    "length.too_short",
    IndexState::TornData,
    "too short: fewer norms than records; vectors can be extracted without them",
);
pub(crate) const LINK_LISTS_MISSING: Kind = Kind::error(
    "link_lists.missing",
    IndexState::TornLinks,
    "the file is missing; vectors can be extracted without it",
);
pub(crate) const LINK_LISTS_TOO_SHORT: Kind = Kind::error(
    "link_lists.too_short",
    IndexState::TornLinks,
    "the file ends before the links of the last record; vectors can be extracted without them",
);
pub(crate) const LINK_LISTS_SIZE: Kind = Kind::error(
    "link_lists.invalid_size",
    IndexState::TornLinks,
    "the size of a record's links is not a multiple of 4 + 4·max_m; what follows was not checked",
);
// A known bug of Chroma writes such sizes and lengths.
pub(crate) const LINK_LISTS_RUNAWAY_SIZE: Kind = Kind::error(
    "link_lists.runaway_size",
    IndexState::RunawayLinks,
    "the size of a record's links exceeds max_level·(4 + 4·max_m); what follows was not checked",
);
pub(crate) const LINK_LISTS_RUNAWAY_LENGTH: Kind = Kind::error(
    "link_lists.runaway_length",
    IndexState::RunawayLinks,
    "the file is longer than the links of all records can be",
);
pub(crate) const LINK_LISTS_TRAILING: Kind = Kind::other(
    "link_lists.trailing_bytes",
    Severity::Warning,
    "there are bytes after the links of the last record",
);
pub(crate) const LINKS_TOO_MANY: Kind = Kind::error(
    "links.too_many",
    IndexState::TornLinks,
    "lists claim more neighbours than they have room for",
);
pub(crate) const LINKS_OUT_OF_RANGE: Kind = Kind::error(
    "links.neighbour_out_of_range",
    IndexState::TornLinks,
    "neighbours are not internal ids of the index",
);
// A search would follow the link to a list that does not exist.
pub(crate) const LINKS_BELOW_LEVEL: Kind = Kind::error(
    "links.neighbour_below_level",
    IndexState::TornLinks,
    "neighbours on a level are not themselves on that level",
);
pub(crate) const LINKS_ENTRY_POINT: Kind = Kind::error(
    "links.entry_point_level",
    IndexState::TornLinks,
    "the entry point is not on the highest level of the header",
);
pub(crate) const LINKS_SELF: Kind = Kind::other(
    "links.self",
    Severity::Warning,
    "records are their own neighbours",
);
pub(crate) const LINKS_DUPLICATE: Kind = Kind::other(
    "links.duplicate",
    Severity::Warning,
    "lists name a neighbour more than once",
);
pub(crate) const LINKS_UNREACHABLE: Kind = Kind::other(
    "links.unreachable",
    Severity::Info,
    "no links lead from the entry point to these records; with a small m this is common",
);
pub(crate) const METADATA_MISSING: Kind = Kind::error(
    "metadata.missing",
    IndexState::NoMetadata,
    "the file is missing though there are records: no vector has an id, and Chroma starts over \
     with an empty index",
);
pub(crate) const METADATA_UNREADABLE: Kind = Kind::error(
    "metadata.unreadable",
    IndexState::NoMetadata,
    "the file is not a pickle as Chroma writes it, or is incomplete",
);
pub(crate) const METADATA_NO_RECORD: Kind = Kind::error(
    "metadata.label_without_record",
    IndexState::MetadataMismatch,
    "no live record has these labels",
);
pub(crate) const METADATA_NO_ID: Kind = Kind::error(
    "metadata.record_without_id",
    IndexState::MetadataMismatch,
    "live records have labels that belong to no id",
);
pub(crate) const METADATA_DIMENSION: Kind = Kind::error(
    "metadata.dimension",
    IndexState::MetadataMismatch,
    "dimensionality differs from header.bin",
);
pub(crate) const METADATA_TOTAL: Kind = Kind::error(
    "metadata.label_beyond_total",
    IndexState::MetadataMismatch,
    "labels exceed total_elements_added and would be reused",
);
pub(crate) const METRIC_COSINE: Kind = Kind::other(
    "metric.cosine",
    Severity::Hint,
    "all vectors have norm 1 and length.bin holds norms: the metric is likely cosine",
);
pub(crate) const METRIC_NOT_COSINE: Kind = Kind::other(
    "metric.not_cosine",
    Severity::Hint,
    "the metric is likely not cosine",
);

// Findings about a `.hnsw` file, which have the codes of a segment where they mean the same.

pub(crate) const HNSW_HEADER: Kind = Kind::error(
    "header.invalid",
    IndexState::BadHeader,
    "fields are inconsistent; nothing else was checked",
);
pub(crate) const HNSW_UNSUPPORTED: Kind = Kind::error(
    "header.unsupported_version",
    IndexState::UnsupportedVersion,
    "the version or kind of the file is not supported; nothing else was checked",
);
pub(crate) const HNSW_ENTRY_POINT: Kind = Kind::error(
    "links.entry_point_level",
    IndexState::TornLinks,
    "the entry point is not a node of the level that the header states",
);
pub(crate) const HNSW_ENTRY_POINT_LOW: Kind = Kind::other(
    "links.entry_point_low",
    Severity::Warning,
    "nodes are on levels above the entry point's; searches never reach those levels",
);
pub(crate) const HNSW_LABELS: Kind = Kind::error(
    "labels.unreadable",
    IndexState::TornData,
    "labels are missing or incomplete after the last list: the file is truncated, or the list is damaged",
);
pub(crate) const HNSW_TRAILING: Kind = Kind::other(
    "file.trailing_bytes",
    Severity::Warning,
    "bytes follow the last label",
);
pub(crate) const HNSW_LEVEL: Kind = Kind::error(
    "levels.out_of_range",
    IndexState::TornLinks,
    "levels are above 255, which no real graph has",
);
pub(crate) const HNSW_NOT_FINITE: Kind = Kind::error(
    "vectors.not_finite",
    IndexState::TornData,
    "vectors have components that are infinite or NaN",
);
pub(crate) const HNSW_OFFSETS: Kind = Kind::error(
    "offsets.not_consecutive",
    IndexState::TornLinks,
    "neighbour lists are not contiguous; fast-hnsw reads them sequentially and would use the wrong ones",
);
pub(crate) const HNSW_LIST: Kind = Kind::error(
    "links.list_unreadable",
    IndexState::TornLinks,
    "lists are outside the file, or have more neighbours than m or m0",
);
pub(crate) const HNSW_OUT_OF_RANGE: Kind = Kind::error(
    "links.neighbour_out_of_range",
    IndexState::TornLinks,
    "neighbours are not nodes of the graph",
);
pub(crate) const HNSW_BELOW_LEVEL: Kind = Kind::error(
    "links.neighbour_below_level",
    IndexState::TornLinks,
    "neighbours on a level are not themselves on that level",
);
pub(crate) const HNSW_SELF: Kind = Kind::other(
    "links.self",
    Severity::Warning,
    "nodes are their own neighbours",
);
pub(crate) const HNSW_DUPLICATE: Kind = Kind::other(
    "links.duplicate",
    Severity::Warning,
    "lists name a neighbour more than once",
);
pub(crate) const HNSW_DISTANCES: Kind = Kind::other(
    "links.distance",
    Severity::Warning,
    "distances in the lists differ from the recomputed ones; searches do not use them",
);
pub(crate) const HNSW_UNREACHABLE: Kind = Kind::other(
    "links.unreachable",
    Severity::Info,
    "no links on level 0 lead from the entry point to these nodes",
);
pub(crate) const HNSW_LABEL_DUPLICATE: Kind = Kind::other(
    "labels.duplicate",
    Severity::Warning,
    "nodes have the label of another node",
);
pub(crate) const HNSW_METRIC: Kind = Kind::other(
    "metric.not_stated",
    Severity::Hint,
    "the file does not state its metric",
);

/// The findings so far.
#[derive(Debug)]
pub(crate) struct Findings {
    findings: Vec<Finding>,
    state: IndexState,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self {
            findings: Vec::new(),
            state: IndexState::Healthy,
        }
    }

    /// Notes one occurrence of a kind. `first` describes it, and is called for the first one only.
    pub(crate) fn note(&mut self, kind: &Kind, file: &'static str, first: impl FnOnce() -> String) {
        self.note_many(kind, file, 1, first);
    }

    /// Notes `count` occurrences of a kind; none for 0.
    // Cold: healthy files never get here, and the checks run once for every record.
    #[cold]
    pub(crate) fn note_many(
        &mut self,
        kind: &Kind,
        file: &'static str,
        count: u64,
        first: impl FnOnce() -> String,
    ) {
        if count == 0 {
            return;
        }
        // `IndexState` is ordered worst first, so the minimum is the state to report.
        self.state = self.state.min(kind.state);
        match self.known(kind.code, file) {
            Some(finding) => finding.count = finding.count.saturating_add(count),
            None => self.findings.push(Finding {
                code: kind.code,
                severity: kind.severity,
                file,
                count,
                first: Some(first()),
                message: kind.message,
                state: kind.state,
            }),
        }
    }

    /// Adds the findings of a later part.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.state = self.state.min(later.state);
        for finding in later.findings {
            match self.known(finding.code, finding.file) {
                Some(known) => known.count = known.count.saturating_add(finding.count),
                None => self.findings.push(finding),
            }
        }
    }

    fn known(&mut self, code: &str, file: &str) -> Option<&mut Finding> {
        self.findings
            .iter_mut()
            .find(|finding| finding.code == code && finding.file == file)
    }

    /// Returns the findings, worst first and then in the order of the files, and the state.
    pub(crate) fn finish(mut self) -> (Vec<Finding>, IndexState) {
        self.findings.sort_by_key(|finding| {
            let file = file_name::ALL.iter().position(|name| *name == finding.file);
            (finding.severity, file)
        });
        (self.findings, self.state)
    }
}
