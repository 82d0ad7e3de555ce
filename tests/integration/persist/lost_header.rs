//! Collections with a lost or wrong `header.bin`, compared with the export of intact ones.

use std::path::Path;

use hnsw_toolbox::{
    export_collections, list_collections, CollectionFilter, CollectionState, ErrorKind, Monitor,
    Salvage,
};
use rusqlite::Connection;

use super::{codes, export, only};
use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};
use crate::support::table::Table;

/// Size of `header.bin` in bytes.
const LEN: usize = 100;

/// Offsets of fields in `header.bin`.
const MAX_ELEMENTS: usize = 12;
const COUNT: usize = 20;
const LABEL_OFFSET: usize = 36;

/// Asserts the same records, regardless of findings.
fn assert_same(found: &Table, sound: &Table, context: &str) {
    assert_eq!(found.names, sound.names, "{context}");
    assert!(found.cells == sound.cells, "{context}");
}

/// Unusable headers: missing, truncated or overwritten.
fn lost(header: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut lost = vec![("missing".to_string(), None)];
    for (name, bytes) in [
        ("empty", vec![]),
        ("short", header[..60].to_vec()),
        ("cut", header[..LEN - 1].to_vec()),
        ("zeroed", vec![0; LEN]),
        ("0xFF", vec![0xFF; LEN]),
    ] {
        lost.push((name.into(), Some(bytes)));
    }
    lost
}

fn write(path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => std::fs::write(path, bytes).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
}

fn state_of(fixture: &PersistFixture, name: &str) -> CollectionState {
    let filter = CollectionFilter::default()
        .with_names(vec![name.into()])
        .with_database(Some("default_database".into()));
    let list = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap();
    list.collections[0].state
}

#[test]
fn a_lost_header_loses_no_record() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for collection in [
            "wal_purged",
            "renamed_cosine",
            "ip_default",
            "readd_same_batch",
        ] {
            let path = fixture.segment(collection).join("header.bin");
            let header = std::fs::read(&path).unwrap();
            let (_, sound) = export(&fixture.dir(), collection);
            for (variant, bytes) in lost(&header) {
                let context = format!("{name}, {collection}, {variant}");
                write(&path, bytes.as_deref());
                let (summary, table) = export(&fixture.dir(), collection);
                assert_same(&table, &sound, &context);
                assert!(codes(&summary).contains(&"header-damaged"), "{context}");
                assert_eq!(
                    summary.files[0].state,
                    CollectionState::Damaged,
                    "{context}"
                );
                assert_eq!(state_of(&fixture, collection), CollectionState::Damaged);
                std::fs::write(&path, &header).unwrap();
            }
        }
    }
}

#[test]
fn no_byte_of_the_header_changes_an_export() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let path = fixture.segment("renamed_cosine").join("header.bin");
        let header = std::fs::read(&path).unwrap();
        let (_, sound) = export(&fixture.dir(), "renamed_cosine");
        for at in 0..LEN {
            for flip in [0x04, 0x80] {
                let mut bytes = header.clone();
                bytes[at] ^= flip;
                std::fs::write(&path, bytes).unwrap();
                let (summary, table) = export(&fixture.dir(), "renamed_cosine");
                let context = format!("{name}, byte {at} ^ {flip:#x}");
                assert_same(&table, &sound, &context);
                // Fields for which other values can be right as well: the capacity,
                // ef_construction, digits of `mult`, and the entry point among the nodes of its
                // level.
                let is_free = (MAX_ELEMENTS..COUNT).contains(&at) || at >= 56;
                if !is_free {
                    assert!(codes(&summary).contains(&"header-damaged"), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_contradicted_count_is_not_used() {
    let fixture = PersistFixture::unpack("1.5.9");
    let path = fixture.segment("wal_purged").join("header.bin");
    let header = std::fs::read(&path).unwrap();
    let (_, sound) = export(&fixture.dir(), "wal_purged");
    for count in [1_u64, 1000, 2499, 2501, 4096] {
        let mut bytes = header.clone();
        bytes[COUNT..COUNT + 8].copy_from_slice(&count.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let lists = path.with_file_name("link_lists.bin");
        let whole = std::fs::read(&lists).unwrap();
        // Without any other count, the pickle's labels show that more records follow.
        for cut in [whole.len(), whole.len() - 2, 0] {
            std::fs::write(&lists, &whole[..cut]).unwrap();
            let (summary, table) = export(&fixture.dir(), "wal_purged");
            assert_same(&table, &sound, &format!("{count}, {cut}"));
            let codes = codes(&summary);
            let is_noticed = ["header-damaged", "index-damaged"];
            assert!(
                is_noticed.iter().any(|code| codes.contains(code)),
                "{codes:?}"
            );
        }
        std::fs::write(&lists, &whole).unwrap();
    }
}

#[test]
fn the_header_of_another_segment_is_not_used() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let others = ["wal_purged", "ip_default", "articles", "readd_same_batch"];
        let (_, sound) = export(&fixture.dir(), "renamed_cosine");
        for other in others {
            let to = fixture.segment("renamed_cosine").join("header.bin");
            std::fs::copy(fixture.segment(other).join("header.bin"), to).unwrap();
            let (summary, table) = export(&fixture.dir(), "renamed_cosine");
            assert_same(&table, &sound, &format!("{name}, {other}"));
            assert!(codes(&summary).contains(&"header-damaged"));
        }
    }
}

#[test]
fn the_other_files_also_determine_the_dimension() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for collection in ["wal_purged", "renamed_cosine"] {
            let (before, sound) = export(&fixture.dir(), collection);
            let path = fixture.segment(collection).join("header.bin");
            let header = std::fs::read(&path).unwrap();
            let database = Connection::open(fixture.database()).unwrap();
            database
                .execute_batch("UPDATE collections SET dimension = NULL")
                .unwrap();
            drop(database);
            for bytes in [None, Some(LABEL_OFFSET)] {
                let mut flipped = header.clone();
                if let Some(at) = bytes {
                    flipped[at] ^= 8;
                }
                write(&path, bytes.map(|_| flipped.as_slice()));
                let (summary, table) = export(&fixture.dir(), collection);
                assert_same(&table, &sound, &format!("{name}, {collection}"));
                assert_eq!(summary.files[0].dimension, before.files[0].dimension);
                std::fs::write(&path, &header).unwrap();
            }
        }
    }
}

#[test]
fn ranks_replace_the_pickle_without_a_header() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, sound) = export(&fixture.dir(), "ip_default");
    let segment = fixture.segment("ip_default");
    std::fs::remove_file(segment.join("index_metadata.pickle")).unwrap();
    std::fs::remove_file(segment.join("header.bin")).unwrap();
    let (summary, table) = export(&fixture.dir(), "ip_default");
    assert_eq!(table.column("vector"), sound.column("vector"));
    assert!(codes(&summary).contains(&"pickle-lost"));
    assert!(codes(&summary).contains(&"header-damaged"));
    // Nothing counts the records, and memory after the last one can look like a record.
    std::fs::remove_file(segment.join("link_lists.bin")).unwrap();
    let (summary, _) = export(&fixture.dir(), "ip_default");
    assert!(summary.files[0].without_vector > 0);
    assert_eq!(summary.files[0].state, CollectionState::Incomplete);
}

#[test]
fn a_lost_header_of_a_never_flushed_index_loses_nothing() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let (_, sound) = export(&fixture.dir(), "l2_small");
        let path = fixture.segment("l2_small").join("header.bin");
        let header = std::fs::read(&path).unwrap();
        for (variant, bytes) in lost(&header) {
            write(&path, bytes.as_deref());
            let (_, table) = export(&fixture.dir(), "l2_small");
            assert_same(&table, &sound, &format!("{name}, {variant}"));
            std::fs::write(&path, &header).unwrap();
        }
    }
}

#[test]
fn a_given_shape_must_be_correct() {
    let fixture = PersistFixture::unpack("1.5.9");
    std::fs::remove_file(fixture.segment("wal_purged").join("header.bin")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let export = |dimension, m| {
        let salvage = Salvage::default().with_dimension(dimension).with_m(m);
        let options = only("wal_purged").with_salvage(salvage);
        let output = directory.path().join("out.arrow");
        export_collections(fixture.dir(), output, &options, &Monitor::default())
    };
    let summary = export(12, 16).unwrap();
    assert_eq!(summary.files[0].without_vector, 0);
    for (dimension, m, field, found) in [(13, 16, "dimension", "12"), (12, 8, "m", "16")] {
        let error = export(dimension, m).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert_eq!(error.field(), Some(field));
        assert!(error.expected().unwrap().starts_with(found), "{error}");
    }
    // Without the database's values.
    let database = Connection::open(fixture.database()).unwrap();
    database
        .execute_batch("UPDATE collections SET dimension = NULL, schema_str = NULL")
        .unwrap();
    drop(database);
    assert!(export(13, 16).unwrap_err().to_string().contains("12"));
    std::fs::remove_file(fixture.segment("wal_purged").join("length.bin")).unwrap();
    assert_eq!(export(12, 16).unwrap().files[0].without_vector, 0);
    for (dimension, m) in [(13, 16), (12, 17), (10, 17)] {
        export(dimension, m).unwrap_err();
    }
}
