//! `data_level0.bin`: links on level 0, labels and vectors.

use std::ops::Range;
use std::sync::Mutex;

use super::finding::{
    Findings, LABEL_ZERO, LEVEL0_FLAGS, METRIC_COSINE, METRIC_NOT_COSINE, VECTOR_NOT_FINITE,
    VECTOR_NOT_FINITE_DELETED,
};
use super::links::ListCheck;
use super::metadata::MetadataCheck;
use super::norms::NormKind;
use crate::chroma::file_name::{LEVEL0, NORMS};
use crate::chroma::record::{Level0, Level0Record};
use crate::chroma::IndexHeader;
use crate::error::Result;
use crate::graph::distance::dot_in_f64;
use crate::io::source::Source;
use crate::progress::Monitor;
use crate::threads::{self, lock};

/// How far the norm of a vector that was divided by its norm in f32 may be from 1.
const UNIT_TOLERANCE: f64 = 1e-4;

/// What the records have in common.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) live: u64,
    pub(crate) deleted: u64,
    /// Live vectors of norm 1.
    unit: u64,
    /// Live vectors whose norm is neither 0 nor 1, and the first of them.
    other: u64,
    first_other: Option<(u64, f64)>,
}

/// Some of the records, in their order.
#[derive(Debug)]
pub(crate) struct Part<S> {
    pub(crate) level0: Level0<S>,
    /// Internal ids.
    pub(crate) range: Range<u64>,
}

/// What was found in a part.
struct Found<'m> {
    findings: Findings,
    metadata: MetadataCheck<'m>,
    totals: Totals,
}

/// Checks each record by itself and against the metadata, each of the parts on a thread of its own.
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
    threads::share(
        works.len(),
        "hnsw-toolbox-verify",
        works.iter_mut(),
        |(part, found)| found.check(part, header, &progress, monitor),
    )?;
    let mut totals = Totals::default();
    for (_, found) in works {
        findings.absorb(found.findings);
        metadata.absorb(&found.metadata);
        totals.absorb(&found.totals);
    }
    Ok(totals)
}

impl Found<'_> {
    /// `progress` counts the records of all parts that were checked.
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
        let mut lists = ListCheck::new(LEVEL0, header.cur_element_count);
        let Range { mut start, end } = part.range;
        while start < end {
            let before = start;
            for record in part.level0.block(start, end - start)?.iter() {
                let (id, record) = record?;
                start = id + 1;
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
                totals.see_vector(id, &record, findings);
            }
            // Reported under the lock, so that it never goes back.
            let mut done = lock(progress);
            *done += start - before;
            monitor.advance(*done, count)?;
        }
        Ok(())
    }
}

impl Totals {
    /// Adds those of a later part.
    fn absorb(&mut self, later: &Self) {
        self.live += later.live;
        self.deleted += later.deleted;
        self.unit += later.unit;
        self.other += later.other;
        self.first_other = self.first_other.or(later.first_other);
    }

    fn see_vector(&mut self, id: u64, record: &Level0Record<'_>, findings: &mut Findings) {
        let norm = dot_in_f64(record.vector, record.vector).sqrt();
        if !norm.is_finite() {
            let finite = record.vector.iter().take_while(|one| one.is_finite());
            let at = finite.count();
            let kind = if record.links.is_deleted() {
                &VECTOR_NOT_FINITE_DELETED
            } else {
                &VECTOR_NOT_FINITE
            };
            findings.note(kind, LEVEL0, || format!("record {id}, component {at}"));
            return;
        }
        if record.links.is_deleted() {
            return;
        }
        if (norm - 1.0).abs() <= UNIT_TOLERANCE {
            self.unit += 1;
        } else if norm != 0.0 {
            // A vector of zeros cannot be normalised, and stays what it is.
            self.other += 1;
            self.first_other.get_or_insert((id, norm));
        }
    }

    /// Guesses the metric, which no file says.
    pub(crate) fn hint_metric(&self, norms: NormKind, findings: &mut Findings) {
        if let Some((id, norm)) = self.first_other {
            findings.note_many(&METRIC_NOT_COSINE, LEVEL0, self.other, || {
                format!("the vector of record {id} has norm {norm}")
            });
        } else if self.unit > 0 {
            match norms {
                NormKind::Norms => findings.note(&METRIC_COSINE, NORMS, || {
                    format!("{} vectors have norm 1", self.unit)
                }),
                NormKind::Junk(at) => findings.note(&METRIC_NOT_COSINE, NORMS, || {
                    format!(
                        "vectors have norm 1, but entry {at} of length.bin is not a plausible norm"
                    )
                }),
                NormKind::Unknown => {}
            }
        }
    }
}
