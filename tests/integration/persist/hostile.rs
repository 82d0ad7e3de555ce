//! Malicious stores: journals that name other files, schemas with computed values, and pipes in the
//! place of files.

use std::path::Path;

use hnsw_toolbox::{list_collections, CollectionFilter, Monitor};
use rusqlite::Connection;

use super::export;
use super::variants::{contents, copy_all};
use crate::support::persist::PersistFixture;

/// The magic of a rollback journal, at its start and at the end of one that names a super-journal.
const JOURNAL_MAGIC: [u8; 8] = [0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7];

fn open(store: &Path) -> Connection {
    Connection::open(store.join("chroma.sqlite3")).unwrap()
}

/// A store as left by a process killed in a partly written transaction.
fn crashed_store() -> (PersistFixture, tempfile::TempDir) {
    let fixture = PersistFixture::unpack("1.5.9");
    let crashed = tempfile::tempdir().unwrap();
    let database = open(&fixture.dir());
    database.pragma_update(None, "cache_size", 5).unwrap();
    database
        .execute_batch(
            "BEGIN IMMEDIATE; UPDATE embedding_metadata SET string_value = 'half written';",
        )
        .unwrap();
    copy_all(&fixture.dir(), crashed.path());
    (fixture, crashed)
}

/// Appends what SQLite writes to the journal of a transaction over several databases.
fn name_super_journal(store: &Path, name: &[u8]) {
    let path = store.join("chroma.sqlite3-journal");
    let mut journal = std::fs::read(&path).unwrap();
    assert!(journal.starts_with(&JOURNAL_MAGIC));
    let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
    let length = u32::try_from(name.len()).unwrap();
    journal.extend(262_145_u32.to_be_bytes());
    journal.extend(name);
    journal.extend(length.to_be_bytes());
    journal.extend(sum.to_be_bytes());
    journal.extend(JOURNAL_MAGIC);
    std::fs::write(&path, journal).unwrap();
}

#[test]
fn a_journal_that_names_another_file_is_rejected() {
    let (_fixture, crashed) = crashed_store();
    let plain = contents(crashed.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path().join("there-mj0000009AB");
    std::fs::write(&there, b"chroma.sqlite3-journal\0").unwrap();
    let there = there.to_str().unwrap();
    // Without a rollback, the uncommitted transaction would be exported.
    for name in [there, "gone-mj0000009AB", "no name that SQLite would give"] {
        std::fs::write(
            crashed.path().join("chroma.sqlite3-journal"),
            &plain["chroma.sqlite3-journal"],
        )
        .unwrap();
        name_super_journal(crashed.path(), name.as_bytes());
        let files = contents(crashed.path());
        let filter = CollectionFilter::default();
        let error = list_collections(crashed.path(), &filter, &Monitor::default()).unwrap_err();
        assert_eq!(error.code(), 205);
        let words = error.to_string();
        let expected = format!("-journal: super-journal: found the name {name:?}, expected");
        assert!(words.contains(&expected), "{words}");
        assert_eq!(contents(crashed.path()), files);
    }
    assert!(Path::new(there).exists());
}

#[test]
fn a_journal_of_a_finished_transaction_can_name_anything() {
    let (_fixture, crashed) = crashed_store();
    let intact = PersistFixture::unpack("1.5.9");
    std::fs::copy(intact.database(), crashed.path().join("chroma.sqlite3")).unwrap();
    name_super_journal(crashed.path(), b"gone-mj0000009AB");
    // As left by `journal_mode = PERSIST`.
    let path = crashed.path().join("chroma.sqlite3-journal");
    let mut journal = std::fs::read(&path).unwrap();
    journal[..28].fill(0);
    std::fs::write(&path, journal).unwrap();
    let before = export(&intact.dir(), "articles").1;
    assert_eq!(export(crashed.path(), "articles").1, before);
}

/// Rewrites the SQL of a table in a way that no SQLite statement would.
fn forge(table: &str, from: &str, to: &str) -> String {
    format!(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema \
         SET sql = replace(sql, '{from}', '{to}') WHERE type = 'table' AND name = '{table}';"
    )
}

#[test]
fn tables_with_computed_values_are_rejected() {
    let fixture = PersistFixture::unpack("1.5.9");
    let pristine = std::fs::read(fixture.database()).unwrap();
    let embedding_id = |to: &str| forge("embeddings", "embedding_id TEXT NOT NULL", to);
    let schema_str = |to: &str| forge("collections", "schema_str TEXT", to);
    let long_default = format!("schema_str TEXT DEFAULT ''{}''", "x".repeat(100_000));
    let remade = |columns: &str| {
        format!("DROP TABLE max_seq_id; CREATE TABLE max_seq_id (segment_id TEXT{columns};")
    };
    for (sql, expected) in [
        (
            "ALTER TABLE embeddings ADD COLUMN extra AS (zeroblob(500000000))".into(),
            "embeddings.\"extra\": found a generated column, expected a stored column",
        ),
        (
            embedding_id("embedding_id TEXT AS (hex(zeroblob(400000000))) STORED"),
            "embeddings.\"embedding_id\": found a generated column, expected",
        ),
        (
            embedding_id("embedding_id TEXT AS (hex(zeroblob(400000000)))"),
            "embeddings.\"embedding_id\": found a generated column, expected",
        ),
        (
            schema_str("schema_str TEXT DEFAULT (hex(zeroblob(400000000)))"),
            "collections.\"schema_str\": found a default that is computed or long, expected",
        ),
        (
            schema_str(&long_default),
            "collections.\"schema_str\": found a default that is computed or long, expected",
        ),
        (
            embedding_id("embedding_id TEXT NOT NULL, rowid TEXT"),
            "embeddings.\"rowid\": found a column that hides the number of the row, expected",
        ),
        (
            remade(", seq_id INTEGER, _RowId_ TEXT)"),
            "max_seq_id.\"_RowId_\": found a column that hides the number of the row",
        ),
        (
            remade(", seq_id INTEGER, oid TEXT)"),
            "max_seq_id.\"oid\": found a column that hides the number of the row",
        ),
        (
            "CREATE TRIGGER waits AFTER INSERT ON embeddings BEGIN SELECT 1; END".into(),
            "embeddings: found the trigger \"waits\", expected an ordinary table",
        ),
        (
            "DROP TABLE embeddings; CREATE VIEW Embeddings AS SELECT 1 AS id".into(),
            "embeddings: found a view, expected an ordinary table",
        ),
        (
            "CREATE INDEX computed ON embeddings (length(embedding_id))".into(),
            "embeddings: found the index \"computed\" over something computed, expected",
        ),
        (
            "CREATE INDEX computed ON embeddings (id) WHERE length(embedding_id) > 3".into(),
            "embeddings: found the index \"computed\" over something computed, expected",
        ),
        (
            "DROP TABLE embedding_metadata; \
             CREATE VIRTUAL TABLE embedding_metadata USING fts5(id, key)"
                .into(),
            "embedding_metadata: found a table of another kind, expected an ordinary table",
        ),
        (
            remade(" PRIMARY KEY, seq_id INTEGER) WITHOUT ROWID"),
            "max_seq_id: found a table with \"WITHOUT ROWID\", expected an ordinary table",
        ),
        (
            remade(", seq_id INTEGER) STRICT"),
            "max_seq_id: found a table with \"STRICT\", expected an ordinary table",
        ),
        (
            remade(" COLLATE NOCASE, seq_id INTEGER)"),
            "max_seq_id: found a table with a collation, expected an ordinary table",
        ),
        (
            forge(
                "max_seq_id",
                "segment_id TEXT",
                "segment_id TEXT COLLATE unknown",
            ),
            "max_seq_id: found a table with a collation, expected an ordinary table",
        ),
    ] {
        std::fs::write(fixture.database(), &pristine).unwrap();
        let database = open(&fixture.dir());
        database.pragma_update(None, "foreign_keys", false).unwrap();
        database.execute_batch(&sql).unwrap();
        drop(database);
        let filter = CollectionFilter::default();
        let error = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap_err();
        assert_eq!(error.code(), 205, "{sql}: {error}");
        let words = error.to_string();
        assert!(
            words.contains(&format!("chroma.sqlite3: {expected}")),
            "{words}"
        );
    }
}

#[test]
fn additional_tables_of_other_programs_are_ignored() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let database = open(&fixture.dir());
    // They can contain anything; an index over Chroma's columns only makes Chroma faster.
    database
        .execute_batch(
            "CREATE INDEX theirs ON embedding_metadata (string_value, key);
             CREATE INDEX theirs_in_part ON embeddings (seq_id) WHERE embedding_id = 'x';
             CREATE TABLE other (rowid TEXT, a TEXT COLLATE NOCASE DEFAULT (hex(zeroblob(9))),
                 b AS (zeroblob(500000000)));
             CREATE INDEX other_computed ON other (length(a));
             CREATE TRIGGER other_trigger AFTER INSERT ON other BEGIN DELETE FROM other; END;
             CREATE VIEW other_view AS SELECT * FROM embeddings;
             CREATE VIRTUAL TABLE other_text USING fts5(a);",
        )
        .unwrap();
    let tables: String = (0..3000)
        .map(|number| format!("CREATE TABLE t{number} (a, b, c, d);"))
        .collect();
    database
        .execute_batch(&format!("BEGIN; {tables} COMMIT;"))
        .unwrap();
    drop(database);
    let (_, after) = export(&fixture.dir(), "articles");
    assert_eq!(after, before);
}

#[test]
fn a_sparse_database_is_copied_up_to_its_last_page() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let database = open(&fixture.dir());
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
        .execute_batch("UPDATE acquire_write SET lock_status = 0; CREATE TABLE more (a);")
        .unwrap();
    // A terabyte without data.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.database());
    file.unwrap().set_len(1 << 40).unwrap();
    let (summary, after) = export(&fixture.dir(), "articles");
    assert_eq!(summary.replayed, Some("-wal"));
    assert_eq!(after, before);
    drop(database);
}

#[cfg(unix)]
mod pipes {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::support::BINARY;

    /// Far longer than any of these commands takes, even on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(120);

    fn make_pipe(path: &Path) {
        let _ = std::fs::remove_file(path);
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    /// Runs the command in a directory, and fails if it blocks.
    fn run(directory: &Path, arguments: &[&str]) -> Output {
        let mut child = Command::new(BINARY)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > DEADLINE {
                child.kill().unwrap();
                panic!("{arguments:?} waits for ever");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn words(output: &Output) -> String {
        let words = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(!words.contains("panicked"), "{words}");
        assert!(
            output.status.code().is_some_and(|code| code != 0),
            "{words}"
        );
        words
    }

    #[test]
    fn a_pipe_named_by_a_journal_is_not_opened() {
        let (_fixture, crashed) = crashed_store();
        let directory = tempfile::tempdir().unwrap();
        make_pipe(&directory.path().join("pipe-mj0000009AB"));
        name_super_journal(crashed.path(), b"pipe-mj0000009AB");
        let store = crashed.path().to_str().unwrap();
        for arguments in [&["collections", store][..], &["export", store, "-o", "out"]] {
            let words = words(&run(directory.path(), arguments));
            assert!(words.contains("\"pipe-mj0000009AB\""), "{words}");
        }
        assert!(!directory.path().join("out").exists());
    }

    /// The commands that read a store.
    const ON_A_STORE: [&[&str]; 3] = [
        &["collections", "store"],
        &["export", "store", "-o", "out"],
        &["repair", "store", "--collection", "articles", "-o", "new"],
    ];

    /// A directory with a link to a store.
    fn beside(store: &Path) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        symlink(store, directory.path().join("store")).unwrap();
        directory
    }

    #[test]
    fn a_database_other_than_a_file_is_an_error() {
        type Obstacle = fn(&Path);
        let obstacles: [Obstacle; 5] = [
            make_pipe,
            |path| std::fs::create_dir(path).unwrap(),
            |path| drop(UnixListener::bind(path).unwrap()),
            |path| symlink("/dev/zero", path).unwrap(),
            |path| symlink(path, path).unwrap(),
        ];
        for suffix in ["", "-journal", "-wal"] {
            let fixture = PersistFixture::unpack("1.5.9");
            let directory = beside(&fixture.dir());
            let name = format!("chroma.sqlite3{suffix}");
            let path = fixture.dir().join(&name);
            for put in obstacles {
                let _ = std::fs::remove_file(&path);
                put(&path);
                for arguments in ON_A_STORE {
                    let words = words(&run(directory.path(), arguments));
                    assert!(words.contains(&format!("{name}: ")), "{words}");
                }
                let _ = std::fs::remove_dir(&path);
            }
        }
    }

    #[test]
    fn a_pipe_in_a_segment_does_not_block() {
        let fixture = PersistFixture::unpack("1.5.9");
        let directory = beside(&fixture.dir());
        for name in [
            "header.bin",
            "data_level0.bin",
            "length.bin",
            "link_lists.bin",
            "index_metadata.pickle",
        ] {
            let path = fixture.segment("articles").join(name);
            let content = std::fs::read(&path).unwrap();
            make_pipe(&path);
            for arguments in ON_A_STORE {
                // An export reads no links, and `collections` no vectors.
                let output = run(directory.path(), arguments);
                assert!(output.status.code().is_some(), "{name}: {arguments:?}");
                for made in ["out", "new"] {
                    let _ = std::fs::remove_dir_all(directory.path().join(made));
                }
            }
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, content).unwrap();
        }
    }

    #[test]
    fn a_pipe_as_input_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        make_pipe(&directory.path().join("pipe.parquet"));
        make_pipe(&directory.path().join("pipe.hnsw"));
        let inputs: [&[&str]; 6] = [
            &["build", "pipe.parquet", "-o", "out.hnsw"],
            &["inspect", "pipe.hnsw"],
            &["verify", "pipe.hnsw"],
            &["search", "pipe.hnsw", "--queries", "pipe.parquet"],
            &["recall", "pipe.hnsw", "--queries", "pipe.parquet"],
            &["recall", "pipe.hnsw"],
        ];
        for arguments in inputs {
            let words = words(&run(directory.path(), arguments));
            assert!(words.contains("pipe."), "{words}");
        }
    }
}
