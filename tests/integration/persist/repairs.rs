//! Repairs that merge the index with the queue, compared with an export.

use std::collections::BTreeMap;
use std::path::Path;

use hnsw_toolbox::{
    export_collections, repair_index, verify_index, CollectionFilter, ColumnarFormat, ErrorKind,
    ExportOptions, ExtractOptions, IndexState, MetricSource, Monitor, RepairLinks, RepairOptions,
    RepairSummary, Space, VectorForm, VerifyOptions,
};
use rusqlite::Connection;
use serde_json::Value as Json;

use super::read;
use crate::repair::assert_sound;
use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};
use crate::support::table::Cell;
use crate::support::{extent, pairs, rows_by_callback};

/// Bits of the vectors by id.
type Vectors = BTreeMap<String, Vec<u32>>;

fn text(collection: &Json, field: &str) -> String {
    collection[field].as_str().unwrap().to_string()
}

/// The collection's records in an export, with vectors as stored in an index.
fn exported(dir: &Path, collection: &Json, form: VectorForm) -> Vectors {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    let filter = CollectionFilter::default()
        .with_names(vec![text(collection, "name")])
        .with_database(text(collection, "database"))
        .with_tenant(text(collection, "tenant"));
    let options = ExportOptions::default()
        .with_filter(filter)
        .with_format(ColumnarFormat::ArrowIpc)
        .with_vectors(form);
    export_collections(dir, &output, &options, &Monitor::default()).unwrap();
    let table = read(&output, ColumnarFormat::ArrowIpc);
    let rows = table.column("id").iter().zip(table.column("vector"));
    rows.filter_map(|(id, vector)| {
        let (Cell::Utf8(id), Cell::List(vector)) = (id, vector) else {
            return None;
        };
        let bits = vector.iter().map(|component| match component {
            Cell::Float32(bits) => *bits,
            other => panic!("{other:?}"),
        });
        Some((id.clone(), bits.collect()))
    })
    .collect()
}

fn held(dir: &Path, form: VectorForm) -> Vectors {
    let options = ExtractOptions::default().with_vectors(form);
    let (summary, rows) = rows_by_callback(dir, &options).unwrap();
    assert_eq!(summary.deleted_skipped, 0);
    let held: Vectors = rows
        .iter()
        .map(|row| (row.user_id.clone().unwrap(), row.vector.clone()))
        .collect();
    assert_eq!(held.len(), rows.len());
    held
}

fn options(collection: &Json) -> RepairOptions {
    RepairOptions::default()
        .with_collection(text(collection, "name"))
        .with_database(text(collection, "database"))
        .with_tenant(text(collection, "tenant"))
}

/// Repairs, and compares the result with an export of the same directory.
fn repaired(dir: &Path, collection: &Json, options: &RepairOptions) -> Option<RepairSummary> {
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    let database = std::fs::read(dir.join("chroma.sqlite3")).unwrap();
    let mut expected = exported(dir, collection, VectorForm::Stored);
    // Such vectors cannot be found by a search and count as damage in an index.
    expected.retain(|_, vector| vector.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    let result = repair_index(dir, &new, options, &Monitor::default());
    assert!(std::fs::read(dir.join("chroma.sqlite3")).unwrap() == database);
    let summary = match result {
        Err(error) if expected.is_empty() => {
            assert_eq!(error.kind(), ErrorKind::NothingToRepair, "{error}");
            assert!(!new.exists());
            return None;
        }
        result => result.unwrap(),
    };
    assert_eq!(summary.metric_source, MetricSource::Database);
    assert_eq!(summary.metric.unwrap().name(), collection["space"]);
    let report = verify_index(&new, &VerifyOptions::default(), &Monitor::default()).unwrap();
    assert_eq!(report.state, IndexState::Healthy, "{report:?}");
    assert_sound(&new);
    let found = held(&new, VectorForm::Stored);
    assert!(
        found == expected,
        "{}: {} of {}",
        collection["name"],
        found.len(),
        expected.len()
    );
    if collection["space"] == "cosine" {
        // The given vectors, up to rounding.
        let given = exported(dir, collection, VectorForm::Original);
        for (id, vector) in held(&new, VectorForm::Original) {
            for (found, given) in vector.iter().zip(&given[&id]) {
                let (found, given) = (f32::from_bits(*found), f32::from_bits(*given));
                assert!((found - given).abs() <= 1e-6 * (1.0 + given.abs()), "{id}");
            }
        }
    }
    let merged = summary.collection.as_ref().unwrap();
    assert_eq!(merged.from_index + merged.from_log, summary.records);
    assert_eq!(merged.name, text(collection, "name"));
    Some(summary)
}

#[test]
fn every_repaired_collection_equals_its_export() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let (mut kept, mut inserted) = (0, 0);
        for (collection, links) in pairs(fixture.collections(), &[None, Some(RepairLinks::Build)]) {
            let options = options(collection).with_links(*links);
            let Some(summary) = repaired(&fixture.dir(), collection, &options) else {
                continue;
            };
            let merged = summary.collection.unwrap();
            if summary.links == RepairLinks::Keep {
                kept += 1;
                inserted += merged.from_log;
            }
            assert!(merged.statements.is_empty());
        }
        assert!(
            kept > extent(1, 3) && inserted > 0,
            "{name}: {kept}, {inserted}"
        );
    }
}

#[test]
fn a_damaged_or_lost_index_is_recovered_from_the_queue() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |dir| std::fs::remove_dir_all(dir).unwrap(),
        |dir| std::fs::write(dir.join("index_metadata.pickle"), b"torn").unwrap(),
        |dir| std::fs::remove_file(dir.join("header.bin")).unwrap(),
        |dir| std::fs::write(dir.join("link_lists.bin"), b"torn").unwrap(),
        |dir| {
            let path = dir.join("data_level0.bin");
            let length = std::fs::metadata(&path).unwrap().len();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(length / 3).unwrap();
        },
    ];
    for (name, damage) in pairs(&PERSIST_FIXTURES, &damages) {
        let fixture = PersistFixture::unpack(name);
        let mut all = 0;
        for collection in fixture.collections() {
            let segment = fixture.dir().join(text(collection, "vector_segment"));
            if !segment.join("index_metadata.pickle").exists() {
                continue;
            }
            damage(&segment);
            let summary = repaired(&fixture.dir(), collection, &options(collection));
            all += summary.map_or(0, |summary| summary.records);
        }
        assert!(all > 0, "{name}");
    }
}

#[test]
fn a_poisoned_watermark_is_reported_with_the_fixing_statement() {
    let fixture = PersistFixture::unpack("1.5.9");
    let collection = fixture.collection("articles");
    let segment = text(collection, "vector_segment");
    let database = Connection::open(fixture.database()).unwrap();
    let read = || -> i64 {
        let query = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?";
        database
            .query_row(query, [&segment], |row| row.get(0))
            .unwrap()
    };
    let right = read();
    // Chroma's migration turns a number into its digits as bytes, preceded by as many 0x11.
    let digits = right.to_string();
    let mut bytes = [0x11; 8];
    bytes[8 - digits.len()..].copy_from_slice(digits.as_bytes());
    let spoilt = i64::from_be_bytes(bytes);
    let update = "UPDATE max_seq_id SET seq_id = ? WHERE segment_id = ?";
    database
        .execute(update, rusqlite::params![spoilt, segment])
        .unwrap();
    let summary = repaired(&fixture.dir(), collection, &options(collection)).unwrap();
    let merged = summary.collection.unwrap();
    let [statement] = merged.statements.as_slice() else {
        panic!("{:?}", merged.statements);
    };
    assert!(merged
        .findings
        .iter()
        .any(|finding| finding.code == "poisoned-watermark"));
    assert!(summary.steps.iter().any(|step| step.contains(statement)));
    assert_eq!(read(), spoilt);
    database.execute_batch(statement).unwrap();
    assert_eq!(read(), right);
}

#[test]
fn an_index_in_a_store_has_the_metric_of_its_database() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for wanted in [
            "articles",
            "ip_default",
            "renamed_cosine",
            "readd_same_batch",
        ] {
            let collection = fixture.collection(wanted);
            let place = tempfile::tempdir().unwrap();
            let options = RepairOptions::default().with_links(RepairLinks::Build);
            let new = place.path().join("new");
            let repair = |options: &RepairOptions| {
                repair_index(fixture.segment(wanted), &new, options, &Monitor::default())
            };
            let summary = repair(&options).unwrap();
            assert_eq!(summary.metric_source, MetricSource::Database);
            assert_eq!(summary.metric.unwrap().name(), collection["space"]);
            assert_sound(&new);
            std::fs::remove_dir_all(&new).unwrap();
            let other = match summary.metric {
                Some(Space::L2) => Space::Ip,
                _ => Space::L2,
            };
            let error = repair(&options.with_metric(other)).unwrap_err().to_string();
            let names = format!(
                "found {other}, expected {}",
                collection["space"].as_str().unwrap()
            );
            assert!(error.contains(&names), "{error}");
        }
    }
}

#[test]
fn a_collection_must_exist() {
    let fixture = PersistFixture::unpack("1.5.9");
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    let refused = |options: RepairOptions| {
        let error = repair_index(fixture.dir(), &new, &options, &Monitor::default()).unwrap_err();
        assert!(!new.exists());
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        error.field().unwrap().to_string()
    };
    let named = |name: &str| RepairOptions::default().with_collection(name.to_string());
    assert_eq!(refused(named("nobody")), "collection");
    let twice = fixture.collections().iter().find(|collection| {
        let same = |other: &&Json| other["name"] == collection["name"];
        fixture.collections().iter().filter(same).count() > 1
    });
    assert_eq!(
        refused(named(twice.unwrap()["name"].as_str().unwrap())),
        "collection"
    );
    let shape = hnsw_toolbox::Salvage::default().with_dimension(3).with_m(4);
    let articles = named("articles").with_database("default_database".to_string());
    assert_eq!(refused(articles.with_salvage(shape)), "dimension");
    let alone = RepairOptions::default().with_database("default_database".to_string());
    assert_eq!(refused(alone), "database");
}

#[test]
fn a_repair_without_the_header_loses_no_record() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for wanted in ["wal_purged", "renamed_cosine", "ip_default"] {
            let collection = fixture.collection(wanted);
            let path = fixture.segment(wanted).join("header.bin");
            let header = std::fs::read(&path).unwrap();
            let sound = exported(&fixture.dir(), collection, VectorForm::Stored);
            // Version, count, layout, highest level, entry point, m and ef_construction.
            let fields = [0, 20, 36, 52, 56, 76, 92].map(Some);
            let fields = fields.into_iter().filter(|_| wanted == "renamed_cosine");
            for at in fields.chain([None]) {
                let mut bytes = header.clone();
                match at {
                    None => std::fs::remove_file(&path).unwrap(),
                    Some(at) => {
                        bytes[at] ^= 2;
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
                let options = options(collection);
                let summary = repaired(&fixture.dir(), collection, &options).unwrap();
                assert_eq!(
                    summary.records,
                    sound.len() as u64,
                    "{name}, {wanted}, {at:?}"
                );
                assert_eq!(summary.index_properties.m, 16);
                assert_eq!(summary.index_properties.ef_construction, 100);
                std::fs::write(&path, &header).unwrap();
            }
        }
    }
}
