//! Property: for any chroma.sqlite3, its collections are listed and exported, or an error describes
//! the damage to a file. Heap is bounded, and the persist directory stays unchanged.
//!
//! Input: the database. Beside it are two segment directories with the names that the seeds use,
//! one with valid records and ids, and one without its pickle. Inputs with another first byte than
//! a database are for the properties in `hostile.rs` and `chains.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use super::chains;
use super::hostile;
use super::support::Directory;
use super::synthetic::{Synthetic, Word};
use crate::{
    export_collections, list_collections, CollectionFilter, CollectionState, ColumnarFormat, Error,
    ExportOptions, ExportSummary, MetadataForm, Monitor,
};

const SEGMENTS: [&str; 2] = [
    "00000000-0000-4000-8000-00000000000a",
    "00000000-0000-4000-8000-00000000000b",
];

/// Limit on the pages of a database that are damaged in turn.
const MAX_DAMAGED_PAGES: usize = 24;

/// Limit on the bytes of heap: a constant for writing a table, and a part for a database of `len`
/// bytes.
fn heap_limit(len: usize) -> usize {
    (64 << 20) + 256 * len
}

fn write(directory: &Directory, database: &[u8]) {
    directory.write("persist/chroma.sqlite3", database);
    let index = Synthetic::new(Word::U64, 2, 3, 4);
    for segment in SEGMENTS {
        let name = |file: &str| format!("persist/{segment}/{file}");
        directory.write(&name("header.bin"), &index.header.bytes());
        directory.write(&name("data_level0.bin"), &index.level0_bytes());
        directory.write(&name("length.bin"), &[0x3F; 16]);
        directory.write(&name("link_lists.bin"), &[0; 16]);
    }
    let name = format!("persist/{}/index_metadata.pickle", SEGMENTS[0]);
    directory.write(&name, &pickle());
}

/// Returns a pickle of two ids in the format of Chroma 1.x.
fn pickle() -> Vec<u8> {
    let text = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        [b"X", &length[..], text.as_bytes()].concat()
    };
    let number = |number: u32| [&b"J"[..], &number.to_le_bytes()].concat();
    let pairs = |pairs: &[Vec<u8>]| [&b"}("[..], &pairs.concat(), b"u"].concat();
    let ids = [(4, "a"), (2, "b")];
    let by_id: Vec<_> = ids
        .iter()
        .flat_map(|(label, id)| [text(id), number(*label)])
        .collect();
    let by_label: Vec<_> = ids
        .iter()
        .flat_map(|(label, id)| [number(*label), text(id)])
        .collect();
    let fields = [
        text("dimensionality"),
        b"N".to_vec(),
        text("total_elements_added"),
        number(4),
        text("max_seq_id"),
        b"N".to_vec(),
        text("id_to_label"),
        pairs(&by_id),
        text("label_to_id"),
        pairs(&by_label),
        text("id_to_seq_id"),
        b"}".to_vec(),
    ];
    [&b"\x80\x03"[..], &pairs(&fields), b"."].concat()
}

/// Collects the names and lengths of all files.
fn files(directory: &Path, found: &mut Vec<(String, u64)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            let name = entry.path().display().to_string();
            found.push((name, entry.metadata().unwrap().len()));
        }
    }
    found.sort();
}

pub(super) fn assert_about_a_file(error: &Error) {
    // 101: more metadata keys than the limit on columns.
    assert!(matches!(error.code(), 101 | 200..=299), "{error}");
}

/// `peak_of` runs a closure, and returns the peak of its heap use.
pub fn property(database: &[u8], peak_of: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
    match database {
        [hostile::JOURNAL, ..] => return hostile::journal(database, peak_of),
        [hostile::SCHEMA, choices @ ..] => return hostile::schema(choices, peak_of),
        [chains::CHAIN, choices @ ..] => return chains::property(choices),
        _ => {}
    }
    let directory = Directory::new();
    write(&directory, database);
    let persist = directory.path().join("persist");
    let mut before = Vec::new();
    files(&persist, &mut before);
    let monitor = Monitor::default();
    let mut listed = None;
    let mut exported = Vec::new();
    let peak = peak_of(&mut || {
        listed = Some(list_collections(
            &persist,
            &CollectionFilter::default(),
            &monitor,
        ));
        for (format, metadata) in [
            (ColumnarFormat::Parquet, MetadataForm::Columns),
            (ColumnarFormat::ArrowIpc, MetadataForm::Json),
        ] {
            let options = ExportOptions::default()
                .with_format(format)
                .with_metadata(metadata)
                .with_index_columns(true);
            let output = directory.path().join(format.name());
            let result = export_collections(&persist, &output, &options, &monitor);
            exported.push((output, result));
        }
    });
    assert!(
        peak <= heap_limit(database.len()),
        "{peak} bytes of heap for a database of {}",
        database.len()
    );
    let listed = listed.unwrap();
    for (output, result) in &exported {
        match (result, &listed) {
            (Ok(summary), Ok(list)) => {
                assert_eq!(summary.files.len(), list.collections.len());
                let written = std::fs::read_dir(output).unwrap().count();
                assert_eq!(written, summary.files.len() + 1);
                for (file, report) in summary.files.iter().zip(&list.collections) {
                    let vectors = file.vectors_from_index + file.vectors_from_log;
                    assert_eq!(vectors + file.without_vector, file.rows);
                    // Damage to a queued vector or id may only be found when it is read.
                    let mut codes = file.findings.iter().map(|finding| finding.code);
                    let is_incomplete =
                        file.without_vector > 0 || codes.any(|code| code == "record-damaged");
                    let expected = match report.state {
                        CollectionState::Unsupported => CollectionState::Unsupported,
                        _ if is_incomplete => CollectionState::Incomplete,
                        state => state,
                    };
                    assert_eq!(file.state, expected, "exported {file:?}, listed {report:?}");
                }
            }
            (Err(error), _) => {
                assert_about_a_file(error);
                assert!(!output.exists());
            }
            (Ok(_), Err(error)) => panic!("exported, but not listed: {error}"),
        }
    }
    if let Err(error) = &listed {
        assert_about_a_file(error);
    }
    let mut after = Vec::new();
    files(&persist, &mut after);
    assert_eq!(after, before);
    if let Some((_, Ok(summary))) = exported.pop() {
        check_loss_of_cells(&directory, database, &summary);
    }
    true
}

/// Removes half of the cells of one page after another. An export that differs must have a finding.
fn check_loss_of_cells(directory: &Directory, database: &[u8], sound: &ExportSummary) {
    // The page size is at offset 16 of a database; 1 stands for 65,536.
    let size = database.get(16..18).map_or(0, |size| {
        let size = usize::from(size[0]) << 8 | usize::from(size[1]);
        if size == 1 {
            1 << 16
        } else {
            size
        }
    });
    let known = findings(sound);
    let is_damaged = |(code, _): &(&str, u64)| code.ends_with("damaged") || *code == "database-cut";
    if size < 512 || known.iter().any(is_damaged) {
        return;
    }
    for (number, page) in database
        .chunks_exact(size)
        .enumerate()
        .take(MAX_DAMAGED_PAGES)
    {
        // The first page starts with the file header of 100 bytes.
        let header = if number == 0 { 100 } else { 0 };
        let cells = u16::from_be_bytes([page[header + 3], page[header + 4]]);
        // The types of b-tree pages: interior and leaf, of indexes (2, 10) and tables (5, 13).
        if !matches!(page[header], 2 | 5 | 10 | 13) || cells == 0 {
            continue;
        }
        let mut damaged = database.to_vec();
        let at = number * size + header + 3;
        damaged[at..at + 2].copy_from_slice(&(cells / 2).to_be_bytes());
        directory.write("persist/chroma.sqlite3", &damaged);
        let output = directory.path().join("damaged");
        let options = ExportOptions::default()
            .with_format(ColumnarFormat::ArrowIpc)
            .with_index_columns(true);
        let persist = directory.path().join("persist");
        let result = export_collections(&persist, &output, &options, &Monitor::default());
        if let Ok(summary) = result {
            std::fs::remove_dir_all(&output).unwrap();
            let hashes = |summary: &ExportSummary| -> Vec<_> {
                let files = summary.files.iter();
                files.map(|file| file.sha256.clone()).collect()
            };
            assert!(
                hashes(&summary) == hashes(sound) || !findings(&summary).is_subset(&known),
                "page {} without half of its cells goes unnoticed",
                number + 1
            );
        }
    }
    directory.write("persist/chroma.sqlite3", database);
}

fn findings(summary: &ExportSummary) -> BTreeSet<(&'static str, u64)> {
    let of_files = summary.files.iter().flat_map(|file| &file.findings);
    let all = summary.findings.iter().chain(of_files);
    all.map(|finding| (finding.code, finding.count)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_seeds_and_regressions() {
        super::super::replay("persist", |database| {
            super::property(database, |read| {
                read();
                0
            })
        });
    }
}
