//! Locked, damaged and missing databases, and unusable outputs.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use hnsw_toolbox::{
    export_collections, list_collections, CancelToken, CollectionFilter, CollectionList,
    ExportOptions, ExportSummary, Monitor, Progress, Result,
};
use rusqlite::Connection;

use super::{codes, export, only};
use crate::support::persist::PersistFixture;
use crate::support::table::Cell;
use crate::support::{extent, Random, BINARY};

fn list(dir: &Path) -> Result<CollectionList> {
    list_collections(dir, &CollectionFilter::default(), &Monitor::default())
}

fn export_all(dir: &Path, output: &Path) -> Result<ExportSummary> {
    export_collections(dir, output, &ExportOptions::default(), &Monitor::default())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Started by the test below as a separate process.
#[test]
fn hold_a_lock() {
    let Ok(path) = std::env::var("HNSW_TOOLBOX_TEST_LOCK") else {
        return;
    };
    let database = Connection::open(path).unwrap();
    database
        .pragma_update(None, "locking_mode", "exclusive")
        .unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    println!("locked");
    std::io::stdout().flush().unwrap();
    // Until the test closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_database_locked_by_another_process_is_read() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "persist::faults::hold_a_lock", "--nocapture"])
        .env("HNSW_TOOLBOX_TEST_LOCK", fixture.database())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    let locked = Connection::open(fixture.database()).unwrap();
    assert!(locked.execute_batch("SELECT * FROM collections").is_err());
    let (_, after) = export(&fixture.dir(), "articles");
    assert_eq!(after, before);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

#[test]
fn files_other_than_databases_are_rejected_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("chroma.sqlite3");
    let error = list(directory.path()).unwrap_err();
    assert_eq!(error.code(), 301);
    assert!(error
        .to_string()
        .contains("a directory without chroma.sqlite3"));
    for (bytes, found) in [
        (&b""[..], "an empty file"),
        (b"SQLite", "6 bytes"),
        (
            &[0; 4096],
            "4096 bytes that do not begin as a SQLite database does",
        ),
        (b"SQLite format 3\0", "not a database"),
    ] {
        std::fs::write(&database, bytes).unwrap();
        let error = list(directory.path()).unwrap_err();
        assert_eq!(error.code(), 205, "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
    std::fs::remove_file(&database).unwrap();
    std::fs::create_dir(&database).unwrap();
    assert_eq!(list(directory.path()).unwrap_err().code(), 301);
}

#[test]
fn a_segment_directory_is_not_a_persist_directory() {
    let fixture = PersistFixture::unpack("1.5.9");
    let error = list(&fixture.segment("articles")).unwrap_err();
    assert_eq!(error.code(), 301);
    assert!(
        error.to_string().contains("a vector segment directory"),
        "{error}"
    );
}

#[test]
fn a_database_of_another_program_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let database = Connection::open(directory.path().join("chroma.sqlite3")).unwrap();
    database.execute_batch("CREATE TABLE other (id)").unwrap();
    let error = list(directory.path()).unwrap_err();
    assert_eq!(error.code(), 205);
    assert!(
        error.to_string().contains("no table collections"),
        "{error}"
    );
}

#[test]
fn views_are_not_accepted_as_tables() {
    let fixture = PersistFixture::unpack("1.5.9");
    let database = Connection::open(fixture.database()).unwrap();
    database
        .execute_batch(
            "DROP TABLE collections;
             CREATE VIEW collections AS
             WITH RECURSIVE forever(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM forever)
             SELECT id, id AS name, id AS dimension, id AS database_id FROM forever;",
        )
        .unwrap();
    drop(database);
    let error = list(&fixture.dir()).unwrap_err();
    let words = "collections: found a view, expected an ordinary table";
    assert!(error.to_string().ends_with(words), "{error}");
}

#[test]
fn each_table_may_be_missing() {
    for table in [
        "tenants",
        "databases",
        "migrations",
        "max_seq_id",
        "collection_metadata",
        "segment_metadata",
        "embedding_metadata_array",
        "embedding_metadata",
        "embeddings_queue",
        "embedding_fulltext_search",
        "embeddings",
        "segments",
        "collections",
    ] {
        let fixture = PersistFixture::unpack("1.5.9");
        let database = Connection::open(fixture.database()).unwrap();
        database.pragma_update(None, "foreign_keys", false).unwrap();
        database
            .execute_batch(&format!("DROP TABLE {table}"))
            .unwrap();
        drop(database);
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let result = export_all(&fixture.dir(), &output);
        match table {
            "segments" | "collections" => {
                let error = result.unwrap_err();
                assert!(error.to_string().contains(table), "{error}");
                assert!(!output.exists());
            }
            "embeddings" => {
                // Only the index and the tail of the queue have ids then.
                let summary = result.unwrap();
                let purged = summary
                    .files
                    .iter()
                    .find(|file| file.collection == "wal_purged");
                assert!(purged.unwrap().rows >= 2000, "{purged:?}");
            }
            _ => {
                assert_eq!(result.unwrap().rows, 4917, "{table}");
            }
        }
    }
}

fn below(random: &mut Random, end: u64) -> u64 {
    random.next() % end
}

/// The leaf pages of a table or index.
fn pages_of(database: &Path, name: &str) -> Vec<u64> {
    pages_of_kind(database, name, "leaf")
}

fn pages_of_kind(database: &Path, name: &str, kind: &str) -> Vec<u64> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY path")
        .unwrap();
    let pages = statement
        .query_map([name, kind], |row| row.get::<_, i64>(0))
        .unwrap();
    pages.map(|page| page.unwrap() as u64).collect()
}

fn overwrite_page(database: &Path, page: u64, byte: u8) {
    use std::io::Seek;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(database)
        .unwrap();
    file.seek(std::io::SeekFrom::Start((page - 1) * 4096))
        .unwrap();
    file.write_all(&[byte; 4096]).unwrap();
}

#[test]
fn damaged_full_text_tables_do_not_matter() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    for name in [
        "embedding_fulltext_search_data",
        "embedding_fulltext_search_content",
        "embedding_fulltext_search_idx",
        "embedding_metadata_string_value",
    ] {
        for page in pages_of(&fixture.database(), name) {
            overwrite_page(&fixture.database(), page, 0x55);
        }
    }
    let (summary, after) = export(&fixture.dir(), "articles");
    assert_eq!(after, before);
    assert!(!summary.files[0]
        .findings
        .iter()
        .any(|finding| finding.code.ends_with("damaged")));
}

#[test]
fn damaged_pages_are_skipped_and_counted() {
    for (table, code) in [
        ("embeddings_queue", "queue-damaged"),
        ("embedding_metadata", "metadata-damaged"),
        ("embedding_metadata_array", "metadata-damaged"),
    ] {
        let fixture = PersistFixture::unpack("1.5.9");
        let (_, before) = export(&fixture.dir(), "articles");
        let pages = pages_of(&fixture.database(), table);
        overwrite_page(&fixture.database(), pages[pages.len() / 2], 0);
        let directory = tempfile::tempdir().unwrap();
        let summary = export_all(&fixture.dir(), &directory.path().join("out")).unwrap();
        let mut findings = summary.files.iter().flat_map(|file| &file.findings);
        assert!(findings.any(|finding| finding.code == code), "{table}");
        let (_, after) = export(&fixture.dir(), "articles");
        assert_eq!(after.column("id"), before.column("id"), "{table}");
        let differences = |name: &str| {
            let pairs = before.column(name).iter().zip(after.column(name));
            pairs.filter(|(before, after)| before != after).count()
        };
        let lost = ["vector", "document", "metadata"].map(differences);
        assert!(lost.iter().all(|lost| *lost < 100), "{table}: {lost:?}");
    }
}

#[test]
fn table_and_index_replace_each_others_damage() {
    for table in [
        "sqlite_autoindex_embedding_metadata_1",
        "embedding_metadata_array_id_key",
        "sqlite_autoindex_embeddings_1",
        "sqlite_autoindex_max_seq_id_1",
        "sqlite_autoindex_collections_1",
        "embeddings",
    ] {
        let fixture = PersistFixture::unpack("1.5.9");
        let (_, before) = export(&fixture.dir(), "articles");
        for page in pages_of(&fixture.database(), table).into_iter().step_by(2) {
            overwrite_page(&fixture.database(), page, 0);
        }
        let (_, after) = export(&fixture.dir(), "articles");
        for column in ["id", "vector", "document", "uri", "metadata"] {
            assert_eq!(
                after.column(column),
                before.column(column),
                "{table}, {column}"
            );
        }
    }
}

#[test]
fn a_cyclic_table_is_read_once() {
    for (table, code) in [
        ("embeddings_queue", "queue-damaged"),
        ("embeddings", "records-damaged"),
    ] {
        let fixture = PersistFixture::unpack("1.5.9");
        let database = fixture.database();
        let first = u32::try_from(pages_of(&database, table)[0]).unwrap();
        let mut bytes = std::fs::read(&database).unwrap();
        // The last child of each interior page is the first leaf; the index does not help.
        for page in pages_of_kind(&database, table, "internal") {
            let last_child = (page as usize - 1) * 4096 + 8;
            bytes[last_child..last_child + 4].copy_from_slice(&first.to_be_bytes());
        }
        for page in pages_of(&database, &format!("sqlite_autoindex_{table}_1")) {
            bytes[(page as usize - 1) * 4096..][..4096].fill(0);
        }
        std::fs::write(&database, bytes).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let summary = export_all(&fixture.dir(), &directory.path().join("out")).unwrap();
        let mut findings = summary.files.iter().flat_map(|file| &file.findings);
        assert!(findings.any(|finding| finding.code == code), "{table}");
        assert!(summary.rows > 1000, "{table}: {}", summary.rows);
    }
}

#[test]
fn rows_missing_from_an_index_are_found_in_the_table() {
    for table in [
        "sqlite_autoindex_embeddings_1",
        "sqlite_autoindex_embedding_metadata_1",
        "embedding_metadata_array_id_key",
    ] {
        let fixture = PersistFixture::unpack("1.5.9");
        let (_, before) = export(&fixture.dir(), "articles");
        // As after a power failure with only part of the pages written: each leaf lacks its last
        // entry, which SQLite cannot detect.
        let mut bytes = std::fs::read(fixture.database()).unwrap();
        for page in pages_of(&fixture.database(), table) {
            let count = (page as usize - 1) * 4096 + 3;
            let cells = u16::from_be_bytes([bytes[count], bytes[count + 1]]);
            bytes[count..count + 2].copy_from_slice(&(cells - 1).to_be_bytes());
        }
        std::fs::write(fixture.database(), bytes).unwrap();
        let (_, after) = export(&fixture.dir(), "articles");
        for column in ["id", "vector", "document", "uri", "metadata"] {
            let (before, after) = (before.column(column), after.column(column));
            assert_eq!(after, before, "{table}, {column}");
        }
    }
}

#[test]
fn an_index_with_wrong_rowids_is_not_used() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let mut bytes = std::fs::read(fixture.database()).unwrap();
    for page in pages_of(&fixture.database(), "sqlite_autoindex_embeddings_1") {
        let page = &mut bytes[(page as usize - 1) * 4096..][..4096];
        // The rowid ends the payload; the payload starts with its length.
        let cell = usize::from(u16::from_be_bytes([page[8], page[9]]));
        let end = cell + 1 + usize::from(page[cell]);
        page[end - 1] ^= 0x55;
    }
    std::fs::write(fixture.database(), bytes).unwrap();
    let (_, after) = export(&fixture.dir(), "articles");
    assert_eq!(after, before);
}

#[test]
fn rows_unreachable_by_their_rowid_are_exported() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let mut bytes = std::fs::read(fixture.database()).unwrap();
    for page in pages_of_kind(&fixture.database(), "embeddings", "internal") {
        let page = &mut bytes[(page as usize - 1) * 4096..][..4096];
        // All rows of the first child except one are now looked up in the second.
        let cell = usize::from(u16::from_be_bytes([page[12], page[13]]));
        let key = cell + 4;
        assert!(page[key] < 0x80, "a rowid of one byte");
        page[key] = 1;
    }
    std::fs::write(fixture.database(), bytes).unwrap();
    let (_, after) = export(&fixture.dir(), "articles");
    for column in ["id", "vector", "document", "uri", "metadata"] {
        assert_eq!(after.column(column), before.column(column), "{column}");
    }
}

#[test]
fn ids_lost_by_the_tables_come_from_the_index() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "ip_default");
    for table in ["embeddings", "sqlite_autoindex_embeddings_1"] {
        for page in pages_of(&fixture.database(), table) {
            overwrite_page(&fixture.database(), page, 0);
        }
    }
    let (summary, after) = export(&fixture.dir(), "ip_default");
    let findings = summary.files[0].findings.iter();
    let codes: Vec<_> = findings.map(|finding| finding.code).collect();
    assert!(codes.contains(&"records-damaged") && codes.contains(&"vector-without-record"));
    // Every vector is present, including the queue's, but no document.
    let rows = |table: &crate::support::table::Table| {
        let ids = table.column("id").iter().cloned();
        let mut rows: Vec<_> = ids.zip(table.column("vector").iter().cloned()).collect();
        rows.sort_by_key(|(id, _)| format!("{id:?}"));
        rows
    };
    assert_eq!(rows(&after), rows(&before));
    assert!(after
        .column("document")
        .iter()
        .all(|document| *document == Cell::Null));
}

#[test]
fn the_rest_of_a_truncated_database_is_exported() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let rows = |table: &crate::support::table::Table| -> Vec<_> {
        let columns = ["id", "vector", "document", "metadata"].map(|name| table.column(name));
        let row = |row: usize| columns.map(|column| column[row].clone());
        (0..table.rows()).map(row).collect()
    };
    let before = rows(&before);
    let database = std::fs::read(fixture.database()).unwrap();
    for (kept, most_lost) in [(database.len() - 1, 30), (database.len() * 3 / 4, 863)] {
        std::fs::write(fixture.database(), &database[..kept]).unwrap();
        let list = list(&fixture.dir()).unwrap();
        let found = &list.findings[0];
        let missing = (database.len() - kept).div_ceil(4096) as u64;
        assert_eq!((found.code, found.count), ("database-cut", missing));
        let (summary, after) = export(&fixture.dir(), "articles");
        assert_eq!(summary.findings[0], *found);
        let after = rows(&after);
        let lost = before.iter().filter(|row| !after.contains(row)).count();
        assert!(lost <= most_lost, "{lost} of {} rows", before.len());
    }
}

#[test]
fn metadata_in_a_damaged_page_of_the_queue_is_skipped() {
    let fixture = PersistFixture::unpack("0.5.23-metalag");
    let metadata = format!(
        r#"{{"chroma:document": "{}", "kept": 1}}"#,
        "long ".repeat(4000)
    );
    {
        let database = Connection::open(fixture.database()).unwrap();
        let topic = fixture.collection("articles")["id"].as_str().unwrap();
        let insert = "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata)
             VALUES (0, 'persistent://default/default/' || ?1, 'long', zeroblob(96), 'FLOAT32', ?2)";
        database.execute(insert, [topic, &metadata]).unwrap();
    }
    let (before, _) = export(&fixture.dir(), "articles");
    assert!(!codes(&before).contains(&"queue-metadata"));
    let connection = Connection::open(fixture.database()).unwrap();
    let overflow =
        "SELECT pageno FROM dbstat WHERE name = 'embeddings_queue' AND path LIKE '%+000001'";
    let page: i64 = connection
        .query_row(overflow, [], |row| row.get(0))
        .unwrap();
    drop(connection);
    overwrite_page(&fixture.database(), page as u64, 0);
    let (after, table) = export(&fixture.dir(), "articles");
    let found = after.files[0].findings.iter();
    let found: Vec<_> = found.map(|finding| (finding.code, finding.count)).collect();
    assert!(found.contains(&("queue-metadata", 1)), "{found:?}");
    assert_eq!(after.rows, before.rows);
    let row = table.rows() - 1;
    assert_eq!(table.column("id")[row], Cell::Utf8("long".into()));
    assert_eq!(table.column("document")[row], Cell::Null);
    assert!(matches!(table.column("vector")[row], Cell::List(_)));
}

#[cfg(unix)]
#[test]
fn a_directory_without_write_permission_is_exported() {
    use std::os::unix::fs::PermissionsExt;

    let fixture = PersistFixture::unpack("1.5.9");
    let (_, before) = export(&fixture.dir(), "articles");
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let modified = || {
        std::fs::metadata(fixture.dir())
            .unwrap()
            .modified()
            .unwrap()
    };
    set(&fixture.database(), 0o444);
    set(&fixture.dir(), 0o555);
    let when = modified();
    list(&fixture.dir()).unwrap();
    let (_, after) = export(&fixture.dir(), "articles");
    // Root could have written temporary files; check that the directory is untouched.
    assert_eq!(modified(), when);
    set(&fixture.dir(), 0o755);
    assert_eq!(after, before);
}

#[test]
fn any_damage_gives_an_answer_or_an_error() {
    let fixture = PersistFixture::unpack("1.5.9");
    let original = std::fs::read(fixture.database()).unwrap();
    let mut random = Random(14);
    let (mut answers, mut errors) = (0, 0);
    for round in 0..extent(24, 60) {
        let mut bytes = original.clone();
        match round % 3 {
            0 => bytes.truncate(below(&mut random, bytes.len() as u64) as usize),
            1 => {
                for _ in 0..8 {
                    let page = below(&mut random, bytes.len() as u64 / 4096) as usize;
                    for byte in &mut bytes[page * 4096..(page + 1) * 4096] {
                        *byte = below(&mut random, 256) as u8;
                    }
                }
            }
            _ => {
                for _ in 0..64 {
                    let at = below(&mut random, bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << below(&mut random, 8);
                }
            }
        }
        std::fs::write(fixture.database(), bytes).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        match export_all(&fixture.dir(), &output) {
            Ok(summary) => {
                answers += 1;
                assert_eq!(names(&output).len(), summary.files.len() + 1);
            }
            Err(error) => {
                errors += 1;
                assert!(matches!(error.code(), 205), "{error}");
                assert!(names(directory.path()).is_empty());
            }
        }
    }
    assert!(
        answers > extent(4, 10) && errors > extent(1, 2),
        "{answers} answers, {errors} errors"
    );
}

#[test]
fn a_database_modified_meanwhile_gives_an_error_and_no_output() {
    let fixture = PersistFixture::unpack("1.5.9");
    for journal in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let path = fixture.database();
        let change = |_: Progress| match journal {
            true => std::fs::write(path.with_extension("sqlite3-journal"), b"x").unwrap(),
            false => {
                let database = Connection::open(&path).unwrap();
                database
                    .execute_batch("UPDATE collections SET name = name || 'x'")
                    .unwrap();
            }
        };
        let monitor = Monitor::default().on_progress(&change);
        let options = ExportOptions::default();
        let error = export_collections(fixture.dir(), &output, &options, &monitor).unwrap_err();
        assert_eq!(error.code(), 204, "{error}");
        assert!(names(directory.path()).is_empty());
    }
}

#[test]
fn an_index_modified_meanwhile_gives_an_error_and_no_output() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.parquet");
    let length = fixture.segment("articles").join("length.bin");
    let change = |_: Progress| {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&length)
            .unwrap();
        file.write_all(b"x").unwrap();
    };
    let monitor = Monitor::default().on_progress(&change);
    let error = export_collections(fixture.dir(), &output, &only("articles"), &monitor);
    assert_eq!(error.unwrap_err().code(), 204);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    let fixture = PersistFixture::unpack("1.5.9");
    for after in [0, 1, 3, 6] {
        let directory = tempfile::tempdir().unwrap();
        let token = CancelToken::new();
        let calls = AtomicU64::new(0);
        let cancel = |_: Progress| {
            if calls.fetch_add(1, Ordering::Relaxed) == after {
                token.cancel();
            }
        };
        let monitor = Monitor::default().with_cancel(&token).on_progress(&cancel);
        let output = directory.path().join("out");
        let options = ExportOptions::default();
        let error = export_collections(fixture.dir(), &output, &options, &monitor).unwrap_err();
        assert_eq!(error.code(), 400);
        assert!(names(directory.path()).is_empty());
    }
}

#[test]
fn progress_covers_the_first_to_the_last_row() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().unwrap().push(progress);
    let monitor = Monitor::default().on_progress(&note);
    let output = directory.path().join("out");
    export_collections(fixture.dir(), &output, &ExportOptions::default(), &monitor).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 10);
    assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done));
    assert!(seen.iter().all(|progress| progress.total == 4917));
    assert_eq!(seen.last().unwrap().done, 4917);
}

#[test]
fn an_output_that_would_destroy_files_is_rejected() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let full = directory.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("theirs"), b"x").unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    for output in [
        full.clone(),
        file.clone(),
        fixture.dir(),
        fixture.dir().join("out"),
        fixture.dir().join("deep/out.parquet"),
        fixture.segment("articles").join("out"),
    ] {
        let options = match output.extension() {
            Some(_) => only("articles"),
            None => ExportOptions::default(),
        };
        let error = export_collections(fixture.dir(), &output, &options, &Monitor::default());
        let error = error.unwrap_err();
        assert_eq!(error.code(), 301, "{}: {error}", output.display());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
    assert_eq!(names(&full), ["theirs"]);
    assert!(!names(&fixture.dir())
        .iter()
        .any(|name| name.starts_with('.')));
    assert!(!fixture.dir().join("deep").exists());
    // An empty directory can be replaced, and so can a file, as in an extraction.
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    export_all(&fixture.dir(), &empty).unwrap();
    assert!(empty.join("manifest.json").exists());
}

#[test]
fn an_earlier_file_is_replaced() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.parquet");
    std::fs::write(&output, b"earlier").unwrap();
    export_collections(fixture.dir(), &output, &only("empty"), &Monitor::default()).unwrap();
    assert!(std::fs::metadata(&output).unwrap().len() > 100);
}

#[test]
fn the_command_line_lists_and_exports() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (dir, out) = (fixture.dir(), directory.path().join("out"));
    let (status, stdout, stderr) = run(&["collections".as_ref(), dir.as_ref()]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let listed: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let purged = fixture.collection("wal_purged");
    let records = purged["records"].as_array().unwrap().len().to_string();
    let segment = purged["vector_segment"].as_str().unwrap();
    let expected = [
        "\"wal_purged\"",
        "\"default_database\"",
        "\"default_tenant\"",
        "queued",
        &records,
    ];
    let line = listed.iter().find(|words| words.starts_with(&expected));
    let last = line.and_then(|words| words.last());
    assert_eq!(last, Some(&segment), "{stdout}");
    let (_, stdout, _) = run(&["collections".as_ref(), dir.as_ref(), "--json".as_ref()]);
    let listed: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let mut expected = serde_json::to_value(list(&dir).unwrap()).unwrap();
    expected["complete"] = true.into();
    assert_eq!(listed, expected);
    let (status, stdout, stderr) = run(&[
        "export".as_ref(),
        dir.as_ref(),
        "-o".as_ref(),
        out.as_ref(),
        "--format".as_ref(),
        "arrow_ipc".as_ref(),
        "--collection".as_ref(),
        "wal_purged".as_ref(),
        "--collection".as_ref(),
        "empty".as_ref(),
        "--json".as_ref(),
    ]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let response: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(response["summary"]["rows"], 2400);
    assert_eq!(response["output_format"], "arrow_ipc");
    assert_eq!(
        names(&out),
        ["empty.arrow", "manifest.json", "wal_purged.arrow"]
    );
    let (status, _, stderr) = run(&[
        "export".as_ref(),
        dir.as_ref(),
        "-o".as_ref(),
        directory.path().join("other").as_ref(),
        "--collection".as_ref(),
        "nobody".as_ref(),
    ]);
    assert_eq!(status, Some(2));
    assert!(
        stderr.contains("collection: found nobody, expected one of"),
        "{stderr}"
    );
}
