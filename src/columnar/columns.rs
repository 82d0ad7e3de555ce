//! The six columns, and what is written about the file beside them.

use arrow2::datatypes::{DataType, Field, Schema};

use crate::chroma::IndexHeader;
use crate::error::{Error, Result};

/// Name and version of the writer.
pub(crate) const CREATED_BY: &str = concat!("hnsw-toolbox ", env!("CARGO_PKG_VERSION"));

/// The columns of an export, in file order.
pub(crate) fn columns(dimension: usize) -> Result<Vec<Field>> {
    let element = Field::new("item", DataType::Float32, false);
    check_dimension(dimension)?;
    Ok(vec![
        Field::new("internal_id", DataType::UInt64, false),
        Field::new("label", DataType::UInt64, false),
        Field::new("deleted", DataType::Boolean, false),
        Field::new("user_id", DataType::Utf8, true),
        Field::new("seq_id", DataType::UInt64, true),
        Field::new(
            "vector",
            DataType::FixedSizeList(Box::new(element), dimension),
            false,
        ),
    ])
}

fn check_dimension(dimension: usize) -> Result<i32> {
    i32::try_from(dimension).map_err(|_| Error::internal("the dimension exceeds 31 bits"))
}

/// Key-value metadata of an export.
pub(crate) fn metadata(header: &IndexHeader) -> Vec<(String, String)> {
    let pair = |key: &str, value: String| (format!("hnsw_toolbox.{key}"), value);
    vec![
        pair("version", env!("CARGO_PKG_VERSION").to_string()),
        pair("dimension", header.dimension().to_string()),
        pair("m", header.m.to_string()),
        pair("ef_construction", header.ef_construction.to_string()),
        pair("cur_element_count", header.cur_element_count.to_string()),
        pair("max_elements", header.max_elements.to_string()),
    ]
}

/// The Arrow schema of an export, metadata included.
pub(crate) fn arrow_schema(header: &IndexHeader) -> Result<Schema> {
    Ok(Schema {
        fields: columns(header.dimension())?,
        metadata: metadata(header).into_iter().collect(),
    })
}
