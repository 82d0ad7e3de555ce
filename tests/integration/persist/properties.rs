//! Random queues, indexes and tables, merged according to the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hnsw_toolbox::{export_collections, ExportOptions, Monitor};
use proptest::prelude::*;
use rusqlite::{params, Connection};
use serde_json::{json, Map, Value as Json};

use crate::support::table::{read_arrow, Cell};
use crate::support::{proptest_config, Element, Synthetic, Word};

const COLLECTION: &str = "0f0f0f0f-0000-4000-8000-000000000001";
const VECTOR_SEGMENT: &str = "0f0f0f0f-0000-4000-8000-000000000002";
const METADATA_SEGMENT: &str = "0f0f0f0f-0000-4000-8000-000000000003";
const TOPIC: &str = "persistent://default/default/0f0f0f0f-0000-4000-8000-000000000001";

const ADD: i64 = 0;
const UPDATE: i64 = 1;
const UPSERT: i64 = 2;
const DELETE: i64 = 3;

/// A row of the queue. Its vector holds its sequence number, so all vectors differ.
#[derive(Clone, Debug)]
struct Logged {
    seq_id: i64,
    operation: i64,
    id: String,
    has_vector: bool,
    metadata: Map<String, Json>,
    is_blob: bool,
}

impl Logged {
    fn vector(&self) -> Option<[f32; 2]> {
        let first = self.seq_id as f32;
        (self.has_vector && self.operation != DELETE).then_some([first, -first])
    }
}

/// The contents of a directory.
#[derive(Clone, Debug)]
struct Case {
    log: Vec<Logged>,
    /// The last rows that the index and the tables contain.
    vector_watermark: Option<i64>,
    metadata_watermark: i64,
    /// True if rows up to both are purged from the queue.
    purged: bool,
    /// Ids that the index has lost.
    lost: BTreeSet<String>,
    cosine: bool,
}

fn metadata() -> impl Strategy<Value = Map<String, Json>> {
    let value = prop_oneof![
        Just(Json::Null),
        Just(json!("text")),
        Just(json!(7)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!(["a", "b"])),
        Just(json!([1, 2])),
    ];
    let key = prop_oneof![
        Just("a"),
        Just("b"),
        Just("chroma:document"),
        Just("chroma:uri"),
        Just("chroma:hidden")
    ];
    prop::collection::vec((key, value), 0..4).prop_map(|pairs| {
        let text = |key: &str, value: Json| match (key, value) {
            (key, value) if !key.starts_with("chroma:") || value.is_null() => value,
            (key, value) => json!(format!("{key} {value}")),
        };
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_string(), text(key, value)))
            .collect()
    })
}

fn case() -> impl Strategy<Value = Case> {
    let row = (
        ADD..=DELETE,
        0..6_usize,
        any::<bool>(),
        metadata(),
        any::<bool>(),
    );
    let log = prop::collection::vec(row, 0..40);
    (
        log,
        any::<[bool; 3]>(),
        any::<[u8; 2]>(),
        prop::collection::btree_set(0..6_usize, 0..2),
    )
        .prop_map(
            |(rows, [purged, cosine, flushed], [vector, metadata], lost)| {
                let rows: Vec<_> = rows.into_iter().enumerate().collect();
                let len = rows.len() as i64;
                let within = |share: u8| 10 + len * i64::from(share) / 255;
                let id = |number: usize| format!("id {number}");
                Case {
                    log: rows
                        .into_iter()
                        .map(
                            |(at, (operation, number, has_vector, metadata, is_blob))| Logged {
                                seq_id: 11 + at as i64,
                                operation,
                                id: id(number),
                                // Chroma never adds a record without a vector.
                                has_vector: has_vector || operation == ADD,
                                metadata,
                                is_blob,
                            },
                        )
                        .collect(),
                    vector_watermark: flushed.then(|| within(vector)),
                    metadata_watermark: within(metadata),
                    purged: purged && flushed,
                    lost: lost.into_iter().map(id).collect(),
                    cosine,
                }
            },
        )
}

type Texts = BTreeMap<String, Json>;

/// Reference implementation: vectors by id.
fn replay_vectors<'l>(
    mut vectors: BTreeMap<String, [f32; 2]>,
    rows: impl Iterator<Item = &'l Logged>,
) -> BTreeMap<String, [f32; 2]> {
    for row in rows {
        let present = vectors.contains_key(&row.id);
        match (row.operation, row.vector()) {
            (DELETE, _) => drop(vectors.remove(&row.id)),
            (ADD, Some(vector)) if !present => drop(vectors.insert(row.id.clone(), vector)),
            (UPDATE, Some(vector)) if present => drop(vectors.insert(row.id.clone(), vector)),
            (UPSERT, Some(vector)) => drop(vectors.insert(row.id.clone(), vector)),
            _ => {}
        }
    }
    vectors
}

/// Reference implementation: documents and metadata in the order of each record's first addition.
fn replay_texts<'l>(
    mut records: Vec<(String, Texts)>,
    rows: impl Iterator<Item = &'l Logged>,
) -> Vec<(String, Texts)> {
    for row in rows {
        let at = records.iter().position(|(id, _)| *id == row.id);
        let target = match (row.operation, at) {
            (DELETE, Some(at)) => {
                records.remove(at);
                continue;
            }
            (ADD | UPSERT, None) => {
                records.push((row.id.clone(), Texts::new()));
                records.len() - 1
            }
            (UPDATE | UPSERT, Some(at)) => at,
            _ => continue,
        };
        for (key, value) in &row.metadata {
            match value {
                Json::Null => drop(records[target].1.remove(key)),
                value => drop(records[target].1.insert(key.clone(), value.clone())),
            }
        }
    }
    records
}

/// The vector that only the complete queue has.
fn last_vector(rows: &[&Logged], id: &str) -> Option<[f32; 2]> {
    let mut found = None;
    for row in rows.iter().filter(|row| row.id == id) {
        match (row.operation, row.vector()) {
            (DELETE, _) => found = None,
            (operation, Some(vector)) if operation != ADD || found.is_none() => {
                found = Some(vector)
            }
            _ => {}
        }
    }
    found
}

fn write_database(case: &Case, kept: &[&Logged], tables: &[(String, Texts)], path: &Path) {
    let database = Connection::open(path).unwrap();
    let space = if case.cosine { "cosine" } else { "l2" };
    database
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF;
             BEGIN;
             CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT, dimension INTEGER);
             CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, collection TEXT);
             CREATE TABLE segment_metadata (segment_id TEXT, key TEXT, str_value TEXT,
                 int_value INTEGER, float_value REAL);
             CREATE TABLE max_seq_id (segment_id TEXT PRIMARY KEY, seq_id);
             CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT,
                 seq_id, UNIQUE (segment_id, embedding_id));
             CREATE TABLE embedding_metadata (id INTEGER, key TEXT, string_value TEXT,
                 int_value INTEGER, float_value REAL, bool_value INTEGER, PRIMARY KEY (id, key));
             CREATE TABLE embedding_metadata_array (id INTEGER, key TEXT, string_value TEXT,
                 int_value INTEGER, float_value REAL, bool_value INTEGER);
             CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, operation INTEGER,
                 topic TEXT, id TEXT, vector BLOB, encoding TEXT, metadata TEXT);
             INSERT INTO collections VALUES ('{COLLECTION}', 'random', 2);
             INSERT INTO segments VALUES
                 ('{VECTOR_SEGMENT}', 'urn:chroma:segment/vector/hnsw-local-persisted', 'VECTOR',
                  '{COLLECTION}'),
                 ('{METADATA_SEGMENT}', 'urn:chroma:segment/metadata/sqlite', 'METADATA',
                  '{COLLECTION}');
             INSERT INTO segment_metadata (segment_id, key, str_value)
                 VALUES ('{VECTOR_SEGMENT}', 'hnsw:space', '{space}');"
        ))
        .unwrap();
    let watermarks = [
        (VECTOR_SEGMENT, case.vector_watermark),
        (METADATA_SEGMENT, Some(case.metadata_watermark)),
    ];
    for (segment, watermark) in watermarks {
        if let Some(watermark) = watermark {
            let insert = "INSERT INTO max_seq_id VALUES (?1, ?2)";
            match watermark % 2 {
                0 => database.execute(insert, params![segment, watermark.to_be_bytes()]),
                _ => database.execute(insert, params![segment, watermark]),
            }
            .unwrap();
        }
    }
    for (number, (id, texts)) in tables.iter().enumerate() {
        let rowid = 100 + 3 * number as i64;
        let insert = "INSERT INTO embeddings VALUES (?1, ?2, ?3, ?4)";
        let seq_id = match number % 2 {
            0 => rusqlite::types::Value::Integer(rowid),
            _ => rusqlite::types::Value::Blob(rowid.to_be_bytes().to_vec()),
        };
        database
            .execute(insert, params![rowid, METADATA_SEGMENT, id, seq_id])
            .unwrap();
        for (key, value) in texts {
            let (table, values) = match value {
                Json::Array(values) => ("embedding_metadata_array", values.clone()),
                value => ("embedding_metadata", vec![value.clone()]),
            };
            for value in values {
                let insert = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
                let fields = params![
                    rowid,
                    key,
                    value.as_str(),
                    value.as_i64(),
                    value.as_f64().filter(|_| value.is_f64()),
                    value.as_bool()
                ];
                database.execute(&insert, fields).unwrap();
            }
        }
    }
    for row in kept {
        let vector: Option<Vec<u8>> = row
            .vector()
            .map(|vector| vector.iter().flat_map(|c| c.to_le_bytes()).collect());
        let encoding = vector.as_ref().map(|_| "FLOAT32");
        let metadata = match row.metadata.is_empty() && row.is_blob {
            true => None,
            false => Some(Json::from(row.metadata.clone()).to_string()),
        };
        database
            .execute(
                "INSERT INTO embeddings_queue VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    row.seq_id,
                    row.operation,
                    TOPIC,
                    row.id,
                    vector,
                    encoding,
                    metadata
                ],
            )
            .unwrap();
    }
    database.execute_batch("COMMIT").unwrap();
}

/// An index of these vectors, divided by their norm in a cosine collection.
fn write_index(vectors: &BTreeMap<String, [f32; 2]>, cosine: bool, directory: &Path) {
    std::fs::create_dir(directory).unwrap();
    let norm = |vector: &[f32; 2]| match cosine {
        true => vector.iter().map(|c| c * c).sum::<f32>().sqrt(),
        false => 1.0,
    };
    let elements = vectors.values().enumerate().map(|(at, vector)| Element {
        label: 1 + 2 * at as u64,
        deleted: false,
        vector: vector
            .iter()
            .map(|c| (c / norm(vector)).to_bits())
            .collect(),
    });
    let index = Synthetic::of(Word::U64, 2, 2, elements.collect());
    index.write(directory);
    let norms: Vec<u8> = vectors
        .values()
        .flat_map(|vector| norm(vector).to_le_bytes())
        .collect();
    std::fs::write(directory.join("length.bin"), norms).unwrap();
    let labels: BTreeMap<&String, usize> = vectors.keys().zip((1..).step_by(2)).collect();
    let ids: BTreeMap<usize, &String> = labels.iter().map(|(id, label)| (*label, *id)).collect();
    #[derive(serde::Serialize)]
    struct Pickle<'p> {
        dimensionality: Option<u32>,
        total_elements_added: usize,
        max_seq_id: Option<i64>,
        id_to_label: BTreeMap<&'p String, usize>,
        label_to_id: BTreeMap<usize, &'p String>,
        id_to_seq_id: BTreeMap<String, u64>,
    }
    let pickle = Pickle {
        dimensionality: None,
        total_elements_added: 2 * vectors.len(),
        max_seq_id: None,
        id_to_label: labels,
        label_to_id: ids,
        id_to_seq_id: BTreeMap::new(),
    };
    let options = serde_pickle::SerOptions::new();
    let bytes = serde_pickle::to_vec(&pickle, options).unwrap();
    std::fs::write(directory.join("index_metadata.pickle"), bytes).unwrap();
}

proptest! {
    #![proptest_config(proptest_config(200))]

    #[test]
    fn random_queues_merge_according_to_the_rules(case in case()) {
        let directory = tempfile::tempdir().unwrap();
        let persist = directory.path().join("persist");
        std::fs::create_dir(&persist).unwrap();
        let up_to = |watermark: i64| case.log.iter().filter(move |row| row.seq_id <= watermark);
        let after = |watermark: i64| case.log.iter().filter(move |row| row.seq_id > watermark);
        let seen = case.vector_watermark.unwrap_or(0);
        let mut base = replay_vectors(BTreeMap::new(), up_to(seen));
        base.retain(|id, _| !case.lost.contains(id));
        let tables = replay_texts(Vec::new(), up_to(case.metadata_watermark));
        let purge = match case.purged {
            true => seen.min(case.metadata_watermark),
            false => 0,
        };
        let kept: Vec<_> = case.log.iter().filter(|row| row.seq_id >= purge).collect();
        write_database(&case, &kept, &tables, &persist.join("chroma.sqlite3"));
        if case.vector_watermark.is_some() {
            write_index(&base, case.cosine, &persist.join(VECTOR_SEGMENT));
        }

        let vectors = replay_vectors(base, after(seen));
        let records = replay_texts(tables, after(case.metadata_watermark));

        let output = directory.path().join("out.arrow");
        let options = ExportOptions::default()
            .with_format(hnsw_toolbox::ColumnarFormat::ArrowIpc);
        let monitor = Monitor::default();
        let summary = export_collections(&persist, &output, &options, &monitor).unwrap();
        let table = read_arrow(&output);
        let ids: Vec<_> = records.iter().map(|(id, _)| Cell::Utf8(id.clone())).collect();
        prop_assert_eq!(table.column("id"), &ids[..]);
        let mut without = 0;
        for (row, (id, texts)) in records.iter().enumerate() {
            let vector = vectors.get(id).copied().or_else(|| last_vector(&kept, id));
            match (vector, &table.column("vector")[row]) {
                (None, found) => {
                    without += 1;
                    prop_assert_eq!(found, &Cell::Null);
                }
                (Some(vector), Cell::List(found)) => {
                    for (component, found) in vector.iter().zip(found) {
                        let Cell::Float32(bits) = found else { panic!("{found:?}") };
                        let difference = (f32::from_bits(*bits) - component).abs();
                        prop_assert!(difference <= 1e-6 * component.abs(), "{id}: {found:?}");
                    }
                }
                (Some(vector), found) => prop_assert!(false, "{}: {:?}, {:?}", id, found, vector),
            }
            let text = |key: &str| match texts.get(key) {
                Some(value) => Cell::Utf8(value.as_str().unwrap().into()),
                None => Cell::Null,
            };
            prop_assert_eq!(&table.column("document")[row], &text("chroma:document"));
            prop_assert_eq!(&table.column("uri")[row], &text("chroma:uri"));
            let shown: Map<_, _> = texts
                .iter()
                .filter(|(key, _)| !key.starts_with("chroma:"))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let expected = match shown.is_empty() {
                true => Cell::Null,
                false => Cell::Utf8(Json::from(shown).to_string()),
            };
            prop_assert_eq!(&table.column("metadata")[row], &expected);
        }
        prop_assert_eq!(summary.files[0].without_vector, without);
    }
}
