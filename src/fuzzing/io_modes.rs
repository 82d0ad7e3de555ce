//! Property: mapping, reading, and windows of a few bytes give the same rows or the same error.
//! This holds for extraction, salvage with and without the header, verification and inspection.
//!
//! Input: options (u8: window − 1 in the low 6 bits, deleted rows, original vectors), the lengths
//! of the header (u8), of the pickle (u16, 0 for none), of `length.bin` (u16) and of
//! `link_lists.bin` (u16); these files in this order, and `data_level0.bin`.

use std::fmt::Debug;

use super::{rows, take, Directory};
use crate::io::file::Access;
use crate::segment::directory::{Segment, SegmentFiles};
use crate::verbs::inspect::inspect_segment;
use crate::verbs::verify::verify_segment;
use crate::{ExtractOptions, IoMode, MetadataFrom, Monitor, Result, Salvage, VectorForm};

/// Asserts that `run` has the same result with every kind of access.
fn same<T: Debug + PartialEq>(window: usize, run: impl Fn(Access) -> Result<T>) {
    let run = |access| run(access).map_err(|error| (error.code(), error.to_string()));
    let [mapped, read] = [IoMode::Mmap, IoMode::Read].map(Access::from);
    let expected = run(mapped);
    if let Err((code, message)) = &expected {
        assert!(*code < 900, "{message}");
    }
    assert_eq!(run(read), expected);
    for access in [mapped, read] {
        let access = access.with_largest_window(window);
        assert_eq!(run(access), expected, "{access:?}");
    }
}

pub fn property(mut bytes: &[u8]) -> bool {
    let Some((lengths, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    bytes = rest;
    let &[flags, header, lengths @ ..] = lengths;
    let [pickle, norms, links] =
        [0, 2, 4].map(|at| u16::from_le_bytes([lengths[at], lengths[at + 1]]));
    // Windows of 1 to 64 bytes.
    let window = usize::from(flags & 63) + 1;

    let directory = Directory::new();
    directory.write("header.bin", take(&mut bytes, header));
    let metadata = match pickle {
        0 => MetadataFrom::None,
        _ => MetadataFrom::Path(directory.write("index_metadata.pickle", take(&mut bytes, pickle))),
    };
    directory.write("length.bin", take(&mut bytes, norms));
    directory.write("link_lists.bin", take(&mut bytes, links));
    directory.write("data_level0.bin", bytes);

    let directory = directory.path();
    let without_header = Salvage {
        dimension: Some(3),
        m: Some(2),
    };
    for salvage in [None, Some(Salvage::default()), Some(without_header)] {
        let options = ExtractOptions {
            metadata: metadata.clone(),
            include_deleted: flags & 64 != 0,
            vectors: if flags & 128 == 0 {
                VectorForm::Stored
            } else {
                VectorForm::Original
            },
            salvage,
            ..ExtractOptions::default()
        };
        same(window, |access| rows(directory, &options, access));
    }
    let monitor = Monitor::default();
    same(window, |access| {
        verify_segment(&SegmentFiles::new(directory, access)?, None, &monitor)
    });
    same(window, |access| {
        inspect_segment(&Segment::open(directory, access)?, &monitor)
    });
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("io_modes", super::property);
    }
}
