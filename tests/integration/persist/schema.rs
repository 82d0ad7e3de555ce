//! Databases whose schema is damaged: everything is read, because the tables are recognised.

use std::collections::BTreeMap;
use std::path::Path;

use hnsw_toolbox::{
    export_collections, list_collections, repair_store, CollectionFilter, ColumnarFormat,
    ExportOptions, Monitor, RepairStoreOptions,
};
use rusqlite::Connection;

use crate::support::persist::PersistFixture;

const PAGE: usize = 4096;
const HEADER: usize = 100;

/// Rows and hash of each collection, and the codes of the findings about the database.
type Contents = (BTreeMap<String, (u64, String)>, Vec<(&'static str, bool)>);

fn contents(dir: &Path) -> Contents {
    let output = tempfile::tempdir().unwrap();
    let options = ExportOptions::default().with_format(ColumnarFormat::ArrowIpc);
    let target = output.path().join("out");
    let summary = export_collections(dir, &target, &options, &Monitor::default()).unwrap();
    let files = summary.files.iter();
    let files = files.map(|file| (file.collection.clone(), (file.rows, file.sha256.clone())));
    let findings = summary.findings.iter();
    let findings = findings.map(|finding| (finding.code, finding.loss));
    (files.collect(), findings.collect())
}

/// The pages of the schema.
fn pages(database: &Path) -> Vec<usize> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema' ORDER BY pageno")
        .unwrap();
    let pages = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    pages.map(|page| page.unwrap() as usize).collect()
}

/// Ranges of the file with a part of the schema each.
fn parts(database: &Path) -> Vec<std::ops::Range<usize>> {
    let pages = pages(database).into_iter();
    let mut parts: Vec<_> = pages.map(|page| (page - 1) * PAGE..page * PAGE).collect();
    assert_eq!(parts[0], 0..PAGE);
    // Page 1 without its header, the header alone, and with a leaf page.
    parts.extend([HEADER..PAGE, 0..HEADER]);
    parts
}

const STORES: [&str; 2] = ["1.5.9", "0.5.23-metalag"];

#[test]
fn a_damaged_schema_loses_nothing() {
    for name in STORES {
        let fixture = PersistFixture::unpack(name);
        let sound = std::fs::read(fixture.database()).unwrap();
        let (expected, known) = contents(&fixture.dir());
        assert!(!known.iter().any(|(code, _)| *code == "schema-damaged"));
        let parts = parts(&fixture.database());
        assert!(parts.len() > 4, "{parts:?}");
        let last = parts[parts.len() - 3].clone();
        let single = parts.into_iter().map(|part| vec![part]);
        for parts in single.chain([vec![0..PAGE, last]]) {
            let mut damaged = sound.clone();
            for part in &parts {
                damaged[part.clone()].fill(0);
            }
            std::fs::write(fixture.database(), &damaged).unwrap();
            let (found, findings) = contents(&fixture.dir());
            assert_eq!(found, expected, "{name} {parts:?}");
            let mut all = vec![("schema-damaged", false)];
            all.extend(known.iter().copied());
            assert_eq!(findings, all, "{name} {parts:?}");
            // The file itself stays as it is.
            assert!(std::fs::read(fixture.database()).unwrap() == damaged);
        }
    }
}

#[test]
fn every_table_is_recognised_without_any_page_of_the_schema() {
    for name in STORES {
        let fixture = PersistFixture::unpack(name);
        let mut bytes = std::fs::read(fixture.database()).unwrap();
        let (expected, _) = contents(&fixture.dir());
        for page in pages(&fixture.database()) {
            bytes[(page - 1) * PAGE..page * PAGE].fill(0);
        }
        std::fs::write(fixture.database(), bytes).unwrap();
        let (found, findings) = contents(&fixture.dir());
        assert_eq!(found, expected, "{name}");
        assert_eq!(findings, [("schema-damaged", false)], "{name}");
    }
}

#[test]
fn a_store_with_a_damaged_schema_is_repaired() {
    for name in STORES {
        let fixture = PersistFixture::unpack(name);
        let (expected, _) = contents(&fixture.dir());
        let mut bytes = std::fs::read(fixture.database()).unwrap();
        bytes[..PAGE].fill(0);
        std::fs::write(fixture.database(), bytes).unwrap();
        let output = tempfile::tempdir().unwrap();
        let repaired = output.path().join("new");
        let options = RepairStoreOptions::default();
        repair_store(fixture.dir(), &repaired, &options, &Monitor::default()).unwrap();
        let (found, findings) = contents(&repaired);
        let rows = |contents: &BTreeMap<String, (u64, String)>| -> Vec<_> {
            let pairs = contents.iter();
            pairs
                .map(|(name, (rows, _))| (name.clone(), *rows))
                .collect()
        };
        assert_eq!(rows(&found), rows(&expected), "{name}");
        assert_eq!(findings, [], "{name}");
    }
}

#[test]
fn parts_of_a_table_without_its_root_are_a_loss() {
    let fixture = PersistFixture::unpack("1.5.9");
    let connection = Connection::open(fixture.database()).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = 'embeddings' AND pagetype = 'internal'";
    let root: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(fixture.database()).unwrap();
    for page in [1, root as usize] {
        bytes[(page - 1) * PAGE..page * PAGE].fill(0);
    }
    std::fs::write(fixture.database(), bytes).unwrap();
    let list = list_collections(
        fixture.dir(),
        &CollectionFilter::default(),
        &Monitor::default(),
    );
    let list = list.unwrap();
    let is_loss = list.findings.iter().any(|finding| finding.loss);
    assert!(is_loss, "{:?}", list.findings);
}

#[test]
fn a_file_that_is_no_database_is_refused_as_such() {
    let fixture = PersistFixture::unpack("1.5.9");
    for bytes in [
        Vec::new(),
        vec![0; 9000],
        vec![13; 9000],
        b"no database".to_vec(),
    ] {
        std::fs::write(fixture.database(), bytes).unwrap();
        let filter = CollectionFilter::default();
        let error = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap_err();
        assert!(
            error.to_string().contains("expected a SQLite database"),
            "{error}"
        );
    }
}
