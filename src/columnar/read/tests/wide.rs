//! Vectors longer than a chunk, whose components are checked and copied in bulk.

use arrow2::array::{Array, ListArray, PrimitiveArray};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::io::ipc::write::{FileWriter, WriteOptions};
use arrow2::offset::OffsetsBuffer;
use zerocopy::IntoBytes as _;

use super::*;
use crate::columnar::cells::CHUNK_ELEMENTS;

const ELEMENTS: usize = CHUNK_ELEMENTS * 3 / 2;

/// Index of the changed component, in the second chunk.
const CHANGED: usize = CHUNK_ELEMENTS + 100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Plain,
    Dictionary,
    ByteStreamSplit,
    Arrow,
}

use Layout::{Arrow, ByteStreamSplit, Dictionary, Plain};

/// Each layout, and true if the components are `f64`.
const LAYOUTS: [(Layout, bool); 8] = [
    (Plain, false),
    (Plain, true),
    (Dictionary, false),
    (Dictionary, true),
    (ByteStreamSplit, false),
    (ByteStreamSplit, true),
    (Arrow, false),
    (Arrow, true),
];

fn vectors() -> Vec<Vec<f64>> {
    let element = |row: usize, j: usize| f64::from(u16::try_from((row + 3 * j) % 500).unwrap());
    let vector = |row| (0..ELEMENTS).map(|j| element(row, j) / 4.0).collect();
    (0..3).map(vector).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "quarters, NaN and infinity"
)]
fn single(element: f64) -> f32 {
    element as f32
}

fn bytes(elements: &[f64], double: bool) -> Vec<u8> {
    if double {
        elements.as_bytes().to_vec()
    } else {
        let elements: Vec<_> = elements.iter().copied().map(single).collect();
        elements.as_bytes().to_vec()
    }
}

fn read((layout, double): (Layout, bool), vectors: &[Vec<f64>]) -> Result<RowBatch> {
    if layout == Arrow {
        read_bytes("arrow", &arrow(vectors, double))
    } else {
        read_bytes("parquet", &parquet(layout, vectors, double))
    }
}

fn parquet(layout: Layout, vectors: &[Vec<f64>], double: bool) -> Vec<u8> {
    let all = vectors.concat();
    let (mut repetition, mut definition) = (Vec::new(), Vec::new());
    for vector in vectors {
        repetition.extend([2, 0]);
        varint(&mut repetition, (vector.len() as u64 - 1) << 1);
        repetition.push(1);
    }
    varint(&mut definition, (all.len() as u64) << 1);
    definition.push(2);
    let mut body = Vec::new();
    for levels in [repetition, definition] {
        body.extend(u32::try_from(levels.len()).unwrap().to_le_bytes());
        body.extend(levels);
    }

    let values = bytes(&all, double);
    let width = values.len() / all.len();
    let mut dictionary = None;
    let encoding = match layout {
        Dictionary => {
            let mut distinct: Vec<&[u8]> = values.chunks(width).collect();
            distinct.sort_unstable();
            distinct.dedup();
            dictionary = Some((distinct.len().try_into().unwrap(), distinct.concat()));
            // One bit-packed run of indices of 16 bits.
            body.push(16);
            varint(&mut body, all.len().div_ceil(8) as u64 * 2 + 1);
            for value in values.chunks(width) {
                let index = distinct.binary_search(&value).unwrap();
                body.extend(u16::try_from(index).unwrap().to_le_bytes());
            }
            8
        }
        ByteStreamSplit => {
            for byte in 0..width {
                body.extend(values.chunks(width).map(|value| value[byte]));
            }
            9
        }
        _ => {
            body.extend(values);
            0
        }
    };
    let physical = if double { 5 } else { 4 };
    let page = Page {
        rows: vectors.len().try_into().unwrap(),
        values: all.len().try_into().unwrap(),
        physical,
        dictionary,
        encoding,
        body,
        ..Page::new(2)
    };
    let mut schema = three_levels("list", "element");
    schema[3] = element("element", Some(physical), 0, 0, None);
    page.file(schema)
}

fn arrow(vectors: &[Vec<f64>], double: bool) -> Vec<u8> {
    let all = vectors.concat();
    let (item, elements): (_, Box<dyn Array>) = if double {
        (DataType::Float64, PrimitiveArray::from_vec(all).boxed())
    } else {
        let all = all.into_iter().map(single).collect();
        (DataType::Float32, PrimitiveArray::from_vec(all).boxed())
    };
    let type_ = DataType::List(Box::new(Field::new("item", item, true)));
    let mut offsets = vec![0];
    for vector in vectors {
        let len = i32::try_from(vector.len()).unwrap();
        offsets.push(offsets.last().unwrap() + len);
    }
    let offsets = OffsetsBuffer::try_from(offsets).unwrap();
    let lists = ListArray::new(type_.clone(), offsets, elements, None).boxed();
    let schema = Schema::from(vec![Field::new("vector", type_, true)]);
    let options = WriteOptions { compression: None };
    let mut writer = FileWriter::try_new(Vec::new(), schema, None, options).unwrap();
    writer.write(&Chunk::new(vec![lists]), None).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

#[test]
fn vectors_of_several_chunks_are_read_in_every_layout() {
    let vectors = vectors();
    let expected: Vec<f32> = vectors.concat().into_iter().map(single).collect();
    for layout in LAYOUTS {
        let found = read(layout, &vectors).unwrap();
        assert_eq!(found.dimension, ELEMENTS, "{layout:?}");
        assert_eq!(found.vectors, expected, "{layout:?}");
    }
}

#[test]
fn errors_in_a_later_chunk_name_row_and_element() {
    for layout in LAYOUTS {
        let refusal = |change: &dyn Fn(&mut Vec<f64>)| {
            let mut vectors = vectors();
            change(&mut vectors[1]);
            let error = read(layout, &vectors).unwrap_err();
            assert_eq!(error.code(), 202);
            error.to_string()
        };
        let ends_with = |error: String, words: &str| {
            assert!(error.ends_with(words), "{layout:?}: {error}\nlacks {words}");
        };
        for (value, text) in [(f64::NAN, "NaN"), (f64::NEG_INFINITY, "-inf")] {
            let error = refusal(&|vector| vector[CHANGED] = value);
            let place = format!("row 1, column vector, element {CHANGED}");
            ends_with(
                error,
                &format!("{place}: found {text}, expected a finite number"),
            );
        }
        // The first of two invalid components is named, even if they are in different chunks.
        let error = refusal(&|vector| {
            vector[CHANGED] = f64::NAN;
            vector[7] = f64::INFINITY;
        });
        ends_with(error, "element 7: found inf, expected a finite number");
        if layout.1 {
            let error = refusal(&|vector| vector[CHANGED] = 1e39);
            let words = format!("element {CHANGED}: found 1e39, expected a number in the range");
            assert!(error.contains(&words), "{layout:?}: {error}");
        }

        let longer = refusal(&|vector| vector.push(1.0));
        let words =
            |found| format!("found {found} elements, expected {ELEMENTS}, as in the rows before");
        ends_with(longer, &words(ELEMENTS + 1));
        let shorter = refusal(&|vector| vector.truncate(CHANGED));
        ends_with(shorter, &words(CHANGED));
    }
}
