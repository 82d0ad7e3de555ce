//! The metric of collections if the database does not state it.

use std::path::Path;

use hnsw_toolbox::{
    export_collections, list_collections, repair_index, CollectionFilter, CollectionState,
    ErrorKind, ExportSummary, MetricSource, Monitor, RepairOptions, Result, Space, VectorForm,
};
use rusqlite::Connection;

use super::{codes, export, only};
use crate::support::persist::{PersistFixture, PERSIST_FIXTURES};
use crate::support::table::read_arrow;

fn change(fixture: &PersistFixture, sql: &str) {
    let database = Connection::open(fixture.database()).unwrap();
    database.pragma_update(None, "synchronous", "off").unwrap();
    database.execute_batch(sql).unwrap();
}

fn export_as(dir: &Path, name: &str, metric: Option<Space>) -> Result<ExportSummary> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    let options = only(name).with_metric(metric);
    export_collections(dir, &output, &options, &Monitor::default())
}

fn repair_as(dir: &Path, name: &str, metric: Option<Space>) -> Result<MetricSource> {
    let directory = tempfile::tempdir().unwrap();
    let options = RepairOptions::default()
        .with_collection(name.to_string())
        .with_database("default_database".to_string())
        .with_metric(metric);
    let new = directory.path().join("new");
    let summary = repair_index(dir, new, &options, &Monitor::default())?;
    assert_eq!(
        summary.metric.is_none(),
        summary.metric_source == MetricSource::Undecided
    );
    Ok(summary.metric_source)
}

/// Asserts that the error names both metrics.
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, given: &str, known: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    let found = (error.field(), error.found());
    assert_eq!(found, (Some("metric"), Some(given)));
    assert!(error.expected().unwrap().starts_with(known), "{error}");
}

/// Damage to the configuration of all collections.
const UNREADABLE: [&str; 7] = [
    "ALTER TABLE collections DROP COLUMN schema_str",
    "UPDATE collections SET schema_str = substr(schema_str, 1, 400)",
    "UPDATE collections SET schema_str = NULL",
    "UPDATE collections SET schema_str = '{}'",
    "UPDATE collections SET schema_str = CAST(schema_str AS BLOB)",
    "UPDATE collections SET schema_str = replace(schema_str, '\"space\":\"', '\"space\":\"x')",
    "UPDATE collections SET schema_str = replace(schema_str, '\"space\":\"', '\"space\":7,\"\":\"')",
];

#[test]
fn vectors_are_evidence_if_the_configuration_is_unreadable() {
    for (number, sql) in UNREADABLE.into_iter().enumerate() {
        let fixture = PersistFixture::unpack("1.5.9");
        let names = [
            "articles",
            "ip_default",
            "wal_purged",
            "renamed_cosine",
            "schema_cosine",
        ];
        let sound: Vec<_> = names
            .map(|name| export(&fixture.dir(), name).1.cells)
            .into_iter()
            .collect();
        change(&fixture, sql);
        for (name, sound) in names.into_iter().zip(sound) {
            let (summary, table) = export(&fixture.dir(), name);
            assert!(table.cells == sound, "{name}, {sql}");
            let space = fixture.collection(name)["space"].as_str().unwrap();
            let codes = codes(&summary);
            assert!(codes.contains(&"configuration-damaged"), "{name}, {sql}");
            assert!(codes.contains(&"metric-evidence"), "{name}, {sql}");
            let file = &summary.files[0];
            assert_eq!(file.metric_source, "evidence");
            assert_eq!(file.metric == "cosine", space == "cosine", "{name}, {sql}");
            assert_eq!(file.state, CollectionState::Damaged);
        }
        if number > 0 {
            continue;
        }
        // A given metric that the vectors cannot refute decides between the other two.
        let summary = export_as(&fixture.dir(), "ip_default", Some(Space::Ip)).unwrap();
        assert_eq!(
            (summary.files[0].metric, summary.files[0].metric_source),
            ("ip", "option")
        );
        for (name, given, known) in [
            ("articles", Space::L2, "cosine"),
            ("wal_purged", Space::Cosine, "l2"),
        ] {
            assert_refused(
                export_as(&fixture.dir(), name, Some(given)),
                given.name(),
                known,
            );
            assert_refused(
                repair_as(&fixture.dir(), name, Some(given)),
                given.name(),
                known,
            );
        }
        let repaired = repair_as(&fixture.dir(), "articles", None).unwrap();
        assert_eq!(repaired, MetricSource::Evidence);
        let repaired = repair_as(&fixture.dir(), "articles", Some(Space::Cosine)).unwrap();
        assert_eq!(repaired, MetricSource::Option);
    }
}

#[test]
fn lost_rows_of_segment_metadata_are_replaced_by_evidence() {
    for sql in [
        "DELETE FROM segment_metadata",
        "DROP TABLE segment_metadata",
        "UPDATE segment_metadata SET str_value = 'manhattan' WHERE key = 'hnsw:space'",
        "UPDATE segment_metadata SET str_value = NULL WHERE key = 'hnsw:space'",
        "UPDATE segment_metadata SET str_value = NULL, int_value = 2 WHERE key = 'hnsw:space'",
        "ALTER TABLE segment_metadata DROP COLUMN str_value",
    ] {
        let fixture = PersistFixture::unpack("0.5.23-metalag");
        for name in ["articles", "renamed_cosine"] {
            let (_, sound) = export(&fixture.dir(), name);
            let damaged = PersistFixture::unpack("0.5.23-metalag");
            change(&damaged, sql);
            let (summary, table) = export(&damaged.dir(), name);
            assert!(table.cells == sound.cells, "{name}, {sql}");
            let file = &summary.files[0];
            assert_eq!(
                (file.metric, file.metric_source),
                ("cosine", "evidence"),
                "{sql}"
            );
            assert!(codes(&summary).contains(&"metric-evidence"));
        }
    }
}

#[test]
fn a_metric_that_contradicts_the_database_is_rejected() {
    for name in PERSIST_FIXTURES {
        let fixture = PersistFixture::unpack(name);
        for (name, given, known) in [
            ("articles", Space::L2, "cosine"),
            ("articles", Space::Ip, "cosine"),
            ("wal_purged", Space::Cosine, "l2"),
            ("ip_default", Space::L2, "ip"),
        ] {
            assert_refused(
                export_as(&fixture.dir(), name, Some(given)),
                given.name(),
                known,
            );
            assert_refused(
                repair_as(&fixture.dir(), name, Some(given)),
                given.name(),
                known,
            );
        }
        let summary = export_as(&fixture.dir(), "articles", Some(Space::Cosine)).unwrap();
        assert_eq!(summary.files[0].metric, "cosine");
        let source = repair_as(&fixture.dir(), "articles", Some(Space::Cosine)).unwrap();
        assert_eq!(source, MetricSource::Database);
    }
}

#[test]
fn norms_of_1_leave_the_metric_undecided() {
    let fixture = PersistFixture::unpack("1.5.9");
    // As if all vectors had been given with norm 1 and none were queued.
    let norms = fixture.segment("schema_cosine").join("length.bin");
    let count = std::fs::metadata(&norms).unwrap().len() / 4;
    let ones = 1_f32.to_le_bytes().repeat(usize::try_from(count).unwrap());
    std::fs::write(&norms, ones).unwrap();
    let options = only("schema_cosine").with_vectors(VectorForm::Stored);
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    export_collections(fixture.dir(), &output, &options, &Monitor::default()).unwrap();
    let sound = read_arrow(&output);
    change(&fixture, UNREADABLE[0]);
    let (summary, table) = export(&fixture.dir(), "schema_cosine");
    assert_eq!(table.column("vector"), sound.column("vector"));
    let file = &summary.files[0];
    assert_eq!(file.metric_source, "undecided");
    assert!(codes(&summary).contains(&"metric-undecided"));
    let filter = CollectionFilter::default().with_names(vec!["schema_cosine".into()]);
    let list = list_collections(fixture.dir(), &filter, &Monitor::default()).unwrap();
    assert_eq!(list.collections[0].metric_source, "undecided");
    for given in [Space::L2, Space::Cosine, Space::Ip] {
        let summary = export_as(&fixture.dir(), "schema_cosine", Some(given)).unwrap();
        let file = &summary.files[0];
        assert_eq!((file.metric, file.metric_source), (given.name(), "option"));
        assert!(!codes(&summary).contains(&"metric-undecided"));
        let source = repair_as(&fixture.dir(), "schema_cosine", Some(given)).unwrap();
        assert_eq!(source, MetricSource::Option);
    }
    let source = repair_as(&fixture.dir(), "schema_cosine", None).unwrap();
    assert_eq!(source, MetricSource::Undecided);
    // A new graph needs the metric.
    std::fs::remove_file(fixture.segment("schema_cosine").join("header.bin")).unwrap();
    assert_refused(
        repair_as(&fixture.dir(), "schema_cosine", None),
        "none",
        "l2, cosine or ip",
    );
}

#[test]
fn a_missing_column_is_a_finding_for_any_source_of_the_metric() {
    let fixture = PersistFixture::unpack("1.5.9");
    let (before, sound) = export(&fixture.dir(), "articles");
    change(
        &fixture,
        "ALTER TABLE collections DROP COLUMN config_json_str",
    );
    let (summary, table) = export(&fixture.dir(), "articles");
    assert!(table.cells == sound.cells);
    assert_eq!(
        summary.files[0].metric_source,
        before.files[0].metric_source
    );
    assert!(codes(&summary).contains(&"configuration-damaged"));
    assert!(summary
        .findings
        .iter()
        .any(|finding| finding.code == "column-missing"));
}
