//! `index_metadata.pickle`: checks that it is readable and agrees with the records.

use super::finding::{
    Findings, METADATA_DIMENSION, METADATA_MISSING, METADATA_NO_ID, METADATA_NO_RECORD,
    METADATA_TOTAL, METADATA_UNREADABLE,
};
use crate::base::bits::Bits;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::directory::{SegmentFiles, SegmentMetadata};
use crate::segment::file_name::METADATA;
use crate::segment::pickle::Pickle;
use crate::segment::IndexHeader;

/// Reads the metadata. An unreadable file is a finding, and gives `None`.
pub(crate) fn read<'f>(
    files: &'f SegmentFiles,
    header: &IndexHeader,
    findings: &mut Findings,
    monitor: &Monitor<'_>,
) -> Result<Option<SegmentMetadata<'f>>> {
    if files.metadata.get()?.is_none() {
        // An empty index needs no ids.
        if header.cur_element_count > 0 {
            findings.note(&METADATA_MISSING, METADATA, || {
                format!("header.bin counts {} records", header.cur_element_count)
            });
        }
        return Ok(None);
    }
    let error = match files.read_metadata(monitor) {
        Ok(metadata) => return Ok(Some(metadata)),
        Err(error) => error,
    };
    let (Some(offset), Some(found), Some(expected)) =
        (error.offset(), error.found(), error.expected())
    else {
        return Err(error);
    };
    findings.note(&METADATA_UNREADABLE, METADATA, || {
        format!("byte {offset}: found {found}, expected {expected}")
    });
    Ok(None)
}

/// The metadata, if any, and the entries whose labels were seen on live records.
#[derive(Debug)]
pub(crate) struct MetadataCheck<'m>(Option<(&'m Pickle, Bits)>);

impl<'m> MetadataCheck<'m> {
    pub(crate) fn new(
        table: Option<&'m Pickle>,
        header: &IndexHeader,
        findings: &mut Findings,
    ) -> Result<Self> {
        let dimension = u64::try_from(header.dimension()).map_err(Error::internal)?;
        let found = table.and_then(Pickle::dimensionality);
        if let Some(found) = found.filter(|found| *found != dimension) {
            findings.note(&METADATA_DIMENSION, METADATA, || {
                format!("dimensionality {found}, in header.bin {dimension}")
            });
        }
        Self(table.map(|table| (table, Bits::default()))).part()
    }

    /// Starts a check of the same metadata for another part of the records.
    pub(crate) fn part(&self) -> Result<Self> {
        Ok(Self(match &self.0 {
            Some((table, _)) => Some((*table, Bits::with_len(table.len() as u64)?)),
            None => None,
        }))
    }

    /// Adds the labels seen in a part.
    pub(crate) fn absorb(&mut self, part: &Self) {
        if let (Some((_, seen)), Some((_, more))) = (&mut self.0, &part.0) {
            seen.unite(more);
        }
    }

    /// Returns true if `live` distinct labels were seen, so that no two of that many records share
    /// one.
    pub(crate) fn has_seen_different(&self, live: u64) -> bool {
        self.0
            .as_ref()
            .is_some_and(|(_, seen)| seen.count() == live)
    }

    /// Looks up the label of a live record.
    pub(crate) fn see(&mut self, id: u64, label: u64, findings: &mut Findings) {
        let Some((table, seen)) = &mut self.0 else {
            return;
        };
        match table.find(label) {
            // By slot: slots are dense, while labels may be far apart.
            Some(entry) => {
                seen.insert(entry.slot as u64);
            }
            None => findings.note(&METADATA_NO_ID, METADATA, || {
                format!("record {id}, label {label}")
            }),
        }
    }

    /// Reports entries without a record and labels beyond the total, once all records were seen.
    pub(crate) fn finish(self, findings: &mut Findings) {
        let Some((table, seen)) = self.0 else {
            return;
        };
        let total = table.total_elements_added();
        for entry in table.iter() {
            if !seen.contains(entry.slot as u64) {
                findings.note(&METADATA_NO_RECORD, METADATA, || {
                    format!("label {}", entry.label)
                });
            }
            if let Some(total) = total.filter(|total| entry.label > *total) {
                findings.note(&METADATA_TOTAL, METADATA, || {
                    format!("label {}, total_elements_added {total}", entry.label)
                });
            }
        }
    }
}
