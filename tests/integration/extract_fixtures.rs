//! Every value of every column of real Chroma directories, compared with recorded values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::*;
use hnsw_toolbox::{extract_index_to_columnar, ExtractSummary, Monitor, RecordRange};
use serde_json::Value;

/// A fixture, its expected values, and its records as a minimal reader sees them.
struct Fixture {
    case: PathBuf,
    segment: PathBuf,
    expected: Value,
    records: Vec<Row>,
}

impl Fixture {
    fn load(case: PathBuf) -> Self {
        let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let segment = case.join("segment");
        let records = read_records(&segment, &expected["header"]);
        Self {
            case,
            segment,
            expected,
            records,
        }
    }

    fn rows(&self, include_deleted: bool) -> Vec<Row> {
        let mut rows = self.records.clone();
        rows.retain(|row| include_deleted || !row.deleted);
        rows
    }

    fn ids(&self, key: &str) -> BTreeSet<&str> {
        let ids = self.expected[key].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap()).collect()
    }

    fn labels(&self) -> BTreeMap<u64, &str> {
        let labels = self.expected["labels"].as_object().unwrap();
        labels
            .iter()
            .map(|(id, label)| (label.as_u64().unwrap(), id.as_str()))
            .collect()
    }

    fn context(&self, what: &str) -> String {
        format!("{}: {what}", self.case.display())
    }

    fn check_summary(&self, summary: &ExtractSummary, include_deleted: bool) {
        let number = |value: &Value| value.as_u64().unwrap();
        let header = &self.expected["header"];
        let deleted = number(&self.expected["deleted_records"]);
        let live = number(&self.expected["live_records"]);
        let emitted = if include_deleted {
            live + deleted
        } else {
            live
        };
        assert_eq!(summary.scanned, live + deleted);
        assert_eq!(summary.emitted, emitted);
        assert_eq!(summary.deleted_skipped, live + deleted - emitted);
        assert_eq!(summary.dimension as u64, number(&self.expected["dim"]));
        let properties = &summary.index_properties;
        assert_eq!(properties.m, number(&header["M"]));
        assert_eq!(
            properties.ef_construction,
            number(&header["ef_construction"])
        );
        assert_eq!(properties.max_elements, number(&header["max_elements"]));
        assert_eq!(
            properties.cur_element_count,
            number(&header["cur_element_count"])
        );
        assert_eq!(i64::from(properties.persisted_version), header["version"]);
        assert_eq!(properties.word_size_bytes, 8);
    }

    /// Takes out the rows with ids, if any, after checking them.
    fn without_user_ids(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let labels = self.labels();
        for row in &mut rows {
            if let Some(id) = row.user_id.take() {
                assert_eq!(labels[&row.label], id, "{}", self.context("user id"));
            }
            row.seq_id = None;
        }
        rows
    }
}

/// Level-0 records at the recorded offsets.
fn read_records(segment: &Path, header: &Value) -> Vec<Row> {
    let at = |field: &str| header[field].as_u64().unwrap() as usize;
    let bytes = std::fs::read(segment.join("data_level0.bin")).unwrap();
    let records = bytes.chunks_exact(at("size_data_per_element"));
    (0..)
        .zip(records.take(at("cur_element_count")))
        .map(|(internal_id, record)| Row {
            internal_id,
            label: u64::from_le_bytes(record[at("label_offset")..].try_into().unwrap()),
            deleted: record[at("offsetLevel0") + 2] & 1 == 1,
            user_id: None,
            seq_id: None,
            vector: record[at("offsetData")..at("label_offset")]
                .chunks_exact(4)
                .map(|bits| u32::from_le_bytes(bits.try_into().unwrap()))
                .collect(),
        })
        .collect()
}

fn floats(vector: &[u32]) -> impl Iterator<Item = f32> + '_ {
    vector.iter().map(|&bits| f32::from_bits(bits))
}

#[test]
fn the_callback_receives_every_record_of_every_fixture() {
    for fixture in fixtures().into_iter().map(Fixture::load) {
        for include_deleted in [false, true] {
            for io in IO_MODES {
                let options = extract_options(include_deleted, io);
                let (summary, rows) = rows_by_callback(&fixture.segment, &options).unwrap();
                fixture.check_summary(&summary, include_deleted);
                assert_same_rows(
                    &fixture.without_user_ids(rows),
                    &fixture.rows(include_deleted),
                    &fixture.context(&format!("{options:?}")),
                );
            }
        }
    }
}

#[test]
fn both_file_formats_contain_every_record_of_every_fixture() {
    let scratch = tempfile::tempdir().unwrap();
    for fixture in fixtures().into_iter().map(Fixture::load) {
        for (include_deleted, io) in [false, true].into_iter().zip(IO_MODES) {
            for format in FORMATS {
                let extract = extract_options(include_deleted, io);
                let options = columnar_options(format, extract);
                let (summary, export) =
                    rows_by_file(&fixture.segment, scratch.path(), &options).unwrap();
                fixture.check_summary(&summary, include_deleted);
                let context = fixture.context(&format!("{options:?}"));
                assert_same_rows(
                    &fixture.without_user_ids(export.rows),
                    &fixture.rows(include_deleted),
                    &context,
                );
                let header = &fixture.expected["header"];
                for (key, field) in [
                    ("m", "M"),
                    ("ef_construction", "ef_construction"),
                    ("cur_element_count", "cur_element_count"),
                    ("max_elements", "max_elements"),
                ] {
                    let found = &export.metadata[&format!("hnsw_toolbox.{key}")];
                    assert_eq!(found, &header[field].to_string(), "{context}");
                }
                assert_eq!(
                    export.metadata["hnsw_toolbox.version"],
                    env!("CARGO_PKG_VERSION")
                );
            }
        }
    }
}

#[test]
fn concatenated_parts_equal_the_full_output() {
    let scratch = tempfile::tempdir().unwrap();
    for fixture in fixtures().into_iter().map(Fixture::load) {
        let extract = extract_options(false, IO_MODES[0]);
        let (whole, expected) = rows_by_callback(&fixture.segment, &extract).unwrap();
        for of in [1, 2, 5] {
            let (mut rows, mut scanned) = (Vec::new(), 0);
            for number in 1..=of {
                let part = extract
                    .clone()
                    .with_records(RecordRange::part(number, of).unwrap());
                let format = FORMATS[number as usize % FORMATS.len()];
                let options = columnar_options(format, part.clone());
                let (summary, file) =
                    rows_by_file(&fixture.segment, scratch.path(), &options).unwrap();
                let (streamed, records) = rows_by_callback(&fixture.segment, &part).unwrap();
                assert_eq!(summary, streamed);
                assert_eq!(summary.emitted, records.len() as u64);
                assert!(summary.scanned <= whole.scanned.div_ceil(of));
                let context = fixture.context(&format!("part {number} of {of}"));
                assert_same_rows(&file.rows, &records, &context);
                scanned += summary.scanned;
                rows.extend(records);
            }
            assert_eq!(scanned, whole.scanned);
            assert_same_rows(&rows, &expected, &fixture.context("all parts"));
        }
    }
}

#[test]
fn live_labels_match_the_pickle_and_vectors_the_users_input() {
    for fixture in fixtures().into_iter().map(Fixture::load) {
        let options = extract_options(false, IO_MODES[0]);
        let (_, rows) = rows_by_callback(&fixture.segment, &options).unwrap();
        let ids = fixture.labels();
        let found: BTreeSet<u64> = rows.iter().map(|row| row.label).collect();
        assert_eq!(found.len(), rows.len(), "{}", fixture.context("labels"));
        assert!(found.iter().eq(ids.keys()), "{}", fixture.context("labels"));

        let lengths = std::fs::read(fixture.segment.join("length.bin")).unwrap();
        let stale = fixture.ids("stale_in_index_ids");
        let index_only = fixture.ids("index_only_ids");
        let cosine = fixture.expected["space"] == "cosine";
        let mut compared = 0;
        for row in &rows {
            let id = ids[&row.label];
            if stale.contains(id) || index_only.contains(id) {
                continue;
            }
            let given: Vec<f32> = fixture.expected["embeddings"][id]
                .as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap() as f32)
                .collect();
            compared += 1;
            if !cosine {
                let given: Vec<u32> = given.iter().map(|value| value.to_bits()).collect();
                assert_eq!(row.vector, given, "{}", fixture.context(id));
                continue;
            }
            let norm = given
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            let length = &lengths[row.internal_id as usize * 4..][..4];
            let length = f32::from_le_bytes(length.try_into().unwrap());
            for (stored, given) in floats(&row.vector).zip(given) {
                let unit = f64::from(given) / norm;
                assert!(
                    (f64::from(stored) - unit).abs() <= 1.2e-7,
                    "{id}: {stored} {unit}"
                );
                let original = f64::from(stored) * f64::from(length);
                let error = (original - f64::from(given)).abs();
                assert!(error <= 5e-7 * f64::from(given).abs(), "{id}: {error}");
            }
        }
        let usual = ids.len() - stale.len().min(ids.len()) - index_only.len().min(ids.len());
        assert!(compared >= usual, "{}", fixture.context("ids compared"));
    }
}

#[test]
fn without_metadata_user_id_and_seq_id_are_null() {
    let case = fixtures_root().join("1.5.9/churn/segment");
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("segment");
    std::fs::create_dir(&dir).unwrap();
    for name in ["header.bin", "data_level0.bin"] {
        std::fs::copy(case.join(name), dir.join(name)).unwrap();
    }
    let extract = extract_options(true, IO_MODES[0]);
    let (_, mut rows) = rows_by_callback(&dir, &extract).unwrap();
    for format in FORMATS {
        let options = columnar_options(format, extract.clone());
        rows.extend(rows_by_file(&dir, scratch.path(), &options).unwrap().1.rows);
    }
    assert_eq!(rows.len(), 3 * 1140);
    assert!(rows
        .iter()
        .all(|row| row.user_id.is_none() && row.seq_id.is_none()));
}

#[test]
fn a_never_flushed_directory_gives_the_schema_and_no_rows() {
    let scratch = tempfile::tempdir().unwrap();
    for version in ["0.4.24", "1.5.9"] {
        let segment = fixtures_root().join(version).join("tiny/segment");
        let level0 = std::fs::metadata(segment.join("data_level0.bin")).unwrap();
        assert!(level0.len() > 0, "the junk records are what this is about");
        for format in FORMATS {
            let options = columnar_options(format, extract_options(true, IO_MODES[0]));
            // Reading asserts the schema.
            let (summary, export) = rows_by_file(&segment, scratch.path(), &options).unwrap();
            assert_eq!(summary.scanned, 0);
            assert_eq!(summary.emitted, 0);
            assert_eq!(summary.dimension, 3);
            assert!(export.rows.is_empty() && export.groups.is_empty());
            assert_eq!(export.metadata["hnsw_toolbox.dimension"], "3");
        }
    }
}

#[test]
fn an_output_is_allowed_beside_the_index_files() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["header.bin", "data_level0.bin"] {
        let from = fixtures_root().join("1.5.9/ip/segment").join(name);
        std::fs::copy(from, scratch.path().join(name)).unwrap();
    }
    let output = scratch.path().join("vectors.parquet");
    let options = columnar_options(FORMATS[0], extract_options(false, IO_MODES[0]));
    extract_index_to_columnar(scratch.path(), &output, &options, &Monitor::default()).unwrap();
    assert_eq!(read_export(&output, FORMATS[0]).rows.len(), 2054);
    assert_eq!(
        names(scratch.path()),
        ["data_level0.bin", "header.bin", "vectors.parquet"]
    );
}
