//! Every value of every column, compared with the output of the real Chroma.

use std::collections::{BTreeMap, BTreeSet};

use hnsw_toolbox::{
    export_collection, export_collections, list_collections, CollectionFilter, CollectionState,
    ColumnarFormat, ExportOptions, ExportSummary, MetadataForm, Monitor, VectorForm,
};
use serde_json::Value as Json;

use super::{export, read};
use crate::support::persist::{
    expected_metadata, expected_vector, typed_json, PersistFixture, PERSIST_FIXTURES,
};
use crate::support::table::{Cell, Table};
use crate::support::FORMATS;

fn text(json: &Json) -> Cell {
    match json.as_str() {
        Some(text) => Cell::Utf8(text.into()),
        None => Cell::Null,
    }
}

fn floats(vector: &[f32]) -> Cell {
    Cell::List(vector.iter().map(|c| Cell::Float32(c.to_bits())).collect())
}

/// The metadata returned by the client, and the input if the queue still has it.
fn metadata_of(record: &Json) -> [Option<String>; 2] {
    let client = expected_metadata(&record["metadata"]);
    let given = match record.get("metadata_given") {
        Some(given) => expected_metadata(given),
        None => client.clone(),
    };
    [client, given]
}

fn assert_common_columns(table: &Table, collection: &Json, context: &str) {
    let records = collection["records"].as_array().unwrap();
    assert_eq!(table.rows(), records.len(), "{context}");
    for (row, record) in records.iter().enumerate() {
        let context = format!("{context}, {}", record["id"]);
        assert_eq!(table.column("id")[row], text(&record["id"]), "{context}");
        let document = &table.column("document")[row];
        assert_eq!(*document, text(&record["document"]), "{context}");
        assert_eq!(table.column("uri")[row], text(&record["uri"]), "{context}");
        let vector = &table.column("vector")[row];
        assert_eq!(*vector, floats(&expected_vector(record)), "{context}");
    }
}

fn assert_metadata_json(table: &Table, collection: &Json, context: &str) {
    let records = collection["records"].as_array().unwrap();
    for (row, record) in records.iter().enumerate() {
        let found = match &table.column("metadata")[row] {
            Cell::Utf8(json) => Some(json.clone()),
            other => {
                assert_eq!(*other, Cell::Null);
                None
            }
        };
        let expected = metadata_of(record);
        let id = &record["id"];
        assert!(
            expected.contains(&found),
            "{context}, {id}: {found:?}, {expected:?}"
        );
    }
}

/// The JSON value of a cell in a typed column.
fn cell_json(cell: &Cell) -> String {
    match cell {
        Cell::Int64(value) => typed_json("int", &value.to_string().into()),
        Cell::Float64(bits) => typed_json("float", &f64::from_bits(*bits).to_string().into()),
        Cell::Boolean(value) => value.to_string(),
        Cell::Utf8(value) => Json::from(value.as_str()).to_string(),
        Cell::List(cells) => {
            let cells: Vec<_> = cells.iter().map(cell_json).collect();
            format!("[{}]", cells.join(","))
        }
        other => panic!("{other:?}"),
    }
}

fn assert_metadata_columns(table: &Table, collection: &Json, json: &[String], context: &str) {
    let records = collection["records"].as_array().unwrap();
    let mut kinds = BTreeMap::<String, BTreeSet<&str>>::new();
    for record in records {
        for (key, typed) in record["metadata"].as_object().into_iter().flatten() {
            kinds
                .entry(key.clone())
                .or_default()
                .insert(typed[0].as_str().unwrap());
        }
    }
    let names: BTreeSet<_> = table
        .names
        .iter()
        .filter_map(|name| name.strip_prefix("metadata."))
        .collect();
    let keys: BTreeSet<_> = kinds.keys().map(String::as_str).collect();
    assert!(names.is_superset(&keys), "{context}: {names:?}, {keys:?}");
    for key in names {
        let name = format!("metadata.{key}");
        let is_json = json.contains(&name);
        if let Some(kinds) = kinds.get(key) {
            assert!(is_json || kinds.len() == 1, "{context}: {key}");
        }
        for (cell, record) in table.column(&name).iter().zip(records) {
            let found = match cell {
                Cell::Null => None,
                Cell::Utf8(json) if is_json => Some(json.clone()),
                cell => Some(cell_json(cell)),
            };
            let value = |metadata: &Json| {
                let typed = metadata.get(key)?;
                Some(typed_json(typed[0].as_str().unwrap(), &typed[1]))
            };
            let client = value(&record["metadata"]);
            let given = match record.get("metadata_given") {
                Some(given) => value(given),
                None => client.clone(),
            };
            let id = &record["id"];
            assert!(
                found == client || found == given,
                "{context}, {id}, {key}: {found:?}"
            );
        }
    }
}

#[test]
fn every_value_equals_chromas() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for format in FORMATS {
            for metadata in [MetadataForm::Json, MetadataForm::Columns] {
                let context = format!("{name}, {format}, {metadata}");
                let directory = tempfile::tempdir().unwrap();
                let output = directory.path().join("out");
                let options = ExportOptions::default()
                    .with_format(format)
                    .with_metadata(metadata);
                let summary =
                    export_collections(fixture.dir(), &output, &options, &Monitor::default())
                        .unwrap();
                assert_eq!(
                    summary.files.len(),
                    fixture.collections().len(),
                    "{context}"
                );
                for file in &summary.files {
                    let context = format!("{context}, {}", file.file);
                    let collection = fixture
                        .collections()
                        .iter()
                        .find(|collection| collection["id"] == file.collection_id.as_str())
                        .unwrap();
                    let table = read(&output.join(&file.file), format);
                    assert_common_columns(&table, collection, &context);
                    match metadata {
                        MetadataForm::Columns => assert_metadata_columns(
                            &table,
                            collection,
                            &file.json_columns,
                            &context,
                        ),
                        _ => assert_metadata_json(&table, collection, &context),
                    }
                    assert_eq!(file.metric, collection["space"].as_str().unwrap());
                    assert_eq!(file.collection, collection["name"].as_str().unwrap());
                    assert_eq!(file.rows, collection["count"].as_u64().unwrap());
                    assert_eq!(file.without_vector, 0, "{context}");
                    let in_log = collection["vectors_only_in_wal"].as_u64().unwrap();
                    assert_eq!(file.vectors_from_log, in_log, "{context}");
                    assert_eq!(
                        file.dimension.map(|dimension| dimension as u64),
                        collection["dimension"].as_u64(),
                        "{context}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_file_states_its_source() {
    let fixture = PersistFixture::unpack("1.5.9");
    let collection = fixture.collection("schema_cosine");
    let id = collection["id"].as_str().unwrap();
    let (summary, table) = export(&fixture.dir(), "schema_cosine");
    let schema = &table.metadata["hnsw_toolbox.schema_str"];
    let expected = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("collection", "schema_cosine"),
        ("collection_id", id),
        ("database", "default_database"),
        ("tenant", "default_tenant"),
        ("metric", "cosine"),
        ("dimension", "6"),
        ("vectors", "original"),
        ("chroma_schema", "embeddings_queue 2, metadb 6, sysdb 10"),
        ("collection_metadata", "{}"),
        ("m", "16"),
        ("ef_construction", "100"),
        ("config_json_str", "{}"),
        ("schema_str", schema),
    ];
    assert!(schema.contains("\"space\":\"cosine\""), "{schema}");
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(key, value)| (format!("hnsw_toolbox.{key}"), value.to_string()))
        .collect();
    assert_eq!(table.metadata, expected);
    assert_eq!(summary.files[0].metric_source, "schema_str");
}

#[test]
fn the_manifest_is_the_summary_with_a_hash_per_file() {
    use sha2::{Digest, Sha256};

    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("new/out");
    let options = ExportOptions::default();
    let summary =
        export_collections(fixture.dir(), &output, &options, &Monitor::default()).unwrap();
    let manifest = std::fs::read(output.join("manifest.json")).unwrap();
    let manifest: Json = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest, serde_json::to_value(&summary).unwrap());
    let mut names: Vec<_> = summary.files.iter().map(|file| file.file.clone()).collect();
    for file in &summary.files {
        let bytes = std::fs::read(output.join(&file.file)).unwrap();
        let hash = Sha256::digest(&bytes);
        let digits = hash.iter().map(|byte| format!("{byte:02x}"));
        assert_eq!(file.sha256, digits.collect::<String>());
        assert_eq!(file.bytes, bytes.len() as u64);
    }
    names.push("manifest.json".into());
    names.sort();
    assert_eq!(files_of(&output), names);
    // Three collections in three databases are called `articles`.
    let articles = names.iter().filter(|name| name.starts_with("articles-"));
    assert_eq!(articles.count(), 3);
    assert!(!names.contains(&"articles.parquet".to_string()));
}

fn files_of(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn stored_vectors_have_norm_1_and_one_representation() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out.arrow");
        let options = super::only("articles").with_vectors(VectorForm::Stored);
        export_collections(fixture.dir(), &output, &options, &Monitor::default()).unwrap();
        let table = read(&output, ColumnarFormat::ArrowIpc);
        let (_, original) = export(&fixture.dir(), "articles");
        let components = |cell: &Cell| -> Vec<f64> {
            let Cell::List(cells) = cell else {
                panic!("{cell:?}")
            };
            let component = |cell: &Cell| match cell {
                Cell::Float32(bits) => f64::from(f32::from_bits(*bits)),
                other => panic!("{other:?}"),
            };
            cells.iter().map(component).collect()
        };
        let mut from_log = 0;
        for row in 0..table.rows() {
            let stored = components(&table.column("vector")[row]);
            let given = components(&original.column("vector")[row]);
            let norm = given.iter().map(|c| c * c).sum::<f64>().sqrt();
            for (stored, given) in stored.iter().zip(&given) {
                let expected = if norm == 0.0 { 0.0 } else { given / norm };
                assert!(
                    (stored - expected).abs() < 3e-7,
                    "{name}: {stored}, {expected}"
                );
            }
            from_log += usize::from(table.column("label")[row] == Cell::Null);
        }
        assert!(from_log > 10);
    }
}

#[test]
fn index_columns_identify_records_of_the_index() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let (summary, table) = export(&fixture.dir(), "articles");
        let (_, rows) = crate::support::rows_by_callback(
            &fixture.segment("articles"),
            &hnsw_toolbox::ExtractOptions::default().with_vectors(VectorForm::Original),
        )
        .unwrap();
        let mut from_index = 0;
        for row in 0..table.rows() {
            let (Cell::UInt64(internal_id), Cell::UInt64(label)) = (
                &table.column("internal_id")[row],
                &table.column("label")[row],
            ) else {
                assert_eq!(table.column("internal_id")[row], Cell::Null);
                assert_eq!(table.column("label")[row], Cell::Null);
                continue;
            };
            from_index += 1;
            let extracted = rows
                .iter()
                .find(|row| row.internal_id == *internal_id)
                .unwrap();
            assert_eq!(extracted.label, *label);
            let id = extracted.user_id.clone().unwrap();
            assert_eq!(table.column("id")[row], Cell::Utf8(id));
        }
        assert_eq!(summary.files[0].vectors_from_index, from_index);
        let seq_ids = table.column("seq_id");
        assert!(seq_ids.iter().all(|cell| matches!(cell, Cell::UInt64(_))));
    }
}

#[test]
fn one_collection_is_exported_to_one_file() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.parquet");
    let options = ExportOptions::default();
    let monitor = Monitor::default();
    let summary =
        export_collection(fixture.dir(), "ip_default", &output, &options, &monitor).unwrap();
    assert_eq!(summary.rows, 1300);
    assert_eq!(files_of(directory.path()), ["out.parquet"]);
    for (name, found) in [("articles", "3 collections"), ("nothing", "nothing")] {
        let error = export_collection(fixture.dir(), name, &output, &options, &monitor);
        let error = error.unwrap_err();
        assert_eq!(error.code(), 101);
        assert!(error.to_string().contains(found), "{error}");
    }
    let filter = CollectionFilter::default().with_database(Some("db2".into()));
    let options = options.with_filter(filter);
    let summary = export_collection(fixture.dir(), "articles", &output, &options, &monitor);
    assert_eq!(summary.unwrap().rows, 15);
}

#[test]
fn what_is_exported_can_be_built() {
    use hnsw_toolbox::{build_index_from_columnar, BuildOptions, GraphOptions};

    let fixture = PersistFixture::unpack("0.5.23-metalag");
    // Some rows have no vector, and some rows with a vector have no label.
    std::fs::remove_dir_all(fixture.segment("wal_purged")).unwrap();
    for format in FORMATS {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let options = ExportOptions::default()
            .with_format(format)
            .with_index_columns(true);
        let monitor = Monitor::default();
        let summary = export_collections(fixture.dir(), &output, &options, &monitor).unwrap();
        for name in ["ip_default", "wal_purged"] {
            let file = summary
                .files
                .iter()
                .find(|file| file.collection == name)
                .unwrap();
            let index = directory.path().join("index.hnsw");
            let graph = GraphOptions::default().with_m(4).with_ef_construction(8);
            let options = BuildOptions::default()
                .with_graph(graph)
                .with_format(format);
            let input = output.join(&file.file);
            let built = build_index_from_columnar(&input, &index, &options, &monitor).unwrap();
            assert_eq!(built.scanned, file.rows);
            assert_eq!(built.without_vector, file.without_vector);
            assert_eq!(built.inserted, file.rows - file.without_vector);
            assert_eq!(file.without_vector > 0, name == "wal_purged");
            // Labels are used on request, and must then be present.
            let options = options.with_label_column(Some("label".to_string()));
            let error = build_index_from_columnar(&input, &index, &options, &monitor);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("column label: found null"), "{error}");
        }
    }
}

#[test]
fn collections_are_listed_with_their_state() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let filter = CollectionFilter::default();
        let list = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap();
        assert_eq!(list.collections.len(), fixture.collections().len());
        let orphans: Vec<_> = fixture.expected["orphan_segment_dirs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(list.orphan_directories, orphans);
        for report in &list.collections {
            let expected = fixture
                .collections()
                .iter()
                .find(|collection| collection["id"] == report.id.as_str())
                .unwrap();
            assert_eq!(report.name, expected["name"].as_str().unwrap());
            assert_eq!(report.tenant, expected["tenant"].as_str().unwrap());
            assert_eq!(report.database, expected["database"].as_str().unwrap());
            assert_eq!(report.metric, expected["space"].as_str().unwrap());
            let metadata = expected_metadata(&expected["metadata"]);
            assert_eq!(report.metadata.to_json(), metadata.unwrap_or("{}".into()));
            assert_eq!(report.without_vector, 0);
            let directory = expected["vector_segment"].as_str().unwrap();
            let exists = fixture.dir().join(directory).exists();
            assert_eq!(report.segment_dir.as_deref(), exists.then_some(directory));
            let state = match report.name.as_str() {
                "empty" | "docs_deleted" => CollectionState::Empty,
                _ => CollectionState::Queued,
            };
            if report.state != state {
                assert_eq!(
                    report.state,
                    CollectionState::Flushed,
                    "{name}: {}",
                    report.name
                );
                assert_eq!(report.queued, 0);
            }
        }
    }
}

#[test]
fn an_empty_collection_gives_a_file_without_rows() {
    let fixture = PersistFixture::unpack("1.5.9");
    for (name, dimension) in [("empty", None), ("docs_deleted", Some(6))] {
        let (summary, table): (ExportSummary, _) = export(&fixture.dir(), name);
        assert_eq!(summary.files[0].dimension, dimension);
        assert_eq!(table.rows(), 0);
        assert_eq!(
            table.names,
            [
                "id",
                "vector",
                "document",
                "uri",
                "metadata",
                "internal_id",
                "label",
                "seq_id"
            ]
        );
    }
}
