//! Repairs of whole stores, compared with exports of the old ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hnsw_toolbox::{
    export_collections, repair_store, repair_store_in_place, ColumnarFormat, ErrorKind,
    ExportOptions, FullText, Monitor, RepairStoreOptions, RepairStoreSummary, VectorForm,
};
use rusqlite::types::Value;
use rusqlite::Connection;

use super::read;
use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};
use crate::support::table::{Cell, Table};
use crate::support::{damaged_store, extent, BINARY, REPOSITORY};

fn repair(dir: &Path, new_dir: &Path, options: &RepairStoreOptions) -> RepairStoreSummary {
    repair_store(dir, new_dir, options, &Monitor::default()).unwrap()
}

/// The tables of an export by the id of the collection, without the columns that a repair changes.
fn exported(dir: &Path) -> BTreeMap<String, Table> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let options = ExportOptions::default()
        .with_format(ColumnarFormat::ArrowIpc)
        .with_vectors(VectorForm::Stored);
    let summary = export_collections(dir, &output, &options, &Monitor::default()).unwrap();
    let files = summary.files.iter();
    files
        .map(|file| {
            let mut table = read(&output.join(&file.file), ColumnarFormat::ArrowIpc);
            table.metadata.remove("hnsw_toolbox.dimension");
            (file.collection_id.clone(), table)
        })
        .collect()
}

fn all_rows(database: &Path, sql: &str) -> Vec<Vec<Value>> {
    let database = Connection::open(database).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement
        .query_map([], |row| (0..columns).map(|at| row.get(at)).collect())
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn count(database: &Path, sql: &str) -> i64 {
    match all_rows(database, sql)[0][0] {
        Value::Integer(count) => count,
        ref other => panic!("{other:?}"),
    }
}

fn assert_same_files(found: &Path, expected: &Path) {
    let output = Command::new("diff")
        .args(["-r"])
        .args([found, expected])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_sound_store_keeps_everything() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("new");
        std::fs::write(fixture.dir().join("notes.txt"), "mine").unwrap();
        let summary = repair(&fixture.dir(), &new, &RepairStoreOptions::default());
        assert!(summary.is_complete(), "{summary:?}");
        assert_eq!(summary.full_text, Some(full_text_of(name)));
        assert_eq!((summary.other_files, summary.other_bytes), (1, 4));
        assert_eq!(std::fs::read(new.join("notes.txt")).unwrap(), b"mine");
        assert_eq!(exported(&new), exported(&fixture.dir()), "{name}");
        let database = new.join("chroma.sqlite3");
        let old = fixture.database();
        for sql in [
            "SELECT * FROM migrations ORDER BY dir, version",
            "SELECT * FROM tenants ORDER BY id",
            "SELECT * FROM databases ORDER BY id",
            "SELECT * FROM collections ORDER BY id",
            "SELECT * FROM embeddings_queue_config",
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL \
             AND name NOT IN ('migrations', 'acquire_write') ORDER BY name",
        ] {
            assert_eq!(
                all_rows(&database, sql),
                all_rows(&old, sql),
                "{name}: {sql}"
            );
        }
        assert_eq!(
            all_rows(&database, "PRAGMA integrity_check"),
            [[Value::Text("ok".into())]]
        );
        let last = count(&old, "SELECT max(seq_id) FROM embeddings_queue");
        let watermark = match count(
            &old,
            "SELECT max(version) FROM migrations WHERE dir='metadb'",
        ) {
            5.. => Value::Integer(last),
            _ => Value::Blob(last.to_be_bytes().to_vec()),
        };
        let found = all_rows(
            &database,
            "SELECT DISTINCT seq_id FROM max_seq_id WHERE segment_id IN \
             (SELECT id FROM segments WHERE scope = 'VECTOR')",
        );
        assert_eq!(found, [[watermark]], "{name}");
    }
}

/// The metadata segment of the older fixture is behind, and so is its full-text table.
fn full_text_of(fixture: &str) -> FullText {
    match fixture {
        "1.5.9" => FullText::Copied,
        _ => FullText::Built,
    }
}

#[test]
fn a_lost_or_damaged_full_text_table_is_built_anew() {
    let damages = [
        "DROP TABLE embedding_fulltext_search",
        "DELETE FROM embedding_fulltext_search WHERE rowid % 2",
        "INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (99999, 'surplus')",
        "UPDATE embedding_fulltext_search_data SET block = x'00' WHERE id > 10",
        "UPDATE embedding_fulltext_search_content SET c0 = c0 || 'x' WHERE id % 3 = 0",
        "INSERT INTO embedding_fulltext_search_config VALUES ('pgsz', 32)",
    ];
    for damage in damages {
        let fixture = PersistFixture::unpack("1.5.9");
        let expected = exported(&fixture.dir());
        let database = Connection::open(fixture.database()).unwrap();
        database.execute_batch(damage).unwrap();
        drop(database);
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("new");
        let summary = repair(&fixture.dir(), &new, &RepairStoreOptions::default());
        assert_eq!(summary.full_text, Some(FullText::Built), "{damage}");
        assert_eq!(exported(&new), expected, "{damage}");
        let documents = "SELECT count(*) FROM embedding_metadata WHERE key = 'chroma:document'";
        let indexed = "SELECT count(*) FROM embedding_fulltext_search";
        let database = new.join("chroma.sqlite3");
        assert_eq!(count(&database, indexed), count(&database, documents));
    }
}

#[test]
fn lost_migrations_come_from_a_template() {
    let fixture = PersistFixture::unpack("1.5.9");
    let expected = exported(&fixture.dir());
    let template = tempfile::tempdir().unwrap();
    copy(&fixture.database(), &template.path().join("chroma.sqlite3"));
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    for damage in [
        "DELETE FROM migrations WHERE dir = 'metadb' AND version = 4",
        "UPDATE migrations SET sql = sql || '; CREATE TABLE foreign_code (a)' WHERE version = 1",
        "DELETE FROM migrations",
        "DROP TABLE migrations",
    ] {
        let database = Connection::open(fixture.database()).unwrap();
        database.execute_batch(damage).unwrap();
        drop(database);
        let options = RepairStoreOptions::default();
        let error = repair_store(fixture.dir(), &new, &options, &Monitor::default()).unwrap_err();
        let command = "python -c \"import chromadb; chromadb.PersistentClient('empty')\"";
        assert_eq!(error.kind(), ErrorKind::CorruptDatabase);
        assert_eq!(error.field(), Some("migrations"));
        assert!(error.to_string().contains(command), "{error}");
        assert!(!new.exists());
        let options = options.with_template(Some(template.path().to_path_buf()));
        repair(&fixture.dir(), &new, &options);
        assert_eq!(exported(&new), expected, "{damage}");
        std::fs::remove_dir_all(&new).unwrap();
    }
}

/// Removes the segment of the collection `articles`, and all but the last row of the queue.
fn lose_segment(fixture: &PersistFixture) -> PathBuf {
    let segment = fixture.segment("articles");
    let aside = segment.with_extension("drift-20260101-120000");
    std::fs::rename(&segment, &aside).unwrap();
    let database = Connection::open(fixture.database()).unwrap();
    let purge = "DELETE FROM embeddings_queue
                 WHERE seq_id < (SELECT max(seq_id) FROM embeddings_queue)";
    database.execute_batch(purge).unwrap();
    aside
}

#[test]
fn a_quarantined_segment_gives_its_vectors_back() {
    let fixture = PersistFixture::unpack("1.5.9");
    lose_segment(&fixture);
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    let keep = RepairStoreOptions::default().with_keep_incomplete(true);
    let summary = repair(&fixture.dir(), &new, &keep);
    let is_it = |c: &&hnsw_toolbox::RepairedStoreCollection| {
        c.name == "articles" && c.database == "default_database"
    };
    let articles = summary.collections.iter().find(is_it).unwrap();
    assert!(articles.vectors_from_elsewhere > 900, "{articles:?}");
    let codes: Vec<_> = articles.findings.iter().map(|found| found.code).collect();
    assert!(codes.contains(&"vector-elsewhere"), "{codes:?}");
    assert_eq!(exported(&new), exported(&fixture.dir()));
    let is_quarantined = |name: &&String| name.contains("drift-");
    let leftovers = summary.leftover_directories.iter();
    assert_eq!(leftovers.filter(is_quarantined).count(), 1);
}

#[test]
fn records_without_a_vector_leave_the_store_for_an_export() {
    let fixture = PersistFixture::unpack("1.5.9");
    std::fs::remove_dir_all(lose_segment(&fixture)).unwrap();
    let old = exported(&fixture.dir());
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    let summary = repair(&fixture.dir(), &new, &RepairStoreOptions::default());
    assert!(!summary.is_complete());
    let left_out_dir = directory.path().join("new.without-vectors");
    assert_eq!(summary.left_out_dir.as_ref(), Some(&left_out_dir));
    let manifest = std::fs::read_to_string(left_out_dir.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut left_out = 0;
    for file in manifest["files"].as_array().unwrap() {
        let path = left_out_dir.join(file["file"].as_str().unwrap());
        let table = read(&path, ColumnarFormat::Parquet);
        let old = &old[file["collection_id"].as_str().unwrap()];
        let lacks = |row: &usize| old.column("vector")[*row] == Cell::Null;
        for name in ["id", "vector", "document", "uri", "metadata"] {
            let expected = (0..old.rows())
                .filter(lacks)
                .map(|row| &old.column(name)[row]);
            assert!(table.column(name).iter().eq(expected), "{name}");
        }
        assert_eq!(file["rows"], table.rows());
        left_out += table.rows() as u64;
    }
    assert_eq!(summary.left_out, left_out);
    assert!(left_out > 900);
    let new = exported(&new);
    for (id, old) in &old {
        let kept = |row: &usize| old.column("vector")[*row] != Cell::Null;
        for (name, cells) in old.names.iter().zip(&old.cells) {
            let expected = (0..old.rows()).filter(kept).map(|row| &cells[row]);
            assert!(new[id].column(name).iter().eq(expected), "{id} {name}");
        }
    }
}

#[test]
fn a_dry_run_says_what_a_repair_does_and_writes_nothing() {
    let fixture = PersistFixture::unpack("1.5.9");
    std::fs::remove_dir_all(lose_segment(&fixture)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    let options = RepairStoreOptions::default();
    let preview = repair(&fixture.dir(), &new, &options.clone().with_dry_run(true));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let summary = repair(&fixture.dir(), &new, &options);
    let counts = |summary: &RepairStoreSummary| {
        let of = |c: &hnsw_toolbox::RepairedStoreCollection| {
            (
                c.name.clone(),
                c.records,
                c.without_vector,
                c.vectors_from_elsewhere,
            )
        };
        let collections: Vec<_> = summary.collections.iter().map(of).collect();
        (summary.records, summary.left_out, collections)
    };
    assert_eq!(counts(&preview), counts(&summary));
}

#[test]
fn in_place_keeps_the_old_store_beside_the_new_one() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let (dir, original) = (
        directory.path().join("chroma"),
        directory.path().join("copy"),
    );
    copy(&fixture.dir(), &dir);
    copy(&fixture.dir(), &original);
    let expected = exported(&dir);
    let mut undo = Vec::new();
    let summary = repair_store_in_place(
        &dir,
        &RepairStoreOptions::default(),
        |commands| undo = commands.to_vec(),
        &Monitor::default(),
    )
    .unwrap();
    assert_eq!(summary.undo, undo);
    let kept = summary.kept_dir.unwrap();
    assert_same_files(&kept, &original);
    assert_eq!(exported(&dir), expected);
    let status = Command::new("sh").args(["-c", &undo.join(" && ")]).status();
    assert!(status.unwrap().success());
    assert_same_files(&dir, &original);
}

#[test]
fn a_store_in_use_is_not_replaced() {
    let fixture = PersistFixture::unpack("1.5.9");
    let reader = Connection::open(fixture.database()).unwrap();
    let options = RepairStoreOptions::default();
    let replace =
        || repair_store_in_place(fixture.dir(), &options, |_| panic!(), &Monitor::default());
    let error = replace().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
    assert!(error.to_string().contains("stop Chroma first"), "{error}");
    drop(reader);
    let beside = std::fs::read_dir(fixture.dir().parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 2, "the fixture and its contents");
}

/// Whenever the process is killed, the name holds a complete store. `make kills` does it 300 times.
#[test]
fn a_killed_repair_in_place_leaves_a_complete_store() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("chroma");
    let pristine = directory.path().join("pristine");
    copy(&fixture.dir(), &pristine);
    let expected = exported(&pristine);
    let run = |dir: &Path| {
        let mut command = Command::new(BINARY);
        command
            .arg("repair")
            .arg(dir)
            .args(["--in-place", "--quiet"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    copy(&pristine, &dir);
    let started = std::time::Instant::now();
    assert!(run(&dir).status().unwrap().success());
    let whole = started.elapsed();
    let (mut old, mut new) = (0, 0);
    let kills = std::env::var("KILLS").map_or(extent(6, 24), |kills| kills.parse().unwrap());
    for kill in 0..kills {
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path != pristine {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
        copy(&pristine, &dir);
        let mut child = run(&dir).spawn().unwrap();
        // Half of the kills hit the last third: checks, and the exchange.
        let share = match kill % 2 {
            0 => f64::from(kill) / f64::from(kills),
            _ => 0.67 + 0.4 * f64::from(kill) / f64::from(kills),
        };
        std::thread::sleep(whole.mul_f64(share).max(Duration::from_millis(1)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(exported(&dir), expected, "kill {kill}");
        let is_old = dir.join("chroma.sqlite3").metadata().unwrap().len()
            == pristine.join("chroma.sqlite3").metadata().unwrap().len();
        match is_old {
            true => old += 1,
            false => new += 1,
        }
    }
    eprintln!("killed {kills} times: {old} old stores, {new} new ones");
}

#[test]
fn no_damage_makes_a_repair_lose_what_an_export_has() {
    let seeds = Path::new(REPOSITORY).join("fuzz/seeds/store");
    let regressions = Path::new(REPOSITORY).join("fuzz/regressions/store");
    let mut found = 0;
    for folder in [seeds, regressions] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            eprintln!("with {}", path.display());
            assert!(damaged_store::property(&std::fs::read(path).unwrap()));
            found += 1;
        }
    }
    assert!(found > 0, "no seeds");
}
