//! Every trap of the format, applied to a copy of a real directory.

use std::collections::HashMap;
use std::path::Path;

use hnsw_toolbox::{list_collections, CollectionFilter, CollectionState, ColumnarFormat, Monitor};
use rusqlite::{params, Connection};
use serde_json::Value as Json;

use super::{codes, export, only, read};
use crate::support::persist::{expected_vector, vector, PersistFixture, PERSIST_FIXTURES};
use crate::support::table::{Cell, Table};

fn open(fixture: &PersistFixture) -> Connection {
    let database = Connection::open(fixture.database()).unwrap();
    // Waiting for the disk after each statement would dominate the run time.
    database.pragma_update(None, "synchronous", "off").unwrap();
    database
}

fn segment_of(collection: &Json) -> &str {
    collection["vector_segment"].as_str().unwrap()
}

fn vectors(table: &Table) -> HashMap<String, Cell> {
    let ids = table.column("id").iter().map(|cell| match cell {
        Cell::Utf8(id) => id.clone(),
        other => panic!("{other:?}"),
    });
    ids.zip(table.column("vector").iter().cloned()).collect()
}

fn floats(vector: &[f32]) -> Cell {
    Cell::List(vector.iter().map(|c| Cell::Float32(c.to_bits())).collect())
}

/// Asserts that all vectors found are right, and that this number is missing.
fn assert_vectors(table: &Table, collection: &Json, missing: usize) {
    let found = vectors(table);
    let records = collection["records"].as_array().unwrap();
    assert_eq!(found.len(), records.len());
    let mut without = 0;
    for record in records {
        match &found[record["id"].as_str().unwrap()] {
            Cell::Null => without += 1,
            vector => assert_eq!(
                *vector,
                floats(&expected_vector(record)),
                "{}",
                record["id"]
            ),
        }
    }
    assert_eq!(without, missing);
}

/// The result of the migration to 1.0 for a number that was already an INTEGER.
fn poisoned(seq_id: i64) -> i64 {
    let digits = seq_id.to_string();
    let mut bytes = [0x11; 8];
    bytes[8 - digits.len()..].copy_from_slice(digits.as_bytes());
    i64::from_be_bytes(bytes)
}

#[test]
fn poisoned_watermarks_are_repaired_and_reported() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let database = open(&fixture);
    let watermarks: Vec<(String, i64)> = database
        .prepare("SELECT segment_id, seq_id FROM max_seq_id")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for blob in [false, true] {
        for (segment, seq_id) in &watermarks {
            let value = poisoned(*seq_id);
            let update = "UPDATE max_seq_id SET seq_id = ?1 WHERE segment_id = ?2";
            match blob {
                true => database.execute(update, params![value.to_be_bytes(), segment]),
                false => database.execute(update, params![value, segment]),
            }
            .unwrap();
        }
        let (summary, after) = export(&fixture.dir(), "articles");
        assert_eq!(after, before);
        let poisoned = codes(&summary);
        let poisoned = poisoned
            .iter()
            .filter(|code| **code == "poisoned-watermark");
        assert_eq!(poisoned.count(), 2);
    }
}

/// Records with close rowids are read with one statement.
#[test]
fn records_of_any_position_and_size_are_read() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let (_, before) = export(&fixture.dir(), "articles");
        let database = open(&fixture);
        database.pragma_update(None, "foreign_keys", "off").unwrap();
        // With large documents, several statements are needed.
        let set = "UPDATE embedding_metadata SET string_value = ?1 \
                   WHERE key = 'chroma:document' AND id % 3 = ?2";
        for (remainder, bytes) in [(0, 100_000), (1, 300_000)] {
            let text = "ä".repeat(bytes / 2);
            database.execute(set, params![text, remainder]).unwrap();
        }
        let (_, large) = export(&fixture.dir(), "articles");
        let is_large = |cell: &Cell| matches!(cell, Cell::Utf8(text) if text.len() >= 100_000);
        let documents = large.column("document");
        assert!(documents.iter().filter(|cell| is_large(cell)).count() > 20);
        for column in ["id", "vector", "metadata"] {
            assert_eq!(large.column(column), before.column(column), "{name}");
        }

        // Far from one another, so that each record takes a separate statement.
        let records = database
            .query_row("SELECT max(id) FROM embeddings", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap();
        let update = |table: &str| {
            let moved = format!("UPDATE {table} SET id = -(id * id + {records})");
            database.execute(&moved, []).unwrap();
            let back = format!("UPDATE {table} SET id = -id");
            database.execute(&back, []).unwrap();
        };
        update("embeddings");
        update("embedding_metadata");
        if name.starts_with("1.5") {
            update("embedding_metadata_array");
        }
        let (_, moved) = export(&fixture.dir(), "articles");
        assert_eq!(moved, large, "{name}");
    }
}

#[test]
fn sequence_numbers_of_both_forms_can_share_a_column() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let (_, before) = export(&fixture.dir(), "articles");
        let database = open(&fixture);
        for table in ["embeddings", "max_seq_id"] {
            let rows: Vec<(i64, rusqlite::types::Value)> = database
                .prepare(&format!("SELECT rowid, seq_id FROM {table}"))
                .unwrap()
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let update = format!("UPDATE {table} SET seq_id = ?1 WHERE rowid = ?2");
            for (rowid, seq_id) in rows.into_iter().step_by(3) {
                use rusqlite::types::Value;
                let other = match seq_id {
                    Value::Blob(bytes) => {
                        Value::Integer(i64::from_be_bytes(bytes.try_into().unwrap()))
                    }
                    // A BLOB of eight bytes is stored unchanged even in an INTEGER column.
                    Value::Integer(number) => Value::Blob(number.to_be_bytes().to_vec()),
                    other => other,
                };
                database.execute(&update, params![other, rowid]).unwrap();
            }
        }
        let (_, after) = export(&fixture.dir(), "articles");
        assert_eq!(after, before, "{name}");
    }
}

#[test]
fn the_last_part_of_a_topic_identifies_the_collection() {
    let fixture = PersistFixture::unpack("0.5.23-metalag");
    let (_, before) = export(&fixture.dir(), "articles");
    let change = "UPDATE embeddings_queue
        SET topic = replace(topic, '//default/default/', '//a/b/' || (seq_id % 3) || '/')";
    assert!(open(&fixture).execute(change, []).unwrap() > 100);
    let (_, after) = export(&fixture.dir(), "articles");
    assert_eq!(after, before);
}

#[test]
fn a_missing_index_leaves_the_records_of_the_queue() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        std::fs::remove_dir_all(fixture.segment("wal_purged")).unwrap();
        let collection = fixture.collection("wal_purged");
        let (summary, table) = export(&fixture.dir(), "wal_purged");
        let found: std::collections::HashSet<_> = codes(&summary).into_iter().collect();
        assert!(found.contains("index-missing") && found.contains("vector-missing"));
        let file = &summary.files[0];
        assert_eq!(file.rows, 2400);
        assert_eq!(file.vectors_from_index, 0);
        assert!(file.vectors_from_log >= 50, "{}", file.vectors_from_log);
        assert_vectors(&table, collection, file.without_vector as usize);
        assert_eq!(file.state, CollectionState::Incomplete);
        assert_eq!(file.first_ids_without_vector.len(), 100);
        let filter = CollectionFilter::default();
        let list = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap();
        let mut reports = list.collections.iter();
        let report = reports.find(|report| report.name == "wal_purged").unwrap();
        assert_eq!(report.state, CollectionState::Incomplete);
        assert_eq!(report.segment_dir, None);
    }
}

#[test]
fn a_wiped_index_leaves_the_records_of_the_queue() {
    let fixture = PersistFixture::unpack("1.5.9");
    let segment = fixture.segment("ip_default");
    // Opening it for writing without a pickle recreates all files without records.
    let never_flushed = fixture.segment("l2_small");
    for file in [
        "header.bin",
        "data_level0.bin",
        "length.bin",
        "link_lists.bin",
    ] {
        std::fs::copy(never_flushed.join(file), segment.join(file)).unwrap();
    }
    // Its dimension differs, which is irrelevant without records.
    std::fs::remove_file(segment.join("index_metadata.pickle")).unwrap();
    let (summary, table) = export(&fixture.dir(), "ip_default");
    let file = &summary.files[0];
    assert_vectors(
        &table,
        fixture.collection("ip_default"),
        file.without_vector as usize,
    );
    assert!(file.vectors_from_log >= 300);
    assert!(codes(&summary).contains(&"index-missing"));
}

#[test]
fn an_add_of_a_known_id_gives_no_vector_if_the_index_is_lost() {
    for name in PERSIST_FIXTURES {
        for lost in ["directory", "pickle", "records"] {
            let fixture = PersistFixture::unpack(name);
            let segment = fixture.segment("articles");
            match lost {
                "directory" => std::fs::remove_dir_all(segment).unwrap(),
                "pickle" => std::fs::remove_file(segment.join("index_metadata.pickle")).unwrap(),
                _ => {
                    let level0 = segment.join("data_level0.bin");
                    let bytes = std::fs::read(&level0).unwrap();
                    std::fs::write(level0, &bytes[..bytes.len() / 8]).unwrap();
                }
            }
            // The queue of this collection has an add of an id that the index contains.
            let (summary, table) = export(&fixture.dir(), "articles");
            let without = summary.files[0].without_vector as usize;
            assert!(without > 0, "{name}, {lost}");
            let found = vectors(&table);
            for record in fixture.collection("articles")["records"]
                .as_array()
                .unwrap()
            {
                let id = record["id"].as_str().unwrap();
                let Cell::List(found) = &found[id] else {
                    continue;
                };
                // The queue's vectors equal the input; the index's equal it up to rounding.
                for (found, given) in found.iter().zip(vector(&record["given"])) {
                    let Cell::Float32(bits) = found else {
                        panic!("{found:?}")
                    };
                    let difference = (f32::from_bits(*bits) - given).abs();
                    assert!(difference < 1e-5, "{name}, {lost}, {id}: {difference}");
                }
            }
        }
    }
}

#[test]
fn a_lost_pickle_is_replaced_by_rank_if_that_is_exact() {
    for torn in [false, true] {
        let fixture = PersistFixture::unpack("1.5.9");
        let pickle = fixture.segment("ip_default").join("index_metadata.pickle");
        match torn {
            true => {
                let bytes = std::fs::read(&pickle).unwrap();
                std::fs::write(&pickle, &bytes[..bytes.len() / 2]).unwrap();
            }
            false => std::fs::remove_file(&pickle).unwrap(),
        }
        let (summary, table) = export(&fixture.dir(), "ip_default");
        assert_vectors(&table, fixture.collection("ip_default"), 0);
        assert!(codes(&summary).contains(&"pickle-lost"));
        // The last write in the index is still in the queue.
        assert_eq!(summary.files[0].vectors_from_index, 999);
        assert_eq!(summary.files[0].state, CollectionState::Damaged);
    }
}

#[test]
fn a_lost_pickle_of_an_old_version_is_not_replaced_by_rank() {
    let fixture = PersistFixture::unpack("0.5.23-metalag");
    std::fs::remove_file(fixture.segment("ip_default").join("index_metadata.pickle")).unwrap();
    let (summary, table) = export(&fixture.dir(), "ip_default");
    let file = &summary.files[0];
    assert!(file.without_vector > 500, "{}", file.without_vector);
    assert_vectors(
        &table,
        fixture.collection("ip_default"),
        file.without_vector as usize,
    );
    let mut findings = file.findings.iter();
    let lost = findings.find(|finding| finding.code == "pickle-lost");
    assert!(lost.unwrap().message.contains("made before Chroma 1.0"));
}

#[test]
fn a_lost_pickle_is_not_replaced_by_rank_after_a_delete() {
    let fixture = PersistFixture::unpack("1.5.9");
    std::fs::remove_file(fixture.segment("ip_default").join("index_metadata.pickle")).unwrap();
    let collection = fixture.collection("ip_default");
    let (id, first) = (
        collection["id"].as_str().unwrap(),
        &collection["records"][0]["id"],
    );
    let database = open(&fixture);
    let topic = format!("persistent://default/default/{id}");
    database
        .execute(
            "INSERT INTO embeddings_queue (seq_id, operation, topic, id, metadata)
             VALUES (9000000, 3, ?1, ?2, '{}')",
            params![topic, first.as_str().unwrap()],
        )
        .unwrap();
    let (summary, table) = export(&fixture.dir(), "ip_default");
    // The record is gone because of queued rows that the metadata segment has not applied.
    assert_eq!(table.rows(), 1299);
    let mut findings = summary.files[0].findings.iter();
    let lost = findings
        .find(|finding| finding.code == "pickle-lost")
        .unwrap();
    assert!(
        lost.message.contains("1 records were deleted"),
        "{}",
        lost.message
    );
    assert_eq!(summary.files[0].vectors_from_index, 0);
}

#[test]
fn complete_records_of_a_truncated_index_are_used() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let level0 = fixture.segment("wal_purged").join("data_level0.bin");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&level0)
            .unwrap();
        let whole = std::fs::read(level0.with_file_name("header.bin")).unwrap();
        let size = u64::from_le_bytes(whole[28..36].try_into().unwrap());
        file.set_len(size * 1000 + 7).unwrap();
        let (summary, table) = export(&fixture.dir(), "wal_purged");
        let file = &summary.files[0];
        assert!(codes(&summary).contains(&"index-damaged"));
        assert!(
            file.vectors_from_index > 900 && file.without_vector > 500,
            "{file:?}"
        );
        assert_vectors(
            &table,
            fixture.collection("wal_purged"),
            file.without_vector as usize,
        );
    }
}

#[test]
fn a_vector_lost_by_the_index_is_found_in_the_whole_queue() {
    let fixture = PersistFixture::unpack("0.5.23-metalag");
    let collection = fixture.collection("l2_small");
    let database = open(&fixture);
    // Never flushed, but presented as flushed with everything lost.
    let last: i64 = database
        .query_row("SELECT max(seq_id) FROM embeddings_queue", [], |row| {
            row.get(0)
        })
        .unwrap();
    database
        .execute(
            "INSERT INTO max_seq_id (segment_id, seq_id) VALUES (?1, ?2)",
            params![segment_of(collection), last.to_be_bytes()],
        )
        .unwrap();
    let (summary, table) = export(&fixture.dir(), "l2_small");
    assert_vectors(&table, collection, 0);
    assert!(codes(&summary).contains(&"vector-from-log"));
    let rows = table.rows() as u64;
    assert_eq!(summary.files[0].vectors_from_log, rows);
}

#[test]
fn an_index_of_another_dimension_is_not_used() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (from, to) = (
        fixture.segment("renamed_cosine"),
        fixture.segment("ip_default"),
    );
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let (summary, table) = export(&fixture.dir(), "ip_default");
    assert!(codes(&summary).contains(&"index-dimension"));
    let file = &summary.files[0];
    assert_vectors(
        &table,
        fixture.collection("ip_default"),
        file.without_vector as usize,
    );
    assert_eq!(file.vectors_from_index, 0);
}

#[test]
fn an_invalid_dimension_is_replaced_by_the_vectors_dimension() {
    for impossible in ["0", "-3", "1073741823", "9223372036854775807"] {
        let fixture = PersistFixture::unpack("1.5.9");
        let (before, expected) = export(&fixture.dir(), "articles");
        open(&fixture)
            .execute_batch(&format!("UPDATE collections SET dimension = {impossible}"))
            .unwrap();
        let (summary, table) = export(&fixture.dir(), "articles");
        assert!(codes(&summary).contains(&"collection-dimension"));
        assert_eq!(summary.files[0].dimension, before.files[0].dimension);
        assert_eq!(table, expected, "{impossible}");
    }
}

#[test]
fn invalid_rows_of_the_queue_are_skipped_and_counted() {
    let fixture = PersistFixture::unpack("1.5.9");
    let collection = fixture.collection("l2_small");
    let topic = format!(
        "persistent://default/default/{}",
        collection["id"].as_str().unwrap()
    );
    let database = open(&fixture);
    let first = collection["records"][0]["id"].as_str().unwrap();
    for (seq_id, operation, vector, encoding, metadata) in [
        (9_000_000, 9, None, None, "{}"),
        (9_000_001, 4, None, None, "{}"),
        (9_000_002, 2, Some(vec![0_u8; 28]), Some("FLOAT32"), "{}"),
        (9_000_003, 2, Some(vec![0_u8; 31]), Some("FLOAT32"), "{}"),
        (9_000_004, 2, Some(vec![0_u8; 32]), Some("INT32"), "{}"),
        (9_000_005, 1, None, None, "{\"nested\": {}}"),
    ] {
        database
            .execute(
                "INSERT INTO embeddings_queue
                 (seq_id, operation, topic, id, vector, encoding, metadata)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![seq_id, operation, topic, first, vector, encoding, metadata],
            )
            .unwrap();
    }
    database
        .execute(
            "INSERT INTO embeddings_queue (seq_id, operation, topic, id)
             VALUES (9000006, 2, ?1, x'00'), (9000007, 2, x'00', 'id')",
            [topic],
        )
        .unwrap();
    let (summary, table) = export(&fixture.dir(), "l2_small");
    assert_vectors(&table, collection, 0);
    let count = |code: &str| {
        let mut findings = summary.files[0].findings.iter();
        findings
            .find(|finding| finding.code == code)
            .map(|finding| finding.count)
    };
    assert_eq!(count("queue-operation"), Some(1));
    assert_eq!(count("queue-dimension"), Some(1));
    assert_eq!(count("queue-encoding"), Some(2));
    assert_eq!(count("queue-metadata"), Some(1));
    assert_eq!(count("queue-damaged"), Some(2));
}

#[test]
fn a_write_ahead_log_is_read_without_changing_the_directory() {
    let fixture = PersistFixture::unpack("1.5.9");
    let collection = fixture.collection("l2_small");
    let topic = format!(
        "persistent://default/default/{}",
        collection["id"].as_str().unwrap()
    );
    let database = open(&fixture);
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
        .pragma_update(None, "wal_autocheckpoint", 0)
        .unwrap();
    let vector: Vec<u8> = [1_f32; 8].iter().flat_map(|c| c.to_le_bytes()).collect();
    database
        .execute(
            "INSERT INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding, metadata)
             VALUES (9000000, 0, ?1, 'in the log', ?2, 'FLOAT32', '{\"chroma:document\": \"d\"}')",
            params![topic, vector],
        )
        .unwrap();
    let before = contents(&fixture.dir());
    assert!(before.contains_key("chroma.sqlite3-wal"));
    let (summary, table) = export(&fixture.dir(), "l2_small");
    assert_eq!(contents(&fixture.dir()), before);
    assert_eq!(summary.replayed, Some("-wal"));
    assert_eq!(vectors(&table)["in the log"], floats(&[1.0; 8]));
    assert_eq!(
        table.column("document").last(),
        Some(&Cell::Utf8("d".into()))
    );
    drop(database);
}

#[test]
fn wal_mode_without_a_wal_file_needs_no_copy() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "l2_small");
    let database = open(&fixture);
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    drop(database);
    let (summary, after) = export(&fixture.dir(), "l2_small");
    assert_eq!(summary.replayed, None);
    assert_eq!(after, before);
}

#[test]
fn a_hot_journal_is_rolled_back_in_a_copy() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let crashed = tempfile::tempdir().unwrap();
    {
        let database = open(&fixture);
        database.pragma_update(None, "cache_size", 5).unwrap();
        database.pragma_update(None, "foreign_keys", false).unwrap();
        database
            .execute_batch(
                "BEGIN IMMEDIATE;
                 UPDATE embedding_metadata SET string_value = 'half written';
                 DELETE FROM embeddings WHERE rowid % 2 = 0;
                 UPDATE embeddings_queue SET vector = NULL;",
            )
            .unwrap();
        // As left by a process killed at this point.
        copy_all(&fixture.dir(), crashed.path());
    }
    let files = contents(crashed.path());
    assert!(files["chroma.sqlite3-journal"].len() > 100_000);
    let (summary, after) = export(crashed.path(), "articles");
    assert_eq!(after, before);
    assert_eq!(summary.replayed, Some("-journal"));
    assert_eq!(contents(crashed.path()), files);
}

pub(super) fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => std::fs::copy(entry.path(), target).map(drop).unwrap(),
        }
    }
}

/// The contents of a directory, except the index of a write-ahead log, which readers write.
pub(super) fn contents(directory: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            for (inner, bytes) in contents(&entry.path()) {
                files.insert(format!("{name}/{inner}"), bytes);
            }
        } else if !name.ends_with("-shm") {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn an_export_changes_nothing_in_the_directory() {
    let fixture = PersistFixture::unpack("0.5.23-metalag");
    let before = contents(&fixture.dir());
    export(&fixture.dir(), "articles");
    let filter = CollectionFilter::default();
    list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap();
    assert_eq!(contents(&fixture.dir()), before);
    assert_eq!(
        before.keys().filter(|name| name.starts_with('.')).count(),
        0
    );
}

#[test]
fn a_segment_id_with_a_path_is_not_followed() {
    let fixture = PersistFixture::unpack("1.5.9");
    let collection = fixture.collection("ip_default");
    let segment = segment_of(collection);
    let outside = fixture.dir().parent().unwrap().join("outside");
    std::fs::rename(fixture.segment("ip_default"), outside).unwrap();
    open(&fixture)
        .execute(
            "UPDATE segments SET id = '../outside' WHERE id = ?1",
            [segment],
        )
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    let summary = hnsw_toolbox::export_collections(
        fixture.dir(),
        &output,
        &only("ip_default"),
        &Monitor::default(),
    )
    .unwrap();
    assert_eq!(summary.files[0].vectors_from_index, 0);
    assert!(codes(&summary).contains(&"segment-missing"));
    let table = read(&output, ColumnarFormat::ArrowIpc);
    assert_eq!(table.rows(), 1300);
}
