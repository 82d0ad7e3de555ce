//! Unusually large stores: many collections, many keys, and values that misstate their size.

use std::time::{Duration, Instant};

use hnsw_toolbox::{
    export_collections, list_collections, CancelToken, CollectionFilter, CollectionState,
    ColumnarFormat, Compression, ErrorKind, ExportOptions, Monitor,
};

use super::{codes, export, read};
use crate::support::stores::{loop_chain_at, shuffled_keys, write_interleaved, Schema, Store};
use crate::support::table::Cell;

fn utf8(text: &str) -> Cell {
    Cell::Utf8(text.into())
}

#[test]
fn interleaved_collections_keep_their_rows() {
    for schema in [Schema::Whole, Schema::WithoutIndexes] {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        write_interleaved(&store, schema, 100, 20);
        let output = dir.path().join("out");
        let options = ExportOptions::default();
        let summary = export_collections(&store, &output, &options, &Monitor::default()).unwrap();
        assert_eq!((summary.files.len(), summary.rows), (100, 2000));
        for file in &summary.files {
            let counts = (file.rows, file.vectors_from_log, file.findings.len());
            assert_eq!(counts, (20, 20, 0), "{file:?}");
            let table = read(&output.join(&file.file), ColumnarFormat::Parquet);
            let collection = file.collection.trim_start_matches('c');
            for row in 0..20 {
                let document = utf8(&format!("{row} of {collection}"));
                assert_eq!(table.column("document")[row], document);
                assert_eq!(table.column("id")[row], utf8(&format!("id{row}")));
            }
        }
        let filter = CollectionFilter::default();
        let list = list_collections(&store, &filter, &Monitor::default()).unwrap();
        for collection in &list.collections {
            let counts = (collection.records, collection.queued, collection.state);
            assert_eq!(counts, (20, 20, CollectionState::Queued));
        }
    }
}

#[test]
fn lost_queue_rows_are_counted_for_every_affected_collection() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), Schema::Whole);
    for _ in 0..3 {
        store.add_collection(2);
    }
    for (collection, id) in [(0, "a"), (1, "a"), (2, "a"), (2, "b")] {
        store.add(collection, id, "text");
    }
    // The last row could belong to any of them.
    let update = "UPDATE embeddings_queue SET topic = x'00' WHERE seq_id = 4";
    store.database.execute(update, []).unwrap();
    store.finish();
    for name in ["c0", "c1", "c2"] {
        let (summary, _) = export(dir.path(), name);
        let damaged = summary.files[0].findings.iter();
        let damaged = damaged.filter(|finding| finding.code == "queue-damaged");
        let counts: Vec<_> = damaged.map(|finding| finding.count).collect();
        assert_eq!(counts, [1], "{name}: {:?}", codes(&summary));
    }
}

#[test]
fn a_record_can_have_many_keys_in_any_order() {
    let keys = 20_000;
    let json = shuffled_keys(keys);
    let mut sorted: Vec<&str> = json.trim_matches(['{', '}']).split(',').collect();
    sorted.sort_unstable();
    let expected = utf8(&format!("{{{}}}", sorted.join(",")));

    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), Schema::Whole);
    let collection = store.add_collection(2);
    store.queue(collection, "a", &[1.0, 2.0], &json);
    store.finish();
    let (_, table) = export(dir.path(), "c0");
    assert_eq!(table.column("metadata"), std::slice::from_ref(&expected));

    // The same for the table, without an index.
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), Schema::WithoutIndexes);
    let collection = store.add_collection(2);
    let record = store.add(collection, "a", "text");
    let mut insert = store
        .database
        .prepare("INSERT INTO embedding_metadata (id, key, int_value) SELECT ?1, key, value FROM json_each(?2)")
        .unwrap();
    insert.execute((record, &json)).unwrap();
    drop(insert);
    let number = "DELETE FROM embedding_metadata WHERE key = 'number'";
    store.database.execute(number, []).unwrap();
    store.finish();
    let (summary, table) = export(dir.path(), "c0");
    assert_eq!(table.column("metadata"), [expected]);
    assert_eq!(codes(&summary), [""; 0]);
}

/// A text of numbered words without repetition.
fn numbered(bytes: usize) -> String {
    let words = (0..bytes / 8).map(|number| format!("{number:07x} "));
    words.collect()
}

#[test]
fn a_large_document_is_written_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    let mut store = Store::create(&store_dir, Schema::Whole);
    let collection = store.add_collection(2);
    let text = numbered(3 << 20);
    store.add(collection, "before", "small");
    store.add(collection, "table", &text);
    let json = format!("{{\"chroma:document\":\"{text}\",\"note\":\"{text}\"}}");
    store.add(collection, "between", "small");
    store.finish();
    let queued = rusqlite::Connection::open(store_dir.join("chroma.sqlite3")).unwrap();
    let insert = "INSERT INTO embeddings_queue (operation, topic, id, metadata, vector, encoding)
        SELECT 0, topic, 'queue', ?1, vector, encoding FROM embeddings_queue WHERE seq_id = 1";
    queued.execute(insert, [&json]).unwrap();
    drop(queued);
    let note = utf8(&format!("{{\"note\":\"{text}\"}}"));
    for (format, compression) in [
        (ColumnarFormat::Parquet, Compression::None),
        (ColumnarFormat::Parquet, Compression::Snappy),
        (ColumnarFormat::Parquet, Compression::Zstd),
        (ColumnarFormat::ArrowIpc, Compression::None),
    ] {
        let output = dir
            .path()
            .join(format!("out.{compression}.{}", format.name()));
        let output = output.with_extension(match format {
            ColumnarFormat::ArrowIpc => "arrow",
            _ => "parquet",
        });
        let options = ExportOptions::default()
            .with_format(format)
            .with_compression(compression);
        export_collections(&store_dir, &output, &options, &Monitor::default()).unwrap();
        let table = read(&output, format);
        let documents = [utf8("small"), utf8(&text), utf8("small"), utf8(&text)];
        assert!(
            table.column("document") == documents,
            "{format:?} {compression}"
        );
        assert!(
            table.column("metadata")[3] == note,
            "{format:?} {compression}"
        );
    }
}

#[test]
fn a_cyclic_overflow_chain_holds_no_document() {
    let text = numbered(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), Schema::Whole);
    let collection = store.add_collection(2);
    store.add(collection, "a", "sound");
    store.add(collection, "b", &text);
    store.finish();
    let (summary, table) = export(dir.path(), "c0");
    assert!(table.column("document")[1] == utf8(&text));
    assert_eq!(codes(&summary), [""; 0]);

    loop_chain_at(
        &dir.path().join("chroma.sqlite3"),
        &text.as_bytes()[40_000..40_016],
    );
    let (summary, table) = export(dir.path(), "c0");
    assert_eq!(table.column("document"), [utf8("sound"), Cell::Null]);
    assert_eq!(table.column("id"), [utf8("a"), utf8("b")]);
    assert!(
        codes(&summary).contains(&"metadata-damaged"),
        "{:?}",
        codes(&summary)
    );
}

#[test]
fn a_cyclic_overflow_chain_in_the_queue_holds_nothing() {
    // The vector or the metadata of a row.
    for is_vector in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::create(dir.path(), Schema::Whole);
        let collection = store.add_collection(20_000);
        let vector: Vec<f32> = (0..20_000).map(|c| c as f32).collect();
        let text = numbered(100_000);
        let json = format!("{{\"chroma:document\":\"{text}\"}}");
        store.queue(collection, "a", &vector, &json);
        store.finish();
        let (_, table) = export(dir.path(), "c0");
        assert!(table.column("document") == [utf8(&text)]);

        let marker = match is_vector {
            true => vector[5000..5004]
                .iter()
                .flat_map(|c| c.to_le_bytes())
                .collect(),
            false => text.as_bytes()[50_000..50_016].to_vec(),
        };
        loop_chain_at(&dir.path().join("chroma.sqlite3"), &marker);
        let (summary, table) = export(dir.path(), "c0");
        assert_eq!(table.column("vector"), [Cell::Null]);
        assert_eq!(table.column("document"), [Cell::Null]);
        assert!(
            codes(&summary).contains(&"queue-metadata"),
            "{:?}",
            codes(&summary)
        );
    }
}

#[test]
fn collection_metadata_over_the_limit_is_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), Schema::Whole);
    for _ in 0..2 {
        store.add_collection(2);
    }
    let [first, second] = [0, 1].map(|number| store.collections[number][0].clone());
    let insert =
        "INSERT INTO collection_metadata (collection_id, key, str_value) VALUES (?1, ?2, ?3)";
    for key in 0..20_000 {
        store
            .database
            .execute(insert, [&first, &format!("key{key}"), "value"])
            .unwrap();
    }
    for (key, value) in [("hnsw:space", "ip"), ("note", "kept")] {
        for id in [&first, &second] {
            store.database.execute(insert, [id, key, value]).unwrap();
        }
    }
    let old = "UPDATE collections SET config_json_str = NULL, schema_str = NULL";
    store.database.execute(old, []).unwrap();
    store.finish();
    let list = list_collections(
        dir.path(),
        &CollectionFilter::default(),
        &Monitor::default(),
    )
    .unwrap();
    let found = list
        .findings
        .iter()
        .find(|finding| finding.code == "collection-metadata-limit");
    assert!(
        found.is_some_and(|found| (10_000..20_000).contains(&found.count)),
        "{found:?}"
    );
    let [many, few] = &list.collections[..] else {
        panic!("{list:?}")
    };
    // The index's build parameters are read anyway.
    assert_eq!((many.metric, few.metric), ("ip", "ip"));
    assert!(few.metadata.to_json().contains("kept"));
    assert!(many.metadata.to_json().len() < 1 << 20);
}

#[test]
fn an_export_of_many_collections_stops_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_interleaved(&store, Schema::WithoutIndexes, 1000, 20);
    let token = CancelToken::new();
    let asked = std::sync::Mutex::new(None);
    let report = |_| {
        asked.lock().unwrap().get_or_insert_with(Instant::now);
        token.cancel();
    };
    let monitor = Monitor::default().with_cancel(&token).on_progress(&report);
    let output = dir.path().join("out");
    let error = export_collections(&store, &output, &ExportOptions::default(), &monitor);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
    let asked = asked.lock().unwrap().unwrap();
    // Takes half a second on an idle machine.
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert!(!output.exists());
}
