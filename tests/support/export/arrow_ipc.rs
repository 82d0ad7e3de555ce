//! Reads an export in the Arrow IPC file format.

use std::io::{Read, Seek};

use arrow2::array::{Array, BooleanArray, FixedSizeListArray, PrimitiveArray, Utf8Array};
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::io::ipc::read::{read_file_metadata, FileReader};

use super::{Export, Row};

/// Asserts the columns of the contract.
pub fn check_schema(schema: &Schema) {
    let [.., vector] = schema.fields.as_slice() else {
        panic!("no columns");
    };
    let DataType::FixedSizeList(element, dimension) = vector.data_type() else {
        panic!("{vector:?}");
    };
    assert_eq!(element.data_type(), &DataType::Float32);
    assert!(!element.is_nullable);
    assert_eq!(
        dimension.to_string(),
        schema.metadata["hnsw_toolbox.dimension"]
    );
    let expected = [
        Field::new("internal_id", DataType::UInt64, false),
        Field::new("label", DataType::UInt64, false),
        Field::new("deleted", DataType::Boolean, false),
        Field::new("user_id", DataType::Utf8, true),
        Field::new("seq_id", DataType::UInt64, true),
        Field::new("vector", vector.data_type().clone(), false),
    ];
    assert_eq!(schema.fields, expected);
}

pub fn read(mut file: impl Read + Seek) -> Export {
    let metadata = read_file_metadata(&mut file).unwrap();
    check_schema(&metadata.schema);
    let mut export = Export {
        rows: Vec::new(),
        groups: Vec::new(),
        largest_page: 0,
        metadata: metadata.schema.metadata.clone(),
    };
    for batch in FileReader::new(file, metadata, None, None) {
        let batch = batch.unwrap();
        let [internal_ids, labels, deleted, user_ids, seq_ids, vectors] = batch.arrays() else {
            panic!("{} columns", batch.arrays().len());
        };
        let internal_ids = column::<PrimitiveArray<u64>>(internal_ids.as_ref());
        let labels = column::<PrimitiveArray<u64>>(labels.as_ref());
        let deleted = column::<BooleanArray>(deleted.as_ref());
        let user_ids = column::<Utf8Array<i32>>(user_ids.as_ref());
        let seq_ids = column::<PrimitiveArray<u64>>(seq_ids.as_ref());
        let vectors = column::<FixedSizeListArray>(vectors.as_ref());
        let values = column::<PrimitiveArray<f32>>(vectors.values().as_ref());
        for required in [internal_ids as &dyn Array, labels, deleted, vectors, values] {
            assert_eq!(required.null_count(), 0);
        }
        let dimension = vectors.size();
        for at in 0..batch.len() {
            export.rows.push(Row {
                internal_id: internal_ids.value(at),
                label: labels.value(at),
                deleted: deleted.value(at),
                user_id: user_ids.get(at).map(str::to_string),
                seq_id: seq_ids.get(at),
                vector: values.values()[at * dimension..][..dimension]
                    .iter()
                    .map(|value| value.to_bits())
                    .collect(),
            });
        }
        export.groups.push(batch.len());
    }
    export.largest_page = export.groups.iter().copied().max().unwrap_or(0);
    export
}

fn column<A: 'static>(array: &dyn Array) -> &A {
    array.as_any().downcast_ref().unwrap()
}
