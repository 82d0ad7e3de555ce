//! Imports of stores, exports and files, compared with exports of the result.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow2::array::{Array, FixedSizeListArray, Int64Array, PrimitiveArray, Utf8Array};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::io::ipc::write::{FileWriter, WriteOptions};
use hnsw_toolbox::{
    export_collections, import_collections, import_collections_in_place, list_collections,
    CollectionFilter, CollectionState, ColumnarFormat, Compression, ErrorKind, ExportOptions,
    FileColumns, FullText, ImportOptions, ImportSummary, ListForm, MetadataForm, Monitor,
    OnConflict, RepairLinks, Space,
};
use tempfile::TempDir;

use super::read;
use crate::support::persist::{empty_database_of, PersistFixture, PERSIST_FIXTURES};
use crate::support::table::{Cell, Table};
use crate::support::{BINARY, REPOSITORY};

/// A scratch directory with an empty store.
struct Scratch(TempDir);

impl Scratch {
    fn new(fixture: &str) -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(scratch.path("empty")).unwrap();
        let database = scratch.path("empty").join("chroma.sqlite3");
        std::fs::write(database, empty_database_of(fixture)).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn import(
    sources: &[&Path],
    into: &Path,
    new_dir: &Path,
    options: &ImportOptions,
) -> hnsw_toolbox::Result<ImportSummary> {
    let sources: Vec<_> = sources.iter().map(|source| source.to_path_buf()).collect();
    import_collections(&sources, into, new_dir, options, &Monitor::default())
}

fn renaming(old: &str, new: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(old.into(), new.into())])
}

fn export(dir: &Path, out: &Path, options: &ExportOptions) {
    export_collections(dir, out, options, &Monitor::default()).unwrap();
}

/// The tables of an export by tenant, database and name, without what an import may change.
fn exported(dir: &Path) -> BTreeMap<[String; 3], Table> {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let options = ExportOptions::default().with_format(ColumnarFormat::ArrowIpc);
    let summary = export_collections(dir, &out, &options, &Monitor::default()).unwrap();
    let files = summary.files.iter();
    files
        .map(|file| {
            let table = read(&out.join(&file.file), ColumnarFormat::ArrowIpc);
            let key = [&file.tenant, &file.database, &file.collection];
            (key.map(String::clone), table)
        })
        .collect()
}

/// Compares two exports. Vectors of cosine collections that come from the queue are divided by their
/// norm by an import, which may change their last bit.
fn assert_equal(found: &BTreeMap<[String; 3], Table>, expected: &BTreeMap<[String; 3], Table>) {
    let names = |tables: &BTreeMap<[String; 3], Table>| tables.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(found.names, expected.names, "{name:?}");
        assert_eq!(found.metadata, expected.metadata, "{name:?}");
        for (column, expected) in expected.names.iter().zip(&expected.cells) {
            let found = found.column(column);
            assert_eq!(found.len(), expected.len(), "{name:?}, {column}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    is_close(found, expected),
                    "{name:?}, {column}: {found:?} instead of {expected:?}"
                );
            }
        }
    }
}

fn is_close(found: &Cell, expected: &Cell) -> bool {
    match (found, expected) {
        (Cell::Float32(found), Cell::Float32(expected)) => {
            let (a, b) = (f32::from_bits(*found), f32::from_bits(*expected));
            found == expected || (a - b).abs() <= b.abs() * 4e-7
        }
        (Cell::List(found), Cell::List(expected)) => {
            let mut pairs = found.iter().zip(expected);
            found.len() == expected.len()
                && pairs.all(|(found, expected)| is_close(found, expected))
        }
        (found, expected) => found == expected,
    }
}

#[test]
fn a_store_in_an_empty_one_is_the_same_store() {
    for name in PERSIST_FIXTURES {
        let (fixture, scratch) = (PersistFixture::unpack(name), Scratch::new(name));
        let (empty, new) = (scratch.path("empty"), scratch.path("new"));
        let options = ImportOptions::default();
        let summary = import(&[&fixture.dir()], &empty, &new, &options).unwrap();
        assert!(summary.is_complete(), "{summary:?}");
        assert!(summary
            .collections
            .iter()
            .all(|collection| collection.is_new));
        assert_eq!(summary.imported, summary.records);
        assert_eq!(summary.full_text, Some(FullText::Built));
        let inside = fixture.dir().join("new");
        let error = import(&[&fixture.dir()], &empty, &inside, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
        let once = exported(&new);
        assert_equal(&once, &exported(&fixture.dir()));
        // A segment holds each vector of a cosine collection divided by its norm, so a vector of the
        // queue may change in its last bit, but only once.
        let again = scratch.path("again");
        import(&[&new], &empty, &again, &options).unwrap();
        assert!(exported(&again) == once);
    }
}

#[test]
fn an_export_goes_back_from_each_format() {
    // Two for each fixture; the columns of lists are in the newer one.
    let forms = [
        (ColumnarFormat::Parquet, MetadataForm::Json),
        (ColumnarFormat::ArrowIpc, MetadataForm::Columns),
        (ColumnarFormat::ArrowIpc, MetadataForm::Json),
        (ColumnarFormat::Parquet, MetadataForm::Columns),
    ];
    for (name, forms) in PERSIST_FIXTURES.into_iter().zip(forms.chunks(2)) {
        let (fixture, scratch) = (PersistFixture::unpack(name), Scratch::new(name));
        let expected = exported(&fixture.dir());
        for (number, &(format, metadata)) in forms.iter().enumerate() {
            let out = scratch.path(&format!("out{number}"));
            let options = ExportOptions::default()
                .with_format(format)
                .with_metadata(metadata)
                .with_compression(match format {
                    ColumnarFormat::Parquet => Compression::Zstd,
                    _ => Compression::None,
                });
            export(&fixture.dir(), &out, &options);
            let new = scratch.path(&format!("new{number}"));
            let options = ImportOptions::default();
            import(&[&out], &scratch.path("empty"), &new, &options).unwrap();
            assert_equal(&exported(&new), &expected);
        }
    }
}

/// Writes an Arrow file of rows with a vector of four components, a text and a page.
fn write_rows(path: &Path, ids: &[Option<&str>], vector: impl Fn(usize) -> Option<f32>) {
    let count = ids.len();
    let values = (0..count * 4).map(|at| vector(at).unwrap_or_default());
    let values = PrimitiveArray::<f32>::from_vec(values.collect());
    let type_ = DataType::FixedSizeList(Box::new(Field::new("item", DataType::Float32, false)), 4);
    let validity: Vec<_> = (0..count).map(|row| vector(row * 4).is_some()).collect();
    let vectors = FixedSizeListArray::new(type_.clone(), values.boxed(), Some(validity.into()));
    let texts: Vec<_> = (0..count)
        .map(|row| Some(format!("text number {row}")))
        .collect();
    let pages: Vec<_> = (0..count as i64).map(Some).collect();
    let columns: Vec<(&str, Box<dyn Array>)> = vec![
        ("id", Utf8Array::<i32>::from(ids).boxed()),
        ("embedding", vectors.boxed()),
        ("text", Utf8Array::<i32>::from(&texts).boxed()),
        ("page", Int64Array::from(&pages).boxed()),
    ];
    write_arrow(path, columns);
}

fn write_arrow(path: &Path, columns: Vec<(&str, Box<dyn Array>)>) {
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Schema::from(fields.collect::<Vec<_>>());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = FileWriter::new(file, schema, None, WriteOptions { compression: None });
    writer.start().unwrap();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    writer.write(&Chunk::new(arrays), None).unwrap();
    writer.finish().unwrap();
}

fn component(at: usize) -> Option<f32> {
    Some(((at * 37 + at / 4 * 11) % 101) as f32)
}

fn pages() -> ImportOptions {
    let columns = FileColumns::default().with_metadata(vec!["page".into()]);
    ImportOptions::default().with_columns(columns)
}

#[test]
fn rows_of_a_file_make_a_collection() {
    let scratch = Scratch::new("1.5.9");
    let (empty, file) = (scratch.path("empty"), scratch.path("papers.arrow"));
    let ids: Vec<_> = (0..300).map(|row| format!("row-{row}")).collect();
    let ids: Vec<_> = ids.iter().map(|id| Some(id.as_str())).collect();
    // The eighth row has no vector.
    write_rows(&file, &ids, |at| component(at).filter(|_| at / 4 != 7));
    for metric in [Space::L2, Space::Cosine, Space::Ip] {
        let new = scratch.path(metric.name());
        let options = pages().with_metric(metric);
        let summary = import(&[&file], &empty, &new, &options).unwrap();
        assert!(!summary.is_complete());
        assert_eq!((summary.imported, summary.left_out), (299, 1));
        let [collection] = summary.collections.as_slice() else {
            panic!("{summary:?}");
        };
        assert_eq!(collection.first_ids_without_vector, ["row-7"]);
        assert_eq!(collection.metric, metric.name());
        let columns = &collection.origins[0].columns;
        assert_eq!(columns["text"], "document");
        let tables = exported(&new);
        let table = tables.values().next().unwrap();
        assert_eq!(tables.len(), 1);
        assert_eq!(table.metadata["hnsw_toolbox.collection"], "papers");
        assert_eq!(table.metadata["hnsw_toolbox.metric"], metric.name());
        assert_eq!(
            table.column("document")[7],
            Cell::Utf8("text number 8".into())
        );
        assert_eq!(
            table.column("metadata")[7],
            Cell::Utf8("{\"page\":8}".into())
        );
        assert_eq!(table.column("id")[298], Cell::Utf8("row-299".into()));
    }
    let options = pages().with_keep_incomplete(true);
    let summary = import(&[&file], &empty, &scratch.path("kept"), &options).unwrap();
    assert_eq!((summary.records, summary.left_out), (300, 0));
    let options = pages().with_dry_run(true);
    let summary = import(&[&file], &empty, &scratch.path("dry"), &options).unwrap();
    assert_eq!(summary.records, 300);
    assert!(!scratch.path("dry").exists());
}

#[test]
fn a_collection_is_extended() {
    let scratch = Scratch::new("1.5.9");
    let (empty, first) = (scratch.path("empty"), scratch.path("papers.arrow"));
    let ids: Vec<_> = (0..3000).map(|row| format!("row-{row}")).collect();
    let ids: Vec<_> = ids.iter().map(|id| Some(id.as_str())).collect();
    write_rows(&first, &ids[..2000], component);
    let base = scratch.path("base");
    import(&[&first], &empty, &base, &pages()).unwrap();
    // The last twenty of these rows are new.
    let more = scratch.path("more.arrow");
    write_rows(&more, &ids[1990..2020], |at| {
        component(at).map(|value| -value)
    });
    let options = pages().with_collections(vec!["papers".into()]);
    let error = import(&[&more], &base, &scratch.path("error"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.to_string().contains("row 0 with the id \"row-1990\""),
        "{error}"
    );
    assert!(!scratch.path("error").exists());
    for (conflict, name) in [(OnConflict::Skip, "skip"), (OnConflict::Replace, "replace")] {
        let new = scratch.path(name);
        let options = options.clone().with_on_conflict(conflict);
        let summary = import(&[&more], &base, &new, &options).unwrap();
        let collection = &summary.collections[0];
        assert!(summary.is_complete() && !collection.is_new, "{summary:?}");
        assert_eq!(collection.links, Some(RepairLinks::Keep));
        assert_eq!(summary.records, 2020);
        let tables = exported(&new);
        let table = tables.values().next().unwrap();
        let row = |id: &str| {
            let wanted = Cell::Utf8(id.into());
            let ids = table.column("id");
            let at = ids.iter().position(|found| *found == wanted).unwrap();
            (
                table.column("vector")[at].clone(),
                table.column("document")[at].clone(),
            )
        };
        let vector = |first: usize, sign: f32| {
            let values = (first * 4..first * 4 + 4).map(component);
            let bits = values.map(|value| Cell::Float32((value.unwrap() * sign).to_bits()));
            Cell::List(bits.collect())
        };
        match conflict {
            OnConflict::Skip => {
                assert_eq!((summary.imported, summary.skipped), (20, 10));
                assert_eq!(summary.full_text, Some(FullText::Extended));
                assert_eq!(row("row-1995").0, vector(1995, 1.0));
            }
            _ => {
                assert_eq!((summary.imported, summary.replaced), (30, 10));
                assert_eq!(summary.full_text, Some(FullText::Built));
                assert_eq!(row("row-1995").0, vector(5, -1.0));
                assert_eq!(row("row-1995").1, Cell::Utf8("text number 5".into()));
            }
        }
        assert_eq!(row("row-2019").0, vector(29, -1.0));
        assert_eq!(row("row-1989").0, vector(1989, 1.0));
    }
    // Up to 1,000 rows are inserted into a graph of any size.
    write_rows(&more, &ids[2000..], component);
    let summary = import(&[&more], &base, &scratch.path("many"), &options).unwrap();
    assert_eq!(summary.records, 3000);
    assert_eq!(summary.collections[0].links, Some(RepairLinks::Keep));
    write_rows(&more, &ids[1999..], component);
    let many = options.clone().with_on_conflict(OnConflict::Replace);
    let summary = import(&[&more], &base, &scratch.path("new graph"), &many).unwrap();
    assert_eq!(summary.collections[0].links, Some(RepairLinks::Build));
    // Another metric cannot be given to a collection that exists.
    let options = options.with_metric(Space::Ip);
    let error = import(&[&more], &base, &scratch.path("ip"), &options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("l2, which the collection papers has"),
        "{error}"
    );
}

#[test]
fn what_nothing_joins_is_copied() {
    let (fixture, scratch) = (PersistFixture::unpack("1.5.9"), Scratch::new("1.5.9"));
    // Applies the queue, so that the segments are whole.
    let base = scratch.path("base");
    let options = ImportOptions::default();
    import(&[&fixture.dir()], &scratch.path("empty"), &base, &options).unwrap();
    let file = scratch.path("papers.arrow");
    write_rows(&file, &[Some("a"), Some("b")], component);
    let new = scratch.path("new");
    let summary = import(&[&file], &base, &new, &pages()).unwrap();
    assert_eq!(summary.imported, 2);
    let mut segments = 0;
    for entry in std::fs::read_dir(&base).unwrap() {
        let old = entry.unwrap().path();
        if !old.is_dir() {
            continue;
        }
        segments += 1;
        for file in std::fs::read_dir(&old).unwrap() {
            let file = file.unwrap().path();
            let copied = new.join(file.strip_prefix(&base).unwrap());
            assert_eq!(
                std::fs::read(&copied).unwrap(),
                std::fs::read(&file).unwrap()
            );
        }
    }
    assert!(segments > 5, "{segments}");
    let mut found = exported(&new);
    found.retain(|[_, _, name], _| name != "papers");
    assert_equal(&found, &exported(&base));
}

#[test]
fn another_metric_needs_no_new_embeddings() {
    let (fixture, scratch) = (PersistFixture::unpack("1.5.9"), Scratch::new("1.5.9"));
    let new = scratch.path("new");
    let options = ImportOptions::default()
        .with_collections(vec!["renamed_cosine".into()])
        .with_rename(renaming("renamed_cosine", "euclid"))
        .with_metric(Space::L2);
    let summary = import(&[&fixture.dir()], &scratch.path("empty"), &new, &options).unwrap();
    assert!(summary.is_complete());
    let (found, expected) = (exported(&new), exported(&fixture.dir()));
    let default = |name: &str| ["default_tenant", "default_database", name].map(String::from);
    let (found, expected) = (
        &found[&default("euclid")],
        &expected[&default("renamed_cosine")],
    );
    assert_eq!(found.metadata["hnsw_toolbox.metric"], "l2");
    // As the user gave them, not divided by their norm.
    assert_eq!(found.column("vector"), expected.column("vector"));
}

/// A collection keeps its id when it is renamed, so the one that is imported gets another.
#[test]
fn a_renamed_collection_does_not_take_the_place_of_its_namesake() {
    let (fixture, scratch) = (PersistFixture::unpack("1.5.9"), Scratch::new("1.5.9"));
    let (base, new) = (scratch.path("base"), scratch.path("new"));
    let only = ImportOptions::default().with_collections(vec!["l2_small".into()]);
    let options = only.clone().with_rename(renaming("l2_small", "renamed"));
    import(&[&fixture.dir()], &scratch.path("empty"), &base, &options).unwrap();
    let summary = import(&[&fixture.dir()], &base, &new, &only).unwrap();
    assert!(summary.collections[0].is_new);
    let tables = exported(&new);
    let names: Vec<_> = tables.keys().map(|[_, _, name]| name.as_str()).collect();
    assert_eq!(names, ["l2_small", "renamed"]);
    let rows: Vec<_> = tables.values().map(Table::rows).collect();
    assert_eq!(rows[0], rows[1]);
    let ids: BTreeSet<_> = tables
        .values()
        .map(|table| &table.metadata["hnsw_toolbox.collection_id"])
        .collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn an_older_chroma_gets_what_it_can_hold() {
    let (fixture, scratch) = (
        PersistFixture::unpack("1.5.9"),
        Scratch::new("0.5.23-metalag"),
    );
    let (empty, new) = (scratch.path("empty"), scratch.path("new"));
    let refused = |options: &ImportOptions, part: &str| {
        let error = import(&[&fixture.dir()], &empty, &new, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(part), "{error}");
        let left: Vec<_> = std::fs::read_dir(scratch.0.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    };
    let options = ImportOptions::default();
    refused(&options, "3 to 63 letters");
    let long = fixture.collections().iter();
    let long = long
        .filter_map(|collection| collection["name"].as_str())
        .find(|name| name.len() > 63)
        .unwrap();
    let options = options.with_rename(renaming(long, "short"));
    refused(&options, "json, or a store or template of Chroma 1.5");
    let options = options.with_lists(ListForm::Json);
    let summary = import(&[&fixture.dir()], &empty, &new, &options).unwrap();
    assert!(summary.is_complete(), "{summary:?}");
}

#[test]
fn bad_rows_are_named_and_leave_nothing() {
    let scratch = Scratch::new("1.5.9");
    let (empty, file) = (scratch.path("empty"), scratch.path("bad.arrow"));
    let refused = |sources: &[&Path], options: &ImportOptions, parts: &[&str]| {
        let new = scratch.path("new");
        let error = import(sources, &empty, &new, options)
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(error.contains(part), "{error}: expected {part}");
        }
        let left = std::fs::read_dir(scratch.0.path()).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left
            .filter(|name| name.to_string_lossy().contains("new"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    };
    let options = ImportOptions::default();
    write_rows(&file, &[Some("a"), Some("b"), Some("a")], component);
    refused(
        &[&file],
        &options,
        &["row 2 with the id \"a\"", "bad.arrow"],
    );
    write_rows(&file, &[Some("a"), None], component);
    refused(&[&file], &options, &["row 1, column id", "null"]);
    write_rows(&file, &[Some("a"), Some("b")], |at| {
        Some(if at == 6 { f32::NAN } else { 1.0 })
    });
    refused(
        &[&file],
        &options,
        &["row 1, column embedding, element 2", "NaN"],
    );
    write_rows(&file, &[Some("a")], component);
    let columns = FileColumns::default().with_id(Some("key".into()));
    refused(&[&file], &options.clone().with_columns(columns), &["key"]);
    let columns = FileColumns::default().with_vector(Some("text".into()));
    refused(&[&file], &options.clone().with_columns(columns), &["text"]);
    let short = options.clone().with_collections(vec!["ab".into()]);
    refused(&[&file], &short, &["\"ab\"", "--rename"]);
    let unknown = options.clone().with_rename(renaming("none", "some"));
    refused(&[&file], &unknown, &["none"]);
    let missing = scratch.path("missing.parquet");
    refused(&[&missing], &options, &["missing.parquet"]);
    std::fs::create_dir(scratch.path("void")).unwrap();
    refused(
        &[&scratch.path("void")],
        &options,
        &["void", "manifest.json"],
    );
    refused(&[], &options, &["at least one source"]);
}

#[test]
fn an_import_in_place_keeps_the_old_store() {
    let (fixture, scratch) = (PersistFixture::unpack("1.5.9"), Scratch::new("1.5.9"));
    let empty = scratch.path("empty");
    let mut undo = Vec::new();
    let summary = import_collections_in_place(
        &[fixture.dir()],
        &empty,
        &ImportOptions::default(),
        |commands| undo = commands.to_vec(),
        &Monitor::default(),
    )
    .unwrap();
    assert_eq!(summary.undo, undo);
    assert_equal(&exported(&empty), &exported(&fixture.dir()));
    let kept = summary.kept_dir.unwrap();
    assert!(exported(&kept).is_empty());
}

fn chroma_0_3() -> PathBuf {
    Path::new(REPOSITORY).join("tests/fixtures/chroma-0.3")
}

/// Compares an export with the values of the fixture's `generate.py`.
fn assert_chroma_0_3(tables: &BTreeMap<[String; 3], Table>) {
    let default = |name: &str| ["default_tenant", "default_database", name].map(String::from);
    for (name, first, dimension, metric) in [("papers", 0, 4, "cosine"), ("notes", 1, 3, "l2")] {
        let table = &tables[&default(name)];
        assert_eq!(table.metadata["hnsw_toolbox.metric"], metric);
        let rows = (first..60_usize).step_by(2);
        for (at, row) in rows.enumerate() {
            let vector = (0..dimension).map(|at| ((row * 7 + at * 3) % 11) as f32 - 5.5);
            let vector = vector.map(|value| Cell::Float32(value.to_bits())).collect();
            assert!(is_close(&table.column("vector")[at], &Cell::List(vector)));
            let text = |is_there: bool, text: String| match is_there {
                true => Cell::Utf8(text),
                false => Cell::Null,
            };
            assert_eq!(table.column("id")[at], Cell::Utf8(format!("{name}-{row}")));
            let document = text(row % 3 != 0, format!("{name} {row}"));
            assert_eq!(table.column("document")[at], document);
            let score = row as f64 / 7.0;
            let metadata = format!("{{\"row\":{row},\"score\":{score:?},\"text\":\"naïve\"}}");
            assert_eq!(table.column("metadata")[at], text(row % 5 != 0, metadata));
        }
        assert_eq!(table.rows(), 30);
    }
    assert_eq!(tables.len(), 2);
}

#[test]
fn a_store_of_chroma_0_3_is_a_source() {
    let scratch = Scratch::new("1.5.9");
    let (old, empty, new) = (chroma_0_3(), scratch.path("empty"), scratch.path("new"));
    let summary = import(&[&old], &empty, &new, &ImportOptions::default()).unwrap();
    assert!(summary.is_complete(), "{summary:?}");
    assert_chroma_0_3(&exported(&new));
    let only = ImportOptions::default().with_collections(vec!["none".into()]);
    let error = import(&[&old], &empty, &scratch.path("none"), &only).unwrap_err();
    assert!(
        error.to_string().contains("one of notes, papers"),
        "{error}"
    );
}

#[test]
fn a_store_of_chroma_0_3_is_listed_and_exported() {
    let (old, scratch) = (chroma_0_3(), Scratch::new("1.5.9"));
    let monitor = Monitor::default();
    let list = list_collections(&old, &CollectionFilter::default(), &monitor).unwrap();
    let found = list.collections.iter().map(|collection| {
        let what = (
            &*collection.name,
            collection.metric,
            collection.metric_source,
        );
        (
            what,
            collection.records,
            collection.dimension,
            collection.state,
        )
    });
    let found: Vec<_> = found.collect();
    let flushed = CollectionState::Flushed;
    let expected = [
        (("notes", "l2", "default"), 30, Some(3), flushed),
        (
            ("papers", "cosine", "collection_metadata"),
            30,
            Some(4),
            flushed,
        ),
    ];
    assert_eq!(found, expected);
    assert!(list.is_complete());
    assert_chroma_0_3(&exported(&old));
    // The export is a source like any other.
    let (out, new) = (scratch.path("out"), scratch.path("new"));
    let columns = ExportOptions::default().with_metadata(MetadataForm::Columns);
    let summary = export_collections(&old, &out, &columns, &monitor).unwrap();
    assert!(summary
        .files
        .iter()
        .all(|file| file.vectors_from_elsewhere == 30));
    import(
        &[&out],
        &scratch.path("empty"),
        &new,
        &ImportOptions::default(),
    )
    .unwrap();
    assert_chroma_0_3(&exported(&new));
    for (filter, expected) in [
        (
            CollectionFilter::default().with_names(vec!["none".into()]),
            "one of notes, papers",
        ),
        (
            CollectionFilter::default()
                .with_database("none".to_string())
                .with_names(vec!["notes".into()]),
            "the database has none",
        ),
    ] {
        let options = ExportOptions::default().with_filter(filter);
        let error = export_collections(&old, scratch.path("none"), &options, &monitor).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // Records of a collection whose row is lost.
    let cut = scratch.path("cut");
    std::fs::create_dir(&cut).unwrap();
    let records = "chroma-embeddings.parquet";
    std::fs::copy(old.join(records), cut.join(records)).unwrap();
    let text = |text| Utf8Array::<i32>::from([Some(text)]).boxed();
    let columns = vec![
        ("uuid", text("a7e2d4c6-1b3f-4a5d-8c7e-9f0a1b2c3d4e")),
        ("name", text("notes")),
        ("metadata", Utf8Array::<i32>::from([None::<&str>]).boxed()),
    ];
    // The format is found by the contents.
    write_arrow(&cut.join("chroma-collections.parquet"), columns);
    let list = list_collections(&cut, &CollectionFilter::default(), &monitor).unwrap();
    let finding = &list.findings[0];
    assert_eq!((finding.code, finding.count), ("record-unlisted", 30));
    assert!(!list.is_complete());
    let lost = scratch.path("lost");
    let summary = import(
        &[&cut],
        &scratch.path("empty"),
        &lost,
        &ImportOptions::default(),
    );
    assert!(!summary.unwrap().is_complete());
    // Records that are damaged in part.
    let texts = |texts: [Option<&str>; 3]| Utf8Array::<i32>::from(texts).boxed();
    let vectors = PrimitiveArray::from_vec(vec![1_f32, 2.0, 3.0]).boxed();
    let item = Field::new("item", DataType::Float32, true);
    let vectors =
        FixedSizeListArray::new(DataType::FixedSizeList(Box::new(item), 1), vectors, None);
    let owner = Some("a7e2d4c6-1b3f-4a5d-8c7e-9f0a1b2c3d4e");
    let columns = vec![
        ("collection_uuid", texts([owner; 3])),
        ("embedding", vectors.boxed()),
        ("id", texts([Some("cut"), None, Some("whole")])),
        ("document", texts([Some("text"), None, None])),
        (
            "metadata",
            texts([Some("{\"a\":1,"), None, Some("{\"a\":1}")]),
        ),
    ];
    write_arrow(&cut.join(records), columns);
    let partly = scratch.path("partly");
    let summary = export_collections(&cut, &partly, &ExportOptions::default(), &monitor).unwrap();
    let codes = summary.files[0]
        .findings
        .iter()
        .map(|finding| (finding.code, finding.count));
    let expected = [("record-damaged", 1), ("metadata-damaged", 1)];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    let table = &exported(&cut)[&["default_tenant", "default_database", "notes"].map(String::from)];
    assert_eq!(
        table.column("id"),
        ["cut", "whole"].map(|id| Cell::Utf8(id.into()))
    );
    assert_eq!(
        table.column("metadata"),
        [Cell::Null, Cell::Utf8("{\"a\":1}".into())]
    );
    // A later Chroma makes an empty store beside the files.
    let both = scratch.path("empty");
    for name in ["chroma-collections.parquet", "chroma-embeddings.parquet"] {
        std::fs::copy(old.join(name), both.join(name)).unwrap();
    }
    let list = list_collections(&both, &CollectionFilter::default(), &monitor).unwrap();
    assert_eq!(list.findings[0].code, "old-store");
    let within = old.join("chroma-embeddings.parquet");
    let options = ExportOptions::default()
        .with_filter(CollectionFilter::default().with_names(vec!["notes".into()]));
    let error = export_collections(&old, &within, &options, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusablePath, "{error}");
}

#[test]
fn records_come_from_pipes() {
    let (fixture, scratch) = (PersistFixture::unpack("1.5.9"), Scratch::new("1.5.9"));
    let from = |more: &[&str], input: Vec<u8>| {
        let mut child = Command::new(BINARY)
            .arg("import")
            .args(more)
            .arg("--into")
            .arg(scratch.path("empty"))
            .arg("-o")
            .arg(scratch.path("new"))
            .args(["--quiet", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The command may refuse its arguments before it reads.
        let _ = stdin.write_all(&input);
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let streamed = Command::new(BINARY)
        .arg("export")
        .arg(fixture.dir())
        .args(["--collection", "l2_small", "-o", "-"])
        .output()
        .unwrap();
    assert!(streamed.status.success());
    let imported = from(&["-"], streamed.stdout.clone());
    assert!(imported.status.success(), "{imported:?}");
    let summary: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(summary["collections"][0]["name"], "l2_small");
    assert_eq!(summary["collections"][0]["origins"][0]["path"], "-");
    let expected = exported(&fixture.dir());
    let is_that = |(name, _): &(&[String; 3], &Table)| name[2] == "l2_small";
    let expected = expected.iter().filter(is_that);
    let expected = expected
        .map(|(name, table)| (name.clone(), table.clone()))
        .collect();
    assert_equal(&exported(&scratch.path("new")), &expected);
    std::fs::remove_dir_all(scratch.path("new")).unwrap();
    for (more, input, status, message) in [
        (&["-", "-"][..], &streamed.stdout[..], 2, "- twice"),
        (&["-"], b"", 1, "stdin: "),
        (&["-"], &streamed.stdout[..1000], 1, "stdin: "),
    ] {
        let refused = from(more, input.to_vec());
        let words = String::from_utf8(refused.stderr).unwrap();
        assert!(words.contains(message), "{words}");
        assert_eq!(refused.status.code(), Some(status), "{words}");
    }
    #[cfg(unix)]
    assert_interruptible(&scratch);
    let mut names: Vec<_> = std::fs::read_dir(scratch.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["empty"]);
}

/// Interrupts an import that waits for a pipe.
#[cfg(unix)]
fn assert_interruptible(scratch: &Scratch) {
    let mut child = Command::new(BINARY)
        .args(["import", "-", "--quiet", "--into"])
        .arg(scratch.path("empty"))
        .arg("-o")
        .arg(scratch.path("new"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Stays open, and silent, until the end.
    let stdin = child.stdin.take();
    while std::fs::read_dir(scratch.0.path()).unwrap().count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[test]
fn metadata_of_files_takes_a_form_that_a_store_can_hold() {
    let scratch = Scratch::new("1.5.9");
    let file = scratch.path("rows.arrow");
    let write = |metadata: &str| {
        let text = |text| Utf8Array::<i32>::from([Some(text)]).boxed();
        let item = Field::new("item", DataType::Float32, true);
        let vector = PrimitiveArray::from_vec(vec![1_f32]).boxed();
        let kind = DataType::FixedSizeList(Box::new(item), 1);
        let vector = FixedSizeListArray::new(kind, vector, None).boxed();
        let columns = vec![
            ("id", text("a")),
            ("vector", vector),
            ("metadata", text(metadata)),
        ];
        write_arrow(&file, columns);
    };
    write("{\"l\":[1,2.5],\"z\":-0.0}");
    let (empty, new) = (scratch.path("empty"), scratch.path("new"));
    let short = ImportOptions::default().with_database("db".to_string());
    let error = import(&[&file], &empty, &new, &short).unwrap_err();
    assert_eq!(error.field(), Some("database"));
    import(&[&file], &empty, &new, &ImportOptions::default()).unwrap();
    let tables = exported(&new);
    let table = tables.values().next().unwrap();
    let expected = Cell::Utf8("{\"l\":[1.0,2.5],\"z\":0.0}".into());
    assert_eq!(table.column("metadata"), [expected]);
    for unfit in ["{\"l\":[]}", "{\"l\":[1,\"a\"]}", "{\"l\":[null,1]}"] {
        write(unfit);
        let none = scratch.path("none");
        let error = import(&[&file], &empty, &none, &ImportOptions::default()).unwrap_err();
        assert!(error.to_string().contains("row 0, metadata l"), "{error}");
        assert!(!none.exists());
        let as_text = ImportOptions::default().with_lists(ListForm::Json);
        let new = tempfile::tempdir().unwrap();
        import(&[&file], &empty, &new.path().join("new"), &as_text).unwrap();
    }
}
