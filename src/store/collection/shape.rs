//! Opens a segment whose `header.bin` may be lost or wrong.
//!
//! Each header field can also be derived from other files or contradicted by them:
//!
//! ```text
//!               header.bin                        elsewhere
//! dimension     label_offset − offset_data        the database, the pickle
//! m             m, max_m, max_m0, offset_data     the database, sizes of link_lists.bin
//! record size   size_data_per_element             data_level0.bin and length.bin: equal counts
//! records       cur_element_count                 link_lists.bin: one size per record
//! ```
//!
//! A sound header costs one look at the sizes in `link_lists.bin`. Otherwise every layout that one
//! of these sources suggests is tried on a sample of records. The layout that explains most of them
//! is used.

use crate::base::path::display_path;
use crate::base::progress::Monitor;
use crate::error::{recoverable, Error, Result};
use crate::io::file::WINDOW;
use crate::segment::directory::{Segment, SegmentFiles};
use crate::segment::header::MAX_COUNT;
use crate::segment::layout::LinksHeader;
use crate::segment::link_lists::{self, Survey};
use crate::segment::pickle::Pickle;
use crate::segment::record::{Record, RecordLayout};
use crate::segment::write::DEFAULT_M;
use crate::segment::IndexHeader;

/// Number of records on which a layout is tried. A wrong layout explains none or nearly none of
/// them.
const SAMPLE: u64 = 256;

/// Largest m that hnswlib can store: a level-0 list counts its 2·m neighbours in 16 bits.
const MAX_M: u64 = u16::MAX as u64 / 2;

/// Shape of a segment as the database states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) dimension: Option<usize>,
    pub(crate) m: Option<u64>,
    pub(crate) ef_construction: Option<u64>,
}

/// Certainty of the number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// `link_lists.bin` has one size per record.
    Confirmed,
    /// Only the header states it.
    ByHeader,
    /// Uninitialised memory may follow the last record.
    AtMost,
}

/// A segment whose records can be read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segment: Segment,
    /// Reason why `header.bin` cannot be trusted.
    pub(crate) header_flaw: Option<String>,
    /// Reason for a shortage: the file holds fewer records than the count.
    pub(crate) shortage: Option<String>,
    pub(crate) counted: Counted,
}

/// A contradiction between the header and another source.
enum Flaw {
    /// Records can be read with the header's layout; only links are affected.
    Links(Error),
    /// Records may have another layout, or another number.
    Records(Error),
}

/// Opens a segment even if its header is damaged. Fails if no layout explains its records. `guess`
/// is the caller's dimension and m, which are tried as well.
pub(crate) fn open(
    files: SegmentFiles,
    stated: Stated,
    guess: Option<(usize, usize)>,
    monitor: &Monitor<'_>,
) -> Result<Opened> {
    let len = files.level0.require()?.len();
    let header = match read_header(&files) {
        Ok(header) => Ok(header),
        Err(error) => Err(recoverable(error)?),
    };
    let asked = header.as_ref().ok().map(|header| header.enterpoint_node);
    // A record is longer than a list size, so there cannot be more lists than level-0 bytes divided
    // by one size.
    let most = (len / LinksHeader::SIZE).min(MAX_COUNT);
    let lists = match files.link_lists.get()? {
        Some(file) => Survey::read(file.window(link_lists::WINDOW), most, asked, monitor)?,
        None => None,
    };
    let why = match &header {
        Err(why) => why.clone(),
        Ok(header) => match flaw(&files, header, stated, lists) {
            None => return by_header(files, header, None, lists),
            Some(Flaw::Links(error)) => {
                return by_header(files, header, Some(error.to_string()), lists);
            }
            Some(Flaw::Records(error)) => error.to_string(),
        },
    };
    let metadata = match files.read_metadata(monitor) {
        Ok(metadata) => Some(metadata.into_table()),
        Err(error) => recoverable(error).map(|_| None)?,
    };
    let witnesses = Witnesses {
        files: &files,
        len,
        header: header.ok(),
        lists,
        metadata,
        stated,
        guess,
    };
    let Some(layout) = witnesses.best_layout()? else {
        return match witnesses.header {
            Some(header) if is_valid(&header) => by_header(files, &header, Some(why), lists),
            _ => Err(Error::corrupt(
                files.level0.path(),
                "records",
                format!("records that no layout explains ({why})"),
                "records of the dimension and m in the database or the other files",
            )),
        };
    };
    if stated
        .dimension
        .is_some_and(|stated| stated != layout.dimension())
    {
        // The segment belongs to another collection, as its header shows.
        if let Some(header) = &witnesses.header {
            return by_header(files, header, None, lists);
        }
    }
    let (counted_records, counted) = witnesses.records(layout);
    let whole = layout.whole_records(len);
    let shortage = (counted_records > whole && counted == Counted::Confirmed).then(|| {
        format!(
            "{}: length: found {whole} whole records, expected {counted_records}, the \
             number of sizes in link_lists.bin",
            display_path(files.level0.path()),
        )
    });
    let header_flaw = Some(format!(
        "{why}; dimension {} and m {} are from the database or the other files",
        layout.dimension(),
        layout.max_m0() / 2,
    ));
    // If the header's layout and count are confirmed, the contradicting statement was wrong.
    let confirmed = witnesses.header.filter(|header| {
        is_valid(header)
            && header.record_layout().ok() == Some(layout)
            && counted == Counted::Confirmed
    });
    if let Some(header) = &confirmed {
        return by_header(files, header, None, lists);
    }
    Ok(Opened {
        segment: Segment::of_layout(files, None, layout, counted_records.min(whole)),
        header_flaw,
        shortage,
        counted,
    })
}

/// Parses the header. Its fields may have any value.
fn read_header(files: &SegmentFiles) -> Result<IndexHeader> {
    IndexHeader::parse(files.header.require()?.window(WINDOW))
        .map_err(|error| error.in_file(files.header.path()))
}

fn is_valid(header: &IndexHeader) -> bool {
    header.check_version().is_ok() && header.checks().into_iter().all(|check| check.is_ok())
}

/// Opens the segment with its header's layout.
fn by_header(
    files: SegmentFiles,
    header: &IndexHeader,
    header_flaw: Option<String>,
    lists: Option<Survey>,
) -> Result<Opened> {
    let layout = header
        .record_layout()
        .map_err(|error| error.in_file(files.header.path()))?;
    let len = files.level0.require()?.len();
    let count = header.cur_element_count;
    let shortage = layout
        .check_len(len, count)
        .err()
        .map(|error| error.in_file(files.level0.path()).to_string());
    let counted = match lists {
        Some(lists) if lists.count == count => Counted::Confirmed,
        _ => Counted::ByHeader,
    };
    let count = count.min(layout.whole_records(len));
    Ok(Opened {
        segment: Segment::of_layout(files, Some(header.clone()), layout, count),
        header_flaw,
        shortage,
        counted,
    })
}

/// Finds the first contradiction within the header, or with another source.
fn flaw(
    files: &SegmentFiles,
    header: &IndexHeader,
    stated: Stated,
    lists: Option<Survey>,
) -> Option<Flaw> {
    let within = std::iter::once(header.check_version()).chain(header.checks());
    if let Some(error) = within.filter_map(std::result::Result::err).next() {
        return Some(Flaw::Records(error.in_file(files.header.path())));
    }
    let found = |field: &'static str, found: u64, expected: u64, place: &str| {
        Error::corrupt(
            files.header.path(),
            field,
            found,
            format!("{expected}, as {place} says"),
        )
    };
    // Chroma allocates this many records when it loads the segment.
    if header.max_elements > MAX_COUNT {
        let error = Error::corrupt(
            files.header.path(),
            "max_elements",
            header.max_elements,
            format!("at most {MAX_COUNT}, because internal ids are 32-bit"),
        );
        return Some(Flaw::Links(error));
    }
    let database = "chroma.sqlite3";
    let dimension = header.dimension();
    if let Some(stated) = stated.dimension.filter(|stated| *stated != dimension) {
        let error = found("dimension", dimension as u64, stated as u64, database);
        return Some(Flaw::Records(error));
    }
    if let Some(stated) = stated.m.filter(|stated| *stated != header.m) {
        return Some(Flaw::Records(found("m", header.m, stated, database)));
    }
    flaw_by_lists(header, lists, &found).or_else(|| {
        let stated = stated.ef_construction?;
        let ef = header.ef_construction;
        (ef != stated).then(|| Flaw::Links(found("ef_construction", ef, stated, database)))
    })
}

/// Finds the first contradiction with `link_lists.bin`.
fn flaw_by_lists(
    header: &IndexHeader,
    lists: Option<Survey>,
    found: &impl Fn(&'static str, u64, u64, &str) -> Error,
) -> Option<Flaw> {
    let lists = lists.filter(|lists| lists.fits(header.m))?;
    let (count, place) = (header.cur_element_count, "link_lists.bin");
    // An emptied file contains no information on the records.
    if lists.count != count && lists.count > 0 {
        let error = found("cur_element_count", count, lists.count, place);
        return Some(Flaw::Records(error));
    }
    if lists.count == 0 {
        return None;
    }
    let (level, top) = (i64::from(header.max_level), lists.top(header.m));
    if u64::try_from(level) != Ok(top) {
        let error = found("max_level", level.unsigned_abs(), top, place);
        return Some(Flaw::Links(error));
    }
    match lists.level_of_asked(header.m) {
        Some(level) if level != top => {
            let error = found("level of enterpoint_node", level, top, place);
            Some(Flaw::Links(error))
        }
        _ => None,
    }
}

/// Evidence for the layout of the records.
struct Witnesses<'f> {
    files: &'f SegmentFiles,
    /// Length of `data_level0.bin`.
    len: u64,
    /// Parsed, but not trusted.
    header: Option<IndexHeader>,
    lists: Option<Survey>,
    metadata: Option<Pickle>,
    stated: Stated,
    guess: Option<(usize, usize)>,
}

/// Layout values suggested by several sources, which may disagree.
struct Suggestions {
    /// Bytes of a record.
    sizes: Vec<u64>,
    ms: Vec<u64>,
    dimensions: Vec<u64>,
    is_dimension_certain: bool,
    /// Bytes of a record besides neighbours and components.
    fixed: u64,
}

impl Suggestions {
    /// Candidate pairs of dimension and m, each from two suggested values.
    fn shapes(&self) -> Vec<(u64, u64)> {
        let mut shapes = Vec::new();
        for dimension in self.dimensions.iter().copied() {
            shapes.extend(self.ms.iter().map(|m| (dimension, *m)));
            shapes.extend(self.sizes.iter().filter_map(|size| {
                let vector = dimension.checked_mul(4)?;
                let links = size.checked_sub(self.fixed)?.checked_sub(vector)?;
                // 8 = 2·m neighbours of 4 bytes each, per m.
                Some((dimension, links / 8))
            }));
        }
        if !self.is_dimension_certain {
            for size in &self.sizes {
                shapes.extend(self.ms.iter().filter_map(|m| {
                    let vector = size
                        .checked_sub(self.fixed)?
                        .checked_sub(m.checked_mul(8)?)?;
                    Some((vector / 4, *m))
                }));
            }
        }
        shapes
    }

    /// Number of suggestions that agree with a layout.
    fn agreeing(&self, layout: RecordLayout) -> usize {
        let m = (layout.max_m0() / 2) as u64;
        let of = |values: &[u64], value| values.iter().filter(|known| **known == value).count();
        of(&self.sizes, layout.size() as u64)
            + of(&self.ms, m)
            + of(&self.dimensions, layout.dimension() as u64)
    }
}

/// The fit of a layout to a sample of records. The fields are compared in order; the greatest
/// score is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Number of records whose label the pickle contains.
    known: u64,
    /// Number of records that hnswlib can have written.
    plausible: u64,
    /// Number of suggestions that agree.
    agreeing: usize,
}

impl Witnesses<'_> {
    fn best_layout(&self) -> Result<Option<RecordLayout>> {
        let mut best: Option<(Score, RecordLayout)> = None;
        // hnswlib's label is a size_t: 8 bytes, or 4 where Chroma ran as a 32-bit process.
        for wide in [true, false] {
            let suggestions = self.suggestions(wide);
            let mut tried = Vec::new();
            let header = self.header.as_ref().filter(|header| is_valid(header));
            let own = header.map(|header| (header.dimension() as u64, header.m));
            for (dimension, m) in suggestions.shapes().into_iter().chain(own) {
                let shape = usize::try_from(dimension).ok().zip(usize::try_from(m).ok());
                let layout = shape
                    .filter(|_| m <= MAX_M)
                    .and_then(|(dimension, m)| RecordLayout::of_shape(dimension, m, wide));
                let fits = self.lists.is_none_or(|lists| lists.fits(m));
                let Some(layout) = layout.filter(|layout| fits && !tried.contains(layout)) else {
                    continue;
                };
                tried.push(layout);
                let (mut score, seen) = self.score(layout)?;
                score.agreeing = suggestions.agreeing(layout);
                // A layout must make at least half of the sample plausible: some records may be
                // damaged.
                let explains = score.plausible.saturating_mul(2) >= seen;
                if explains && best.is_none_or(|(known, _)| known < score) {
                    best = Some((score, layout));
                }
            }
        }
        Ok(best.map(|(_, layout)| layout))
    }

    /// All suggested values, for labels of 64 or 32 bits.
    fn suggestions(&self, wide: bool) -> Suggestions {
        let header = self.header.as_ref();
        let field = |field: fn(&IndexHeader) -> u64| header.map(field);
        let label = if wide { 8 } else { 4 };
        let sizes = [
            self.record_size(),
            field(|header| header.size_data_per_element),
            field(|header| header.label_offset).map(|offset| offset.saturating_add(label)),
        ];
        let ms = [
            self.guess.map(|(_, m)| m as u64),
            self.stated.m,
            self.lists.and_then(|lists| lists.m()),
            field(|header| header.m),
            field(|header| header.max_m),
            field(|header| header.max_m0 / 2),
            field(|header| header.offset_data.saturating_sub(LinksHeader::SIZE) / 8),
            Some(DEFAULT_M),
        ];
        let stated = self.stated.dimension.map(|dimension| dimension as u64);
        let dimensions = match stated {
            Some(_) => [stated, None, None, None],
            None => [
                self.guess.map(|(dimension, _)| dimension as u64),
                self.metadata.as_ref().and_then(Pickle::dimensionality),
                field(|header| header.dimension() as u64),
                field(|header| {
                    let end = header.size_data_per_element;
                    end.saturating_sub(header.offset_data) / 4
                })
                .and_then(|components| components.checked_sub(label / 4)),
            ],
        };
        Suggestions {
            sizes: sizes.into_iter().flatten().collect(),
            ms: ms.into_iter().flatten().collect(),
            dimensions: dimensions.into_iter().flatten().collect(),
            is_dimension_certain: stated.is_some(),
            fixed: LinksHeader::SIZE.saturating_add(label),
        }
    }

    /// Bytes per record. Chroma preallocates as many records as norms, so the quotient of the file
    /// lengths is exact.
    fn record_size(&self) -> Option<u64> {
        let norms = self.files.norms.get().ok()??.len() / 4;
        (self.len.checked_rem(norms)? == 0).then(|| self.len / norms)
    }

    /// Number of list sizes, if `link_lists.bin` is complete and has at least one per id.
    fn listed(&self, layout: RecordLayout) -> Option<u64> {
        let ids = self.metadata.as_ref().map_or(0, |table| table.len() as u64);
        let m = (layout.max_m0() / 2) as u64;
        let lists = self.lists.filter(|lists| lists.fits(m))?;
        Some(lists.count).filter(|count| *count >= ids)
    }

    /// Number of records, and its certainty. It may exceed the number of records in the file.
    fn records(&self, layout: RecordLayout) -> (u64, Counted) {
        let ids = self.metadata.as_ref().map_or(0, |table| table.len() as u64);
        let lists = self.listed(layout);
        let header = self.header.as_ref().filter(|header| is_valid(header));
        match (lists, header.map(|header| header.cur_element_count)) {
            (Some(lists), None) => (lists, Counted::Confirmed),
            (Some(lists), Some(header)) if lists == header => (lists, Counted::Confirmed),
            (lists, Some(header)) => (header.max(lists.unwrap_or(0)), Counted::AtMost),
            (None, None) => {
                let added = self
                    .metadata
                    .as_ref()
                    .and_then(Pickle::total_elements_added);
                let whole = layout.whole_records(self.len).min(MAX_COUNT);
                (added.map_or(whole, |added| added.max(ids)), Counted::AtMost)
            }
        }
    }

    fn score(&self, layout: RecordLayout) -> Result<(Score, u64)> {
        let (count, _) = self.records(layout);
        let whole = layout.whole_records(self.len);
        // Sample only records that certainly exist, if their number is known.
        let sampled = self.listed(layout).unwrap_or(count).min(whole);
        let count = count.min(whole);
        let mut score = Score {
            known: 0,
            plausible: 0,
            agreeing: 0,
        };
        let mut level0 = self.files.read_level0_for_lookups(layout, count)?;
        let step = sampled.div_ceil(SAMPLE).max(1);
        let (mut at, mut seen) = (0, 0);
        while at < sampled {
            let record = level0.record(at)?;
            seen += 1;
            if is_plausible(&record, count) {
                score.plausible += 1;
                let entry = self
                    .metadata
                    .as_ref()
                    .and_then(|table| table.find(record.label));
                score.known += u64::from(entry.is_some());
            }
            at += step;
        }
        Ok((score, seen))
    }
}

/// Returns true if hnswlib can have written the record in a segment of `count` records.
fn is_plausible(record: &Record<'_>, count: u64) -> bool {
    let used = usize::from(record.links.count.get());
    let Some(neighbours) = record.neighbours.get(..used) else {
        return false;
    };
    !record.links.has_unknown_flags()
        && (1..=u64::from(u32::MAX)).contains(&record.label)
        && neighbours.iter().all(|id| u64::from(id.get()) < count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::file::IoMode;

    fn files(directory: &Path) -> SegmentFiles {
        SegmentFiles::new(directory, IoMode::Read).unwrap()
    }

    fn copy_without_header(segment: &Path) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(segment).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "header.bin" {
                std::fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
            }
        }
        directory
    }

    fn segments() -> Vec<std::path::PathBuf> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chroma");
        let mut segments = Vec::new();
        for version in std::fs::read_dir(fixtures).unwrap() {
            for case in std::fs::read_dir(version.unwrap().path()).unwrap() {
                let segment = case.unwrap().path().join("segment");
                if segment.join("index_metadata.pickle").exists() {
                    segments.push(segment);
                }
            }
        }
        assert!(segments.len() >= 6);
        segments
    }

    #[test]
    fn every_segment_opens_without_its_header() {
        for segment in segments() {
            let whole = Segment::open(&segment, IoMode::Read).unwrap();
            let m = Some((whole.layout().max_m0() / 2) as u64);
            let dimension = Some(whole.layout().dimension());
            let copy = copy_without_header(&segment);
            for (dimension, m) in [(None, None), (dimension, None), (dimension, m)] {
                let stated = Stated {
                    dimension,
                    m,
                    ..Stated::default()
                };
                let opened = open(files(copy.path()), stated, None, &Monitor::default()).unwrap();
                let context = format!("{}, {stated:?}", segment.display());
                assert_eq!(opened.segment.layout(), whole.layout(), "{context}");
                assert_eq!(opened.segment.count(), whole.count(), "{context}");
                assert_eq!(opened.counted, Counted::Confirmed, "{context}");
                assert!(opened.header_flaw.is_some() && opened.shortage.is_none());
                if dimension.is_none() {
                    continue;
                }
                std::fs::remove_file(copy.path().join("link_lists.bin")).unwrap();
                let opened = open(files(copy.path()), stated, None, &Monitor::default()).unwrap();
                assert_eq!(opened.segment.layout().size(), whole.layout().size());
                assert_eq!(opened.counted, Counted::AtMost, "{context}");
                let lists = segment.join("link_lists.bin");
                std::fs::copy(lists, copy.path().join("link_lists.bin")).unwrap();
            }
        }
    }

    #[test]
    fn a_sound_header_takes_precedence_over_the_database() {
        for segment in segments() {
            let stated = Stated {
                m: Some(23),
                ..Stated::default()
            };
            let opened = open(files(&segment), stated, None, &Monitor::default()).unwrap();
            assert!(opened.segment.header().is_some());
            assert_eq!(opened.header_flaw, None);
        }
    }
}
