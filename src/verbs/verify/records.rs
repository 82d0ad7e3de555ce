//! `data_level0.bin`: links on level 0, labels and vectors.

use std::ops::Range;
use std::sync::Mutex;

use super::finding::{Findings, LABEL_ZERO, LEVEL0_FLAGS};
use super::links::ListCheck;
use super::metadata::MetadataCheck;
use super::vectors;
use crate::base::progress::Monitor;
use crate::base::threads::{self, lock};
use crate::error::Result;
use crate::io::source::Source;
use crate::segment::file_name::LEVEL0;
use crate::segment::norms::Norms;
use crate::segment::record::Records;
use crate::segment::vectors::Tally;
use crate::segment::IndexHeader;

/// Sums over the records.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) live: u64,
    pub(crate) deleted: u64,
    pub(crate) vectors: Tally,
}

/// A contiguous part of the records.
#[derive(Debug)]
pub(crate) struct Part<S> {
    pub(crate) level0: Records<S>,
    /// `None` if length.bin is missing.
    pub(crate) norms: Option<Norms<S>>,
    /// Internal ids.
    pub(crate) range: Range<u64>,
}

/// The results for one part.
struct Found<'m> {
    findings: Findings,
    metadata: MetadataCheck<'m>,
    totals: Totals,
}

/// Checks each record by itself and against the metadata, with one thread per part.
pub(crate) fn check<S: Source + Send>(
    parts: Vec<Part<S>>,
    header: &IndexHeader,
    metadata: &mut MetadataCheck<'_>,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<Totals> {
    let mut works = Vec::with_capacity(parts.len());
    for part in parts {
        let found = Found {
            findings: Findings::new(),
            metadata: metadata.part()?,
            totals: Totals::default(),
        };
        works.push((part, found));
    }
    let progress = Mutex::new(0);
    threads::for_each(
        "hnsw-toolbox-verify",
        &mut vec![(); works.len()],
        works.iter_mut(),
        |(), (part, found)| found.check(part, header, &progress, monitor),
    )?;
    let mut totals = Totals::default();
    // In the order of the parts, so that `first` of a finding is the first in the file.
    for (_, found) in works {
        findings.absorb(found.findings);
        metadata.absorb(&found.metadata);
        totals.absorb(&found.totals);
    }
    Ok(totals)
}

impl Found<'_> {
    /// Checks the records of `part`. `progress` counts the checked records of all parts.
    fn check(
        &mut self,
        part: &mut Part<impl Source>,
        header: &IndexHeader,
        progress: &Mutex<u64>,
        monitor: &Monitor<'_>,
    ) -> Result<()> {
        let Self {
            findings,
            metadata,
            totals,
        } = self;
        let count = part.level0.count();
        let layout = part.level0.layout();
        let mut lists = ListCheck::new(LEVEL0, header.cur_element_count);
        let Range { mut start, end } = part.range;
        while start < end {
            let before = start;
            for record in part.level0.block(start, end - start)?.iter() {
                let (id, record) = record?;
                start = id + 1;
                // A bad sector; counted as `file.unreadable` once all files were read.
                if record.unreadable {
                    continue;
                }
                let links = record.links;
                if links.has_unknown_flags() {
                    findings.note(&LEVEL0_FLAGS, LEVEL0, || format!("record {id}"));
                }
                lists.check(id, 0, links.count.get(), record.neighbours, findings);
                if record.label == 0 {
                    findings.note(&LABEL_ZERO, LEVEL0, || format!("record {id}"));
                }
                if links.is_deleted() {
                    totals.deleted += 1;
                } else {
                    totals.live += 1;
                    metadata.see(id, record.label, findings);
                }
                let norm = match &mut part.norms {
                    Some(norms) => norms.find(id)?,
                    None => None,
                };
                let seen = totals.vectors.see(layout, id, &record, norm);
                if !seen.is_finite {
                    vectors::note_not_finite(id, &record, findings);
                }
            }
            // Reported under the lock, so that progress never decreases.
            let mut done = lock(progress);
            *done += start - before;
            monitor.advance(*done, count)?;
        }
        Ok(())
    }
}

impl Totals {
    /// Adds the totals of a later part.
    fn absorb(&mut self, later: &Self) {
        self.live += later.live;
        self.deleted += later.deleted;
        self.vectors.absorb(&later.vectors);
    }
}
