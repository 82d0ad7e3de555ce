//! Property: after a change to its chain of overflow pages, a document is read unchanged or
//! reported as damaged. It never reads as another text.
//!
//! Input: [`CHAIN`], and two bytes each for the page size, the length of the document, the page of
//! the chain to change, and its new successor.

use std::path::Path;

use rusqlite::Connection;

use super::support::Directory;
use crate::store::collection::Plan;
use crate::verbs::collections::{CollectionFilter, Persist};
use crate::Monitor;

/// The first byte of inputs for this property. A database starts with another byte, the S of
/// `SQLite format 3`.
pub(super) const CHAIN: u8 = b'c';

const PAGE_SIZES: [usize; 3] = [512, 1024, 4096];

const TABLES: &str = "
    CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT, dimension INTEGER, database_id TEXT);
    CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, collection TEXT);
    CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT NOT NULL,
        embedding_id TEXT NOT NULL, seq_id BLOB NOT NULL, UNIQUE (segment_id, embedding_id));
    CREATE TABLE embedding_metadata (id INTEGER, key TEXT NOT NULL, string_value TEXT,
        int_value INTEGER, float_value REAL, bool_value INTEGER, PRIMARY KEY (id, key));
    INSERT INTO collections VALUES ('c', 'c', 1, '0');
    INSERT INTO segments VALUES ('m', 'urn:chroma:segment/metadata/sqlite', 'METADATA', 'c');
    INSERT INTO embeddings VALUES (1, 'm', 'a', 1);";

fn write(database: &Path, page_size: usize, text: &str) {
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let connection = Connection::open(database).unwrap();
    let pragmas = format!("PRAGMA page_size = {page_size}; PRAGMA journal_mode = OFF;");
    connection.execute_batch(&pragmas).unwrap();
    connection.execute_batch(TABLES).unwrap();
    let insert = "INSERT INTO embedding_metadata (id, key, string_value) VALUES (1, ?1, ?2)";
    connection
        .execute(insert, ["chroma:document", text])
        .unwrap();
}

/// Returns the pages that hold the text, in order, except for its last page.
fn chain(bytes: &[u8], page_size: usize, text: &str) -> Vec<usize> {
    let pages = bytes.chunks(page_size).enumerate();
    let mut places: Vec<_> = pages
        .filter_map(|(page, content)| {
            // An overflow page starts with the number of the next page (4 bytes). The 20 bytes
            // behind it have a whole word of 8 bytes at any offset, and each word is unique.
            let content = std::str::from_utf8(content.get(4..24)?).ok()?;
            Some((text.find(content)?, page))
        })
        .collect();
    places.sort_unstable();
    places.into_iter().map(|(_, page)| page).collect()
}

/// Returns the document of the only record, and true if it is damaged.
fn read(persist_dir: &Path) -> (Option<String>, bool) {
    let monitor = Monitor::default();
    let persist = Persist::open(persist_dir, &monitor).unwrap();
    let origins = persist.choose(&CollectionFilter::default()).unwrap();
    let plan = Plan::new(origins[0], &monitor).unwrap();
    let mut document = None;
    let outcome = plan
        .for_each(
            origins[0],
            crate::store::collection::Form::None,
            &monitor,
            |row| {
                document = row.texts.document.take();
                Ok(())
            },
        )
        .unwrap();
    (document, outcome.damaged_texts > 0)
}

pub(super) fn property(input: &[u8]) -> bool {
    let numbers = input
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)));
    let mut numbers = numbers.chain(std::iter::repeat(0));
    let mut number = || numbers.next().unwrap_or_default();
    let page_size = PAGE_SIZES[number() % PAGE_SIZES.len()];
    let words = 1 + number() % (16 * page_size / 8);
    let text: String = (0..words).map(|word| format!("{word:07x} ")).collect();

    let directory = Directory::new();
    let persist_dir = directory.path().join("persist");
    let database = persist_dir.join("chroma.sqlite3");
    write(&database, page_size, &text);
    assert_eq!(read(&persist_dir), (Some(text.clone()), false));

    let mut bytes = std::fs::read(&database).unwrap();
    let pages = chain(&bytes, page_size, &text);
    let Some(from) = pages.get(number() % pages.len().max(1)) else {
        return true;
    };
    // The new successor is a page of the chain, any page of the file, or a page past its end.
    let any = bytes.len() / page_size + 2;
    let to = number();
    let to = match pages.get(to) {
        Some(page) => page + 1,
        None => to % any,
    };
    let successor = &mut bytes[from * page_size..from * page_size + 4];
    let to = u32::try_from(to).unwrap().to_be_bytes();
    let is_changed = *successor != to;
    successor.copy_from_slice(&to);
    directory.write("persist/chroma.sqlite3", &bytes);
    match read(&persist_dir) {
        (None, true) => assert!(is_changed),
        found => assert!(!is_changed && found == (Some(text), false)),
    }
    true
}
