//! The bytes of Chroma's hnswlib files as types. Nothing is validated here.
//!
//! Every number is little-endian and unaligned; `W` is the word (`size_t`) of the machine that
//! wrote the files, [`U64`] or [`U32`].
//!
//! ```text
//! data_level0.bin: one record for each element, internal id = position
//!
//!   LinksHeader | neighbours: u32 × max_m0 | vector: f32 × dimension | label: W
//!   ^ 0           ^ 4                        ^ offset_data              ^ label_offset
//! ```

use zerocopy::little_endian::{F64, I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[cfg(target_endian = "big")]
compile_error!(
    "vectors are cast in place from little-endian files: a little-endian target is needed"
);

/// A `size_t` as it stands in a file.
pub(crate) trait Word:
    FromBytes + Immutable + KnownLayout + Unaligned + Into<u64> + Copy
{
    const SIZE: u8;
}

impl Word for U64 {
    const SIZE: u8 = 8;
}

impl Word for U32 {
    const SIZE: u8 = 4;
}

/// The whole of `header.bin`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeader<W> {
    pub(crate) persisted_version: I32,
    pub(crate) offset_level0: W,
    pub(crate) max_elements: W,
    pub(crate) cur_element_count: W,
    pub(crate) size_data_per_element: W,
    pub(crate) label_offset: W,
    pub(crate) offset_data: W,
    pub(crate) max_level: I32,
    pub(crate) enterpoint_node: U32,
    pub(crate) max_m: W,
    pub(crate) max_m0: W,
    pub(crate) m: W,
    pub(crate) mult: F64,
    pub(crate) ef_construction: W,
}

pub(crate) const HEADER_SIZE_64: usize = size_of::<RawHeader<U64>>();
pub(crate) const HEADER_SIZE_32: usize = size_of::<RawHeader<U32>>();

const _: () = assert!(HEADER_SIZE_64 == 100 && HEADER_SIZE_32 == 60);

/// The start of a level-0 record. The neighbours' ids follow.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct LinksHeader {
    pub(crate) count: U16,
    pub(crate) flags: u8,
    pub(crate) reserved: u8,
}

impl LinksHeader {
    pub(crate) const SIZE: u64 = 4;
    const DELETED: u8 = 1;

    pub(crate) fn is_deleted(self) -> bool {
        self.flags & Self::DELETED != 0
    }

    /// Returns true if a bit is set to which hnswlib gives no meaning.
    pub(crate) fn has_unknown_flags(self) -> bool {
        self.flags & !Self::DELETED != 0 || self.reserved != 0
    }
}

const _: () = assert!(size_of::<LinksHeader>() as u64 == LinksHeader::SIZE);
