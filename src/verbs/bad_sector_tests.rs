//! Bad sectors in each file of a segment: every verb continues, and only the affected records are
//! lost.

use std::path::PathBuf;

use crate::io::bad_sectors::injected;
use crate::{
    export_collection, extract_index_to_columnar, list_collections, repair_index, verify_index,
    CollectionFilter, CollectionState, ColumnarOptions, ExportOptions, ExportSummary,
    ExtractOptions, IndexState, IoMode, Monitor, RepairOptions, Salvage, VerifyOptions,
};

#[path = "../../tests/support/persist.rs"]
#[allow(dead_code, reason = "each user needs a part")]
mod support;

use support::PersistFixture;

/// A store, and the segment of one of its collections.
struct Store {
    fixture: PersistFixture,
    segment: PathBuf,
    scratch: tempfile::TempDir,
}

const NAME: &str = "wal_purged";

impl Store {
    fn new() -> Self {
        let fixture = PersistFixture::unpack("1.5.9");
        let segment = fixture.segment(NAME);
        let scratch = tempfile::tempdir().unwrap();
        Self {
            fixture,
            segment,
            scratch,
        }
    }

    fn export(&self) -> ExportSummary {
        let options = ExportOptions::default();
        let output = self.scratch.path().join("out.parquet");
        let dir = self.fixture.dir();
        export_collection(dir, NAME, output, &options, &Monitor::default()).unwrap()
    }
}

#[test]
fn a_bad_sector_costs_the_records_in_it() {
    let store = Store::new();
    let monitor = Monitor::default();
    let sound = store.export();
    assert!(sound.is_complete());
    let read = ExtractOptions::default().with_io(IoMode::Read);
    let columnar = |extract| ColumnarOptions::default().with_extract(extract);
    let output = store.scratch.path().join("out.parquet");
    let new = store.scratch.path().join("new");
    let all = columnar(read.clone().with_include_deleted(true));
    let extracted = extract_index_to_columnar(&store.segment, &output, &all, &monitor).unwrap();

    injected::add(&store.segment.join("data_level0.bin"), 20_000..20_600);
    // Two sectors of 512 bytes. A record has 188: list header 4, links 128, vector 48, label 8.
    let lost = 1024_u64.div_ceil(188)..=1024 / 188 + 2;

    let error = extract_index_to_columnar(&store.segment, &output, &all, &monitor).unwrap_err();
    assert_eq!(error.code(), 300, "{error}");
    let salvage = read
        .with_include_deleted(true)
        .with_salvage(Some(Salvage::default()));
    let summary =
        extract_index_to_columnar(&store.segment, &output, &columnar(salvage), &monitor).unwrap();
    let unreadable = summary.salvage.as_ref().unwrap().unreadable;
    assert!(lost.contains(&unreadable), "{summary:?}");
    assert_eq!(summary.emitted + unreadable, extracted.emitted);
    assert!(!summary.is_complete());

    let options = VerifyOptions::default().with_io(IoMode::Read);
    let report = verify_index(&store.segment, &options, &monitor).unwrap();
    assert_eq!(report.state, IndexState::TornData);
    let found = report.findings.iter();
    let found = found.filter(|finding| finding.code == "file.unreadable");
    let found: Vec<_> = found.map(|finding| (finding.file, finding.count)).collect();
    assert_eq!(found, [("data_level0.bin", 2)]);

    let summary = store.export();
    let (file, sound) = (&summary.files[0], &sound.files[0]);
    assert_eq!(file.rows, sound.rows);
    assert!(!summary.is_complete());
    let lost_live = file.without_vector;
    assert!((1..=*lost.end()).contains(&lost_live), "{file:?}");
    assert_eq!(
        file.vectors_from_index + file.vectors_from_log + lost_live,
        sound.rows
    );
    let mut findings = file.findings.iter();
    assert!(findings.any(|finding| finding.code == "index-unreadable" && finding.count == 2));
    let filter = CollectionFilter::default().with_names(vec![NAME.into()]);
    let list = list_collections(store.fixture.dir(), &filter, &monitor).unwrap();
    assert_eq!(list.collections[0].state, CollectionState::Incomplete);
    assert!(!list.is_complete());

    let options = RepairOptions::default().with_io(IoMode::Read);
    let summary = repair_index(&store.segment, &new, &options, &monitor).unwrap();
    assert!(!summary.is_complete());
    assert_eq!(summary.salvage.as_ref().unwrap().unreadable, unreadable);
    let report = verify_index(&new, &VerifyOptions::default(), &monitor).unwrap();
    assert_eq!(report.state, IndexState::Healthy);
    assert_eq!(report.live, summary.records);
    std::fs::remove_dir_all(&new).unwrap();
    let options = options.with_collection(Some(NAME.to_string()));
    let summary = repair_index(store.fixture.dir(), &new, &options, &monitor).unwrap();
    assert_eq!(summary.collection.unwrap().without_vector, lost_live);
}

#[test]
fn a_bad_sector_in_another_file_is_damage_to_that_file() {
    for name in [
        "header.bin",
        "length.bin",
        "link_lists.bin",
        "index_metadata.pickle",
    ] {
        let store = Store::new();
        let monitor = Monitor::default();
        let rows = store.export().rows;
        injected::add(&store.segment.join(name), 0..100);

        let options = VerifyOptions::default().with_io(IoMode::Read);
        let report = verify_index(&store.segment, &options, &monitor).unwrap();
        assert!(report.damaged, "{name}");
        let mut findings = report.findings.iter();
        assert!(
            findings.any(|finding| finding.code == "file.unreadable" && finding.file == name),
            "{name}: {report:?}"
        );
        assert_eq!(store.export().rows, rows, "{name}");
        let new = store.scratch.path().join("new");
        let options = RepairOptions::default()
            .with_io(IoMode::Read)
            .with_collection(Some(NAME.to_string()));
        let summary = repair_index(store.fixture.dir(), &new, &options, &monitor).unwrap();
        assert!(summary.records > 0, "{name}");
    }
}
