//! Property: an extraction to a Parquet or Arrow IPC file, with any options, has bit for bit the
//! records of the index.
//!
//! Input: the bytes from which `arbitrary` makes a [`Case`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use arbitrary::{Arbitrary, Result, Unstructured};
use serde::Serialize;

use super::export::{arrow_ipc, parquet};
use super::synthetic::{Element, Synthetic, Word};
use super::{assert_same_rows, Directory, Export, Row};
use crate::{
    extract_index_to_columnar, ColumnarFormat, ColumnarOptions, Compression, ExtractOptions,
    IoMode, MetadataFrom, Monitor,
};

/// An index, its ids, and the options of the extraction.
#[derive(Debug)]
struct Case {
    index: Synthetic,
    /// The id and the sequence number of each label.
    ids: Option<BTreeMap<u64, (String, Option<u64>)>>,
    options: ColumnarOptions,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let options = options(u)?;
        let word = *u.choose(&[Word::U64, Word::U32])?;
        let (m, dimension) = (u.int_in_range(1..=20)?, u.int_in_range(1..=40)?);
        let consecutive = u.arbitrary()?;
        let mut ids = u.arbitrary::<bool>()?.then(BTreeMap::new);
        let trailing = u.arbitrary()?;

        let mut elements = Vec::new();
        while elements.len() < 200 && u.arbitrary()? {
            let label = match word {
                _ if consecutive => elements.len() as u64 + 1,
                Word::U64 => u.arbitrary()?,
                Word::U32 => u.arbitrary::<u32>()?.into(),
            };
            let mut vector = vec![0; dimension];
            for bits in &mut vector {
                *bits = u.arbitrary()?;
            }
            if let Some(ids) = &mut ids {
                let id: Option<String> = u.arbitrary()?;
                let seq_id = u.arbitrary()?;
                // Every id has one label, and every label one id.
                if let Some(id) = id.filter(|id| ids.values().all(|(other, _)| other != id)) {
                    ids.entry(label).or_insert((id, seq_id));
                }
            }
            elements.push(Element {
                label,
                deleted: u.arbitrary()?,
                vector,
            });
        }
        let index = Synthetic {
            trailing,
            ..Synthetic::of(word, m, dimension, elements)
        };
        Ok(Self {
            index,
            ids,
            options,
        })
    }
}

fn options(u: &mut Unstructured<'_>) -> Result<ColumnarOptions> {
    let format = *u.choose(&[ColumnarFormat::Parquet, ColumnarFormat::ArrowIpc])?;
    let compression = match format {
        ColumnarFormat::ArrowIpc => Compression::None,
        ColumnarFormat::Parquet => {
            *u.choose(&[Compression::None, Compression::Snappy, Compression::Zstd])?
        }
    };
    Ok(ColumnarOptions {
        extract: ExtractOptions {
            include_deleted: u.arbitrary()?,
            io: *u.choose(&[IoMode::Mmap, IoMode::Read])?,
            ..ExtractOptions::default()
        },
        format,
        batch_size: u.int_in_range(1..=250)?,
        compression,
        row_group_bytes: u.int_in_range(1..=20_000)?,
    })
}

/// The metadata in the format of Chroma 1.x.
#[derive(Default, Serialize)]
struct Pickle<'a> {
    dimensionality: Option<u64>,
    total_elements_added: u64,
    max_seq_id: Option<u64>,
    id_to_label: BTreeMap<&'a str, u64>,
    label_to_id: BTreeMap<u64, &'a str>,
    id_to_seq_id: BTreeMap<&'a str, u64>,
}

fn pickle(ids: &BTreeMap<u64, (String, Option<u64>)>) -> Vec<u8> {
    let mut pickle = Pickle::default();
    for (&label, (id, seq_id)) in ids {
        pickle.label_to_id.insert(label, id);
        pickle.id_to_label.insert(id, label);
        if let &Some(seq_id) = seq_id {
            pickle.id_to_seq_id.insert(id, seq_id);
        }
    }
    serde_pickle::to_vec(&pickle, serde_pickle::SerOptions::new()).unwrap()
}

fn expected(case: &Case) -> Vec<Row> {
    let row = |(internal_id, element): (u64, &Element)| {
        let known = case.ids.as_ref().and_then(|ids| ids.get(&element.label));
        Row {
            internal_id,
            label: element.label,
            deleted: element.deleted,
            user_id: known.map(|(id, _)| id.clone()),
            seq_id: known.and_then(|(_, seq_id)| *seq_id),
            vector: element.vector.clone(),
        }
    };
    (0..)
        .zip(&case.index.elements)
        .filter(|(_, element)| case.options.extract.include_deleted || !element.deleted)
        .map(row)
        .collect()
}

pub fn property(bytes: &[u8]) -> bool {
    let Ok(mut case) = Case::arbitrary(&mut Unstructured::new(bytes)) else {
        return false;
    };
    let directory = Directory::new();
    directory.write("header.bin", &case.index.header.bytes());
    directory.write("data_level0.bin", &case.index.level0_bytes());
    if let Some(ids) = &case.ids {
        let path = directory.write("index_metadata.pickle", &pickle(ids));
        case.options.extract.metadata = MetadataFrom::Path(path);
    }
    let output = directory.path().join("output");
    let monitor = Monitor::default();
    let summary =
        extract_index_to_columnar(directory.path(), &output, &case.options, &monitor).unwrap();

    let file = BufReader::new(File::open(&output).unwrap());
    let export: Export = match case.options.format {
        ColumnarFormat::Parquet => parquet::read(file),
        ColumnarFormat::ArrowIpc => arrow_ipc::read(file),
    };
    assert_same_rows(&export.rows, &expected(&case), "export");
    assert!(export.largest_page <= case.options.batch_size);
    assert_eq!(summary.scanned, case.index.elements.len() as u64);
    assert_eq!(summary.emitted, export.rows.len() as u64);
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("round_trip", super::property);
    }
}
