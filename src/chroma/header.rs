//! `header.bin`: read, and held against everything that its format promises.

use std::path::Path;

use serde::Serialize;
use zerocopy::little_endian::{U32, U64};
use zerocopy::FromBytes;

use super::layout::{LinksHeader, RawHeader, Word, HEADER_SIZE_32, HEADER_SIZE_64};
use crate::error::{Error, Result};
use crate::io::file::Source;

/// The highest number of elements: hnswlib's internal ids are 32-bit, and `u32::MAX` means none.
pub(crate) const MAX_COUNT: u64 = u32::MAX as u64;

/// The only version that Chroma has written so far.
const PERSISTED_VERSION: i32 = 1;

/// What the entry point is in an empty index.
const NO_ENTRY_POINT: u32 = u32::MAX;

/// Relative difference allowed between `mult` and 1/ln m: it was computed by another C library.
const MULT_TOLERANCE: f64 = 1e-9;

/// The fields of `header.bin`, under hnswlib's names, valid in every relation between them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IndexHeader {
    /// Size in bytes of `size_t` on the machine that wrote the index: 8 or 4.
    pub word_size_bytes: u8,
    /// Version of the persisted format: 1.
    pub persisted_version: i32,
    /// Offset in bytes of the links in a level-0 record: 0.
    pub offset_level0: u64,
    /// Capacity, in elements.
    pub max_elements: u64,
    /// Elements stored, deleted ones included.
    pub cur_element_count: u64,
    /// Size in bytes of a level-0 record.
    pub size_data_per_element: u64,
    /// Offset in bytes of the label in a level-0 record.
    pub label_offset: u64,
    /// Offset in bytes of the vector in a level-0 record.
    pub offset_data: u64,
    /// The highest layer; −1 when empty.
    pub max_level: i32,
    /// Internal id of the entry point; `u32::MAX` when empty.
    pub enterpoint_node: u32,
    /// Most neighbours on the upper layers.
    pub max_m: u64,
    /// Most neighbours on level 0.
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
        // Validation has shown that it fits.
        usize::try_from(self.label_offset.saturating_sub(self.offset_data) / 4).unwrap_or_default()
    }

    /// Reads the header, and fails when any relation between its fields does not hold.
    pub(crate) fn read(source: &Source) -> Result<Self> {
        let header = Self::parse(source)?;
        header
            .checks(source.path())
            .into_iter()
            .collect::<Result<()>>()?;
        Ok(header)
    }

    /// Reads the fields as they stand.
    pub(crate) fn parse(source: &Source) -> Result<Self> {
        let path = source.path();
        let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
        let mut cursor = source.cursor();
        match len {
            HEADER_SIZE_64 => Self::cast::<U64>(path, cursor.bytes(0, len)?),
            HEADER_SIZE_32 => Self::cast::<U32>(path, cursor.bytes(0, len)?),
            _ => {
                let hint = if len == HEADER_SIZE_64 - 4 {
                    " (as the header of a single-file hnswlib index, which has no version)"
                } else {
                    ""
                };
                Err(Error::corrupt(
                    path,
                    "length",
                    format!("{len} bytes{hint}"),
                    format!("{HEADER_SIZE_64} bytes (64-bit) or {HEADER_SIZE_32} bytes (32-bit)"),
                ))
            }
        }
    }

    /// The header of an index of which only the layout of a record is known.
    pub(crate) fn of_layout(dimension: usize, m: usize, word_size_bytes: u8) -> Option<Self> {
        let m = u64::try_from(m).ok()?;
        let max_m0 = m.checked_mul(2)?;
        let offset_data = max_m0.checked_mul(4)?.checked_add(LinksHeader::SIZE)?;
        let vector = u64::try_from(dimension).ok()?.checked_mul(4)?;
        let label_offset = offset_data.checked_add(vector)?;
        #[allow(clippy::cast_precision_loss)] // nothing is computed from it
        let mult = 1.0 / (m as f64).ln();
        Some(Self {
            word_size_bytes,
            persisted_version: PERSISTED_VERSION,
            offset_level0: 0,
            max_elements: 0,
            cur_element_count: 0,
            size_data_per_element: label_offset.checked_add(word_size_bytes.into())?,
            label_offset,
            offset_data,
            max_level: -1,
            enterpoint_node: NO_ENTRY_POINT,
            max_m: m,
            max_m0,
            m,
            mult,
            ef_construction: 0,
        })
    }

    fn cast<W: Word>(path: &Path, bytes: &[u8]) -> Result<Self> {
        let raw = RawHeader::<W>::read_from_bytes(bytes)
            .map_err(|_| Error::corrupt(path, "length", bytes.len(), size_of::<RawHeader<W>>()))?;
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

    /// What each relation between the fields says, in the order in which they build upon another.
    pub(crate) fn checks(&self, path: &Path) -> [Result<()>; 6] {
        [
            self.check_version(path),
            self.check_links_layout(path),
            self.check_record_layout(path),
            self.check_count(path),
            self.validate_mult(path),
            self.validate_entry_point(path),
        ]
    }

    /// Fails when the file is of a version whose layout may be another.
    pub(crate) fn check_version(&self, path: &Path) -> Result<()> {
        if self.persisted_version == PERSISTED_VERSION {
            return Ok(());
        }
        Err(Error::Unsupported {
            path: path.to_path_buf(),
            field: "persisted version".into(),
            found: self.persisted_version.to_string(),
            expected: PERSISTED_VERSION.to_string().into(),
        })
    }

    fn check_links_layout(&self, path: &Path) -> Result<()> {
        equal(path, "offset_level0", self.offset_level0, Some(0), "always")?;
        if self.m == 0 {
            return Err(Error::corrupt(path, "m", 0, "at least 1"));
        }
        equal(path, "max_m", self.max_m, Some(self.m), "m")?;
        equal(path, "max_m0", self.max_m0, self.m.checked_mul(2), "2·m")?;
        equal(
            path,
            "offset_data",
            self.offset_data,
            self.max_m0
                .checked_mul(4)
                .and_then(|size| size.checked_add(LinksHeader::SIZE)),
            "4 + 4·max_m0",
        )
    }

    /// Fails when the fields that divide a record contradict each other. Records can be cut when
    /// this holds, whatever else the header says.
    pub(crate) fn check_record_layout(&self, path: &Path) -> Result<()> {
        if self.offset_data < LinksHeader::SIZE || !self.offset_data.is_multiple_of(4) {
            return Err(Error::corrupt(
                path,
                "offset_data",
                self.offset_data,
                "a multiple of 4, at least 4",
            ));
        }
        self.validate_dimension(path)?;
        equal(
            path,
            "size_data_per_element",
            self.size_data_per_element,
            self.label_offset
                .checked_add(u64::from(self.word_size_bytes)),
            "label_offset + the word size",
        )
    }

    fn check_count(&self, path: &Path) -> Result<()> {
        if self.cur_element_count > self.max_elements {
            return Err(Error::corrupt(
                path,
                "cur_element_count",
                self.cur_element_count,
                format!("at most max_elements, {}", self.max_elements),
            ));
        }
        if self.cur_element_count > MAX_COUNT {
            return Err(Error::corrupt(
                path,
                "cur_element_count",
                self.cur_element_count,
                format!("at most {MAX_COUNT}, as internal ids are 32-bit"),
            ));
        }
        Ok(())
    }

    fn validate_dimension(&self, path: &Path) -> Result<()> {
        let corrupt =
            |found: String, expected: &str| Error::corrupt(path, "label_offset", found, expected);
        let Some(vector) = self.label_offset.checked_sub(self.offset_data) else {
            return Err(corrupt(
                self.label_offset.to_string(),
                &format!("at least offset_data, {}", self.offset_data),
            ));
        };
        if vector == 0 || vector % 4 != 0 {
            return Err(corrupt(
                format!("{vector} bytes of vector between offset_data and label_offset"),
                "a positive multiple of 4",
            ));
        }
        // Arrow's fixed-size lists and Parquet's pages count in i32.
        if vector > i32::MAX as u64 - (1 << 20) {
            return Err(corrupt(
                format!("{vector} bytes of vector between offset_data and label_offset"),
                "less than 2 GiB",
            ));
        }
        Ok(())
    }

    fn validate_mult(&self, path: &Path) -> Result<()> {
        #[allow(clippy::cast_precision_loss)] // exact for every m that passed the record layout
        let expected = 1.0 / (self.m as f64).ln();
        let close = (self.mult - expected).abs() <= MULT_TOLERANCE * expected.abs();
        if close || self.mult == expected {
            Ok(())
        } else {
            Err(Error::corrupt(
                path,
                "mult",
                self.mult,
                format!("{expected} (1/ln m)"),
            ))
        }
    }

    fn validate_entry_point(&self, path: &Path) -> Result<()> {
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
            return Err(Error::corrupt(path, "max_level", self.max_level, expected));
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
            return Err(Error::corrupt(path, "enterpoint_node", entry, expected));
        }
        Ok(())
    }
}

/// Fails when a field is not what others make it; without `expected`, they overflow.
fn equal(
    path: &Path,
    field: &'static str,
    found: u64,
    expected: Option<u64>,
    why: &str,
) -> Result<()> {
    if expected == Some(found) {
        return Ok(());
    }
    let expected = match expected {
        Some(value) => format!("{value} ({why})"),
        None => format!("{why}, which overflows"),
    };
    Err(Error::corrupt(path, field, found, expected))
}
