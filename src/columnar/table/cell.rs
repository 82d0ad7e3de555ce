//! Typed cells, and the checks on their contents.

use crate::base::memory;
use crate::columnar::bytes::{DecodeError, Input};
use crate::columnar::cells::{FloatType, IntegerType};
use crate::error::{Error, Result};

/// Maximum size in bytes of the texts of one row. SQLite, and so Chroma, takes no longer texts. A few
/// bytes of a file can stand for a text of any length.
const MAX_ROW_BYTES: u64 = 1 << 30;

/// Bytes that each element of a list counts, besides its text: a row has at most 4 Mi elements, which
/// take 128 MiB of memory.
const ELEMENT_BYTES: u64 = 256;

/// Maximum capacity in bytes of a text buffer that is reused for the next row.
const MAX_KEPT_TEXT_BYTES: usize = 4 << 20;

/// Purpose of the cells' memory in out-of-memory errors.
pub(crate) const HOLD_CELLS: &str = "hold the cells of a row";

/// The type required of a column of cells, for errors.
pub(crate) const CELL_TYPE: &str = "booleans, integers, floats, text, or lists of them";

/// A value of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    Float(f64),
    Text(String),
    /// Values of one scalar kind, or nulls.
    List(Vec<Cell>),
}

/// The kind of a scalar value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    /// Always null: the type of columns without any value.
    Null,
    Bool,
    Int,
    Float,
    Text,
}

/// The kind of a column's cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Scalar(ScalarKind),
    List(ScalarKind),
    /// A type that cannot be read, with its description.
    Other(String),
}

impl ColumnKind {
    /// Returns true if the column can be read as vectors.
    pub(crate) fn is_vector_like(&self) -> bool {
        *self == Self::List(ScalarKind::Float)
    }
}

/// The stored type of scalar values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScalarType {
    Null,
    Bool,
    Integer(IntegerType),
    Float(FloatType),
    /// Bytes that must be UTF-8.
    Text,
    /// 16 bytes, which become text.
    Uuid,
}

impl ScalarType {
    pub(crate) fn kind(self) -> ScalarKind {
        match self {
            Self::Null => ScalarKind::Null,
            Self::Bool => ScalarKind::Bool,
            Self::Integer(_) => ScalarKind::Int,
            Self::Float(_) => ScalarKind::Float,
            Self::Text | Self::Uuid => ScalarKind::Text,
        }
    }
}

/// Receives and checks the cell of one row and column. A decoder pushes one value, or
/// [begins a list](Self::begin_list) and pushes its elements.
pub(crate) struct CellSink<'a> {
    pub(super) input: &'a Input,
    /// Name of the column.
    pub(super) name: &'a str,
    pub(super) row: u64,
    /// Bytes of the row's cells so far.
    pub(super) used: &'a mut u64,
    pub(super) is_list: bool,
    /// The cell. Its text buffer is reused.
    pub(super) out: &'a mut Cell,
}

impl CellSink<'_> {
    fn error(&self, error: DecodeError) -> Error {
        let field = format!("row {}, column {}", self.row, self.name);
        self.input.error(field, error)
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        *self.used = self.used.saturating_add(bytes);
        if *self.used <= MAX_ROW_BYTES {
            return Ok(());
        }
        Err(self.error(DecodeError::unsupported(
            format!("cells of {} bytes in one row", self.used),
            format!("at most {MAX_ROW_BYTES}"),
        )))
    }

    fn push(&mut self, cell: Cell) -> Result<()> {
        if self.is_list {
            self.charge(ELEMENT_BYTES)?;
        }
        match &mut *self.out {
            Cell::List(cells) if self.is_list => {
                memory::reserve(cells, 1, HOLD_CELLS)?;
                cells.push(cell);
            }
            out => *out = cell,
        }
        Ok(())
    }

    pub(crate) fn null(&mut self) -> Result<()> {
        self.push(Cell::Null)
    }

    /// Makes the cell a list, whose elements follow.
    pub(crate) fn begin_list(&mut self) {
        self.is_list = true;
        match &mut *self.out {
            Cell::List(cells) => cells.clear(),
            out => *out = Cell::List(Vec::new()),
        }
    }

    /// Pushes the value in the lowest bits of `bits`.
    pub(crate) fn number(&mut self, type_: ScalarType, bits: u64) -> Result<()> {
        self.push(match type_ {
            ScalarType::Bool => Cell::Bool(bits != 0),
            ScalarType::Float(float) => Cell::Float(float.wide_value(bits)),
            ScalarType::Integer(integer) => {
                let value = integer.value(bits);
                match (i64::try_from(value), u64::try_from(value)) {
                    (Ok(value), _) => Cell::Int(value),
                    (_, Ok(value)) => Cell::UInt(value),
                    _ => return Err(Error::internal("an integer of more than 64 bits")),
                }
            }
            ScalarType::Null => Cell::Null,
            ScalarType::Text | ScalarType::Uuid => {
                return Err(Error::internal("text among numbers"))
            }
        })
    }

    /// Pushes a text of `len` bytes, which `fill` appends.
    pub(crate) fn text(
        &mut self,
        type_: ScalarType,
        len: u64,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.charge(len)?;
        let mut bytes = match &mut *self.out {
            Cell::Text(text) if text.capacity() <= MAX_KEPT_TEXT_BYTES => {
                std::mem::take(text).into_bytes()
            }
            Cell::List(_) if self.is_list => Vec::new(),
            out => {
                // Frees a large text before the next is read.
                *out = Cell::Null;
                Vec::new()
            }
        };
        bytes.clear();
        fill(&mut bytes)?;
        if let ScalarType::Uuid = type_ {
            bytes = uuid(&bytes).ok_or_else(|| {
                let found = format!("a UUID of {} bytes", bytes.len());
                self.error(DecodeError::new(found, "16 bytes"))
            })?;
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.push(Cell::Text(text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(self.error(DecodeError::new(
                    format!("a text that is not UTF-8 at byte {at}"),
                    "UTF-8 text",
                )))
            }
        }
    }
}

/// Writes a UUID in its usual form, with hyphens and lower-case digits.
fn uuid(bytes: &[u8]) -> Option<Vec<u8>> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (position, byte) in bytes.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16)?);
        }
    }
    Some(text.into_bytes())
}
