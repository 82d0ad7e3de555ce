//! Whether an index directory is as Chroma writes it.
//!
//! One pass over the records checks their links, labels and vectors, and holds them against the
//! metadata; another one the links of the upper levels; a third looks for labels that are there
//! twice; and a walk over the graph, level by level of its distance from the entry point, finds
//! what cannot be reached.

mod finding;
mod header;
mod lengths;
mod links;
mod metadata;
mod reach;
mod records;

use std::path::Path;

use serde::Serialize;

pub use finding::{Finding, Severity};

use self::finding::Findings;
use self::metadata::MetadataCheck;
use crate::chroma::labels::Labels;
use crate::chroma::record::Level0;
use crate::chroma::{file_name, require_directory};
use crate::error::{Error, Result};
use crate::io::file::{IoMode, Source};
use crate::progress::Monitor;

named_enum! {
    /// What is wrong with an index, in one word: of all that is, the first in this order, as what
    /// comes first makes what follows doubtful.
    #[derive(PartialOrd, Ord)]
    pub enum IndexState for "state" {
        /// `header.bin` has a version that this crate does not know.
        UnsupportedVersion = "unsupported_version",
        /// `header.bin` is missing or contradicts itself, so that nothing else can be read.
        BadHeader = "bad_header",
        /// Records are missing, or hold what no record can; or `length.bin` is too short.
        TornData = "torn_data",
        /// `link_lists.bin` holds sizes that cannot be, or is longer than it can be. A known bug of
        /// Chroma writes such files, sparse and terabytes long.
        RunawayLinks = "runaway_links",
        /// Links lead nowhere, or are missing.
        TornLinks = "torn_links",
        /// There are records, but no metadata, or none that can be read. That is damage: no vector
        /// has an id, and Chroma starts such an index anew.
        NoMetadata = "no_metadata",
        /// The metadata and the records are not of the same labels, or the same dimension.
        MetadataMismatch = "metadata_mismatch",
        /// No records: a collection that was never flushed. That is no damage.
        Empty = "empty",
        /// Nothing is wrong.
        Healthy = "healthy",
    }
}

impl IndexState {
    /// Whether something is lost, or would fail.
    #[must_use]
    pub fn is_damaged(self) -> bool {
        !matches!(self, Self::Empty | Self::Healthy)
    }
}

/// How [`verify_index`] reads an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// How the index files are read.
    pub io: IoMode,
}

setters!(VerifyOptions {
    with_io(io: IoMode),
});

/// What [`verify_index`] finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The index in one word.
    pub state: IndexState,
    /// Whether something is lost, or would fail.
    pub damaged: bool,
    /// Records without the delete mark, of those that are there.
    pub live: u64,
    /// Records with the delete mark, of those that are there.
    pub deleted: u64,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// Checks everything that the files of an index promise.
///
/// Nothing is flagged that healthy indexes have: records beyond the count, a capacity that is not
/// the length of a file, labels in any order, deleted records. Whatever an index holds is a
/// [`Finding`], not an error.
///
/// Memory: a bit for each record and for each label (12 bytes for each live record when labels are
/// far apart), 24 bytes for each id of the metadata (up to 48 while it is read), 16 for each record
/// on upper levels (one in m), and at most 8 for each record while the graph is walked.
///
/// # Errors
///
/// A directory or file that cannot be opened or read, a file that changed meanwhile
/// ([`Error::InputChanged`]), and [`Error::Cancelled`].
pub fn verify_index(
    index_dir: impl AsRef<Path>,
    options: &VerifyOptions,
    monitor: &Monitor<'_>,
) -> Result<VerifyReport> {
    let files = Files::open(index_dir.as_ref(), options.io)?;
    let mut findings = Findings::new();
    let (live, deleted, is_empty) = verify_files(&files, &mut findings, monitor)?;
    files.check_unchanged()?;
    let (findings, found) = findings.finish();
    let state = match found {
        IndexState::Healthy if is_empty => IndexState::Empty,
        found => found,
    };
    Ok(VerifyReport {
        state,
        damaged: state.is_damaged(),
        live,
        deleted,
        findings,
    })
}

/// Numbers of live and deleted records, and whether the header counts none.
fn verify_files(
    files: &Files,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<(u64, u64, bool)> {
    let Some(header) = header::check(files.header.as_ref(), findings)? else {
        return Ok((0, 0, false));
    };
    let count = header.cur_element_count;
    let whole = match &files.level0 {
        Some(level0) => Level0::whole_records(level0, &header),
        None => 0,
    };
    match &files.level0 {
        None => findings.note(&finding::LEVEL0_MISSING, file_name::LEVEL0, || {
            format!("{count} records are counted")
        }),
        Some(level0) => {
            findings.note_many(
                &finding::LEVEL0_TOO_SHORT,
                file_name::LEVEL0,
                count.saturating_sub(whole),
                || {
                    format!(
                        "record {whole}: {} bytes hold {whole} whole records, and {count} are \
                         counted",
                        level0.len()
                    )
                },
            );
        }
    }
    let mut metadata = MetadataCheck::read(files.metadata.as_ref(), &header, findings, monitor)?;

    let readable = count.min(whole);
    let mut totals = records::Totals::default();
    if let Some(source) = &files.level0 {
        let mut level0 = Level0::over(source.cursor(), &header, readable)?;
        totals = records::check(&mut level0, &header, &mut metadata, findings, monitor)?;
        let silent = monitor.without_progress();
        let labels = Labels::read(&mut level0, &silent, |record| !record.links.is_deleted())?;
        if let Some((id, label)) = labels.first_duplicate {
            findings.note_many(
                &finding::LABEL_DUPLICATE,
                file_name::LEVEL0,
                labels.duplicates,
                || format!("record {id}, label {label}"),
            );
        }
    }
    metadata.finish(findings);
    let has_norms = lengths::check(files.lengths.as_ref(), count, findings, monitor)?;
    totals.hint_metric(has_norms, findings);

    let upper = links::check(files.link_lists.as_ref(), &header, findings, monitor)?;
    if let Some(source) = &files.level0 {
        let links = files.link_lists.as_ref();
        reach::check(source, links, &header, readable, &upper, findings, monitor)?;
    }
    Ok((totals.live, totals.deleted, count == 0))
}

/// The files of an index directory, as far as they are there.
struct Files {
    header: Option<Source>,
    level0: Option<Source>,
    lengths: Option<Source>,
    link_lists: Option<Source>,
    metadata: Option<Source>,
    missing: Vec<std::path::PathBuf>,
}

impl Files {
    fn open(dir: &Path, io: IoMode) -> Result<Self> {
        require_directory(dir)?;
        let mut missing = Vec::new();
        let mut open = |name: &str| {
            let path = dir.join(name);
            let source = Source::open_if_present(&path, io)?;
            if source.is_none() {
                missing.push(path);
            }
            Ok::<_, Error>(source)
        };
        Ok(Self {
            header: open(file_name::HEADER)?,
            level0: open(file_name::LEVEL0)?,
            lengths: open(file_name::LENGTH)?,
            link_lists: open(file_name::LINK_LISTS)?,
            metadata: open(file_name::METADATA)?,
            missing,
        })
    }

    fn check_unchanged(&self) -> Result<()> {
        let Self {
            header,
            level0,
            lengths,
            link_lists,
            metadata,
            missing,
        } = self;
        [header, level0, lengths, link_lists, metadata]
            .into_iter()
            .flatten()
            .try_for_each(Source::check_unchanged)?;
        match missing.iter().find(|path| path.exists()) {
            None => Ok(()),
            Some(path) => Err(Error::InputChanged {
                path: path.clone(),
                found: "a file".into(),
                expected: "none".into(),
            }),
        }
    }
}
