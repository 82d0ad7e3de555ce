//! Property: after any damage to the files of a store, the repaired store exports the same as the
//! damaged one, or nothing is written.
//!
//! Input: numbers that describe the collections of a valid store, the writes to them, and the
//! damage. Missing numbers are 0.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use hnsw_toolbox::{
    export_collections, repair_store, ColumnarFormat, ErrorKind, ExportOptions, ExportSummary,
    Monitor, RepairStoreOptions, VectorForm,
};
use rusqlite::{params, Connection};
use tempfile::TempDir;

use super::persist::empty_database_of;
use super::table::{read_arrow, Cell, Table};

const PAGE: usize = 4096;

/// The numbers of an input.
struct Numbers<'b>(std::slice::Iter<'b, u8>);

impl Numbers<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().unwrap_or_default().into()
    }

    /// A number below `end`, from two bytes.
    fn below(&mut self, end: usize) -> usize {
        (self.next() << 8 | self.next()) % end.max(1)
    }
}

/// An empty database of Chroma 1.5, with its migrations.
fn empty_database() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| empty_database_of("1.5.9"))
}

struct Collection {
    id: String,
    metadata_segment: String,
    dimension: usize,
}

/// Writes a store whose records are in the queue and in the metadata segment.
fn write_store(dir: &Path, numbers: &mut Numbers<'_>) -> Vec<Collection> {
    std::fs::create_dir(dir).unwrap();
    let path = dir.join("chroma.sqlite3");
    std::fs::write(&path, empty_database()).unwrap();
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; BEGIN")
        .unwrap();
    let mut collections = Vec::new();
    for number in 0..1 + numbers.next() % 3 {
        let id = |part| format!("{number:08}-0000-4000-8000-00000000000{part}");
        let space = ["l2", "cosine", "ip"][numbers.next() % 3];
        let config = format!("{{\"vector_index\":{{\"config\":{{\"space\":\"{space}\"}}}}}}");
        let schema = format!(
            "{{\"defaults\":{{}},\"keys\":{{\"#embedding\":{{\"float_list\":{config}}}}}}}"
        );
        let dimension = 1 + numbers.next() % 5;
        database
            .execute(
                "INSERT INTO collections VALUES (?1, ?2, ?3,
                     '00000000-0000-0000-0000-000000000000', '{}', ?4)",
                params![id('a'), format!("c{number}"), dimension as i64, schema],
            )
            .unwrap();
        for (id, kind, scope) in [
            (id('b'), "vector/hnsw-local-persisted", "VECTOR"),
            (id('c'), "metadata/sqlite", "METADATA"),
        ] {
            let kind = format!("urn:chroma:segment/{kind}");
            database
                .execute(
                    "INSERT INTO segments VALUES (?1, ?2, ?3, ?4)",
                    params![
                        id,
                        kind,
                        scope,
                        format!("{number:08}-0000-4000-8000-00000000000a")
                    ],
                )
                .unwrap();
        }
        let collection = Collection {
            id: id('a'),
            metadata_segment: id('c'),
            dimension,
        };
        for record in 0..numbers.next() % 24 {
            add(&database, &collection, record, numbers);
        }
        collections.push(collection);
    }
    database
        .execute_batch(
            "INSERT INTO max_seq_id SELECT id, (SELECT max(seq_id) FROM embeddings_queue)
             FROM segments WHERE scope = 'METADATA' AND EXISTS
             (SELECT 1 FROM embeddings_queue); COMMIT;",
        )
        .unwrap();
    collections
}

fn vector(dimension: usize, numbers: &mut Numbers<'_>) -> Vec<u8> {
    let component = |number| match number {
        255 => f32::NAN,
        254 => f32::INFINITY,
        number => (number as f32 - 100.0) / 16.0,
    };
    let components = (0..dimension).map(|_| component(numbers.next()));
    components.flat_map(f32::to_le_bytes).collect()
}

/// Appends a row to the queue.
fn queue(
    database: &Connection,
    collection: &Collection,
    operation: usize,
    id: &str,
    vector: Option<Vec<u8>>,
    metadata: &str,
) -> i64 {
    let topic = format!("persistent://default/default/{}", collection.id);
    let encoding = vector.as_ref().map(|_| "FLOAT32");
    database
        .execute(
            "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![operation as i64, topic, id, vector, encoding, metadata],
        )
        .unwrap();
    database.last_insert_rowid()
}

/// Adds a record, as Chroma does when it has applied the queue to the metadata segment.
fn add(database: &Connection, collection: &Collection, record: usize, numbers: &mut Numbers<'_>) {
    let id = format!("id{record}");
    let (document, kind) = (format!("document {record} words"), numbers.next() % 4);
    let has_document = kind > 0;
    let mut json = format!("{{\"n\":{record}");
    if has_document {
        json.push_str(&format!(",\"chroma:document\":\"{document}\""));
    }
    json.push('}');
    let vector = vector(collection.dimension, numbers);
    let seq_id = queue(database, collection, 0, &id, Some(vector), &json);
    database
        .execute(
            "INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?1, ?2, ?3, ?1)",
            params![seq_id, collection.metadata_segment, id],
        )
        .unwrap();
    let value = "INSERT INTO embedding_metadata (id, key, string_value, int_value)
                 VALUES (?1, ?2, ?3, ?4)";
    database
        .execute(value, params![seq_id, "n", None::<&str>, record as i64])
        .unwrap();
    if has_document {
        database
            .execute(
                value,
                params![seq_id, "chroma:document", document, None::<i64>],
            )
            .unwrap();
        database
            .execute(
                "INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (?1, ?2)",
                params![seq_id, document],
            )
            .unwrap();
    }
}

/// Appends writes that neither segment has applied.
fn write_tail(dir: &Path, collections: &[Collection], numbers: &mut Numbers<'_>) {
    let count = numbers.next() % 8;
    if count == 0 {
        return;
    }
    let database = Connection::open(dir.join("chroma.sqlite3")).unwrap();
    database.execute_batch("PRAGMA synchronous = OFF").unwrap();
    for _ in 0..count {
        let collection = &collections[numbers.next() % collections.len()];
        let operation = numbers.next() % 4;
        let id = format!("id{}", numbers.next() % 28);
        let vector = (operation != 3).then(|| vector(collection.dimension, numbers));
        let json = format!("{{\"n\":{},\"chroma:document\":\"new\"}}", numbers.next());
        queue(&database, collection, operation, &id, vector, &json);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Damages the files of a store.
fn damage(dir: &Path, numbers: &mut Numbers<'_>) {
    for _ in 0..numbers.next() % 5 {
        let files = files(dir);
        let Some(path) = files.get(numbers.next() % files.len().max(1)) else {
            return;
        };
        let mut bytes = std::fs::read(path).unwrap();
        let pages = bytes.len().div_ceil(PAGE);
        let range = |size: usize, numbers: &mut Numbers<'_>| {
            let start = numbers.below(bytes.len().div_ceil(size)) * size;
            start..(start + size).min(bytes.len())
        };
        match numbers.next() % 6 {
            0 => {
                let page = range(PAGE, numbers);
                bytes[page].fill(0);
            }
            1 => {
                let sector = range(512, numbers);
                bytes[sector].fill(0);
            }
            2 if pages > 1 => {
                let (from, to) = (numbers.below(pages - 1), numbers.below(pages - 1));
                bytes.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
            }
            3 => bytes.truncate(numbers.below(bytes.len())),
            4 if !path.ends_with("chroma.sqlite3") => {
                std::fs::remove_file(path).unwrap();
                continue;
            }
            _ => {
                let at = numbers.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (numbers.next() % 8);
                }
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// Makes files old enough to be opened at once: a fresh one may still change.
fn age(dir: &Path) {
    for path in files(dir) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    }
}

fn export(dir: &Path, out: &Path) -> hnsw_toolbox::Result<ExportSummary> {
    let options = ExportOptions::default()
        .with_format(ColumnarFormat::ArrowIpc)
        .with_vectors(VectorForm::Stored);
    export_collections(dir, out, &options, &Monitor::default())
}

/// The rows of a file, as texts that can be compared.
fn rows(path: &Path) -> Vec<String> {
    let table: Table = read_arrow(path);
    let of_row =
        |row: usize| -> Vec<&Cell> { table.cells.iter().map(|cells| &cells[row]).collect() };
    (0..table.rows())
        .map(|row| format!("{:?}", of_row(row)))
        .collect()
}

/// Returns the rows of each collection, by its id.
fn contents(summary: &ExportSummary, dir: &Path) -> Vec<(String, Vec<String>)> {
    let files = summary.files.iter();
    files
        .map(|file| (file.collection_id.clone(), rows(&dir.join(&file.file))))
        .collect()
}

pub fn property(input: &[u8]) -> bool {
    let mut numbers = Numbers(input.iter());
    let memory = Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    };
    let path = |name: &str| directory.path().join(name);
    let monitor = Monitor::default();
    let keep_all = RepairStoreOptions::default().with_keep_incomplete(true);
    let mut store = path("store");
    let collections = write_store(&store, &mut numbers);
    if numbers.next() % 4 > 0 {
        age(&store);
        let flushed = path("flushed");
        let summary = repair_store(&store, &flushed, &keep_all, &monitor).unwrap();
        assert!(summary.is_complete(), "{summary:?}");
        store = flushed;
    }
    write_tail(&store, &collections, &mut numbers);
    damage(&store, &mut numbers);
    age(&store);

    let before: Vec<_> = files(&store)
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let exported = export(&store, &path("exported"));
    let repaired = repair_store(&store, path("repaired"), &keep_all, &monitor);
    let after: Vec<_> = files(&store)
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    assert!(before == after, "the old store has changed");
    match (exported, repaired) {
        (Ok(old), Ok(summary)) => {
            for (collection, file) in summary.collections.iter().zip(&old.files) {
                assert_eq!(collection.findings, file.findings);
            }
            age(&path("repaired"));
            let new = export(&path("repaired"), &path("again")).unwrap();
            let (old, new) = (
                contents(&old, &path("exported")),
                contents(&new, &path("again")),
            );
            for (found, expected) in new.iter().zip(&old) {
                assert_eq!(found, expected, "{summary:?}");
            }
            assert_eq!(new.len(), old.len());
        }
        (_, Err(error)) => {
            assert!(error.kind() != ErrorKind::Internal, "{error}");
            assert!(!path("repaired").exists());
        }
        (Err(error), Ok(_)) => panic!("repaired, but not exported: {error}"),
    }
    true
}
