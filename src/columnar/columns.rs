//! Column names and types, and the builders that collect values.
//!
//! A [`Builder`] is an arrow2 builder of fixed capacity. A writer pushes values into one builder
//! per column. When a builder holds `batch_size` values, or as many bytes as a page holds, it is
//! flushed and refilled. In Arrow IPC, a flush of all builders becomes a record batch. In Parquet,
//! a flush of one becomes a page:
//!
//! ```text
//! values ─ push ─▶ builder ─ flush ─▶ Parquet: page of its column ─┐
//!                                  └▶ Arrow IPC: array of a batch ─┴▶ file
//! ```
//!
//! Vectors are written from the builder's buffer without another copy, and the buffer is reused.
//! Memory is therefore bounded by one flush, regardless of the file's size.

#![cfg_attr(
    not(any(test, feature = "database")),
    expect(dead_code, reason = "rows are pushed by exports only")
)]

use std::fmt;

use arrow2::array::{
    Array, FixedSizeListArray, MutableArray, MutableBooleanArray, MutableFixedSizeListArray,
    MutableListArray, MutablePrimitiveArray, MutableUtf8Array, PrimitiveArray, TryPush,
};
use arrow2::bitmap::MutableBitmap;
use arrow2::buffer::Buffer;
use arrow2::datatypes::{DataType, Field};
use arrow2::offset::Offsets;
use arrow2::types::NativeType;

use crate::base::memory;
use crate::error::{Error, Result};

pub(crate) const INTERNAL_ID: &str = "internal_id";
pub(crate) const LABEL: &str = "label";
pub(crate) const DELETED: &str = "deleted";
pub(crate) const USER_ID: &str = "user_id";
pub(crate) const SEQ_ID: &str = "seq_id";
pub(crate) const VECTOR: &str = "vector";

/// A column of an extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extracted {
    InternalId,
    Label,
    Deleted,
    UserId,
    SeqId,
    Vector,
}

impl Extracted {
    /// All columns, in file order.
    pub(crate) const ALL: &[Self] = &[
        Self::InternalId,
        Self::Label,
        Self::Deleted,
        Self::UserId,
        Self::SeqId,
        Self::Vector,
    ];

    fn column(self, dimension: usize) -> Column {
        match self {
            Self::InternalId => Column::required(INTERNAL_ID, ColumnType::UInt64),
            Self::Label => Column::required(LABEL, ColumnType::UInt64),
            Self::Deleted => Column::required(DELETED, ColumnType::Boolean),
            Self::UserId => Column::nullable(USER_ID, ColumnType::Utf8),
            Self::SeqId => Column::nullable(SEQ_ID, ColumnType::UInt64),
            Self::Vector => Column::required(VECTOR, ColumnType::Vector(dimension)),
        }
    }

    /// The columns of an extraction of vectors of this dimension.
    pub(crate) fn columns(dimension: usize) -> Vec<Column> {
        Self::ALL
            .iter()
            .map(|column| column.column(dimension))
            .collect()
    }
}

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    UInt64,
    Int64,
    Float64,
    Boolean,
    Utf8,
    /// Lists of this many `f32` components, which are never null.
    Vector(usize),
    /// Lists of any length, whose elements are never null.
    List(ElementType),
}

/// The type of a list column's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    /// Components of vectors whose dimension is not known in advance.
    Float32,
    UInt64,
    Int64,
    Float64,
    Boolean,
    Utf8,
}

/// A column's name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_: ColumnType,
    /// True if rows can lack a value.
    pub(crate) nullable: bool,
}

impl Column {
    pub(crate) fn required(name: impl Into<String>, type_: ColumnType) -> Self {
        Self {
            name: name.into(),
            type_,
            nullable: false,
        }
    }

    pub(crate) fn nullable(name: impl Into<String>, type_: ColumnType) -> Self {
        Self {
            nullable: true,
            ..Self::required(name, type_)
        }
    }

    /// Returns true if the column holds the vectors, which take up most of a file.
    pub(crate) fn is_vector(&self) -> bool {
        matches!(
            self.type_,
            ColumnType::Vector(_) | ColumnType::List(ElementType::Float32)
        )
    }

    /// Bytes of a row's vector; 0 for other columns and for unknown dimensions.
    pub(super) fn vector_bytes(&self) -> usize {
        match self.type_ {
            // Clamped rather than checked: the compiler can hoist an overflow branch above the
            // match on the type, and valgrind then reports a jump that depends on uninitialised
            // memory.
            ColumnType::Vector(dimension) => dimension.min(usize::MAX / 4) * size_of::<f32>(),
            _ => 0,
        }
    }

    fn arrow_field(&self) -> Field {
        Field::new(self.name.clone(), self.type_.arrow(), self.nullable)
    }
}

/// Conventional name of the elements of an Arrow list.
const ITEM: &str = "item";

impl ElementType {
    fn arrow(self) -> DataType {
        match self {
            Self::Float32 => DataType::Float32,
            Self::UInt64 => DataType::UInt64,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Utf8 => DataType::Utf8,
        }
    }
}

impl ColumnType {
    fn arrow(self) -> DataType {
        // Elements are declared non-null, which the builders guarantee.
        let item = |type_| Box::new(Field::new(ITEM, type_, false));
        match self {
            Self::UInt64 => DataType::UInt64,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Utf8 => DataType::Utf8,
            Self::Vector(dimension) => DataType::FixedSizeList(item(DataType::Float32), dimension),
            Self::List(element) => DataType::List(item(element.arrow())),
        }
    }
}

/// The columns of a file, in order, and its key-value metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) columns: Vec<Column>,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Schema {
    /// Bytes of the vectors in a row; 0 if the dimension is unknown.
    pub(super) fn vector_bytes(&self) -> usize {
        self.columns
            .iter()
            .map(Column::vector_bytes)
            .fold(0, usize::saturating_add)
    }

    pub(super) fn arrow(&self) -> arrow2::datatypes::Schema {
        arrow2::datatypes::Schema {
            fields: self.columns.iter().map(Column::arrow_field).collect(),
            metadata: self.metadata.iter().cloned().collect(),
        }
    }
}

/// A value to push into a [`Builder`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Null,
    UInt64(u64),
    Int64(i64),
    Float64(f64),
    Boolean(bool),
    Utf8(&'a str),
    /// For a [`ColumnType::Vector`] of this dimension, or a list of `f32`.
    Vector(&'a [f32]),
    UInt64List(&'a [u64]),
    Int64List(&'a [i64]),
    Float64List(&'a [f64]),
    BooleanList(&'a [bool]),
    Utf8List(&'a [String]),
}

impl From<Option<u64>> for Value<'_> {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Null, Self::UInt64)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Self::Null, Self::Utf8)
    }
}

/// Limits at which a builder is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) rows: usize,
    /// Soft limit on variable-length bytes per flush; the value that crosses it is still included.
    pub(super) bytes: usize,
}

/// Maximum capacity in bytes of the text buffer kept for the next flush.
const MAX_KEPT_TEXT_BYTES: usize = 4 << 20;

/// Purpose of a builder's memory in out-of-memory errors.
const GATHER: &str = "gather the values of a column";

type Primitive<T> = MutablePrimitiveArray<T>;
type List<M> = MutableListArray<i32, M>;

/// The arrow2 builder of a column.
pub(super) enum Values {
    UInt64(Primitive<u64>),
    Int64(Primitive<i64>),
    Float64(Primitive<f64>),
    Boolean(MutableBooleanArray),
    Utf8(MutableUtf8Array<i32>),
    Vector(MutableFixedSizeListArray<Primitive<f32>>),
    List(Lists),
}

/// The arrow2 builder of a column of lists.
pub(super) enum Lists {
    Float32(List<Primitive<f32>>),
    UInt64(List<Primitive<u64>>),
    Int64(List<Primitive<i64>>),
    Float64(List<Primitive<f64>>),
    Boolean(List<MutableBooleanArray>),
    Utf8(List<MutableUtf8Array<i32>>),
}

/// Evaluates an expression with the array of a column of any type.
macro_rules! with_array {
    ($values:expr, $array:ident => $result:expr) => {
        match $values {
            Values::UInt64($array) => $result,
            Values::Int64($array) => $result,
            Values::Float64($array) => $result,
            Values::Boolean($array) => $result,
            Values::Utf8($array) => $result,
            Values::Vector($array) => $result,
            Values::List(Lists::Float32($array)) => $result,
            Values::List(Lists::UInt64($array)) => $result,
            Values::List(Lists::Int64($array)) => $result,
            Values::List(Lists::Float64($array)) => $result,
            Values::List(Lists::Boolean($array)) => $result,
            Values::List(Lists::Utf8($array)) => $result,
        }
    };
}

/// Collects the values of one column until they are flushed.
pub(crate) struct Builder {
    column: Column,
    capacity: Capacity,
    values: Values,
    /// The vector buffer lent to the array that [`finish`](Self::finish) returned.
    lent: Option<Buffer<f32>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("column", &self.column)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(column: Column, capacity: Capacity) -> Result<Self> {
        let rows = capacity.rows;
        let values = match column.type_ {
            ColumnType::UInt64 => Values::UInt64(primitive(DataType::UInt64, rows)?),
            ColumnType::Int64 => Values::Int64(primitive(DataType::Int64, rows)?),
            ColumnType::Float64 => Values::Float64(primitive(DataType::Float64, rows)?),
            ColumnType::Boolean => Values::Boolean(MutableBooleanArray::with_capacity(rows)),
            ColumnType::Utf8 => Values::Utf8(MutableUtf8Array::with_capacity(rows)),
            ColumnType::Vector(dimension) => {
                // Arrow stores the size of a fixed-size list as an `i32`.
                if dimension == 0 || i32::try_from(dimension).is_err() {
                    return Err(Error::internal(format!("vectors of dimension {dimension}")));
                }
                // Allocated for a full flush at once, because every row has a vector of this size.
                let elements = primitive(DataType::Float32, rows.saturating_mul(dimension))?;
                Values::Vector(vectors(elements, dimension))
            }
            ColumnType::List(element) => Values::List(Lists::new(element, rows)),
        };
        Ok(Self {
            column,
            capacity,
            values,
            lent: None,
        })
    }

    /// Number of values, nulls included.
    pub(crate) fn len(&self) -> usize {
        with_array!(&self.values, array => array.len())
    }

    /// Bitmap of non-null rows; `None` if no row is null.
    pub(super) fn validity(&self) -> Option<&MutableBitmap> {
        with_array!(&self.values, array => array.validity())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of further values that fit, if their size is fixed.
    pub(crate) fn room(&self) -> usize {
        self.capacity.rows.saturating_sub(self.len())
    }

    /// Returns true if the builder must be flushed before the next push.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.capacity.rows || self.varying_bytes() >= self.capacity.bytes
    }

    /// Bytes of the variable-length values.
    fn varying_bytes(&self) -> usize {
        match &self.values {
            Values::Utf8(array) => array.values().len(),
            Values::List(lists) => lists.bytes(),
            _ => 0,
        }
    }

    /// Bytes of all values. Besides vectors, each row counts 8 bytes for its fixed-size part.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Vector(array) => array.values().len().saturating_mul(size_of::<f32>()),
            _ => self
                .varying_bytes()
                .saturating_add(self.len().saturating_mul(size_of::<u64>())),
        }
    }

    pub(super) fn column(&self) -> &Column {
        &self.column
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// Appends a value.
    ///
    /// # Errors
    ///
    /// If the value's type is not the column's, or if the strings or lists since the last flush
    /// exceed 2 GiB, the limit of Arrow's 32-bit offsets.
    pub(crate) fn push(&mut self, value: Value<'_>) -> Result<()> {
        let fits = match (&mut self.values, value) {
            (_, Value::Null) if !self.column.nullable => {
                return Err(self.misfit("null"));
            }
            (values, Value::Null) => {
                with_array!(values, array => array.push_null());
                true
            }
            (Values::UInt64(array), Value::UInt64(value)) => array.try_push(Some(value)).is_ok(),
            (Values::Int64(array), Value::Int64(value)) => array.try_push(Some(value)).is_ok(),
            (Values::Float64(array), Value::Float64(value)) => array.try_push(Some(value)).is_ok(),
            (Values::Boolean(array), Value::Boolean(value)) => array.try_push(Some(value)).is_ok(),
            (Values::Utf8(array), Value::Utf8(value)) => {
                reserve_bytes(array, value.len())?;
                array.try_push(Some(value)).is_ok()
            }
            (Values::Vector(array), Value::Vector(vector)) if vector.len() == array.size() => {
                // Appends only the validity bit: the components are in place.
                array.mut_values().extend_from_slice(vector);
                array.push_valid();
                true
            }
            (Values::List(lists), value) => match lists.push(value)? {
                Some(fits) => fits,
                None => return Err(self.misfit(value)),
            },
            (_, value) => return Err(self.misfit(value)),
        };
        if fits {
            Ok(())
        } else {
            Err(self.too_long())
        }
    }

    fn too_long(&self) -> Error {
        Error::argument(
            "batch_size",
            format!("rows whose values of {} exceed 2 GiB", self.column.name),
            "fewer rows in a page or record batch",
        )
    }

    /// Appends a text. The first one after a flush is moved in rather than copied.
    pub(crate) fn push_text(&mut self, text: String) -> Result<()> {
        let Values::Utf8(array) = &mut self.values else {
            return Err(self.misfit("a text"));
        };
        // Only an empty builder can take over the text's buffer as its own.
        let end = match i32::try_from(text.len()) {
            Ok(end) if array.len() == 0 => end,
            _ => return self.push(Value::Utf8(&text)),
        };
        *array = Offsets::try_from(vec![0, end])
            .and_then(|offsets| {
                MutableUtf8Array::try_new(DataType::Utf8, offsets, text.into_bytes(), None)
            })
            .map_err(Error::internal)?;
        Ok(())
    }

    /// Appends a vector, like [`push`](Self::push) with a shortcut for vector columns.
    #[inline]
    pub(crate) fn push_vector(&mut self, vector: &[f32]) -> Result<()> {
        match &mut self.values {
            Values::Vector(array) if array.size() == vector.len() => {
                array.mut_values().extend_from_slice(vector);
                array.push_valid();
                Ok(())
            }
            _ => self.push(Value::Vector(vector)),
        }
    }

    /// Appends values to a `u64` column.
    pub(crate) fn extend_u64(&mut self, values: &[u64]) -> Result<()> {
        match &mut self.values {
            Values::UInt64(array) => {
                array.extend_from_slice(values);
                Ok(())
            }
            _ => Err(self.misfit("values of u64")),
        }
    }

    /// Appends `u32` values to a `u64` column.
    pub(crate) fn extend_u32(&mut self, values: &[u32]) -> Result<()> {
        match &mut self.values {
            Values::UInt64(array) => {
                // Slice iterators report their exact length, so arrow2 reserves memory once.
                array.extend_trusted_len_values(values.iter().map(|&value| u64::from(value)));
                Ok(())
            }
            _ => Err(self.misfit("values of u32")),
        }
    }

    /// Appends values to a column of booleans.
    pub(crate) fn extend_booleans(&mut self, values: &[bool]) -> Result<()> {
        match &mut self.values {
            Values::Boolean(array) => {
                array.extend_trusted_len_values(values.iter().copied());
                Ok(())
            }
            _ => Err(self.misfit("booleans")),
        }
    }

    /// Appends `count` nulls.
    pub(crate) fn extend_nulls(&mut self, count: usize) -> Result<()> {
        match &mut self.values {
            Values::UInt64(array) if self.column.nullable => {
                array.extend_constant(count, None);
                Ok(())
            }
            Values::Utf8(array) if self.column.nullable => {
                #[expect(
                    clippy::manual_repeat_n,
                    reason = "arrow2 trusts the length of this iterator alone"
                )]
                array.extend_trusted_len(std::iter::repeat(None::<&str>).take(count));
                Ok(())
            }
            _ => (0..count).try_for_each(|_| self.push(Value::Null)),
        }
    }

    fn misfit(&self, value: impl fmt::Debug) -> Error {
        let Column { name, type_, .. } = &self.column;
        Error::internal(format!("column {name} of {type_:?} was given {value:?}"))
    }

    /// Removes all values and keeps the memory for the next ones.
    pub(super) fn clear(&mut self) -> Result<()> {
        let rows = self.capacity.rows;
        match &mut self.values {
            Values::UInt64(array) => clear(array, rows)?,
            Values::Int64(array) => clear(array, rows)?,
            Values::Float64(array) => clear(array, rows)?,
            Values::Boolean(array) => *array = MutableBooleanArray::with_capacity(rows),
            Values::Utf8(array) => {
                let (type_, offsets, mut bytes, _) = std::mem::take(array).into_data();
                bytes.clear();
                // One large text must not hold its memory for the rest of the file.
                bytes.shrink_to(MAX_KEPT_TEXT_BYTES);
                let mut offsets = offsets.into_inner();
                offsets.clear();
                offsets.push(0);
                *array = Offsets::try_from(offsets)
                    .and_then(|offsets| MutableUtf8Array::try_new(type_, offsets, bytes, None))
                    .map_err(Error::internal)?;
            }
            Values::Vector(array) => {
                let dimension = array.size();
                let mut elements = std::mem::take(array.mut_values());
                // Reclaims the lent buffer, unless the array is still in use.
                let lent = self.lent.take().and_then(|lent| lent.into_mut().right());
                if let Some(lent) = lent {
                    elements = MutablePrimitiveArray::from_vec(lent);
                }
                clear(&mut elements, rows.saturating_mul(dimension))?;
                *array = vectors(elements, dimension);
            }
            Values::List(lists) => {
                if let ColumnType::List(element) = self.column.type_ {
                    *lists = Lists::new(element, rows);
                }
            }
        }
        Ok(())
    }

    /// Returns the values as an Arrow array. [`clear`](Self::clear) makes room for the next values;
    /// it reuses the vector buffer if the array was dropped before.
    pub(super) fn finish(&mut self) -> Result<Box<dyn Array>> {
        Ok(match &mut self.values {
            Values::Vector(array) => {
                // Null vectors are stored as zeros with the list's validity bit unset.
                let validity = array.validity().cloned();
                let (_, elements, _) = std::mem::take(array.mut_values()).into_inner();
                let elements = Buffer::from(elements);
                self.lent = Some(elements.clone());
                PrimitiveArray::try_new(DataType::Float32, elements, None)
                    .and_then(|elements| {
                        FixedSizeListArray::try_new(
                            self.column.type_.arrow(),
                            elements.boxed(),
                            validity.map(Into::into),
                        )
                    })
                    .map_err(Error::internal)?
                    .boxed()
            }
            values => with_array!(values, array => array.as_box()),
        })
    }
}

impl Lists {
    fn new(element: ElementType, rows: usize) -> Self {
        fn lists<M: MutableArray>(elements: M, rows: usize) -> List<M> {
            let field = Field::new(ITEM, elements.data_type().clone(), false);
            MutableListArray::new_from(elements, DataType::List(Box::new(field)), rows)
        }
        match element {
            ElementType::Float32 => Self::Float32(lists(MutablePrimitiveArray::new(), rows)),
            ElementType::UInt64 => Self::UInt64(lists(MutablePrimitiveArray::new(), rows)),
            ElementType::Int64 => Self::Int64(lists(MutablePrimitiveArray::new(), rows)),
            ElementType::Float64 => Self::Float64(lists(MutablePrimitiveArray::new(), rows)),
            ElementType::Boolean => Self::Boolean(lists(MutableBooleanArray::new(), rows)),
            ElementType::Utf8 => Self::Utf8(lists(MutableUtf8Array::new(), rows)),
        }
    }

    /// The offsets at which each list begins and ends.
    pub(super) fn offsets(&self) -> &Offsets<i32> {
        match self {
            Self::Float32(lists) => lists.offsets(),
            Self::UInt64(lists) => lists.offsets(),
            Self::Int64(lists) => lists.offsets(),
            Self::Float64(lists) => lists.offsets(),
            Self::Boolean(lists) => lists.offsets(),
            Self::Utf8(lists) => lists.offsets(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Float32(lists) => lists.values().len().saturating_mul(size_of::<f32>()),
            Self::UInt64(lists) => lists.values().len().saturating_mul(size_of::<u64>()),
            Self::Int64(lists) => lists.values().len().saturating_mul(size_of::<i64>()),
            Self::Float64(lists) => lists.values().len().saturating_mul(size_of::<f64>()),
            // Bit-packed.
            Self::Boolean(lists) => lists.values().len() / 8,
            Self::Utf8(lists) => {
                let strings = lists.values();
                let offsets = strings.len().saturating_mul(size_of::<i32>());
                strings.values().len().saturating_add(offsets)
            }
        }
    }

    /// Appends a list. Returns whether it fits, or `None` if the value has the wrong type.
    fn push(&mut self, value: Value<'_>) -> Result<Option<bool>> {
        Ok(Some(match (self, value) {
            (Self::Float32(lists), Value::Vector(elements)) => append(lists, elements)?,
            (Self::UInt64(lists), Value::UInt64List(elements)) => append(lists, elements)?,
            (Self::Int64(lists), Value::Int64List(elements)) => append(lists, elements)?,
            (Self::Float64(lists), Value::Float64List(elements)) => append(lists, elements)?,
            (Self::Boolean(lists), Value::BooleanList(elements)) => {
                let values = lists.mut_values();
                elements.iter().for_each(|&value| values.push(Some(value)));
                lists.try_push_valid().is_ok()
            }
            (Self::Utf8(lists), Value::Utf8List(elements)) => {
                let mut fits = true;
                for element in elements {
                    reserve_bytes(lists.mut_values(), element.len())?;
                    fits &= lists.mut_values().try_push(Some(element)).is_ok();
                }
                lists.try_push_valid().is_ok() && fits
            }
            _ => return Ok(None),
        }))
    }
}

fn primitive<T: NativeType>(type_: DataType, capacity: usize) -> Result<Primitive<T>> {
    let values = memory::with_capacity(capacity, GATHER)?;
    MutablePrimitiveArray::try_new(type_, values, None).map_err(Error::internal)
}

fn clear<T: NativeType>(array: &mut Primitive<T>, capacity: usize) -> Result<()> {
    let (type_, mut values, _) = std::mem::take(array).into_inner();
    values.clear();
    memory::reserve_exact(&mut values, capacity, GATHER)?;
    *array = MutablePrimitiveArray::try_new(type_, values, None).map_err(Error::internal)?;
    Ok(())
}

/// Appends a list. Returns whether it fits.
fn append<T: NativeType>(lists: &mut List<Primitive<T>>, elements: &[T]) -> Result<bool> {
    extend(lists.mut_values(), elements)?;
    Ok(lists.try_push_valid().is_ok())
}

fn extend<T: NativeType>(array: &mut Primitive<T>, elements: &[T]) -> Result<()> {
    // Reserved through `memory` so that a failed allocation is an error, not an abort.
    if array.capacity() - array.len() < elements.len() {
        let (type_, mut values, validity) = std::mem::take(array).into_inner();
        memory::reserve(&mut values, elements.len(), GATHER)?;
        *array =
            MutablePrimitiveArray::try_new(type_, values, validity).map_err(Error::internal)?;
    }
    array.extend_from_slice(elements);
    Ok(())
}

/// Reserves memory for a string of `additional` bytes.
fn reserve_bytes(array: &mut MutableUtf8Array<i32>, additional: usize) -> Result<()> {
    let bytes = array.values();
    if bytes.capacity() - bytes.len() >= additional {
        return Ok(());
    }
    let (type_, offsets, mut bytes, validity) = std::mem::take(array).into_data();
    memory::reserve(&mut bytes, additional, GATHER)?;
    *array = MutableUtf8Array::try_new(type_, offsets, bytes, validity).map_err(Error::internal)?;
    Ok(())
}

fn vectors(
    elements: Primitive<f32>,
    dimension: usize,
) -> MutableFixedSizeListArray<Primitive<f32>> {
    MutableFixedSizeListArray::new_with_field(elements, ITEM, false, dimension)
}
