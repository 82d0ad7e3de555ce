//! Stores with the schema of Chroma 1.5, without the initial rows that Chroma writes.
#![allow(dead_code, reason = "each user needs a part")]

use std::fmt::Write;
use std::path::Path;

use rusqlite::{params, Connection};

use super::persist::PersistFixture;

/// Parts of the schema that a store lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    Whole,
    /// The tables of records and their metadata have no index.
    WithoutIndexes,
}

/// A store under construction.
pub struct Store {
    pub database: Connection,
    pub collections: Vec<[String; 3]>,
}

/// The configuration of a collection whose metric is l2.
const SCHEMA: &str = r##"{"defaults": {"float_list": {"vector_index": {"config": {"space": "l2"}}}},
    "keys": {"#embedding": {"float_list": {"vector_index": {"config": {"space": "l2"}}}}}}"##;

const TOPIC: &str = "persistent://default/default/";

impl Store {
    pub fn create(dir: &Path, schema: Schema) -> Self {
        let fixture = PersistFixture::unpack("1.5.9");
        let source = Connection::open(fixture.database()).unwrap();
        let mut select = source
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%'")
            .unwrap();
        let tables = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let tables: Vec<(String, String)> = tables.unwrap().map(Result::unwrap).collect();
        std::fs::create_dir_all(dir).unwrap();
        let database = Connection::open(dir.join("chroma.sqlite3")).unwrap();
        database
            .execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
                 PRAGMA foreign_keys = OFF; BEGIN;",
            )
            .unwrap();
        for (name, sql) in tables {
            if name.starts_with("embedding_fulltext") {
                continue;
            }
            let keys = [
                ",\n    UNIQUE (segment_id, embedding_id)",
                ",\n    PRIMARY KEY (id, key)",
            ];
            let sql = match schema {
                Schema::Whole => sql,
                Schema::WithoutIndexes => keys.iter().fold(sql, |sql, key| sql.replace(key, "")),
            };
            database.execute(&sql, []).unwrap();
        }
        database
            .execute_batch(
                "INSERT INTO tenants VALUES ('default_tenant');
                 INSERT INTO databases VALUES ('0', 'default_database', 'default_tenant');",
            )
            .unwrap();
        Self {
            database,
            collections: Vec::new(),
        }
    }

    /// Adds the collection `c<number>`, without an index.
    pub fn add_collection(&mut self, dimension: u32) -> usize {
        let number = self.collections.len();
        let ids =
            ["a", "b", "c"].map(|part| format!("{number:08}-0000-4000-8000-00000000000{part}"));
        let [collection, vector, metadata] = &ids;
        self.database
            .execute(
                "INSERT INTO collections VALUES (?1, ?2, ?3, '0', '{}', ?4)",
                params![collection, format!("c{number}"), dimension, SCHEMA],
            )
            .unwrap();
        let local = "urn:chroma:segment/vector/hnsw-local-persisted";
        let sqlite = "urn:chroma:segment/metadata/sqlite";
        for (id, kind, scope) in [(vector, local, "VECTOR"), (metadata, sqlite, "METADATA")] {
            let mut insert = self
                .database
                .prepare("INSERT INTO segments VALUES (?1, ?2, ?3, ?4)")
                .unwrap();
            insert.execute([id, kind, scope, collection]).unwrap();
        }
        self.collections.push(ids);
        number
    }

    /// Adds a row to the queue.
    pub fn queue(&self, collection: usize, id: &str, vector: &[f32], metadata: &str) -> i64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|c| c.to_le_bytes()).collect();
        let topic = format!("{TOPIC}{}", self.collections[collection][0]);
        let mut insert = self
            .database
            .prepare(
                "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata)
                 VALUES (0, ?1, ?2, ?3, 'FLOAT32', ?4)",
            )
            .unwrap();
        insert.execute(params![topic, id, bytes, metadata]).unwrap();
        self.database.last_insert_rowid()
    }

    /// Adds a row to the queue and the corresponding record, with a document and a number.
    pub fn add(&self, collection: usize, id: &str, document: &str) -> i64 {
        let seq_id = self.queue(collection, id, &[1.0, 2.0], "{}");
        let segment = &self.collections[collection][2];
        let mut insert = self
            .database
            .prepare("INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?1, ?2, ?3, ?1)")
            .unwrap();
        insert.execute(params![seq_id, segment, id]).unwrap();
        let mut insert = self
            .database
            .prepare("INSERT INTO embedding_metadata (id, key, string_value, int_value) VALUES (?1, ?2, ?3, ?4)")
            .unwrap();
        insert
            .execute(params![seq_id, "chroma:document", document, None::<i64>])
            .unwrap();
        insert
            .execute(params![seq_id, "number", None::<&str>, seq_id])
            .unwrap();
        seq_id
    }

    /// Completes the store: the metadata segments have applied the whole queue.
    pub fn finish(self) {
        self.database
            .execute_batch(
                "INSERT INTO max_seq_id SELECT id, (SELECT max(seq_id) FROM embeddings_queue)
                 FROM segments WHERE scope = 'METADATA' AND EXISTS
                 (SELECT 1 FROM embeddings WHERE segment_id = segments.id);
                 COMMIT;",
            )
            .unwrap();
    }
}

/// Interleaved collections of `rows` records each.
pub fn write_interleaved(dir: &Path, schema: Schema, collections: usize, rows: usize) {
    let mut store = Store::create(dir, schema);
    for _ in 0..collections {
        store.add_collection(2);
    }
    for row in 0..rows {
        for collection in 0..collections {
            store.add(
                collection,
                &format!("id{row}"),
                &format!("{row} of {collection}"),
            );
        }
    }
    store.finish();
}

/// A JSON object with `keys` keys in random order.
pub fn shuffled_keys(keys: u64) -> String {
    let mut json = String::from("{");
    for key in 0..keys {
        let shuffled = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        write!(json, "\"{shuffled:x}-{key}\":{key},").unwrap();
    }
    json.pop();
    json.push('}');
    json
}

/// Makes the overflow page that contains `marker` its own successor.
pub fn loop_chain_at(database: &Path, marker: &[u8]) {
    const PAGE: usize = 4096;
    let mut bytes = std::fs::read(database).unwrap();
    let places: Vec<_> = bytes
        .windows(marker.len())
        .enumerate()
        .filter(|(_, window)| *window == marker)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "a marker that is there once");
    let page = places[0] / PAGE;
    let number = u32::try_from(page + 1).unwrap().to_be_bytes();
    bytes[page * PAGE..page * PAGE + 4].copy_from_slice(&number);
    std::fs::write(database, bytes).unwrap();
}
