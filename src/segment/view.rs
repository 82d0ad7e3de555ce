//! The files of a segment as one value, whatever their bytes come from.

use super::decode_error::Decoded;
use super::header::IndexHeader;
use super::link_lists::LinkLists;
use super::norms::Norms;
use super::record::Records;
use crate::error::Result;
use crate::io::source::Source;

/// A segment: the parsed header, and its records.
///
/// The other files are optional. [`norms`](Self::norms) and [`link_lists`](Self::link_lists) check
/// them against the header; [`Pickle`](super::Pickle) reads the ids.
#[derive(Debug)]
pub struct Segment<S> {
    header: IndexHeader,
    records: Records<S>,
}

impl<S: Source> Segment<S> {
    /// Reads `header.bin`, and the records of `data_level0.bin` when they are asked for.
    ///
    /// # Errors
    ///
    /// [`Invalid`](super::DecodeError::Invalid) if a relation between fields of the header does not
    /// hold, or `level0` has fewer records than the header counts;
    /// [`Unsupported`](super::DecodeError::Unsupported) for another version of the format.
    pub fn new(header: impl Source, level0: S) -> Decoded<Self> {
        let header = IndexHeader::read(header)?;
        let layout = header.record_layout()?;
        let records = Records::new(level0, layout, header.cur_element_count)?;
        Ok(Self { header, records })
    }

    /// The fields of `header.bin`.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The records, deleted ones included, by internal id.
    pub fn records_mut(&mut self) -> &mut Records<S> {
        &mut self.records
    }

    /// Reads norms from `length.bin`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](super::DecodeError::Invalid) if the file has fewer norms than there are records.
    pub fn norms<N: Source>(&self, source: N) -> Decoded<Norms<N>> {
        let norms = Norms::new(source);
        norms.check_count(self.header.cur_element_count)?;
        Ok(norms)
    }

    /// Reads links on levels above 0 from `link_lists.bin`.
    ///
    /// # Errors
    ///
    /// None for a header that [`new`](Self::new) has read.
    pub fn link_lists<L: Source>(&self, source: L) -> Result<LinkLists<L>> {
        LinkLists::new(source, &self.header)
    }
}
