//! `header.bin`: parsed, then checked against everything that its format promises.
//!
//! Parsing and checking are separate because a damaged segment can be read when only some relations
//! between the fields hold: [`IndexHeader::record_layout`] needs only the three that divide a record.

use serde::Serialize;
use zerocopy::little_endian::{U32, U64};
use zerocopy::FromBytes;

use super::decode_error::{DecodeError, Decoded};
use super::layout::{LinksHeader, RawHeader, Word, HEADER_SIZE_32, HEADER_SIZE_64};
use super::record::{RecordLayout, MAX_VECTOR_BYTES};
use crate::io::source::{exact, Source};

/// Maximum number of records: hnswlib's internal ids are 32-bit, and `u32::MAX` means "no record".
pub(crate) const MAX_COUNT: u64 = u32::MAX as u64;

/// The only version that Chroma has written so far.
pub(crate) const PERSISTED_VERSION: i32 = 1;

/// The entry point of an empty segment, written by hnswlib as −1.
pub(super) const NO_ENTRY_POINT: u32 = u32::MAX;

/// Relative difference allowed between `mult` and 1/ln m: C libraries round `log` differently.
const MULT_TOLERANCE: f64 = 1e-9;

/// The fields of `header.bin`, under hnswlib's names.
///
/// The [module](crate::segment) shows their order and sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IndexHeader {
    /// Size in bytes of `size_t` on the machine that wrote the index: 8 or 4.
    pub word_size_bytes: u8,
    /// Version of the persisted format: 1.
    pub persisted_version: i32,
    /// Offset in bytes of the links in a level-0 record: 0.
    pub offset_level0: u64,
    /// Capacity, in records.
    pub max_elements: u64,
    /// Records stored, deleted ones included.
    pub cur_element_count: u64,
    /// Size in bytes of a level-0 record.
    pub size_data_per_element: u64,
    /// Offset in bytes of the label in a level-0 record.
    pub label_offset: u64,
    /// Offset in bytes of the vector in a level-0 record.
    pub offset_data: u64,
    /// The highest level; −1 if empty.
    pub max_level: i32,
    /// Internal id of the entry point; `u32::MAX` if empty.
    pub enterpoint_node: u32,
    /// Maximum number of neighbours on the levels above 0.
    pub max_m: u64,
    /// Maximum number of neighbours on level 0.
    pub max_m0: u64,
    /// The parameter M.
    pub m: u64,
    /// Normalisation of the level distribution: 1/ln m.
    pub mult: f64,
    /// The parameter ef_construction.
    pub ef_construction: u64,
}

impl IndexHeader {
    /// Number of components of each vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        usize::try_from(self.label_offset.saturating_sub(self.offset_data) / 4).unwrap_or_default()
    }

    /// Parses the header and checks every relation between its fields.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](DecodeError::Unsupported) for another version, and
    /// [`Invalid`](DecodeError::Invalid) for a wrong length or the first relation that does not hold.
    pub fn read(source: impl Source) -> Decoded<Self> {
        let header = Self::parse(source)?;
        header.check_version()?;
        header.checks().into_iter().collect::<Decoded<()>>()?;
        Ok(header)
    }

    /// Reads the fields without checking them.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid) for a length other than 100 or 60 bytes.
    pub fn parse(mut source: impl Source) -> Decoded<Self> {
        let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
        match len {
            HEADER_SIZE_64 => Self::cast::<U64>(exact(&mut source, 0, len)?),
            HEADER_SIZE_32 => Self::cast::<U32>(exact(&mut source, 0, len)?),
            _ => {
                let hint = if len == HEADER_SIZE_64 - 4 {
                    " (as the header of a single-file hnswlib index, which has no version)"
                } else {
                    ""
                };
                Err(DecodeError::field(
                    "length",
                    format!("{len} bytes{hint}"),
                    format!("{HEADER_SIZE_64} bytes (64-bit) or {HEADER_SIZE_32} bytes (32-bit)"),
                ))
            }
        }
    }

    fn cast<W: Word>(bytes: &[u8]) -> Decoded<Self> {
        let raw = RawHeader::<W>::read_from_bytes(bytes).map_err(DecodeError::internal)?;
        Ok(Self {
            word_size_bytes: W::SIZE,
            persisted_version: raw.persisted_version.get(),
            offset_level0: raw.offset_level0.into(),
            max_elements: raw.max_elements.into(),
            cur_element_count: raw.cur_element_count.into(),
            size_data_per_element: raw.size_data_per_element.into(),
            label_offset: raw.label_offset.into(),
            offset_data: raw.offset_data.into(),
            max_level: raw.max_level.get(),
            enterpoint_node: raw.enterpoint_node.get(),
            max_m: raw.max_m.into(),
            max_m0: raw.max_m0.into(),
            m: raw.m.into(),
            mult: raw.mult.get(),
            ef_construction: raw.ef_construction.into(),
        })
    }

    /// Checks each relation between the fields. A check assumes those before it, and the first
    /// assumes the version.
    pub(crate) fn checks(&self) -> [Decoded<()>; 5] {
        [
            self.check_links_layout(),
            self.record_layout().map(drop),
            self.check_count(),
            self.check_mult(),
            self.check_entry_point(),
        ]
    }

    /// Checks the version, on which the layout of the file depends.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](DecodeError::Unsupported) for any version other than 1.
    pub fn check_version(&self) -> Decoded<()> {
        if self.persisted_version == PERSISTED_VERSION {
            return Ok(());
        }
        Err(DecodeError::Unsupported {
            field: "persisted version",
            found: self.persisted_version.to_string(),
            expected: PERSISTED_VERSION.to_string(),
        })
    }

    fn check_links_layout(&self) -> Decoded<()> {
        equal("offset_level0", self.offset_level0, Some(0), "always")?;
        if self.m == 0 {
            return Err(DecodeError::field("m", 0, "at least 1"));
        }
        equal("max_m", self.max_m, Some(self.m), "m")?;
        equal("max_m0", self.max_m0, self.m.checked_mul(2), "2·m")?;
        equal(
            "offset_data",
            self.offset_data,
            self.max_m0
                .checked_mul(4)
                .and_then(|size| size.checked_add(LinksHeader::SIZE)),
            "4 + 4·max_m0",
        )
    }

    /// The layout of a record. Records can be read once this succeeds, even if other fields are wrong.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DecodeError::Invalid) if `offset_data`, `label_offset` and `size_data_per_element`
    /// contradict each other.
    pub fn record_layout(&self) -> Decoded<RecordLayout> {
        if self.offset_data < LinksHeader::SIZE || !self.offset_data.is_multiple_of(4) {
            return Err(DecodeError::field(
                "offset_data",
                self.offset_data,
                "a multiple of 4, at least 4",
            ));
        }
        let Some(vector) = self.label_offset.checked_sub(self.offset_data) else {
            return Err(DecodeError::field(
                "label_offset",
                self.label_offset,
                format!("at least offset_data, {}", self.offset_data),
            ));
        };
        let invalid = |expected: &'static str| {
            DecodeError::field(
                "label_offset",
                format!("{vector} bytes of vector between offset_data and label_offset"),
                expected,
            )
        };
        if vector == 0 || vector % 4 != 0 {
            return Err(invalid("a positive multiple of 4"));
        }
        if vector > MAX_VECTOR_BYTES {
            return Err(invalid("at most 2146435071"));
        }
        equal(
            "size_data_per_element",
            self.size_data_per_element,
            self.label_offset.checked_add(self.word_size_bytes.into()),
            "label_offset + the word size",
        )?;
        let too_large = |_| {
            DecodeError::field(
                "size_data_per_element",
                self.size_data_per_element,
                "a record that fits in memory",
            )
        };
        Ok(RecordLayout {
            size: usize::try_from(self.size_data_per_element).map_err(too_large)?,
            max_m0: usize::try_from((self.offset_data - LinksHeader::SIZE) / 4)
                .map_err(too_large)?,
            dimension: usize::try_from(vector / 4).map_err(too_large)?,
            wide_label: self.word_size_bytes == 8,
        })
    }

    fn check_count(&self) -> Decoded<()> {
        if self.cur_element_count > self.max_elements {
            return Err(DecodeError::field(
                "cur_element_count",
                self.cur_element_count,
                format!("at most max_elements, {}", self.max_elements),
            ));
        }
        if self.cur_element_count > MAX_COUNT {
            return Err(DecodeError::field(
                "cur_element_count",
                self.cur_element_count,
                format!("at most {MAX_COUNT}, as internal ids are 32-bit"),
            ));
        }
        Ok(())
    }

    fn check_mult(&self) -> Decoded<()> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for every m that passed the record layout"
        )]
        let expected = 1.0 / (self.m as f64).ln();
        let close = (self.mult - expected).abs() <= MULT_TOLERANCE * expected.abs();
        if close || self.mult == expected {
            Ok(())
        } else {
            Err(DecodeError::field(
                "mult",
                self.mult,
                format!("{expected} (1/ln m)"),
            ))
        }
    }

    fn check_entry_point(&self) -> Decoded<()> {
        let empty = self.cur_element_count == 0;
        let level_holds = if empty {
            self.max_level == -1
        } else {
            self.max_level >= 0
        };
        if !level_holds {
            let expected = if empty {
                "-1, as there are no elements"
            } else {
                "at least 0, as there are elements"
            };
            return Err(DecodeError::field("max_level", self.max_level, expected));
        }
        let entry = self.enterpoint_node;
        let entry_holds = if empty {
            entry == NO_ENTRY_POINT
        } else {
            u64::from(entry) < self.cur_element_count
        };
        if !entry_holds {
            let expected = if empty {
                format!("{NO_ENTRY_POINT}, as there are no elements")
            } else {
                format!("less than cur_element_count, {}", self.cur_element_count)
            };
            return Err(DecodeError::field("enterpoint_node", entry, expected));
        }
        Ok(())
    }
}

/// Compares a field with the value that other fields imply. `expected` is `None` if their sum or
/// product overflows.
fn equal(field: &'static str, found: u64, expected: Option<u64>, why: &str) -> Decoded<()> {
    if expected == Some(found) {
        return Ok(());
    }
    let expected = match expected {
        Some(value) => format!("{value} ({why})"),
        None => format!("{why}, which overflows"),
    };
    Err(DecodeError::field(field, found, expected))
}
