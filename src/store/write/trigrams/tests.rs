use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::super::{check_tables, Closed, DatabaseWriter, FullText, LastWrite, Part};
use super::*;
use crate::base::progress::CancelToken;
use crate::error::ErrorKind;

const TABLE: &str = "embedding_fulltext_search";

/// Leaves of a few postings, so that small tests have many.
const SMALL_LEAVES: Limits = Limits {
    posting_bytes: MAX_POSTING_BYTES,
    document_bytes: MAX_DOCUMENT_BYTES,
    leaf_bytes: 64,
};

/// One run for each document.
const MANY_RUNS: Limits = Limits {
    posting_bytes: 0,
    ..SMALL_LEAVES
};

struct Store {
    directory: TempDir,
}

impl Store {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A database with these documents, and without a full-text table.
    fn create(&self, name: &str, documents: &[(i64, Value)]) -> DatabaseWriter {
        let writer = DatabaseWriter::open(
            &self.path(name),
            OpenFlags::SQLITE_OPEN_CREATE,
            true,
            LastWrite::default(),
            &Monitor::default(),
        )
        .unwrap();
        writer
            .connection
            .execute_batch(
                "CREATE TABLE embeddings (id INTEGER PRIMARY KEY); \
                 CREATE TABLE embedding_metadata (id INTEGER, key TEXT, string_value TEXT, \
                 PRIMARY KEY (id, key));",
            )
            .unwrap();
        for (id, document) in documents {
            let insert = "INSERT INTO embeddings VALUES (?1)";
            writer.execute(insert, &[id]).unwrap();
            let insert = "INSERT INTO embedding_metadata VALUES (?1, 'chroma:document', ?2)";
            writer.execute(insert, &[id, document]).unwrap();
        }
        writer
    }

    /// Builds the table. Returns the number of documents left to FTS5.
    fn build(&self, documents: &[(i64, Value)], limits: Limits) -> (Closed, usize) {
        let writer = self.create("built", documents);
        let monitor = Monitor::default();
        let left = writer.build_full_text(limits, &monitor).unwrap();
        let closed = writer.close().unwrap();
        closed.complete_full_text(left, &monitor).unwrap();
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        assert_eq!(files.count(), 1, "the temporary file is gone");
        (closed, left)
    }

    /// Lets FTS5 build the table.
    fn insert(&self, documents: &[(i64, Value)]) -> Connection {
        let writer = self.create("inserted", documents);
        writer.insert_full_text().unwrap();
        writer.close().unwrap();
        Connection::open(self.path("inserted")).unwrap()
    }
}

fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Vec<(i64, Value)> {
    let texts = texts.into_iter().map(|text| text.as_ref().to_owned());
    (1..).zip(texts.map(Value::Text)).collect()
}

fn rows(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect());
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn assert_sound(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let check = format!("INSERT INTO {TABLE}({TABLE}) VALUES ('integrity-check')");
    connection.execute_batch(&check).unwrap();
    assert_eq!(
        rows(&connection, "PRAGMA integrity_check"),
        [[Value::Text("ok".into())]]
    );
}

fn instances(connection: &Connection) -> Vec<Vec<Value>> {
    let create = format!(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.instances USING fts5vocab(main, {TABLE}, instance)"
    );
    connection.execute_batch(&create).unwrap();
    rows(
        connection,
        "SELECT term, doc, col, offset FROM temp.instances",
    )
}

/// Compares the built table with one of FTS5, before and after more writes.
fn assert_equal_to_fts5(documents: &[(i64, Value)], limits: Limits) {
    let store = Store::new();
    let (closed, _) = store.build(documents, limits);
    assert_sound(&closed.path);
    let built = Connection::open(&closed.path).unwrap();
    let inserted = store.insert(documents);
    assert_eq!(instances(&built), instances(&inserted));
    for shadow in ["content", "docsize"] {
        let sql = format!("SELECT * FROM {TABLE}_{shadow}");
        assert_eq!(rows(&built, &sql), rows(&inserted, &sql));
    }
    let averages = format!("SELECT block FROM {TABLE}_data WHERE id = 1");
    assert_eq!(rows(&built, &averages), rows(&inserted, &averages));
    let terms = rows(&built, "SELECT DISTINCT term FROM temp.instances");
    let pieces = terms.iter().step_by(1 + terms.len() / 20).flatten();
    for piece in pieces.chain([&Value::Text("a".into()), &Value::Text("nowhere".into())]) {
        let Value::Text(piece) = piece else { panic!() };
        let quoted = piece.replace('\'', "''");
        for order in ["", "DESC"] {
            for condition in [
                format!("MATCH '\"{}\"'", quoted.replace('"', "\"\"")),
                format!("LIKE '%{quoted}%'"),
            ] {
                let sql = format!(
                    "SELECT rowid FROM {TABLE} WHERE string_value {condition} ORDER BY rowid {order}"
                );
                assert_eq!(rows(&built, &sql), rows(&inserted, &sql), "{sql}");
            }
        }
    }
    for connection in [&built, &inserted] {
        for write in [
            format!(
                "INSERT INTO {TABLE} (rowid, string_value) VALUES (70000, 'An added document')"
            ),
            format!("UPDATE {TABLE} SET string_value = 'another text' WHERE rowid % 3 = 1"),
            format!("DELETE FROM {TABLE} WHERE rowid % 5 = 2"),
        ] {
            connection.execute_batch(&write).unwrap();
        }
    }
    assert_sound(&closed.path);
    assert_eq!(instances(&built), instances(&inserted));
    let optimize = format!("INSERT INTO {TABLE}({TABLE}) VALUES ('optimize')");
    built.execute_batch(&optimize).unwrap();
    assert_sound(&closed.path);
    assert_eq!(instances(&built), instances(&inserted));
}

fn assert_equal_to_fts5_with_any_limits(documents: &[(i64, Value)]) {
    for limits in [Limits::default(), SMALL_LEAVES, MANY_RUNS] {
        assert_equal_to_fts5(documents, limits);
    }
}

#[test]
fn a_table_without_documents_is_sound() {
    assert_equal_to_fts5_with_any_limits(&[]);
}

#[test]
fn short_documents_have_rows_without_trigrams() {
    assert_equal_to_fts5_with_any_limits(&texts(["", "a", "ab", "é", "日本"]));
    assert_equal_to_fts5_with_any_limits(&texts(["", "a", "ab", "abc", "ABCD", "日本語"]));
}

#[test]
fn rowids_may_be_negative_and_far_apart() {
    let rowids = [i64::MIN, -5, 0, 7, 1 << 40, i64::MAX - 1];
    let documents = rowids.map(|rowid| (rowid, Value::Text(format!("about {rowid}"))));
    assert_equal_to_fts5_with_any_limits(&documents);
}

#[test]
fn letters_are_folded_as_fts5_folds_them() {
    // All characters of the blocks with letters in two cases, and some others.
    let codes = (1..0x600).chain(0x1C80..0x2200).chain(0x2C00..0x2E00);
    let codes = codes.chain(0xA640..0xAC00).chain(0xFB00..0x1_0000);
    let codes = codes.chain(0x1_0400..0x1_0500).chain(0x1_E900..0x1_E950);
    let characters: Vec<_> = codes.filter_map(char::from_u32).collect();
    let documents = characters.chunks(100).map(String::from_iter);
    assert_equal_to_fts5(&texts(documents), Limits::default());
}

#[test]
fn characters_that_fts5_skips_or_replaces_are_too() {
    assert_equal_to_fts5_with_any_limits(&texts([
        "a\0bcd",
        "\0\0\0",
        "ab\0",
        "é\0\0àB",
        "\u{FFFE}\u{FFFF}x",
        "\u{10FFFF}\u{10000}'\"%",
    ]));
}

#[test]
fn values_that_are_not_utf_8_are_left_to_fts5() {
    let documents = [
        (1, Value::Text("Sound text".into())),
        (2, Value::Blob(b"a blob".into())),
        (3, Value::Text("more of it".into())),
        (4, Value::Blob(b"\xFF\xFE\xFD of no text".into())),
    ];
    let store = Store::new();
    let (closed, left) = store.build(&documents, Limits::default());
    assert_eq!(left, 2);
    assert_sound(&closed.path);
    let built = Connection::open(&closed.path).unwrap();
    assert_eq!(instances(&built), instances(&store.insert(&documents)));
}

#[test]
fn long_documents_are_left_to_fts5() {
    let limits = Limits {
        document_bytes: 20,
        ..SMALL_LEAVES
    };
    let documents = texts((0..300).map(|number| "some words ".repeat(number % 5)));
    assert_equal_to_fts5(&documents, limits);
    let (_, left) = Store::new().build(&documents, limits);
    assert_eq!(left, 180);
}

#[test]
fn a_huge_document_of_one_letter_fills_leaves_without_rowids() {
    let huge = "A".repeat(2_000_000);
    let store = Store::new();
    let documents = texts(["aaa", &huge, "aaaa", "b"]);
    let (closed, left) = store.build(&documents, Limits::default());
    assert_eq!(left, 0);
    assert_sound(&closed.path);
    let built = Connection::open(&closed.path).unwrap();
    assert_eq!(instances(&built), instances(&store.insert(&documents)));
    assert_equal_to_fts5(
        &texts(["aaa", &"a".repeat(9_999), "aaaa", "b"]),
        SMALL_LEAVES,
    );
    assert_equal_to_fts5(&texts(["x", "ab".repeat(5_000).as_str()]), MANY_RUNS);
}

/// The pages of doclist indexes by height.
fn index_pages(connection: &Connection) -> Vec<Vec<Value>> {
    let height = "id >> 31 & 31";
    rows(
        connection,
        &format!(
            "SELECT {height}, count(*) FROM {TABLE}_data WHERE id >> 36 & 1 GROUP BY {height}"
        ),
    )
}

#[test]
fn a_trigram_of_every_document_has_an_index() {
    let documents = texts((0..3_000).map(|number| format!("The {number}. document")));
    assert_equal_to_fts5(&documents, SMALL_LEAVES);
    let store = Store::new();
    let (closed, _) = store.build(&documents, SMALL_LEAVES);
    let built = Connection::open(&closed.path).unwrap();
    let heights = index_pages(&built).len();
    assert!(heights >= 2, "{heights} levels");
    // Seeks by the index: both trigrams are in few common documents.
    let found = rows(
        &built,
        &format!("SELECT rowid FROM {TABLE} WHERE string_value LIKE '%the 2999.%'"),
    );
    assert_eq!(found, [[Value::Integer(3_000)]]);
}

#[test]
fn full_leaves_have_the_size_of_fts5() {
    let documents = texts((0..9_000).map(|number| format!("The {number}. Document of many")));
    assert_equal_to_fts5(&documents, Limits::default());
    let store = Store::new();
    let (closed, _) = store.build(&documents, Limits::default());
    let built = Connection::open(&closed.path).unwrap();
    let longest = format!("SELECT max(length(block)) FROM {TABLE}_data");
    let longest = count(&built, &longest);
    assert!((4_040..=4_050).contains(&longest), "{longest} bytes");
    // FTS5 indexes the same doclists, once they are in one segment.
    let inserted = store.insert(&documents);
    let optimize = format!("INSERT INTO {TABLE}({TABLE}) VALUES ('optimize')");
    inserted.execute_batch(&optimize).unwrap();
    let leaves = format!("SELECT count(*) FROM {TABLE}_data WHERE id >> 37");
    let (ours, theirs) = (count(&built, &leaves), count(&inserted, &leaves));
    assert!(ours.abs_diff(theirs) <= 3, "{ours} leaves and {theirs}");
    let indexed = format!("SELECT count(*) FROM {TABLE}_idx WHERE pgno & 1");
    assert_eq!(count(&built, &indexed), count(&inserted, &indexed));
    assert!(count(&built, &indexed) > 0);
}

#[test]
fn later_writes_do_not_merge_the_large_segment() {
    let documents = texts((0..9_000).map(|number| format!("The {number}. Document of many")));
    let store = Store::new();
    let (closed, _) = store.build(&documents, Limits::default());
    let built = Connection::open(&closed.path).unwrap();
    let large = format!("SELECT count(*) FROM {TABLE}_data WHERE id >> 37 = 1");
    let leaves = count(&built, &large);
    for _ in 0..40 {
        let insert = format!("INSERT INTO {TABLE} (string_value) VALUES ('A new document')");
        built.execute_batch(&insert).unwrap();
    }
    assert_eq!(count(&built, &large), leaves);
    assert_sound(&closed.path);
}

#[test]
fn an_unsound_table_is_replaced_by_one_of_fts5() {
    let documents = texts(["some text", "more text", "\u{e9}t\u{e9}"]);
    let store = Store::new();
    let (closed, _) = store.build(&documents, Limits::default());
    let monitor = Monitor::default();
    let check = |part| check_tables(&closed.path, part, &monitor).unwrap();
    assert_eq!(check(Part::FullText), None);
    let damage = Connection::open(&closed.path).unwrap();
    // A position more than there is.
    let sql = format!("UPDATE {TABLE}_docsize SET sz = x'01' WHERE id = 2");
    damage.execute_batch(&sql).unwrap();
    drop(damage);
    assert!(check(Part::FullText).is_some());
    assert_eq!(closed.insert_full_text(&monitor).unwrap(), FullText::Built);
    assert_eq!(check(Part::FullText), None);
    assert_sound(&closed.path);
    let built = Connection::open(&closed.path).unwrap();
    assert_eq!(instances(&built), instances(&store.insert(&documents)));
}

#[test]
fn a_cancelled_build_leaves_no_temporary_file() {
    let token = CancelToken::new();
    let monitor = Monitor::default().with_cancel(&token);
    let store = Store::new();
    let writer = store.create("built", &[]);
    writer.insert_full_text().unwrap();
    let mut table = TrigramWriter::new(&writer, TABLE, MANY_RUNS).unwrap();
    table.push(1, "some text", &monitor).unwrap();
    assert_eq!(
        std::fs::read_dir(store.directory.path()).unwrap().count(),
        2
    );
    token.cancel();
    let error = table.push(2, "some text", &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    drop(table);
    assert_eq!(
        std::fs::read_dir(store.directory.path()).unwrap().count(),
        1
    );
}

#[test]
fn varints_are_those_of_sqlite() {
    let powers = (0..64).map(|shift| 1_u64 << shift);
    for value in powers
        .flat_map(|power| [power - 1, power, power + 1])
        .chain([u64::MAX])
    {
        let mut bytes = Vec::new();
        push_varint(&mut bytes, value);
        assert_eq!(bytes.len(), varint_bytes(value), "{value}");
        let read = crate::store::trees::varint(&bytes);
        assert_eq!(read, Some((value, bytes.len())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_documents_are_indexed_as_by_fts5(
        documents in prop::collection::vec(
            prop_oneof![
                "[a-cA-C ]{0,60}",
                "[ -~]{0,200}",
                "[a-bÀ-ÿА-я日-月]{0,40}",
                any::<String>(),
            ],
            0..60,
        ),
        posting_bytes in prop_oneof![Just(0), Just(5_000), Just(MAX_POSTING_BYTES)],
        leaf_bytes in 40_usize..300,
    ) {
        let limits = Limits { posting_bytes, leaf_bytes, ..Limits::default() };
        assert_equal_to_fts5(&texts(documents), limits);
    }
}
