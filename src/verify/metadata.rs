//! `index_metadata.pickle`: can it be read, and does it fit the records?

use super::finding::{
    Findings, METADATA_DIMENSION, METADATA_MISSING, METADATA_NO_ID, METADATA_NO_RECORD,
    METADATA_TOTAL, METADATA_UNREADABLE,
};
use crate::bits::Bits;
use crate::chroma::file_name::METADATA;
use crate::chroma::segment::{SegmentFiles, SegmentMetadata};
use crate::chroma::IndexHeader;
use crate::error::{Error, Result};
use crate::progress::Monitor;

/// The metadata, if it can be read, and which of its labels were seen.
#[derive(Debug)]
pub(crate) struct MetadataCheck<'f>(Option<(SegmentMetadata<'f>, Bits)>);

impl<'f> MetadataCheck<'f> {
    pub(crate) fn read(
        files: &'f SegmentFiles,
        header: &IndexHeader,
        findings: &mut Findings,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        if files.metadata.get()?.is_none() {
            if header.cur_element_count > 0 {
                findings.note(&METADATA_MISSING, METADATA, || {
                    format!("{} records are counted", header.cur_element_count)
                });
            }
            return Ok(Self(None));
        }
        let metadata = match files.read_metadata(monitor) {
            Ok(metadata) => metadata,
            Err(Error::CorruptMetadata {
                position,
                found,
                expected,
                ..
            }) => {
                findings.note(&METADATA_UNREADABLE, METADATA, || {
                    format!("byte {position}: found {found}, expected {expected}")
                });
                return Ok(Self(None));
            }
            Err(error) => return Err(error),
        };
        let dimension = u64::try_from(header.dimension()).map_err(Error::internal)?;
        let table = metadata.table();
        if let Some(found) = table.dimensionality().filter(|found| *found != dimension) {
            findings.note(&METADATA_DIMENSION, METADATA, || {
                format!("dimensionality {found}, in header.bin {dimension}")
            });
        }
        let seen = Bits::with_len(table.len() as u64)?;
        Ok(Self(Some((metadata, seen))))
    }

    /// Looks up the label of a live record.
    pub(crate) fn see(&mut self, id: u64, label: u64, findings: &mut Findings) {
        let Some((metadata, seen)) = &mut self.0 else {
            return;
        };
        match metadata.table().find(label) {
            Some(entry) => {
                seen.insert(entry.slot as u64);
            }
            None => findings.note(&METADATA_NO_ID, METADATA, || {
                format!("record {id}, label {label}")
            }),
        }
    }

    /// What only shows when all records were seen.
    pub(crate) fn finish(self, findings: &mut Findings) {
        let Some((metadata, seen)) = self.0 else {
            return;
        };
        let table = metadata.table();
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
