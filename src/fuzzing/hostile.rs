//! Two more properties of persist directories, for states that mutations of a database rarely
//! reach.
//!
//! Journals: with any `chroma.sqlite3-journal` beside the database, the result is an answer or an
//! error about a file. A journal that names a super-journal is refused. Input: the journal.
//!
//! Schemas: a table with a hostile change is refused. Input: bytes that select the changes.

use std::path::Path;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::persist::assert_about_a_file;
use super::support::Directory;
use crate::{
    export_collections, list_collections, CollectionFilter, Error, ExportOptions, Monitor,
};

/// The first byte of a journal, as SQLite writes it.
pub(super) const JOURNAL: u8 = MAGIC[0];

/// The first byte of an input that describes a schema.
pub(super) const SCHEMA: u8 = b'!';

/// The magic bytes of a rollback journal, at its start and after the name of a super-journal.
const MAGIC: [u8; 8] = [0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7];

/// Limit on the bytes of heap for reading a small store and writing an export.
const HEAP_LIMIT: usize = 64 << 20;

/// Chroma's tables: name and columns.
const TABLES: [(&str, &[&str]); 8] = [
    (
        "databases",
        &["id TEXT PRIMARY KEY", "name TEXT", "tenant_id TEXT"],
    ),
    (
        "collections",
        &[
            "id TEXT PRIMARY KEY",
            "name TEXT",
            "dimension INTEGER",
            "database_id TEXT",
            "schema_str TEXT",
        ],
    ),
    (
        "segments",
        &[
            "id TEXT PRIMARY KEY",
            "type TEXT",
            "scope TEXT",
            "collection TEXT",
        ],
    ),
    (
        "collection_metadata",
        &[
            "collection_id TEXT",
            "key TEXT",
            "str_value TEXT",
            "int_value INTEGER",
            "float_value REAL",
        ],
    ),
    (
        "max_seq_id",
        &["segment_id TEXT PRIMARY KEY", "seq_id INTEGER"],
    ),
    (
        "embeddings",
        &[
            "id INTEGER PRIMARY KEY",
            "segment_id TEXT",
            "embedding_id TEXT",
            "seq_id BLOB",
        ],
    ),
    (
        "embedding_metadata",
        &[
            "id INTEGER",
            "key TEXT",
            "string_value TEXT",
            "int_value INTEGER",
            "float_value REAL",
        ],
    ),
    (
        "embeddings_queue",
        &[
            "seq_id INTEGER PRIMARY KEY",
            "operation INTEGER",
            "topic TEXT",
            "id TEXT",
            "vector BLOB",
            "encoding TEXT",
            "metadata TEXT",
        ],
    ),
];

const ROWS: &str = "
    INSERT INTO databases VALUES ('d', 'default_database', 'default_tenant');
    INSERT INTO collections (id, name, dimension, database_id) VALUES ('c', 'name', 2, 'd');
    INSERT INTO segments VALUES
        ('v', 'urn:chroma:segment/vector/hnsw-local-persisted', 'VECTOR', 'c'),
        ('m', 'urn:chroma:segment/metadata/sqlite', 'METADATA', 'c');
    INSERT INTO embeddings VALUES (1, 'm', 'a', 1), (2, 'm', 'b', 2);
    INSERT INTO embeddings_queue VALUES
        (1, 0, 'persistent://default/default/c', 'a', x'0000803F00000040', 'FLOAT32', NULL),
        (2, 0, 'persistent://default/default/c', 'b', x'0000803F00000040', 'FLOAT32', NULL);";

/// Expressions that take much memory or time to evaluate, and a cheap one.
const COMPUTED: [&str; 5] = [
    "zeroblob(400000000)",
    "hex(zeroblob(100000000))",
    "printf('%.99999999c', 'x')",
    "replace(hex(zeroblob(9999)), '00', hex(zeroblob(9999)))",
    "length('x')",
];

fn create(table: &str, columns: &[String], options: &str) -> String {
    format!("CREATE TABLE {table} ({}) {options};", columns.join(", "))
}

fn columns(of: &[&str]) -> Vec<String> {
    of.iter().map(|column| (*column).to_string()).collect()
}

fn sound_schema() -> String {
    let tables = TABLES.iter();
    tables
        .map(|(table, of)| create(table, &columns(of), ""))
        .collect()
}

/// Returns a database with one collection of two records, in pages of 512 bytes.
fn sound_database() -> &'static [u8] {
    static DATABASE: OnceLock<Vec<u8>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let directory = Directory::new();
        let path = directory.path().join("chroma.sqlite3");
        let connection = Connection::open(&path).unwrap();
        let sql = format!("PRAGMA page_size = 512; {}{ROWS}", sound_schema());
        connection.execute_batch(&sql).unwrap();
        drop(connection);
        std::fs::read(path).unwrap()
    })
}

/// Lists and exports the store.
fn read_store(
    directory: &Directory,
    peak_of: impl Fn(&mut dyn FnMut()) -> usize,
) -> Result<u64, Error> {
    let persist = directory.path().join("persist");
    let output = directory.path().join("out");
    let mut results = None;
    let peak = peak_of(&mut || {
        let (filter, monitor) = (CollectionFilter::default(), Monitor::default());
        let options = ExportOptions::default();
        results = Some((
            list_collections(&persist, &filter, &monitor),
            export_collections(&persist, &output, &options, &monitor),
        ));
    });
    assert!(peak <= HEAP_LIMIT, "{peak} bytes of heap for a small store");
    let (listed, exported) = results.unwrap();
    for error in [listed.as_ref().err(), exported.as_ref().err()] {
        error.into_iter().for_each(assert_about_a_file);
    }
    assert!(listed.is_ok() || exported.is_err(), "exported, not listed");
    exported.map(|summary| summary.rows)
}

/// Returns true if SQLite would look for a super-journal, by its own rules on Unix.
fn names_super_journal(journal: &[u8]) -> bool {
    let Some((rest, trailer)) = journal.split_last_chunk::<16>() else {
        return false;
    };
    // The trailer: length of the name, sum of its bytes, and the magic.
    let number = |at: usize| u32::from_be_bytes(*trailer[at..].first_chunk().unwrap());
    let length = number(0) as usize;
    if !trailer.ends_with(&MAGIC) || !(1..=512).contains(&length) || length > rest.len() {
        return false;
    }
    let name = &rest[rest.len() - length..];
    let sum = name
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    // For C, the name ends at the first zero byte.
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let Some((_, end)) = name.split_last_chunk::<12>() else {
        return false;
    };
    let is_name =
        end.starts_with(b"-mj") && end[9] == b'9' && end[3..].iter().all(u8::is_ascii_hexdigit);
    is_name && name.is_ascii() && sum == number(4)
}

/// The property for journals.
pub(super) fn journal(journal: &[u8], peak_of: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
    let directory = Directory::new();
    directory.write("persist/chroma.sqlite3", sound_database());
    directory.write("persist/chroma.sqlite3-journal", journal);
    let result = read_store(&directory, peak_of);
    if names_super_journal(journal) {
        let error = result.expect_err("the journal names another file");
        assert!(error.to_string().contains("super-journal"), "{error}");
    }
    true
}

/// Returns the SQL for the table, column and change that the bytes select.
fn hostile_change([change, table, column, computed]: [u8; 4]) -> String {
    let (table, of) = TABLES[usize::from(table) % TABLES.len()];
    let mut columns = columns(of);
    let computed = COMPUTED[usize::from(computed) % COMPUTED.len()];
    let name = |column: &str| column.split(' ').next().unwrap_or_default().to_string();
    let changed = usize::from(column) % columns.len();
    let first = name(&columns[0]);
    let mut options = "";
    let mut more = String::new();
    let column = &mut columns[changed];
    match change % 12 {
        0 => *column = format!("{} AS ({computed})", name(column)),
        1 => *column = format!("{} AS ({computed}) STORED", name(column)),
        2 => column.push_str(&format!(" DEFAULT ({computed})")),
        3 => column.push_str(&format!(" DEFAULT '{}'", "x".repeat(65_536))),
        4 => column.push_str(" COLLATE NOCASE"),
        5 => columns.push("rowid TEXT".into()),
        6 => columns.push("_ROWID_ TEXT".into()),
        7 => options = "STRICT",
        8 => {
            more = format!("CREATE TRIGGER t AFTER INSERT ON {table} BEGIN SELECT {computed}; END;")
        }
        9 => more = format!("CREATE INDEX i ON {table} (length({first}), {computed});"),
        10 => {
            return format!("CREATE VIEW {table} AS SELECT {computed} AS {first};");
        }
        _ => {
            let columns: Vec<_> = of.iter().map(|column| name(column)).collect();
            return format!(
                "CREATE VIRTUAL TABLE {table} USING fts5({});",
                columns.join(", ")
            );
        }
    }
    create(table, &columns, options) + &more
}

/// The property for schemas.
pub(super) fn schema(choices: &[u8], peak_of: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
    let (changes, _) = choices.as_chunks::<4>();
    let Some(first) = changes.first() else {
        return false;
    };
    let directory = Directory::new();
    let path = directory.write("persist/chroma.sqlite3", b"");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA page_size = 512; BEGIN;")
        .unwrap();
    // Only the first change to a table takes effect, and invalid SQL is no change.
    let mut is_hostile = false;
    for change in changes.iter().take(TABLES.len()) {
        is_hostile |= connection.execute_batch(&hostile_change(*change)).is_ok();
    }
    if !is_hostile {
        return false;
    }
    for (table, of) in TABLES {
        let _ = connection.execute_batch(&create(table, &columns(of), ""));
    }
    connection.execute_batch("COMMIT").unwrap();
    drop(connection);
    make_old(&path);
    let error = read_store(&directory, peak_of).expect_err(&hostile_change(*first));
    assert_eq!(error.code(), 205, "{error}");
    true
}

/// Sets an old modification time, so that the database opens without delay: see
/// [`Directory::write`].
fn make_old(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a closure without counting its heap.
    fn uncounted(read: &mut dyn FnMut()) -> usize {
        read();
        0
    }

    #[test]
    fn the_sound_store_is_read() {
        let directory = Directory::new();
        directory.write("persist/chroma.sqlite3", sound_database());
        assert_eq!(read_store(&directory, uncounted).unwrap(), 2);
    }

    #[test]
    fn every_hostile_change_is_refused() {
        for change in 0..12 {
            for table in 0..u8::try_from(TABLES.len()).unwrap() {
                // The last column, because it is not part of a primary key.
                let last = u8::try_from(TABLES[usize::from(table)].1.len() - 1).unwrap();
                let choices = [change, table, last, table % 5];
                assert!(schema(&choices, uncounted), "{}", hostile_change(choices));
            }
        }
    }
}
