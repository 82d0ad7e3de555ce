//! Row-by-row access common to both formats' readers, and the checks on every vector.

use arrow2::types::f16;

use super::bytes::Input;
use super::selection::Name;
use crate::base::memory;
use crate::error::{Error, Result};

/// Maximum dimension. Without a limit, a small compressed file could hold a vector of any length.
pub(super) const MAX_DIMENSION: usize = 1 << 20;

/// Number of components decoded at a time. A run of equal values takes a few bytes in the file, so
/// this bounds its memory before the dimension is checked.
pub(crate) const CHUNK_ELEMENTS: usize = 1024;

/// Purpose of the vectors' memory in out-of-memory errors.
const HOLD_VECTORS: &str = "hold the vectors of a batch";

/// The three columns of a file. Each is read from first to last row, and all advance together.
pub(crate) trait Columns: Send {
    fn row_count(&self) -> u64;
    fn vector_name(&self) -> Name;
    /// `None` if the row numbers serve as labels.
    fn label_name(&self) -> Option<Name>;
    /// Returns true if the file is an export of a collection.
    fn is_export(&self) -> bool;
    /// The `deleted` flag of the next row; 0 means live.
    fn deleted(&mut self) -> Result<Option<i128>>;
    /// The label of the next row, which is row number `row`.
    fn label(&mut self, row: u64) -> Result<Option<i128>>;
    /// Decodes the components of the next row's vector into `row`.
    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()>;
    /// Fails if a column holds more values than `row_count` rows need.
    fn finish(&mut self) -> Result<()>;
}

/// Receives and checks the vector of one row.
pub(crate) struct VectorRow<'a> {
    pub(crate) input: &'a Input,
    /// Name of the column.
    pub(crate) name: &'a str,
    pub(crate) row: u64,
    /// True if the components are read but discarded.
    pub(crate) skip: bool,
    /// True if the row is allowed to have no vector.
    pub(crate) may_be_null: bool,
    /// True if components are allowed to be NaN or infinite.
    pub(crate) accept_non_finite: bool,
    /// True once the row's vector turned out to be null.
    pub(crate) is_null: bool,
    /// Dimension of the rows before; 0 for the first row.
    pub(crate) dimension: usize,
    /// Components taken so far.
    pub(crate) elements: usize,
    pub(crate) out: &'a mut Vec<f32>,
}

impl VectorRow<'_> {
    fn cell(&self) -> String {
        format!("row {}, column {}", self.row, self.name)
    }

    fn element(&self) -> String {
        format!("{}, element {}", self.cell(), self.elements)
    }

    pub(crate) fn null(&mut self) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if self.may_be_null {
            self.is_null = true;
            // A fixed-size list stores components for null rows also; read and discard them.
            self.skip = true;
            return Ok(());
        }
        Err(self.input.invalid(self.cell(), "null", "a vector"))
    }

    pub(crate) fn null_element(&mut self) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        Err(self.input.invalid(self.element(), "null", "a number"))
    }

    /// Takes `count` non-null components that `append` appends. Returns false and takes nothing if
    /// `append` fails or a component is invalid. The caller then passes each component to
    /// [`push_bits`](Self::push_bits), whose error names its position.
    pub(crate) fn push_chunk(
        &mut self,
        count: usize,
        append: impl FnOnce(&mut Vec<f32>) -> bool,
    ) -> Result<bool> {
        let end = self.elements.saturating_add(count);
        // The first vector sets the dimension; until then only the maximum applies.
        let longest = match self.dimension {
            0 => MAX_DIMENSION,
            dimension => dimension,
        };
        if !self.skip && end > longest {
            return Ok(false);
        }
        memory::reserve(self.out, count, HOLD_VECTORS)?;
        let start = self.out.len();
        let is_taken = append(self.out) && (self.skip || all_finite(self.out, start));
        if self.skip || !is_taken {
            self.out.truncate(start);
        } else {
            self.elements = end;
        }
        Ok(is_taken)
    }

    /// Takes a component stored in the lowest bits of `bits`.
    #[inline]
    pub(crate) fn push_bits(&mut self, type_: FloatType, bits: u64) -> Result<()> {
        let too_long = |_| Error::internal("a float of more bits than its type has");
        match type_ {
            FloatType::Half => {
                let half = f16::from_bits(u16::try_from(bits).map_err(too_long)?);
                self.push_f32(half.to_f32())
            }
            FloatType::Single => {
                self.push_f32(f32::from_bits(u32::try_from(bits).map_err(too_long)?))
            }
            FloatType::Double => self.push_f64(f64::from_bits(bits)),
        }
    }

    fn push_f32(&mut self, value: f32) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() && !self.accept_non_finite {
            return Err(self.not_finite(value.into()));
        }
        self.push(value)
    }

    fn push_f64(&mut self, value: f64) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() && !self.accept_non_finite {
            return Err(self.not_finite(value));
        }
        // A finite f64 becomes infinite if it exceeds the largest f32.
        let rounded = rounded(value);
        if value.is_finite() && !rounded.is_finite() {
            return Err(self.input.invalid(
                self.element(),
                format!("{value:e}"),
                "a number in the range of float32, ±3.4e38",
            ));
        }
        self.push(rounded)
    }

    fn push(&mut self, value: f32) -> Result<()> {
        if self.dimension == 0 && self.elements == MAX_DIMENSION {
            return Err(self.input.invalid(
                self.cell(),
                format!("more than {MAX_DIMENSION} elements"),
                format!("at most {MAX_DIMENSION}"),
            ));
        }
        // Components past the dimension are counted for the error, but not stored.
        if self.dimension == 0 || self.elements < self.dimension {
            if self.out.len() == self.out.capacity() {
                memory::reserve(self.out, 1, HOLD_VECTORS)?;
            }
            self.out.push(value);
        }
        self.elements += 1;
        Ok(())
    }

    fn not_finite(&self, value: f64) -> Error {
        let expected = "a finite number";
        self.input
            .invalid(self.element(), value.to_string(), expected)
    }

    /// Returns the dimension, which is the same for all rows.
    pub(super) fn finish(self) -> Result<usize> {
        let expected = match (self.elements, self.dimension) {
            (0, 0) => "at least one".to_string(),
            (elements, 0) => return Ok(elements),
            (elements, dimension) if elements == dimension => return Ok(dimension),
            (_, dimension) => format!("{dimension}, as in the rows before"),
        };
        let found = match self.elements {
            0 => "an empty vector".to_string(),
            elements => format!("{elements} elements"),
        };
        Err(self.input.invalid(self.cell(), found, expected))
    }
}

/// Returns true if all components from index `start` are finite. The fold has no early exit so that
/// the compiler vectorises it.
fn all_finite(elements: &[f32], start: usize) -> bool {
    let elements = elements.get(start..).unwrap_or_default();
    elements
        .iter()
        .fold(true, |all, element| all & element.is_finite())
}

/// The nearest `f32`; infinite if `value` is out of range.
#[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
fn rounded(value: f64) -> f32 {
    value as f32
}

/// Width and signedness of a stored integer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerType {
    pub(crate) bits: u32,
    pub(crate) signed: bool,
}

impl IntegerType {
    pub(crate) fn new(bits: u32, signed: bool) -> Self {
        Self { bits, signed }
    }

    /// Size in bytes.
    pub(crate) fn width(self) -> usize {
        // At most 8 bytes, so the conversion succeeds.
        usize::try_from(self.bits / 8).unwrap_or(8).min(8)
    }

    /// Decodes the integer in the lowest bits of `bits`; the higher bits are 0.
    pub(crate) fn value(self, bits: u64) -> i128 {
        if self.signed {
            // Moves the sign bit to the top, then shifts back arithmetically to extend it.
            let unused = 64u32.saturating_sub(self.bits);
            i128::from((bits << unused).cast_signed() >> unused)
        } else {
            i128::from(bits)
        }
    }
}

/// The type of a vector's components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatType {
    Half,
    Single,
    Double,
}

impl FloatType {
    /// Size in bytes.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    /// The nearest `f32`. Not finite if the value is not finite or out of range.
    pub(crate) fn value(self, bits: u64) -> f32 {
        match self {
            Self::Half => {
                u16::try_from(bits).map_or(f32::NAN, |bits| f16::from_bits(bits).to_f32())
            }
            Self::Single => u32::try_from(bits).map_or(f32::NAN, f32::from_bits),
            Self::Double => rounded(f64::from_bits(bits)),
        }
    }

    /// The value. Each float of fewer bits is an `f64` also.
    pub(crate) fn wide_value(self, bits: u64) -> f64 {
        match self {
            Self::Half | Self::Single => self.value(bits).into(),
            Self::Double => f64::from_bits(bits),
        }
    }

    /// Appends little-endian values, converted like [`value`](Self::value).
    pub(crate) fn append(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::Half => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| self.value(u16::from_le_bytes(*bytes).into())),
            ),
            Self::Single => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes)),
            ),
            Self::Double => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| self.value(u64::from_le_bytes(*bytes))),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::file::{InputFile, IoMode};

    #[test]
    fn a_chunk_is_taken_whole_or_left_to_single_pushes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let input = Input::new(InputFile::open(file.path(), IoMode::Read).unwrap());
        let mut out = vec![7.0];
        let mut row = VectorRow {
            input: &input,
            name: "vector",
            row: 1,
            skip: false,
            may_be_null: false,
            accept_non_finite: false,
            is_null: false,
            dimension: 3,
            elements: 0,
            out: &mut out,
        };
        let mut push = |elements: &[f32]| {
            let append = |out: &mut Vec<f32>| {
                FloatType::Single.append(zerocopy::IntoBytes::as_bytes(elements), out);
                true
            };
            let is_taken = row.push_chunk(elements.len(), append).unwrap();
            (is_taken, row.elements, row.out.len())
        };
        assert_eq!(push(&[1.0, f32::NAN]), (false, 0, 1));
        assert_eq!(push(&[1.0, f32::INFINITY]), (false, 0, 1));
        assert_eq!(push(&[1.0, f32::MAX]), (true, 2, 3));
        // Longer than the other rows.
        assert_eq!(push(&[1.0, 2.0]), (false, 2, 3));
        assert_eq!(push(&[-0.0]), (true, 3, 4));
        row.skip = true;
        assert!(row
            .push_chunk(9, |out| {
                out.push(f32::NAN);
                true
            })
            .unwrap());
        assert!(!row.push_chunk(9, |_| false).unwrap());
        assert_eq!(out, [7.0, 1.0, f32::MAX, -0.0]);
    }

    #[test]
    fn floats_of_every_width_are_rounded_to_float32() {
        let append = |float: FloatType, bytes: &[u8]| {
            let mut out = Vec::new();
            float.append(bytes, &mut out);
            out
        };
        let half = [0x3c00u16, 0xfc00].map(u16::to_le_bytes).concat();
        assert_eq!(append(FloatType::Half, &half), [1.0, f32::NEG_INFINITY]);
        let single = [0.1f32, -2.5].map(f32::to_le_bytes).concat();
        assert_eq!(append(FloatType::Single, &single), [0.1, -2.5]);
        let double = [0.1f64, 1e39].map(f64::to_le_bytes).concat();
        assert_eq!(append(FloatType::Double, &double), [0.1, f32::INFINITY]);
    }
}
