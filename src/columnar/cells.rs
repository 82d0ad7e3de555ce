//! What both formats' readers give, row by row, and the checks that every vector goes through.

use arrow2::types::f16;

use super::bytes::Input;
use super::selection::Name;
use crate::error::{Error, Result};
use crate::memory;

/// Longest vector. What compresses well may be far longer than the file.
pub(super) const MAX_DIMENSION: usize = 1 << 20;

/// The three columns of a file, each read from its first row to its last, at equal pace.
pub(crate) trait Columns: Send {
    fn row_count(&self) -> u64;
    fn vector_name(&self) -> Name;
    fn label_name(&self) -> Name;
    /// Whether the file is the export of a collection.
    fn is_export(&self) -> bool;
    /// Whether the next row is deleted: 0 when not.
    fn deleted(&mut self) -> Result<Option<i128>>;
    /// The label of the next row, which is row number `row`.
    fn label(&mut self, row: u64) -> Result<Option<i128>>;
    /// Gives the elements of the next row's vector to `row`.
    fn vector(&mut self, row: &mut VectorRow<'_>) -> Result<()>;
    /// Fails when there is more than `row_count` rows need.
    fn finish(&mut self) -> Result<()>;
}

/// Takes the vector of one row, and checks it.
pub(crate) struct VectorRow<'a> {
    pub(crate) input: &'a Input,
    /// Of the column.
    pub(crate) name: &'a str,
    pub(crate) row: u64,
    /// Whether to take no notice of what is given.
    pub(crate) skip: bool,
    /// Whether the row may have no vector.
    pub(crate) may_be_null: bool,
    /// Whether it has none.
    pub(crate) is_null: bool,
    /// What other rows have; 0 when this is the first.
    pub(crate) dimension: usize,
    /// Elements taken.
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
            // Elements of a list of fixed size follow all the same.
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

    /// Takes an element whose bits are the lowest ones of `bits`.
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
        if !value.is_finite() {
            return Err(self.not_finite(value.into()));
        }
        self.push(value)
    }

    fn push_f64(&mut self, value: f64) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        if !value.is_finite() {
            return Err(self.not_finite(value));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded to the nearest float32, which is checked not to be infinite"
        )]
        let rounded = value as f32;
        if !rounded.is_finite() {
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
        // A vector that is too long is counted to its end, but not kept.
        if self.dimension == 0 || self.elements < self.dimension {
            if self.out.len() == self.out.capacity() {
                memory::reserve(self.out, 1, "hold the vectors of a batch")?;
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

    /// The dimension of this and all other rows.
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

/// How the bits of an integer are to be understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerType {
    pub(crate) bits: u32,
    pub(crate) signed: bool,
}

impl IntegerType {
    pub(crate) fn new(bits: u32, signed: bool) -> Self {
        Self { bits, signed }
    }

    /// The integer whose bits are the lowest of `bits`; those above are 0.
    pub(crate) fn value(self, bits: u64) -> i128 {
        if self.signed {
            let unused = 64u32.saturating_sub(self.bits);
            i128::from((bits << unused).cast_signed() >> unused)
        } else {
            i128::from(bits)
        }
    }
}

/// The type of a vector's elements.
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
}
