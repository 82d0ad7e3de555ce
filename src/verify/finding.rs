//! What a verification finds, by code.

use serde::Serialize;

use super::IndexState;
use crate::chroma::file_name;

named_enum! {
    /// How bad a finding is.
    #[derive(PartialOrd, Ord)]
    pub enum Severity for "severity" {
        /// The index is damaged.
        Error = "error",
        /// Not as hnswlib writes it, but nothing is lost and nothing fails because of it.
        Warning = "warning",
        /// A guess at what no file says.
        Hint = "hint",
        /// A fact that healthy indexes have, too.
        Info = "info",
    }
}

/// Something that a verification has found, once or many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Identifies the kind of finding, and never changes its meaning, as
    /// `links.neighbour_out_of_range`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file, by its name in the directory.
    pub file: &'static str,
    /// How often.
    pub count: u64,
    /// Where, or what exactly, the first time.
    pub first: Option<String>,
    /// What it means.
    pub words: &'static str,
}

/// A kind of finding.
#[derive(Debug)]
pub(crate) struct Kind {
    code: &'static str,
    severity: Severity,
    words: &'static str,
    /// The state of an index in which it is found.
    state: IndexState,
}

impl Kind {
    const fn error(code: &'static str, state: IndexState, words: &'static str) -> Self {
        Self {
            code,
            severity: Severity::Error,
            words,
            state,
        }
    }

    const fn other(code: &'static str, severity: Severity, words: &'static str) -> Self {
        Self {
            code,
            severity,
            words,
            state: IndexState::Healthy,
        }
    }
}

pub(crate) const HEADER_MISSING: Kind = Kind::error(
    "header.missing",
    IndexState::BadHeader,
    "there is no such file, and nothing else was checked",
);
pub(crate) const HEADER_INVALID: Kind = Kind::error(
    "header.invalid",
    IndexState::BadHeader,
    "it does not hold together, and nothing else was checked",
);
pub(crate) const HEADER_VERSION: Kind = Kind::error(
    "header.unsupported_version",
    IndexState::UnsupportedVersion,
    "the persisted version is not 1, and nothing else was checked",
);
pub(crate) const LEVEL0_MISSING: Kind = Kind::error(
    "level0.missing",
    IndexState::TornData,
    "there is no such file",
);
pub(crate) const LEVEL0_TOO_SHORT: Kind = Kind::error(
    "level0.too_short",
    IndexState::TornData,
    "records that header.bin counts are not there, or not whole",
);
pub(crate) const LEVEL0_FLAGS: Kind = Kind::other(
    "level0.unknown_flags",
    Severity::Warning,
    "the flags have bits set that have no meaning",
);
pub(crate) const LABEL_ZERO: Kind = Kind::error(
    "labels.zero",
    IndexState::TornData,
    "records have label 0, which is never given",
);
pub(crate) const LABEL_DUPLICATE: Kind = Kind::error(
    "labels.duplicate",
    IndexState::TornData,
    "live records have the label of a later live record",
);
pub(crate) const VECTOR_NOT_FINITE: Kind = Kind::error(
    "vectors.not_finite",
    IndexState::TornData,
    "vectors of live records have components that are infinite or not a number",
);
pub(crate) const VECTOR_NOT_FINITE_DELETED: Kind = Kind::other(
    "vectors.not_finite_deleted",
    Severity::Info,
    "vectors of deleted records have components that are infinite or not a number",
);
pub(crate) const LENGTH_MISSING: Kind = Kind::error(
    "length.missing",
    IndexState::TornData,
    "there is no such file; vectors can be extracted without",
);
pub(crate) const LENGTH_TOO_SHORT: Kind = Kind::error(
    "length.too_short",
    IndexState::TornData,
    "it has no place for each record; vectors can be extracted without",
);
pub(crate) const LINK_LISTS_MISSING: Kind = Kind::error(
    "link_lists.missing",
    IndexState::TornLinks,
    "there is no such file; vectors can be extracted without",
);
pub(crate) const LINK_LISTS_TOO_SHORT: Kind = Kind::error(
    "link_lists.too_short",
    IndexState::TornLinks,
    "it ends before the links of the last record; vectors can be extracted without",
);
pub(crate) const LINK_LISTS_SIZE: Kind = Kind::error(
    "link_lists.invalid_size",
    IndexState::TornLinks,
    "the size of a record's links is no multiple of 4 + 4·max_m; what follows was not checked",
);
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
    "lists claim more neighbours than they have places for",
);
pub(crate) const LINKS_OUT_OF_RANGE: Kind = Kind::error(
    "links.neighbour_out_of_range",
    IndexState::TornLinks,
    "neighbours are not internal ids of the index",
);
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
    "no links lead from the entry point to these records; with a small m many are so from the \
     beginning",
);
pub(crate) const METADATA_MISSING: Kind = Kind::error(
    "metadata.missing",
    IndexState::NoMetadata,
    "there is no such file though there are records: no vector has an id, and Chroma starts such \
     an index anew",
);
pub(crate) const METADATA_UNREADABLE: Kind = Kind::error(
    "metadata.unreadable",
    IndexState::NoMetadata,
    "it is not the pickle that Chroma writes, or not the whole of it",
);
pub(crate) const METADATA_NO_RECORD: Kind = Kind::error(
    "metadata.label_without_record",
    IndexState::MetadataMismatch,
    "no live record has these labels",
);
pub(crate) const METADATA_NO_ID: Kind = Kind::error(
    "metadata.record_without_id",
    IndexState::MetadataMismatch,
    "live records have labels that no id has",
);
pub(crate) const METADATA_DIMENSION: Kind = Kind::error(
    "metadata.dimension",
    IndexState::MetadataMismatch,
    "dimensionality is not that of header.bin",
);
pub(crate) const METADATA_TOTAL: Kind = Kind::error(
    "metadata.label_beyond_total",
    IndexState::MetadataMismatch,
    "labels exceed total_elements_added, and would be given again",
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

    /// Notes one more of a kind; `first` says where the first one is.
    pub(crate) fn note(&mut self, kind: &Kind, file: &'static str, first: impl FnOnce() -> String) {
        self.note_many(kind, file, 1, first);
    }

    /// Notes `count` of a kind, which may be 0.
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
        self.state = self.state.min(kind.state);
        let known = self
            .findings
            .iter_mut()
            .find(|finding| finding.code == kind.code && finding.file == file);
        match known {
            Some(finding) => finding.count = finding.count.saturating_add(count),
            None => self.findings.push(Finding {
                code: kind.code,
                severity: kind.severity,
                file,
                count,
                first: Some(first()),
                words: kind.words,
            }),
        }
    }

    /// The findings, the worst first and else in the order of the files, and the state.
    pub(crate) fn finish(mut self) -> (Vec<Finding>, IndexState) {
        self.findings.sort_by_key(|finding| {
            let file = file_name::ALL.iter().position(|name| *name == finding.file);
            (finding.severity, file)
        });
        (self.findings, self.state)
    }
}
