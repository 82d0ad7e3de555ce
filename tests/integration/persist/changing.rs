//! Exports of a store while another thread truncates and rewrites its segment: the same result as
//! before, a finding, or an error.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hnsw_toolbox::{
    export_collections, list_collections, repair_index, CollectionFilter, CollectionList, Error,
    ExportSummary, Monitor, RepairOptions,
};

use super::only;
use crate::support::extent;
use crate::support::persist::PersistFixture;

const COLLECTION: &str = "articles";

const FILES: [&str; 5] = [
    "data_level0.bin",
    "length.bin",
    "index_metadata.pickle",
    "header.bin",
    "link_lists.bin",
];

/// Truncates and rewrites one file after another until told to stop. Every file ends with its
/// original content.
fn disturb(segment: &Path, stop: &AtomicBool) {
    let contents = FILES.map(|name| std::fs::read(segment.join(name)).unwrap());
    for turn in 0_u64.. {
        for (name, content) in FILES.iter().zip(&contents) {
            let path = segment.join(name);
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let kept = content.len() as u64 * (turn % 4) / 4;
            file.set_len(kept).unwrap();
            std::thread::sleep(Duration::from_millis(turn % 3 * 4));
            // In place, like hnswlib.
            std::fs::write(&path, content).unwrap();
            // Pause at times, so that some exports can finish.
            std::thread::sleep(Duration::from_millis(turn * turn % 7 * 10));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Stops the thread.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_refused(error: &Error, context: &str) {
    let code = error.code();
    assert!((200..400).contains(&code), "{context}: {error}");
}

#[test]
fn exports_while_segment_files_are_truncated_and_rewritten() {
    let fixture = PersistFixture::unpack("1.5.9");
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out.arrow");
    let export = || -> Result<(ExportSummary, Vec<u8>), Error> {
        let options = only(COLLECTION);
        let summary = export_collections(fixture.dir(), &output, &options, &Monitor::default())?;
        Ok((summary, std::fs::read(&output).unwrap()))
    };
    let filter = CollectionFilter::default();
    let list = || -> Result<CollectionList, Error> {
        list_collections(fixture.dir(), &filter, &Monitor::default())
    };
    let repaired = directory.path().join("repaired");
    let repair = || {
        let options = RepairOptions::default()
            .with_collection(COLLECTION.to_string())
            .with_database("default_database".to_string())
            .with_tenant("default_tenant".to_string());
        repair_index(fixture.dir(), &repaired, &options, &Monitor::default())
    };

    let (before, rows) = export().unwrap();
    let listed = list().unwrap();
    let findings = |summary: &ExportSummary| summary.files[0].findings.clone();
    let segment = fixture.segment(COLLECTION);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| disturb(&segment, &stop));
        // Also if an assertion fails, because the scope waits for the thread.
        let _stop = Stop(&stop);
        for turn in 0..extent(40, 400) {
            let context = format!("turn {turn}");
            match export() {
                Ok((summary, found)) if findings(&summary) == findings(&before) => {
                    assert_eq!(summary.rows, before.rows, "{context}");
                    assert!(found == rows, "{context}: other rows without a finding");
                }
                // A truncated file that stayed the same during the export: the rest, with a
                // finding.
                Ok((summary, _)) => {
                    assert_eq!(summary.rows, before.rows, "{context}");
                    assert!(!findings(&summary).is_empty(), "{context}");
                }
                Err(error) => assert_refused(&error, &context),
            }
            if turn % 4 == 0 {
                match list() {
                    Ok(found) => assert_eq!(found.collections.len(), listed.collections.len()),
                    Err(error) => assert_refused(&error, &context),
                }
                match repair() {
                    Ok(_) => std::fs::remove_dir_all(&repaired).unwrap(),
                    Err(error) => assert_refused(&error, &context),
                }
            }
        }
    });
    let (after, found) = export().unwrap();
    assert_eq!(findings(&after), findings(&before));
    assert!(found == rows);
}
