//! The files of a segment as one value, over any sources.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Monitor;
    use crate::segment::write::{EntryPoint, Shape};
    use crate::segment::{AlignedBytes, Pickle};

    /// Returns `offset` bytes more than were requested, or fewer if negative.
    struct Wrong {
        bytes: AlignedBytes,
        offset: isize,
    }

    impl Source for Wrong {
        fn len(&self) -> u64 {
            self.bytes.len()
        }

        fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
            let start = usize::try_from(offset).unwrap();
            let end = (start + len).saturating_add_signed(self.offset);
            let bytes = self.bytes.as_slice();
            Ok(&bytes[start..end.clamp(start, bytes.len())])
        }
    }

    /// The header and the records of a segment with three vectors of two components.
    fn files() -> (Vec<u8>, Vec<u8>) {
        let shape = Shape::new(2, 4, 100).unwrap();
        let mut level0 = Vec::new();
        for label in 1..=3 {
            shape
                .push_record(&mut level0, &[0, 1], &[1.0, 2.0], label)
                .unwrap();
        }
        let entry_point = Some(EntryPoint { id: 0, level: 0 });
        (shape.header(3, entry_point).unwrap(), level0)
    }

    #[test]
    fn a_segment_is_read_from_bytes() {
        let (header, level0) = files();
        let mut segment = Segment::new(header.as_slice(), AlignedBytes::from(level0)).unwrap();
        let mut labels = Vec::new();
        segment
            .records_mut()
            .for_each(&Monitor::default(), |id, record| {
                assert_eq!(record.vector(), [1.0, 2.0]);
                assert!(record.neighbours().eq([0, 1]));
                assert!(!record.is_deleted() && record.is_readable());
                labels.push((id, record.label()));
                Ok(())
            })
            .unwrap();
        assert_eq!(labels, [(0, 1), (1, 2), (2, 3)]);
        assert!(segment.norms([0; 11].as_slice()).is_err());
        assert_eq!(segment.norms([0; 12].as_slice()).unwrap().count(), 3);
        let mut lists = segment.link_lists([0; 12].as_slice()).unwrap();
        assert_eq!(lists.elements(&Monitor::default()).unwrap().iter().len(), 0);
    }

    #[test]
    fn sources_that_return_another_length_are_refused() {
        let (header, level0) = files();
        let pickle = b"\x80\x03}(X\x01\x00\x00\x00aK\x01u.".to_vec();
        let monitor = Monitor::default();
        for offset in [-1000, -4, -1, 1, 4] {
            let wrong = |bytes: &[u8]| Wrong {
                bytes: AlignedBytes::from([bytes, &[0; 8]].concat()),
                offset,
            };
            let exact = |bytes: &[u8]| AlignedBytes::from(bytes);
            let mut segment = Segment::new(exact(&header), wrong(&level0)).unwrap();
            let records = segment.records_mut().for_each(&monitor, |_, _| Ok(()));
            assert!(records.is_err());
            assert!(segment.records_mut().record(0).is_err());
            let mut norms = segment.norms(wrong(&[0; 12])).unwrap();
            assert!(norms.find(0).is_err());
            let mut lists = segment.link_lists(wrong(&[0; 12])).unwrap();
            assert!(lists.elements(&monitor).is_err());
            assert!(Pickle::read(wrong(&pickle), &monitor).is_err());
        }
    }

    #[test]
    fn misaligned_records_and_absent_ones_have_errors_of_their_own() {
        let (header, level0) = files();
        let aligned = AlignedBytes::from([&[0; 1], level0.as_slice()].concat());
        let odd = aligned.as_slice().get(1..).unwrap();
        let mut segment = Segment::new(header.as_slice(), odd).unwrap();
        let error = segment.records_mut().record(0).unwrap_err().to_string();
        assert!(error.contains("not aligned"), "{error}");
        let error = segment.records_mut().record(3).unwrap_err().to_string();
        assert!(error.contains("outside"), "{error}");
    }
}
